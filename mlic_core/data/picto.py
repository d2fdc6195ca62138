"""PictoVOC: VOC's twenty classes drawn with pictograms, written to disk as a VOC devkit.

A scene is decided first (classes, places, sizes, angles), then drawn: labels and boxes need no pixels. The
same `PictoSpec` gives the same labels and boxes everywhere, and the same bytes under the versions of `constraints.txt`.
"""

import hashlib
import json
import math
import os
import shutil
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from filelock import FileLock
from PIL import Image

from mlic_core.data import glyphs
from mlic_core.errors import InputError

CLASSES = tuple(glyphs.VOC_GLYPHS)
SPLITS = ("train", "val", "test")
VERSION = 1  # part of every digest: raise it when the same specification would draw other scenes

# Classes that are seen together, and how often a scene is of that kind.
GROUPS: dict[tuple[str, ...], float] = {
    ("diningtable", "chair", "sofa", "tvmonitor", "bottle", "pottedplant", "person"): 0.32,
    ("car", "bus", "motorbike", "bicycle", "train", "person"): 0.26,
    ("horse", "cow", "sheep", "dog", "bird", "person"): 0.20,
    ("boat", "bird", "aeroplane", "person"): 0.12,
    ("cat", "dog", "sofa", "pottedplant", "chair"): 0.10,
}


@dataclass(frozen=True)
class PictoSpec:
    """What to draw. Sizes are longer sides relative to the image's side.

    train, val, test: scenes a split. side: pixels. labels: probabilities of 1, 2, 3 and 4 classes in a scene.
    min_object, max_object: range of the log-uniform object size, apart from a share `small` of the objects, the hard
    tail, which is between min_small and min_object. repeats: chance of one more object of the same class. angle:
    largest rotation in degrees. occluders: chance of a patch in front of an object. noise: largest standard deviation
    in grey levels. difficult: an object is marked difficult when less than this share of its box is in view.
    """

    train: int = 3000
    val: int = 500
    test: int = 1000
    seed: int = 1
    side: int = 224
    labels: tuple[float, ...] = (0.52, 0.30, 0.13, 0.05)
    min_object: float = 0.2
    max_object: float = 0.75
    small: float = 0.15
    min_small: float = 0.1
    repeats: float = 0.2
    angle: float = 25.0
    occluders: float = 0.3
    noise: float = 16.0
    difficult: float = 0.45

    def __post_init__(self):
        if min(self.train, self.val, self.test) < 1:
            raise InputError("data.picto: train, val and test need at least one scene each")
        if not 0 < self.min_small <= self.min_object <= self.max_object <= 1:
            raise InputError("data.picto: sizes must satisfy 0 < min_small <= min_object <= max_object <= 1")
        if not 32 <= self.side <= 640:
            raise InputError(f"data.picto.side={self.side}: choose 32 to 640 pixels")
        if not self.labels or min(self.labels) < 0 or not math.isclose(sum(self.labels), 1, abs_tol=1e-6):
            raise InputError("data.picto.labels must be probabilities that add up to 1")
        if len(self.labels) > min(map(len, GROUPS)):
            raise InputError(f"data.picto.labels: a scene has at most {min(map(len, GROUPS))} classes")


class Object(NamedTuple):
    """One pictogram of a scene: centre, side and box (left, top, right, bottom) in pixels, angle in degrees."""

    label: str
    code: str
    centre: tuple[float, float]
    side: float
    angle: float
    flip: bool
    gains: tuple[float, float, float]
    box: tuple[int, int, int, int]
    difficult: bool


class Scene(NamedTuple):
    """Objects from back to front, patches drawn over them (boxes in pixels), and the seed of background and noise."""

    id: str
    objects: tuple[Object, ...]
    patches: tuple[tuple[int, int, int, int], ...]
    seed: tuple[int, ...]


def digest(spec: PictoSpec) -> str:
    """Eight hexadecimal characters that name the data set of a specification."""
    text = json.dumps([VERSION, asdict(spec)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def compose(spec: PictoSpec, split: str, index: int) -> Scene:
    """Decide one scene; it depends on the specification, the split and the index alone."""
    seed = (spec.seed, SPLITS.index(split), index)
    rng = np.random.default_rng(seed)
    group = list(GROUPS)[rng.choice(len(GROUPS), p=list(GROUPS.values()))]
    count = 1 + rng.choice(len(spec.labels), p=spec.labels)
    names = [group[i] for i in rng.choice(len(group), count, replace=False)]
    names += [name for name in names if rng.random() < spec.repeats]
    placed: list[Object] = []
    for name in names:
        placed.append(_place(spec, rng, name, placed))
    patches = tuple(_patch(rng, item.box) for item in placed if rng.random() < spec.occluders)
    objects = tuple(_judge(item, placed[i + 1 :], patches, spec) for i, item in enumerate(placed))
    return Scene(f"{split}_{index:06d}", objects, patches, seed)


def _place(spec: PictoSpec, rng: np.random.Generator, label: str, others: list[Object]) -> Object:
    """A random pictogram of the class at the least covered of eight random places."""
    codes = glyphs.VOC_GLYPHS[label].split()
    code = codes[rng.integers(len(codes))]
    low, high = (spec.min_small, spec.min_object) if rng.random() < spec.small else (spec.min_object, spec.max_object)
    side = spec.side * math.exp(rng.uniform(math.log(low), math.log(high)))
    angle, flip = float(rng.uniform(-spec.angle, spec.angle)), bool(rng.random() < 0.5)
    gains = tuple(float(gain) for gain in rng.uniform(0.6, 1.2, 3))
    extent = glyphs.extent(code, side, angle, flip)
    # The centre may lie so that a tenth of the object is cut off.
    margin = (extent[2] - extent[0]) * 0.4, (extent[3] - extent[1]) * 0.4
    best, least = None, math.inf
    for _ in range(8):
        centre = tuple(float(rng.uniform(min(m, spec.side / 2), max(spec.side - m, spec.side / 2))) for m in margin)
        box = tuple(int(np.clip(round(centre[axis % 2] + value), 0, spec.side)) for axis, value in enumerate(extent))
        overlap = sum(_intersection(box, other.box) / max(1, min(_area(box), _area(other.box))) for other in others)
        if overlap < least:
            best, least = (centre, box), overlap
    return Object(label, code, best[0], side, angle, flip, gains, best[1], False)


def _patch(rng: np.random.Generator, box) -> tuple[int, int, int, int]:
    """A patch over a random side of a box: 15 to 50 % of its width or height."""
    left, top, right, bottom = box
    share, edge = rng.uniform(0.15, 0.5), rng.integers(4)
    width, height = round((right - left) * share), round((bottom - top) * share)
    return (
        (left, top, left + width, bottom),
        (right - width, top, right, bottom),
        (left, top, right, top + height),
        (left, bottom - height, right, bottom),
    )[edge]


def _judge(item: Object, later: list[Object], patches, spec: PictoSpec) -> Object:
    """Mark an object difficult if too little of its box is in view."""
    width, height = (item.box[2] - item.box[0], item.box[3] - item.box[1])
    extent = glyphs.extent(item.code, item.side, item.angle, item.flip)
    inside = width * height / max(1.0, (extent[2] - extent[0]) * (extent[3] - extent[1]))
    grid = np.zeros((max(1, height), max(1, width)), bool)
    for left, top, right, bottom in [*(other.box for other in later), *patches]:
        x0, y0 = max(0, left - item.box[0]), max(0, top - item.box[1])
        grid[y0 : max(0, bottom - item.box[1]), x0 : max(0, right - item.box[0])] = True
    return item._replace(difficult=bool(inside * (1 - grid.mean()) < spec.difficult))


def _area(box) -> int:
    return (box[2] - box[0]) * (box[3] - box[1])


def _intersection(a, b) -> int:
    return max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))


def render(scene: Scene, spec: PictoSpec) -> Image.Image:
    """Draw a scene: RGB, `spec.side` pixels square."""
    rng = np.random.default_rng([*scene.seed, 1])
    canvas = glyphs.background(rng, spec.side)
    for item in scene.objects:
        glyphs.draw(canvas, item.code, item.centre, item.side, item.angle, item.flip, item.gains)
    for left, top, right, bottom in scene.patches:
        if right > left and bottom > top:
            canvas.paste(
                glyphs.background(rng, max(right - left, bottom - top)).crop((0, 0, right - left, bottom - top)),
                (left, top),
            )
    return glyphs.add_noise(canvas, rng, rng.uniform(0, spec.noise))


def annotation(scene: Scene, spec: PictoSpec) -> str:
    """The scene's boxes as VOC writes them: pixel coordinates from 1, both ends inclusive."""
    objects = "".join(
        f"\t<object>\n\t\t<name>{item.label}</name>\n\t\t<difficult>{item.difficult:d}</difficult>\n\t\t<bndbox>\n"
        f"\t\t\t<xmin>{item.box[0] + 1}</xmin>\n\t\t\t<ymin>{item.box[1] + 1}</ymin>\n"
        f"\t\t\t<xmax>{item.box[2]}</xmax>\n\t\t\t<ymax>{item.box[3]}</ymax>\n\t\t</bndbox>\n\t</object>\n"
        for item in scene.objects
    )
    return (
        f"<annotation>\n\t<filename>{scene.id}.jpg</filename>\n\t<size>\n\t\t<width>{spec.side}</width>\n"
        f"\t\t<height>{spec.side}</height>\n\t\t<depth>3</depth>\n\t</size>\n{objects}</annotation>\n"
    )


def flags(scene: Scene) -> list[int]:
    """VOC's image-level flags, one a class: 1 present, 0 only difficult objects, -1 absent."""
    clear = {item.label for item in scene.objects if not item.difficult}
    seen = {item.label for item in scene.objects}
    return [1 if name in clear else 0 if name in seen else -1 for name in CLASSES]


def prepare(
    root: str | Path, spec: PictoSpec | None = None, *, progress: Callable[[Iterable], Iterable] = iter
) -> Path:
    """Write the data set under `root` (as `root/VOCdevkit/VOC2012`) unless it is there; returns `root`.

    A reader never sees a part of it: everything is drawn beside `root` and moved there at the end, and a second
    process waits for the first. Raises InputError if `root` holds another data set.
    """
    spec, root = spec or PictoSpec(), Path(root)
    root.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(root.parent / f".{root.name}.lock"):
        if _is_prepared(root, spec):
            return root
        if root.exists() and any(root.iterdir()):
            raise InputError(
                f"{root} already holds something else than this picto-voc; choose an empty folder as --root"
            )
        partial = root.parent / f".{root.name}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        try:
            _write(partial, spec, progress)
            if root.exists():
                root.rmdir()
            os.replace(partial, root)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return root


def _is_prepared(root: Path, spec: PictoSpec) -> bool:
    stamp = root / "spec.json"
    return stamp.is_file() and json.loads(stamp.read_text()).get("digest") == digest(spec)


def _write(root: Path, spec: PictoSpec, progress) -> None:
    base = root / "VOCdevkit" / "VOC2012"
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (base / folder).mkdir(parents=True)
    wanted = [(split, index) for split in SPLITS for index in range(getattr(spec, split))]
    lines: dict[str, list[tuple[str, list[int]]]] = {split: [] for split in SPLITS}
    for split, index in progress(wanted):
        scene = compose(spec, split, index)
        render(scene, spec).save(base / "JPEGImages" / f"{scene.id}.jpg", quality=92)
        (base / "Annotations" / f"{scene.id}.xml").write_text(annotation(scene, spec))
        lines[split].append((scene.id, flags(scene)))
    lines["trainval"] = lines["train"] + lines["val"]
    for split, rows in lines.items():
        main = base / "ImageSets" / "Main"
        (main / f"{split}.txt").write_text("".join(f"{name}\n" for name, _ in rows))
        for column, label in enumerate(CLASSES):
            (main / f"{label}_{split}.txt").write_text("".join(f"{name} {row[column]:2d}\n" for name, row in rows))
    stamp = {"name": "picto-voc", "digest": digest(spec), "version": VERSION, "spec": asdict(spec)}
    (root / "spec.json").write_text(json.dumps(stamp, indent=1) + "\n")
