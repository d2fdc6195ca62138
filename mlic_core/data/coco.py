"""MS-COCO in the layout of its downloads, which PictoCOCO shares.

In the root lie, for a split such as train of the year 2014,

- `annotations/instances_train2014.json`: images, annotated instances and categories
- `train2014/`: the image files by the names that the JSON gives them

PictoCOCO's names carry no year: `instances_train.json` and `train/`.

An image has a label when at least one instance of the class is annotated in it, a crowd region (`iscrowd`) included:
it shows the class, only not one by one. Images without any label are dropped unless they are asked for; of COCO 2014
82,081 for training and 40,137 for validation are left. There are no difficult objects.
"""

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float32, Float64, Int64

from mlic_core.data.base import MultiLabelDataset
from mlic_core.errors import InputError, did_you_mean

YEARS = {"picto-coco": "", "coco2014": "2014", "coco2017": "2017"}


class Instances(NamedTuple):
    """The content of an instances file: N images by rising id, C classes by rising id of their category, M instances.

    `rows` and `columns` are the image and the class of each instance, `boxes` (x0, y0, x1, y1) in [0, 1].
    """

    files: tuple[str, ...]
    labels: tuple[str, ...]
    rows: Int64[np.ndarray, " instances"]
    columns: Int64[np.ndarray, " instances"]
    crowd: Int64[np.ndarray, " instances"]
    boxes: Float32[np.ndarray, "instances 4"]


class COCODataset(MultiLabelDataset):
    """One split. `objects` are the boxes and classes of each image by its id."""

    def __init__(self, folder: Path, files: dict[str, str], objects: dict[str, tuple], **attributes):
        super().__init__(ids=tuple(files), **attributes)
        self.folder = folder
        self.files = files
        self.objects = objects

    def image_path(self, index: int) -> Path:
        return self.folder / self.files[self.ids[index]]

    @property
    def has_boxes(self) -> bool:
        return True

    def boxes(self, index: int) -> tuple[Float32[np.ndarray, "objects 4"], Int64[np.ndarray, " objects"]]:
        """The objects of one image: boxes (x0, y0, x1, y1) in [0, 1] of its sides, and their classes.

        Crowd regions are left out, since their box holds a group and says nothing of an object's place and size, and
        so are the few boxes that COCO gives no area.
        """
        return self.objects[self.ids[index]]


def load(name: str, split: str, *, root: Path, size: int, unlabelled: bool = False) -> COCODataset:
    """One split, "train" or "val" (PictoCOCO: "test" too). Classes are the file's categories by rising id.

    unlabelled: keep images without any label. An image's id is its file name without the ending.

    Raises InputError for a missing data set, split or image and for a malformed instances file, naming the file, the
    entry and the key.
    """
    path = root / "annotations" / f"instances_{split}{YEARS[name]}.json"
    if not path.is_file():
        raise _absent(name, split, root)
    found = read_instances(path)
    targets = np.zeros((len(found.files), len(found.labels)), dtype=np.int8)
    targets[found.rows, found.columns] = 1
    kept = np.flatnonzero(targets.any(1) | unlabelled)
    if not len(kept):
        raise InputError(f"{path} annotates no image.")
    folder = root / f"{split}{YEARS[name]}"
    files = _present([found.files[row] for row in kept], folder, path)
    objects = dict(zip(files, _by_image(found, kept), strict=True))
    return COCODataset(
        folder, files, objects, name=name, split=split, labels=found.labels, targets=targets[kept], size=size
    )


def _absent(name: str, split: str, root: Path) -> InputError:
    start, end = "instances_", f"{YEARS[name]}.json"
    paths = (root / "annotations").glob(f"{start}*{end}")
    splits = sorted(path.name.removeprefix(start).removesuffix(end) for path in paths)
    if splits:
        return InputError(
            f"{name} has no split {split!r}: {root}/annotations/{start}{split}{end} is missing; "
            f"there are {', '.join(splits)}{did_you_mean(split, splits)}"
        )
    remedy = (
        f"run `mlic data prepare picto-coco --root {root}`"
        if name == "picto-coco"
        else f"give the folder that holds annotations and train{YEARS[name]} as data.root"
    )
    return InputError(f"{name} is not in {root}, which has no annotations/{start}{split}{end}; {remedy}.")


def _present(names: Sequence[str], folder: Path, path: Path) -> dict[str, str]:
    """Image files by their id, each in place."""
    try:
        there = set(os.listdir(folder))  # one listing, since asking for 80,000 files one by one is slow
    except OSError as error:
        raise InputError(f"cannot list the images in {folder}: {error.strerror}.") from error
    files: dict[str, str] = {}
    for name in names:
        if name not in there:
            raise InputError(f"{path} annotates image {name}, but there is no file {folder / name}.")
        if (stem := Path(name).stem) in files:
            raise InputError(f"{path} lists image {stem} twice.")
        files[stem] = name
    return files


def _by_image(found: Instances, kept: Int64[np.ndarray, " kept"]) -> list[tuple]:
    """Boxes and classes of each kept image, in the order of the file."""
    with_area = (found.boxes[:, :2] < found.boxes[:, 2:]).all(1)
    chosen = np.flatnonzero(with_area & (found.crowd == 0))
    chosen = chosen[np.argsort(found.rows[chosen], kind="stable")]
    boxes, classes, rows = found.boxes[chosen], found.columns[chosen], found.rows[chosen]
    starts, ends = np.searchsorted(rows, kept, "left"), np.searchsorted(rows, kept, "right")
    return [(boxes[start:end], classes[start:end]) for start, end in zip(starts, ends, strict=True)]


def read_instances(path: Path) -> Instances:
    """An instances file. Raises InputError naming the file, and the entry and its key where one is wrong."""
    content = _read(path)
    images, annotations, categories = (_Table(path, content, key) for key in ("images", "annotations", "categories"))
    image_ids, order = images.ids()
    category_ids, by_id = categories.ids()
    labels = categories.column("name", _is_name, "a text")
    if len(set(labels)) < len(labels):
        raise InputError(f"{path}: two categories have the same name.")
    rows = annotations.found("image_id", image_ids, "images")
    sides = [images.column(side, _is_side, "a number above 0") for side in ("width", "height")]
    sides = np.array(sides, dtype=np.float64).T[order]
    return Instances(
        files=tuple(np.array(images.column("file_name", _is_name, "a text"), dtype=object)[order]),
        labels=tuple(labels[index] for index in by_id),
        rows=rows,
        columns=annotations.found("category_id", category_ids, "categories"),
        crowd=np.array(annotations.column("iscrowd", lambda value: value in (0, 1), "0 or 1", default=0), np.int64),
        boxes=_relative(annotations.column("bbox", _is_box, "a list of x, y, width and height"), sides[rows]),
    )


def _relative(boxes: list, sides: Float64[np.ndarray, "instances 2"]) -> Float32[np.ndarray, "instances 4"]:
    """Boxes (x, y, width, height) in pixels as (x0, y0, x1, y1) in [0, 1]."""
    corners = np.array(boxes, dtype=np.float64).reshape(-1, 4)
    corners[:, 2:] += corners[:, :2]
    return (corners / np.tile(sides, 2)).clip(0, 1).astype(np.float32)


def _read(path: Path) -> dict:
    def without_outline(entry: dict) -> dict:
        # Outlines are nearly all of the file. Dropped as soon as one is parsed, they never fill the memory.
        entry.pop("segmentation", None)
        return entry

    try:
        with path.open(encoding="utf-8") as file:
            content = json.load(file, object_hook=without_outline)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not JSON: {error}.") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} holds no JSON object with images, annotations and categories.")
    return content


class _Table:
    """One list of an instances file, with the entries' values by key."""

    def __init__(self, path: Path, content: dict, section: str):
        self.path, self.section, self.entries = path, section, content.get(section)
        if not isinstance(self.entries, list):
            raise InputError(f"{path} has no list {section!r}.")
        for index, entry in enumerate(self.entries):
            if not isinstance(entry, dict):
                raise InputError(f"{path}: {section}[{index}] is no JSON object.")

    def column(self, key: str, valid: Callable[[Any], bool], wanted: str, default: Any = None) -> list:
        """The value of each entry under a key. Raises InputError for the first that is missing or not `wanted`."""
        values = [entry.get(key, default) for entry in self.entries]
        for index, value in enumerate(values):
            if not valid(value):
                state = f"is {str(value)[:60]!r}" if key in self.entries[index] else "is missing"
                raise InputError(f"{self.path}: {self.section}[{index}]: {key!r} {state}, expected {wanted}.")
        return values

    def ids(self) -> tuple[Int64[np.ndarray, " entries"], Int64[np.ndarray, " entries"]]:
        """The entries' ids in rising order, and the indices that bring the entries into that order."""
        values = np.array(self.column("id", _is_id, "an integer"), dtype=np.int64)
        order = np.argsort(values, kind="stable")
        rising = values[order]
        if (rising[1:] == rising[:-1]).any():
            twice = rising[1:][rising[1:] == rising[:-1]][0]
            raise InputError(f"{self.path}: {self.section} has id {twice} twice.")
        return rising, order

    def found(self, key: str, known: Int64[np.ndarray, " known"], section: str) -> Int64[np.ndarray, " entries"]:
        """Where each entry's value under a key stands in the rising ids `known` of another list."""
        values = np.array(self.column(key, _is_id, "an integer"), dtype=np.int64)
        places = np.searchsorted(known, values)
        missing = np.flatnonzero(np.append(known, -1)[places] != values)  # -1 is no id
        if len(missing):
            index = missing[0]
            raise InputError(f"{self.path}: {self.section}[{index}]: {key!r} {values[index]} is not in {section}.")
        return places


def _is_id(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and value != ""


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < 1e12  # False for NaN too


def _is_side(value: Any) -> bool:
    return _is_number(value) and value > 0


def _is_box(value: Any) -> bool:
    return type(value) is list and len(value) == 4 and all(map(_is_number, value)) and min(value[2:]) >= 0
