"""What a data set on disk holds, beside what was published of it."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from mlic_core.data import MultiLabelDataset, csvfile
from mlic_core.data.sources import PUBLISHED, Figures
from mlic_core.data.voc import VOCDataset
from mlic_core.errors import InputError
from mlic_core.progress import track
from mlic_core.study.experiments import Data, open_split, open_splits


class Count(NamedTuple):
    """Of one split: images, present and ignored labels, annotated boxes (None without annotations), difficult ones
    among them (None where the source has no such flag), and what is wrong with images that can't be decoded.
    """

    images: int
    present: int
    ignored: int
    boxes: int | None
    difficult: int | None
    unreadable: list[str]


def splits_to_check(data: Data, asked: tuple[str, ...]) -> list[MultiLabelDataset]:
    """The splits that were asked for; by default those of which the size is published, or else those of a run."""
    if not asked and data.name == "csv" and data.root:
        asked = csvfile.splits(Path(data.root).expanduser())
    asked = asked or tuple(PUBLISHED.get(data.name, ()))
    return [open_split(data, split) for split in asked] or list(open_splits(data).values())


def count(dataset: MultiLabelDataset, sample: int | None, decoded: set[str]) -> Count:
    """Read every label and box, and decode images: all, or `sample` of them at even distances.

    Those whose ids are in `decoded` are passed over; the others are added to it.
    """
    chosen = range(len(dataset))
    if sample is not None:
        chosen = np.unique(np.linspace(0, len(dataset) - 1, min(sample, len(dataset))).round().astype(int)).tolist()
    unreadable = []
    for index in track([i for i in chosen if dataset.ids[i] not in decoded], label=f"decoding {dataset.split}"):
        decoded.add(dataset.ids[index])
        try:
            dataset.original(index)
        except InputError as error:
            unreadable.append(str(error))
    boxes, difficult = _boxes(dataset)
    present, ignored = int((dataset.targets == 1).sum()), int((dataset.targets == -1).sum())
    return Count(len(dataset), present, ignored, boxes, difficult, unreadable)


def _boxes(dataset: MultiLabelDataset) -> tuple[int | None, int | None]:
    if not dataset.has_boxes:
        return None, None
    if not isinstance(dataset, VOCDataset):
        return sum(len(dataset.boxes(index)[0]) for index in range(len(dataset))), None
    flags = [dataset.objects(index).difficult for index in range(len(dataset))]
    return sum(map(len, flags)), int(sum(flag.sum() for flag in flags))


def describe(split: str, found: Count) -> str:
    """One line: "val: 864 images, 1.35 labels an image, 64 ignored entries, no boxes"."""
    difficult = "" if found.difficult is None else f", {found.difficult} of them difficult"
    return (
        f"{split}: {found.images} images, {found.present / found.images:.2f} labels an image, "
        f"{found.ignored} ignored entries, {found.boxes or 'no'} boxes{difficult}"
    )


def compare(published: Figures, found: Count) -> tuple[str, bool]:
    """What a count is beside the published figures, and whether it can be that set or a part of it."""
    if published.images is None:
        return "no size is published to hold this against", True
    whole = f"{published.images:,} images"
    if found.images < published.images:
        return f"a part of the published set: {found.images:,} of {whole}", True
    if found.images > published.images:
        return f"not the published set, which has {whole}", False
    if published.objects is None or found.boxes is None:
        return f"as published: {whole}", True
    clear, whole = found.boxes - found.difficult, f"{whole} and {published.objects:,} objects that are not difficult"
    if clear != published.objects:
        return f"not the published set, which has {whole}, here {clear:,}", False
    return f"as published: {whole}", True
