"""Losses over targets in {1 present, 0 absent, -1 ignored}, one file each: a run's code holds only those it uses."""

from mlic_core.losses.binary import binary_cross_entropy
from mlic_core.losses.difficult import restrict_difficult
from mlic_core.losses.euclidean import euclidean
from mlic_core.losses.margin import horizontal_margin, own_steps, vertical_margin
from mlic_core.losses.regions import anchor_constraint, anchors, positive_constraint, scale_constraint
from mlic_core.losses.softmax import softmax_cross_entropy
from mlic_core.losses.warp import warp

__all__ = [
    "anchor_constraint",
    "anchors",
    "binary_cross_entropy",
    "euclidean",
    "horizontal_margin",
    "own_steps",
    "positive_constraint",
    "restrict_difficult",
    "scale_constraint",
    "softmax_cross_entropy",
    "vertical_margin",
    "warp",
]
