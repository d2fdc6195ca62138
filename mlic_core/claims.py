"""Does one method beat another? The metrics of label decisions with intervals, paired differences, and verdicts.

Everything is in percent but what `example_intervals` and `example_differences` return. A method may have several runs,
such as one a seed: its metric is their mean, the interval says how far that would move with other test images, and
differences run by run say how far with other seeds.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int8

from mlic_core.metrics import (
    Interval,
    bootstrap,
    example_values,
    image_average_precision,
    label_scores,
    map_at_n,
    mean_average_precision,
    paired_bootstrap,
    ranking_values,
)

LABEL_METRICS = ("C-P", "C-R", "C-F1", "O-P", "O-R", "O-F1")  # of the labels that an image is given
METRICS = (*LABEL_METRICS, "MAP@10", "mAP")  # the last two are of the scores
BLOCK = 100  # resamples at a time


class Outcome(NamedTuple):
    """What a method says of the test images: scores, which only rank, and the labels that it gives them."""

    scores: Float[np.ndarray, "runs images labels"]
    given: Bool[np.ndarray, "runs images labels"]


class Comparison(NamedTuple):
    """A difference of two methods: its value, the bounds of its interval, and its value in each pair of runs."""

    value: float
    low: float
    high: float
    by_run: tuple[float, ...]


def intervals(
    outcome: Outcome, targets: Int8[np.ndarray, "images labels"], *, n: int = 1000, seed: int = 0
) -> dict[str, Interval]:
    """Every one of `METRICS` with its 95 % interval from `n` resamples of the images (see `metrics.bootstrap`)."""
    found = {}
    for metric, draws in _resampled(outcome, targets, n, seed).items():
        value = float(np.mean(by_run(outcome, targets)[metric]))
        found[metric] = Interval(value, *_bounds(draws))
    scaled = bootstrap(outcome.scores, targets, n=n, seed=seed)
    return found | {"mAP": Interval(*(100 * number for number in scaled))}


def differences(
    a: Outcome, b: Outcome, targets: Int8[np.ndarray, "images labels"], *, n: int = 1000, seed: int = 0
) -> dict[str, Comparison]:
    """Every one of `METRICS` of `a` less that of `b`, both on the same resampled images.

    `by_run` pairs the runs in their order; it is empty where the methods have different numbers of runs.
    """
    runs = [by_run(outcome, targets) for outcome in (a, b)]
    draws = [_resampled(outcome, targets, n, seed) for outcome in (a, b)]
    bounds = {metric: _bounds(draws[0][metric] - draws[1][metric]) for metric in draws[0]}
    area = paired_bootstrap(a.scores, b.scores, targets, n=n, seed=seed)
    bounds["mAP"] = (100 * area.low, 100 * area.high)
    found = {}
    for metric in METRICS:
        first, second = (np.array(one[metric]) for one in runs)
        pairs = tuple((first - second).tolist()) if len(first) == len(second) else ()
        found[metric] = Comparison(float(first.mean() - second.mean()), *bounds[metric], pairs)
    return found


def verdict(found: Comparison, *, within: float | None = None) -> str:
    """Whether the difference is positive, or with `within`, whether it is that small: "seen", "not seen", "undecided".

    Positive is seen where the whole interval and every pair of runs are above 0, and not seen where all are below.
    Small is seen where the interval lies inside ±within, and not seen where it lies outside. Anything else, an
    undefined number too, is undecided.
    """
    if within is not None:
        inside = -within <= found.low and found.high <= within
        outside = found.low > within or found.high < -within
        return "seen" if inside else "not seen" if outside else "undecided"
    if found.low > 0 and all(value > 0 for value in found.by_run):
        return "seen"
    if found.high < 0 and all(value < 0 for value in found.by_run):
        return "not seen"
    return "undecided"


def by_run(outcome: Outcome, targets: Int8[np.ndarray, "images labels"]) -> dict[str, list[float]]:
    """Every one of `METRICS`, a value for each run."""
    rows = [_metrics(*run, targets) for run in zip(*outcome, strict=True)]
    return {metric: [100 * row[metric] for row in rows] for metric in METRICS}


def _metrics(scores: np.ndarray, given: np.ndarray, targets: np.ndarray) -> dict[str, float]:
    ranked = {"MAP@10": map_at_n(scores, targets, 10), "mAP": mean_average_precision(scores, targets).value}
    return label_scores(given.astype(np.float32), targets, threshold=0.5) | ranked


def _resampled(outcome: Outcome, targets: np.ndarray, n: int, seed: int) -> dict[str, np.ndarray]:
    """All metrics but mAP, averaged over the runs, on each resample.

    Each is made of sums over images, so that resampling is a product with how often each image was drawn.
    """
    sums = [_summands(*run, targets) for run in zip(*outcome, strict=True)]
    generator = np.random.default_rng(seed)
    found: dict[str, list[np.ndarray]] = {}
    for begun in range(0, n, BLOCK):
        drawn = generator.integers(len(targets), size=(min(BLOCK, n - begun), len(targets)))
        times = np.stack([np.bincount(row, minlength=len(targets)) for row in drawn]).astype(np.float64)
        rows = [_from_sums({name: times @ values for name, values in one.items()}) for one in sums]
        for metric in rows[0]:
            found.setdefault(metric, []).append(100 * np.mean([row[metric] for row in rows], axis=0))
    return {metric: np.concatenate(parts) for metric, parts in found.items()}


def _summands(scores: np.ndarray, given: np.ndarray, targets: np.ndarray) -> dict[str, np.ndarray]:
    """What each image adds to the sums behind the metrics."""
    chosen, present = given & (targets >= 0), targets == 1
    some = present.any(1)
    precision = np.nan_to_num(image_average_precision(scores, targets, 10))
    columns = {"right": chosen & present, "chosen": chosen, "present": present}
    columns |= {"precision": precision[:, None], "images": some[:, None]}
    return {name: values.astype(np.float64) for name, values in columns.items()}


def _from_sums(sums: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The metrics as `label_scores` and `map_at_n` define them, for sums (resamples, labels)."""
    right, chosen, present = (sums[name] for name in ("right", "chosen", "present"))
    some = present > 0
    recall = np.where(some, right / np.maximum(present, 1), 0).sum(1) / np.maximum(some.sum(1), 1)
    parts = {"C": ((right / np.maximum(chosen, 1)).mean(1), recall)}
    total = [values.sum(1) for values in (right, chosen, present)]
    parts["O"] = (total[0] / np.maximum(total[1], 1), total[0] / np.maximum(total[2], 1))
    found = {}
    for letter, (precision, recalled) in parts.items():
        both = precision + recalled
        f1 = np.divide(2 * precision * recalled, both, out=np.zeros_like(both), where=both > 0)
        found |= {f"{letter}-P": precision, f"{letter}-R": recalled, f"{letter}-F1": f1}
    return found | {"MAP@10": (sums["precision"] / np.maximum(sums["images"], 1))[:, 0]}


def _bounds(values: np.ndarray) -> tuple[float, float]:
    values = values[~np.isnan(values)]
    low, high = np.quantile(values, [0.025, 0.975]) if len(values) else (np.nan, np.nan)
    return float(low), float(high)


def mean_interval(values: Float[np.ndarray, "runs images"], *, n: int = 1000, seed: int = 0) -> Interval:
    """The mean of a number that each image has, such as the overlap of its regions, with its 95 % interval.

    The mean is over images and runs; the interval, of `n` resamples, says what other images would change. NaN images
    count nowhere; if all are NaN, so is the mean.
    """
    return Interval(_mean(values), *_bounds(_resampled_means(values, n, seed)))


def mean_difference(
    a: Float[np.ndarray, "runs images"], b: Float[np.ndarray, "others images"], *, n: int = 1000, seed: int = 0
) -> Comparison:
    """`mean_interval` of `a` less that of `b`, both on the same resampled images; by run as in `differences`."""
    low, high = _bounds(_resampled_means(a, n, seed) - _resampled_means(b, n, seed))
    pairs = tuple(_mean(one) - _mean(other) for one, other in zip(a, b, strict=True)) if len(a) == len(b) else ()
    return Comparison(_mean(a) - _mean(b), low, high, pairs)


def example_intervals(
    scores: Float[np.ndarray, "runs images labels"], targets: Int8[np.ndarray, "images labels"], *, n: int = 1000
) -> dict[str, Interval]:
    """Lyu et al.'s Table II: P, R, F, hamming and accuracy @3 and @5, one-error, coverage, ranking loss and mAP.

    Each the mean of the runs with its 95 % interval, in the units of `metrics.example_scores` and `ranking_scores`;
    F@k is the harmonic mean of those of P@k and R@k. All from the same `n` resamples of the images.
    """
    found = {name: Interval(value, *_bounds(draws)) for name, (value, draws) in _examples(scores, targets, n).items()}
    return found | {"mAP": bootstrap(scores, targets, n=n)}


def example_differences(
    a: Float[np.ndarray, "runs images labels"],
    b: Float[np.ndarray, "others images labels"],
    targets: Int8[np.ndarray, "images labels"],
    *,
    n: int = 1000,
) -> dict[str, Comparison]:
    """`example_intervals` of `a` less those of `b` on the same resampled images; by run as in `differences`."""
    first, second = _examples(a, targets, n), _examples(b, targets, n)
    alone = [[_examples(run[None], targets, 0) for run in runs] for runs in (a, b)]
    found = {}
    for name, (value, draws) in first.items():
        other, others = second[name]
        pairs = tuple(x[name][0] - y[name][0] for x, y in zip(*alone, strict=True)) if len(a) == len(b) else ()
        found[name] = Comparison(value - other, *_bounds(draws - others), pairs)
    area = ap_difference(a, b, targets, n=n)
    return found | {"mAP": Comparison(*(one / 100 for one in area[:3]), tuple(one / 100 for one in area.by_run))}


def _examples(scores: np.ndarray, targets: np.ndarray, n: int) -> dict[str, tuple[float, np.ndarray]]:
    """Each metric of Table II but mAP: its value and `n` resampled ones."""
    rows = [example_values(run, targets, top_k=k) for k in (3, 5) for run in scores]
    rows += [ranking_values(run, targets) for run in scores]
    values: dict[str, list[np.ndarray]] = {}
    for row in rows:
        for name, each in row.items():
            values.setdefault(name, []).append(each)
    found = {name: (_mean(np.stack(each)), _resampled_means(np.stack(each), n, 0)) for name, each in values.items()}
    for k in (3, 5):
        (p, ps), (r, rs) = found[f"P@{k}"], found[f"R@{k}"]
        found[f"F@{k}"] = 2 * p * r / max(p + r, 1e-12), 2 * ps * rs / np.maximum(ps + rs, 1e-12)
    return found


def ap_difference(
    a: Float[np.ndarray, "runs images labels"],
    b: Float[np.ndarray, "others images labels"],
    targets: Int8[np.ndarray, "images labels"],
    *,
    n: int = 1000,
    seed: int = 0,
) -> Comparison:
    """mAP (%) of `a` less that of `b` on the same resampled images, without the other metrics of `differences`."""
    found = paired_bootstrap(a, b, targets, n=n, seed=seed)
    single = [[100 * mean_average_precision(run, targets).value for run in runs] for runs in (a, b)]
    pairs = (np.array(single[0]) - single[1]).tolist() if len(a) == len(b) else ()
    return Comparison(100 * found.value, 100 * found.low, 100 * found.high, tuple(pairs))


def gain_difference(
    a: Float[np.ndarray, "runs images labels"],
    base_of_a: Float[np.ndarray, "runs images labels"],
    b: Float[np.ndarray, "runs images labels"],
    base_of_b: Float[np.ndarray, "runs images labels"],
    targets: Int8[np.ndarray, "images labels"],
    *,
    n: int = 1000,
) -> Comparison:
    """How much more mAP (%) `a` gains over its base than `b` over its own, all four on the same resampled images."""
    # (a - base_of_a) - (b - base_of_b) is twice the difference of two means over as many runs.
    first, second = (np.concatenate(pair) for pair in ((a, base_of_b), (base_of_a, b)))
    found = paired_bootstrap(first, second, targets, n=n)
    of_runs = [100 * np.array([mean_average_precision(run, targets).value for run in runs]) for runs in (first, second)]
    pairs = (of_runs[0] - of_runs[1]).reshape(2, -1).sum(0)
    return Comparison(*(200 * number for number in found[:3]), tuple(pairs.tolist()))


def _mean(values: np.ndarray) -> float:
    there = values[~np.isnan(values)]
    return float(there.mean()) if len(there) else float("nan")


def _resampled_means(values: np.ndarray, n: int, seed: int) -> np.ndarray:
    """The mean over images and runs on each resample of the images."""
    drawn = np.random.default_rng(seed).integers(values.shape[1], size=(n, values.shape[1]))
    there = ~np.isnan(values)
    sums, counts = np.where(there, values, 0).sum(0), there.sum(0)
    total = counts[drawn].sum(1)
    return np.divide(sums[drawn].sum(1), total, out=np.full(n, np.nan), where=total > 0)
