"""The numbers of a run from its scores, in percent."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Int8

from mlic_core.losses import restrict_difficult
from mlic_core.metrics import average_precision, label_scores, map_at_n, mean_average_precision

THRESHOLD, TOP = 0.5, 3
SIZES = {"small": (0.0, 0.2), "medium": (0.2, 0.4), "large": (0.4, 1.0)}  # side of an object, as a share of the image's


def evaluate(
    logits: Float[np.ndarray, "images classes"],
    targets: Int8[np.ndarray, "images classes"],
    labels: tuple[str, ...],
    *,
    difficult: str = "ignore",
    steps: Float[np.ndarray, "images steps classes"] | None = None,
    largest: Float[np.ndarray, "images classes"] | None = None,
    paths: Int[np.ndarray, "images beams length"] | None = None,
    activation: str = "sigmoid",
) -> dict[str, Any]:
    """Metrics of a run, in percent; None where one is not defined.

    `difficult` says how -1 in `targets` counts: "ignore", "positive" or "negative". `activation` is how the logits
    become probabilities: by a "sigmoid", by exp as the log of a "softmax", or not at all ("none").

    - `mAP`: raw, over the classes that have a positive, whose number is `classes`; `AP`: by class;
    - `C-P` to `O-F1`: of the labels that `rule` gives an image. It is "p > 0.5" for a sigmoid. The probabilities of
      a softmax add up to 1 over all labels, so that at most one could pass: "top-3" there;
    - `C-P@3` to `O-F1@3`: of the three best labels, whatever the method; `MAP@10`: CNN-RNN's, over images;
    - `C-P path@3` to `O-F1 path@3`: of the labels on the best of `paths`, the three best where it has more;
      `C-P path` to `O-F1 path`: of all of them;
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
    best = label_scores(logits, targets, top_k=min(TOP, logits.shape[1]))
    sure = label_scores(probabilities(logits), targets, threshold=THRESHOLD) if activation == "sigmoid" else best
    metrics |= {"rule": f"p > {THRESHOLD}" if activation == "sigmoid" else f"top-{TOP}"}
    metrics |= {name: _percent(value) for name, value in sure.items()}
    metrics |= {f"{name}@{TOP}": _percent(value) for name, value in best.items()}
    if paths is not None:
        on_path = np.where(path_labels(paths[:, 0], logits.shape[1]), 1 + logits - logits.min(), 0)
        for name, most in ((f"path@{TOP}", min(TOP, logits.shape[1])), ("path", None)):
            given = label_scores(on_path, targets, top_k=most, threshold=0.0)
            metrics |= {f"{key} {name}": _percent(value) for key, value in given.items()}
    metrics["MAP@10"] = _percent(map_at_n(logits, targets, 10))
    ap = average_precision(logits, targets)
    return metrics | {"AP": {label: _percent(value) for label, value in zip(labels, ap.tolist(), strict=True)}}


def evaluate_scores(arrays: Mapping[str, np.ndarray], difficult: str, activation: str = "sigmoid") -> dict[str, Any]:
    """Metrics of a run from its arrays, such as a record's `scores()`: logits, targets, labels, and where there are
    any, steps, largest and paths."""
    labels = tuple(arrays["labels"].tolist())
    optional = {name: arrays.get(name) for name in ("steps", "largest", "paths")}
    return evaluate(
        arrays["logits"], arrays["targets"], labels, difficult=difficult, activation=activation, **optional
    )


def path_labels(
    paths: Int[np.ndarray, "images length"], num_classes: int
) -> Bool[np.ndarray, "images {num_classes}"]:
    """Which labels are on each path; -1 stands for none."""
    given = np.zeros((len(paths), num_classes + 1), dtype=bool)
    np.put_along_axis(given, paths.astype(np.int64) % (num_classes + 1), True, axis=1)  # -1 goes to the last column
    return given[:, :num_classes]


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
