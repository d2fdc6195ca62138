"""Scores of multi-label predictions: average precision, and precision, recall and F1 by class and overall.

Arrays only. Rows are images, columns are classes; `targets` are 1 (present), 0 (absent) or -1 (ignored, such
as a class of which an image shows only difficult objects). An ignored entry counts nowhere, as in PASCAL VOC.
All values lie in [0, 1].
"""

from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from jaxtyping import Float64, Int, Real

from mlic_core.errors import InputError, check_choice

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
    scores, targets = _checked(scores, targets)

    # Classes become rows, so that one sort along contiguous memory ranks every class.
    scores, targets = np.ascontiguousarray(scores.T), np.ascontiguousarray(targets.T)
    order = np.argsort(-scores, axis=1)  # need not be stable: only the end of a run of equal scores is read
    scores, targets = np.take_along_axis(scores, order, axis=1), np.take_along_axis(targets, order, axis=1)

    hits = np.cumsum(targets == 1, axis=1, dtype=np.int32)
    counted = np.cumsum(targets >= 0, axis=1, dtype=np.int32)
    threshold = np.ones(scores.shape, dtype=bool)
    threshold[:, :-1] = scores[:, 1:] != scores[:, :-1]
    precision = np.where(threshold, hits / np.maximum(counted, 1), 0.0)
    positives = np.count_nonzero(targets == 1, axis=1)

    if kind == "voc07":
        at_recall = [np.where(10 * hits >= k * positives[:, None], precision, 0.0) for k in range(11)]
        area = np.mean([reached.max(axis=1, initial=0.0) for reached in at_recall], axis=0)
        return np.where(positives > 0, area, np.nan)

    if kind == "voc10":
        precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    # Positives gained at each threshold: zero inside a run of equal scores, all of the run's at its end.
    gained = np.diff(np.maximum.accumulate(np.where(threshold, hits, 0), axis=1), axis=1, prepend=0)
    area = (gained * precision).sum(axis=1)
    return np.where(positives > 0, area / np.maximum(positives, 1), np.nan)


def mean_average_precision(
    scores: Real[np.ndarray, "images classes"],
    targets: Int[np.ndarray, "images classes"],
    kind: APKind = "raw",
) -> MeanAveragePrecision:
    """Mean of `average_precision` over the classes that have a positive image, and how many those are."""
    values = average_precision(scores, targets, kind)
    values = values[~np.isnan(values)]
    return MeanAveragePrecision(_mean(values), len(values))


def label_scores(
    probabilities: Real[np.ndarray, "images classes"],
    targets: Int[np.ndarray, "images classes"],
    *,
    top_k: int | None = None,
    threshold: float | None = None,
) -> dict[str, float]:
    """Precision, recall and F1 of the predicted labels (RDAR Eq. 15, MCAR Eq. 10), in [0, 1].

    An image's labels are its `top_k` highest classes (the first among equal ones), the classes with a
    probability above `threshold`, or, with both given, the classes that meet both. An ignored entry keeps its
    place among the top k but counts as neither right nor wrong.

    - `C-P`, `C-R`: means over classes. A class that is never predicted has precision 0; a class without a
      positive has no recall and is left out of `C-R` and of `C-F1 mean`.
    - `C-F1`: harmonic mean of C-P and C-R; `C-F1 mean`: mean of the classes' own F1. Papers print either.
    - `O-P`, `O-R`, `O-F1`: over all image-class pairs together.

    Recall and F1 are NaN when there is no positive at all. Raises InputError as `average_precision` does, for
    a `top_k` outside 1 to the number of classes, and when neither rule is given.
    """
    probabilities, targets = _checked(probabilities, targets)
    chosen = _chosen(probabilities, top_k, threshold) & (targets >= 0)
    right = np.count_nonzero(chosen & (targets == 1), axis=0)
    predicted = np.count_nonzero(chosen, axis=0)
    positives = np.count_nonzero(targets == 1, axis=0)

    some = positives > 0
    class_precision = float(np.mean(right / np.maximum(predicted, 1)))
    class_recall = _mean(right[some] / positives[some])
    overall_precision = float(right.sum() / max(predicted.sum(), 1))
    overall_recall = float(right.sum() / positives.sum()) if some.any() else float("nan")
    return {
        "C-P": class_precision,
        "C-R": class_recall,
        "C-F1": _harmonic_mean(class_precision, class_recall),
        "C-F1 mean": _mean(2 * right[some] / (predicted + positives)[some]),
        "O-P": overall_precision,
        "O-R": overall_recall,
        "O-F1": _harmonic_mean(overall_precision, overall_recall),
    }


def _chosen(probabilities: np.ndarray, top_k: int | None, threshold: float | None) -> np.ndarray:
    """The labels given to each image, (images, classes) bool."""
    if top_k is None and threshold is None:
        raise InputError("label_scores needs a rule: give top_k, threshold or both.")
    classes = probabilities.shape[1]
    chosen = np.ones(probabilities.shape, dtype=bool)
    if top_k is not None:
        if not 1 <= top_k <= classes:
            raise InputError(f"top_k is {top_k}; with {classes} classes it must lie between 1 and {classes}.")
        best = np.argsort(-probabilities, axis=1, kind="stable")[:, :top_k]
        chosen[:] = False
        np.put_along_axis(chosen, best, True, axis=1)
    if threshold is not None:
        chosen &= probabilities > threshold
    return chosen


def _checked(scores: npt.ArrayLike, targets: npt.ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Scores as float64 and targets, both (images, classes), or an InputError that names the fault."""
    scores, targets = np.asarray(scores, dtype=np.float64), np.asarray(targets)
    if scores.ndim != 2 or scores.shape != targets.shape or scores.shape[1] == 0:
        raise InputError(
            f"scores and targets must have one shape (images, classes), not {scores.shape} and {targets.shape}."
        )
    faulty = ~np.isfinite(scores)
    if faulty.any():
        image, column = np.argwhere(faulty)[0]
        raise InputError(
            f"the score of image {image}, class {column} is {scores[image, column]}; scores must be finite."
        )
    faulty = (targets != 1) & (targets != 0) & (targets != -1)
    if faulty.any():
        image, column = np.argwhere(faulty)[0]
        raise InputError(
            f"the target of image {image}, class {column} is {targets[image, column]}; "
            "targets are 1 (present), 0 (absent) or -1 (ignored)."
        )
    return scores, targets


def _mean(values: np.ndarray) -> float:
    return float(np.mean(values)) if len(values) else float("nan")


def _harmonic_mean(precision: float, recall: float) -> float:
    return 0.0 if precision + recall == 0 else 2 * precision * recall / (precision + recall)
