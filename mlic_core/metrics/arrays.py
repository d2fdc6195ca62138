"""What the metrics share: checks of their input, ranks of the positives, means."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from jaxtyping import Int, Real

from mlic_core.errors import InputError


def checked(scores: npt.ArrayLike, targets: npt.ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Scores as float32 or float64 and targets, both (images, classes), or an InputError that names the fault."""
    scores, targets = np.asarray(scores), np.asarray(targets)
    if scores.dtype not in (np.float32, np.float64):
        scores = scores.astype(np.float64)
    if scores.ndim != 2 or scores.shape != targets.shape or scores.shape[1] == 0:
        raise InputError(
            f"scores and targets must have one shape (images, classes), not {scores.shape} and {targets.shape}."
        )
    if not np.isfinite(scores).all():
        image, column = np.argwhere(~np.isfinite(scores))[0]
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


class Positives(NamedTuple):
    """The positives of a matrix, by row and from the highest score of a row to the lowest.

    `rows`: the row of each; `hits` and `counted`: how many positives, and how many entries that are not ignored,
    have at least its score in its row. Equal scores form one threshold, so they share both numbers.
    """

    rows: Int[np.ndarray, " positives"]
    hits: Int[np.ndarray, " positives"]
    counted: Int[np.ndarray, " positives"]


def rank_positives(scores: Real[np.ndarray, "rows columns"], targets: Int[np.ndarray, "rows columns"]) -> Positives:
    """Where the positives stand in their rows. Only they are ranked: every metric by rank needs no more.

    A sort of values is several times faster than one of indices, and a binary search in the sorted rows takes
    log2(columns) steps for all positives at once.
    """
    rows, columns = np.nonzero(targets == 1)
    values = scores[rows, columns]
    order = np.lexsort((-values, rows))
    rows, values = rows[order], values[order]

    ascending = np.array(scores, order="C")
    ascending[targets < 0] = -np.inf  # an ignored entry lies below every score
    ascending.sort(axis=1)
    counted = scores.shape[1] - _first_not_below(ascending, rows, values)

    first = np.searchsorted(rows, rows)  # the place of a row's first positive
    last_of_run = np.ones(len(rows), dtype=bool)
    last_of_run[:-1] = (rows[1:] != rows[:-1]) | (values[1:] != values[:-1])
    ends = np.flatnonzero(last_of_run)
    hits = np.repeat(ends, np.diff(ends, prepend=-1)) - first + 1
    return Positives(rows, hits, counted)


def _first_not_below(ascending: np.ndarray, rows: np.ndarray, values: np.ndarray) -> np.ndarray:
    """For each value the number of entries of its row that are less: `searchsorted`, but over many rows at once."""
    length, starts = ascending.shape[1], rows * ascending.shape[1]
    found = np.zeros(len(rows), dtype=np.int64)
    for step in (1 << bit for bit in reversed(range(length.bit_length()))):
        ahead = np.minimum(found + step, length)
        below = ascending.ravel()[starts + ahead - 1] < values
        found = np.where(below, ahead, found)
    return found


def mean(values: np.ndarray) -> float:
    """Mean; NaN of nothing."""
    return float(np.mean(values)) if len(values) else float("nan")


def harmonic_mean(precision: float, recall: float) -> float:
    """F1; 0 where both are 0."""
    return 0.0 if precision + recall == 0 else 2 * precision * recall / (precision + recall)
