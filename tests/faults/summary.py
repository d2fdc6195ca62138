"""results/reliability.md: the tables of what was tried, and what came of it."""

import argparse
import platform
from collections.abc import Sequence

from mlic_core.progress import duration
from tests.faults.fuzz import Outcome
from tests.faults.lab import Row
from tests.faults.operations import OPERATIONS

NUMBERS = ("Tried", "Survived", "Inputs", "Read", "Refused", "Defects")
INTRODUCTION = """# Reliability

What was done to this study on purpose, and what came of it. `python -m tests.faults --kills {kills} --points {points} \
--damage {damage} --fuzz {fuzz} --seed {seed}{only} --out FILE` repeats it; `make soak` does so at full length, and \
`make test` runs a short version. Python {python} on {machine}, {took}; written by that command.
"""
FAULTS = """
## Faults

Operations on a miniature of 40 scenes: drawing the data, computing features, training (three epochs), a table and a \
figure of that run, a batch of one notebook that makes them, and the report. Each is disturbed in a process of its own \
and then run again undisturbed. A try is survived when the second run ends, when every byte is the one of a run that \
was never disturbed, and when no file is left over: {compared}. Only time and memory of a run, the list of notebooks \
that are up to date, which has digests of them, and lock files don't count. Where there is no room, an operation has \
to end with an error, not with a wrong result.

"""
DAMAGED = """
## Damaged files

One finished file is damaged at a time and then read. Survived: it is refused with a sentence that names it \
("refused"), or what comes out is what would have come out anyway, since it was made again or the bit means nothing.

"""
BROKEN = """
## Broken input

Valid files, changed at random: bits, pieces, words that are known to do harm. Each has to be read, or refused with a \
sentence that names the file or the setting; anything else is a defect.

"""


def summary(rows: Sequence[Row], outcomes: Sequence[Outcome], options: argparse.Namespace, seconds: float) -> str:
    """The whole file."""
    only = "".join(f" --only '{name}'" for name in options.only or ())
    how = {key: getattr(options, key) for key in ("kills", "points", "damage", "fuzz", "seed")}
    text = INTRODUCTION.format(
        **how, only=only, python=platform.python_version(), machine=platform.system(), took=duration(seconds)
    )
    disturbed = [row for row in rows if row.operation in OPERATIONS and ": " not in row.fault]
    if disturbed:
        compared = "; ".join(f"{name}: {operation.what}" for name, operation in OPERATIONS.items())
        text += FAULTS.format(compared=compared) + _table(
            ("Fault", "Operation", "Tried", "Survived", "How the disturbed run ended"),
            [(row.fault, row.operation, row.tried, row.survived, row.note) for row in disturbed],
        )
        killed = sum(row.tried for row in disturbed if row.fault.startswith("killed"))
        text += f"\nKilled {killed} times in all.\n"
    if damaged := [row for row in rows if row not in disturbed]:
        text += DAMAGED + _table(
            ("File", "Damage", "Tried", "Survived", "Outcomes"),
            [(*row.fault.split(": "), row.tried, row.survived, row.note) for row in damaged],
        )
    if outcomes:
        text += BROKEN + _table(
            ("Reader", "Inputs", "Read", "Refused", "Defects"),
            [
                (one.target, sum(one.answers.values()), one.answers["read"], one.answers["refused"], one.defects)
                for one in outcomes
            ],
        )
    return text + _open(rows, outcomes)


def _open(rows: Sequence[Row], outcomes: Sequence[Outcome]) -> str:
    """What was not survived, or that there is nothing."""
    lines = [f"- {row.operation}, {row.fault}: {failure}" for row in rows for failure in sorted(set(row.failures))[:3]]
    lines += [f"- {one.target}, {kind}: {text}" for one in outcomes for kind, text in one.examples.items()]
    return "\n## Not survived\n\n" + ("".join(f"{line}\n" for line in lines) or "Nothing.\n")


def _table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    marks = ["--:" if name in NUMBERS else "---" for name in header]
    lines = [header, marks, *rows]
    return "".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |\n" for line in lines)
