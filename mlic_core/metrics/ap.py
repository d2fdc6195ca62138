"""Average precision by class, in the three kinds that papers print."""

from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float64, Int, Real

from mlic_core.errors import check_choice
from mlic_core.metrics.arrays import Positives, checked, mean, rank_positives

APKind = Literal["raw", "voc10", "voc07"]


class MeanAveragePrecision(NamedTuple):
    """`value` in [0, 1] (NaN when no class counts) and the number of `classes` it is the mean of."""

    value: float
    classes: int


def average_precision(
    scores: Real[np.ndarray, "images classes"],
    targets: Int[np.ndarray, "images classes"],
    kind: APKind = "raw",
) -> Float64[np.ndarray, " classes"]:
    """Average precision of each class, in [0, 1]; NaN for a class without a positive image.

    With precision and recall taken at every distinct score of the class (equal scores form one threshold):

    - `raw`: the mean over positives of the precision at their threshold (scikit-learn's definition);
    - `voc10`: the same with precision replaced by its largest value at that recall or a higher one,
      the area under the monotone envelope (VOC devkit since 2010);
    - `voc07`: the mean of that envelope at recall 0, 0.1, ..., 1 (VOC devkit up to 2009). Recall is compared
      in whole numbers, so that 3 of 10 positives reach 0.3.

    Rank by fp32 logits: half-precision sigmoids saturate, and saturation makes ties.

    Raises InputError for shapes that differ, targets outside {1, 0, -1}, an unknown kind, and a score that is
    NaN or infinite, naming its image and class.
    """
    check_choice("kind", kind, APKind)
    scores, targets = checked(scores, targets)
    return area(rank_classes(scores, targets), scores.shape[1], kind)


def mean_average_precision(
    scores: Real[np.ndarray, "images classes"],
    targets: Int[np.ndarray, "images classes"],
    kind: APKind = "raw",
) -> MeanAveragePrecision:
    """Mean of `average_precision` over the classes that have a positive image, and how many those are."""
    return over_classes(average_precision(scores, targets, kind))


def over_classes(values: Float64[np.ndarray, " classes"]) -> MeanAveragePrecision:
    """Mean over the classes that are defined."""
    values = values[~np.isnan(values)]
    return MeanAveragePrecision(mean(values), len(values))


def rank_classes(scores: np.ndarray, targets: np.ndarray) -> Positives:
    """The ranks that every kind of AP needs, computed once: classes as rows."""
    return rank_positives(scores.T, np.ascontiguousarray(targets.T))


def area(ranked: Positives, classes: int, kind: APKind) -> Float64[np.ndarray, " classes"]:
    """AP of each class from the ranks of its positives.

    Thresholds without a new positive can be left out: the last one before them has their recall and a higher precision.
    """
    precision = ranked.hits / ranked.counted
    positives = np.bincount(ranked.rows, minlength=classes)
    if kind != "raw":
        precision = _envelope(precision, ranked.rows, classes)
    if kind == "voc07":
        total, positives_or_points = _at_eleven_points(precision, positives), 11
    else:
        total, positives_or_points = np.bincount(ranked.rows, precision, classes), np.maximum(positives, 1)
    return np.where(positives > 0, total / positives_or_points, np.nan)


def _envelope(precision: np.ndarray, rows: np.ndarray, classes: int) -> np.ndarray:
    """The largest precision from each positive on, within its class.

    A step from class to class lets one running maximum serve all of them; of whole numbers, so that no digit is lost.
    """
    levels, level = np.unique(precision, return_inverse=True)
    step = len(levels) * (classes - rows)
    return levels[np.maximum.accumulate((level + step)[::-1])[::-1] - step]


def _at_eleven_points(envelope: np.ndarray, positives: np.ndarray) -> np.ndarray:
    """Sum of the envelope where recall first reaches k / 10, k = 0 ... 10, by class."""
    needed = -(-np.arange(11) * positives[:, None] // 10)  # positives that make the recall, rounded up
    first = np.cumsum(positives) - positives
    places = first[:, None] + np.maximum(needed, 1) - 1
    return np.append(envelope, 0.0)[np.minimum(places, len(envelope))].sum(axis=1)
