"""What the steps of a recurrent model add to one another, and whether Lyu et al.'s margins hold between them."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float64, Int8

from mlic_core.metrics import mean_average_precision


class StepScores(NamedTuple):
    """mAP (%) of each step's own scores, and of the greatest score so far."""

    alone: Float64[np.ndarray, " steps"]
    maximum: Float64[np.ndarray, " steps"]


def step_scores(
    steps: Float[np.ndarray, "images steps classes"], targets: Int8[np.ndarray, "images classes"]
) -> StepScores:
    """How good the steps are one by one, and how good their running maximum is (Eq. 12 after the last step)."""
    best = np.maximum.accumulate(steps, axis=1)
    values = [
        [100 * mean_average_precision(one[:, t], targets).value for t in range(steps.shape[1])] for one in (steps, best)
    ]
    return StepScores(*map(np.array, values))


def horizontal_gap(
    p: Float[np.ndarray, "images classes"], targets: Int8[np.ndarray, "images classes"]
) -> Float[np.ndarray, " images"]:
    """An image's least positive less its greatest negative probability (Eq. 13), in [-1, 1]; NaN without either."""
    return _gap(p, targets == 1, targets == 0)


def vertical_gap(
    p: Float[np.ndarray, "images steps classes"], own: Bool[np.ndarray, "images steps classes"]
) -> Float[np.ndarray, "images classes"]:
    """A class's probability at its own step less its greatest at another (Eq. 15), in [-1, 1].

    own: as `losses.own_steps` gives it. NaN for a class without a step of its own, or without another step.
    """
    p, own = p.swapaxes(1, 2), own.swapaxes(1, 2)
    return _gap(p, own, ~own)


class Held(NamedTuple):
    """How far the margins hold: shares in [0, 1] of images and of labels, and the mean gaps behind them."""

    images: float
    labels: float
    horizontal: float
    vertical: float


def held_margins(
    steps: Float[np.ndarray, "images steps classes"],
    targets: Int8[np.ndarray, "images classes"],
    own: Bool[np.ndarray, "images steps classes"],
    *,
    epsilon: float,
    epsilon_v: float,
) -> Held:
    """Share of the images whose horizontal gap is at least ε, and of the labels whose vertical gap is at least ε_v.

    steps: logits. Only images and labels that have a gap count; NaN where none has.
    """
    p = 1 / (1 + np.exp(-steps.astype(np.float64)))
    across, along = horizontal_gap(p.max(1), targets), vertical_gap(p, own)
    across, along = across[~np.isnan(across)], along[~np.isnan(along)]
    values = (across >= epsilon, along >= epsilon_v, across, along)
    return Held(*(float(one.mean()) if len(one) else float("nan") for one in values))


def _gap(p: np.ndarray, positive: np.ndarray, negative: np.ndarray) -> np.ndarray:
    least = np.where(positive, p, np.inf).min(-1)
    greatest = np.where(negative, p, -np.inf).max(-1)
    return np.where(positive.any(-1) & negative.any(-1), least - greatest, np.nan)
