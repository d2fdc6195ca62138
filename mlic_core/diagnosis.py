"""What a classifier must be able to do before MCAR can gain from it, measured against ground-truth boxes.

MCAR's local stream helps if the best classes hold the right labels, if the class maps give regions that hold the
objects, and if the network names an object that fills its input.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from mlic_core.attention import coverage, label_recall, pad
from mlic_core.data.base import MultiLabelDataset
from mlic_core.images import decode, prepare_images
from mlic_core.models import localization
from mlic_core.training import default_device, predict

BATCH = 100
SMALL = 0.2  # an object is small when the square root of its share of the image's area is below this


class Objects(NamedTuple):
    """The annotated objects of a data set: image index, class and box (x0, y0, x1, y1 in [0, 1]) of each."""

    images: np.ndarray
    classes: np.ndarray
    boxes: Float[np.ndarray, "objects 4"]

    @property
    def small(self) -> np.ndarray:
        """Mask of the small ones."""
        return np.sqrt((self.boxes[:, 2:] - self.boxes[:, :2]).prod(1)) < SMALL


def counted_objects(dataset: MultiLabelDataset) -> Objects:
    """Objects of the classes that count as present: those that are only difficult are left out.

    Raises InputError if the source has no boxes.
    """
    rows = [
        (index, label, box)
        for index in range(len(dataset))
        for box, label in zip(*dataset.boxes(index), strict=True)
        if dataset.targets[index, label] == 1 and (box[2:] > box[:2]).all()
    ]
    images, classes, boxes = zip(*rows, strict=True) if rows else ([], [], np.empty((0, 4)))
    return Objects(np.array(images, np.int64), np.array(classes, np.int64), np.array(boxes, np.float64))


def recall_at(model: nn.Module, dataset: MultiLabelDataset, counts: Iterable[int]) -> list[dict[str, float | int]]:
    """For each n: the share of the labels that are among the n best scores of their image.

    Of all labels, and of those whose largest object is small; NaN where there are none or the source has no boxes.
    """
    logits = predict(model, dataset).logits
    largest = dataset.largest_objects() if dataset.has_boxes else np.full(dataset.targets.shape, np.nan)
    small = np.where((dataset.targets == 1) & ~(largest < SMALL), np.int8(-1), dataset.targets)
    return [
        {"n": n, "all": label_recall(logits, dataset.targets, n), "small": label_recall(logits, small, n)}
        for n in counts
    ]


def region_coverage(
    maps: Float[Tensor, "images classes rows columns"],
    dataset: MultiLabelDataset,
    taus: Iterable[float],
    *,
    least: float = 0.7,
) -> list[dict[str, float]]:
    """For each threshold: the share of objects of which the region of their own class holds at least `least`.

    maps: the data set's `class_maps`. Of all objects and of small ones, NaN where there are none; `area` is the mean
    area of the regions relative to the image.
    """
    found = counted_objects(dataset)
    maps = maps[found.images, found.classes][:, None]
    rows = []
    for tau in taus:
        regions = localization.localize(maps, dataset.size, tau)[:, 0].cpu().numpy() / dataset.size
        held = coverage(regions, found.boxes) >= least
        area = (regions[:, 2:] - regions[:, :2]).prod(1)
        rows.append({"tau": tau, "all": _mean(held), "small": _mean(held[found.small]), "area": _mean(area)})
    return rows


@torch.inference_mode()
def crop_accuracy(model: nn.Module, dataset: MultiLabelDataset, paddings: Iterable[float]) -> list[dict[str, float]]:
    """For each padding: the share of ground-truth crops, enlarged to the input's size, whose best class is right.

    padding: what is added on every side, relative to the box's own side. Of all objects, and of small ones; NaN where
    there are none.
    """
    model = model.to(default_device()).eval()
    found = counted_objects(dataset)
    images = torch.cat(list(_images(model, dataset)))
    rows = []
    for padding in paddings:
        boxes = _whole_pixels(pad(found.boxes, padding), dataset.size).to(images.device)
        named = [np.empty(0, bool)]
        for start in range(0, len(boxes), BATCH):
            part = slice(start, start + BATCH)
            crops = localization.crop(images[found.images[part]], boxes[part, None])[:, 0]
            named.append(model.head(model.trunk(crops)).argmax(1).cpu().numpy() == found.classes[part])
        right = np.concatenate(named)
        rows.append({"padding": padding, "all": _mean(right), "small": _mean(right[found.small])})
    return rows


@torch.inference_mode()
def true_region_scores(
    model: nn.Module, dataset: MultiLabelDataset, *, most: int = 4, padding: float = 0.1
) -> Float[np.ndarray, "images classes"]:
    """What the local stream would say if its regions were ground truth: logits, -inf for an image without an object.

    Regions are the boxes of an image's `most` largest objects, of whatever class, grown on every side by `padding` of
    their own side. As in MCAR the maximum over the regions counts (Eq. 3).
    """
    model = model.to(default_device()).eval()
    found = counted_objects(dataset)
    area = (found.boxes[:, 2:] - found.boxes[:, :2]).prod(1)
    order = np.lexsort((-area, found.images))  # by image, the largest first
    rank = np.arange(len(order)) - np.searchsorted(found.images[order], found.images[order])
    order = order[rank < most]
    images = torch.cat(list(_images(model, dataset)))
    boxes = _whole_pixels(pad(found.boxes[order], padding), dataset.size).to(images.device)
    scores = np.full(dataset.targets.shape, -np.inf, np.float32)
    for start in range(0, len(order), BATCH):
        part = found.images[order[start : start + BATCH]]
        crops = localization.crop(images[part], boxes[start : start + BATCH, None])[:, 0]
        np.maximum.at(scores, part, model.head(model.trunk(crops)).cpu().numpy())
    return scores


@torch.inference_mode()
def class_maps(model: nn.Module, dataset: MultiLabelDataset) -> Float[Tensor, "images classes rows columns"]:
    """The class activation maps of every image after the sigmoid, at the trunk's resolution (MCAR Eq. 4)."""
    model = model.to(default_device()).eval()
    return torch.cat([model.head.class_maps(model.trunk(batch)).sigmoid() for batch in _images(model, dataset)])


def receptive_field(trunk: nn.Module) -> int:
    """Side in input pixels of the square that one map cell depends on, along the longest path of convolutions.

    Each kernel of k cells adds k - 1 steps of the stride reached before it. Shortcuts are left out: they only join.
    """
    field, step = 1, 1
    for name, layer in trunk.named_modules():
        if isinstance(layer, nn.Conv2d | nn.MaxPool2d) and not {"shortcut", "downsample"} & set(name.split(".")):
            kernel, stride = (size if isinstance(size, int) else size[0] for size in (layer.kernel_size, layer.stride))
            field, step = field + (kernel - 1) * step, step * stride
    return field


def _images(model: nn.Module, dataset: MultiLabelDataset):
    for batch in decode(dataset).split(BATCH):
        yield prepare_images(batch.to(default_device()), model.trunk)


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else float("nan")


def _whole_pixels(boxes: Float[np.ndarray, "boxes 4"], size: int) -> Tensor:
    """Boxes in pixels, at least two pixels wide and high."""
    pixels = torch.from_numpy(np.rint(boxes * size)).long()
    start = pixels[:, :2].clamp(max=size - 2)
    return torch.cat([start, torch.maximum(pixels[:, 2:], start + 2)], 1)
