"""PictoCOCO: deterministic, in COCO's layout, with classes that come together and every object in view."""

import hashlib
import json
import platform
import re
import sys

import numpy as np
import pytest

from mlic_core.data import coco, glyphs, load_dataset, picto, picto_coco, scenes
from mlic_core.data.picto_coco import CLASSES, PictoCocoSpec
from mlic_core.errors import InputError
from mlic_core.study import provenance

SMALL = PictoCocoSpec(train=6, val=3, test=4, side=96)
# COCO's numbers for its 80 classes: 1 to 90 without ten that it left unused.
COCO_NUMBERS = set(range(1, 91)) - {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    return picto_coco.prepare(tmp_path_factory.mktemp("picto") / "set", SMALL)


@pytest.fixture(scope="module")
def composed():
    """The first 500 training scenes of the default specification."""
    return [picto_coco.compose(PictoCocoSpec(), "train", index) for index in range(500)]


@pytest.fixture(scope="module")
def labels():
    """Which classes the scenes of the default specification show by split, (N, C), without placing anything."""
    spec = PictoCocoSpec()

    def shown(split, index):
        names = picto_coco._names(np.random.default_rng(picto_coco._seed(spec, split, index)))
        return [name in names for name in CLASSES]

    return {split: np.array([shown(split, i) for i in range(getattr(spec, split))]) for split in ("train", "test")}


def test_the_labels_below_are_those_of_the_scenes(composed, labels):
    for scene, row in zip(composed, labels["train"], strict=False):
        assert {item.label for item in scene.objects} == {CLASSES[c] for c in np.flatnonzero(row)}


def files_digest(root, pattern):
    digest = hashlib.sha256()
    for path in sorted(root.rglob(pattern)):
        digest.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def test_labels_and_boxes_have_a_known_digest(prepared):
    assert files_digest(prepared, "instances_*.json") == "06595b3111b384be"


@pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() != "x86_64", reason="pixel bytes are promised on Linux x86-64"
)
def test_pictures_have_a_known_digest(prepared):
    assert files_digest(prepared, "*.jpg") == "87e9c23ecacf503d"


def test_the_same_specification_gives_the_same_bytes(prepared, tmp_path):
    again = picto_coco.prepare(tmp_path / "again", SMALL)
    first = {p.relative_to(prepared): p.read_bytes() for p in prepared.rglob("*") if p.is_file()}
    second = {p.relative_to(again): p.read_bytes() for p in again.rglob("*") if p.is_file()}
    assert first == second


def test_more_scenes_leave_the_first_ones_as_they_are():
    larger = PictoCocoSpec(train=600, side=96)
    assert picto_coco.compose(SMALL, "train", 5) == picto_coco.compose(larger, "train", 5)
    assert picto_coco.compose(SMALL, "train", 5) != picto_coco.compose(SMALL, "test", 5)


def test_it_lies_there_as_coco_does(prepared):
    found = {path.relative_to(prepared).as_posix() for path in prepared.rglob("*") if path.is_file()}
    images = {f"{s}/{s}_{i:06d}.jpg" for s in scenes.SPLITS for i in range(getattr(SMALL, s))}
    annotations = {f"annotations/instances_{split}.json" for split in scenes.SPLITS}
    assert found == images | annotations | {"spec.json", "checksums.json"}
    content = json.loads((prepared / "annotations/instances_val.json").read_text())
    assert content["categories"] == [{"id": i, "name": name} for name, i in picto_coco.CATEGORIES.items()]
    assert set(content["annotations"][0]) == {"id", "image_id", "category_id", "bbox", "area", "iscrowd"}


def test_the_coco_reader_reads_it(prepared):
    dataset = load_dataset("picto-coco", "train", root=prepared, size=48)
    assert isinstance(dataset, coco.COCODataset) and dataset.labels == CLASSES and len(dataset) == 6
    for index in range(6):
        scene = picto_coco.compose(SMALL, "train", index)
        assert dataset.ids[index] == scene.id
        assert {CLASSES[c] for c in np.flatnonzero(dataset.targets[index])} == {item.label for item in scene.objects}
        boxes, classes = dataset.boxes(index)
        assert [CLASSES[c] for c in classes] == [item.label for item in scene.objects]
        np.testing.assert_allclose(boxes * 96, [item.box for item in scene.objects], atol=1e-4)
        assert dataset.read(index).shape == (3, 48, 48)


def test_its_classes_are_cocos_in_cocos_order():
    numbers = list(picto_coco.CATEGORIES.values())
    assert len(CLASSES) == 68 and numbers == sorted(set(numbers))
    assert set(numbers) < COCO_NUMBERS and len(COCO_NUMBERS) == 80
    missing = re.search(r"no category: (.*?)\. \(", picto_coco.__doc__, re.DOTALL)[1].replace("\n", " ").split(", ")
    assert len(missing) == 12 and not set(missing) & set(CLASSES)


def test_every_class_is_drawn_with_taken_pictograms_of_its_own():
    used = [code for codes in picto_coco.GLYPHS.values() for code in codes.split()]
    assert len(set(used)) == len(used)
    taken = set(glyphs.TAKEN.split())
    assert {code.partition("/")[0] for code in used} < taken
    assert {code for codes in picto.GLYPHS.values() for code in codes.split()} < taken


def test_taken_pictograms_are_those_that_the_committed_weights_were_made_without():
    taken = sorted(glyphs.TAKEN.split())
    assert len(taken) == 130
    assert hashlib.sha256(" ".join(taken).encode()).hexdigest()[:16] == "fb2debc3ff101cdc"
    assert hashlib.sha256(" ".join(glyphs.pretraining_codes()).encode()).hexdigest()[:12] == "2586eb7ab1d1"


def test_the_bicycle_of_picto_coco_has_no_rider():
    assert "1F6B4" not in picto_coco.GLYPHS["bicycle"] and "1F6B4" in glyphs.TAKEN.split()


def test_pieces_of_a_pictogram_are_counted_from_the_left():
    knife, fork = (glyphs.sprite(f"1F374/{piece}").image for piece in (0, 1))
    whole = glyphs.sprite("1F374").image
    assert max(knife.size) == max(fork.size) == glyphs.SPRITE
    assert knife.width + fork.width < whole.width
    assert knife.width < fork.width


def test_classes_of_a_scene_belong_to_one_context(composed):
    contexts = [set(chances) for _, chances in picto_coco.CONTEXTS.values()]
    for scene in composed:
        assert any({item.label for item in scene.objects} <= context for context in contexts)
    assert set().union(*contexts) == set(CLASSES)


def test_about_three_labels_an_image_and_persons_in_half_of_them(labels):
    assert 2.8 < labels["train"].sum(1).mean() < 3.2
    assert labels["train"].any(1).all()
    shares = labels["train"].mean(0)
    assert shares.argmax() == CLASSES.index("person") and 0.45 < shares.max() < 0.6
    assert np.median(shares) < 0.03  # a long tail


def test_every_class_has_positives_to_train_and_to_score_on(labels):
    assert labels["train"].sum(0).min() >= 25
    assert labels["test"].sum(0).min() >= 8


@pytest.mark.parametrize(("given", "name", "chance", "lift"), [
    ("tennis racket", "sports ball", 0.8, 5), ("tennis racket", "person", 0.85, 1.5), ("mouse", "keyboard", 0.7, 10),
    ("keyboard", "laptop", 0.6, 10), ("spoon", "dining table", 0.7, 5), ("fork", "knife", 0.5, 5),
    ("toothbrush", "sink", 0.6, 20), ("carrot", "broccoli", 0.6, 20), ("tie", "person", 0.9, 1.5),
])  # fmt: skip
def test_one_label_tells_of_others(labels, given, name, chance, lift):
    a, b = labels["train"][:, CLASSES.index(given)], labels["train"][:, CLASSES.index(name)]
    assert b[a].mean() > chance and b[a].mean() / b.mean() > lift


def test_every_object_is_in_view_with_its_box_inside(composed):
    spec = PictoCocoSpec()
    for scene in composed:
        boxes = np.array([item.box for item in scene.objects])
        assert boxes.min() >= 0 and boxes.max() <= spec.side and (boxes[:, :2] < boxes[:, 2:]).all()
        for i, item in enumerate(scene.objects):
            in_front = [*(other.box for other in scene.objects[i + 1 :]), *scene.patches]
            assert scenes.share_in_view(item, in_front) >= spec.visible and not item.difficult


def test_sizes_follow_the_specification(composed):
    spec = PictoCocoSpec()
    objects = [item for scene in composed for item in scene.objects]
    sides = np.array([item.side for item in objects])
    small = np.array([item.label in picto_coco.SMALL for item in objects])
    assert sides.min() >= picto_coco.LEAST and sides.max() <= spec.max_object * spec.side
    tiny = sides <= spec.max_tiny * spec.side
    assert tiny[small].mean() == pytest.approx(spec.tiny, abs=0.05) and not tiny[~small].any()


def test_even_a_crowded_little_scene_comes_to_an_end():
    spec = PictoCocoSpec(side=64, visible=0.7, occluders=1.0, repeats=1.0)
    assert all(item.box[2] > item.box[0] for i in range(40) for item in picto_coco.compose(spec, "test", i).objects)


def test_an_interrupted_preparation_leaves_no_data_set_and_the_next_one_completes(tmp_path):
    def stop(wanted):
        yield from wanted[:5]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        picto_coco.prepare(tmp_path / "set", SMALL, progress=stop)
    assert not (tmp_path / "set").exists()
    picto_coco.prepare(tmp_path / "set", SMALL)
    assert len(load_dataset("picto-coco", "test", root=tmp_path / "set", size=32)) == 4


def test_a_folder_with_the_other_drawn_set_is_left_alone(tmp_path):
    picto.prepare(tmp_path / "set", picto.PictoSpec(train=1, val=1, test=1, side=32))
    with pytest.raises(InputError, match="already holds something else than this picto-coco"):
        picto_coco.prepare(tmp_path / "set", SMALL)


@pytest.mark.parametrize(
    ("field", "value"),
    [("test", 0), ("side", 32), ("visible", 0.9), ("min_object", 0.4), ("max_tiny", 0.3), ("max_object", 1.5)],
)
def test_an_impossible_specification_is_refused(field, value):
    with pytest.raises(InputError, match=r"data\.picto_coco"):
        PictoCocoSpec(**{field: value})


@pytest.mark.parametrize(("module", "of_voc", "of_coco"), [
    ("picto", True, False), ("picto_coco", False, True), ("scenes", True, True), ("coco", False, True),
])  # fmt: skip
def test_a_run_depends_on_the_code_that_draws_its_own_set(monkeypatch, module, of_voc, of_coco):
    read, digest = provenance._source, provenance.code_digest.__wrapped__  # around its cache
    before = [digest("classifier", data) for data in ("picto-voc", "picto-coco")]
    changed = f"mlic_core.data.{module}"
    monkeypatch.setattr(provenance, "_source", lambda name: read(name) + "\nx = 1\n" if name == changed else read(name))
    after = [digest("classifier", data) for data in ("picto-voc", "picto-coco")]
    assert [a != b for a, b in zip(before, after, strict=True)] == [of_voc, of_coco]
