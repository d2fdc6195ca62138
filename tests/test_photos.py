"""The study of photographs: which images, which classes, and that its profile asks only for what it lists."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mlic_core.class_groups import strong_and_weak, well_represented
from mlic_core.data import load_dataset
from mlic_core.data.voc import LABELS
from mlic_core.errors import InputError
from mlic_core.models.backbones import TRUNKS
from mlic_core.study import subset
from mlic_core.study.notebook import Study
from mlic_core.study.profile import load_profile
from mlic_core.study.subset import listed_as, make_subset, split_ids

REAL = Path(__file__).resolve().parents[2] / "shared" / "real" / "VOCdevkit"
needs_real_devkit = pytest.mark.skipif(not REAL.is_dir(), reason="the real devkit is not beside the repository")

# Classes


TRAIN = np.array([[1, 0, 1, 0], [1, 0, 0, 1], [1, -1, 0, 0]], dtype=np.int8)
EVALUATED = np.array([[0, 1, 0, 1], [1, 1, -1, 0]], dtype=np.int8)


def test_a_class_counts_by_the_images_of_all_splits_together():
    """Classes are shown by 4, 2, 1 and 2 images; only difficult objects (-1) don't count."""
    assert well_represented([TRAIN, EVALUATED], 2).tolist() == [0, 1, 3]
    assert well_represented([TRAIN, EVALUATED], 3).tolist() == [0]


def test_a_class_that_the_evaluated_split_does_not_show_is_left_out():
    assert well_represented([TRAIN, EVALUATED], 1).tolist() == [0, 1, 3]
    assert well_represented([EVALUATED, TRAIN], 1).tolist() == [0, 2, 3]


def test_no_class_left_is_one_sentence():
    with pytest.raises(InputError, match=r"least=5: no class has so many images"):
        well_represented([TRAIN, EVALUATED], 5)


def test_strong_classes_are_those_of_the_kept_with_enough_training_images():
    strong, weak = strong_and_weak(TRAIN, np.array([0, 1, 3]), 1)
    assert (strong.tolist(), weak.tolist()) == ([0, 3], [1])
    strong, weak = strong_and_weak(TRAIN, np.array([1, 3]), 3)
    assert (strong.tolist(), weak.tolist()) == ([], [1, 3])


@needs_real_devkit
def test_twelve_classes_of_the_photographs_count_six_of_them_strong():
    train, val = (load_dataset("voc2012", split, root=REAL, size=32) for split in ("train", "val"))
    profile = load_profile("photos")
    kept = well_represented([train.targets, val.targets], profile.sweeps["photos_least"][0])
    strong, weak = strong_and_weak(train.targets, kept, profile.sweeps["photos_strong"][0])
    assert [LABELS[i] for i in strong] == ["cat", "cow", "dog", "horse", "person", "sheep"]
    assert [LABELS[i] for i in weak] == ["bottle", "car", "chair", "pottedplant", "sofa", "tvmonitor"]


# Images


@pytest.fixture
def devkit(tmp_path):
    """VOC 2012 with four images, of which image i shows class i, and c only as a difficult object."""
    folder = tmp_path / "full" / "VOCdevkit" / "VOC2012"
    (folder / "ImageSets/Main").mkdir(parents=True)
    (folder / "JPEGImages").mkdir()
    names = ["2008_000004", "2008_000003", "2008_000002", "2008_000001"]
    for name in names:
        Image.new("RGB", (20, 10)).save(folder / f"JPEGImages/{name}.jpg")
    (folder / "ImageSets/Main/trainval.txt").write_text("\n".join(names))
    for place, label in enumerate(LABELS):
        marks = [f"{name} {(0 if place == 2 else 1) if i == place else -1}" for i, name in enumerate(names)]
        (folder / f"ImageSets/Main/{label}_trainval.txt").write_text("\n".join(marks))
    return tmp_path / "full"


@pytest.fixture
def lists(tmp_path, monkeypatch):
    """data/splits/mine, with three of the devkit's images."""
    home = tmp_path / "home" / "data" / "splits" / "mine"
    home.mkdir(parents=True)
    (home / "train.txt").write_text("2008_000002\n2008_000004\n")
    (home / "val.txt").write_text("2008_000003\n")
    monkeypatch.setattr(subset, "repository_root", lambda: tmp_path / "home")
    return home


def test_the_committed_lists_are_sorted_and_share_no_image():
    ids = split_ids("photos")
    assert {split: len(names) for split, names in ids.items()} == {"train": 1728, "val": 864}
    for names in ids.values():
        assert list(names) == sorted(set(names))
    assert not set(ids["train"]) & set(ids["val"])


def test_a_subset_has_the_listed_images_with_the_labels_of_the_source(devkit, lists, tmp_path):
    assert make_subset("mine", devkit, tmp_path / "part") == {"train": 2, "val": 1}
    train, val = (load_dataset("voc2012", split, root=tmp_path / "part", size=16) for split in ("train", "val"))
    assert (train.ids, val.ids) == (("2008_000002", "2008_000004"), ("2008_000003",))
    expected = np.zeros((2, 20), np.int8)
    expected[0, 2], expected[1, 0] = -1, 1  # image 2 shows bird as a difficult object, image 4 aeroplane
    np.testing.assert_array_equal(train.targets, expected)
    assert (val.targets[0] == 1).nonzero()[0].tolist() == [1]
    assert train.original(0).size == (20, 10) and (tmp_path / "part/VOCdevkit/VOC2012/JPEGImages").is_symlink()
    assert (listed_as(train), listed_as(val)) == ("mine/train.txt", "mine/val.txt")
    assert listed_as(train.subset([0])) == ""


def test_annotations_are_linked_where_there_are_any(devkit, lists, tmp_path):
    (devkit / "VOCdevkit/VOC2012/Annotations").mkdir()
    make_subset("mine", devkit, tmp_path / "part")
    assert (tmp_path / "part/VOCdevkit/VOC2012/Annotations").is_symlink()


def test_a_source_without_a_listed_image_is_named_and_leaves_nothing(devkit, lists, tmp_path):
    (lists / "val.txt").write_text("2008_000003\n2011_000009\n")
    with pytest.raises(InputError, match=r"lacks 1 images of mine in trainval, such as 2011_000009"):
        make_subset("mine", devkit, tmp_path / "part")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["full", "home"]


def test_what_is_there_already_stays(devkit, lists, tmp_path, call_mlic):
    (tmp_path / "part").mkdir()
    found = call_mlic("data", "subset", "mine", "--root", devkit, "--out", tmp_path / "part")
    assert found.exit_code == 2 and "is there already; choose another --out" in found.output
    assert not list((tmp_path / "part").iterdir())
    (tmp_path / ".part.partial/VOCdevkit/VOC2012/JPEGImages").mkdir(parents=True)  # of a call that was killed
    (tmp_path / "part").rmdir()
    found = call_mlic("data", "subset", "mine", "--root", devkit, "--out", tmp_path / "part")
    assert found.output.startswith("mine: 2 train, 1 val images in")
    assert not (tmp_path / ".part.partial").exists()


def test_check_says_which_list_a_split_is(devkit, lists, tmp_path, call_mlic):
    make_subset("mine", devkit, tmp_path / "part")
    found = call_mlic("data", "check", "voc2012", "--root", tmp_path / "part", "--split", "val")
    assert "the images of data/splits/mine/val.txt" in found.output
    whole = call_mlic("data", "check", "voc2012", "--root", devkit, "--split", "trainval")
    assert "data/splits" not in whole.output


def test_an_unknown_list_names_those_there_are():
    with pytest.raises(InputError, match=r"no splits are named 'photo'; there are photos; did you mean 'photos'"):
        split_ids("photo")


@needs_real_devkit
def test_the_devkit_at_hand_is_what_the_lists_say():
    for split in ("train", "val"):
        assert listed_as(load_dataset("voc2012", split, root=REAL, size=32)) == f"photos/{split}.txt"


@needs_real_devkit
def test_a_subset_of_the_devkit_at_hand_gives_runs_the_same_names(tmp_path):
    make_subset("photos", REAL, tmp_path / "part")
    for split in ("train", "val"):
        ours, theirs = (load_dataset("voc2012", split, root=root, size=32) for root in (tmp_path / "part", REAL))
        assert ours.digest() == theirs.digest()


# The profile


@pytest.fixture
def photos(monkeypatch):
    monkeypatch.setitem(TRUNKS, "mobilenet_v2_imagenet", TRUNKS["mobilenet_v2"])
    return Study("photos")


@pytest.mark.parametrize("name", ["smoke", "quick", "study", "photos"])
def test_rows_and_pairs_are_experiments_that_the_profile_lists(name):
    profile = load_profile(name)
    rows = profile.sweeps["photos_rows"]
    assert len(set(rows)) == len(rows) and set(rows) == set(profile.experiments)
    for method, reference, _ in profile.sweeps["photos_pairs"]:
        assert {method, reference} <= set(rows) and method != reference
    fewer = dict(profile.sweeps["photos_fewer_seeds"])
    assert {*profile.sweeps["photos_probe"], *profile.sweeps["photos_classes"], *fewer} <= set(rows)
    assert all(0 < count < len(profile.seeds) for count in fewer.values())
    assert all(rows.index(chosen["trunk.of"]) < rows.index(row)
               for row, chosen in profile.experiments.items() if "trunk.of" in chosen)  # fmt: skip


def test_the_photos_are_trained_as_in_the_trial(photos):
    """AdamW, 1e-4 and 2e-3, one cycle of 4 epochs, batches of 16, flips, GWP; topN 2 and tau .5."""
    for row, chosen in photos.profile.experiments.items():
        if chosen["method.name"] not in ("classifier", "mcar"):
            continue
        experiment = photos.named(row)
        recipe, options = experiment.recipe, experiment.method.options
        assert (recipe.optimizer, recipe.lr, recipe.head_lr) == ("adamw", 1e-4, 2e-3)
        assert (recipe.schedule, recipe.batch_size, recipe.flip, recipe.jitter) == ("one-cycle", 16, True, 0)
        assert recipe.epochs == (12 if "12 epochs" in row else 4)
        assert options["pooling"] == "gwp" and (options.get("topN", 2), options.get("tau", 0.5)) == (2, 0.5)
        seen = experiment.data.size // (2 if options.get("crop_from") == "source" else 1)
        assert f" {seen}" in row


def test_the_evaluated_photographs_choose_nothing(photos):
    data = photos.experiment("classifier").data
    assert (data.name, data.train, data.monitor, data.eval_split) == ("voc2012", "train", "", "val")


def test_photos_runs_its_own_notebook_alone(call_mlic, monkeypatch):
    asked = []

    def stop(folder, only):
        asked.append(tuple(only))
        raise InputError("enough")

    monkeypatch.setattr("mlic_core.study.batch.find_notebooks", stop)
    for arguments in (["--profile", "photos"], ["--profile", "photos", "--only", "05"], ["--profile", "smoke"]):
        assert call_mlic("reproduce", *arguments).exit_code == 2
    assert asked == [("13",), ("05",), ()]


def test_a_changed_setting_is_that_of_the_experiment_alone(photos):
    tiny = {"below": {"method.name": "classifier"}, "head": {"method.name": "gla", "trunk.of": "below"}}
    photos.profile = dataclasses.replace(load_profile("smoke"), experiments=tiny)
    below, head = photos.lineage("head", seed=4, **{"recipe.epochs": 7})
    assert (below.recipe.epochs, head.recipe.epochs, below.seed, head.seed) == (1, 7, 4, 4)
    assert photos.named("head", seed=4, **{"recipe.epochs": 7}) == head
