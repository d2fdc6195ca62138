"""Try the faults and the broken input at length: `make soak`.

Each row is printed when it is done, and with --out all of them go into a file. Exit status: 0, or 1 where something
was not survived.
"""

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from mlic_core.progress import duration
from mlic_core.study.files import write_atomically
from tests.faults import disturbances as faults
from tests.faults.damage import DAMAGES, KEPT, damaged
from tests.faults.fuzz import Outcome, fuzz
from tests.faults.lab import Lab, Row
from tests.faults.operations import OPERATIONS
from tests.faults.summary import summary
from tests.faults.targets import TARGETS

SHARES = {"data": 0.25, "features": 0.25, "training": 0.25, "tables": 0.1, "report": 0.1, "batch": 0.05}  # of the kills
QUICK = (
    "data",
    "features",
    "training",
    "tables",
    "report",
)  # the batch starts processes of its own, where nothing is injected


def main(arguments: list[str]) -> int:
    options = _options(arguments)
    rows, outcomes, begun = [], [], time.monotonic()
    place = Path(tempfile.mkdtemp(prefix="mlic-faults-"))
    try:
        lab = Lab(place, options.seed)
        jobs = list(_jobs(lab, options))
        for number, (name, job) in enumerate(jobs):
            spent = time.monotonic() - begun
            left = f", about {duration(spent / number * (len(jobs) - number))} left" if number else ""
            print(f"[{number + 1}/{len(jobs)}] {name}{left}", file=sys.stderr, flush=True)
            result = job(lambda text: print(f"\r  {text}\x1b[K\r", end="", file=sys.stderr, flush=True))
            (rows if isinstance(result, Row) else outcomes).append(result)
            print(_line(result), flush=True)
            if options.out:
                text = summary(rows, outcomes, options, time.monotonic() - begun)
                write_atomically(Path(options.out), text)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    return int(any(row.failures for row in rows) or any(outcome.defects for outcome in outcomes))


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m tests.faults", description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=100, metavar="N", help="kills at random moments  [default: 100]")
    parser.add_argument("--points", type=int, default=60, metavar="N",
                        help="changes of the file system, at most, before which each operation is killed, and at which "
                        "the disk is full  [default: 60]")  # fmt: skip
    parser.add_argument("--damage", type=int, default=20, metavar="N",
                        help="files of each kind to damage in each way  [default: 20]")  # fmt: skip
    parser.add_argument("--fuzz", type=int, default=100_000, metavar="N",
                        help="broken inputs for each reader, 0 for none  [default: 100000]")  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="of every choice  [default: 0]")
    choices = f"an operation ({', '.join(OPERATIONS)}), 'damage', or a reader ({', '.join(TARGETS)})"
    parser.add_argument("--only", action="append", metavar="NAME", help=choices)
    parser.add_argument("--out", metavar="FILE", help="write the tables there")
    options = parser.parse_args(arguments)
    known = {*OPERATIONS, *TARGETS, "damage"}
    for name in options.only or ():
        if name not in known:
            parser.error(f"--only {name}: choose from {', '.join(sorted(known))}")
    return options


def _jobs(lab: Lab, options: argparse.Namespace) -> Iterator[tuple[str, Callable]]:
    """What is to be done, each with its name."""

    def wanted(name: str) -> bool:
        return not options.only or name in options.only

    for name in TARGETS if options.fuzz else ():
        if wanted(name):
            yield f"broken input, {name}", lambda show, name=name: fuzz(name, options.fuzz, options.seed, show)
    for name in filter(wanted, QUICK):
        yield from _of_operation(lab, name, options)
    if wanted("damage"):
        for kind in KEPT:
            for way in DAMAGES:
                count = options.damage if way != "emptied" else 1
                yield f"{kind}, {way}", lambda show, kind=kind, way=way, n=count: damaged(lab, kind, way, n, show)
    if wanted("batch"):
        yield "batch, kills", lambda show: faults.kills(lab, "batch", round(options.kills * SHARES["batch"]), show)
        yield "batch, four at once", lambda show: faults.at_once(lab, "batch", 4)
        yield "batch, full disk", lambda show: faults.small_disk(lab, "batch", 1, show)
        yield "batch, read-only folder", lambda show: faults.read_only(lab, "batch")


def _of_operation(lab: Lab, name: str, options: argparse.Namespace) -> Iterator[tuple[str, Callable]]:
    count = round(options.kills * SHARES[name])
    yield f"{name}, kills", lambda show: faults.kills(lab, name, count, show)
    yield f"{name}, points", lambda show: faults.crash_points(lab, name, options.points, show)
    yield f"{name}, no room", lambda show: faults.full_disk(lab, name, options.points, show)
    yield f"{name}, cut short", lambda show: faults.file_limit(lab, name, 6, show)
    if faults.may_mount(lab.folder / "mount"):
        yield f"{name}, full disk", lambda show: faults.small_disk(lab, name, 6, show)
    yield f"{name}, read-only", lambda show: faults.read_only(lab, name)
    for processes in (2, 4):
        yield f"{name}, {processes} at once", lambda show, n=processes: faults.at_once(lab, name, n)
    yield f"{name}, clocks", lambda show: faults.clocks(lab, name)


def _line(result: Row | Outcome) -> str:
    if isinstance(result, Row):
        failures = "".join(f"\n    {failure}" for failure in sorted(set(result.failures))[:5])
        return f"{result.operation:10} {result.fault}: survived {result.survived} of {result.tried} {failures}"
    examples = "".join(f"\n    {kind}: {example}" for kind, example in result.examples.items())
    return f"{result.target}: {dict(result.answers)}{examples}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
