"""Where operations are disturbed and compared: cases in a temporary folder, and what an undisturbed run leaves."""

import random
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import NamedTuple

from tests.faults.children import Ending, Fault, run
from tests.faults.operations import OPERATIONS, content, draw

REFUSALS = ("InputError", "OSError", "PermissionError")  # how an operation may end that finds no room


class Row(NamedTuple):
    """A fault as it was tried on an operation: how often, how often survived, and what went wrong otherwise."""

    fault: str
    operation: str
    tried: int
    failures: tuple[str, ...]
    note: str = ""

    @property
    def survived(self) -> int:
        return self.tried - len(self.failures)


class Lab:
    """A folder of cases. `random` makes every choice, from the seed."""

    def __init__(self, folder: Path, seed: int = 0):
        self.folder, self.shared, self.random = folder, folder / "shared", random.Random(seed)
        self.cases = 0
        self.undisturbed = cache(self.undisturbed)
        draw(self.shared, self.shared)

    def undisturbed(self, operation: str) -> tuple[dict[str, str], Ending, int]:
        """What an operation leaves when nothing happens to it, how it ended, and the pages (4 KiB) that it fills."""
        if operation == "report":
            self.undisturbed("tables")
        with self.case(operation) as folder:
            before = pages(folder)
            ending = run(operation, folder, self.shared)
            if ending.kind != "done":
                raise RuntimeError(f"{operation} fails without any fault: {ending}")
            if operation == "tables":
                shutil.copytree(folder, self.shared / operation)
            return content(folder), ending, pages(folder) - before

    @contextmanager
    def case(self, operation: str) -> Iterator[Path]:
        """A folder in which an operation can begin, gone afterwards."""
        self.cases += 1
        folder = self.folder / f"{operation}-{self.cases}"
        OPERATIONS[operation].set_up(folder, self.shared)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def rerun(self, operation: str, folder: Path, fault: Fault | None = None) -> str:
        """Run a disturbed operation again to its end: "", or how that differs from an undisturbed run."""
        ending = run(operation, folder, self.shared, fault)
        if ending.kind != "done":
            message = ending.message.replace(str(self.folder), "FOLDER")
            return f"the rerun ended with {ending.kind} {ending.signal or message}"
        return self.difference(operation, folder)

    def difference(self, operation: str, folder: Path) -> str:
        """How a folder differs from an undisturbed run's: "" or the first file."""
        expected, found = self.undisturbed(operation)[0], content(folder)
        for name in sorted(expected.keys() | found.keys()):
            if expected.get(name) != found.get(name):
                how = "is missing" if name not in found else "differs" if name in expected else "is left over"
                return f"{name} {how}"
        return ""

    def points(self, operation: str, most: int) -> list[int]:
        """The numbers of an operation's changes to the file system: all of them, or so many drawn at random."""
        changes = range(1, self.undisturbed(operation)[1].changes + 1)
        return sorted(self.random.sample(changes, min(most, len(changes))))


def pages(folder: Path) -> int:
    """What the files and folders in a folder take of a disk, in pages of 4 KiB."""
    return sum(-(-path.stat().st_size // 4096) if path.is_file() else 1 for path in folder.rglob("*"))
