"""Regions and maps against ground truth."""

import numpy as np
from jaxtyping import Bool, Float, Int, Int8


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


def mirrored(transforms: Float[np.ndarray, "images regions 4"]) -> Bool[np.ndarray, "images regions"]:
    """Which regions are flipped: a scale is negative. Transforms are s_x, s_y, t_x, t_y (`models.spatial`)."""
    return (transforms[..., :2] < 0).any(-1)


def oversized(
    transforms: Float[np.ndarray, "images regions 4"], alpha: float = 0.5
) -> Bool[np.ndarray, "images regions"]:
    """Which regions RDAR's scale constraint acts on (Eq. 11): |s_x| or |s_y|, a share of a side, is above `alpha`."""
    return (np.abs(transforms[..., :2]) > alpha).any(-1)


def box_of(transforms: Float[np.ndarray, "*batch 4"]) -> Float[np.ndarray, "*batch 4"]:
    """Regions as x0, y0, x1, y1 in [0, 1], sorted and cut at the image's edge: `spatial.tidy(to_boxes(...))`."""
    centre, half = transforms[..., 2:], np.abs(transforms[..., :2])
    return ((np.concatenate([centre - half, centre + half], -1) + 1) / 2).clip(0, 1)


def mean_overlap(boxes: Float[np.ndarray, "images regions 4"]) -> Float[np.ndarray, " images"]:
    """Mean IoU over all pairs of an image's regions, in [0, 1]; NaN for one region. Points overlap nothing."""
    first, second = np.triu_indices(boxes.shape[1], 1)
    if not len(first):
        return np.full(len(boxes), np.nan)
    a, b = boxes[:, first].reshape(-1, 4), boxes[:, second].reshape(-1, 4)
    common = _intersection(a, b)
    union = _area(a) + _area(b) - common
    return (common / np.where(union > 0, union, 1)).reshape(-1, len(first)).mean(1)


def held(
    regions: Float[np.ndarray, "images regions 4"],
    image: Int[np.ndarray, " objects"],
    boxes: Float[np.ndarray, "objects 4"],
) -> Float[np.ndarray, " objects"]:
    """Share of each object's area, in [0, 1], that lies in the one region of its image that holds most of it.

    image: the index of the image that each object is in. boxes: the objects', which have an area.
    """
    each = regions[image]
    count = regions.shape[1]
    return coverage(each.reshape(-1, 4), boxes.repeat(count, 0)).reshape(-1, count).max(1)


def entropy(weights: Float[np.ndarray, "*batch rows columns"]) -> Float[np.ndarray, "*batch"]:
    """Entropy of attention weights, which sum to 1 over a map's cells, as a share of the most there can be, in [0, 1].

    1 for a map that looks everywhere alike, 0 for one that looks at a single cell; a map of one cell has 1.
    """
    cells = weights.reshape(*weights.shape[:-2], -1).astype(np.float64)
    if cells.shape[-1] == 1:
        return np.ones(cells.shape[:-1])
    return -(cells * np.log(np.where(cells > 0, cells, 1))).sum(-1) / np.log(cells.shape[-1])


def mass_inside(
    weights: Float[np.ndarray, "objects rows columns"], boxes: Float[np.ndarray, "objects 4"]
) -> Float[np.ndarray, " objects"]:
    """Share of a map's weight, in [0, 1], that falls into a box; a cell at its edge counts by the part inside.

    Weights that look everywhere alike give the box's share of the image.
    """
    parts = []
    for axis, cells in ((1, weights.shape[1]), (0, weights.shape[2])):
        edges = np.arange(cells + 1) / cells
        low, high = boxes[:, axis, None], boxes[:, axis + 2, None]
        parts.append((np.minimum(high, edges[1:]) - np.maximum(low, edges[:-1])).clip(min=0) * cells)
    return np.einsum("nrc,nr,nc->n", weights.astype(np.float64), *parts)


def _intersection(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    sides = np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2])
    return sides.clip(min=0).prod(1)


def _area(boxes: np.ndarray) -> np.ndarray:
    return (boxes[:, 2:] - boxes[:, :2]).clip(min=0).prod(1)
