"""Downloads that go on where they broke off, and count only once size and SHA-256 are right."""

import hashlib
import os
import time
from collections.abc import Iterator
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from ssl import SSLError
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from mlic_core.data.sources import Archive
from mlic_core.errors import InputError
from mlic_core.progress import say, track

CHUNK = 2**20  # bytes
ATTEMPTS = 5  # in a row without a byte more
PAUSE = 2.0  # seconds after the first attempt, then twice as long each time
TIMEOUT = 60  # seconds without a byte
NETWORK = (URLError, HTTPException, ConnectionError, TimeoutError, SSLError)


class Interrupted(InputError):
    """The server could not be reached or broke off; what has come is kept for the next time."""


def gigabytes(size: int) -> str:
    """Bytes for reading: "2.0 GB"."""
    return f"{size / 1e9:.1f} GB" if size >= 1e8 else f"{size / 1e6:.1f} MB"


def part_of(archive: Archive, folder: Path) -> Path:
    """Where an archive grows while it is downloaded."""
    return folder / f"{archive.file}.part"


def fetch(archive: Archive, folder: Path) -> Path:
    """The archive's file in `folder`, which exists: downloaded as far as it isn't there, and verified.

    Raises Interrupted where the network fails for good. Raises InputError for a file that is not the published one or
    can't be written, and then removes it.
    """
    path, part = folder / archive.file, part_of(archive, folder)
    try:
        if path.exists():
            os.replace(path, part)  # goes the same way as what was just downloaded
        _complete(archive, part)
        verify(part, archive)
        os.replace(part, path)
    except Interrupted:
        raise
    except InputError as error:
        part.unlink(missing_ok=True)
        raise InputError(f"{error}; it has been removed, so running the command again starts over") from error
    except OSError as error:
        part.unlink(missing_ok=True)
        raise InputError(f"cannot write {path}: {error.strerror}; make room or choose another --root") from error
    return path


def verify(path: Path, archive: Archive) -> None:
    """Raise InputError unless a file has the published size and SHA-256."""
    size = path.stat().st_size
    if size != archive.size:
        raise InputError(f"{path} has {size} bytes, but the published {archive.file} has {archive.size}")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != archive.sha256:
        raise InputError(f"{path} has the SHA-256 {found}, but the published {archive.file} has {archive.sha256}")


def _complete(archive: Archive, part: Path) -> None:
    """Download until the file has the published size."""
    attempts = 0
    while (have := part.stat().st_size if part.exists() else 0) < archive.size:
        try:
            _receive(archive, part, have)
        except NETWORK as error:
            reason, final = _reason(error)
        else:
            reason, final = "it ended too early", False
        now = part.stat().st_size if part.exists() else 0
        if now >= archive.size:
            return
        attempts = 1 if now > have else attempts + 1
        if final or attempts == ATTEMPTS:
            raise Interrupted(
                f"downloading {archive.url} failed: {reason}; {gigabytes(now)} of {gigabytes(archive.size)} are kept, "
                "so run the command again later, or download the archive elsewhere and give its folder with --from"
            )
        say(f"{archive.file}: {reason}; going on in {PAUSE * 2 ** (attempts - 1):g} s")
        time.sleep(PAUSE * 2 ** (attempts - 1))


def _reason(error: Exception) -> tuple[str, bool]:
    """Why an attempt failed, and whether another would fail as well."""
    if isinstance(error, HTTPError):
        final = 400 <= error.code < 500 and error.code not in (408, 416, 429)
        return f"the server answers {error.code} {error.reason}", final
    return str(getattr(error, "reason", "") or error) or type(error).__name__, False


def _receive(archive: Archive, part: Path, have: int) -> None:
    """One attempt, from byte `have` on where the server can do that."""
    request = Request(archive.url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        response = urlopen(request, timeout=TIMEOUT)
    except HTTPError as error:
        if error.code == 416:  # the server's file ends before: only from the start can it be had
            part.unlink(missing_ok=True)
        error.close()
        raise
    with response:
        if response.status != 206:
            have = 0
        elif not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            part.unlink(missing_ok=True)
            raise ConnectionError("the server sent another part than it was asked for")
        if response.length is not None and have + response.length != archive.size:
            raise InputError(f"{archive.url} has {have + response.length} bytes, but the published has {archive.size}")
        with part.open("ab" if have else "wb") as file:
            total = -(-archive.size // CHUNK)
            for chunk in track(_chunks(response), total=total, initial=have // CHUNK, label=f"{archive.file} (MiB)"):
                have += len(chunk)
                if have > archive.size:
                    raise InputError(f"{archive.url} has more than the published {archive.size} bytes")
                file.write(chunk)


def _chunks(response: HTTPResponse) -> Iterator[bytes]:
    while chunk := response.read(CHUNK):
        yield chunk
