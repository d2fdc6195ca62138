"""What an unfinished run keeps beside its checkpoint, so that it goes on as if nothing had happened."""

import json
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlic_core.progress import say
from mlic_core.study.files import write_json
from mlic_core.training import CHECKPOINT

STAMP = "checkpoint.json"  # by which code an unfinished run was begun, and how long it took so far


def begin(folder: Path, code: str) -> float:
    """Seconds that went into the checkpoint of a killed run, 0 without one; drops one of other code, or a broken one.

    Otherwise half of a run would be unlike the `code` of its record.
    """
    checkpoint, spent = folder / CHECKPOINT, 0.0
    if checkpoint.is_file():
        before = _read_stamp(folder)
        if before["code"] != code:
            say(f"the unfinished run {folder.name} was begun by other code: starting over")
            checkpoint.unlink()
        elif not _is_whole(checkpoint):
            say(f"the checkpoint of the unfinished run {folder.name} is broken: starting over")
            checkpoint.unlink()
        else:
            spent = before["seconds"]
    write_stamp(folder, code, spent)
    return spent


def write_stamp(folder: Path, code: str, seconds: float) -> None:
    """Keep the code and the seconds so far, as this process counted them: the clock may have been changed."""
    write_json(folder / STAMP, {"code": code, "seconds": seconds})


def is_left(folder: Path) -> bool:
    """Whether a checkpoint, or what stands beside it, is in a run's folder."""
    return (folder / STAMP).is_file() or (folder / CHECKPOINT).is_file()


def remove(folder: Path) -> None:
    """Remove the checkpoint and what stands beside it."""
    (folder / CHECKPOINT).unlink(missing_ok=True)
    (folder / STAMP).unlink(missing_ok=True)


def _read_stamp(folder: Path) -> dict:
    """The stamp; without one, or with a broken one, that of no code."""
    try:
        stamp = json.loads((folder / STAMP).read_text(encoding="utf-8"))
        return {"code": str(stamp["code"]), "seconds": float(stamp["seconds"])}
    except (OSError, ValueError, KeyError, TypeError):
        return {"code": None, "seconds": 0.0}


def _is_whole(checkpoint: Path) -> bool:
    """Whether the checksums in a checkpoint are right; `torch.load` doesn't look at them."""
    try:
        with zipfile.ZipFile(checkpoint) as archive:
            return archive.testzip() is None
    except Exception:  # zipfile raises a dozen kinds for bytes that went wrong
        return False


@contextmanager
def full_disk_said() -> Iterator[None]:
    """Raise the system's error where `torch.save` covers it with one that speaks of positions in a file."""
    try:
        yield
    except RuntimeError as error:
        if isinstance(error.__context__, OSError):
            raise error.__context__ from error
        raise
