"""What every data set looks like to the rest: images with labels, and boxes where the source has them."""

import copy
import hashlib
import json
import struct
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float, Float32, Int8, Int64, UInt8
from PIL import Image, ImageOps
from torch import Tensor
from torch.utils.data import Dataset

from mlic_core.errors import InputError

# What Pillow raises for a file that is absent, cut short, or not an image.
DECODE_ERRORS = (OSError, SyntaxError, ValueError, struct.error, Image.DecompressionBombError)
DEEP = ("I", "F")  # how Pillow's modes of more than 8 bits a pixel and channel begin


class MultiLabelDataset(Dataset):
    """Images of one split with their labels. A source subclasses it and gives `image_path`.

    - `name`, `split`: as asked for, e.g. "voc2012" and "val"
    - `labels`: the C class names
    - `targets`: int8 (N, C), 1 present, 0 absent, -1 ignored
    - `ids`: the N image names
    - `size`: side in pixels of the square images that `read` and indexing give
    - `draft`: whether `read` may have a JPEG file decoded at a half, a quarter or an eighth of its sides, where these
      are still `size` or more; faster, and not the same pixels
    - `checksums`: CRC-32 of the image files by their names, for a set that has them
    """

    draft: bool = False
    checksums: Mapping[str, int] = MappingProxyType({})

    def __init__(
        self,
        *,
        name: str,
        split: str,
        labels: Sequence[str],
        targets: Int8[np.ndarray, "images classes"],
        ids: Sequence[str],
        size: int,
    ):
        if targets.shape != (len(ids), len(labels)):
            raise InputError(
                f"{name} {split}: targets of shape {targets.shape} do not fit "
                f"{len(ids)} images and {len(labels)} classes."
            )
        if size < 1:
            raise InputError(f"data size is {size}; it must be a positive number of pixels.")
        self.name = name
        self.split = split
        self.labels = tuple(labels)
        self.targets = targets
        self.ids = tuple(ids)
        self.size = size

    def image_path(self, index: int) -> Path:
        """The file of one image."""
        raise NotImplementedError

    @property
    def has_boxes(self) -> bool:
        """Whether `boxes` knows every image of the split."""
        return False

    def boxes(self, index: int) -> tuple[Float32[np.ndarray, "objects 4"], Int64[np.ndarray, " objects"]]:
        """The objects of one image: boxes (x0, y0, x1, y1) in [0, 1] of its sides, and their classes.

        Difficult objects are among them. Raises InputError when the source has no boxes.
        """
        raise InputError(f"{self.name} has no boxes for image {self.ids[index]}.")

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> tuple[Float[Tensor, "3 size size"], Int8[Tensor, " classes"]]:
        """Image in [0, 1] and its targets."""
        return self.read(index).float() / 255, torch.from_numpy(self.targets[index])

    def read(self, index: int) -> UInt8[Tensor, "3 size size"]:
        """Image squashed to `size` x `size` (bilinear, antialiased), 0 to 255. Raises as `original` does."""
        # Here, since it takes as long to import as torch, and most commands read no image.
        from torchvision.transforms import InterpolationMode
        from torchvision.transforms.v2 import functional

        image = functional.pil_to_tensor(self.original(index, self.size) if self.draft else self.original(index))
        return functional.resize(
            image, [self.size, self.size], interpolation=InterpolationMode.BILINEAR, antialias=True
        )

    def original(self, index: int, least: int = 0) -> Image.Image:
        """Image at the resolution of the source, upright and in RGB.

        least: a JPEG file may be decoded at a half, a quarter or an eighth of its sides while both keep that many
        pixels; 0 for as it is.

        Raises InputError naming the file when it cannot be decoded, is not the one that was drawn, or is a grey one of
        16 or 32 bits, whose range is unknown: Pillow would cut it at 255.
        """
        path = self.image_path(index)
        try:
            if self.checksums and zlib.crc32(path.read_bytes()) != self.checksums.get(path.name):
                raise ValueError("it is not as it was drawn")
            with Image.open(path) as image:
                if image.mode.startswith(DEEP):
                    raise ValueError(f"it has more than 8 bits a pixel (mode {image.mode})")
                if least:
                    image.draft(None, (least, least))
                return ImageOps.exif_transpose(image).convert("RGB")
        except DECODE_ERRORS as error:
            remedy = "remove the data set, to have it drawn again" if self.checksums else "replace it or drop its id"
            raise InputError(f"cannot read image {path}: {error}; {remedy}.") from error

    def largest_objects(self) -> Float32[np.ndarray, "images classes"]:
        """Size of the largest object of each class in each image: the square root of its share of the area.

        In (0, 1]; NaN where an image has no object of the class. Raises as `boxes` does.
        """
        sizes = np.full(self.targets.shape, np.nan, dtype=np.float32)
        for index in range(len(self)):
            boxes, classes = self.boxes(index)
            sides = np.sqrt((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]))
            np.fmax.at(sizes[index], classes, sides)  # fmax prefers any number to NaN
        return sizes

    def subset(self, indices: npt.ArrayLike | slice) -> "MultiLabelDataset":
        """The same data set with only the images at `indices`: integers, a slice or a mask (N,)."""
        chosen = np.arange(len(self))[indices if isinstance(indices, slice) else np.asarray(indices)]
        part = copy.copy(self)
        part.targets = self.targets[chosen]
        part.ids = tuple(self.ids[index] for index in chosen)
        return part

    def digest(self) -> str:
        """SHA-256 of labels, ids and targets: names the data a run saw, wherever its files lie."""
        names = json.dumps([self.labels, self.ids])
        return hashlib.sha256(names.encode() + self.targets.tobytes()).hexdigest()
