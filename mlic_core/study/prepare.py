"""Published data sets on disk: archives downloaded or at hand, verified, unpacked, and moved into place at the end."""

import json
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from mlic_core.data.archives import extract
from mlic_core.data.download import fetch, gigabytes, part_of, verify
from mlic_core.data.sources import SOURCES, Archive, Source
from mlic_core.errors import InputError
from mlic_core.paths import repository_root
from mlic_core.study.files import exclusive, write_json

DOWNLOADS = "downloads"


def prepare_published(name: str, root: str, archives: str, report: Callable[[str], None]) -> Path:
    """The folder of the published set `name`, made unless it is there.

    root: the folder, empty for one in data/cache. archives: folder that has the archives already, empty to download
    them. report: takes what is about to happen, in a sentence.

    A process that is killed leaves what the next one finishes or replaces; an error leaves nothing but, when the
    network failed, the part of an archive that has come. Raises InputError for archives that are missing, not the
    published ones or unsafe, for a disk that is too small, and where the files that it would write are there already.
    """
    source, folder = SOURCES[name], Path(root).expanduser() if root else repository_root() / "data" / "cache" / name
    made = () if folder.exists() else (folder,)
    try:
        with exclusive(folder / f".{name}.lock", f"another process is preparing {name}"):
            stamp = folder / f"prepared-{name}.json"
            if not _is_done(source, folder, stamp):
                _prepare(name, source, folder, stamp, archives, report)
    except OSError as error:
        raise InputError(f"cannot write in {folder}: {error.strerror}; choose another --root") from error
    finally:
        for place in (folder / DOWNLOADS, *made):
            with suppress(OSError):  # unless there is something in it
                place.rmdir()
    return folder


def _is_done(source: Source, folder: Path, stamp: Path) -> bool:
    """Whether an earlier call came to its end. Raises InputError if files lie there that no call has put there."""
    there = [content for content in source.contents if (folder / content).exists()]
    if not stamp.is_file():
        if there:
            raise InputError(
                f"{folder / there[0]} is there already, and not from this command: look at it with `mlic data check`, "
                "or choose another --root"
            )
        return False
    try:
        return json.loads(stamp.read_text(encoding="utf-8"))["complete"] and len(there) == len(source.contents)
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{stamp} is damaged: remove it and what it stands beside, and run again") from error


def _prepare(
    name: str, source: Source, folder: Path, stamp: Path, archives: str, report: Callable[[str], None]
) -> None:
    partial = folder / f".{name}.partial"
    shutil.rmtree(partial, ignore_errors=True)  # of a call that was killed
    given = Path(archives).expanduser() if archives else None
    if given:
        _check_given(source, given)
    _check_disk(name, source, folder, given, report)
    paths = [_given(given / archive.file, archive) if given else _fetched(folder, archive)
             for archive in source.archives]  # fmt: skip
    try:
        partial.mkdir()
        for path in paths:
            extract(path, partial, source.contents)
        for content in source.contents:
            if not (partial / content).exists():
                raise InputError(f"the archives of {name} hold no {content}")
        # From here on, what lies in place is this command's, and a later call may replace it.
        origin = [archive._asdict() for archive in source.archives]
        write_json(stamp, {"name": name, "complete": False, "archives": origin})
        for content in source.contents:
            _move(partial / content, folder / content)
        write_json(stamp, {"name": name, "complete": True, "archives": origin})
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _check_given(source: Source, given: Path) -> None:
    missing = [archive for archive in source.archives if not (given / archive.file).is_file()]
    if missing:
        urls = ", ".join(archive.url for archive in missing)
        raise InputError(f"--from {given} lacks {len(missing)} of {len(source.archives)} archives: download {urls}")


def _given(path: Path, archive: Archive) -> Path:
    verify(path, archive)
    return path


def _fetched(folder: Path, archive: Archive) -> Path:
    (folder / DOWNLOADS).mkdir(exist_ok=True)
    return fetch(archive, folder / DOWNLOADS)


def _check_disk(name: str, source: Source, folder: Path, given: Path | None, report: Callable[[str], None]) -> None:
    """Photographs don't shrink in an archive, so what is unpacked takes about as much as the archives again."""
    whole = sum(archive.size for archive in source.archives)
    missing = 0 if given else whole - sum(_at_hand(folder / DOWNLOADS, archive) for archive in source.archives)
    needed, free = missing + whole, shutil.disk_usage(folder).free
    load = gigabytes(missing) if missing else "nothing"
    report(f"{name}: {load} to download, {gigabytes(needed)} of disk needed, {gigabytes(free)} free in {folder}")
    if needed > free:
        raise InputError(f"{name} needs about {gigabytes(needed)} in {folder}, where only {gigabytes(free)} are free")


def _at_hand(downloads: Path, archive: Archive) -> int:
    """Bytes of an archive that need no download."""
    sizes = [path.stat().st_size for path in (downloads / archive.file, part_of(archive, downloads)) if path.exists()]
    return min(sum(sizes), archive.size)


def _move(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.is_dir() and not target.is_symlink():
        shutil.rmtree(target)
    else:
        target.unlink(missing_ok=True)
    source.replace(target)
