"""The instances reader, on a data set of four images made here and on real ones where they are at hand."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torchvision.models.detection import FasterRCNN_ResNet50_FPN_Weights

from mlic_core import plots
from mlic_core.data import coco, load_dataset
from mlic_core.errors import InputError
from mlic_core.study.experiments import from_settings, open_split
from mlic_core.study.store import Store

REAL = Path(__file__).resolve().parents[2] / "shared" / "real" / "COCO_Tiny"
needs_real_images = pytest.mark.skipif(not REAL.is_dir(), reason="the real images are not beside the repository")

NAME = "COCO_train2014_{:012d}"


def instance(number, image, category, box=(0, 0, 10, 10), crowd=0):
    outline = {"counts": [3, 4], "size": [20, 40]} if crowd else [[0.5, 0.5, 9.5, 0.5, 9.5, 9.5]]
    return {"id": number, "image_id": image, "category_id": category, "bbox": list(box), "iscrowd": crowd,
            "segmentation": outline, "area": 1.0}  # fmt: skip


@pytest.fixture
def content():
    """An instances file: images 9, 5, 7 and 30 (without an instance) of 40 x 20 pixels, categories 1, 3 and 90."""
    images = [{"id": i, "file_name": NAME.format(i) + ".jpg", "width": 40, "height": 20} for i in (9, 5, 7, 30)]
    annotations = [
        instance(1, 9, 3, (10, 5, 20, 10)),
        instance(2, 5, 1, (0, 0, 45, 20)),  # a little wider than the image, as rounding makes them
        instance(3, 9, 90, (4, 4, 8.5, 12)),
        instance(4, 9, 3, (30, 10, 10, 10)),
        instance(5, 7, 90, (0, 0, 40, 20), crowd=1),
        instance(6, 5, 3, (7, 7, 0, 5)),  # without an area
    ]
    categories = [{"id": 90, "name": "toothbrush"}, {"id": 1, "name": "person"}, {"id": 3, "name": "car"}]
    return {"info": {}, "images": images, "annotations": annotations, "categories": categories}


@pytest.fixture
def root(tmp_path, content):
    (tmp_path / "annotations").mkdir()
    (tmp_path / "train2014").mkdir()
    for entry in content["images"]:
        Image.new("RGB", (40, 20), (entry["id"] * 8, 0, 0)).save(tmp_path / "train2014" / entry["file_name"])
    write(tmp_path, content)
    return tmp_path


def write(root, content):
    (root / "annotations/instances_train2014.json").write_text(json.dumps(content))


def load(root, name="coco2014", split="train", size=16):
    return load_dataset(name, split, root=root, size=size)


def test_labels_are_the_categories_by_their_ids_and_images_come_by_theirs(root):
    dataset = load(root)
    assert dataset.labels == ("person", "car", "toothbrush")
    assert dataset.ids == tuple(NAME.format(i) for i in (5, 7, 9))
    assert dataset.targets.dtype == np.int8
    assert dataset.targets.tolist() == [[1, 1, 0], [0, 0, 1], [0, 1, 1]]


def test_an_image_without_an_instance_is_dropped_with_its_file(root, content):
    (root / "train2014" / content["images"][-1]["file_name"]).unlink()
    assert NAME.format(30) not in load(root).ids


def test_images_without_an_instance_are_kept_where_they_are_asked_for(root, content):
    dropped = load(root)
    everything = load_dataset("coco2014", "train", root=root, size=16, unlabelled=True)
    assert sorted(everything.ids) == sorted(Path(image["file_name"]).stem for image in content["images"])
    row = everything.ids.index(NAME.format(30))
    assert not everything.targets[row].any() and everything.boxes(row)[0].shape == (0, 4)
    kept = [everything.ids.index(name) for name in dropped.ids]
    np.testing.assert_array_equal(everything.targets[kept], dropped.targets)


def test_the_setting_keeps_them_and_is_one_of_coco_alone(root):
    names = {"data.name": "coco2014", "data.root": str(root), "data.monitor": ""}
    found = [open_split(from_settings(names | {"data.unlabelled": choice}).data, "train") for choice in (True, False)]
    assert len(found[0]) > len(found[1])
    with pytest.raises(InputError, match=r"data\.unlabelled=true: that is a choice with COCO only, not with voc2007"):
        load_dataset("voc2007", "train", root=root, size=16, unlabelled=True)


def test_a_crowd_region_is_a_label_without_a_box(root):
    dataset = load(root)
    assert dataset.targets[1].tolist() == [0, 0, 1]
    boxes, classes = dataset.boxes(1)
    assert boxes.shape == (0, 4) and classes.shape == (0,)
    assert np.isnan(dataset.largest_objects()[1]).all()


def test_boxes_are_fractions_of_the_image(root):
    boxes, classes = load(root).boxes(2)
    expected = [[0.25, 0.25, 0.75, 0.75], [0.1, 0.2, 0.3125, 0.8], [0.75, 0.5, 1, 1]]
    np.testing.assert_allclose(boxes, expected, atol=1e-6)
    assert classes.tolist() == [1, 2, 1]


def test_a_box_is_cut_at_the_border_and_left_out_without_an_area(root):
    boxes, classes = load(root).boxes(0)
    assert boxes.tolist() == [[0, 0, 1, 1]] and classes.tolist() == [0]


def test_images_are_those_of_their_ids_and_stay_so_in_a_subset(root):
    dataset = load(root)
    part = dataset.subset([2, 0])
    assert dataset[0][0].shape == (3, 16, 16)
    assert [part.original(i).getpixel((0, 0))[0] // 8 for i in range(2)] == pytest.approx([9, 5], abs=1)
    np.testing.assert_array_equal(part.boxes(0)[0], dataset.boxes(2)[0])
    assert dataset.has_boxes


def test_each_year_has_its_own_folders(root):
    with pytest.raises(InputError, match=r"coco2017 is not in .*instances_train2017\.json; give the folder"):
        load(root, "coco2017")
    (root / "annotations/instances_train2014.json").rename(root / "annotations/instances_train2017.json")
    (root / "train2014").rename(root / "train2017")
    assert len(load(root, "coco2017")) == 3


def test_a_missing_split_names_those_there_are(root):
    with pytest.raises(InputError, match=r"no split 'trian': .* there are train; did you mean 'train'"):
        load(root, split="trian")


def test_an_unprepared_picto_coco_says_how_to_prepare_it(tmp_path):
    with pytest.raises(InputError) as caught:
        load(tmp_path, "picto-coco", "test")
    assert f"run `mlic data prepare picto-coco --root {tmp_path}`" in str(caught.value)


@pytest.mark.parametrize(("place", "value", "message"), [
    (("images",), None, "has no list 'images'"),
    (("annotations",), {}, "has no list 'annotations'"),
    (("annotations",), [], "annotates no image"),
    (("annotations", 2), 7, r"annotations\[2\] is no JSON object"),
    (("annotations", 1, "category_id"), 2, r"annotations\[1\]: 'category_id' 2 is not in categories"),
    (("annotations", 1, "category_id"), 91, r"annotations\[1\]: 'category_id' 91 is not in categories"),
    (("annotations", 1, "category_id"), "car", r"annotations\[1\]: 'category_id' is 'car', expected an integer"),
    (("annotations", 3, "image_id"), 6, r"annotations\[3\]: 'image_id' 6 is not in images"),
    (("annotations", 3, "image_id"), None, r"annotations\[3\]: 'image_id' is missing"),
    (("annotations", 0, "bbox"), None, r"annotations\[0\]: 'bbox' is missing, expected a list of x, y, width and"),
    (("annotations", 0, "bbox"), [1, 2, 3], r"annotations\[0\]: 'bbox' is '\[1, 2, 3\]'"),
    (("annotations", 0, "bbox"), [1, 2, -3, 4], r"annotations\[0\]: 'bbox'"),
    (("annotations", 0, "bbox"), [1, 2, float("nan"), 4], r"annotations\[0\]: 'bbox'"),
    (("annotations", 0, "iscrowd"), "no", r"annotations\[0\]: 'iscrowd' is 'no', expected 0 or 1"),
    (("images", 1, "width"), 0, r"images\[1\]: 'width' is '0', expected a number above 0"),
    (("images", 1, "file_name"), "", r"images\[1\]: 'file_name' is '', expected a text"),
    (("images", 1, "id"), 9, "images has id 9 twice"),
    (("categories", 0, "id"), True, r"categories\[0\]: 'id' is 'True', expected an integer"),
    (("categories", 0, "name"), "car", "two categories have the same name"),
])  # fmt: skip
def test_a_wrong_entry_is_named_with_the_file_and_its_key(root, content, place, value, message):
    part = content
    for step in place[:-1]:
        part = part[step]
    if value is None:
        del part[place[-1]]
    else:
        part[place[-1]] = value
    write(root, content)
    with pytest.raises(InputError, match=message) as caught:
        load(root)
    assert "instances_train2014.json" in str(caught.value)


@pytest.mark.parametrize("text", [b"", b'{"images": [', b"\xff\xfe\x00", b"[" * 100_000, b"[]"])
def test_a_file_that_is_no_instances_file_is_named(root, text):
    (root / "annotations/instances_train2014.json").write_bytes(text)
    with pytest.raises(InputError, match=r"instances_train2014\.json (is not JSON|holds no JSON object)"):
        load(root)


def test_a_missing_image_is_named(root):
    path = root / "train2014" / f"{NAME.format(7)}.jpg"
    path.unlink()
    with pytest.raises(InputError, match=f"there is no file {path}"):
        load(root)
    for rest in (root / "train2014").iterdir():
        rest.unlink()
    (root / "train2014").rmdir()
    with pytest.raises(InputError, match=r"cannot list the images in .*train2014"):
        load(root)


def test_outlines_are_dropped_while_reading(root):
    content = coco._read(root / "annotations/instances_train2014.json")
    assert all("segmentation" not in entry for entry in content["annotations"])


# The real photographs


@needs_real_images
@pytest.mark.parametrize(("split", "labels", "objects"), [("train", 302, 699), ("val", 324, 804)])
def test_real_images_are_read_unchanged(split, labels, objects):
    dataset = load(REAL, "coco2017", split)
    assert len(dataset) == 80
    assert dataset.labels[:3] + dataset.labels[-2:] == ("person", "bicycle", "car", "hair drier", "toothbrush")
    assert len(dataset.labels) == 80
    assert (dataset.targets == 1).sum() == labels
    assert sum(len(dataset.boxes(index)[0]) for index in range(80)) == objects
    assert dataset[0][0].shape == (3, 16, 16)
    assert ((dataset.largest_objects() > 0).sum(1) <= (dataset.targets == 1).sum(1)).all()


@needs_real_images
def test_the_80_classes_come_in_the_order_of_torchvision_s_detectors():
    """Theirs are the 91 ids, with a background before and N/A for those that COCO leaves out."""
    names = FasterRCNN_ResNet50_FPN_Weights.COCO_V1.meta["categories"]
    expected = tuple(name for name in names if name not in ("__background__", "N/A"))
    assert len(expected) == 80 and load(REAL, "coco2017").labels == expected


@needs_real_images
def test_real_labels_are_those_of_the_annotations():
    """The same labels by the plainest reading of the file."""
    content = json.loads((REAL / "annotations/instances_val2017.json").read_text())
    names = {entry["id"]: entry["name"] for entry in content["categories"]}
    expected = {entry["file_name"].removesuffix(".jpg"): set() for entry in content["images"]}
    files = {entry["id"]: entry["file_name"].removesuffix(".jpg") for entry in content["images"]}
    for entry in content["annotations"]:
        expected[files[entry["image_id"]]].add(names[entry["category_id"]])
    dataset = load(REAL, "coco2017", "val")
    found = [{dataset.labels[column] for column in np.flatnonzero(row)} for row in dataset.targets]
    assert dict(zip(dataset.ids, found, strict=True)) == expected


@needs_real_images
def test_real_images_are_trained_on_scored_and_drawn_with_their_boxes(tmp_path):
    """Two steps of the baseline; the drawing has one rectangle for each box, where the annotation says."""
    experiment = from_settings({
        "data.name": "coco2017", "data.root": str(REAL), "data.size": 32, "trunk.name": "pictonet-s",
        "trunk.weights": "none", "recipe.epochs": 1, "recipe.batch_size": 40,
    })  # fmt: skip
    record = Store(tmp_path).run(experiment)
    arrays, dataset = record.scores(), load(REAL, "coco2017", "val")
    assert arrays["logits"].shape == (80, 80) and tuple(arrays["ids"]) == dataset.ids
    shown = (dataset.targets == 1).any(0)
    assert record.metrics["classes"] == shown.sum() and 0 < record.metrics["mAP"] < 100
    assert [label for label, ap in record.metrics["AP"].items() if ap is None] == list(np.array(dataset.labels)[~shown])
    index = int((dataset.targets == 1).sum(1).argmax())
    (boxes, classes), image = dataset.boxes(index), dataset.original(index)
    names = [dataset.labels[label] for label in classes]
    figure = plots.contact_sheet([image], ["val"], columns=1, boxes=[plots.Boxes(boxes, names)])
    drawn = np.array([patch.get_bbox().bounds for patch in figure.axes[0].patches])  # x, y, width and height
    content = json.loads((REAL / "annotations/instances_val2017.json").read_text())
    wanted = [entry["bbox"] for entry in content["annotations"]
              if entry["image_id"] == int(dataset.ids[index]) and not entry["iscrowd"]]  # fmt: skip
    np.testing.assert_allclose(sorted(drawn.tolist()), sorted(wanted), atol=0.01)  # pixels
