"""Downloads from a server that misbehaves, and archives that mean harm."""

import errno
import hashlib
import io
import os
import shutil
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest
from torchvision.datasets.voc import DATASET_YEAR_DICT

from mlic_core.data import archives, download
from mlic_core.data.archives import extract
from mlic_core.data.download import Interrupted, fetch, verify
from mlic_core.data.sources import PUBLISHED, SOURCES, Archive
from mlic_core.errors import InputError
from tests.local_server import running

BODY = bytes(range(256)) * 40  # 10,240 bytes
NAME = "set.tar"


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(download, "PAUSE", 0)
    with running() as server:
        server.files[NAME] = BODY
        yield server


def archive(server, body=BODY):
    return Archive(server.url(NAME), len(body), hashlib.sha256(body).hexdigest())


def names(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


# Downloads


def test_a_file_is_downloaded_once(server, tmp_path):
    path = fetch(archive(server), tmp_path)
    assert path == tmp_path / NAME and path.read_bytes() == BODY
    assert fetch(archive(server), tmp_path) == path
    assert server.asked == [None] and names(tmp_path) == [NAME]


def test_a_download_that_breaks_off_goes_on_where_it_stopped(server, tmp_path):
    server.cuts = [1000, 200, 0, 5000]
    assert fetch(archive(server), tmp_path).read_bytes() == BODY
    assert server.asked == [None, "bytes=1000-", "bytes=1200-", "bytes=1200-", "bytes=6200-"]


def test_the_part_of_an_earlier_call_is_taken_up(server, tmp_path):
    (tmp_path / f"{NAME}.part").write_bytes(BODY[:3000])
    assert fetch(archive(server), tmp_path).read_bytes() == BODY
    assert server.asked == ["bytes=3000-"] and names(tmp_path) == [NAME]


def test_a_whole_part_only_wants_its_name(server, tmp_path):
    (tmp_path / f"{NAME}.part").write_bytes(BODY)
    assert fetch(archive(server), tmp_path).read_bytes() == BODY
    assert server.asked == []


def test_a_server_that_ignores_ranges_starts_over(server, tmp_path):
    server.cuts, server.ranges = [1000], False
    assert fetch(archive(server), tmp_path).read_bytes() == BODY
    assert server.asked == [None, "bytes=1000-"]


def test_a_part_from_another_place_is_not_appended(server, tmp_path):
    server.cuts, server.shift = [1000], 7
    assert fetch(archive(server), tmp_path).read_bytes() == BODY
    assert server.asked == [None, "bytes=1000-", None]


def test_a_range_that_the_server_has_not_starts_over(server, tmp_path):
    server.cuts, server.statuses = [1000], [200, 416]
    assert fetch(archive(server), tmp_path).read_bytes() == BODY
    assert server.asked == [None, "bytes=1000-", None]


def test_any_number_of_breaks_is_borne_while_more_comes(server, tmp_path):
    server.cuts = [100] * 50
    assert fetch(archive(server), tmp_path).read_bytes() == BODY
    assert len(server.asked) == 51


@pytest.mark.parametrize("status", [500, 503, 429, 408])
def test_a_busy_server_is_asked_five_times_ever_more_rarely(server, tmp_path, monkeypatch, status):
    pauses = []
    monkeypatch.setattr(download, "PAUSE", 2.0)
    monkeypatch.setattr(download.time, "sleep", pauses.append)
    server.cuts, server.statuses = [1000], [200] + [status] * 9
    with pytest.raises(Interrupted, match=rf"answers {status}.*; 0\.0 MB of 0\.0 MB are kept.*--from"):
        fetch(archive(server), tmp_path)
    assert pauses == [2, 4, 8, 16]  # before the second to the fifth attempt without a byte more
    assert len(server.asked) == 5
    assert (tmp_path / f"{NAME}.part").read_bytes() == BODY[:1000]


@pytest.mark.parametrize("status", [403, 404])
def test_a_refusal_is_final_and_keeps_what_has_come(server, tmp_path, status):
    (tmp_path / f"{NAME}.part").write_bytes(BODY[:1000])
    server.statuses = [status] * 9
    with pytest.raises(Interrupted, match=f"answers {status}"):
        fetch(archive(server), tmp_path)
    assert len(server.asked) == 1 and names(tmp_path) == [f"{NAME}.part"]


def test_a_server_that_is_gone_is_named(server, tmp_path):
    server.shutdown()
    server.server_close()
    with pytest.raises(Interrupted, match=rf"downloading {server.url(NAME)} failed: .*refused.*--from"):
        fetch(archive(server), tmp_path)
    assert names(tmp_path) == []


def test_tampered_bytes_are_refused_and_removed(server, tmp_path):
    server.files[NAME] = BODY[:-1] + b"x"
    with pytest.raises(InputError, match=r"set\.tar\.part has the SHA-256 .*, but the published .*has been removed"):
        fetch(archive(server), tmp_path)
    assert names(tmp_path) == []
    server.files[NAME] = BODY
    assert fetch(archive(server), tmp_path).read_bytes() == BODY


@pytest.mark.parametrize("body", [BODY + b"x", BODY[:-1]])
def test_an_announced_size_that_is_not_the_published_one_is_refused_before_a_byte_comes(server, tmp_path, body):
    server.files[NAME] = body
    with pytest.raises(InputError, match=f"has {len(body)} bytes, but the published has {len(BODY)}"):
        fetch(archive(server), tmp_path)
    assert names(tmp_path) == []


def test_without_an_announced_size_no_more_than_the_published_one_is_written(server, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "CHUNK", 1024)
    server.files[NAME], server.sized = BODY * 100, False
    written = []
    monkeypatch.setattr(Path, "open", watched(Path.open, written))
    with pytest.raises(InputError, match=f"has more than the published {len(BODY)} bytes"):
        fetch(archive(server), tmp_path)
    assert sum(written) == len(BODY) and names(tmp_path) == []


def watched(real, written, error=None):
    """`Path.open` with a list of how much is written to a .part file, or with an error from it."""

    def opened(self, mode="r", *arguments, **options):
        file = real(self, mode, *arguments, **options)
        if self.suffix == ".part" and "b" in mode and "r" not in mode:
            write = file.write
            file = Spy(file, lambda data: written.append(len(data)) or write(data))
            file.error = error
        return file

    return opened


class Spy:
    def __init__(self, file, write):
        self.file, self.calls, self.error = file, write, None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()

    def write(self, data):
        if self.error:
            raise self.error
        return self.calls(data)


def test_a_server_that_sends_too_little_without_saying_so_is_not_believed(server, tmp_path):
    server.files[NAME], server.sized = BODY[:-1], False
    with pytest.raises(Interrupted, match="it ended too early"):
        fetch(archive(server), tmp_path)


def test_a_full_disk_is_refused_and_leaves_nothing(server, tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "open", watched(Path.open, [], OSError(errno.ENOSPC, "No space left on device")))
    with pytest.raises(InputError, match=r"cannot write .*set\.tar: No space left on device; make room") as caught:
        fetch(archive(server), tmp_path)
    assert not isinstance(caught.value, Interrupted) and names(tmp_path) == []


@pytest.mark.parametrize("body", [BODY + b"x", BODY[:-1] + b"x"])
@pytest.mark.parametrize("name", [NAME, f"{NAME}.part"])
def test_a_file_that_has_decayed_is_refused_and_removed(server, tmp_path, name, body):
    (tmp_path / name).write_bytes(body)
    with pytest.raises(InputError, match=r"but the published.*has been removed"):
        fetch(archive(server), tmp_path)
    assert names(tmp_path) == [] and server.asked == []


def test_a_file_that_was_cut_is_completed(server, tmp_path):
    (tmp_path / NAME).write_bytes(BODY[:500])
    assert fetch(archive(server), tmp_path).read_bytes() == BODY
    assert server.asked == ["bytes=500-"]


@pytest.mark.parametrize(
    ("body", "message"),
    [(BODY[1:], "has 10239 bytes"), (BODY + b"x", "has 10241 bytes"), (BODY[::-1], "has the SHA-256")],
)
def test_a_file_at_hand_is_verified_and_left_alone(server, tmp_path, body, message):
    (tmp_path / NAME).write_bytes(body)
    with pytest.raises(InputError, match=message):
        verify(tmp_path / NAME, archive(server))
    assert (tmp_path / NAME).read_bytes() == body


# Archives


def tar(path, members, kind=tarfile.REGTYPE, mode="w"):
    with tarfile.open(path, mode) as file:
        for name, body in members.items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname, info.size = kind, "/etc/passwd", len(body)
            file.addfile(info, io.BytesIO(body))
    return path


def zipped(path, members, mode=0, how=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", how) as file:
        for name, body in members.items():
            info = zipfile.ZipInfo("x")
            info.filename, info.compress_type = name, how
            info.external_attr = mode << 16
            file.writestr(info, body)
    return path


GOOD = {"set/a.txt": b"a" * 5000, "set/below/b.txt": b"b", "settle.txt": b"c", "other/set/d.txt": b"d"}


@pytest.mark.parametrize("make", [tar, zipped])
def test_only_what_is_wanted_is_unpacked(tmp_path, make):
    path = make(tmp_path / f"good.{'tar' if make is tar else 'zip'}", GOOD)
    extract(path, tmp_path / "to", ["set", "missing"])
    assert names(tmp_path / "to") == ["set", "set/a.txt", "set/below", "set/below/b.txt"]
    assert (tmp_path / "to/set/a.txt").read_bytes() == GOOD["set/a.txt"]
    extract(path, tmp_path / "file", ["other/set/d.txt"])
    assert names(tmp_path / "file") == ["other", "other/set", "other/set/d.txt"]


def test_folders_may_stand_before_or_without_their_files(tmp_path):
    tar(tmp_path / "f.tar", {"./set/": b"", "./set/empty": b""}, tarfile.DIRTYPE)
    extract(tmp_path / "f.tar", tmp_path / "to", ["set"])
    zipped(tmp_path / "f.zip", {"set/": b"", "set/more/": b""}, stat.S_IFDIR | 0o755)
    extract(tmp_path / "f.zip", tmp_path / "to", ["set"])
    assert names(tmp_path / "to") == ["set", "set/empty", "set/more"]


OUTSIDE = ["../x", "/etc/x", "set/../../x", "set/..", "..\\x", "set\\..\\..\\x", "C:/x", "C:\\x"]


@pytest.mark.parametrize("name", OUTSIDE)
@pytest.mark.parametrize("make", [tar, zipped])
def test_a_member_that_would_land_outside_condemns_the_archive(tmp_path, make, name):
    path = make(tmp_path / f"evil.{'tar' if make is tar else 'zip'}", {"set/a.txt": b"a", name: b"x"})
    with pytest.raises(InputError, match=r"evil\.\w+ holds .* which would land outside of its folder"):
        extract(path, tmp_path / "to", ["set"])
    assert names(tmp_path) == [path.name]


def test_a_zip_member_without_a_name_is_refused(tmp_path):
    """zipfile writes none, so the name is cut out of the list of contents."""
    content = zipped(tmp_path / "f.zip", {"x": b""}).read_bytes()
    central, end = content.index(b"PK\1\2"), content.index(b"PK\5\6")
    listed, ending = bytearray(content[central:end]), bytearray(content[end:])
    listed[28:30], ending[12] = b"\0\0", ending[12] - 1  # lengths: of the name, of the list
    del listed[46]
    (tmp_path / "f.zip").write_bytes(content[:central] + listed + ending)
    with pytest.raises(InputError, match=r"f\.zip holds '', which would land outside of its folder"):
        extract(tmp_path / "f.zip", tmp_path / "to", ["set"])


def test_a_zip_name_with_a_nul_is_refused(tmp_path):
    path = zipped(tmp_path / "evil.zip", {"set/a@.txt": b"a"})
    path.write_bytes(path.read_bytes().replace(b"set/a@.txt", b"set/a\0.txt"))
    with pytest.raises(InputError, match="outside of its folder"):
        extract(path, tmp_path / "to", ["set"])


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_a_tar_with_a_link_or_a_device_is_refused(tmp_path, kind):
    path = tar(tmp_path / "evil.tar", {"elsewhere/link": b""}, kind)
    with pytest.raises(InputError, match=r"holds 'elsewhere/link', which is a link or a device"):
        extract(path, tmp_path / "to", ["set"])
    assert names(tmp_path) == ["evil.tar"]


@pytest.mark.parametrize("mode", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFBLK])
def test_a_zip_with_a_link_or_a_device_is_refused(tmp_path, mode):
    path = zipped(tmp_path / "evil.zip", {"set/link": b"/etc/passwd"}, mode | 0o777)
    with pytest.raises(InputError, match=r"holds 'set/link', which is a link or a device"):
        extract(path, tmp_path / "to", ["set"])
    assert names(tmp_path) == ["evil.zip"]


def test_an_archive_that_holds_far_more_than_its_size_is_refused(tmp_path):
    path = zipped(tmp_path / "bomb.zip", {"elsewhere/zeros": bytes(10**6)}, how=zipfile.ZIP_DEFLATED)
    with pytest.raises(InputError, match="claims to hold 1000000 bytes, more than 20 times its own size"):
        extract(path, tmp_path / "to", ["set"])
    assert names(tmp_path) == ["bomb.zip"]


def test_no_more_than_is_declared_comes_out(tmp_path):
    """A zip that says 10 bytes and holds a million."""
    path = zipped(tmp_path / "liar.zip", {"set/zeros": bytes(10**6)}, how=zipfile.ZIP_DEFLATED)
    path.write_bytes(path.read_bytes().replace((10**6).to_bytes(4, "little"), (10).to_bytes(4, "little")))
    with pytest.raises(InputError, match="is damaged"):
        extract(path, tmp_path / "to", ["set"])
    assert (tmp_path / "to/set/zeros").stat().st_size <= 10


def test_a_compressed_tar_is_refused(tmp_path):
    path = tar(tmp_path / "bomb.tar", {"set/zeros": bytes(10**6)}, mode="w:gz")
    with pytest.raises(InputError, match="is damaged"):
        extract(path, tmp_path / "to", ["set"])


def flip(path):
    body = bytearray(path.read_bytes())
    body[body.index(b"aaaa") + 100] ^= 1
    path.write_bytes(body)


def test_damaged_archives_are_named(tmp_path):
    flip(zipped(tmp_path / "crc.zip", GOOD))
    tar(tmp_path / "cut.tar", {"set/a.txt": b"a" * 5000})
    os.truncate(tmp_path / "cut.tar", 2000)
    (tmp_path / "no.zip").write_bytes(b"PK\x03\x04 and no more")
    (tmp_path / "no.tar").write_bytes(b"<html>404</html>" * 100)
    locked = zipped(tmp_path / "locked.zip", {"set/a.txt": b"a"})
    body = bytearray(locked.read_bytes())
    body[6] |= 1
    body[body.index(b"PK\x01\x02") + 8] |= 1  # the flag for encryption
    locked.write_bytes(body)
    for name in ("crc.zip", "cut.tar", "no.zip", "no.tar", "locked.zip"):
        with pytest.raises(InputError, match=rf"archive .*{name} is damaged: "):
            extract(tmp_path / name, tmp_path / f"to-{name}", ["set"])


def test_a_disk_without_room_is_refused_before_a_byte_is_written(tmp_path, monkeypatch):
    path = tar(tmp_path / "good.tar", GOOD)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=5000))
    with pytest.raises(InputError, match="needs 5001 bytes, but only 5000 are free"):
        extract(path, tmp_path / "to", ["set"])
    assert names(tmp_path) == ["good.tar"]
    extract(path, tmp_path / "to", ["set/a.txt"])  # 5,000 bytes, which is just enough


def test_a_disk_that_fills_up_meanwhile_is_named(tmp_path, monkeypatch):
    path = tar(tmp_path / "good.tar", GOOD)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(archives.shutil, "copyfileobj", full)
    with pytest.raises(InputError, match=r"cannot unpack .*good\.tar in .*: No space left on device"):
        extract(path, tmp_path / "to", ["set"])


# The tables


def test_voc_comes_from_where_torchvision_takes_it():
    theirs = {name: DATASET_YEAR_DICT[name]["url"] for name in ("2007", "2007-test", "2012")}
    ours = [archive.url for name in ("voc2007", "voc2012") for archive in SOURCES[name].archives]
    assert ours == list(theirs.values())


def test_every_archive_has_a_size_and_a_sha_256():
    found = [archive for source in SOURCES.values() for archive in source.archives]
    assert len(found) == len({archive.sha256 for archive in found}) == len({archive.size for archive in found}) == 9
    assert all(len(bytes.fromhex(archive.sha256)) == 32 and archive.size > 10**8 for archive in found)
    assert all(archive.file.endswith((".tar", ".zip")) for archive in found)


def test_the_published_sizes_add_up():
    for name in ("voc2007", "voc2012"):
        train, val, both = (PUBLISHED[name][split] for split in ("train", "val", "trainval"))
        assert (train.images + val.images, train.objects + val.objects) == both
    voc = PUBLISHED["voc2007"]
    assert voc["trainval"].images + voc["test"].images == 9963  # the development kit's own total
    assert voc["trainval"].objects + voc["test"].objects == 24640
    assert len({sum(split.images for split in PUBLISHED[name].values()) for name in ("coco2014", "coco2017")}) == 1
