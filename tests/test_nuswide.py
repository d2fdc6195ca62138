"""The NUS-WIDE reader, on a data set of seven images made here in the published layout."""

import shutil

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from mlic_core.data import load_dataset, nuswide
from mlic_core.errors import InputError
from mlic_core.study.cli import main
from mlic_core.study.experiments import from_settings, open_splits
from mlic_core.study.store import Store

TRAIN = [r"actor\0001_2124494179.jpg", r"actor\0002_174174086.jpg", r"zoo\0003_11.jpg", r"actor\0004_12.jpg"]
TEST = [r"zoo\0001_21.jpg", r"zoo\0002_22.jpg", r"actor\0003_23.jpg"]
ALL = [TRAIN[0], TEST[0], TRAIN[1], TRAIN[2], TEST[1], TEST[2], TRAIN[3]]  # the splits' images stand mixed
CONCEPTS, TAGS = ["airport", "lake", "sky"], ["nature", "blue", "sunset", "2007"]
# Rows in the order of ALL. Without a concept: TEST[1] and TRAIN[3]; without a tag: TRAIN[0].
IN_CONCEPTS = np.array([[1, 0, 1], [0, 1, 0], [0, 1, 1], [1, 0, 0], [0, 0, 0], [1, 1, 1], [0, 0, 0]])
IN_TAGS = np.array(
    [[0, 0, 0, 0], [1, 0, 0, 1], [1, 1, 0, 0], [0, 0, 1, 0], [0, 1, 1, 1], [1, 1, 1, 1], [0, 0, 0, 1]]
)
SPLITS = {"Train": TRAIN, "Test": TEST}


def write(path, lines, end="\n"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("".join(f"{line}{end}" for line in lines).encode())


@pytest.fixture
def root(tmp_path):
    """The tables of all images, as published: a space after each path, tabs between tags and one after the last."""
    write(tmp_path / "ImageList/Imagelist.txt", [f"{name} " for name in ALL], "\r\n")
    for split, names in SPLITS.items():
        write(tmp_path / f"ImageList/{split}Imagelist.txt", [f"{name} " for name in names], "\r\n")
    write(tmp_path / "ConceptsList/Concepts81.txt", CONCEPTS)
    write(tmp_path / "NUS_WID_Tags/TagList1k.txt", TAGS)
    for concept, column in zip(CONCEPTS, IN_CONCEPTS.T, strict=True):
        write(tmp_path / f"Groundtruth/AllLabels/Labels_{concept}.txt", column)
    write(tmp_path / "NUS_WID_Tags/AllTags1k.txt", tag_lines(IN_TAGS))
    for shade, name in enumerate(ALL):
        path = tmp_path / "Flickr" / name.replace("\\", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (60, 40), (shade * 30, 0, 0)).save(path, quality=95)
    return tmp_path


def tag_lines(rows):
    return ["".join(f"{flag}\t" for flag in row) for row in rows]


def with_tables_of_the_splits(root):
    """In place of those of all images."""
    shutil.rmtree(root / "Groundtruth/AllLabels")
    (root / "NUS_WID_Tags/AllTags1k.txt").unlink()
    for split, names in SPLITS.items():
        rows = [ALL.index(name) for name in names]
        for concept, column in zip(CONCEPTS, IN_CONCEPTS[rows].T, strict=True):
            write(root / f"Groundtruth/TrainTestLabels/Labels_{concept}_{split}.txt", column)
        write(root / f"NUS_WID_Tags/{split}_Tags1k.dat", tag_lines(IN_TAGS[rows]))
    return root


def load(root, name="nuswide81", split="train", size=16):
    return load_dataset(name, split, root=root, size=size)


def ids(*names):
    return tuple(name.replace("\\", "/").removesuffix(".jpg") for name in names)


# Labels


def test_concepts_are_found_through_the_list_of_all_images_and_come_in_the_splits_order(root):
    dataset = load(root)
    assert dataset.labels == tuple(CONCEPTS)
    assert dataset.ids == ids(*TRAIN[:3])
    assert dataset.targets.dtype == np.int8
    assert dataset.targets.tolist() == [[1, 0, 1], [0, 1, 1], [1, 0, 0]]
    assert load(root, split="test").targets.tolist() == [[0, 1, 0], [1, 1, 1]]


def test_tags_are_the_classes_of_nuswide1000(root):
    dataset = load(root, "nuswide1000")
    assert dataset.labels == tuple(TAGS)
    assert dataset.ids == ids(*TRAIN[1:])
    assert dataset.targets.tolist() == [[1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]


@pytest.mark.parametrize("name", ["nuswide81", "nuswide1000"])
@pytest.mark.parametrize("split", ["train", "test"])
def test_the_tables_of_the_splits_give_the_same(root, name, split):
    digest = load(root, name, split).digest()
    with_tables_of_the_splits(root)
    (root / "ImageList/Imagelist.txt").unlink()
    assert load(root, name, split).digest() == digest


def test_an_image_without_a_label_is_dropped_from_both_splits_and_needs_no_file(root):
    for name in (TRAIN[3], TEST[1]):
        (root / "Flickr" / name.replace("\\", "/")).unlink()
    assert ids(TRAIN[3])[0] not in load(root).ids and len(load(root)) == 3
    assert load(root, split="test").ids == ids(TEST[0], TEST[2])


def test_the_concept_list_may_lie_in_the_root_and_paths_may_begin_with_the_authors_folder(root):
    digest = load(root).digest()
    (root / "ConceptsList/Concepts81.txt").rename(root / "Concepts81.txt")
    write(root / "ImageList/TrainImagelist.txt", [rf"C:\ImageData\Flickr\{name}" for name in TRAIN])
    assert load(root).digest() == digest


# Images


@pytest.mark.parametrize("folder", ["Flickr", "images"])
def test_images_are_read_from_their_folder(root, folder):
    (root / "Flickr").rename(root / folder)
    dataset = load(root)
    assert dataset.image_path(2) == root / folder / "zoo/0003_11.jpg"
    image, target = dataset[2]
    assert image.shape == (3, 16, 16) and target.tolist() == [1, 0, 0]
    assert image[0].mean() == pytest.approx(90 / 255, abs=0.02)
    assert not dataset.has_boxes


def test_images_without_a_file_are_counted(root):
    shutil.rmtree(root / "Flickr/actor")
    with pytest.raises(InputError, match=r"2 of 3 images have no file in .*Flickr, such as actor/0001_2124494179\.jpg"):
        load(root)


def test_images_in_the_users_list_of_missing_ones_are_left_out(root):
    shutil.rmtree(root / "Flickr/actor")
    write(root / "ImageList/Missing.txt", [name.replace("\\", "/") for name in ALL if name.startswith("actor")])
    assert load(root).ids == ids(TRAIN[2])
    assert load(root, split="test").ids == ids(TEST[0])
    assert load(root, "nuswide1000").targets.tolist() == [[0, 0, 1, 0]]


def test_nothing_is_left_where_all_images_are_missing(root):
    write(root / "ImageList/Missing.txt", ALL)
    with pytest.raises(InputError, match="no image of train has a label and is not in"):
        load(root)


# Tables


@pytest.mark.parametrize("block", [1, 7, 100, 2**22])
@pytest.mark.parametrize("end", ["\n", "\r\n", " \n", "\n\n"])
def test_a_table_is_read_in_blocks_of_any_size(tmp_path, monkeypatch, block, end):
    monkeypatch.setattr(nuswide, "BLOCK", block)
    flags = np.random.default_rng(0).integers(0, 2, (50, 6), dtype=np.int8)
    write(tmp_path / "t", ["\t".join(map(str, row)) for row in flags.tolist()], end)
    (tmp_path / "t").write_bytes((tmp_path / "t").read_bytes().rstrip())  # the last line needs no end
    rows = np.random.default_rng(1).permutation(50)
    rows[rows >= 30] = -1
    found = nuswide.read_flags(tmp_path / "t", 6, rows, 30)
    assert found.dtype == np.int8
    np.testing.assert_array_equal(found[rows[rows >= 0]], flags[rows >= 0])


@pytest.mark.parametrize(("lines", "message"), [
    (["0 1", "1 2"], "line 2: expected 2 times 0 or 1, found '2'"),
    (["0 1", "1 -1130179"], "line 2: expected 2 times 0 or 1, found '-1130179'"),
    (["0 1", "", "1 01"], "line 3: expected 2 times 0 or 1, found '01'"),
    (["0 1", "1 0 0"], "line 2: expected 2 times 0 or 1, found 3 values"),
    (["0 1 1", "0"], "line 1: expected 2 times 0 or 1, found 3 values"),
    (["0 1"], "has 1 lines, but the list of images has 2"),
    (["0 1"] * 3, "has 3 lines, but the list of images has 2"),
    ([], "has 0 lines"),
])
def test_a_malformed_table_is_named_with_its_line(tmp_path, lines, message):
    write(tmp_path / "table.txt", lines)
    with pytest.raises(InputError, match=message) as caught:
        nuswide.read_flags(tmp_path / "table.txt", 2, np.arange(2), 2)
    assert str(tmp_path / "table.txt") in str(caught.value)


def test_the_broken_line_of_the_published_lake_file_points_to_the_whole_one(root):
    with_tables_of_the_splits(root)
    write(root / "Groundtruth/TrainTestLabels/Labels_lake_Train.txt", [0, -1130179, 0, 0])
    message = r"Labels_lake_Train\.txt, line 2: expected 0 or 1, found '-1130179'; put Groundtruth/AllLabels"
    with pytest.raises(InputError, match=message):
        load(root)


# Refusals


@pytest.mark.parametrize(("name", "path", "message"), [
    ("nuswide81", "ImageList/TrainImagelist.txt", "has no ImageList/TrainImagelist.txt; give the folder"),
    ("nuswide81", "ConceptsList/Concepts81.txt", "has no ConceptsList/Concepts81.txt or Concepts81.txt"),
    ("nuswide81", "Groundtruth/AllLabels/Labels_sky.txt", "cannot read label file .*Labels_sky.txt: No such file"),
    ("nuswide81", "ImageList/Imagelist.txt", "no Groundtruth/AllLabels with .*and no Groundtruth/TrainTestLabels"),
    ("nuswide1000", "NUS_WID_Tags/TagList1k.txt", "has no NUS_WID_Tags/TagList1k.txt"),
    ("nuswide1000", "NUS_WID_Tags/AllTags1k.txt", "with ImageList/Imagelist.txt, and no NUS_WID_Tags/Train_Tags1k.dat"),
    ("nuswide81", "Flickr", "has no Flickr or images"),
])
def test_a_missing_part_is_named(root, name, path, message):
    (root / path).rename(root / "elsewhere")
    with pytest.raises(InputError, match=message):
        load(root, name)


@pytest.mark.parametrize(("path", "lines", "message"), [
    ("ImageList/TrainImagelist.txt", [*TRAIN, "readme"], r"TrainImagelist\.txt, line 5: expected a path such as"),
    ("ImageList/TrainImagelist.txt", [*TRAIN, TRAIN[1]], r"line 5: image actor/0002_174174086 is listed twice"),
    ("ImageList/TrainImagelist.txt", [*TRAIN, r"x\1.jpg"], r"Imagelist\.txt lacks 1 of the split's 5 images"),
    ("ImageList/TrainImagelist.txt", ["", ""], "lists no image"),
    ("ImageList/Imagelist.txt", [*ALL, "readme"], r"Imagelist\.txt, line 8: expected a path"),
    ("ImageList/Imagelist.txt", ALL[:0:-1], r"Imagelist\.txt lacks 1 of"),
    ("ImageList/Imagelist.txt", [*ALL, r"x\1.jpg"], r"has 7 lines, but the list of images has 8"),
    ("ImageList/Missing.txt", ["actor"], r"Missing\.txt, line 1: expected a path"),
    ("ConceptsList/Concepts81.txt", ["sky", "sky"], r"Concepts81\.txt, line 2: 'sky' is listed twice"),
    ("ConceptsList/Concepts81.txt", ["blue sky"], "one word of at most 100 printed characters, found 'blue sky'"),
    ("ConceptsList/Concepts81.txt", [], "names no class"),
])
def test_a_malformed_list_is_named_with_its_line(root, path, lines, message):
    write(root / path, lines)
    with pytest.raises(InputError, match=message):
        load(root)


def test_a_list_that_is_not_text_is_named(root):
    (root / "ImageList/TestImagelist.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match=r"TestImagelist\.txt is not text"):
        load(root, split="test")


@pytest.mark.parametrize("split", ["val", "trian", "trainval"])
def test_another_split_is_refused_with_what_to_set(root, split):
    with pytest.raises(InputError, match=f"no split '{split}', only train and test.*data.monitor="):
        load(root, split=split)


# In the study

TINY = {"trunk.name": "pictonet-s", "trunk.weights": "none", "data.size": 32, "recipe.epochs": 1}


def test_a_run_trains_on_train_and_is_scored_on_test_without_a_monitor(root, tmp_path):
    settings = {**TINY, "data.name": "nuswide81", "data.root": str(root)}
    splits = open_splits(from_settings({**settings, "data.monitor": ""}).data)
    assert {role: split.split for role, split in splits.items()} == {"train": "train", "eval": "test"}
    with pytest.raises(InputError, match="nuswide81 has no split 'val'"):
        open_splits(from_settings(settings).data)
    experiment = from_settings({**settings, "data.monitor": "", "method.name": "cnn_rnn", "method.hidden": 8})
    record = Store(tmp_path / "runs").run(experiment)
    assert record.scores()["ids"].tolist() == list(ids(TEST[0], TEST[2]))
    assert record.config["data.eval"] == "test" and record.metrics["mAP"] is not None


def test_data_check_reads_the_named_splits(root):
    command = ["data", "check", "nuswide1000", "--root", str(root)]
    result = CliRunner().invoke(main, [*command, "--split", "train", "--split", "test"])
    assert result.stdout.splitlines()[::3] == [
        "train: 3 images, 1.33 labels an image, 0 ignored entries, no boxes",
        "test: 3 images, 3.00 labels an image, 0 ignored entries, no boxes",
    ]
    assert CliRunner().invoke(main, command).stdout == result.stdout
