"""PASCAL VOC in the layout of its devkit, which PictoVOC shares.

In `VOCdevkit/VOC2012`, or another year's folder, lie

- `JPEGImages/ID.jpg`
- `ImageSets/Main/SPLIT.txt`: one image id a line
- `ImageSets/Main/CLASS_SPLIT.txt`: "ID 1" (present), "ID -1" (absent) or "ID 0" (only difficult objects)
- `Annotations/ID.xml`: objects with boxes; the folder may be absent
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np
from jaxtyping import Bool, Float32, Int8, Int64

from mlic_core.data.base import MultiLabelDataset
from mlic_core.errors import InputError, did_you_mean

LABELS = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable",
    "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
FOLDERS = {"picto-voc": "VOC2012", "voc2007": "VOC2007", "voc2012": "VOC2012"}
TARGETS = {"1": 1, "-1": 0, "0": -1}  # in a class file: present, absent, only difficult objects


class Objects(NamedTuple):
    """The M annotated objects of an image: boxes (x0, y0, x1, y1) in [0, 1], classes, and difficult flags."""

    boxes: Float32[np.ndarray, "objects 4"]
    classes: Int64[np.ndarray, " objects"]
    difficult: Bool[np.ndarray, " objects"]


class VOCDataset(MultiLabelDataset):
    """One split of a devkit; `folder` is the year's, such as `VOCdevkit/VOC2012`."""

    def __init__(self, folder: Path, **attributes):
        super().__init__(**attributes)
        self.folder = folder

    def image_path(self, index: int) -> Path:
        return self.folder / "JPEGImages" / f"{self.ids[index]}.jpg"

    @property
    def has_boxes(self) -> bool:
        annotations = self.folder / "Annotations"
        return annotations.is_dir() and {f"{name}.xml" for name in self.ids} <= set(os.listdir(annotations))

    def boxes(self, index: int) -> tuple[Float32[np.ndarray, "objects 4"], Int64[np.ndarray, " objects"]]:
        objects = self.objects(index)
        return objects.boxes, objects.classes

    def objects(self, index: int) -> Objects:
        """The objects of one image, difficult ones included.

        Raises InputError when its annotation is missing or malformed, naming the file.
        """
        return read_annotation(self.folder / "Annotations" / f"{self.ids[index]}.xml")


def load(name: str, split: str, *, root: Path, size: int) -> VOCDataset:
    """One split of a devkit, from `VOCdevkit`, the folder above it, or the year's own folder.

    Raises InputError for a missing devkit, split, class file or image, for a malformed line, and for a class
    file that lists other images than the split does, naming the file and, where there is one, the line.
    """
    folder = _find(name, root)
    sets = folder / "ImageSets" / "Main"
    if not (sets / f"{split}.txt").is_file():
        splits = _splits(sets)
        raise InputError(
            f"{name} has no split {split!r}: {sets / split}.txt is missing; "
            f"there are {', '.join(splits) or 'none'}{did_you_mean(split, splits)}"
        )
    ids = _read_ids(sets / f"{split}.txt", folder / "JPEGImages")
    columns = [_read_class(sets / f"{label}_{split}.txt", ids) for label in LABELS]
    targets = np.stack(columns, axis=1)
    return VOCDataset(folder, name=name, split=split, labels=LABELS, targets=targets, ids=ids, size=size)


def _find(name: str, root: Path) -> Path:
    """The year's folder under `root`, which may be that folder itself, but not another year's."""
    year = FOLDERS[name]
    candidates = [root / "VOCdevkit" / year, root / year]
    if root.resolve().name not in set(FOLDERS.values()) - {year}:
        candidates.append(root)
    for folder in candidates:
        if (folder / "ImageSets" / "Main").is_dir():
            return folder
    remedy = (
        f"run `mlic data prepare picto-voc --root {root}`"
        if name == "picto-voc"
        else "give the folder that holds VOCdevkit as data.root"
    )
    raise InputError(f"{name} is not in {root}, which has no VOCdevkit/{year}/ImageSets/Main; {remedy}.")


def _splits(sets: Path) -> list[str]:
    """Names of the split files, which stand among the class files."""
    names = sorted(path.stem for path in sets.glob("*.txt"))
    return [name for name in names if not name.startswith(tuple(f"{label}_" for label in LABELS))]


def _read_ids(path: Path, images: Path) -> tuple[str, ...]:
    """Image ids of a split, each with its JPEG in place."""
    try:
        present = set(os.listdir(images))  # one listing, since asking for 17,000 files one by one is slow
    except OSError as error:
        raise InputError(f"cannot list the images in {images}: {error.strerror}.") from error
    ids: dict[str, None] = {}
    for where, fields in _lines(path):
        if len(fields) != 1:
            raise InputError(f"{where}: expected one image id, found {' '.join(fields)!r}.")
        if fields[0] in ids:
            raise InputError(f"{where}: image {fields[0]} is listed twice.")
        if f"{fields[0]}.jpg" not in present:
            raise InputError(f"{where}: image {fields[0]} has no file {images / fields[0]}.jpg.")
        ids[fields[0]] = None
    if not ids:
        raise InputError(f"{path} lists no image.")
    return tuple(ids)


def _read_class(path: Path, ids: Sequence[str]) -> Int8[np.ndarray, " images"]:
    """Targets of one class in the order of `ids`."""
    wanted = set(ids)
    found: dict[str, int] = {}
    for where, fields in _lines(path):
        if len(fields) != 2 or fields[1] not in TARGETS:
            raise InputError(f"{where}: expected an image id and 1, 0 or -1, found {' '.join(fields)!r}.")
        name, mark = fields
        if name not in wanted:
            raise InputError(f"{where}: image {name} is not in the split's list of images.")
        if name in found:
            raise InputError(f"{where}: image {name} is listed twice.")
        found[name] = TARGETS[mark]
    for name in ids:
        if name not in found:
            raise InputError(f"{path} has no line for image {name}, which the split lists.")
    return np.array([found[name] for name in ids], dtype=np.int8)


def _lines(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Each line that is not blank: where it stands, for messages, and its fields."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot read label file {path}: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise InputError(f"label file {path} is not text: {error}.") from error
    for number, line in enumerate(text.splitlines(), start=1):
        if fields := line.split():
            yield f"{path}, line {number}", fields


class _Malformed(Exception):
    """What is wrong in an annotation, for `read_annotation` to put the file's name before."""


def read_annotation(path: Path) -> Objects:
    """Objects of one annotation file. Pixels count from 1 and both ends belong to the box, as in the devkit.

    Raises InputError naming the file when it is missing, is not such an annotation, or declares a document
    type: entities could expand without end, and the devkit has none.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        if "<!DOCTYPE" in text:
            raise InputError(f"annotation {path} declares a document type, which VOC files never do.")
        return _objects(ElementTree.fromstring(text))
    except OSError as error:
        raise InputError(f"cannot read annotation {path}: {error.strerror}.") from error
    except (UnicodeDecodeError, ElementTree.ParseError) as error:
        raise InputError(f"annotation {path} is not well-formed XML: {error}.") from error
    except _Malformed as error:
        raise InputError(f"annotation {path}: {error}.") from error


def _objects(annotation: ElementTree.Element) -> Objects:
    width, height = (_number(annotation, f"size/{side}") for side in ("width", "height"))
    if width <= 0 or height <= 0:
        raise _Malformed(f"the image size is {width:g} x {height:g}")
    # Only direct children: a person's `part` elements nest boxes of their own.
    elements = annotation.findall("object")
    boxes = np.zeros((len(elements), 4), dtype=np.float32)
    for row, element in zip(boxes, elements, strict=True):
        x0, y0, x1, y1 = (_number(element, f"bndbox/{end}") for end in ("xmin", "ymin", "xmax", "ymax"))
        row[:] = (x0 - 1) / width, (y0 - 1) / height, x1 / width, y1 / height
        row[:] = row.clip(0, 1)
        if not (row[0] < row[2] and row[1] < row[3]):
            raise _Malformed(f"box {x0:g} {y0:g} {x1:g} {y1:g} is empty in a {width:g} x {height:g} image")
    classes = np.array([_label(element) for element in elements], dtype=np.int64)
    flags = [element.findtext("difficult", "0").strip() for element in elements]
    return Objects(boxes, classes, np.array([flag == "1" for flag in flags], dtype=bool))


def _number(element: ElementTree.Element, tag: str) -> float:
    text = element.findtext(tag)
    try:
        number = float(text)
    except (TypeError, ValueError):
        number = float("nan")
    if not np.isfinite(number):
        raise _Malformed(f"{element.tag} has no number in {tag}" + (f" but {text!r}" if text else ""))
    return number


def _label(element: ElementTree.Element) -> int:
    name = element.findtext("name", "").strip()
    if name not in LABELS:
        raise _Malformed(f"class {name!r} is none of VOC's 20{did_you_mean(name, LABELS)}")
    return LABELS.index(name)
