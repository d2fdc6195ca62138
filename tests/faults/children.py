"""Operations in processes of their own, forked from one that has torch loaded, so that a kill costs a second."""

import errno
import multiprocessing
import os
import resource
import signal
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

MAKING = ("open", "os.mkdir", "os.rename", "fsync")  # what needs room, and can't be done in a read-only folder
CHANGING = (*MAKING, "os.remove", "os.rmdir")
LONGEST = 300.0  # seconds; what takes longer hangs


@dataclass(frozen=True)
class Fault:
    """What befalls a process.

    "kill" before the change of the file system number `at`, or "full disk" from there on; "read-only" folders;
    files of at most `at` bytes ("file limit"); a clock that is `at` seconds wrong ("clock").
    """

    kind: Literal["none", "kill", "full disk", "read-only", "file limit", "clock"] = "none"
    at: int = 0


class Ending(NamedTuple):
    """How a process ended: "done", "killed" (by `signal`), "hung", or an exception's name and its message.

    changes: what it did to the file system of its folder, counted. seconds: from the first change on.
    """

    kind: str
    message: str = ""
    seconds: float = 0.0
    changes: int = 0
    signal: int = 0


class Child:
    """An operation under way in a folder."""

    def __init__(self, operation: str, folder: Path, shared: Path, fault: Fault | None = None):
        self.pipe, theirs = multiprocessing.Pipe()
        arguments = (operation, str(folder), str(shared), fault or Fault(), theirs)
        self.process = _context().Process(target=_main, args=arguments)
        self.process.start()
        theirs.close()

    def wait_ready(self) -> None:
        """Until everything is loaded and the operation begins."""
        self.pipe.recv()

    def kill(self) -> None:
        """SIGKILL for it and what it has started, as when a machine goes down."""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            self.process.kill()

    def wait(self) -> Ending:
        """Until it has ended; what takes too long is killed."""
        self.process.join(LONGEST)
        if self.process.is_alive():
            self.kill()
            self.process.join()
            return Ending("hung")
        said = None
        while self.pipe.poll():
            try:
                said = self.pipe.recv()
            except EOFError:
                break
        if isinstance(said, Ending):
            return said
        return Ending("killed", signal=-self.process.exitcode)


def run(operation: str, folder: Path, shared: Path, fault: Fault | None = None) -> Ending:
    """One operation to its end."""
    return Child(operation, folder, shared, fault).wait()


def run_killed(operation: str, folder: Path, shared: Path, delay: float) -> bool:
    """Begin an operation and kill it after so many seconds; whether it was still at work then."""
    child = Child(operation, folder, shared)
    child.wait_ready()
    time.sleep(delay)
    child.kill()
    return child.wait().kind == "killed"


def _context():
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.faults.preload"])
    return context


def _main(operation: str, folder: str, shared: str, fault: Fault, pipe) -> None:
    os.setsid()  # a group of its own, with all that it starts
    silence = os.open(os.devnull, os.O_RDWR)
    for stream in (1, 2):
        os.dup2(silence, stream)
    os.environ |= {"MLIC_HOME": str(Path(folder, "home")), "MLIC_PROGRESS": "silent", "OMP_NUM_THREADS": "1"}
    os.environ["TMPDIR"], tempfile.tempdir = str(Path(shared).parent), None  # what a kill leaves goes with the lab
    import torch

    from tests.faults.operations import OPERATIONS

    torch.set_num_threads(1)
    changes = _install(fault, folder)
    pipe.send("ready")
    begun = time.monotonic()
    try:
        OPERATIONS[operation].act(Path(folder), Path(shared))
        kind, message = "done", ""
    except BaseException as error:
        kind, message = type(error).__name__, str(error)
    pipe.send(Ending(kind, message, time.monotonic() - begun, changes[0]))


def _install(fault: Fault, folder: str) -> list[int]:
    """Arrange for the fault; returns the count of changes, which grows."""
    changes = [0]

    def change(event: str) -> None:
        changes[0] += 1
        if fault.kind == "kill" and changes[0] == fault.at:
            os.kill(os.getpid(), signal.SIGKILL)
        if fault.kind == "full disk" and changes[0] >= fault.at and event in MAKING:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), folder)
        if fault.kind == "read-only" and event != "fsync":
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), folder)

    def audit(event: str, arguments: tuple) -> None:
        if event in CHANGING and str(arguments[0]).startswith(folder) and _is_change(event, arguments):
            change(event)

    sys.addaudithook(audit)
    sync = os.fsync
    os.fsync = lambda file: (change("fsync"), sync(file))[1]
    if fault.kind == "file limit":
        resource.setrlimit(resource.RLIMIT_FSIZE, (fault.at, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    if fault.kind == "clock":
        clock = time.time
        time.time = lambda: clock() + fault.at
    return changes


def _is_change(event: str, arguments: tuple) -> bool:
    return event != "open" or bool(arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
