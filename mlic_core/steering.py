"""Does attention move with the words of a path, and does it rest on what the head has learnt?

Arrays only. `tokens` (images, steps) is what the steps of each image write: a class from 0 to `classes` - 1, else no
label. Intervals are 95 % over images, those of `localizing.mean_over`; NaN without a step to measure.
"""

import math

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from mlic_core.localizing import energy_inside, mean_over, pairs_of
from mlic_core.metrics import Interval


def rank_agreement(
    first: Float[np.ndarray, "maps rows columns"], second: Float[np.ndarray, "maps rows columns"]
) -> Float[np.ndarray, " maps"]:
    """Spearman's ρ in [-1, 1] between the cells of each two maps; NaN where one of them is everywhere alike."""
    cells = math.prod(first.shape[1:])
    flat = (pd.DataFrame(one.reshape(len(one), cells)) for one in (first, second))
    a, b = (ranks - ranks.mean(1, keepdims=True) for ranks in (one.rank(axis=1).to_numpy() for one in flat))
    spread = np.sqrt((a**2).sum(1) * (b**2).sum(1))
    return np.divide((a * b).sum(1), spread, out=np.full(len(a), np.nan), where=spread > 0)


def energy_by_step(
    maps: Float[np.ndarray, "images steps rows columns"],
    tokens: Int[np.ndarray, "images steps"],
    classes: int,
    image: Int[np.ndarray, " objects"],
    label: Int[np.ndarray, " objects"],
    boxes: Float[np.ndarray, "objects 4"],
) -> dict[str, Interval]:
    """How much of the maps lies inside the boxes of a label that a step writes and the image has, in [0, 1].

    "own step": of that step's map. "other steps": of the maps of the path's other labels, their mean. "difference":
    own less other, over the labels that have both; the claim of CNN-RNN's Fig. 10 is that it is above 0.
    """
    pairs = pairs_of(image, label)
    inside = np.stack([energy_inside(maps[pairs.image, t], pairs.of, boxes) for t in range(maps.shape[1])], 1)
    written = tokens[pairs.image]
    own = written == pairs.label[:, None]
    other = (written >= 0) & (written < classes) & ~own & own.any(1, keepdims=True)
    values = {"own step": _mean(inside, own), "other steps": _mean(inside, other)}
    values["difference"] = values["own step"] - values["other steps"]
    return {name: mean_over(each, pairs.image, len(maps)) for name, each in values.items()}


def _mean(values: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The mean of each row's chosen values; NaN where none is chosen."""
    count = mask.sum(1)
    return np.divide((values * mask).sum(1), count, out=np.full(len(values), np.nan), where=count > 0)


def agreement_of_steps(
    maps: Float[np.ndarray, "images steps rows columns"], tokens: Int[np.ndarray, "images steps"], classes: int
) -> Interval:
    """Mean ρ between the maps of two labels that an image's path writes one after the other."""
    label = (tokens >= 0) & (tokens < classes)
    image, step = np.nonzero(label[:, :-1] & label[:, 1:])
    return mean_over(rank_agreement(maps[image, step], maps[image, step + 1]), image, len(maps))


def agreement(
    maps: Float[np.ndarray, "images steps rows columns"],
    others: Float[np.ndarray, "images steps rows columns"],
    tokens: Int[np.ndarray, "images steps"],
    classes: int,
) -> Interval:
    """Mean ρ between two maps of each step that writes a label, such as before and after a head is shuffled."""
    image, step = np.nonzero((tokens >= 0) & (tokens < classes))
    return mean_over(rank_agreement(maps[image, step], others[image, step]), image, len(maps))
