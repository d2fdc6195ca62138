"""Reading photographs: the loader beside Pillow alone and with draft mode, and where the time goes, stage by stage."""

import copy
import io
import os
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from pathlib import Path
from time import perf_counter
from unittest import mock

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_sample_image
from torchvision.transforms.v2 import functional

from benchmarks import Benchmark, Figure
from mlic_core import images
from mlic_core.data.base import MultiLabelDataset
from mlic_core.models import build_trunk

BATCH = 32
HALF = 112  # px: half of 224, so that the photographs may be decoded at half of their sides


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


@cache
def photographs_in_draft_mode(count: int, size: int) -> Photographs:
    """The same files."""
    dataset = copy.copy(photographs(count, size))
    dataset.draft = True
    return dataset


def ours(count: int, size: int, source=photographs) -> np.ndarray:
    """Mean colour of each image, as the loader reads sets that don't fit into memory."""
    dataset = source(count, size)
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
    count, size = (1600, 224) if scale >= 1 else (8, 32)  # starting the processes takes half a second
    about = f"{count} JPEG files of 500 x 375 decoded and resized to {size} px, on {os.cpu_count()} cores: Pillow alone"
    sides = partial(ours, count, size), partial(pillow, count, size)
    return [Benchmark("data/loader/pillow", about, *sides, tolerance=1.0, goal=0.8)]


def bench_draft(scale: float = 1) -> list[Benchmark]:
    count, size = (800, HALF) if scale >= 1 else (8, 32)
    about = f"{count} JPEG files of 500 x 375 brought to {size} px, in draft mode: the loader with draft mode off"
    sides = partial(ours, count, size, photographs_in_draft_mode), partial(ours, count, size)
    return [Benchmark("data/loader/whole", about, *sides, tolerance=2.0)]


def stages(count: int, size: int) -> dict[str, Callable[[int], object]]:
    """What happens to image i, one thing after the other; each takes what the one before it gives."""
    dataset, draft = photographs(count, size), photographs_in_draft_mode(count, size)
    contents = [dataset.image_path(i).read_bytes() for i in range(count)]
    whole = functional.pil_to_tensor(dataset.original(0))
    small, trunk = torch.zeros(1, 3, size, size, dtype=torch.uint8), build_trunk("pictonet-s", "none")
    changes = dict(jitter=0.2, flip=True, generator=torch.Generator().manual_seed(0))
    return {
        "read": lambda i: dataset.image_path(i).read_bytes(),
        "decode": lambda i: Image.open(io.BytesIO(contents[i])).convert("RGB"),
        "decode/draft": lambda i: draft.original(i, size),
        "resize": lambda i: functional.resize(whole, [size, size], antialias=True),
        "change": lambda i: images.prepare_images(small, trunk, **changes),
    }


def rate(name: str, count: int, size: int) -> float:
    """Images a second of one stage, on one core."""
    act, threads = stages(count, size)[name], torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        start = perf_counter()
        for index in range(count):
            act(index)
        return count / (perf_counter() - start)
    finally:
        torch.set_num_threads(threads)


def bench_stages(scale: float = 1) -> list[Figure]:
    count, size = (200, HALF) if scale >= 1 else (4, 32)
    about = {
        "read": "a JPEG file of 500 x 375 from the system's cache",
        "decode": "decode it to RGB",
        "decode/draft": f"read and decode it at half of its sides, for {size} px",
        "resize": f"bring it to {size} px",
        "change": f"colour jitter, mirror and normalisation at {size} px, by itself",
    }
    return [Figure(f"data/stage/{name}", f"{text}, on one core", "images/s", partial(rate, name, count, size))
            for name, text in about.items()]  # fmt: skip
