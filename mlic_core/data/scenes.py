"""Scenes of pictograms: what PictoVOC and PictoCOCO share in deciding, drawing and storing them."""

import hashlib
import io
import json
import math
import os
import shutil
import zlib
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from filelock import FileLock
from PIL import Image

from mlic_core.data import glyphs
from mlic_core.errors import InputError

SPLITS = ("train", "val", "test")
QUALITY = 92  # of the JPEG files
CHECKSUMS = "checksums.json"  # CRC-32 of the image files by name
Box = tuple[int, int, int, int]  # left, top, right, bottom in pixels, half-open


class Object(NamedTuple):
    """One pictogram of a scene: centre, longer side and box in pixels, angle in degrees."""

    label: str
    code: str
    centre: tuple[float, float]
    side: float
    angle: float
    flip: bool
    gains: tuple[float, float, float]
    box: Box
    difficult: bool


class Scene(NamedTuple):
    """Objects from back to front, patches drawn over them (boxes in pixels), and the seed of background and noise."""

    id: str
    objects: tuple[Object, ...]
    patches: tuple[Box, ...]
    seed: tuple[int, ...]


def place(
    rng: np.random.Generator, label: str, code: str, side: float, others: Sequence[Object], *, canvas: int, angle: float
) -> Object:
    """A pictogram of a given side, turned by at most `angle` degrees, at the least covered of eight random places.

    canvas: side of the scene in pixels.
    """
    turn, flip = float(rng.uniform(-angle, angle)), bool(rng.random() < 0.5)
    gains = tuple(float(gain) for gain in rng.uniform(0.6, 1.2, 3))
    extent = glyphs.extent(code, side, turn, flip)
    # The centre may lie so that a tenth of the object is cut off.
    margin = (extent[2] - extent[0]) * 0.4, (extent[3] - extent[1]) * 0.4
    best, least = None, math.inf
    for _ in range(8):
        centre = tuple(float(rng.uniform(min(m, canvas / 2), max(canvas - m, canvas / 2))) for m in margin)
        box = tuple(int(np.clip(round(centre[axis % 2] + value), 0, canvas)) for axis, value in enumerate(extent))
        overlap = sum(_intersection(box, other.box) / max(1, min(_area(box), _area(other.box))) for other in others)
        if overlap < least:
            best, least = (centre, box), overlap
    return Object(label, code, best[0], side, turn, flip, gains, best[1], False)


def patches(rng: np.random.Generator, objects: Sequence[Object], chance: float) -> tuple[Box, ...]:
    """Patches over a random side of some of the objects: 15 to 50 % of its width or height."""
    return tuple(_patch(rng, item.box) for item in objects if rng.random() < chance)


def _patch(rng: np.random.Generator, box: Box) -> Box:
    left, top, right, bottom = box
    share, edge = rng.uniform(0.15, 0.5), rng.integers(4)
    width, height = round((right - left) * share), round((bottom - top) * share)
    return (
        (left, top, left + width, bottom),
        (right - width, top, right, bottom),
        (left, top, right, top + height),
        (left, bottom - height, right, bottom),
    )[edge]


def share_in_view(item: Object, in_front: Sequence[Box]) -> float:
    """Share of an object's extent that lies inside the picture and behind none of the boxes `in_front`."""
    width, height = (item.box[2] - item.box[0], item.box[3] - item.box[1])
    extent = glyphs.extent(item.code, item.side, item.angle, item.flip)
    inside = width * height / max(1.0, (extent[2] - extent[0]) * (extent[3] - extent[1]))
    grid = np.zeros((max(1, height), max(1, width)), bool)
    for left, top, right, bottom in in_front:
        x0, y0 = max(0, left - item.box[0]), max(0, top - item.box[1])
        grid[y0 : max(0, bottom - item.box[1]), x0 : max(0, right - item.box[0])] = True
    return float(inside * (1 - grid.mean()))


def _area(box: Box) -> int:
    return (box[2] - box[0]) * (box[3] - box[1])


def _intersection(a: Box, b: Box) -> int:
    return max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))


def render(scene: Scene, side: int, noise: float) -> Image.Image:
    """Draw a scene: RGB, `side` pixels square. noise: largest standard deviation in grey levels."""
    rng = np.random.default_rng([*scene.seed, 1])
    canvas = glyphs.background(rng, side)
    for item in scene.objects:
        glyphs.draw(canvas, item.code, item.centre, item.side, item.angle, item.flip, item.gains)
    for left, top, right, bottom in scene.patches:
        if right > left and bottom > top:
            canvas.paste(
                glyphs.background(rng, max(right - left, bottom - top)).crop((0, 0, right - left, bottom - top)),
                (left, top),
            )
    return glyphs.add_noise(canvas, rng, rng.uniform(0, noise))


def digest(version: int, spec: Any) -> str:
    """Eight hexadecimal characters that name what a specification (a dataclass) draws."""
    text = json.dumps([version, asdict(spec)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def save(image: Image.Image, path: Path) -> int:
    """Write a JPEG file; returns the CRC-32 of its bytes.

    Pillow would take a write that is cut short for a whole one.
    """
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=QUALITY)
    path.write_bytes(buffer.getvalue())
    return zlib.crc32(buffer.getvalue())


def prepare(root: str | Path, name: str, version: int, spec: Any, write: Callable[[Path], dict[str, int]]) -> Path:
    """Have `write` fill the folder `root` unless it holds this very data set; returns `root`.

    write: returns the checksums of the images by the names of their files, which are kept.

    A reader never sees a part of it: `write` gets a folder beside `root` that is moved there at the end, and a second
    process waits for the first. Raises InputError if `root` holds anything else.
    """
    root = Path(root)
    root.parent.mkdir(parents=True, exist_ok=True)
    stamp = {"name": name, "digest": digest(version, spec), "version": version, "spec": asdict(spec)}
    with FileLock(root.parent / f".{root.name}.lock"):
        if _drawn(root) == stamp["digest"]:
            return root
        if root.exists() and any(root.iterdir()):
            raise InputError(f"{root} already holds something else than this {name}; choose an empty folder as --root")
        partial = root.parent / f".{root.name}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        try:
            checksums = write(partial)
            (partial / CHECKSUMS).write_text(json.dumps(checksums) + "\n")
            (partial / "spec.json").write_text(json.dumps(stamp, indent=1) + "\n")
            if root.exists():
                root.rmdir()
            os.replace(partial, root)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return root


def read_checksums(root: str | Path) -> dict[str, int]:
    """Those that `prepare` kept; none for a set that was drawn before it kept any.

    Raises InputError for a broken file.
    """
    path = Path(root) / CHECKSUMS
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {path}: {error}; remove {root}, to have it drawn again") from error
    if not isinstance(found, dict):
        raise InputError(f"{path} holds no checksums; remove {root}, to have it drawn again")
    return found


def _drawn(root: Path) -> str | None:
    """Digest of the data set that was drawn into `root`, if one was."""
    stamp = root / "spec.json"
    return json.loads(stamp.read_text()).get("digest") if stamp.is_file() else None
