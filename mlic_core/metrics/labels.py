"""Precision, recall and F1 of predicted labels, by class and overall."""

import numpy as np
from jaxtyping import Bool, Int, Real

from mlic_core.errors import InputError
from mlic_core.metrics.arrays import checked, harmonic_mean, mean


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
    probabilities, targets = checked(probabilities, targets)
    chosen = chosen_labels(probabilities, top_k, threshold) & (targets >= 0)
    right = np.count_nonzero(chosen & (targets == 1), axis=0)
    predicted = np.count_nonzero(chosen, axis=0)
    positives = np.count_nonzero(targets == 1, axis=0)

    some = positives > 0
    class_precision = float(np.mean(right / np.maximum(predicted, 1)))
    class_recall = mean(right[some] / positives[some])
    overall_precision = float(right.sum() / max(predicted.sum(), 1))
    overall_recall = float(right.sum() / positives.sum()) if some.any() else float("nan")
    return {
        "C-P": class_precision,
        "C-R": class_recall,
        "C-F1": harmonic_mean(class_precision, class_recall),
        "C-F1 mean": mean(2 * right[some] / (predicted + positives)[some]),
        "O-P": overall_precision,
        "O-R": overall_recall,
        "O-F1": harmonic_mean(overall_precision, overall_recall),
    }


def chosen_labels(
    probabilities: Real[np.ndarray, "images classes"], top_k: int | None, threshold: float | None
) -> Bool[np.ndarray, "images classes"]:
    """The labels given to each image. Raises InputError as `label_scores` does."""
    if top_k is None and threshold is None:
        raise InputError("label_scores needs a rule: give top_k, threshold or both.")
    if threshold is None:
        return _top(probabilities, top_k)
    above = probabilities > np.float64(threshold)  # a Python float would be rounded to the array's precision
    return above if top_k is None else above & _top(probabilities, top_k)


def _top(scores: np.ndarray, k: int) -> np.ndarray:
    """Whether an entry is among the k highest of its row, the first ones among equal entries."""
    classes = scores.shape[1]
    if not 1 <= k <= classes:
        raise InputError(f"top_k is {k}; with {classes} classes it must lie between 1 and {classes}.")
    least = np.partition(scores, classes - k, axis=1)[:, [classes - k]]
    top = scores >= least
    crowded = np.flatnonzero(np.count_nonzero(top, axis=1) > k)  # rows with more entries equal to the k-th than places
    above, equal = scores[crowded] > least[crowded], scores[crowded] == least[crowded]
    places_left = k - np.count_nonzero(above, axis=1, keepdims=True)
    top[crowded] = above | (equal & (np.cumsum(equal, axis=1) <= places_left))
    return top
