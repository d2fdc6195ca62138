"""What every method returns."""

from typing import NamedTuple

from jaxtyping import Float, Int
from torch import Tensor


class Prediction(NamedTuple):
    """Scores for a batch and, where a method has them, the steps and regions behind them.

    logits: (B, C) fp32; comparable across images, so that AP can rank by them.
    steps: (B, T, C) scores of each step or stream; MCAR's are global and local.
    regions: (B, R, 4) boxes x0, y0, x1, y1 in [0, 1]. region_labels: (B, R) class that proposed each region, or that it
    scores best.
    transforms: (B, R, 4) s_x, s_y, t_x, t_y of regions that a spatial transformer cut, neither sorted nor cut at the
    image's edge as `regions` are, so that flips and growth can be told.
    maps: (B, R, h, w) attention map of each region, in [0, 1].
    paths: (B, beams, T) label sequences, best first, with their path_log_probs (B, beams).
    """

    logits: Float[Tensor, "batch classes"]
    steps: Float[Tensor, "batch steps classes"] | None = None
    regions: Float[Tensor, "batch regions 4"] | None = None
    region_labels: Int[Tensor, "batch regions"] | None = None
    maps: Float[Tensor, "batch regions rows columns"] | None = None
    paths: Int[Tensor, "batch beams length"] | None = None
    path_log_probs: Float[Tensor, "batch beams"] | None = None
    transforms: Float[Tensor, "batch regions 4"] | None = None
