"""A user's own images, listed with their labels in a CSV file: data.name=csv:PATH.

UTF-8, columns separated by commas, their names in the first line. Two layouts:

- `image,labels`: the labels of an image in one cell, separated by `;` or `|`; an empty cell means none of them. The
  classes are all labels of the file, sorted by name.
- `image` and one column a class, in the order of the file: 1 present, 0 absent, -1 ignored (in VOC's class files -1
  means absent).

An image is a path relative to the folder of the file, or an absolute one. With a further column `split` each image
belongs to the split that it names; without it all belong to one that is called `all`.
"""

import csv
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TextIO

import numpy as np
from jaxtyping import Int8

from mlic_core.data.base import MultiLabelDataset
from mlic_core.errors import InputError, did_you_mean

IMAGE, LABELS, SPLIT = "image", "labels", "split"
ALL = "all"  # the split of a file without the column
VALUES = {"1": 1, "0": 0, "-1": -1}
LONGEST = 2**20  # characters of a line


class Table(NamedTuple):
    """A CSV file: N images, the split of each, C classes, and int8 (N, C) targets."""

    ids: tuple[str, ...]
    splits: tuple[str, ...]
    labels: tuple[str, ...]
    targets: Int8[np.ndarray, "images classes"]


class CSVDataset(MultiLabelDataset):
    """The images of one split; `folder` is that of the CSV file, and an id is an image's path in it."""

    def __init__(self, folder: Path, **attributes):
        super().__init__(**attributes)
        self.folder = folder

    def image_path(self, index: int) -> Path:
        return self.folder / self.ids[index]


def load(name: str, split: str, *, root: Path, size: int) -> CSVDataset:
    """The images of one split; `root` is the CSV file.

    Raises InputError for an unknown split and as `read_table` does, and for images without a file, counting them.
    """
    table = read_table(root)
    known = sorted(set(table.splits))
    if split not in known:
        remedy = "" if known != [ALL] else f"; add a column {SPLIT!r}, or choose data.train={ALL} and data.eval={ALL}"
        raise InputError(f"{root} has no split {split!r}, only {', '.join(known)}{remedy}{did_you_mean(split, known)}.")
    rows = [row for row, own in enumerate(table.splits) if own == split]
    ids = tuple(table.ids[row] for row in rows)
    _check_files(ids, root)
    return CSVDataset(
        root.parent, name=name, split=split, labels=table.labels, targets=table.targets[rows], ids=ids, size=size
    )


def splits(path: Path) -> tuple[str, ...]:
    """The splits of a CSV file, in the order of their first images. Raises as `read_table` does."""
    return tuple(dict.fromkeys(read_table(path).splits))


def read_table(path: Path) -> Table:
    """A CSV file in either layout.

    Raises InputError naming the file, and line and column where one is wrong: not text, no column `image`, no class, a
    class named twice, an image listed twice, an unknown value, a line that is too long or has too few cells.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return _read(path, file)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}; give a CSV file, as in data.name=csv:PATH.") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text: {error}.") from error
    except csv.Error as error:
        raise InputError(f"{path} is not a CSV file: {error}.") from error


def _read(path: Path, file: TextIO) -> Table:
    reader = csv.reader(_lines(path, file), strict=True)
    header = [cell.strip() for cell in next(reader, [])]
    _check_header(path, header)
    lines: dict[str, int] = {}  # the line of each image
    own, cells = [], []  # the split and the labels of each
    for row in reader:
        where = f"{path}, line {reader.line_num}"
        if not any(cell.strip() for cell in row):
            continue
        if len(row) != len(header):
            raise InputError(f"{where}: expected {len(header)} cells as in the first line, found {len(row)}.")
        values = dict(zip(header, (cell.strip() for cell in row), strict=True))
        image = _image(path, where, values.pop(IMAGE))
        if image in lines:
            raise InputError(f"{where}: image {image} is listed twice, before in line {lines[image]}.")
        lines[image] = reader.line_num
        own.append(values.pop(SPLIT, ALL))
        if not own[-1]:
            raise InputError(f"{where}: the column {SPLIT!r} is empty.")
        cells.append(_words(where, values[LABELS]) if LABELS in header else _flags(where, values))
    if not lines:
        raise InputError(f"{path} lists no image.")
    labels, targets = _from_words(path, cells) if LABELS in header else (_classes(header), cells)
    return Table(tuple(lines), tuple(own), tuple(labels), np.array(targets, dtype=np.int8))


def _lines(path: Path, file: TextIO) -> Iterator[str]:
    """The lines of a file, none of which fills the memory."""
    number = 0
    while line := file.readline(LONGEST + 1):
        number += 1
        if len(line) > LONGEST:
            raise InputError(f"{path}, line {number} has more than {LONGEST} characters.")
        if "\0" in line:
            raise InputError(f"{path}, line {number} has a NUL byte, so it is no text file.")
        yield line


def _classes(header: Sequence[str]) -> list[str]:
    return [name for name in header if name not in (IMAGE, LABELS, SPLIT)]


def _check_header(path: Path, header: Sequence[str]) -> None:
    where, classes = f"{path}, line 1", _classes(header)
    if IMAGE not in header:
        found = ",".join(header)[:80]
        raise InputError(f"{where}: expected names of columns, separated by commas, with {IMAGE!r}, found {found!r}.")
    if "" in header:
        raise InputError(f"{where}: column {header.index('') + 1} has no name.")
    twice = [name for index, name in enumerate(header) if name in header[:index]]
    if twice:
        raise InputError(f"{where}: the column {twice[0]!r} is there twice.")
    if LABELS in header and classes:
        raise InputError(f"{where}: give either a column {LABELS!r} or one column a class, not both ({classes[0]!r}).")
    if LABELS not in header and not classes:
        raise InputError(f"{where}: there is no class; add a column {LABELS!r} or one column a class.")


def _image(path: Path, where: str, text: str) -> str:
    """The id of an image: its path in the folder of the CSV file, or an absolute one elsewhere."""
    if not text:
        raise InputError(f"{where}: the column {IMAGE!r} is empty.")
    given, folder = os.path.normpath(text), os.path.abspath(path.parent)
    if os.path.isabs(given) and Path(given).is_relative_to(folder):
        given = os.path.relpath(given, folder)  # else the name of a run would depend on the place
    return Path(given).as_posix()


def _words(where: str, cell: str) -> list[str]:
    words = [word.strip() for word in re.split("[;|]", cell)] if cell else []
    if "" in words:
        raise InputError(f"{where}: a label is empty in {cell[:80]!r}.")
    if len(set(words)) < len(words):
        raise InputError(f"{where}: a label is named twice in {cell[:80]!r}.")
    return words


def _flags(where: str, values: dict[str, str]) -> list[int]:
    for label, value in values.items():
        if value not in VALUES:
            raise InputError(
                f"{where}, column {label!r}: expected 1 (present), 0 (absent) or -1 (ignored), found {value[:40]!r}."
            )
    return [VALUES[value] for value in values.values()]


def _from_words(path: Path, words: Sequence[Sequence[str]]) -> tuple[list[str], Int8[np.ndarray, "images classes"]]:
    labels = sorted({word for row in words for word in row})
    if not labels:
        raise InputError(f"{path}: no image has a label.")
    column = {label: index for index, label in enumerate(labels)}
    targets = np.zeros((len(words), len(labels)), dtype=np.int8)
    for row, own in enumerate(words):
        targets[row, [column[word] for word in own]] = 1
    return labels, targets


def _check_files(ids: Sequence[str], path: Path) -> None:
    """Raise InputError with their number if images have no file."""
    listed = {folder: set(os.listdir(folder)) for folder in {(path.parent / name).parent for name in ids}
              if folder.is_dir()}  # fmt: skip
    missing = [name for name in ids if Path(name).name not in listed.get((path.parent / name).parent, ())]
    if missing:
        raise InputError(
            f"{path}: {len(missing)} of {len(ids)} images have no file, such as {path.parent / missing[0]}; paths are "
            "relative to the folder of the CSV file."
        )
