"""Do regions and maps lie on the objects? Recall, pointing, energy and order, against annotated boxes.

Arrays only. Boxes are x0, y0, x1, y1 in [0, 1]; `image` (objects,) is the index of the image that each object is in.
Where a method is asked for one class at a time, a *pair* is an image and a class in it, and `pair` (objects,) is the
index of the pair that each object belongs to. A region without an area, such as one that left the image, finds nothing.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Int64

from mlic_core.attention import iou, mean_overlap
from mlic_core.errors import InputError
from mlic_core.metrics import Interval
from mlic_core.ranking import class_ranks, interval, times_drawn

TOLERANCE = 0.03  # of the pointing game: 15 pixels of the 500 that a side of a VOC image usually has
COVERED = 0.7  # share of an object's area that a region has to hold
Overlap = Callable[[np.ndarray, np.ndarray], np.ndarray]  # of pairs of boxes: `attention.iou` or `attention.coverage`


class Pairs(NamedTuple):
    """The image and class of each pair, by image and then by class, and the pair of each object."""

    image: Int64[np.ndarray, " pairs"]
    label: Int64[np.ndarray, " pairs"]
    of: Int64[np.ndarray, " objects"]


def pairs_of(image: Int[np.ndarray, " objects"], classes: Int[np.ndarray, " objects"]) -> Pairs:
    """Which objects are of one class in one image."""
    found, of = np.unique(np.stack([image, classes], 1).astype(np.int64), axis=0, return_inverse=True)
    return Pairs(found[:, 0], found[:, 1], of.reshape(-1).astype(np.int64))


def side(boxes: Float[np.ndarray, "*batch 4"]) -> Float[np.ndarray, "*batch"]:
    """Size of boxes: the square root of their share of the image's area, in [0, 1]."""
    return np.sqrt((boxes[..., 2:] - boxes[..., :2]).clip(min=0).prod(-1))


def overlaps(
    overlap: Overlap,
    regions: Float[np.ndarray, "images regions 4"],
    image: Int[np.ndarray, " objects"],
    boxes: Float[np.ndarray, "objects 4"],
) -> Float[np.ndarray, "objects regions"]:
    """How each object overlaps with each region of its image, in [0, 1]. The objects' boxes have an area."""
    count = regions.shape[1]
    each = regions[image].reshape(-1, 4).astype(np.float64)
    return overlap(each, boxes.repeat(count, 0).astype(np.float64)).reshape(len(boxes), count)


def best_overlap(
    overlap: Float[np.ndarray, "objects regions"], own: Bool[np.ndarray, "objects regions"] | None = None
) -> Float[np.ndarray, " objects"]:
    """The largest overlap of each object with a region, in [0, 1]; 0 without regions. Recall: the share above a bound.

    own: which regions count for an object, those of its own class if recall is to be class-aware; else all of them.
    """
    return (overlap if own is None else np.where(own, overlap, 0.0)).max(1, initial=0.0)


def regions_needed(
    coverages: Float[np.ndarray, "objects regions"],
    image: Int[np.ndarray, " objects"],
    images: int,
    least: float = COVERED,
) -> Float[np.ndarray, " {images}"]:
    """How many regions, in their order, until one or another of them holds at least `least` of every object.

    Each object by a single region, from 1 on; infinite where they never do, NaN for an image without objects.
    """
    count = coverages.shape[1]
    held = np.pad(coverages >= least, ((0, 0), (0, 1)), constant_values=True)  # beyond the last one: never
    first = held.argmax(1) + 1.0
    needed = np.full(images, np.nan)
    np.fmax.at(needed, image, np.where(first > count, np.inf, first))  # fmax prefers any number to NaN
    return needed


def covered_by(needed: Float[np.ndarray, " images"], counts: Sequence[int]) -> Float[np.ndarray, " counts"]:
    """Share of the images with objects, in [0, 1], all of whose objects the first n regions hold, for each n."""
    there = needed[~np.isnan(needed)]
    return np.array([np.mean(there <= n) if len(there) else np.nan for n in counts])


def diversity(regions: Float[np.ndarray, "images regions 4"]) -> Float[np.ndarray, " images"]:
    """Mean IoU over the pairs of an image's regions that have an area, in [0, 1]; NaN where there is no such pair."""
    count, real = regions.shape[1], (side(regions) > 0).sum(1)
    pairs = real * (real - 1) / 2
    share = mean_overlap(regions) * (count * (count - 1) / 2)  # regions without an area add nothing to this sum
    return np.divide(share, pairs, out=np.full(len(regions), np.nan), where=pairs > 0)


def points_hit(
    points: Float[np.ndarray, "pairs 2"],
    pair: Int[np.ndarray, " objects"],
    boxes: Float[np.ndarray, "objects 4"],
    tolerance: float = TOLERANCE,
) -> Bool[np.ndarray, " pairs"]:
    """Whether each pair's point x, y in [0, 1] lies in one of its boxes, or no further from it than `tolerance`."""
    return _hit(points[pair, None], pair, boxes, tolerance, len(points))[:, 0]


def pointing(
    maps: Float[np.ndarray, "pairs rows columns"],
    pair: Int[np.ndarray, " objects"],
    boxes: Float[np.ndarray, "objects 4"],
    tolerance: float = TOLERANCE,
) -> Float[np.ndarray, " pairs"]:
    """The pointing game (Zhang et al., ECCV 2016): 1 where the highest cell's centre hits a box of its pair, else 0.

    tolerance: in shares of the image's sides; the published 15 pixels are about .03. Of several highest cells the share
    that hits, so that a map which is everywhere alike scores as a cell at random would; a map of zeros points nowhere
    and has 0. Raises InputError for negative values.
    """
    cells, (rows, columns) = _flat(maps), maps.shape[1:]
    y, x = ((np.arange(count) + 0.5) / count for count in (rows, columns))
    centres = np.stack(np.meshgrid(x, y), -1).reshape(-1, 2)
    hit = _hit(centres[None], pair, boxes, tolerance, len(maps))
    top = (cells == cells.max(1, keepdims=True)) & (cells > 0)
    return (hit & top).sum(1) / top.sum(1).clip(min=1)


def _hit(points: np.ndarray, pair: np.ndarray, boxes: np.ndarray, tolerance: float, pairs: int) -> np.ndarray:
    """Which points (objects or 1, points, 2) hit a box of their pair: (pairs, points)."""
    corners = boxes[:, None].astype(np.float64)
    away = np.maximum(corners[..., :2] - points, points - corners[..., 2:]).clip(min=0)
    near = (away**2).sum(-1) <= tolerance**2
    hit = np.zeros((pairs, near.shape[1]), bool)
    np.logical_or.at(hit, pair, near)
    return hit


def energy_inside(
    maps: Float[np.ndarray, "pairs rows columns"],
    pair: Int[np.ndarray, " objects"],
    boxes: Float[np.ndarray, "objects 4"],
) -> Float[np.ndarray, " pairs"]:
    """Share of a map's values, in [0, 1], that lies in the union of its pair's boxes; 0 for a map of zeros.

    A cell spreads its value over its part of the image, so that a map which is everywhere alike gives the boxes' share
    of the image. Exact: no pixels are counted. Raises InputError for negative values.
    """
    cells, (rows, columns) = _flat(maps), maps.shape[1:]
    stacked = _stack(pair, boxes, len(maps))
    (x, width, column), (y, height, row) = (
        _pieces(stacked[..., axis::2], count) for axis, count in ((0, columns), (1, rows))
    )
    inside = np.zeros((len(maps), y.shape[1], x.shape[1]), bool)
    for x0, y0, x1, y1 in stacked.transpose(1, 2, 0)[..., None]:  # the first box of every pair, then the second
        inside |= ((y0 < y) & (y < y1))[:, :, None] & ((x0 < x) & (x < x1))[:, None, :]
    where = (row[:, :, None] * columns + column[:, None, :]).reshape(len(maps), -1)
    density = np.take_along_axis(cells, where, 1).reshape(inside.shape) * rows * columns
    held = np.einsum("pyx,pyx,py,px->p", inside, density, height, width)
    total = cells.sum(1)
    return np.divide(held, total, out=np.zeros(len(maps)), where=total > 0)


def _flat(maps: np.ndarray) -> np.ndarray:
    if not (maps >= 0).all():  # also where NaN
        raise InputError("maps hold values below 0 or NaN: give what a method weighs cells by, 0 or more")
    return maps.reshape(len(maps), -1).astype(np.float64)


def _stack(pair: np.ndarray, boxes: np.ndarray, pairs: int) -> np.ndarray:
    """The boxes of each pair beside each other (pairs, most, 4); points at 0 where it has fewer."""
    order = np.argsort(pair, kind="stable")
    place = np.arange(len(order)) - np.searchsorted(pair[order], pair[order])
    stacked = np.zeros((pairs, int(place.max(initial=-1)) + 1, 4))
    stacked[pair[order], place] = boxes[order]
    return stacked


def _pieces(bounds: np.ndarray, cells: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pieces that the bounds (pairs, most, 2) and the cells' edges cut a side into: middles, lengths and cells."""
    edges = np.broadcast_to(np.arange(cells + 1) / cells, (len(bounds), cells + 1))
    edges = np.sort(np.concatenate([bounds.reshape(len(bounds), -1), edges], 1), 1)
    middles = (edges[:, 1:] + edges[:, :-1]) / 2
    return middles, np.diff(edges), np.minimum((middles * cells).astype(int), cells - 1)


def largest(values: Float[np.ndarray, " objects"], group: Int[np.ndarray, " objects"], groups: int) -> np.ndarray:
    """The largest value of each group, such as of the objects of a pair; 0 for a group without any."""
    found = np.zeros(groups)
    np.maximum.at(found, group, values)
    return found


def pair_iou(
    regions: Float[np.ndarray, "pairs 4"], pair: Int[np.ndarray, " objects"], boxes: Float[np.ndarray, "objects 4"]
) -> Float[np.ndarray, " pairs"]:
    """IoU of each pair's region with that of its boxes which fits best, in [0, 1]."""
    return largest(iou(regions[pair].astype(np.float64), boxes.astype(np.float64)), pair, len(regions))


def mean_over(
    values: Float[np.ndarray, " things"] | Bool[np.ndarray, " things"],
    image: Int[np.ndarray, " things"],
    images: int,
    *,
    n: int = 1000,
) -> Interval:
    """The mean over objects or pairs with its 95 % interval from `n` resamples of the images that they are in.

    Objects of one image are drawn together, for they are no independent evidence. NaN counts nowhere; if all are NaN,
    so is the mean. Of the difference of two methods' values it is the paired interval.
    """
    there = ~np.isnan(values.astype(np.float64))
    sums, counts = (
        np.bincount(image[there], weights, minlength=images).astype(np.float64)
        for weights in (values[there].astype(np.float64), None)
    )
    times = times_drawn(images, n)
    drawn = counts @ times
    draws = np.divide(sums @ times, drawn, out=np.full(n, np.nan), where=drawn > 0)
    return interval(float(sums.sum() / counts.sum()) if counts.any() else float("nan"), draws)


def rank_correlation(x: Float[np.ndarray, " classes"], y: Float[np.ndarray, " classes"], *, n: int = 1000) -> Interval:
    """Spearman's ρ in [-1, 1] over the classes in which both are numbers, with 95 % from `n` resamples of the classes.

    NaN for fewer than three classes and where one of both does not vary.
    """
    both = ~np.isnan(x) & ~np.isnan(y)
    if both.sum() < 3:
        return Interval(float("nan"), float("nan"), float("nan"))
    values = np.stack([x[both], y[both]]).astype(np.float64)
    drawn = np.random.default_rng(0).integers(values.shape[1], size=(n, values.shape[1]))
    everyone = np.arange(values.shape[1])[None]
    return interval(float(_correlation(values[:, everyone])[0]), _correlation(values[:, drawn]))


def _correlation(values: Float[np.ndarray, "2 n classes"]) -> Float[np.ndarray, " n"]:
    """Pearson's correlation of the ranks; NaN where one side does not vary."""
    ranks = np.stack([class_ranks(one.T).T for one in values])
    ranks = ranks - ranks.mean(-1, keepdims=True)
    spread = np.sqrt((ranks**2).sum(-1).prod(0))
    return np.divide(ranks.prod(0).sum(-1), spread, out=np.full(len(spread), np.nan), where=spread > 0)
