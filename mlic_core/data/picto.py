"""PictoVOC: VOC's twenty classes drawn with pictograms, written to disk as a VOC devkit.

A scene is decided first (classes, places, sizes, angles), then drawn: labels and boxes need no pixels. The
same `PictoSpec` gives the same labels and boxes everywhere, and the same bytes under the versions of `constraints.txt`.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from mlic_core.data import scenes
from mlic_core.data.scenes import SPLITS, Box, Object, Scene
from mlic_core.errors import InputError

VERSION = 1  # part of every digest: raise it when the same specification would draw other scenes

GLYPHS: dict[str, str] = {  # of each class, the code points of its pictograms
    "aeroplane": "2708 1F6E9 1F6EB 1F6EC",
    "bicycle": "1F6B2 1F6B4",
    "bird": "1F426 1F986 1F985 1F54A 1F99C",
    "boat": "26F5 1F6A4 1F6A2 1F6E5",
    "bottle": "1F37E 1F37C 1F9F4",
    "bus": "1F68C 1F68D 1F690",
    "car": "1F697 1F698 1F699 1F695",
    "cat": "1F408 1F431",
    "chair": "1FA91 1F4BA",
    "cow": "1F404 1F42E",
    "diningtable": "1F37D",
    "dog": "1F415 1F436 1F429 1F9AE",
    "horse": "1F40E 1F434",
    "motorbike": "1F3CD 1F6F5",
    "person": "1F9CD 1F6B6 1F9D1 1F469 1F468 1F3C3",
    "pottedplant": "1FAB4 1F331",
    "sheep": "1F411 1F40F",
    "sofa": "1F6CB",
    "train": "1F686 1F682 1F684 1F687",
    "tvmonitor": "1F4FA 1F5A5",
}
CLASSES = tuple(GLYPHS)

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


def digest(spec: PictoSpec) -> str:
    """Eight hexadecimal characters that name the data set of a specification."""
    return scenes.digest(VERSION, spec)


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
    patches = scenes.patches(rng, placed, spec.occluders)
    objects = tuple(_judge(item, placed[i + 1 :], patches, spec) for i, item in enumerate(placed))
    return Scene(f"{split}_{index:06d}", objects, patches, seed)


def _place(spec: PictoSpec, rng: np.random.Generator, label: str, others: list[Object]) -> Object:
    """A random pictogram of the class, of a random size."""
    codes = GLYPHS[label].split()
    code = codes[rng.integers(len(codes))]
    low, high = (spec.min_small, spec.min_object) if rng.random() < spec.small else (spec.min_object, spec.max_object)
    side = spec.side * math.exp(rng.uniform(math.log(low), math.log(high)))
    return scenes.place(rng, label, code, side, others, canvas=spec.side, angle=spec.angle)


def _judge(item: Object, later: Iterable[Object], patches: Iterable[Box], spec: PictoSpec) -> Object:
    """Mark an object difficult if too little of its box is in view."""
    in_front = [*(other.box for other in later), *patches]
    return item._replace(difficult=scenes.share_in_view(item, in_front) < spec.difficult)


def render(scene: Scene, spec: PictoSpec) -> Image.Image:
    """Draw a scene: RGB, `spec.side` pixels square."""
    return scenes.render(scene, spec.side, spec.noise)


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

    A reader never sees a part of it. Raises InputError if `root` holds another data set.
    """
    spec = spec or PictoSpec()
    return scenes.prepare(root, "picto-voc", VERSION, spec, lambda folder: _write(folder, spec, progress))


def _write(root: Path, spec: PictoSpec, progress) -> dict[str, int]:
    base = root / "VOCdevkit" / "VOC2012"
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (base / folder).mkdir(parents=True)
    wanted = [(split, index) for split in SPLITS for index in range(getattr(spec, split))]
    lines: dict[str, list[tuple[str, list[int]]]] = {split: [] for split in SPLITS}
    checksums: dict[str, int] = {}
    for split, index in progress(wanted):
        scene = compose(spec, split, index)
        name = f"{scene.id}.jpg"
        checksums[name] = scenes.save(render(scene, spec), base / "JPEGImages" / name)
        (base / "Annotations" / f"{scene.id}.xml").write_text(annotation(scene, spec))
        lines[split].append((scene.id, flags(scene)))
    lines["trainval"] = lines["train"] + lines["val"]
    for split, rows in lines.items():
        main = base / "ImageSets" / "Main"
        (main / f"{split}.txt").write_text("".join(f"{name}\n" for name, _ in rows))
        for column, label in enumerate(CLASSES):
            (main / f"{label}_{split}.txt").write_text("".join(f"{name} {row[column]:2d}\n" for name, row in rows))
    return checksums
