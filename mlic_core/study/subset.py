"""The images that a study on a part of a published set used, kept as lists of ids in data/splits/NAME/SPLIT.txt."""

import os
import shutil
from pathlib import Path

import numpy as np

from mlic_core.data import MultiLabelDataset, load_dataset
from mlic_core.data.voc import VOCDataset
from mlic_core.errors import InputError, did_you_mean
from mlic_core.paths import repository_root

MARKS = {1: " 1", 0: "-1", -1: " 0"}  # in a class file: present, absent, only difficult objects


def split_ids(name: str) -> dict[str, tuple[str, ...]]:
    """Sorted ids by split. Raises InputError for a name that data/splits does not have."""
    known = {folder.name: folder for folder in _folders()}
    if name not in known:
        raise InputError(f"no splits are named {name!r}; there are {', '.join(known)}{did_you_mean(name, known)}")
    return {path.stem: tuple(path.read_text(encoding="utf-8").split()) for path in sorted(known[name].glob("*.txt"))}


def _folders() -> list[Path]:
    return sorted((repository_root() / "data" / "splits").glob("*/"))


def listed_as(dataset: MultiLabelDataset) -> str:
    """The list of data/splits that has exactly a data set's images, as "NAME/SPLIT.txt"; "" if there is none."""
    for name in (folder.name for folder in _folders()):
        for split, ids in split_ids(name).items():
            if sorted(dataset.ids) == sorted(ids):
                return f"{name}/{split}.txt"
    return ""


def make_subset(name: str, root: str | Path, out: str | Path) -> dict[str, int]:
    """A VOC 2012 devkit in `out` with the listed images alone, linked to those in `root`; returns images by split.

    Labels are those of the source's `trainval`. Raises InputError if that lacks images, or if `out` is there already.
    """
    source = load_dataset("voc2012", "trainval", root=Path(root).expanduser(), size=16)
    rows = {image: row for row, image in enumerate(source.ids)}
    splits, out = split_ids(name), Path(out).expanduser()
    if missing := [image for ids in splits.values() for image in ids if image not in rows]:
        raise InputError(f"{root} lacks {len(missing)} images of {name} in trainval, such as {missing[0]}")
    if out.exists():
        raise InputError(f"{out} is there already; choose another --out or remove it")
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # what a killed call left
    folder = partial / "VOCdevkit" / "VOC2012"
    for split, ids in splits.items():
        _write_split(folder / "ImageSets" / "Main", split, source.subset(np.array([rows[image] for image in ids])))
    _link(folder, source)
    os.replace(partial, out)
    return {split: len(ids) for split, ids in splits.items()}


def _write_split(sets: Path, split: str, part: MultiLabelDataset) -> None:
    sets.mkdir(parents=True, exist_ok=True)
    (sets / f"{split}.txt").write_text("".join(f"{image}\n" for image in part.ids))
    for label, column in zip(part.labels, part.targets.T.tolist(), strict=True):
        lines = (f"{image} {MARKS[mark]}\n" for image, mark in zip(part.ids, column, strict=True))
        (sets / f"{label}_{split}.txt").write_text("".join(lines))


def _link(folder: Path, source: VOCDataset) -> None:
    for part in ("JPEGImages", "Annotations"):
        if (place := source.folder / part).is_dir():
            (folder / part).symlink_to(place.resolve(), target_is_directory=True)
