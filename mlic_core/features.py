"""Features of a frozen trunk: computed once for a data set, kept on disk, and read from there as training asks.

A file holds one view (plain or mirrored) of one data set's images through one trunk. Its name is a hash of the images'
files, the input's size, the trunk's weights and what the trunk answers to a probe, so that other weights, other code
or other images are never taken for these. Behind the array a file ends in a CRC-32.
"""

import hashlib
import os
import shutil
import struct
import zlib
from functools import lru_cache
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
import torch
from filelock import FileLock
from jaxtyping import Float, Int64
from torch import Tensor, nn

from mlic_core.data.base import MultiLabelDataset
from mlic_core.errors import InputError
from mlic_core.images import prepare_images, read_batches
from mlic_core.paths import repository_root
from mlic_core.progress import say, track

VIEWS = ("plain", "mirrored")
END = struct.Struct("<I")  # how a file ends


class Features(NamedTuple):
    """Memory-mapped features fp32 (N, ...) of every image and, if asked for, of its mirror image."""

    plain: np.ndarray
    mirrored: np.ndarray | None = None

    def batch(self, index: Int64[Tensor, " batch"], generator: torch.Generator | None = None) -> Float[Tensor, "..."]:
        """The features of some images; with mirror images there, each is taken with probability one half."""
        rows = index.numpy()
        features = torch.from_numpy(self.plain[rows])
        if self.mirrored is None:
            return features
        chosen = torch.rand(len(index), generator=generator) < 0.5
        features[chosen] = torch.from_numpy(self.mirrored[rows[chosen.numpy()]])
        return features


def compute_features(model: nn.Module, dataset: MultiLabelDataset, *, mirrored: bool = False) -> Features:
    """`model.features` of every image (and mirror image), from the cache or through the trunk once.

    The model's device is used as it is. Two processes that want the same features compute them once; one that is
    interrupted leaves no file that could be taken for a whole one. The cache is data/cache/features; it may be
    deleted at any time. Raises InputError for unreadable images and a disk without room, which is told first.
    """
    return Features(*(_view(model, dataset, view) for view in VIEWS[: 1 + mirrored]))


def cache_folder() -> Path:
    """Where features are kept."""
    return repository_root() / "data" / "cache" / "features"


def _view(model: nn.Module, dataset: MultiLabelDataset, view: str) -> np.ndarray:
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{_key(model, dataset)}-{view}.npy"
    with FileLock(path.with_suffix(".lock")):
        if (stored := _stored(path)) is not None:
            return stored
        _fill(path, model, dataset, view)
    return np.load(path, mmap_mode="r")


def _stored(path: Path) -> np.ndarray | None:
    """The file's array; None, and the file removed, where it is absent, cut short or changed."""
    try:
        status = path.stat()
        _verify(path, status.st_size, status.st_mtime_ns)
        return np.load(path, mmap_mode="r")
    except FileNotFoundError:
        return None
    except (ValueError, EOFError, OSError):
        say(f"{path.name} in the feature cache is broken or without a checksum: computing it again")
        path.unlink()
        return None


@lru_cache(maxsize=256)  # a run opens its files after every epoch
def _verify(path: Path, size: int, modified: int) -> None:
    """Read a file through. Raises ValueError if it is not as it was written."""
    with open(path, "rb") as file:
        checksum = _checksum(file, size - END.size)
        if file.read() != END.pack(checksum):
            raise ValueError(f"{path} was changed")


def _checksum(file: IO[bytes], size: int) -> int:
    """CRC-32 of the next `size` bytes."""
    checksum = 0
    while size > 0 and (block := file.read(min(size, 2**22))):
        checksum, size = zlib.crc32(block, checksum), size - len(block)
    return checksum


def _fill(path: Path, model: nn.Module, dataset: MultiLabelDataset, view: str) -> None:
    device = next(model.parameters()).device
    shape = (len(dataset), *_probe(model, dataset).shape[1:])
    _announce(path, shape, dataset, view)
    partial = path.with_suffix(".partial")
    order = torch.arange(len(dataset)).split(100)
    batches = zip(track(order, label=f"features of {dataset.split}"), read_batches(dataset, order), strict=True)
    try:
        with open(partial, "wb+") as file:  # not a memory map: where the disk is full, writing to one ends the process
            np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
            for index, images in batches:
                images = prepare_images(images.to(device), model.trunk)
                images = images.flip(3) if view == "mirrored" else images
                features = model.features(images, *_given(model, dataset, index, view))
                file.write(features.float().cpu().contiguous().numpy().tobytes())
            size = file.tell()
            file.seek(0)
            file.write(END.pack(_checksum(file, size)))
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _given(model: nn.Module, dataset: MultiLabelDataset, index: Tensor, view: str = "plain") -> tuple[Tensor, ...]:
    """What a model takes beside the images: boxes that it knows by their ids, if it is such a model."""
    boxes = model.boxes_of([dataset.ids[i] for i in index.tolist()]) if hasattr(model, "boxes_of") else None
    if boxes is None:
        return ()
    x0, y0, x1, y1 = boxes.unbind(2)
    return (torch.stack([1 - x1, y0, 1 - x0, y1], 2) if view == "mirrored" else boxes,)


def _announce(path: Path, shape: tuple[int, ...], dataset: MultiLabelDataset, view: str) -> None:
    size = 4 * int(np.prod(shape))
    free = shutil.disk_usage(path.parent).free
    if size > free:
        raise InputError(
            f"the features of {dataset.name} {dataset.split} need {size / 1e6:,.0f} MB, but {free / 1e6:,.0f} MB are "
            "free in data/cache; make room there"
        )
    text = " x ".join(map(str, shape))
    say(f"features of {dataset.name} {dataset.split}, {view}: {text} fp32, {size / 1e6:,.1f} MB in data/cache/features")


@torch.inference_mode()
def _probe(model: nn.Module, dataset: MultiLabelDataset) -> Tensor:
    """Features of one fixed picture of noise."""
    noise = torch.rand((1, 3, dataset.size, dataset.size), generator=torch.Generator().manual_seed(0))
    noise = noise.to(next(model.parameters()).device)
    return model.features(noise, *_given(model, dataset, torch.tensor([0]))).float().cpu()


def _key(model: nn.Module, dataset: MultiLabelDataset) -> str:
    drafted = " draft" * dataset.draft
    parts = hashlib.sha256(f"{dataset.digest()} {dataset.size} {model.feature_kind}{drafted}".encode())
    for index in range(len(dataset)):  # not the pixels: reading them all would cost more than a small trunk
        status = os.stat(dataset.image_path(index))
        parts.update(f"{status.st_size} {status.st_mtime_ns}".encode())
    for name, value in model.trunk.state_dict().items():
        parts.update(name.encode() + value.cpu().contiguous().numpy().tobytes())
    parts.update(_probe(model, dataset).numpy().tobytes())
    return parts.hexdigest()[:16]
