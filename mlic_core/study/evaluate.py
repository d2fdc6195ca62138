"""The numbers of a run from its scores, in percent."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int8

from mlic_core.losses import restrict_difficult
from mlic_core.metrics import average_precision, label_scores, mean_average_precision

THRESHOLD = 0.5
SIZES = {"small": (0.0, 0.2), "medium": (0.2, 0.4), "large": (0.4, 1.0)}  # side of an object, as a share of the image's


def evaluate(
    logits: Float[np.ndarray, "images classes"],
    targets: Int8[np.ndarray, "images classes"],
    labels: tuple[str, ...],
    *,
    difficult: str = "ignore",
    steps: Float[np.ndarray, "images steps classes"] | None = None,
    largest: Float[np.ndarray, "images classes"] | None = None,
) -> dict[str, Any]:
    """Metrics of a run, in percent; None where one is not defined.

    `difficult` says how -1 in `targets` counts: "ignore", "positive" or "negative".

    - `mAP`: raw, over the classes that have a positive, whose number is `classes`; `AP`: by class;
    - `C-P` to `O-F1`: of the labels with a probability above 0.5;
    - `mAP small objects`, medium, large: with `largest` (see `largest_objects`). Of a class's positives only the
      images count whose largest object of it has that size, against all negatives;
    - `mAP steps`: one for each of `steps`, such as MCAR's global and local stream.
    """
    targets = restrict_difficult(torch.from_numpy(targets), difficult).numpy()
    mean = mean_average_precision(logits, targets)
    metrics = {"mAP": _percent(mean.value), "classes": mean.classes}
    if steps is not None:
        metrics["mAP steps"] = [_mean_ap(steps[:, t], targets) for t in range(steps.shape[1])]
    if largest is not None:
        for size in SIZES:
            metrics[f"mAP {size} objects"] = _mean_ap(logits, only_of_size(targets, largest, size))
    scores = label_scores(probabilities(logits), targets, threshold=THRESHOLD)
    metrics |= {name: _percent(value) for name, value in scores.items()}
    ap = average_precision(logits, targets)
    return metrics | {"AP": {label: _percent(value) for label, value in zip(labels, ap.tolist(), strict=True)}}


def evaluate_scores(arrays: Mapping[str, np.ndarray], difficult: str) -> dict[str, Any]:
    """Metrics of a run from its arrays, such as a record's `scores()`: logits, targets, labels, and where there are
    any, steps and largest."""
    labels = tuple(arrays["labels"].tolist())
    optional = {name: arrays.get(name) for name in ("steps", "largest")}
    return evaluate(arrays["logits"], arrays["targets"], labels, difficult=difficult, **optional)


def only_of_size(
    targets: Int8[np.ndarray, "images classes"], largest: Float[np.ndarray, "images classes"], size: str
) -> Int8[np.ndarray, "images classes"]:
    """Targets in which positives of another size are ignored; the largest object of the class decides."""
    low, high = SIZES[size]
    inside = (largest >= low) & ((largest < high) | (high == 1.0))  # False for NaN: no box, no size
    return np.where((targets == 1) & ~inside, np.int8(-1), targets)


def probabilities(logits: Float[np.ndarray, "images classes"]) -> Float[np.ndarray, "images classes"]:
    """Sigmoid of the logits in float64, without overflow."""
    return 0.5 * (1 + np.tanh(0.5 * logits.astype(np.float64)))


def _mean_ap(scores: np.ndarray, targets: np.ndarray) -> float | None:
    return _percent(mean_average_precision(scores, targets).value)


def _percent(value: float) -> float | None:
    return None if math.isnan(value) else 100 * value
