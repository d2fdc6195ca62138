"""Images on their way from disk to a network: decoded, kept in memory where they fit, changed and normalised."""

import os
import weakref
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from mlic_core.data.base import MultiLabelDataset
from mlic_core.data.transforms import color_jitter, random_flip
from mlic_core.errors import InputError
from mlic_core.progress import track

IN_MEMORY = 2 * 1024**3  # bytes of decoded images of one split that are kept; larger splits are read as they are used


def prepare_images(
    images: UInt8[Tensor, "batch 3 height width"],
    trunk: nn.Module,
    *,
    jitter: float = 0.0,
    flip: bool = False,
    generator: torch.Generator | None = None,
) -> Float[Tensor, "batch 3 height width"]:
    """Images of 0 to 255 as a model takes them: scaled to [0, 1], changed at random, normalised for the trunk.

    jitter: strength of the colour jitter in [0, 1). flip: mirror half of the images.
    """
    images = images.float() / 255
    if jitter:
        images = color_jitter(images, jitter, generator)
    if flip:
        images = random_flip(images, generator)
    mean, std = (torch.tensor(value, device=images.device).view(3, 1, 1) for value in (trunk.mean, trunk.std))
    return ((images - mean) / std).contiguous(memory_format=torch.channels_last)


_decoded: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


def read_batches(dataset: MultiLabelDataset, order: Iterable[Tensor]) -> Iterator[UInt8[Tensor, "batch 3 size size"]]:
    """The batches of `order`, from memory where the whole split fits, else decoded two batches ahead."""
    if len(dataset) * 3 * dataset.size**2 <= IN_MEMORY:
        images = decode(dataset)
        yield from (images[index] for index in order)
        return
    loader = torch.utils.data.DataLoader(
        _Pictures(dataset),
        batch_sampler=[index.tolist() for index in order],
        num_workers=workers(),
        pin_memory=torch.cuda.is_available(),
    )
    try:
        yield from loader
    except InputError as error:  # a worker's, whose text is a traceback
        raise InputError(str(error).rstrip().rpartition("InputError: ")[2]) from None


def workers() -> int:
    """Processes that read images for this one: its share of the cores that it may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", 1)))


def decode(dataset: MultiLabelDataset) -> UInt8[Tensor, "images 3 size size"]:
    """Every image of the data set, read once and kept while the data set object lives."""
    if dataset not in _decoded:
        with torch.inference_mode(False):  # kept for training, even if a prediction is the first to ask
            images = torch.empty(len(dataset), 3, dataset.size, dataset.size, dtype=torch.uint8)

        def read(index: int) -> None:
            images[index] = dataset.read(index)

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for _ in track(pool.map(read, range(len(dataset))), total=len(dataset), label=f"reading {dataset.split}"):
                pass
        _decoded[dataset] = images
    return _decoded[dataset]


class _Pictures(torch.utils.data.Dataset):
    """The images alone, undivided by 255: a quarter of the bytes between processes."""

    def __init__(self, dataset: MultiLabelDataset):
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> UInt8[Tensor, "3 size size"]:
        return self.dataset.read(index)
