"""Many methods on the same test images: AP and F1 on shared resamples, ranks over classes, and orders that flip.

A metric of several methods, their differences and their ranks all come from one set of resamples, drawn once: what is
hard about an image is hard for every method. Scores and labels given have a first axis of runs, such as one a seed.
"""

import math
from collections.abc import Mapping
from itertools import combinations
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Float64, Int, Int8, Int32

from mlic_core.claims import Comparison
from mlic_core.errors import InputError
from mlic_core.metrics import Interval

CHUNK = 1 << 23  # comparisons of a positive with an image at a time, 32 MB
VERDICTS = ("seen", "undecided", "not seen")


def times_drawn(images: int, n: int = 1000, seed: int = 0) -> Int32[np.ndarray, "{images} {n}"]:
    """How often each image is in each of `n` resamples, the ones that `metrics.bootstrap` draws for the same seed."""
    drawn = np.random.default_rng(seed).integers(images, size=(n, images))
    return np.stack([np.bincount(row, minlength=images) for row in drawn], axis=1).astype(np.int32)


def resampled_ap(
    scores: Float[np.ndarray, "runs images classes"],
    targets: Int8[np.ndarray, "images classes"],
    times: Int32[np.ndarray, "images n"],
) -> Float64[np.ndarray, "n classes"]:
    """Raw AP (%) of each class on each resample, the mean of the runs; NaN where no positive was drawn."""
    found = np.full((times.shape[1], targets.shape[1]), np.nan)
    weights = times.astype(np.float32)  # whole numbers, exact up to 2^24 drawn images
    for label in np.flatnonzero((targets == 1).any(0)):
        counts = targets[:, label] >= 0
        of_runs = [_class_ap(run[counts, label], targets[counts, label], weights[counts]) for run in scores]
        found[:, label] = 100 * np.mean(of_runs, axis=0)
    return found


def _class_ap(scores: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """AP of one class in each resample: for each positive the share of positives among what scores as high or higher.

    Products of matrices, since the resamples are many: several times as fast as sums along each of them.
    """
    positives, area = np.flatnonzero(targets == 1), np.zeros(weights.shape[1])
    for part in np.array_split(positives, -(-len(positives) * len(scores) // CHUNK)):
        above = (scores >= scores[part, None]).astype(np.float32)
        hits, counted = above[:, positives] @ weights[positives], above @ weights
        area += (weights[part] * (hits.astype(np.float64) / np.maximum(counted, 1))).sum(0)
    drawn = weights[positives].sum(0)
    return np.divide(area, drawn, out=np.full(len(area), np.nan), where=drawn > 0)


def resampled_f1(
    given: Bool[np.ndarray, "runs images classes"],
    targets: Int8[np.ndarray, "images classes"],
    times: Int32[np.ndarray, "images n"],
) -> Float64[np.ndarray, "n 2"]:
    """C-F1 and O-F1 (%) as `metrics.label_scores` defines them, on each resample, the mean of the runs."""
    weights, present = times.T.astype(np.float64), targets == 1
    positives = weights @ present
    rows = []
    for run in given:
        chosen = run & (targets >= 0)
        rows.append(_f1(weights @ (chosen & present), weights @ chosen, positives))
    return 100 * np.mean(rows, axis=0)


def _f1(right: np.ndarray, chosen: np.ndarray, positives: np.ndarray) -> np.ndarray:
    """C-F1 and O-F1 of sums over images, (n, classes) each."""
    some = positives > 0
    precision = (right / np.maximum(chosen, 1)).mean(1)
    recall = (right / np.maximum(positives, 1)).sum(1) / np.maximum(some.sum(1), 1)
    by_class = _ratio(2 * precision * recall, precision + recall)
    overall = _ratio(2 * right.sum(1), chosen.sum(1) + positives.sum(1))
    return np.stack([by_class, overall], axis=1)


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    return np.divide(above, below, out=np.zeros_like(below), where=below > 0)


def interval(value: float, draws: Float[np.ndarray, " n"]) -> Interval:
    """A value with the 95 % interval of its resamples; undefined ones are left out."""
    draws = draws[~np.isnan(draws)]
    low, high = np.quantile(draws, [0.025, 0.975]) if len(draws) else (np.nan, np.nan)
    return Interval(float(value), float(low), float(high))


def compare(
    by_run: Float[np.ndarray, " runs"],
    other_by_run: Float[np.ndarray, " runs"],
    draws: Float[np.ndarray, " n"],
    other_draws: Float[np.ndarray, " n"],
) -> Comparison:
    """One method less another, paired by run and by resample: what `claims.verdict` judges."""
    pairs = np.asarray(by_run) - np.asarray(other_by_run)
    return Comparison(*interval(float(pairs.mean()), draws - other_draws), tuple(pairs.tolist()))


def class_ranks(ap: Float[np.ndarray, " methods *rest"]) -> Float64[np.ndarray, " methods *rest"]:
    """Rank of each method among all, 1 for the highest; equal ones share the mean of their places.

    NaN where any method has none, so that every rank is among all methods.
    """
    above = np.stack([(ap > one).sum(0) for one in ap])
    equal = np.stack([(ap == one).sum(0) for one in ap])
    return np.where(np.isnan(ap).any(0), np.nan, above + (equal + 1) / 2)


def mean_ranks(ap: Float[np.ndarray, "methods *rest classes"]) -> Float64[np.ndarray, " methods *rest"]:
    """Mean over classes of the ranks; classes without an AP are left out. NaN where there is no other."""
    ranks = class_ranks(ap)
    there = ~np.isnan(ranks)
    total, count = np.where(there, ranks, 0).sum(-1), there.sum(-1)
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)


def mean_rank_intervals(
    ap: Mapping[str, Float[np.ndarray, " classes"]], draws: Mapping[str, Float[np.ndarray, "n classes"]]
) -> dict[str, Interval]:
    """`mean_ranks` of methods by name, with the 95 % interval of those of the same methods' resamples."""
    means = mean_ranks(np.stack(list(ap.values())))
    resampled = mean_ranks(np.stack([draws[name] for name in ap]))
    return {name: interval(*one) for name, *one in zip(ap, means, resampled, strict=True)}


def flips(values: Mapping[str, float], others: Mapping[str, float]) -> list[tuple[str, str]]:
    """Pairs of methods whose order under one convention is the reverse of that under another, the first's leader first.

    A tie under either is no order, hence no reversal. Raises InputError unless both are of the same methods.
    """
    if values.keys() != others.keys():
        raise InputError(f"no order can be compared: {sorted(values.keys() ^ others.keys())} are under one rule only")
    found = []
    for a, b in combinations(values, 2):
        if (values[a] - values[b]) * (others[a] - others[b]) < 0:
            found.append((a, b) if values[a] > values[b] else (b, a))
    return found


def thirds(counts: Int[np.ndarray, " classes"]) -> list[np.ndarray]:
    """Indices of the classes by count in three parts, the rarest first; classes without any are in none."""
    order = np.argsort(counts, kind="stable")
    return np.array_split(order[counts[order] > 0], 3)


class Judged(NamedTuple):
    """A claim of a saved table: the difference of ours in points, its bounds and the verdict on it."""

    claim: str
    data: str
    ours: float
    low: float
    high: float
    verdict: str


def judged(table: pd.DataFrame) -> pd.DataFrame:
    """The claims of a notebook's table as rows of `Judged`, whichever form the table has.

    The difference stands in `ours` or `difference`, the bounds in `low` and `high` or, as "-0.1 to +0.7", in
    `interval`, where "seeds only" means that there are none. A claim without a defined difference is left out.
    Raises InputError for a verdict that is none of `VERDICTS`, and for a table without these columns.
    """
    value = "ours" if "ours" in table else "difference"
    if missing := [column for column in ("claim", "data", "verdict", value) if column not in table]:
        raise InputError(f"a table of claims lacks the column {missing[0]}; run its notebook again")
    rows = []
    for row in table.to_dict("records"):
        if row["verdict"] not in VERDICTS:
            raise InputError(f"claim {row['claim']!r} has the verdict {row['verdict']!r}, not one of {VERDICTS}")
        low, high = (row["low"], row["high"]) if "low" in row else _bounds(row["interval"])
        rows.append(Judged(row["claim"], row["data"], float(row[value]), float(low), float(high), row["verdict"]))
    return pd.DataFrame(rows, columns=Judged._fields).dropna(subset="ours")


def _bounds(text: str) -> tuple[float, float]:
    low, _, high = text.partition(" to ")
    return (float(low), float(high)) if high else (math.nan, math.nan)
