"""The faults: each takes a lab, disturbs an operation, runs it again, and says how often that ended as it should."""

import errno
import json
import os
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.faults.children import Child, Fault, run, run_killed
from tests.faults.lab import REFUSALS, Lab, Row
from tests.faults.operations import OPERATIONS, content, results

YEARS = 10 * 365 * 24 * 3600  # seconds
Progress = Callable[[str], object]


def kills(lab: Lab, operation: str, count: int, progress: Progress = lambda text: None) -> Row:
    """Kill at random moments, one to three times a case, before it is left to end."""
    done, failures = 0, []
    duration = lab.undisturbed(operation)[1].seconds
    while done < count:
        with lab.case(operation) as folder:
            for _ in range(min(lab.random.randint(1, 3), count - done)):
                done += run_killed(operation, folder, lab.shared, lab.random.uniform(0, duration))
            failures += filter(None, [lab.rerun(operation, folder)])
        progress(f"{done} of {count}")
    return Row("killed at a random moment", operation, done, tuple(failures))


def crash_points(lab: Lab, operation: str, most: int, progress: Progress = lambda text: None) -> Row:
    """Kill before a change of the file system: before each, or `most` of them."""
    failures, points = [], lab.points(operation, most)
    for point in points:
        with lab.case(operation) as folder:
            ending = run(operation, folder, lab.shared, Fault("kill", point))
            wrong = lab.rerun(operation, folder) if ending.kind == "killed" else f"not killed: {ending}"
            failures += [f"change {point}: {wrong}"] if wrong else []
        progress(f"{point} of {points[-1]}")
    return Row("killed before a change of the file system", operation, len(points), tuple(failures))


def full_disk(lab: Lab, operation: str, most: int, progress: Progress = lambda text: None) -> Row:
    """No room (ENOSPC) from some change of the file system on."""
    failures, points = [], lab.points(operation, most)
    for point in points:
        with lab.case(operation) as folder:
            failures += _refused_then_right(lab, operation, folder, Fault("full disk", point), Counter())
        progress(f"{point} of {points[-1]}")
    return Row("no room from one change on (injected)", operation, len(points), tuple(failures))


def file_limit(lab: Lab, operation: str, sizes: int, progress: Progress = lambda text: None) -> Row:
    """Files that can't grow beyond some bytes, so that writes end in the middle (RLIMIT_FSIZE)."""
    failures, kinds = [], Counter()
    for step in range(sizes):
        with lab.case(operation) as folder:
            failures += _refused_then_right(lab, operation, folder, Fault("file limit", 7 * 6**step), kinds)
        progress(f"{step + 1} of {sizes}")
    return Row("files cut short while written", operation, sizes, tuple(failures), _shown(kinds))


def small_disk(lab: Lab, operation: str, sizes: int, progress: Progress = lambda text: None) -> Row:
    """A disk (tmpfs) of too few pages, then room for all. Needs the right to mount."""
    failures, kinds = [], Counter()
    needed = lab.undisturbed(operation)[2]
    for step in range(sizes):
        pages = 1 + needed * step // sizes
        with lab.case(operation) as folder, mounted(folder, pages * 4096) as resize:
            failures += _refused_then_right(lab, operation, folder, Fault(), kinds, between=lambda: resize("size=64m"))
        progress(f"{step + 1} of {sizes}")
    return Row("full disk (tmpfs)", operation, sizes, tuple(failures), _shown(kinds))


def read_only(lab: Lab, operation: str) -> Row:
    """A folder that can't be written, then one that can. Mounted so where possible, else injected (EROFS)."""
    failures = []
    with lab.case(operation) as folder:
        before = content(folder)
        try:
            with mounted(folder, 2**26) as remount:
                remount("ro")
                failures += _refused_then_right(lab, operation, folder, Fault(), Counter(), lambda: remount("rw"))
                how = "mounted"
        except PermissionError:
            fault, how = Fault("read-only"), "injected"
            failures += _refused_then_right(lab, operation, folder, fault, Counter(), unchanged=before)
    return Row("read-only folder", operation, 1, tuple(failures), how)


def at_once(lab: Lab, operation: str, count: int) -> Row:
    """Several processes do the same in the same folder."""
    with lab.case(operation) as folder:
        children = [Child(operation, folder, lab.shared) for _ in range(count)]
        failures = [f"{ending.kind}: {ending.message}" for child in children if (ending := child.wait()).kind != "done"]
        failures += filter(None, [lab.difference(operation, folder)])
    return Row(f"{count} processes at once", operation, 1, tuple(failures[:1]))


def clocks(lab: Lab, operation: str, shifts: tuple[int, ...] = (YEARS, -YEARS)) -> Row:
    """Killed half-way, then resumed by a clock that is ten years wrong, with files that are so old or so young."""
    failures = []
    for shift in shifts:
        with lab.case(operation) as folder:
            run_killed(operation, folder, lab.shared, lab.undisturbed(operation)[1].seconds * 0.7)
            for path in folder.rglob("*"):
                os.utime(path, (time.time() + shift,) * 2)
            failures += filter(None, [lab.rerun(operation, folder, Fault("clock", shift)) or _wrong_seconds(folder)])
    return Row("clock and files ten years off", operation, len(shifts), tuple(failures))


def _wrong_seconds(folder: Path) -> str:
    found = [json.loads(path.read_text())["seconds"] for path in results(folder).glob("runs/*/run.json")]
    return "" if all(0 <= seconds < 600 for seconds in found) else f"a run took {found} seconds"


def _refused_then_right(lab, operation, folder, fault, kinds, between=lambda: None, unchanged=None) -> list[str]:
    """Disturb; then, with the fault gone, run to the right end."""
    ending = run(operation, folder, lab.shared, fault)
    kind = ending.kind if ending.kind != "killed" else f"signal {ending.signal}"
    kinds[kind] += 1
    wrong = "" if kind in ("done", "signal 7", *REFUSALS) or operation == "batch" else f"ended with {ending}"
    if unchanged is not None and content(folder) != unchanged:
        wrong = "something was written"
    between()
    wrong = wrong or lab.rerun(operation, folder)
    return [f"{fault.kind} {fault.at or ''}: {wrong}"] if wrong else []


def _shown(kinds: Counter) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))


@contextmanager
def mounted(folder: Path, size: int) -> Iterator[Callable[[str], object]]:
    """A small file system of its own in a case's folder, with what lay there; yields what changes its options.

    Raises PermissionError where this process may not mount.
    """
    before = [(path.relative_to(folder), path.read_bytes()) for path in folder.rglob("*") if path.is_file()]
    try:
        _call("mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(folder))
    except (OSError, subprocess.CalledProcessError) as error:
        raise PermissionError(errno.EPERM, "may not mount") from error
    try:
        for name, text in before:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(text)
        used = sum(-(-len(text) // 4096) * 4096 for _, text in before)
        _call("mount", "-o", f"remount,size={used + size}", str(folder))
        yield lambda options: _call("mount", "-o", f"remount,{options}", str(folder))
    finally:
        with suppress(subprocess.CalledProcessError):
            _call("umount", "-l", str(folder))


def may_mount(folder: Path) -> bool:
    """Whether `mounted` works here."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with mounted(folder, 2**20):
            return True
    except PermissionError:
        return False


def _call(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


def of(operations: tuple[str, ...]) -> tuple[str, ...]:
    """Those that are named, or all."""
    return operations or tuple(OPERATIONS)
