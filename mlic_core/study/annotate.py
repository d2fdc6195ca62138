"""A user's image with what a model saw in it: named boxes at the image's own size, and a sheet of its maps.

Drawn by Pillow, so that the picture has the image's own pixels, with the font that matplotlib brings.
"""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import matplotlib
import numpy as np
from jaxtyping import Float, Int
from PIL import Image, ImageDraw, ImageFont

from mlic_core.plots_explore import over
from mlic_core.study.heat import HeatMap

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")  # the style's, in its order
LEAST = 400  # pixels of the longer side: a smaller image is enlarged by a whole number, or its words would cover it
PANEL, COLUMNS, GAP, TEXT = 260, 5, 12, 15  # of the sheet: longer side of an image, images in a row, pixels
Rectangle = tuple[int, int, int, int]


def regions_picture(image: Image.Image, boxes: Int[np.ndarray, "regions 4"], names: Sequence[str]) -> Image.Image:
    """The image with its regions, each with its name on a plate in the colour of its box.

    boxes: x0, y0, x1, y1 in pixels of the image; one without an area is not drawn. The picture has the image's size,
    or a multiple of it for an image whose longer side is below 400 pixels.
    """
    factor = -(-LEAST // max(image.size))
    picture = image.convert("RGB").resize((image.width * factor, image.height * factor), Image.Resampling.BICUBIC)
    draw, unit = ImageDraw.Draw(picture), max(picture.size) / LEAST
    line, font = max(round(1.6 * unit), 2), _font(max(round(10.5 * unit), 11))
    shown = [k for k, (x0, y0, x1, y1) in enumerate(boxes.tolist()) if x1 > x0 and y1 > y0]
    for k in shown:
        x0, y0, x1, y1 = (boxes[k] * factor).tolist()
        for color, width in (("white", 2 * line), (COLORS[k % len(COLORS)], line)):
            draw.rectangle((x0, y0, x1 - 1, y1 - 1), outline=color, width=width)
    plates: list[Rectangle] = []
    for k in shown:
        width, height = round(font.getlength(names[k])) + 4 * line, round(1.5 * font.size)
        plates.append(place((boxes[k] * factor).tolist(), (width, height), picture.size, plates))
        _plate(draw, plates[-1], names[k], font, COLORS[k % len(COLORS)], line)
    return picture


def place(box: Sequence[int], sides: tuple[int, int], size: tuple[int, int], taken: Sequence[Rectangle]) -> Rectangle:
    """Where a plate of `sides` goes: on its box's upper edge or, where others lie, the next free place further down.

    It stays inside an image of `size` if it fits at all. Without a free place it lies over another.
    """
    (width, height), left = sides, max(0, min(box[0], size[0] - sides[0]))
    first = box[1] - height if box[1] >= height else box[1]
    heights = [first, *range(box[1], size[1] - height + 1, height), *range(first, -1, -height)]
    places = [(left, top, left + width, top + height) for top in heights]
    free = (one for one in places if not any(_overlap(one, other) for other in taken))
    return next(free, places[0])


def _overlap(a: Rectangle, b: Rectangle) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _plate(
    draw: ImageDraw.ImageDraw, where: Rectangle, text: str, font: ImageFont.FreeTypeFont, color: str, line: int
) -> None:
    x0, y0, x1, y1 = where
    draw.rectangle((x0, y0, x1 - 1, y1 - 1), fill="white", outline=color, width=max(line // 2, 1))
    draw.text((x0 + 2 * line, (y0 + y1) / 2), text, fill="black", font=font, anchor="lm")


def maps_picture(image: Image.Image, maps: Sequence[HeatMap]) -> Image.Image:
    """The image, then each of its maps over it with the map's title, and the key to the colours.

    Raises ValueError without maps.
    """
    if not maps:
        raise ValueError("a sheet needs a map or more")
    factor = PANEL / max(image.size)
    small = image.convert("RGB").resize([max(round(side * factor), 1) for side in image.size])
    panels = [("image", small)] + [(one.title, _panel(small, one)) for one in maps]
    columns, font = min(len(panels), COLUMNS), _font(TEXT)
    rows, (across, down) = -(-len(panels) // columns), (max(small.width, PANEL * 2 // 3), small.height)
    head = round(1.6 * TEXT)
    width = max(columns * (across + GAP) + GAP, 2 * PANEL)
    sheet = Image.new("RGB", (width, rows * (down + head + GAP) + head + GAP), "white")
    draw = ImageDraw.Draw(sheet)
    for place_, (title, panel) in enumerate(panels):
        x, y = GAP + place_ % columns * (across + GAP), GAP // 2 + place_ // columns * (down + head + GAP)
        draw.text((x, y + head / 2), _fit(title, font, across), fill="black", font=font, anchor="lm")
        sheet.paste(panel, (x, y + head))
    _key(sheet, draw, font, maps[0].meaning, sheet.height - head - GAP // 2)
    return sheet


def _panel(image: Image.Image, one: HeatMap) -> Image.Image:
    """The image in grey below the colours of a map, with the outline of its box."""
    grey = image.convert("L").convert("RGB")  # or its own colours would mix with those of the map
    colored = over(np.asarray(grey) / 255, np.asarray(one.weights, np.float64), corners=one.corners)
    panel = Image.fromarray((255 * colored).round().clip(0, 255).astype(np.uint8))
    if one.box is not None:
        x0, y0, x1, y1 = pixel_boxes(np.asarray(one.box)[None], panel.size)[0].tolist()
        for color, width in (("black", 4), ("white", 2)):
            ImageDraw.Draw(panel).rectangle((x0, y0, x1 - 1, y1 - 1), outline=color, width=width)
    return panel


def _key(sheet: Image.Image, draw: ImageDraw.ImageDraw, font: ImageFont.FreeTypeFont, meaning: str, top: int) -> None:
    """The colours from 0 to 1, and what 1 is."""
    height = round(0.8 * TEXT)
    ramp = over(np.zeros((height, 100, 3)), np.linspace(0, 1, 100)[None], corners=True)
    bar = Image.fromarray((255 * ramp / ramp.max()).astype(np.uint8))
    middle = top + TEXT * 0.8
    sheet.paste(bar, (GAP + TEXT, round(middle - height / 2)))
    draw.text((GAP, middle), "0", fill="black", font=font, anchor="lm")
    text = _fit(f"1: {meaning}", font, sheet.width - 2 * GAP - 2 * TEXT - 100)
    draw.text((GAP + 100 + round(1.4 * TEXT), middle), text, fill="black", font=font, anchor="lm")


def pixel_boxes(boxes: Float[np.ndarray, "regions 4"], size: tuple[int, int]) -> Int[np.ndarray, "regions 4"]:
    """The smallest boxes of whole pixels that hold boxes in [0, 1] of an image of `size` (width, height): half-open.

    A thousandth of a pixel counts as rounding.
    """
    edges = boxes.astype(np.float64) * np.tile(size, 2)
    low, high = np.floor(edges[:, :2] + 1e-3), np.ceil(edges[:, 2:] - 1e-3)
    return np.concatenate([low, high], 1).clip(0, np.tile(size, 2)).astype(np.int64)


def _fit(text: str, font: ImageFont.FreeTypeFont, width: float | int) -> str:
    """The text, or as much of its beginning as is no wider than `width` pixels, and an ellipsis."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"


@lru_cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which has Latin, Greek and Cyrillic letters and more; of others it draws boxes."""
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf"), size)
