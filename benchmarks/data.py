"""Reading photographs: the loader with its worker processes beside Pillow alone on the same cores."""

import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_sample_image

from benchmarks import Benchmark
from mlic_core import images
from mlic_core.data.base import MultiLabelDataset

BATCH = 32


class Photographs(MultiLabelDataset):
    """JPEG files of VOC's usual size in a temporary folder."""

    def __init__(self, count: int, size: int):
        self.folder = tempfile.TemporaryDirectory(prefix="mlic-bench-")
        names = [f"{index:05}" for index in range(count)]
        targets = np.zeros((count, 1), np.int8)
        super().__init__(name="photographs", split="train", labels=["x"], targets=targets, ids=names, size=size)
        source, rng = Image.fromarray(load_sample_image("china.jpg")), np.random.default_rng(0)
        for index in range(count):
            x, y = rng.integers(0, [source.width - 500, source.height - 375])
            source.crop((x, y, x + 500, y + 375)).save(self.image_path(index), quality=90)

    def image_path(self, index: int) -> Path:
        return Path(self.folder.name) / f"{self.ids[index]}.jpg"


@cache
def photographs(count: int, size: int) -> Photographs:
    return Photographs(count, size)


def ours(count: int, size: int) -> np.ndarray:
    """Mean colour of each image, as the loader reads sets that don't fit into memory."""
    dataset = photographs(count, size)
    with mock.patch.object(images, "IN_MEMORY", 0):
        batches = images.read_batches(dataset, torch.arange(count).split(BATCH))
        return np.concatenate([batch.float().mean((2, 3)).numpy() for batch in batches])


def pillow(count: int, size: int) -> np.ndarray:
    """The same by Pillow alone, a thread a core: it decodes and resizes without Python's lock."""
    dataset = photographs(count, size)

    def read(index: int) -> np.ndarray:
        with Image.open(dataset.image_path(index)) as image:
            return np.asarray(image.convert("RGB").resize((size, size), Image.Resampling.BILINEAR))

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return np.stack([pixels.mean((0, 1)) for pixels in pool.map(read, range(count))])


def bench_loader(scale: float = 1) -> list[Benchmark]:
    """Draft mode is off on both sides; mean colours may differ by one in 255, as the two ways of resizing round."""
    count, size = (800, 224) if scale >= 1 else (8, 32)
    about = f"{count} JPEG files of 500 x 375 decoded and resized to {size} px, on {os.cpu_count()} cores: Pillow alone"
    sides = partial(ours, count, size), partial(pillow, count, size)
    return [Benchmark("data/loader/pillow", about, *sides, tolerance=1.0, goal=0.8)]
