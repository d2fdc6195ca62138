"""PictoVOC: deterministic, in the devkit's layout, with boxes that fit what is drawn."""

import hashlib
import platform
import re
import sys
import zlib

import numpy as np
import pytest
from PIL import Image

from mlic_core.data import glyphs, load_dataset, picto, picto_coco, scenes
from mlic_core.errors import InputError

SMALL = picto.PictoSpec(train=6, val=3, test=4, side=96)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    return picto.prepare(tmp_path_factory.mktemp("picto") / "set", SMALL)


def files_digest(root, pattern):
    digest = hashlib.sha256()
    for path in sorted(root.rglob(pattern)):
        digest.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def test_labels_and_boxes_have_a_known_digest(prepared):
    assert files_digest(prepared, "*.txt") == "1b6bf3da40c127be"
    assert files_digest(prepared, "*.xml") == "dd5272aac524366a"


@pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() != "x86_64", reason="pixel bytes are promised on Linux x86-64"
)
def test_pictures_have_a_known_digest(prepared):
    assert files_digest(prepared, "*.jpg") == "33879bbc1bc15da1"


def test_checksums_are_those_of_the_pictures(prepared):
    found = scenes.read_checksums(prepared)
    assert found == {path.name: zlib.crc32(path.read_bytes()) for path in prepared.rglob("*.jpg")}
    assert load_dataset("picto-voc", "val", root=prepared, size=48).checksums == found
    assert load_dataset("voc2012", "val", root=prepared, size=48).checksums == {}


@pytest.mark.parametrize("name", ["picto-voc", "picto-coco"])
def test_a_picture_that_is_not_as_it_was_drawn_is_refused(tmp_path, name):
    module = {"picto-voc": picto, "picto-coco": picto_coco}[name]
    spec = {"picto-voc": SMALL, "picto-coco": picto_coco.PictoCocoSpec(train=2, val=2, test=2, side=64)}[name]
    module.prepare(tmp_path / "set", spec)
    first, second = sorted((tmp_path / "set").rglob("train_*.jpg"))[:2]
    first.write_bytes(second.read_bytes())
    dataset = load_dataset(name, "train", root=tmp_path / "set", size=48)
    dataset.read(1)
    with pytest.raises(InputError, match=r"train_000000\.jpg: it is not as it was drawn; remove the data set, to have"):
        dataset.read(0)
    (tmp_path / "set" / scenes.CHECKSUMS).unlink()  # as of a set that was drawn before there were any
    load_dataset(name, "train", root=tmp_path / "set", size=48).read(0)


@pytest.mark.parametrize("content", ["", "{", "[]", "3"])
def test_broken_checksums_are_named(tmp_path, content):
    picto.prepare(tmp_path / "set", SMALL)
    (tmp_path / "set" / scenes.CHECKSUMS).write_text(content)
    with pytest.raises(InputError, match=r"checksums\.json.*; remove .*set, to have it drawn again"):
        load_dataset("picto-voc", "train", root=tmp_path / "set", size=48)


def test_the_same_specification_gives_the_same_bytes(prepared, tmp_path):
    again = picto.prepare(tmp_path / "again", SMALL)
    first = {p.relative_to(prepared): p.read_bytes() for p in prepared.rglob("*") if p.is_file()}
    second = {p.relative_to(again): p.read_bytes() for p in again.rglob("*") if p.is_file()}
    assert first == second


def test_more_scenes_leave_the_first_ones_as_they_are():
    larger = picto.PictoSpec(train=600, side=96)
    assert picto.compose(SMALL, "train", 5) == picto.compose(larger, "train", 5)
    assert picto.compose(SMALL, "train", 5) != picto.compose(SMALL, "test", 5)


def test_the_voc_reader_reads_it(prepared):
    dataset = load_dataset("picto-voc", "train", root=prepared, size=48)
    assert dataset.labels == picto.CLASSES and len(dataset) == 6
    for index in range(6):
        scene = picto.compose(SMALL, "train", index)
        expected = [{1: 1, 0: -1, -1: 0}[flag] for flag in picto.flags(scene)]
        assert dataset.targets[index].tolist() == expected
        boxes, classes = dataset.boxes(index)
        assert [dataset.labels[c] for c in classes] == [item.label for item in scene.objects]
        np.testing.assert_allclose(boxes * 96, [item.box for item in scene.objects], atol=1e-4)


def test_boxes_are_tight_around_what_is_drawn():
    """A pictogram drawn alone on white: its box is the extent of the pixels that changed, within a pixel and a half."""
    for code in ("1F697", "1F6CB", "1F9CD", "1FA91"):
        for angle, flip in ((0.0, False), (20.0, True), (-25.0, False)):
            canvas = Image.new("RGB", (224, 224), "white")
            glyphs.draw(canvas, code, (112.0, 112.0), 90.0, angle, flip, (1.0, 1.0, 1.0))
            drawn = np.asarray(canvas).min(2) < 128
            extent = np.array(glyphs.extent(code, 90.0, angle, flip)) + 112
            rows, columns = np.flatnonzero(drawn.any(1)), np.flatnonzero(drawn.any(0))
            np.testing.assert_allclose([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], extent, atol=1.5)


def test_an_object_out_of_view_is_difficult():
    scene = next(s for s in (picto.compose(picto.PictoSpec(), "train", i) for i in range(500)) if len(s.objects) == 1)
    item = scene.objects[0]
    hidden = picto._judge(item, [], [item.box], picto.PictoSpec())
    in_view = picto._judge(item, [], [], picto.PictoSpec())
    assert hidden.difficult and not in_view.difficult
    assert sorted(picto.flags(scene._replace(objects=(hidden,))))[-1] == 0


def test_share_of_labels_sizes_and_difficult_objects_follow_the_specification():
    spec = picto.PictoSpec()
    scenes = [picto.compose(spec, "train", index) for index in range(2000)]
    labels = np.array([len({item.label for item in scene.objects}) for scene in scenes])
    assert np.bincount(labels, minlength=5)[1:] / 2000 == pytest.approx(spec.labels, abs=0.04)
    sides = np.array([item.side / spec.side for scene in scenes for item in scene.objects])
    assert (sides < spec.min_object).mean() == pytest.approx(spec.small, abs=0.03)
    assert sides.min() >= spec.min_small and sides.max() <= spec.max_object
    assert 0.005 < np.mean([item.difficult for scene in scenes for item in scene.objects]) < 0.15


def test_classes_of_a_scene_belong_to_one_group():
    for index in range(200):
        names = {item.label for item in picto.compose(picto.PictoSpec(), "val", index).objects}
        assert any(names <= set(group) for group in picto.GROUPS)
    assert sum(picto.GROUPS.values()) == pytest.approx(1)
    assert set().union(*picto.GROUPS) == set(picto.CLASSES)


def test_pretraining_shares_no_pictogram_with_the_data_sets():
    codes = set(glyphs.pretraining_codes())
    assert len(codes) == 400
    assert not codes & set(glyphs.TAKEN.split())


def test_a_folder_with_something_else_is_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="already holds something else"):
        picto.prepare(tmp_path, SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_an_interrupted_preparation_leaves_no_data_set_and_the_next_one_completes(tmp_path):
    def stop(scenes):
        for count, scene in enumerate(scenes):
            if count == 5:
                raise KeyboardInterrupt
            yield scene

    with pytest.raises(KeyboardInterrupt):
        picto.prepare(tmp_path / "set", SMALL, progress=stop)
    assert not (tmp_path / "set").exists()
    picto.prepare(tmp_path / "set", SMALL)
    assert len(load_dataset("picto-voc", "test", root=tmp_path / "set", size=32)) == 4


@pytest.mark.parametrize(
    ("field", "value"), [("train", 0), ("side", 8), ("labels", (0.5, 0.2)), ("min_object", 0.9), ("labels", (0.2,) * 5)]
)
def test_an_impossible_specification_is_refused(field, value):
    with pytest.raises(InputError, match=re.escape("data.picto")):
        picto.PictoSpec(**{field: value})
