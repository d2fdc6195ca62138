"""Files that are never seen half-written, and locks that leave nothing behind."""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from mlic_core import progress

WAITING = ": waiting for it"

def write_atomically(path: Path, content: bytes | str) -> None:
    """Replace `path` in one step: a reader sees the old content or the new, also after a power cut."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.tmp")  # one name: what a killed writer left is overwritten
    try:
        with open(partial, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:  # such as a full disk
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Any) -> None:
    """Write JSON that diffs well: keys in the order given, one a line. Raises ValueError for NaN."""
    write_atomically(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


@contextmanager
def exclusive(path: Path, held: str = "") -> Iterator[None]:
    """Hold the lock file `path`. If another process has it, wait, and say so after the words `held`, if there are any.

    The file is gone afterwards. A killed process leaves the file but not the lock.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=1)
    except Timeout:
        if held:
            progress.say(f"{held}{WAITING}")
        lock.acquire()
    try:
        yield
    finally:
        path.unlink(missing_ok=True)  # while held: filelock makes a waiter on an unlinked file start over
        lock.release()


def with_checksum(content: Mapping[str, Any]) -> dict[str, Any]:
    """What is to become JSON and, under a last key `sha256`, the checksum of it."""
    return {**content, "sha256": _checksum(content)}


def without_checksum(content: Mapping[str, Any]) -> dict[str, Any]:
    """What `with_checksum` was given; early content, which has no checksum, as it is.

    Raises ValueError where the content is not the one that the checksum was made of.
    """
    rest = {key: value for key, value in content.items() if key != "sha256"}
    if content.get("sha256", own := _checksum(rest)) != own:
        raise ValueError("it was changed after it was written")
    return rest


def _checksum(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def sha256(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    status = path.stat()
    return _sha256(path, status.st_mtime_ns, status.st_size)


@lru_cache
def _sha256(path: Path, modified: int, size: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
