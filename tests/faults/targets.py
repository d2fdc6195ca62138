"""What is fuzzed: valid inputs of every reader of files and settings from outside, and how each is read."""

import io
import json
import tarfile
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import nbformat.v4 as v4
import numpy as np
import torch
from PIL import Image

from mlic_core.data import coco, csvfile, load_dataset, nuswide, voc
from mlic_core.data.archives import extract
from mlic_core.models.proposals import BoxFile
from mlic_core.study.checkpoints import import_mcar
from mlic_core.study.cli_outside import pairs
from mlic_core.study.experiments import from_settings
from mlic_core.study.notebook_pages import read_notebooks
from mlic_core.study.page import read_manifest
from mlic_core.study.profile import flatten, read_toml
from mlic_core.study.record import read_record
from mlic_core.study.store import Store


class Target(NamedTuple):
    """valid: inputs that are read. read: takes one as bytes. names: one of these is in every refusal."""

    valid: Sequence[bytes]
    read: Callable[[bytes], object]
    names: Sequence[str]


def _file(path: Path, use: Callable[[Path], object]) -> Callable[[bytes], object]:
    """Reads bytes by way of a file."""
    path.parent.mkdir(parents=True, exist_ok=True)

    def read(content: bytes) -> object:
        path.write_bytes(content)
        return use(path)

    return read


def settings(folder: Path) -> Target:
    """--set KEY=VALUE."""
    valid = [b"recipe.lr=1e-4", b"recipe.milestones=[30, 50]", b"method.name=mcar", b"data.picto.labels=(0.5, 0.5)",
             b"trunk.weights=none", b"recipe.clip=0", b"data.size=64", b"seed=3", b"recipe.flip=true"]  # fmt: skip
    names = ["data.", "trunk", "method", "recipe", "seed", "--set", "setting"]
    return Target(valid, lambda content: from_settings(pairs([content.decode(errors="surrogateescape")])), names)


def toml(folder: Path) -> Target:
    """A configuration file of `mlic run`."""
    valid = b'method.name = "mcar"\nseed = 1\n[recipe]\nlr = 0.1\nmilestones = [3, 5]\nflip = true\n[data]\nsize = 64'
    path = folder / "config.toml"
    read = _file(path, lambda path: from_settings(flatten(read_toml(path))))
    return Target([valid], read, [str(path), *settings(folder).names])


def csv(folder: Path) -> Target:
    valid = [b"image,labels,split\na.jpg,cat;dog,train\nb.jpg,dog,test\nc.jpg,,train\n",
             b"image,cat,dog\na.jpg,1,0\nb/c.jpg,0,-1\n"]  # fmt: skip
    return Target(valid, _file(folder / "own.csv", csvfile.read_table), [str(folder / "own.csv")])


def boxes(folder: Path) -> Target:
    valid = b"id,x0,y0,x1,y1,score\na,0,0,0.5,0.5,1\na,0.1,0.1,0.6,0.5,2\nb,0,0,1,1,-3\n"
    return Target([valid], _file(folder / "boxes.csv", lambda path: BoxFile(str(path))), [str(folder / "boxes.csv")])


def voc_xml(folder: Path) -> Target:
    box = "<bndbox><xmin>2</xmin><ymin>3</ymin><xmax>40.5</xmax><ymax>60</ymax></bndbox>"
    thing = f"<object><name>dog</name><difficult>0</difficult>{box}</object>"
    valid = f"<annotation><size><width>64</width><height>64</height></size>{thing * 2}</annotation>"
    read = _file(folder / "a.xml", voc.read_annotation)
    return Target([valid.encode(), b"<?xml version='1.0'?>" + valid.encode()], read, [str(folder / "a.xml")])


def voc_lists(folder: Path) -> Target:
    """The list of a split, and a class file."""
    sets, images = folder / "VOCdevkit/VOC2012/ImageSets/Main", folder / "VOCdevkit/VOC2012/JPEGImages"
    images.mkdir(parents=True)
    sets.mkdir(parents=True)
    for name in ("2008_01", "2008_02"):
        (images / f"{name}.jpg").touch()
    for label in voc.LABELS:
        (sets / f"{label}_val.txt").write_text("2008_01  1\n2008_02 -1\n")
    (sets / "val.txt").write_text("2008_01\n2008_02\n")

    def read(content: bytes) -> object:
        path = sets / ("dog_val.txt" if b" " in content else "val.txt")
        before = path.read_bytes()
        path.write_bytes(content)
        try:
            return load_dataset("voc2012", "val", root=folder, size=16)
        finally:
            path.write_bytes(before)

    return Target([b"2008_01  0\n2008_02 -1\n", b"2008_01\n2008_02\n"], read, [str(folder)])


def coco_json(folder: Path) -> Target:
    content = {
        "images": [{"id": 7, "file_name": "a.jpg", "width": 64, "height": 48}],
        "annotations": [{"image_id": 7, "category_id": 3, "bbox": [1, 2, 30.5, 20], "iscrowd": 0, "segmentation": []}],
        "categories": [{"id": 3, "name": "cat"}, {"id": 1, "name": "dog"}],
    }
    path = folder / "instances.json"
    return Target([json.dumps(content).encode()], _file(path, coco.read_instances), [str(path)])


def nuswide_lists(folder: Path) -> Target:
    """The list of images, the concepts and a table of flags."""
    for place, text in {"ImageList/TrainImagelist.txt": "a\\1.jpg\nb\\2.jpg\n", "Concepts81.txt": "sky\nsea\n",
                        "Groundtruth/TrainTestLabels/Labels_sky_Train.txt": "0\n1\n",
                        "Groundtruth/TrainTestLabels/Labels_sea_Train.txt": "1\n1\n"}.items():  # fmt: skip
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        (folder / place).write_text(text)
    for image in ("a/1.jpg", "b/2.jpg"):
        (folder / "Flickr" / image).parent.mkdir(parents=True)
        (folder / "Flickr" / image).touch()
    kinds = {b"jpg": "ImageList/TrainImagelist.txt", b"s": "Concepts81.txt",
             b"": "Groundtruth/TrainTestLabels/Labels_sky_Train.txt"}  # fmt: skip

    def read(content: bytes) -> object:
        path = folder / next(place for mark, place in kinds.items() if mark in content)
        before = path.read_bytes()
        path.write_bytes(content)
        try:
            return nuswide.load("nuswide81", "train", root=folder, size=16)
        finally:
            path.write_bytes(before)

    return Target([b"a\\1.jpg\nb\\2.jpg\n", b"sky\nsea\n", b"0\n1\n"], read, [str(folder)])


def checkpoint(folder: Path) -> Target:
    """A checkpoint for `mlic import mcar`: too small to be taken, so that all of them have to be refused."""
    valid = []
    for zipped in (True, False):
        buffer = io.BytesIO()
        state = {"convclass.weight": torch.ones(20, 8, 1, 1), "convclass.bias": torch.ones(20)}
        torch.save({"state_dict": state, "epoch": 3}, buffer, _use_new_zipfile_serialization=zipped)
        valid.append(buffer.getvalue())
    read = _file(folder / "mcar.pth", lambda path: import_mcar(path, folder / "out"))
    return Target(valid, read, [str(folder / "mcar.pth")])


def images(folder: Path) -> Target:
    """Photographs, with orientation and transparency."""
    pixels = np.random.default_rng(0).integers(0, 256, (24, 32, 4), dtype=np.uint8)
    valid, exif = [], Image.Exif()
    exif[0x0112] = 6
    for mode, kind, options in (("RGB", "JPEG", {"exif": exif}), ("L", "JPEG", {"progressive": True}),
                                ("RGBA", "PNG", {}), ("P", "GIF", {}), ("RGB", "TIFF", {"compression": "tiff_lzw"}),
                                ("RGB", "WEBP", {}), ("RGB", "BMP", {})):  # fmt: skip
        buffer = io.BytesIO()
        Image.fromarray(pixels).convert(mode).save(buffer, kind, **options)
        valid.append(buffer.getvalue())
    one = np.zeros((1, 1), dtype=np.int8)
    dataset = csvfile.CSVDataset(folder, name="csv", split="all", labels=["a"], targets=one, ids=["photo"], size=16)
    return Target(valid, _file(folder / "photo", lambda path: dataset.read(0)), [str(folder / "photo")])


def archives(folder: Path) -> Target:
    """Tar and zip files of downloads."""
    packed, zipped = io.BytesIO(), io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        info = tarfile.TarInfo("set/a.txt")
        info.size = 5
        archive.addfile(info, io.BytesIO(b"hello"))
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.writestr("set/a.txt", b"hello")
        archive.writestr("set/b.txt", b"hello" * 9, zipfile.ZIP_DEFLATED)

    def read(content: bytes) -> None:
        path = folder / ("a.zip" if content.startswith(b"PK") else "a.tar")
        path.write_bytes(content)
        before = {one.name for one in folder.parent.iterdir()}
        extract(path, folder / "out", ["set"])
        if {one.name for one in folder.parent.iterdir()} - before:
            raise AssertionError("something was written outside of the folder")

    return Target([packed.getvalue()[:2048], zipped.getvalue()], read, [str(folder / "a.zip"), str(folder / "a.tar")])


def record(folder: Path) -> Target:
    """run.json."""
    valid = {"name": "abc", "config": {"method.name": "mcar", "data.name": "picto-voc", "seed": 0}, "metrics": {},
             "seconds": 1.0, "peak_memory": None, "versions": {}, "commit": None, "dirty": False, "device": "cpu",
             "code": "", "scoring": ""}  # fmt: skip
    read = _file(folder / "run" / "run.json", lambda path: Store(folder).records())
    return Target([json.dumps(valid).encode()], read, [str(folder / "run")])


def _stored(folder: Path):
    target = record(folder)
    target.read(target.valid[0])
    return read_record(folder / "run")


def scores(folder: Path) -> Target:
    """scores.npz."""
    valid = []
    for save in (np.savez, np.savez_compressed):
        buffer = io.BytesIO()
        save(buffer, logits=np.ones((3, 2), np.float32), ids=np.array(["a", "b", "c"]))
        valid.append(buffer.getvalue())
    stored = _stored(folder)
    return Target(valid, _file(folder / "run" / "scores.npz", lambda path: stored.scores()), [str(folder / "run")])


def history(folder: Path) -> Target:
    """history.jsonl."""
    stored = _stored(folder)
    read = _file(folder / "run" / "history.jsonl", lambda path: stored.history())
    return Target([b'{"epoch": 1, "loss": 0.5}\n{"epoch": 2, "loss": 0.4}\n'], read, [str(folder / "run")])


def manifest(folder: Path) -> Target:
    """manifest.json; the files that it names are missing, so that only an empty one is read."""
    entry = {"caption": "A table.", "runs": [], "files": {f"tables/a.{kind}": "sha256:0" for kind in ("csv", "md")}}
    path = folder / "manifest.json"
    valid = [json.dumps({"tables/a": entry}).encode(), b"{}"]
    return Target(valid, _file(path, lambda path: read_manifest(path.parent)), [str(path), str(folder)])


def notebooks(folder: Path) -> Target:
    """An executed notebook."""
    cells = [v4.new_markdown_cell("# Title"), v4.new_code_cell("1", outputs=[v4.new_output("stream", text="1")])]
    path = folder / "executed" / "00_a.ipynb"
    read = _file(path, lambda path: [one.title for one in read_notebooks(path.parent)])
    return Target([v4.writes(v4.new_notebook(cells=cells)).encode()], read, [str(path)])


TARGETS: dict[str, Callable[[Path], Target]] = {
    "settings": settings, "TOML": toml, "CSV": csv, "box file": boxes, "VOC XML": voc_xml, "VOC lists": voc_lists,
    "COCO JSON": coco_json, "NUS-WIDE": nuswide_lists, "checkpoint": checkpoint, "images": images,
    "archives": archives, "run.json": record, "scores.npz": scores, "history.jsonl": history,
    "manifest.json": manifest, "notebooks": notebooks,
}  # fmt: skip
