"""Data sets by name, all read into one class."""

from importlib import import_module
from pathlib import Path

from mlic_core.data.base import MultiLabelDataset
from mlic_core.errors import InputError, did_you_mean

# The module of mlic_core.data that reads each data set, imported when it is asked for.
DATASETS = {
    "picto-voc": "voc", "voc2007": "voc", "voc2012": "voc",
    "picto-coco": "coco", "coco2014": "coco", "coco2017": "coco",
    "nuswide81": "nuswide", "nuswide1000": "nuswide",
    "csv": "csvfile",
}  # fmt: skip
# The module that draws it, for the sets that are drawn here.
DRAWN = {"picto-voc": "picto", "picto-coco": "picto_coco"}


def load_dataset(
    name: str, split: str, *, root: str | Path, size: int, unlabelled: bool = False
) -> MultiLabelDataset:
    """Labels of one split, with images read on demand at `size` x `size` pixels.

    `root` is the folder that holds the files of the data set. `csv:PATH` is a CSV file of the user's own, relative to
    `root`; so is `csv` with the file as `root`. unlabelled: keep COCO's images without any label, too.

    Raises InputError for an unknown name or split, for `unlabelled` with a set that has no such choice, and for files
    that are missing or malformed, naming them.
    """
    name, root = resolve(name, root)
    if name not in DATASETS:
        known = ", ".join(DATASETS)
        raise InputError(f"no data set is named {name!r}, only {known}{did_you_mean(name, DATASETS)}")
    source = import_module(f"mlic_core.data.{DATASETS[name]}")
    if unlabelled and DATASETS[name] != "coco":
        raise InputError(f"data.unlabelled=true: that is a choice with COCO only, not with {name}; leave it out")
    choice = {"unlabelled": True} if unlabelled else {}
    dataset = source.load(name, split, root=Path(root).expanduser(), size=size, **choice)
    if name in DRAWN:
        dataset.checksums = import_module("mlic_core.data.scenes").read_checksums(Path(root).expanduser())
    return dataset


def resolve(name: str, root: str | Path) -> tuple[str, str | Path]:
    """Name and root of a data set; those of `csv:PATH` are `csv` and the file, so that no name holds a place."""
    if not name.startswith("csv:"):
        return name, root
    return "csv", str(Path(root).expanduser() / Path(name.removeprefix("csv:")).expanduser())
