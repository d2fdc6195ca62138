"""`mlic data prepare` from a server of our own, killed and cheated; `mlic data check` of what is there."""

import errno
import hashlib
import io
import json
import random
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from mlic_core.data import archives, csvfile, download, load_dataset
from mlic_core.data.picto import PictoSpec, prepare
from mlic_core.data.sources import PUBLISHED, SOURCES, Archive, Figures, Source
from mlic_core.data.voc import LABELS
from mlic_core.study import prepare as prepare_module
from tests.local_server import running

PACKAGE = Path(download.__file__).parents[1]
REAL = Path(__file__).resolve().parents[2] / "shared" / "real"
needs_real_images = pytest.mark.skipif(not REAL.is_dir(), reason="the real images are not beside the repository")
PARTS = ("trainval.tar", "test.tar")


@pytest.fixture(scope="module")
def picto(tmp_path_factory):
    return prepare(tmp_path_factory.mktemp("data") / "picto", PictoSpec(train=6, val=4, test=3, side=64))


@pytest.fixture
def mlic(tmp_path, monkeypatch, call_mlic):
    """Calls `mlic` in an empty folder and returns click's result."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return call_mlic


def tree(folder):
    """Every file below a folder with its content, and every empty folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
        if path.is_file() or not any(path.iterdir())
    }


def pack(files):
    """A tar archive as bytes."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, body in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(body)
            archive.addfile(info, io.BytesIO(body))
    return buffer.getvalue()


@pytest.fixture
def published(picto, monkeypatch):
    """A server with the archives of "voc2007", which are PictoVOC's train and val, and test; and what they hold."""
    monkeypatch.setattr(download, "PAUSE", 0)
    devkit = {f"VOCdevkit/VOC2007/{name}": body for name, body in tree(picto / "VOCdevkit/VOC2012").items()}
    test = {name: body for name, body in devkit.items() if "test" in name.rsplit("/", 1)[1]}
    rest = {name: body for name, body in devkit.items() if name not in test}
    with running() as server:
        for part, files in zip(PARTS, (rest, test), strict=True):
            server.files[part] = pack(files | {"VOCdevkit/readme.txt": b"not of the set"})
        publish(server, monkeypatch)
        server.devkit = devkit
        yield server


def publish(server, monkeypatch):
    """Take what the server has for the published archives."""
    parts = [Archive(server.url(name), len(body), hashlib.sha256(body).hexdigest())
             for name, body in server.files.items()]  # fmt: skip
    monkeypatch.setitem(SOURCES, "voc2007", Source(tuple(parts), ("VOCdevkit/VOC2007",)))


def offline(server, folder):
    """A folder with the archives."""
    folder.mkdir()
    for name, body in server.files.items():
        (folder / name).write_bytes(body)
    return folder


def is_one_sentence(text):
    return re.fullmatch(r"mlic: [^\n]+\n", text) and "Traceback" not in text


def unpacked(root):
    return {name: body for name, body in tree(root).items() if name.startswith("VOCdevkit")}


# prepare


def test_prepare_downloads_verifies_and_unpacks_what_check_then_reads(mlic, published):
    result = mlic("data", "prepare", "voc2007", "--root", "to/voc")
    assert result.exit_code == 0, result.stderr
    size = sum(map(len, published.files.values()))
    lines = result.stdout.splitlines()
    assert lines[0].startswith(f"voc2007: {size / 1e6:.1f} MB to download, {2 * size / 1e6:.1f} MB of disk needed, ")
    assert "mlic data check voc2007 --root to/voc" in lines[1] and lines[2] == "to/voc/downloads is no longer needed"
    assert unpacked(Path("to/voc")) == published.devkit
    assert sorted(path.name for path in Path("to/voc").iterdir()) == ["VOCdevkit", "downloads", "prepared-voc2007.json"]
    stamp = json.loads(Path("to/voc/prepared-voc2007.json").read_text())
    assert [part["sha256"] for part in stamp["archives"]] == [
        hashlib.sha256(body).hexdigest() for body in published.files.values()
    ]
    check = mlic("data", "check", "voc2007", "--root", "to/voc", "--split", "trainval", "--split", "test")
    assert "a part of the published set: 10 of 5,011 images" in check.stdout
    assert "a part of the published set: 3 of 4,952 images" in check.stdout and check.exit_code == 0


def test_prepare_again_does_nothing(mlic, published):
    mlic("data", "prepare", "voc2007", "--root", "to")
    shutil.rmtree("to/downloads")
    before = {path: path.stat().st_mtime_ns for path in Path("to").rglob("*")}
    result = mlic("data", "prepare", "voc2007", "--root", "to")
    assert result.exit_code == 0 and len(published.asked) == 2 and "needed" not in result.stdout
    assert {path: path.stat().st_mtime_ns for path in Path("to").rglob("*")} == before


def test_prepare_replaces_what_has_been_removed(mlic, published):
    mlic("data", "prepare", "voc2007", "--root", "to")
    shutil.rmtree("to/VOCdevkit")
    assert mlic("data", "prepare", "voc2007", "--root", "to").exit_code == 0
    assert unpacked(Path("to")) == published.devkit and len(published.asked) == 2


@pytest.mark.parametrize("moved", [False, True])
def test_prepare_replaces_what_a_killed_call_has_left(mlic, published, moved):
    for folder in ("to/.voc2007.partial/VOCdevkit/VOC2007", "to/VOCdevkit/VOC2007")[: 1 + moved]:
        Path(folder).mkdir(parents=True)
        Path(folder, "rest.txt").write_text("rest")
    Path("to/.voc2007.lock").touch()
    if moved:
        Path("to/prepared-voc2007.json").write_text('{"name": "voc2007", "complete": false}')
    assert mlic("data", "prepare", "voc2007", "--root", "to").exit_code == 0
    assert unpacked(Path("to")) == published.devkit
    assert sorted(path.name for path in Path("to").iterdir()) == ["VOCdevkit", "downloads", "prepared-voc2007.json"]


def test_a_call_that_ends_while_files_are_moved_into_place_is_taken_up(mlic, published, monkeypatch):
    move = prepare_module._move
    monkeypatch.setattr(prepare_module, "_move", lambda *paths: move(*paths) or interrupt())
    assert mlic("data", "prepare", "voc2007", "--root", "to").exit_code == 1
    monkeypatch.setattr(prepare_module, "_move", move)
    assert mlic("data", "prepare", "voc2007", "--root", "to").exit_code == 0
    assert unpacked(Path("to")) == published.devkit


def interrupt():
    raise KeyboardInterrupt


def test_prepare_works_offline_from_archives_at_hand(mlic, published):
    given = offline(published, Path("given"))
    before = tree(given)
    result = mlic("data", "prepare", "voc2007", "--root", "to", "--from", "given")
    assert result.exit_code == 0 and "nothing to download" in result.stdout and "no longer" not in result.stdout
    assert unpacked(Path("to")) == published.devkit
    assert published.asked == [] and tree(given) == before and not Path("to/downloads").exists()


def test_prepare_without_a_root_goes_to_the_cache(mlic, published, monkeypatch):
    Path("home/data").mkdir(parents=True)
    Path("home/data/published_results.csv").write_text("")
    monkeypatch.setenv("MLIC_HOME", "home")
    assert mlic("data", "prepare", "voc2007").exit_code == 0
    assert unpacked(Path("home/data/cache/voc2007")) == published.devkit


def test_a_missing_archive_is_named_with_where_to_get_it(mlic, published):
    (offline(published, Path("given")) / PARTS[1]).unlink()
    result = mlic("data", "prepare", "voc2007", "--root", "to", "--from", "given")
    assert result.exit_code == 2 and is_one_sentence(result.stderr)
    assert f"--from given lacks 1 of 2 archives: download {published.url(PARTS[1])}" in result.stderr
    assert not Path("to").exists()


def tampered(body):
    return body[:-2000] + bytes([body[-2000] ^ 1]) + body[-1999:]


@pytest.mark.parametrize("options", [[], ["--from", "given"]])
@pytest.mark.parametrize("damage", [tampered, lambda body: body[:-512], lambda body: body + bytes(512)])
def test_a_tampered_archive_is_refused_without_leaving_anything(mlic, published, options, damage):
    published.files[PARTS[0]] = damage(published.files[PARTS[0]])
    offline(published, Path("given"))
    result = mlic("data", "prepare", "voc2007", "--root", "to", *options)
    assert result.exit_code == 2 and is_one_sentence(result.stderr) and "published" in result.stderr
    assert sorted(path.name for path in Path().iterdir()) == ["given"]


def test_an_unsafe_archive_is_refused_without_leaving_anything(mlic, published, monkeypatch):
    published.files[PARTS[1]] = pack({"VOCdevkit/VOC2007/a.txt": b"a", "../../outside.txt": b"x"})
    publish(published, monkeypatch)
    offline(published, Path("given"))
    before = tree(Path(".."))
    result = mlic("data", "prepare", "voc2007", "--root", "to", "--from", "given")
    assert result.exit_code == 2 and is_one_sentence(result.stderr) and "outside of its folder" in result.stderr
    assert tree(Path("..")) == before and not Path("to").exists()


def test_archives_of_something_else_are_refused(mlic, published, monkeypatch):
    for part in PARTS:
        published.files[part] = pack({"readme.txt": b"hello"})
    publish(published, monkeypatch)
    result = mlic("data", "prepare", "voc2007", "--root", "to", "--from", offline(published, Path("given")))
    assert result.exit_code == 2 and "the archives of voc2007 hold no VOCdevkit/VOC2007" in result.stderr
    assert not Path("to").exists()


def test_a_disk_that_is_too_small_is_refused_before_anything_is_asked_for(mlic, published, monkeypatch):
    size, usage = sum(map(len, published.files.values())), shutil.disk_usage(".")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=2 * size - 1))
    result = mlic("data", "prepare", "voc2007", "--root", "to")
    assert result.exit_code == 2 and is_one_sentence(result.stderr) and "voc2007 needs about" in result.stderr
    assert published.asked == [] and list(Path().iterdir()) == []
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=2 * size))
    assert mlic("data", "prepare", "voc2007", "--root", "to").exit_code == 0


def test_what_is_there_of_an_archive_needs_no_more_disk(mlic, published, monkeypatch):
    published.cuts = [5000, 0, 0, 0, 0, 0]
    mlic("data", "prepare", "voc2007", "--root", "to")
    size, usage = sum(map(len, published.files.values())), shutil.disk_usage(".")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=2 * size - 5000))
    assert mlic("data", "prepare", "voc2007", "--root", "to").exit_code == 0


def test_a_disk_that_fills_up_while_unpacking_leaves_nothing(mlic, published, monkeypatch):
    copy, calls = archives.shutil.copyfileobj, []

    def full(*arguments):
        calls.append(arguments)
        if len(calls) == 10:
            raise OSError(errno.ENOSPC, "No space left on device")
        return copy(*arguments)

    monkeypatch.setattr(archives.shutil, "copyfileobj", full)
    result = mlic("data", "prepare", "voc2007", "--root", "to", "--from", offline(published, Path("given")))
    assert result.exit_code == 2 and is_one_sentence(result.stderr) and "No space left on device" in result.stderr
    assert not Path("to").exists()


def test_an_empty_folder_of_the_users_stays(mlic, published):
    Path("to").mkdir()
    assert mlic("data", "prepare", "voc2007", "--root", "to", "--from", "nowhere").exit_code == 2
    assert list(Path("to").iterdir()) == []


def test_a_broken_connection_keeps_the_part_and_exits_with_one(mlic, published):
    published.cuts = [5000, 0, 0, 0, 0, 0]
    result = mlic("data", "prepare", "voc2007", "--root", "to")
    assert result.exit_code == 1 and is_one_sentence(result.stderr) and "run the command again" in result.stderr
    assert list(tree(Path("to"))) == ["downloads/trainval.tar.part"]
    assert mlic("data", "prepare", "voc2007", "--root", "to").exit_code == 0
    assert published.asked[-2] == "bytes=5000-" and unpacked(Path("to")) == published.devkit


def test_files_that_came_from_elsewhere_are_left_alone(mlic, published):
    Path("to/VOCdevkit/VOC2007").mkdir(parents=True)
    Path("to/VOCdevkit/VOC2007/mine.txt").write_text("mine")
    result = mlic("data", "prepare", "voc2007", "--root", "to")
    assert result.exit_code == 2 and "VOC2007 is there already, and not from this command" in result.stderr
    assert tree(Path("to")) == {"VOCdevkit/VOC2007/mine.txt": b"mine"} and published.asked == []


@pytest.mark.parametrize("text", ["", "[]", "{}", "{"])
def test_a_damaged_note_of_an_earlier_call_is_named(mlic, published, text):
    Path("to").mkdir()
    Path("to/prepared-voc2007.json").write_text(text)
    result = mlic("data", "prepare", "voc2007", "--root", "to")
    assert result.exit_code == 2 and "prepared-voc2007.json is damaged: remove it" in result.stderr


def test_a_root_that_is_a_file_is_named(mlic, published):
    Path("to").write_text("mine")
    result = mlic("data", "prepare", "voc2007", "--root", "to")
    assert result.exit_code == 2 and is_one_sentence(result.stderr) and "cannot write in to" in result.stderr


@pytest.mark.parametrize(("arguments", "message"), [
    (["nuswide81"], "return their Agreement and Disclaimer Form"),
    (["nuswide1000"], "mlic data check nuswide1000 --root FOLDER"),
    (["voc2021"], "nothing to prepare but picto-voc, picto-coco, voc2007, .*; did you mean 'voc20"),
    (["csv:labels.csv"], "give the files' folder as data.root"),
    (["voc2007", "--train", "5"], "train: only picto-voc and picto-coco are drawn"),
    (["voc2007", "--set", "noise=8"], "noise: only picto-voc"),
    (["picto-voc", "--from", "given"], "--from: picto-voc is drawn here"),
])  # fmt: skip
def test_what_cannot_be_prepared_is_said_in_a_sentence(mlic, arguments, message):
    result = mlic("data", "prepare", *arguments)
    assert result.exit_code == 2 and is_one_sentence(result.stderr) and re.search(message, result.stderr)
    assert list(Path().iterdir()) == []


# Without torch, whose import takes seconds: the package around the modules is left empty.
DRIVER = """
import json, os, signal, sys, types

package = types.ModuleType("mlic_core.data")
package.__path__ = [sys.argv[1] + "/data"]
sys.modules["mlic_core.data"] = package
from mlic_core.data import download, sources
from mlic_core.study.prepare import prepare_published

download.CHUNK = 4096
task = json.loads(sys.argv[2])
parts = tuple(sources.Archive(*part) for part in task["archives"])
sources.SOURCES["voc2007"] = sources.Source(parts, tuple(task["contents"]))
EVENTS = ("open", "os.rename", "os.remove", "os.rmdir", "os.mkdir")


def prepare(root, last):
    steps = 0

    def step():
        nonlocal steps
        steps += 1
        if steps == last:
            os.kill(os.getpid(), signal.SIGKILL)

    chunks = download._chunks
    download._chunks = lambda response: (step() or chunk for chunk in chunks(response))
    sys.addaudithook(lambda event, args: step() if event in EVENTS and root in str(args[0]) else None)
    prepare_published("voc2007", root, "", lambda line: None)
    os.write(1, f"{steps} ".encode())


for line in sys.stdin:
    root, last = json.loads(line)
    if (child := os.fork()) == 0:
        prepare(root, last)
        os._exit(0)
    print(os.waitpid(child, 0)[1], flush=True)
"""


def test_a_prepare_that_is_killed_at_ten_random_moments_ends_in_the_right_data_when_run_again(published, tmp_path):
    """Killed (SIGKILL) before a piece of a download, or before a file or folder is opened, made, renamed or removed."""
    task = {"archives": SOURCES["voc2007"].archives, "contents": SOURCES["voc2007"].contents}
    command = [sys.executable, "-c", DRIVER, str(PACKAGE), json.dumps(task)]
    driver = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=PACKAGE.parent
    )

    def run(root, last=0):
        driver.stdin.write(json.dumps([str(root), last]) + "\n")
        driver.stdin.flush()
        return [int(word) for word in driver.stdout.readline().split()]

    with driver:
        steps, status = run(tmp_path / "whole")
        whole = tree(tmp_path / "whole")
        moments = random.Random(3).sample(range(1, steps + 1), 10)
        left = [run_killed(run, tmp_path / f"killed{last}", last, whole) for last in moments]
    assert status == 0
    assert {name for name in whole if name.startswith("VOC")} == set(published.devkit)
    assert any("downloads/" in "".join(names) for names in left) and any(".partial" in "".join(names) for names in left)


def run_killed(run, root, last, whole):
    """Kill one call, and let the next one end; what the first had left."""
    assert run(root, last) == [9]  # SIGKILL
    left = list(tree(root)) if root.exists() else []
    assert not [name for name in left if name.startswith("VOCdevkit")] or "prepared-voc2007.json" in left
    assert run(root)[-1] == 0
    assert tree(root) == whole
    return left


# check


def check(mlic, *arguments):
    result = mlic("data", "check", *arguments)
    return result.exit_code, result.stdout.splitlines(), result.stderr


@pytest.fixture
def small(picto, monkeypatch):
    """Publishes PictoVOC's own numbers, as an independent parse of its annotations has them, as those of voc2012."""
    ids, clear, difficult = parse_annotations(picto, "trainval")
    monkeypatch.setitem(PUBLISHED, "voc2012", {"trainval": Figures(len(ids), clear)})
    return clear, difficult


def parse_annotations(root, split):
    """Ids of a split, and how many objects are not difficult, and difficult, in them."""
    folder = root / "VOCdevkit/VOC2012"
    ids = (folder / f"ImageSets/Main/{split}.txt").read_text().split()
    flags = [node.findtext("difficult") for name in ids
             for node in ElementTree.parse(folder / f"Annotations/{name}.xml").iter("object")]  # fmt: skip
    return ids, flags.count("0"), flags.count("1")


def test_check_confirms_the_published_size(mlic, picto, small):
    code, lines, _ = check(mlic, "voc2012", "--root", picto)
    clear, difficult = small
    assert code == 0 and difficult > 0
    assert re.fullmatch(
        rf"trainval: 10 images, .* labels an image, \d+ ignored entries, {clear + difficult} boxes, "
        rf"{difficult} of them difficult", lines[0],
    )  # fmt: skip
    assert lines[2] == f"  as published: 10 images and {clear} objects that are not difficult"


@pytest.mark.parametrize(("images", "more", "message", "expected"), [
    (11, 0, "a part of the published set: 10 of 11 images", 0),
    (9, 0, "not the published set, which has 9 images", 1),
    (10, 1, r"not the published set, which has 10 images and \d+ objects that are not difficult, here \d+", 1),
])  # fmt: skip
def test_check_tells_a_part_from_another_set(mlic, picto, small, monkeypatch, images, more, message, expected):
    monkeypatch.setitem(PUBLISHED, "voc2012", {"trainval": Figures(images, small[0] + more)})
    code, lines, _ = check(mlic, "voc2012", "--root", picto)
    assert code == expected and re.fullmatch(f"  {message}", lines[2])


def test_check_without_annotations_compares_the_images_alone(mlic, picto, small, tmp_path):
    shutil.copytree(picto, tmp_path / "voc")
    shutil.rmtree(tmp_path / "voc/VOCdevkit/VOC2012/Annotations")
    code, lines, _ = check(mlic, "voc2012", "--root", tmp_path / "voc")
    assert code == 0 and lines[0].endswith("no boxes") and lines[2] == "  as published: 10 images"


def test_check_shows_the_digest_of_labels_and_ids(mlic, picto):
    _, lines, _ = check(mlic, "picto-voc", "--root", picto, "--split", "val")
    dataset = load_dataset("picto-voc", "val", root=picto, size=16)
    text = json.dumps([list(dataset.labels), list(dataset.ids)]).encode()
    assert lines[1] == f"  labels and ids {hashlib.sha256(text + dataset.targets.tobytes()).hexdigest()[:12]}"
    assert len(lines) == 2


def test_check_names_every_image_that_cannot_be_decoded_once(mlic, picto, tmp_path):
    shutil.copytree(picto, tmp_path / "voc")
    images = tmp_path / "voc/VOCdevkit/VOC2012/JPEGImages"
    for name in ("train_000001", "val_000002"):
        (images / f"{name}.jpg").write_bytes((images / f"{name}.jpg").read_bytes()[:300])
    code, lines, errors = check(mlic, "voc2012", "--root", tmp_path / "voc")  # train, val, trainval
    assert code == 1 and [line.split(":")[0] for line in lines[::3]] == ["train", "val", "trainval"]
    assert [re.search(r"(\w+)\.jpg", line)[1] for line in errors.splitlines()] == ["train_000001", "val_000002"]


@pytest.mark.parametrize(("image", "sample", "expected"), [
    (2, 0, 0), (2, 1, 0), (2, 2, 0), (2, 3, 1), (2, 6, 1), (2, 99, 1), (5, 2, 1), (0, 1, 1), (4, 3, 0),
])  # fmt: skip
def test_check_decodes_a_sample_at_even_distances(mlic, picto, tmp_path, image, sample, expected):
    shutil.copytree(picto, tmp_path / "voc")
    (tmp_path / f"voc/VOCdevkit/VOC2012/JPEGImages/train_{image:06d}.jpg").write_bytes(b"")
    code, *_ = check(mlic, "picto-voc", "--root", tmp_path / "voc", "--split", "train", "--sample", sample)
    assert code == expected  # of six images 1 is 0; 2 are 0 and 5; 3 are 0, 2 and 5


def test_check_reads_the_splits_of_a_csv_file(mlic):
    Image.new("RGB", (8, 8)).save("a.png")
    Image.new("RGB", (8, 8)).save("b.png")
    Path("mine.csv").write_text("image,cat,dog,split\na.png,1,-1,val\nb.png,1,1,extra\n")
    code, lines, _ = check(mlic, "csv:mine.csv")
    assert code == 0 and lines[::2] == [
        "val: 1 images, 1.00 labels an image, 1 ignored entries, no boxes",
        "extra: 1 images, 2.00 labels an image, 0 ignored entries, no boxes",
    ]
    assert csvfile.splits(Path("mine.csv")) == ("val", "extra")
    assert check(mlic, "csv:nowhere.csv")[0] == 2


# Independent parses


def test_the_class_files_of_a_devkit_say_what_its_annotations_say(picto):
    """Targets from the XML: present where an object is not difficult, ignored where all of a class are."""
    dataset = load_dataset("picto-voc", "trainval", root=picto, size=16)
    for name, row in zip(dataset.ids, dataset.targets, strict=True):
        found = {}
        for node in ElementTree.parse(picto / f"VOCdevkit/VOC2012/Annotations/{name}.xml").iter("object"):
            found.setdefault(node.findtext("name"), []).append(node.findtext("difficult") == "1")
        assert row.tolist() == [(-1 if all(found[label]) else 1) if label in found else 0 for label in LABELS]


@needs_real_images
def test_targets_of_the_real_devkit_are_those_of_a_plain_parse():
    dataset = load_dataset("voc2012", "trainval", root=REAL / "VOCdevkit", size=16)
    for column, label in enumerate(LABELS):
        path = REAL / f"VOCdevkit/VOC2012/ImageSets/Main/{label}_trainval.txt"
        table = np.loadtxt(path, dtype=str)
        flags = dict(zip(table[:, 0].tolist(), table[:, 1].astype(int).tolist(), strict=True))
        expected = [{1: 1, -1: 0, 0: -1}[flags[name]] for name in dataset.ids]
        np.testing.assert_array_equal(dataset.targets[:, column], expected)


@needs_real_images
def test_a_part_of_the_real_voc_is_called_so(mlic):
    code, lines, _ = check(mlic, "voc2012", "--root", REAL / "VOCdevkit", "--sample", 3)
    assert code == 0 and lines[8].startswith("trainval: 2592 images, 1.32 labels an image, 192 ignored entries, no")
    assert lines[10] == "  a part of the published set: 2,592 of 11,540 images"
    assert [line.split(":")[0] for line in lines[::4]] == ["train", "val", "trainval"]
    assert [lines[2], lines[6]] == [f"  the images of data/splits/photos/{split}.txt" for split in ("train", "val")]


@needs_real_images
def test_targets_of_the_real_coco_are_those_of_a_plain_parse(mlic):
    content = json.loads((REAL / "COCO_Tiny/annotations/instances_train2017.json").read_text())
    names = [entry["name"] for entry in sorted(content["categories"], key=lambda entry: entry["id"])]
    assert len(names) == 80
    files = {entry["id"]: Path(entry["file_name"]).stem for entry in content["images"]}
    category = {entry["id"]: entry["name"] for entry in content["categories"]}
    pairs = {(files[entry["image_id"]], category[entry["category_id"]]) for entry in content["annotations"]}
    dataset = load_dataset("coco2017", "train", root=REAL / "COCO_Tiny", size=16)
    assert list(dataset.labels) == names
    found = {(dataset.ids[row], names[column]) for row, column in zip(*np.nonzero(dataset.targets), strict=True)}
    assert found == pairs and dataset.targets.min() == 0 and dataset.targets.max() == 1
    code, lines, _ = check(mlic, "coco2017", "--root", REAL / "COCO_Tiny", "--sample", 2)
    assert code == 0 and lines[2] == "  a part of the published set: 80 of 117,266 images"
