"""A run's scores as the files that the PASCAL VOC evaluation server takes for the classification task.

Section 3.3 of the VOC2012 development kit's documentation: one text file a class, one line an image, the image's id
and a confidence that is greater the surer the class is present, separated by a space.
"""

import gzip
import io
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from mlic_core.data.voc import LABELS
from mlic_core.errors import InputError, check_choice
from mlic_core.study.files import write_atomically
from mlic_core.study.record import Record

Competition = Literal["comp1", "comp2"]  # trained on VOC's own data alone, or on other data too
SERVER = "http://host.robots.ox.ac.uk:8080"
ENDINGS = (".tar.gz", ".tgz")


def write_submission(record: Record, out: Path | None = None, competition: str = "comp1") -> Path:
    """Write the archive; returns where to, by default results/PROFILE/submissions/RUN_COMPETITION.tar.gz.

    The same scores give the same bytes. Raises InputError for classes other than VOC's 20, an unknown competition,
    and a file that can't be written or isn't called .tar.gz or .tgz.
    """
    out = out or _usual_place(record.folder) / f"{record.name}_{competition}.tar.gz"
    if not out.name.endswith(ENDINGS):
        raise InputError(f"{out}: the server takes a compressed tar file; give a name that ends in .tar.gz")
    content = _archive(submission_files(record, competition))
    try:
        write_atomically(out, content)
    except OSError as error:
        raise InputError(f"cannot write {out}: {error.strerror}; give another file with --out") from error
    return out


def submission_files(record: Record, competition: str = "comp1") -> Iterator[tuple[str, str]]:
    """Name in the archive and text of each class's file. Confidences are logits to nine digits, which keep every fp32
    value, so order and ties are the run's own. Raises InputError as `write_submission`."""
    check_choice("competition", competition, Competition)
    arrays = record.scores()
    labels = arrays["labels"].tolist()
    if sorted(labels) != sorted(LABELS):
        raise InputError(
            f"run {record.name} has {len(labels)} classes ({', '.join(labels[:3])}, ...) and not the 20 of PASCAL VOC; "
            "choose a run on picto-voc, voc2007 or voc2012"
        )
    for label in LABELS:
        logits = arrays["logits"][:, labels.index(label)].tolist()
        lines = (f"{name} {logit:.9g}\n" for name, logit in zip(arrays["ids"].tolist(), logits, strict=True))
        yield f"results/VOC2012/Main/{competition}_cls_test_{label}.txt", "".join(lines)


def what_next(record: Record, competition: str) -> str:
    """What to do with the archive, or why the server would refuse it; and whether the competition may be wrong."""
    name, split = record.config["data.name"], record.config["data.eval"]
    text = f"Upload it at {SERVER} as a result of VOC2012's classification task, {competition}."
    if (name, split) != ("voc2012", "test"):
        text = (
            f"The VOC evaluation server ({SERVER}) wants VOC2012's image set test and will refuse this archive, since "
            f"the run was scored on {name} {split}: train one with data.name=voc2012 data.eval=test for it."
        )
    if competition == "comp1" and record.config["trunk.weights"] != "none":
        text += "\nIts trunk was pretrained: unless on VOC's data alone, the right one is --competition comp2."
    return text


def _usual_place(folder: Path) -> Path:
    runs = folder.resolve().parent
    return (runs.parent if runs.name == "runs" else runs) / "submissions"


def _archive(files: Iterator[tuple[str, str]]) -> bytes:
    """A compressed tar of text files that says nothing of when, where and by whom it was made."""
    buffer = io.BytesIO()
    with (
        gzip.GzipFile(filename="", fileobj=buffer, mode="wb", mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as archive,
    ):
        for name, text in files:
            content = text.encode()
            entry = tarfile.TarInfo(name)  # time, user and group 0 by default
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()
