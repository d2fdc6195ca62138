r"""NUS-WIDE in the layout of its downloads: nuswide81 by the 81 concepts, nuswide1000 by the 1,000 tags.

In the root lie

- `Flickr/`, or `images/`: the image files under the paths of the lists
- `ImageList/TrainImagelist.txt`, `TestImagelist.txt` and, for both splits, `Imagelist.txt`: one path a line, such as
  actor\0001_2124494179.jpg
- `ConceptsList/Concepts81.txt`, or the file itself: the concepts, one a line
- `Groundtruth/AllLabels/Labels_CONCEPT.txt`: 0 or 1 for each line of `Imagelist.txt`
- `NUS_WID_Tags/TagList1k.txt`: the tags, one a line; `NUS_WID_Tags/AllTags1k.txt`: 1,000 times 0 or 1 for each line of
  `Imagelist.txt`

The tables of all images can be replaced by those of the splits, whose lines follow `TrainImagelist.txt` and its like:
`Groundtruth/TrainTestLabels/Labels_CONCEPT_Train.txt` and `NUS_WID_Tags/Train_Tags1k.dat`. They come second, since the
published `Labels_lake_Train.txt` has -1130179 in line 78,372, which is no label.

Images without any label are dropped, from both splits: of 161,789 and 107,859 images 125,449 and 83,898 have a concept.
The CNN-RNN paper doesn't say so, but its Table 1 does: where all images are given three labels, O-P / O-R is labels an
image by three, and 3 x 47.8 / 59.5 = 2.41. The labelled images have 2.41 concepts each, all images 1.87.
"""

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int8, Int64

from mlic_core.data.base import MultiLabelDataset
from mlic_core.errors import InputError, did_you_mean

SPLITS = ("train", "test")
FOLDERS = ("Flickr", "images")
ALL, MISSING = "ImageList/Imagelist.txt", "ImageList/Missing.txt"
IMAGE = re.compile(r"(?:.*/)?([^/]+/[^/]+)\.jpg")  # some copies of a list put C:\ImageData\Flickr\ before
NAME = re.compile(r"[^\s/\x00-\x1f\x7f]{1,100}")  # a concept's name becomes that of a file
BLOCK = 2**22  # bytes of a table that are read at a time
# What a byte of a table is: 0 space, 1 a flag, 2 anything else.
KIND = np.full(256, 2, dtype=np.uint8)
KIND[list(b" \t\r\n\v\f")], KIND[list(b"01")] = 0, 1


class NUSWideDataset(MultiLabelDataset):
    """One split; `folder` holds the images. An id is the image's path in it without the ending."""

    def __init__(self, folder: Path, **attributes):
        super().__init__(**attributes)
        self.folder = folder

    def image_path(self, index: int) -> Path:
        return self.folder / f"{self.ids[index]}.jpg"


def load(name: str, split: str, *, root: Path, size: int) -> NUSWideDataset:
    """One of the two official splits, "train" or "test". There is none to choose by.

    Every image with a label needs its file, unless its path is in `ImageList/Missing.txt`, a list of the user's own:
    many of the photographs are no longer on Flickr. Those are left out, of both splits.

    Raises InputError for another split, for files that are missing, counting the images among them, and for a
    malformed line, naming file and line.
    """
    if split not in SPLITS:
        raise InputError(
            f"{name} has no split {split!r}, only train and test{did_you_mean(split, SPLITS)}; nothing is held out to "
            "choose by, so a run takes data.monitor= (empty), and `mlic data check` --split train --split test"
        )
    images = _read_images(_find(name, root, f"ImageList/{split.title()}Imagelist.txt"))
    if not images:
        raise InputError(f"{root}/ImageList/{split.title()}Imagelist.txt lists no image.")
    labels, targets = (_concepts if name == "nuswide81" else _tags)(name, root, split, images)
    gone = set(_read_images(root / MISSING)) if (root / MISSING).is_file() else set()
    kept = np.array([row for row in np.flatnonzero(targets.any(1)).tolist() if images[row] not in gone], dtype=np.int64)
    if not len(kept):
        raise InputError(f"{name}: no image of {split} has a label and is not in {root / MISSING}.")
    ids = tuple(images[row] for row in kept)
    folder = _find(name, root, *FOLDERS)
    _check_files(ids, folder, root)
    return NUSWideDataset(folder, name=name, split=split, labels=labels, targets=targets[kept], ids=ids, size=size)


def _find(name: str, root: Path, *places: str) -> Path:
    """The first of some places in the root that exists."""
    found = [root / place for place in places if (root / place).exists()]
    if not found:
        raise _absent(name, root, " or ".join(places))
    return found[0]


def _absent(name: str, root: Path, what: str) -> InputError:
    return InputError(
        f"{name} is not in {root}, which has no {what}; "
        "give the folder that holds ImageList, Groundtruth, NUS_WID_Tags and Flickr as data.root"
    )


def _concepts(
    name: str, root: Path, split: str, images: Sequence[str]
) -> tuple[tuple[str, ...], Int8[np.ndarray, "images classes"]]:
    """Labels and targets of nuswide81."""
    labels = _read_names(_find(name, root, "ConceptsList/Concepts81.txt", "Concepts81.txt"))
    folder, rows = _table(name, root, images, "Groundtruth/AllLabels", "Groundtruth/TrainTestLabels")
    end = "" if folder.name == "AllLabels" else f"_{split.title()}"
    targets = np.empty((len(images), len(labels)), dtype=np.int8)
    for column, label in enumerate(labels):
        targets[:, column] = read_flags(folder / f"Labels_{label}{end}.txt", 1, rows, len(images))[:, 0]
    return labels, targets


def _tags(
    name: str, root: Path, split: str, images: Sequence[str]
) -> tuple[tuple[str, ...], Int8[np.ndarray, "images classes"]]:
    """Labels and targets of nuswide1000."""
    labels = _read_names(_find(name, root, "NUS_WID_Tags/TagList1k.txt"))
    part = f"NUS_WID_Tags/{split.title()}_Tags1k.dat"
    path, rows = _table(name, root, images, "NUS_WID_Tags/AllTags1k.txt", part)
    return labels, read_flags(path, len(labels), rows, len(images))


def _table(
    name: str, root: Path, images: Sequence[str], whole: str, part: str
) -> tuple[Path, Int64[np.ndarray, " lines"]]:
    """The table of all images, or else of the split, and for each of its lines the row in `images`, -1 for none."""
    if not ((root / whole).exists() and (root / ALL).is_file()):
        if not (root / part).exists():
            raise _absent(name, root, f"{whole} with {ALL}, and no {part}")
        return root / part, np.arange(len(images))
    row = {image: index for index, image in enumerate(images)}
    rows = np.array([row.pop(image, -1) for image in _read_images(root / ALL)], dtype=np.int64)
    if row:
        lacking = f"lacks {len(row)} of the split's {len(images)} images, such as {next(iter(row))}"
        raise InputError(f"{root / ALL} {lacking}.")
    return root / whole, rows


def read_flags(path: Path, columns: int, rows: Int64[np.ndarray, " lines"], count: int) -> Int8[np.ndarray, "n c"]:
    """A table of `columns` zeros and ones a line, as an array (count, columns): line i, blank ones left out, becomes
    row `rows[i]`, or none for -1.

    The file is read in blocks, so that no more of it is in memory than what is returned. Raises InputError naming file
    and line for anything else in it, and for another number of lines.
    """
    flags = np.zeros((count, columns), dtype=np.int8)
    done = 0
    for block in _blocks(path):
        found = _parse(block, columns)
        if found is None:
            raise _malformed(path, columns)
        places = rows[done : done + len(found)]
        flags[places[places >= 0]] = found[: len(places)][places >= 0]
        done += len(found)
    if done != len(rows):
        raise InputError(f"{path} has {done} lines, but the list of images has {len(rows)}.")
    return flags


def _blocks(path: Path) -> Iterator[bytes]:
    """The file in pieces of whole lines."""
    try:
        with path.open("rb") as file:
            while block := file.read(BLOCK):
                yield block + file.readline()
    except OSError as error:
        raise InputError(f"cannot read label file {path}: {error.strerror}.") from error


def _parse(block: bytes, columns: int) -> Int8[np.ndarray, "lines columns"] | None:
    """The flags of some lines; None if one of them is malformed."""
    text = np.frombuffer(block if block.endswith(b"\n") else block + b"\n", dtype=np.uint8)
    kind = KIND[text]
    flag = kind == 1
    if kind.max() == 2 or (flag[1:] & flag[:-1]).any():  # 01 is not two flags
        return None
    starts = np.append(0, np.flatnonzero(text == ord("\n"))[:-1] + 1)
    counts = np.add.reduceat(kind, starts, dtype=np.int64)
    if ((counts != columns) & (counts != 0)).any():
        return None
    return (text[flag] - ord("0")).astype(np.int8).reshape(-1, columns)


def _malformed(path: Path, columns: int) -> InputError:
    """The first line that is wrong, found the slow way."""
    wanted = "0 or 1" if columns == 1 else f"{columns} times 0 or 1"
    remedy = ""
    if path.parent.name == "TrainTestLabels":
        remedy = f"; put Groundtruth/AllLabels and {ALL} in place, which come first"
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            fields = line.split()
            wrong = [field for field in fields if field not in (b"0", b"1")]
            if wrong or len(fields) not in (0, columns):
                shown = f"{wrong[0].decode(errors='replace')[:40]!r}" if wrong else f"{len(fields)} values"
                return InputError(f"{path}, line {number}: expected {wanted}, found {shown}{remedy}.")
    return InputError(f"{path} changed while it was read.")


def _read_images(path: Path) -> list[str]:
    """The images of a list, as ids. Blank lines count for nothing."""
    images: dict[str, None] = {}
    for where, line in _lines(path):
        match = IMAGE.fullmatch(line.replace("\\", "/"))
        if not match or len(match[1]) > 200 or not match[1].isprintable():
            raise InputError(rf"{where}: expected a path such as actor\0001_2124494179.jpg, found {line[:80]!r}.")
        if match[1] in images:
            raise InputError(f"{where}: image {match[1]} is listed twice.")
        images[match[1]] = None
    return list(images)


def _read_names(path: Path) -> tuple[str, ...]:
    """The classes of a list."""
    names: dict[str, None] = {}
    for where, line in _lines(path):
        if line in names:
            raise InputError(f"{where}: {line[:80]!r} is listed twice.")
        if not NAME.fullmatch(line):
            raise InputError(f"{where}: expected one word of at most 100 printed characters, found {line[:80]!r}.")
        names[line] = None
    if not names:
        raise InputError(f"{path} names no class.")
    return tuple(names)


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    """Each line that is not blank: where it stands, for messages, and its text."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot read list {path}: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise InputError(f"list {path} is not text: {error}.") from error
    for number, line in enumerate(text.splitlines(), start=1):
        if line := line.strip():
            yield f"{path}, line {number}", line


def _check_files(ids: Sequence[str], folder: Path, root: Path) -> None:
    """Raise InputError with their number if images have no file."""
    there: set[str] = set()
    for part in {image.split("/")[0] for image in ids}:  # 704 listings, since asking for 160,000 files is slow
        if (folder / part).is_dir():
            there.update(f"{part}/{file}" for file in os.listdir(folder / part))
    missing = [image for image in ids if f"{image}.jpg" not in there]
    if missing:
        raise InputError(
            f"{len(missing)} of {len(ids)} images have no file in {folder}, such as {missing[0]}.jpg; put them there "
            f"or, to do without them, list them in {root / MISSING} (data/README.md says how)"
        )
