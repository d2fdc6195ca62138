"""The devkit reader, on a devkit of three images made here and on the real one where it is at hand."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from mlic_core.data import load_dataset
from mlic_core.data.voc import LABELS
from mlic_core.errors import InputError

REAL = Path(__file__).resolve().parents[2] / "shared" / "real" / "VOCdevkit"
needs_real_devkit = pytest.mark.skipif(not REAL.is_dir(), reason="the real devkit is not beside the repository")

IDS = ("000001", "000002", "000003")
# Lines of the class files: absent (-1) unless named here.
MARKS = {("car", "000001"): 1, ("person", "000001"): 0, ("train", "000002"): 1, ("person", "000003"): 1}
SIZES = {"000001": (40, 20), "000002": (30, 30), "000003": (20, 40)}

ANNOTATION = """<annotation>
  <size><width>{width}</width><height>{height}</height><depth>3</depth></size>
  {objects}
</annotation>"""
CAR = """<object><name>car</name><difficult>0</difficult>
  <bndbox><xmin>1</xmin><ymin>1</ymin><xmax>20</xmax><ymax>20</ymax></bndbox></object>"""
SMALL_CAR = """<object><name>car</name>
  <bndbox><xmin>31</xmin><ymin>11</ymin><xmax>34</xmax><ymax>12</ymax></bndbox></object>"""
HARD_PERSON = """<object><name>person</name><difficult>1</difficult>
  <bndbox><xmin>21</xmin><ymin>6</ymin><xmax>40</xmax><ymax>20</ymax></bndbox>
  <part><name>head</name><bndbox><xmin>22</xmin><ymin>6</ymin><xmax>30</xmax><ymax>9</ymax></bndbox></part></object>"""


@pytest.fixture
def devkit(tmp_path):
    """Root of a tiny VOCdevkit with a split `train` of three images, only the first one annotated."""
    folder = tmp_path / "VOCdevkit" / "VOC2012"
    for part in ("JPEGImages", "ImageSets/Main", "Annotations"):
        (folder / part).mkdir(parents=True)
    for shade, (name, size) in enumerate(SIZES.items(), start=1):
        Image.new("RGB", size, (shade * 60, 0, 0)).save(folder / "JPEGImages" / f"{name}.jpg", quality=95)
    sets = folder / "ImageSets" / "Main"
    (sets / "train.txt").write_text("\n".join(IDS) + "\n")
    for label in LABELS:
        lines = [f"{name} {MARKS.get((label, name), -1):2d}\n" for name in IDS]
        (sets / f"{label}_train.txt").write_text("".join(lines))
    annotate(tmp_path, CAR + SMALL_CAR + HARD_PERSON)
    return tmp_path


def annotate(root, objects, name="000001"):
    width, height = SIZES[name]
    path = root / "VOCdevkit" / "VOC2012" / "Annotations" / f"{name}.xml"
    path.write_text(ANNOTATION.format(width=width, height=height, objects=objects))
    return path


def load(root, name="voc2012", split="train", size=16):
    return load_dataset(name, split, root=root, size=size)


def main_file(root, name):
    return root / "VOCdevkit" / "VOC2012" / "ImageSets" / "Main" / name


# Labels


def test_marks_one_minus_one_zero_become_present_absent_ignored(devkit):
    dataset = load(devkit)
    expected = np.zeros((3, 20), dtype=np.int8)
    expected[0, LABELS.index("car")] = 1
    expected[0, LABELS.index("person")] = -1
    expected[1, LABELS.index("train")] = 1
    expected[2, LABELS.index("person")] = 1
    assert dataset.ids == IDS
    assert dataset.targets.dtype == np.int8
    np.testing.assert_array_equal(dataset.targets, expected)


def test_lines_of_a_class_file_may_come_in_any_order(devkit):
    before = load(devkit).targets
    path = main_file(devkit, "car_train.txt")
    path.write_text("\n".join(reversed(path.read_text().splitlines())))
    np.testing.assert_array_equal(load(devkit).targets, before)


@pytest.mark.parametrize("below", ["", "VOCdevkit", "VOCdevkit/VOC2012"])
def test_root_may_be_any_of_the_three_folders(devkit, below):
    assert len(load(devkit / below)) == 3


def test_picto_voc_is_read_by_the_same_reader(devkit):
    picto, real = load(devkit, "picto-voc"), load(devkit)
    assert type(picto) is type(real)
    assert picto.digest() == real.digest()


def test_the_other_years_folder_is_not_taken_for_the_one_asked(devkit):
    with pytest.raises(InputError, match="VOC2007/ImageSets/Main"):
        load(devkit / "VOCdevkit" / "VOC2012", "voc2007")


# Images


def test_item_is_an_image_in_the_unit_interval_with_its_targets(devkit):
    image, target = load(devkit)[1]
    assert image.shape == (3, 16, 16)
    assert image.dtype == torch.float32
    assert image[0].mean() == pytest.approx(120 / 255, abs=0.02)
    assert target.dtype == torch.int8
    assert target[LABELS.index("train")] == 1


def test_image_is_squashed_without_cropping(devkit):
    path = devkit / "VOCdevkit" / "VOC2012" / "JPEGImages" / "000001.jpg"
    picture = Image.new("RGB", (40, 20))
    picture.paste((255, 255, 255), (20, 0, 40, 20))
    picture.save(path, quality=95)
    image = load(devkit).read(0)
    assert image.dtype == torch.uint8
    assert image[:, :, :7].max() < 20
    assert image[:, :, 9:].min() > 235


def test_exif_orientation_is_applied(devkit):
    path = devkit / "VOCdevkit" / "VOC2012" / "JPEGImages" / "000001.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    Image.new("RGB", (40, 20)).save(path, exif=exif)
    assert load(devkit).original(0).size == (20, 40)


def test_grey_image_becomes_rgb(devkit):
    Image.new("L", (40, 20), 90).save(devkit / "VOCdevkit" / "VOC2012" / "JPEGImages" / "000001.jpg")
    assert load(devkit).read(0).shape == (3, 16, 16)


def test_workers_of_a_data_loader_read_the_same_images(devkit):
    dataset = load(devkit)
    images, targets = next(iter(DataLoader(dataset, batch_size=3, num_workers=1)))
    assert torch.equal(images[2], dataset[2][0])
    np.testing.assert_array_equal(targets.numpy(), dataset.targets)


@pytest.mark.parametrize("damage", [lambda data: data[: len(data) // 2], lambda data: b"", lambda data: b"GIF" + data])
def test_damaged_image_is_named(devkit, damage):
    path = devkit / "VOCdevkit" / "VOC2012" / "JPEGImages" / "000002.jpg"
    path.write_bytes(damage(path.read_bytes()))
    dataset = load(devkit)
    dataset.read(0)
    with pytest.raises(InputError, match=r"000002\.jpg"):
        dataset.read(1)


@pytest.mark.parametrize(("least", "size"), [
    (0, (800, 600)), (601, (800, 600)), (600, (800, 600)), (300, (400, 300)), (299, (400, 300)), (150, (200, 150)),
    (75, (100, 75)), (10, (100, 75)),
])  # fmt: skip
def test_draft_mode_halves_the_sides_while_both_keep_as_many_pixels(devkit, least, size):
    Image.new("RGB", (800, 600)).save(devkit / "VOCdevkit/VOC2012/JPEGImages/000001.jpg")
    assert load(devkit).original(0, least).size == size


def test_draft_mode_leaves_other_files_than_jpeg_whole_and_turns_what_is_turned(devkit):
    path = devkit / "VOCdevkit/VOC2012/JPEGImages/000001.jpg"
    Image.new("RGB", (800, 600)).save(path, "PNG")
    assert load(devkit).original(0, 16).size == (800, 600)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (800, 600)).save(path, "JPEG", exif=exif)
    assert load(devkit).original(0, 300).size == (300, 400)


def test_draft_mode_is_off_unless_asked_for_and_gives_nearly_the_same_image(devkit):
    shades = np.linspace(0, 255, 800 * 600 * 3).reshape(600, 800, 3).astype(np.uint8)
    Image.fromarray(shades).save(devkit / "VOCdevkit/VOC2012/JPEGImages/000001.jpg", quality=95)
    whole, draft = load(devkit, size=64), load(devkit, size=64)
    draft.draft = True
    expected = draft.original(0, 64)
    assert expected.size == (100, 75) and whole.original(0).size == (800, 600)
    assert not torch.equal(whole.read(0), draft.read(0))
    assert (whole.read(0).float() - draft.read(0).float()).abs().max() < 4


# Subsets and digests


def test_subset_keeps_images_and_labels_together(devkit):
    dataset = load(devkit)
    for part in (dataset.subset([2, 0]), dataset.subset(np.array([2, 0]))):
        assert part.ids == ("000003", "000001")
        np.testing.assert_array_equal(part.targets, dataset.targets[[2, 0]])
        assert torch.equal(part.read(0), dataset.read(2))
    assert dataset.subset(slice(1)).ids == dataset.subset([True, False, False]).ids == ("000001",)
    assert len(dataset) == 3


def test_digest_follows_labels_and_ids_but_not_pixels_or_place(devkit):
    digest = load(devkit).digest()
    picture = devkit / "VOCdevkit" / "VOC2012" / "JPEGImages" / "000001.jpg"
    Image.new("RGB", (8, 8)).save(picture)
    devkit.rename(devkit.with_name("elsewhere"))
    moved = devkit.with_name("elsewhere")
    assert load(moved, size=32).digest() == digest
    assert load(moved).subset([0, 1]).digest() != digest
    main_file(moved, "car_train.txt").write_text("000001 -1\n000002 -1\n000003 -1\n")
    assert load(moved).digest() != digest


# Boxes


def test_boxes_are_fractions_of_the_image_with_both_end_pixels_inside(devkit):
    boxes, classes = load(devkit).boxes(0)
    expected = [[0, 0, 0.5, 1], [30 / 40, 10 / 20, 34 / 40, 12 / 20], [0.5, 5 / 20, 1, 1]]
    np.testing.assert_allclose(boxes, expected, atol=1e-6)
    assert [LABELS[c] for c in classes] == ["car", "car", "person"]


def test_difficult_flags_are_kept(devkit):
    assert load(devkit).objects(0).difficult.tolist() == [False, False, True]


def test_image_without_objects_has_no_boxes(devkit):
    annotate(devkit, "", "000002")
    boxes, classes = load(devkit).boxes(1)
    assert boxes.shape == (0, 4)
    assert classes.shape == (0,)


def test_largest_objects_are_roots_of_relative_areas(devkit):
    for name in ("000002", "000003"):
        annotate(devkit, "", name)
    sizes = load(devkit).largest_objects()
    assert sizes[0, LABELS.index("car")] == pytest.approx(np.sqrt(0.5))
    assert sizes[0, LABELS.index("person")] == pytest.approx(np.sqrt(0.5 * 0.75))
    assert np.isfinite(sizes).sum() == 2


def test_boxes_are_had_only_when_every_image_is_annotated(devkit):
    dataset = load(devkit)
    assert not dataset.has_boxes
    with pytest.raises(InputError, match=r"000002\.xml"):
        dataset.boxes(1)
    assert dataset.subset([0]).has_boxes
    for name in ("000002", "000003"):
        annotate(devkit, "", name)
    assert dataset.has_boxes


@pytest.mark.parametrize(
    ("wrong", "right", "message"),
    [
        ("<name>horze</name>", "<name>car</name>", "'horze' is none of VOC's 20; did you mean 'horse'"),
        ("<xmax>0</xmax>", "<xmax>20</xmax>", "is empty"),
        ("<xmax>wide</xmax>", "<xmax>20</xmax>", "no number in bndbox/xmax but 'wide'"),
        ("<xmax>nan</xmax>", "<xmax>20</xmax>", "no number in bndbox/xmax"),
        ("", "<xmin>1</xmin>", "no number in bndbox/xmin"),
        ("</objet>", "</object>", "not well-formed"),
    ],
)
def test_malformed_annotation_is_named(devkit, wrong, right, message):
    assert right in CAR
    path = annotate(devkit, CAR.replace(right, wrong))
    with pytest.raises(InputError, match=message) as caught:
        load(devkit).boxes(0)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(("encoding", "message"), [("utf-8", "document type"), ("utf-16", "not well-formed")])
def test_annotation_with_entities_is_refused_in_any_encoding(devkit, encoding, message):
    # Sound apart from the entity: a parser that expands it finds a car.
    sound = ANNOTATION.format(width=40, height=20, objects=CAR.replace("car", "&word;"))
    text = f'<?xml version="1.0"?><!DOCTYPE annotation [<!ENTITY word "car">]>{sound}'
    annotate(devkit, CAR).write_bytes(text.encode(encoding))
    with pytest.raises(InputError, match=message):
        load(devkit).boxes(0)


# Refusals at load time


def test_missing_devkit_says_where_it_was_sought(tmp_path):
    with pytest.raises(InputError, match="VOCdevkit/VOC2012/ImageSets/Main; give the folder"):
        load(tmp_path)


def test_unprepared_picto_voc_says_how_to_prepare_it(tmp_path):
    with pytest.raises(InputError) as caught:
        load(tmp_path, "picto-voc")
    assert f"run `mlic data prepare picto-voc --root {tmp_path}`" in str(caught.value)


def test_unknown_data_set_names_the_nearest(tmp_path):
    with pytest.raises(InputError, match="did you mean 'voc2012'"):
        load(tmp_path, "voc2102")


def test_unknown_split_names_those_there_are(devkit):
    with pytest.raises(InputError, match=r"no split 'trian'.*there are train; did you mean 'train'"):
        load(devkit, split="trian")


def test_size_must_be_positive(devkit):
    with pytest.raises(InputError, match="data size is 0"):
        load(devkit, size=0)


def test_missing_class_file_is_named(devkit):
    main_file(devkit, "train_train.txt").unlink()
    with pytest.raises(InputError, match=r"train_train\.txt"):
        load(devkit)


@pytest.mark.parametrize("line", ["000002 2", "000002", "000002 1 1", "000002 present"])
def test_malformed_line_is_named_by_file_and_number(devkit, line):
    main_file(devkit, "cow_train.txt").write_text(f"000001 -1\n{line}\n000003 -1\n")
    with pytest.raises(InputError, match=r"cow_train\.txt, line 2"):
        load(devkit)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("000001 1\n000002 1\n", r"cow_train\.txt has no line for image 000003"),
        ("000001 1\n000002 1\n000003 1\n000004 1\n", r"cow_train\.txt, line 4: image 000004"),
        ("000001 1\n000001 1\n000003 1\n", r"cow_train\.txt, line 2: image 000001 is listed twice"),
    ],
)
def test_class_file_must_list_the_images_of_the_split(devkit, lines, message):
    main_file(devkit, "cow_train.txt").write_text(lines)
    with pytest.raises(InputError, match=message):
        load(devkit)


def test_listed_image_that_is_absent_is_named_with_its_line(devkit):
    (devkit / "VOCdevkit" / "VOC2012" / "JPEGImages" / "000002.jpg").unlink()
    with pytest.raises(InputError, match=r"train\.txt, line 2: image 000002 has no file .*000002\.jpg"):
        load(devkit)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "lists no image"),
        (b"\xff\xfe\x00", "is not text"),
        (b"000001 1\n", "line 1: expected one image id"),
        (b"000001\n000001\n", "line 2: image 000001 is listed twice"),
    ],
)
def test_malformed_split_file_is_named(devkit, content, message):
    main_file(devkit, "train.txt").write_bytes(content)
    with pytest.raises(InputError, match=rf"train\.txt.*{message}"):
        load(devkit)


# The real photographs


@needs_real_devkit
def test_real_devkit_is_read_unchanged():
    train, val, both = (load(REAL, split=split) for split in ("train", "val", "trainval"))
    assert (len(train), len(val), len(both)) == (1728, 864, 2592)
    assert set(train.ids) | set(val.ids) == set(both.ids)
    assert ((both.targets == 1).sum(), (both.targets == -1).sum()) == (3433, 192)
    assert val[0][0].shape == (3, 16, 16)


@needs_real_devkit
def test_real_devkit_without_annotations_says_so():
    dataset = load(REAL, split="val")
    assert not dataset.has_boxes
    with pytest.raises(InputError, match="cannot read annotation"):
        dataset.boxes(0)
