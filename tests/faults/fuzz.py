"""Broken input by the thousand: valid files with bits flipped, pieces cut, doubled and moved, and words put in.

Every reader may refuse what it gets, by InputError and with the name of the file or setting, or accept it. Anything
else is a defect. The generator is seeded, and the n-th input of a target is the same in every run.
"""

import random
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from mlic_core.errors import InputError
from tests.faults.targets import TARGETS, Target

WORDS = (
    b"", b"0", b"-1", b"1e999", b"nan", b"9" * 400, b"9" * 5000, b"\0", b"\xff\xfe", b"\xed\xa0\x80", b"\xef\xbb\xbf",
    b"../" * 9, b"/etc/passwd", b"A" * 5000, b"[" * 300, b"(" * 300, b"{" * 300, b"null", b"true", b"[]", b"{}", b'"',
    b"\n", b",", b"&x;", b"<!DOCTYPE a>", b"<?xml version='1.0' encoding='utf-7'?>", b"<a>" * 300, b"\r", b"\t", b"=",
    b"run:", b"\\", b"%", b"'\\N{x}'", b"1_0", b"0x1", b"1j", b"-", b"\x1a", b"\xe2\x80\xa8",
)  # fmt: skip
LONGEST = 200  # characters of a message that are shown
SLOWEST = 10.0  # seconds that one input may take


class Outcome(NamedTuple):
    """How a target answered: inputs by answer ("read", "refused", or a defect), and an example of each defect."""

    target: str
    answers: Counter
    examples: dict[str, str]

    @property
    def defects(self) -> int:
        return sum(count for answer, count in self.answers.items() if answer not in ("read", "refused"))


def mutate(valid: bytes, choose: random.Random) -> bytes:
    """One to four changes of a valid input."""
    content = bytearray(valid)
    for _ in range(choose.choice((1, 1, 1, 2, 4))):
        start, length = choose.randrange(len(content) + 1), choose.choice((1, 1, 4, 16, 64))
        piece = bytes(content[start : start + length])
        match choose.randrange(7):
            case 0 if content:
                content[min(start, len(content) - 1)] ^= 1 << choose.randrange(8)
            case 1 if content:
                content[min(start, len(content) - 1)] = choose.randrange(256)
            case 2:
                del content[start:]
            case 3:
                del content[start : start + length]
            case 4:
                content[start:start] = piece * choose.choice((1, 2, 50))
            case 5:
                content[start : start + length] = choose.choice(WORDS)
            case _:
                place = choose.randrange(len(content) + 1)
                content[place:place] = piece
    return bytes(content)


def fuzz(name: str, count: int, seed: int = 0, progress: Callable[[str], object] = lambda text: None) -> Outcome:
    """Give a target `count` inputs."""
    answers, examples = Counter(), {}
    with tempfile.TemporaryDirectory(prefix="mlic-fuzz-") as place:
        target = TARGETS[name](Path(place))
        begun = time.monotonic()
        for number in range(count):
            choose = random.Random(f"{name} {seed} {number}")
            content = mutate(choose.choice(target.valid), choose)
            answer, message = _answer(target, content)
            answers[answer] += 1
            if answer not in ("read", "refused"):
                examples.setdefault(answer, f"input {number}: {message.replace(place, 'FOLDER')[:LONGEST]}")
            if number % 1000 == 999:
                left = (time.monotonic() - begun) / (number + 1) * (count - number - 1)
                progress(f"{number + 1} of {count}, about {left:.0f} s left")
    return Outcome(name, answers, examples)


def _answer(target: Target, content: bytes) -> tuple[str, str]:
    """What a reader makes of an input: "read", "refused" or a defect, and its message."""
    begun = time.monotonic()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            target.read(content)
            answer, message = "read", ""
        except InputError as error:
            message = str(error)
            named = any(name in message for name in target.names)
            answer = "refused" if named else "InputError that names nothing"
        except Exception as error:
            answer, message = type(error).__name__, str(error)
    if time.monotonic() - begun > SLOWEST:
        return "slow", f"{time.monotonic() - begun:.0f} s"
    return answer, message
