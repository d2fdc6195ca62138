"""The CSV reader, in both layouts, against pandas; and images of every odd kind."""

import struct
import zlib

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from mlic_core.data import csvfile, load_dataset
from mlic_core.errors import InputError
from mlic_core.study.experiments import Data, config, from_settings, open_splits, run_name
from mlic_core.study.predict import Photos
from mlic_core.study.store import Store

WORDS = """image,labels,split
a.jpg,dog;cat,train
sub/b.jpg,,train
c.jpg,cat | zebra ,val
d.jpg,ape,test
"""
COLUMNS = """image,zebra,split,cat
a.jpg,1,train,-1
sub/b.jpg,0,train,1
c.jpg, -1 ,val,0
d.jpg,0,test,0
"""
IMAGES = ("a.jpg", "sub/b.jpg", "c.jpg", "d.jpg")


@pytest.fixture
def folder(tmp_path):
    """Four images, each of its own shade."""
    (tmp_path / "sub").mkdir()
    for shade, name in enumerate(IMAGES):
        Image.new("RGB", (40, 20), (shade * 60, 0, 0)).save(tmp_path / name, quality=95)
    return tmp_path


def write(folder, text, name="labels.csv"):
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def load(folder, text, split="train"):
    return load_dataset(f"csv:{write(folder, text)}", split, root="", size=16)


# Labels


def test_classes_of_a_column_of_labels_are_sorted_and_the_same_in_every_split(folder):
    train, val = load(folder, WORDS), load(folder, WORDS, "val")
    assert train.labels == val.labels == ("ape", "cat", "dog", "zebra")
    assert train.ids == ("a.jpg", "sub/b.jpg") and val.ids == ("c.jpg",)
    assert train.targets.dtype == np.int8
    assert train.targets.tolist() == [[0, 1, 1, 0], [0, 0, 0, 0]]
    assert val.targets.tolist() == [[0, 1, 0, 1]]


def test_one_column_a_class_keeps_the_order_of_the_file_and_ignored_entries(folder):
    train = load(folder, COLUMNS)
    assert train.labels == ("zebra", "cat")
    assert train.targets.tolist() == [[1, -1], [0, 1]]
    assert load(folder, COLUMNS, "val").targets.tolist() == [[-1, 0]]


def test_both_layouts_agree_with_pandas(folder):
    rng = np.random.default_rng(0)
    flags = rng.integers(0, 2, (4, 12))
    flags[0] = 1
    table = pd.DataFrame(flags, columns=[f"class {i:02d}" for i in range(12)])
    table.insert(0, "image", IMAGES)
    columns = load(folder, table.to_csv(index=False), "all")
    read_again = pd.read_csv(folder / "labels.csv").set_index("image")
    np.testing.assert_array_equal(columns.targets, read_again.to_numpy())
    assert columns.labels == tuple(read_again.columns)
    words = pd.DataFrame({"image": IMAGES, "labels": [";".join(table.columns[1:][row == 1]) for row in flags]})
    same = load(folder, words.to_csv(index=False), "all")
    assert (same.labels, same.ids) == (columns.labels, columns.ids)
    np.testing.assert_array_equal(same.targets, words.labels.fillna("").str.get_dummies(";"))


@pytest.mark.parametrize("change", [
    lambda text: "\ufeff" + text,
    lambda text: text.replace("\n", "\r\n"),
    lambda text: text.replace("\n", "\n\n"),
    lambda text: text.rstrip(),
    lambda text: text.replace("a.jpg", '"a.jpg"').replace("sub/", "./sub/../sub/"),
    lambda text: text.replace(",", " , ").replace("cat ", "cat"),
])  # fmt: skip
def test_how_the_text_is_written_makes_no_difference(folder, change):
    assert load(folder, change(COLUMNS)).digest() == load(folder, COLUMNS).digest()


def test_a_label_may_hold_commas_and_any_script(folder):
    dataset = load(folder, 'image,labels\na.jpg,"salt, pepper;Käse;水"\n', "all")
    assert dataset.labels == ("Käse", "salt, pepper", "水")


# Images


def test_paths_are_relative_to_the_file_or_absolute(folder, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "e.jpg"
    Image.new("RGB", (8, 8), (255, 0, 0)).save(elsewhere)
    dataset = load(folder, f"image,dog\n{folder}/c.jpg,1\n{elsewhere},0\n", "all")
    assert dataset.ids == ("c.jpg", str(elsewhere))
    assert dataset[0][0].shape == (3, 16, 16)
    assert dataset[0][0][0].mean() == pytest.approx(120 / 255, abs=0.02)
    assert dataset.read(1)[0].min() >= 250


def test_images_without_a_file_are_counted(folder):
    (folder / "a.jpg").unlink()
    (folder / "sub/b.jpg").unlink()
    (folder / "sub").rmdir()
    with pytest.raises(InputError, match=r"labels.csv: 2 of 2 images have no file, such as .*a\.jpg; paths are relat"):
        load(folder, COLUMNS)
    assert len(load(folder, COLUMNS, "val")) == 1


def picture(mode, size=(6, 4)):
    rng = np.random.default_rng(1)
    return Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)).convert(mode)


@pytest.mark.parametrize(("name", "image"), [
    ("grey.png", picture("L")), ("grey-alpha.png", picture("LA")), ("bits.png", picture("1")),
    ("palette.gif", picture("P")), ("alpha.png", picture("RGBA")), ("cmyk.jpg", picture("CMYK")),
    ("cmyk.tif", picture("CMYK")), ("line.png", picture("RGB", (1, 300))), ("row.jpg", picture("RGB", (300, 1))),
    ("point.bmp", picture("RGB", (1, 1))), ("photo.webp", picture("RGB")),
])  # fmt: skip
def test_images_of_other_kinds_become_rgb(folder, name, image):
    image.save(folder / name)
    dataset = load(folder, f"image,dog\n{name},1\n", "all")
    assert dataset.original(0).mode == "RGB" and dataset.original(0).size == image.size
    assert dataset.read(0).shape == (3, 16, 16)


def test_a_cmyk_image_keeps_its_colours(folder):
    Image.new("CMYK", (4, 4), (0, 255, 255, 0)).save(folder / "red.tif")
    assert load(folder, "image,dog\nred.tif,1\n", "all").original(0).getpixel((0, 0)) == (255, 0, 0)


def test_a_turned_photograph_is_set_upright(folder):
    exif = Image.Exif()
    exif[0x0112] = 8  # a quarter turn to the left
    picture = Image.new("RGB", (40, 20))
    picture.paste((255, 255, 255), (30, 0, 40, 20))  # on the right, so on top when upright
    picture.save(folder / "turned.jpg", exif=exif, quality=95)
    upright = load(folder, "image,dog\nturned.jpg,1\n", "all").original(0)
    assert upright.size == (20, 40)
    assert upright.getpixel((10, 2))[0] > 240 and upright.getpixel((10, 37))[0] < 15


def png(width, height, pixels=b""):
    """A PNG of 16 bits a colour, by hand: Pillow doesn't write such ones."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    parts = chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(pixels)), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def test_sixteen_bits_a_colour_are_brought_to_eight(folder):
    (folder / "deep.png").write_bytes(png(1, 1, b"\0" + bytes.fromhex("8012403400ff")))
    assert load(folder, "image,dog\ndeep.png,1\n", "all").original(0).getpixel((0, 0)) == (0x80, 0x40, 0)


@pytest.mark.parametrize(("name", "array"), [
    ("deep.png", np.full((4, 4), 5000, np.uint16)), ("deep.tif", np.full((4, 4), 5000, np.int32)),
    ("real.tif", np.full((4, 4), 0.5, np.float32)),
])  # fmt: skip
def test_grey_of_more_than_eight_bits_is_refused_by_name(folder, name, array):
    Image.fromarray(array).save(folder / name)
    with pytest.raises(InputError, match=rf"cannot read image .*{name}: it has more than 8 bits a pixel \(mode [IF]"):
        load(folder, f"image,dog\n{name},1\n", "all").read(0)


def test_grey_of_sixteen_bits_is_refused_for_prediction_too(folder):
    Image.fromarray(np.full((4, 4), 5000, np.uint16)).save(folder / "deep.png")
    with pytest.raises(InputError, match=r"deep\.png: it has more than 8 bits"):
        Photos([folder / "deep.png"], ["dog"], 16).read(0)


def test_truncated_empty_and_foreign_files_are_refused_by_name(folder):
    whole = (folder / "a.jpg").read_bytes()
    for damage in (whole[: len(whole) // 2], b"", b"plain text"):
        (folder / "a.jpg").write_bytes(damage)
        with pytest.raises(InputError, match=r"cannot read image .*a\.jpg"):
            load(folder, "image,dog\na.jpg,1\n", "all").read(0)


def test_a_huge_image_is_refused_before_it_fills_the_memory(folder):
    (folder / "huge.png").write_bytes(png(20_000, 20_000))
    with pytest.raises(InputError, match=r"cannot read image .*huge\.png: .*decompression bomb"):
        load(folder, "image,dog\nhuge.png,1\n", "all").read(0)


# Refusals


@pytest.mark.parametrize(("text", "message"), [
    ("", r"line 1: expected names of columns, separated by commas, with 'image', found ''"),
    ("image;labels\na.jpg;dog\n", r"line 1: expected names .*found 'image;labels'"),
    ("file,dog\na.jpg,1\n", r"line 1: expected .*'image', found 'file,dog'"),
    ("image,,dog\na.jpg,1,1\n", r"line 1: column 2 has no name"),
    ("image,dog, dog\na.jpg,1,1\n", r"line 1: the column 'dog' is there twice"),
    ("image,image,dog\na.jpg,b.jpg,1\n", r"line 1: the column 'image' is there twice"),
    ("image,labels,dog\na.jpg,dog,1\n", r"line 1: give either .*not both \('dog'\)"),
    ("image,split\na.jpg,train\n", r"line 1: there is no class"),
    ("image,dog\n", "lists no image"),
    ("image,labels\na.jpg,\n", "no image has a label"),
    ("image,dog\na.jpg,1\nc.jpg\n", r"line 3: expected 2 cells as in the first line, found 1"),
    ("image,dog\na.jpg,1,0\n", r"line 2: expected 2 cells as in the first line, found 3"),
    ("image,dog\n,1\n", r"line 2: the column 'image' is empty"),
    ("image,dog,split\na.jpg,1,\n", r"line 2: the column 'split' is empty"),
    ("image,dog\na.jpg,1\nsub/b.jpg,0\n./a.jpg,1\n", r"line 4: image a.jpg is listed twice, before in line 2"),
    ("image,dog,split\na.jpg,1,train\na.jpg,1,val\n", r"line 3: image a.jpg is listed twice"),
    ("image,dog\na.jpg,2\n", r"line 2, column 'dog': expected 1 \(present\), .* found '2'"),
    ("image,dog,cat\na.jpg,1,\n", r"line 2, column 'cat': expected 1 .* found ''"),
    ("image,dog\na.jpg,1.0\n", r"found '1\.0'"),
    ("image,labels\na.jpg,dog;;cat\n", r"line 2: a label is empty in 'dog;;cat'"),
    ("image,labels\na.jpg,dog;cat|dog\n", r"line 2: a label is named twice in 'dog;cat\|dog'"),
    ('image,dog\n"a.jpg,1\n', "is not a CSV file: unexpected end of data"),
    ("image,dog\na.jpg,1\0\n", "line 2 has a NUL byte"),
    (b"image,dog\na.jpg,\xff\n", "is not UTF-8 text"),
    ("image,dog\na.jpg,1\n".encode("utf-16"), "is not UTF-8 text"),
    ("image,dog\na.jpg," + "1" * 2**20, r"line 2 has more than 1048576 characters"),
    ("image,labels\na.jpg," + "1" * 2**18, r"is not a CSV file: field larger than field limit"),
])  # fmt: skip
def test_a_malformed_file_is_named_with_its_line(folder, text, message):
    with pytest.raises(InputError, match=message) as caught:
        load(folder, text, "all")
    assert str(folder / "labels.csv") in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("more", [0, 1])
def test_a_line_may_be_as_long_as_the_limit(folder, more):
    names = [f"{i:02d}".ljust(100_000, "x") for i in range(10)]
    names.append("y" * (csvfile.LONGEST - len(",".join(["image", *names, "\n"])) + more))
    text = ",".join(["image", *names]) + "\na.jpg" + ",0" * 11 + "\n"
    if more:
        with pytest.raises(InputError, match=r"line 1 has more than 1048576 characters"):
            load(folder, text, "all")
    else:
        assert load(folder, text, "all").labels == tuple(names)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"cannot read .*nowhere\.csv: No such file.*data\.name=csv:PATH"):
        load_dataset(f"csv:{tmp_path}/nowhere.csv", "train", root="", size=16)


def test_another_split_is_refused_with_those_there_are(folder):
    with pytest.raises(InputError, match=r"has no split 'trian', only test, train, val; did you mean 'train'"):
        load(folder, WORDS, "trian")
    with pytest.raises(InputError, match=r"no split 'train', only all; add a column 'split', or .*data\.train=all and"):
        load(folder, "image,dog\na.jpg,1\n")


def test_splits_come_in_the_order_of_the_file(folder):
    assert csvfile.splits(write(folder, WORDS)) == ("train", "val", "test")
    assert csvfile.splits(write(folder, "image,dog\na.jpg,1\n")) == ("all",)


# In the study

TINY = {"trunk.name": "pictonet-s", "trunk.weights": "none", "data.size": 32, "recipe.epochs": 1}


def experiment(path, **more):
    return from_settings({**TINY, "data.name": f"csv:{path}", "data.eval": "test", **more})


def test_a_run_is_named_after_labels_and_ids_but_not_after_the_place(folder, tmp_path_factory):
    path = write(folder, COLUMNS)
    before = run_name(experiment(path))
    moved = tmp_path_factory.mktemp("moved") / "data"
    folder.rename(moved)
    assert run_name(experiment(moved / "labels.csv")) == before
    assert (
        run_name(from_settings({**TINY, "data": "csv:labels.csv", "data.root": str(moved), "data.eval": "test"}))
        == before
    )
    stored = config(experiment(moved / "labels.csv"))
    assert (stored["data.name"], stored["data.root"]) == ("csv", "")
    other = write(moved, COLUMNS.replace("sub/b.jpg,0", "sub/b.jpg,1"), "other.csv")
    assert run_name(experiment(other)) != before
    (moved / "d.jpg").rename(moved / "e.jpg")
    renamed = write(moved, COLUMNS.replace("d.jpg", "e.jpg"), "renamed.csv")
    assert run_name(experiment(renamed)) != before


def test_the_name_of_the_data_set_holds_no_path():
    data = Data(name="csv:some/labels.csv", root="/data")
    assert (data.name, data.root) == ("csv", "/data/some/labels.csv")
    assert Data(name="csv:/abs/labels.csv", root="/data").root == "/abs/labels.csv"


def test_a_model_is_trained_and_scored_on_a_csv_file(folder, tmp_path):
    record = Store(tmp_path / "runs").run(experiment(write(folder, WORDS)))
    assert record.scores()["ids"].tolist() == ["d.jpg"]
    assert record.scores()["targets"].tolist() == [[1, 0, 0, 0]]


def test_a_csv_file_has_to_be_named(folder):
    with pytest.raises(InputError, match=r"data\.name=csv: name the file too"):
        open_splits(from_settings({**TINY, "data.name": "csv"}).data)
