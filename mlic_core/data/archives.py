"""Archives from outside, unpacked without trust: nothing lands outside of the folder, and nothing but files does."""

import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

from mlic_core.errors import InputError
from mlic_core.progress import track

EXPANSION = 20  # times its own size is the most that an archive may hold
# What the two libraries raise for damaged archives, or such that need what isn't there.
DAMAGE = (tarfile.TarError, zipfile.BadZipFile, zlib.error, struct.error, EOFError, NotImplementedError, RuntimeError,
          ValueError)  # fmt: skip


class Member(NamedTuple):
    """A file in an archive, or a folder, which can't be opened. size: bytes, as declared."""

    name: PurePosixPath
    size: int
    open: Callable[[], IO[bytes]] | None


def extract(path: Path, folder: Path, contents: Collection[str]) -> None:
    """Unpack from a tar or zip archive what is called, or lies below, one of `contents` into the new `folder`.

    The whole archive is looked through first. Raises InputError if it is damaged, if any of its members has an absolute
    path or one with `..` or backslashes, is a link, a device or encrypted, if it claims to hold more than 20 times its
    size, and if the disk has no room; the folder may then hold a part.
    """
    try:
        with _members(path) as members:
            chosen = [member for member in members if _is_wanted(member.name, contents)]
            _check_size(path, folder, sum(member.size for member in members), sum(member.size for member in chosen))
            for member in track(chosen, label=f"unpacking {path.name}"):
                _write(path, member, folder / member.name)
    except InputError:
        raise
    except DAMAGE as error:
        raise InputError(f"archive {path} is damaged: {error}") from error
    except OSError as error:
        raise InputError(f"cannot unpack {path} in {folder.parent}: {error.strerror or error}") from error


@contextmanager
def _members(path: Path) -> Iterator[list[Member]]:
    """Every member of an archive. Raises InputError for one that is neither file nor folder or goes elsewhere."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            yield [_of_zip(path, archive, info) for info in archive.infolist()]
    else:
        with tarfile.open(path, "r:") as archive:  # plain tars only, so that nothing expands
            yield [_of_tar(path, archive, info) for info in archive]


def _of_zip(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Member:
    name, mode = _inside(path, info.orig_filename), info.external_attr >> 16
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise InputError(f"archive {path} holds {info.filename!r}, which is a link or a device")
    return Member(name, info.file_size, None if info.is_dir() else lambda: archive.open(info))


def _of_tar(path: Path, archive: tarfile.TarFile, info: tarfile.TarInfo) -> Member:
    name = _inside(path, info.name)
    if not (info.isreg() or info.isdir()):
        raise InputError(f"archive {path} holds {info.name!r}, which is a link or a device")
    return Member(name, info.size, None if info.isdir() else lambda: archive.extractfile(info))


def _inside(path: Path, name: str) -> PurePosixPath:
    """The name of a member. Raises InputError unless it stays in the folder on every system."""
    parts = name.split("/")
    if not name or name.startswith("/") or ".." in parts or any(sign in name for sign in "\\\0:"):
        raise InputError(f"archive {path} holds {name!r}, which would land outside of its folder")
    return PurePosixPath(name)


def _is_wanted(name: PurePosixPath, contents: Collection[str]) -> bool:
    return any(name.is_relative_to(content) for content in contents)


def _check_size(path: Path, folder: Path, declared: int, needed: int) -> None:
    if declared > EXPANSION * path.stat().st_size:
        raise InputError(f"archive {path} claims to hold {declared} bytes, more than {EXPANSION} times its own size")
    free = shutil.disk_usage(folder.parent).free
    if needed > free:
        raise InputError(f"unpacking {path} needs {needed} bytes, but only {free} are free in {folder.parent}")


def _write(path: Path, member: Member, target: Path) -> None:
    if member.open is None:
        target.mkdir(parents=True, exist_ok=True)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    with member.open() as source, target.open("wb") as file:
        shutil.copyfileobj(source, file, 2**20)
        if file.tell() != member.size:
            raise InputError(f"archive {path} is damaged: {member.name} ends after {file.tell()} bytes")
