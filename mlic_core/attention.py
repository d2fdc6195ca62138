"""Regions and maps against ground truth."""

import numpy as np
from jaxtyping import Float, Int8


def label_recall(
    scores: Float[np.ndarray, "images classes"], targets: Int8[np.ndarray, "images classes"], n: int
) -> float:
    """Share of the positive labels that are among their image's `n` best scores, in [0, 1]; NaN without positives.

    The ceiling of any method that looks only at the regions of its top n classes, such as MCAR.
    """
    ranks = (-scores).argsort(1, kind="stable").argsort(1, kind="stable")
    found = ranks[targets == 1] < n
    return float(found.mean()) if len(found) else float("nan")


def coverage(regions: Float[np.ndarray, "pairs 4"], boxes: Float[np.ndarray, "pairs 4"]) -> Float[np.ndarray, " pairs"]:
    """Share of each box's area that lies in its region, in [0, 1]. Both are x0, y0, x1, y1 in any one unit."""
    return _intersection(regions, boxes) / _area(boxes)


def iou(regions: Float[np.ndarray, "pairs 4"], boxes: Float[np.ndarray, "pairs 4"]) -> Float[np.ndarray, " pairs"]:
    """Intersection over union of each pair, in [0, 1]."""
    common = _intersection(regions, boxes)
    return common / (_area(regions) + _area(boxes) - common)


def pad(boxes: Float[np.ndarray, "boxes 4"], share: float) -> Float[np.ndarray, "boxes 4"]:
    """Boxes in [0, 1], grown on every side by `share` of their own width and height, cut at the image's border."""
    size = boxes[:, 2:] - boxes[:, :2]
    return np.concatenate([boxes[:, :2] - share * size, boxes[:, 2:] + share * size], 1).clip(0, 1)


def _intersection(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    sides = np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2])
    return sides.clip(min=0).prod(1)


def _area(boxes: np.ndarray) -> np.ndarray:
    return (boxes[:, 2:] - boxes[:, :2]).clip(min=0).prod(1)
