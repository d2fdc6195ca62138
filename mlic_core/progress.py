"""Progress of long loops: a bar in a terminal, lines in a notebook or a log, silence under a test.

One module decides. tqdm's widgets are dead in a saved notebook, and its text bars flood a log. The environment
variable MLIC_PROGRESS (bar, line or silent) overrules the choice. Lines go to stdout in a notebook and to stderr
elsewhere, or are appended to the file that MLIC_PROGRESS_FILE names, so that an executed notebook stays free of them
and a batch can still show them.
"""

import os
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

from mlic_core.errors import InputError, did_you_mean

Item = TypeVar("Item")
MODES = ("bar", "line", "silent")
LINES = 10  # about so many lines a loop
SHORTEST = 5.0  # seconds between two lines, at least

_running = 0  # tracked loops under way: in line mode only the outermost speaks


def mode() -> str:
    """How to show progress here: "bar", "line" or "silent". Raises InputError for another MLIC_PROGRESS."""
    asked = os.environ.get("MLIC_PROGRESS", "")
    if asked:
        if asked not in MODES:
            raise InputError(f"MLIC_PROGRESS={asked}: choose bar, line or silent{did_you_mean(asked, MODES)}")
        return asked
    if os.environ.get("RANK", "0") != "0":  # one of torchrun's processes speaks for all
        return "silent"
    if "PYTEST_VERSION" in os.environ:  # pytest exports it, and nbval's kernels inherit it
        return "silent"
    return "bar" if not _in_notebook() and sys.stderr.isatty() else "line"


def say(text: str) -> None:
    """One line about a long job's progress; nothing in silent mode."""
    current = mode()
    if current == "bar":
        from tqdm import tqdm

        tqdm.write(text, file=sys.stderr)  # keeps a bar on the last line
    elif current == "line":
        _write_line(text)


class track(Generic[Item]):
    """Iterate and show progress: `for batch in track(batches, label="mcar 3/10"): ...`

    total: number of items where the iterable has no length. initial: items that were done before, which count as
    progress but not as speed. `note` adds a text, such as the current loss, to what is shown next.
    """

    def __init__(self, iterable: Iterable[Item], *, total: int | None = None, label: str = "", initial: int = 0):
        self.iterable, self.label, self.initial = iterable, label, initial
        if total is None and hasattr(iterable, "__len__"):
            total = len(iterable) + initial
        self.total = total
        self._note = ""
        self._bar = None

    def note(self, text: str) -> None:
        """Text to show beside the progress, such as "loss 0.31"."""
        self._note = text
        if self._bar is not None:
            self._bar.set_postfix_str(text, refresh=False)

    def __iter__(self) -> Iterator[Item]:
        global _running
        current = mode()
        if current == "line" and _running:
            current = "silent"
        _running += 1
        try:
            yield from {"bar": self._with_bar, "line": self._with_lines, "silent": lambda: self.iterable}[current]()
        finally:
            _running -= 1

    def _with_bar(self) -> Iterator[Item]:
        from tqdm import tqdm

        options = dict(desc=self.label, initial=self.initial, leave=False, dynamic_ncols=True, file=sys.stderr)
        with tqdm(self.iterable, total=self.total, **options) as self._bar:
            yield from self._bar

    def _with_lines(self) -> Iterator[Item]:
        begun = last = time.monotonic()
        for done, item in enumerate(self.iterable, start=1):
            yield item
            now = time.monotonic()
            whole = (now - begun) / done * (self.total - self.initial) if self.total else 5 * (now - begun)
            if now - last >= max(SHORTEST, whole / LINES):
                last = now
                _write_line(self._line(done, now - begun))

    def _line(self, done: int, elapsed: float) -> str:
        parts = [self.label] if self.label else []
        if self.total:
            at = done + self.initial
            left = elapsed / done * (self.total - at)
            parts += [f"{at}/{self.total}", f"{100 * at // self.total} %", duration(elapsed)]
            parts += [f"about {duration(left)} left"] if left > 0 else []
        else:
            parts += [str(done + self.initial), duration(elapsed)]
        return "  ".join([*parts, self._note]).rstrip()


def duration(seconds: float) -> str:
    """Seconds as "0:07", "12:05" or "2:05:10"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _write_line(text: str) -> None:
    path = os.environ.get("MLIC_PROGRESS_FILE")
    if path:
        with open(path, "a", encoding="utf-8") as file:
            file.write(text + "\n")
    else:
        print(text, file=sys.stdout if _in_notebook() else sys.stderr, flush=True)


def _in_notebook() -> bool:
    """In a Jupyter kernel, as against a terminal's IPython."""
    get_ipython = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)
    return hasattr(get_ipython(), "kernel")
