"""Intervals by the bootstrap over images: what a metric would be on other images of the same kind."""

import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float64, Int, Real

from mlic_core.errors import InputError
from mlic_core.metrics.ap import APKind, mean_average_precision
from mlic_core.metrics.arrays import checked

Metric = Callable[[np.ndarray, np.ndarray], Any]  # (scores, targets) -> a number, or something with a .value
CHUNK = 1 << 19  # drawn images at a time: the arrays of a chunk stay in the processor's cache


class Interval(NamedTuple):
    """`value` on the images themselves, and the bounds of the interval."""

    value: float
    low: float
    high: float


class Difference(NamedTuple):
    """`value` on the images themselves, the bounds, and the share of resamples in which the first is the larger one."""

    value: float
    low: float
    high: float
    probability: float


def bootstrap(
    scores: Real[np.ndarray, "*runs images classes"],
    targets: Int[np.ndarray, "images classes"],
    metric: Metric = mean_average_precision,
    n: int = 1000,
    *,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Percentile interval of `metric(scores, targets)` over `n` resamples of the images, in the metric's unit.

    With scores (runs, images, classes) it is the mean of the metric over the runs, such as one for each seed, on the
    same images: the interval says what other images would change, not what other seeds would. A resample in which the
    metric is NaN is left out. `mean_average_precision`, also as `functools.partial(..., kind=...)`, has a fast way.

    Raises InputError as `average_precision` does, without images, for n below 1 and for a level outside (0, 1).
    """
    runs = _checked_runs(scores, targets, n, level)
    return Interval(_mean_of(metric, runs, targets), *_bounds(_resampled(metric, runs, targets, n, seed), level))


def paired_bootstrap(
    a: Real[np.ndarray, "*runs images classes"],
    b: Real[np.ndarray, "*others images classes"],
    targets: Int[np.ndarray, "images classes"],
    metric: Metric = mean_average_precision,
    n: int = 1000,
    *,
    level: float = 0.95,
    seed: int = 0,
) -> Difference:
    """Interval of `metric(a) - metric(b)`, both on the same resampled images; otherwise as `bootstrap`.

    What is hard about an image is hard for both, so the interval is narrower than those of a and b suggest.
    `probability` counts a tie as one half.
    """
    runs = [_checked_runs(scores, targets, n, level) for scores in (a, b)]
    value = _mean_of(metric, runs[0], targets) - _mean_of(metric, runs[1], targets)
    first, second = (_resampled(metric, scores, targets, n, seed) for scores in runs)
    difference = first - second
    defined = difference[~np.isnan(difference)]
    probability = np.mean((defined > 0) + 0.5 * (defined == 0)) if len(defined) else np.nan
    return Difference(value, *_bounds(difference, level), float(probability))


def _checked_runs(scores: np.ndarray, targets: np.ndarray, n: int, level: float) -> np.ndarray:
    if n < 1 or not 0 < level < 1:
        raise InputError(f"n is {n} and level {level}: n must be at least 1 and level between 0 and 1.")
    runs = np.asarray(scores)
    runs = runs if runs.ndim == 3 else runs[None]
    if runs.ndim != 3 or 0 in runs.shape[:2]:
        raise InputError(f"scores of shape {np.shape(scores)} hold no run or no image to resample.")
    return np.stack([checked(run, targets)[0] for run in runs])


def _mean_of(metric: Metric, runs: np.ndarray, targets: np.ndarray) -> float:
    return float(np.mean([_number(metric(run, targets)) for run in runs]))


def _number(value: Any) -> float:
    return float(getattr(value, "value", value))


def _bounds(values: np.ndarray, level: float) -> tuple[float, float]:
    values = values[~np.isnan(values)]
    if not len(values):
        return np.nan, np.nan
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _resampled(metric: Metric, runs: np.ndarray, targets: np.ndarray, n: int, seed: int) -> Float64[np.ndarray, " n"]:
    """The metric, averaged over the runs, on each resample."""
    kind = _ap_kind(metric)
    draws = _draws(len(targets), n, seed)
    if kind is None:
        return np.array([_mean_of(metric, runs[:, drawn], targets[drawn]) for block in draws for drawn in block])
    rankings = [_rank(run, targets) for run in runs]
    blocks = []
    for block in draws:
        weights = _times_drawn(block)
        blocks.append(np.mean([_weighted_map(ranking, weights, kind) for ranking in rankings], axis=0))
    return np.concatenate(blocks)


def _draws(images: int, n: int, seed: int) -> Iterator[np.ndarray]:
    """`n` rows of `images` indices, drawn with replacement, in blocks."""
    generator = np.random.default_rng(seed)
    block = max(1, CHUNK // images)
    for begun in range(0, n, block):
        yield generator.integers(images, size=(min(block, n - begun), images))


def _times_drawn(block: np.ndarray) -> np.ndarray:
    """How often each image was drawn, (resamples, images)."""
    resamples, images = block.shape
    places = block + images * np.arange(resamples)[:, None]
    return np.bincount(places.ravel(), minlength=block.size).reshape(block.shape).astype(np.int32)


def _ap_kind(metric: Metric) -> APKind | None:
    """The kind of AP that the metric is the mean of; None for another metric."""
    if metric is mean_average_precision:
        return "raw"
    if isinstance(metric, functools.partial) and metric.func is mean_average_precision and not metric.args:
        return metric.keywords.get("kind", "raw") if set(metric.keywords) <= {"kind"} else None
    return None


class _Ranking(NamedTuple):
    """One class: the images that count, best first; where the positives stand; where their runs of equal scores end."""

    order: np.ndarray
    positives: np.ndarray
    ends: np.ndarray  # place in `order`
    last: np.ndarray  # place in `positives`


def _rank(scores: np.ndarray, targets: np.ndarray) -> list[_Ranking]:
    """The classes that have a positive; a resample keeps their order, so it is found once."""
    rankings = []
    for column, target in zip(scores.T, targets.T, strict=True):
        if not (target == 1).any():
            continue
        order = np.argsort(-column, kind="stable")
        order = order[target[order] >= 0]
        descending = -column[order]
        positives = np.flatnonzero(target[order] == 1)
        ends = np.searchsorted(descending, descending[positives], side="right") - 1
        last = np.searchsorted(positives, ends, side="right") - 1
        rankings.append(_Ranking(order, positives, ends, last))
    return rankings


def _weighted_map(rankings: list[_Ranking], weights: np.ndarray, kind: APKind) -> np.ndarray:
    """mAP of each resample (NaN without a positive), given how often each image was drawn."""
    total, classes = np.zeros(len(weights)), np.zeros(len(weights), dtype=np.int64)
    for ranking in rankings:
        drawn = weights[:, ranking.order]
        gained = drawn[:, ranking.positives]
        hits = np.cumsum(gained, axis=1)[:, ranking.last]
        counted = np.cumsum(drawn, axis=1, out=drawn)[:, ranking.ends]
        found = hits[:, -1]
        area = _weighted_area(gained, hits, hits / np.maximum(counted, 1), kind)
        total += np.where(found > 0, area, 0.0)
        classes += found > 0
    return np.divide(total, classes, out=np.full(len(weights), np.nan), where=classes > 0)


def _weighted_area(gained: np.ndarray, hits: np.ndarray, precision: np.ndarray, kind: APKind) -> np.ndarray:
    """AP of one class in each resample; a positive that was not drawn adds a point but no area."""
    found = hits[:, -1:]
    if kind == "voc07":
        reached = [np.where(10 * hits >= k * found, precision, 0.0).max(axis=1) for k in range(11)]
        return np.mean(reached, axis=0)
    if kind == "voc10":
        precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    return (gained * precision).sum(axis=1) / np.maximum(found[:, 0], 1)
