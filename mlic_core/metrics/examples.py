"""Metrics taken image by image and then averaged: MAP@n of CNN-RNN, and those of Lyu et al.'s Table II."""

import numpy as np
from jaxtyping import Float64, Int, Real

from mlic_core.errors import InputError
from mlic_core.metrics.arrays import checked, harmonic_mean, mean, rank_positives
from mlic_core.metrics.labels import chosen_labels


def map_at_n(
    scores: Real[np.ndarray, "images classes"], targets: Int[np.ndarray, "images classes"], n: int = 10
) -> float:
    """Mean average precision of the first `n` labels over images (CNN-RNN, Tables 1 to 3), in [0, 1].

    Of an image: the precision at each place i <= n that holds one of its labels, summed and divided by
    min(its labels, n). The mean is over the images that have a label (NaN without any). It is another quantity than
    the mean over classes. Ignored classes take no place; of equal scores the first class comes first.

    Raises InputError as `average_precision` does, and for an `n` below 1.
    """
    values = image_average_precision(scores, targets, n)
    return mean(values[~np.isnan(values)])


def image_average_precision(
    scores: Real[np.ndarray, "images classes"], targets: Int[np.ndarray, "images classes"], n: int = 10
) -> Float64[np.ndarray, " images"]:
    """What `map_at_n` is the mean of: each image's value, NaN for one without a label. Raises as `map_at_n` does."""
    if n < 1:
        raise InputError(f"n is {n}; MAP@n needs at least the first place.")
    scores, targets = checked(scores, targets)
    best = np.argsort(np.where(targets < 0, np.inf, -scores), axis=1, kind="stable")[:, :n]
    hit = np.take_along_axis(targets, best, axis=1) == 1
    precision = np.cumsum(hit, axis=1) / np.arange(1, best.shape[1] + 1)
    labels = np.count_nonzero(targets == 1, axis=1)
    return np.where(labels > 0, (precision * hit).sum(axis=1) / np.clip(labels, 1, n), np.nan)


def example_scores(
    scores: Real[np.ndarray, "images classes"], targets: Int[np.ndarray, "images classes"], *, top_k: int
) -> dict[str, float]:
    """Example-based scores of each image's `top_k` labels, in [0, 1] (Lyu et al., Table II; Zhang & Zhou's survey).

    - `P@k`: share of an image's chosen labels that are present;
    - `R@k`: share of its present labels that are chosen, over the images that have a label;
    - `F@k`: harmonic mean of these two means, as the paper's numbers show;
    - `hamming@k`: share of the classes on which chosen and present disagree;
    - `accuracy@k`: labels both chosen and present among those chosen or present.

    An ignored entry keeps its place in the top k and counts nowhere; an image where nothing counts is left out.

    Raises InputError as `label_scores` does.
    """
    found = {name: mean(each[~np.isnan(each)]) for name, each in example_values(scores, targets, top_k=top_k).items()}
    precision, recall = f"P@{top_k}", f"R@{top_k}"
    head = {name: found.pop(name) for name in (precision, recall)}
    return head | {f"F@{top_k}": harmonic_mean(*head.values())} | found


def example_values(
    scores: Real[np.ndarray, "images classes"], targets: Int[np.ndarray, "images classes"], *, top_k: int
) -> dict[str, Float64[np.ndarray, " images"]]:
    """What `example_scores` averages: a value for each image, NaN where it doesn't count. F@k has none of its own."""
    scores, targets = checked(scores, targets)
    counted, present = targets >= 0, targets == 1
    chosen = chosen_labels(scores, top_k, None) & counted

    hits = np.count_nonzero(chosen & present, axis=1)
    taken, there, entries = (np.count_nonzero(one, axis=1) for one in (chosen, present, counted))
    union = taken + there - hits
    return {
        f"P@{top_k}": np.where(entries > 0, hits / np.maximum(taken, 1), np.nan),
        f"R@{top_k}": _ratio(hits, there),
        f"hamming@{top_k}": _ratio(union - hits, entries),
        f"accuracy@{top_k}": _ratio(hits, union),
    }


def _ratio(part: np.ndarray, whole: np.ndarray) -> Float64[np.ndarray, " images"]:
    return np.where(whole > 0, part / np.maximum(whole, 1), np.nan)


def ranking_scores(
    scores: Real[np.ndarray, "images classes"], targets: Int[np.ndarray, "images classes"]
) -> dict[str, float]:
    """How well each image's classes are ranked (Lyu et al., Table II; Zhang & Zhou's survey): lower is better.

    - `one-error`, in [0, 1]: share of the images whose best class (the first among equal ones) is absent;
    - `coverage`, in labels from 0 to C - 1: steps down the ranking until the last of an image's labels is reached,
      a label standing behind the classes that equal it. scikit-learn counts the first step too and has 1 more;
    - `ranking loss`, in [0, 1]: share of an image's pairs of a present and an absent class in which the absent one
      scores as high or higher.

    One-error and coverage are means over the images that have a label, the loss over those that also lack one;
    scikit-learn lets the others count as 0. Ignored classes are taken out. NaN where no image counts. Raises
    InputError as `average_precision` does.
    """
    return {name: mean(each[~np.isnan(each)]) for name, each in ranking_values(scores, targets).items()}


def ranking_values(
    scores: Real[np.ndarray, "images classes"], targets: Int[np.ndarray, "images classes"]
) -> dict[str, Float64[np.ndarray, " images"]]:
    """What `ranking_scores` averages: a value for each image, NaN where it doesn't count."""
    scores, targets = checked(scores, targets)
    images = len(targets)
    present, absent = (np.count_nonzero(targets == value, axis=1) for value in (1, 0))
    some = present > 0

    ranked = rank_positives(scores, targets)
    steps = np.zeros(images, dtype=np.int64)
    np.maximum.at(steps, ranked.rows, ranked.counted)
    wrong = np.bincount(ranked.rows, ranked.counted - ranked.hits, images)
    best = np.argmax(np.where(targets < 0, -np.inf, scores), axis=1)
    return {
        "one-error": np.where(some, targets[np.arange(images), best] == 0, np.nan),
        "coverage": np.where(some, steps - 1.0, np.nan),
        "ranking loss": _ratio(wrong, present * absent),
    }
