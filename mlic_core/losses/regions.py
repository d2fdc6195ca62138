"""Three constraints on the regions of a spatial transformer (RDAR §4.2).

A region k has the scale s_k and the centre t_k, (x, y) each, in coordinates from -1 to 1. The paper prints each
constraint for one region; here they are summed over the regions and averaged over the batch.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor


def anchors(count: int) -> Float[Tensor, "count 2"]:
    """Centres (x, y) that pull `count` regions apart: evenly on the circle of radius √2/2 around the image's centre
    (RDAR Fig. 4), beginning at 45°.

    Four stand in the paper's printed order, (.5, .5), (.5, -.5), (-.5, .5), (-.5, -.5); others go round by angle.
    """
    if count == 4:
        return torch.tensor([[0.5, 0.5], [0.5, -0.5], [-0.5, 0.5], [-0.5, -0.5]])
    angles = math.pi / 4 + 2 * math.pi * torch.arange(count, dtype=torch.float64) / max(1, count)
    return (math.sqrt(0.5) * torch.stack([angles.cos(), angles.sin()], 1)).float()


def anchor_constraint(
    centres: Float[Tensor, "batch regions 2"], anchors: Float[Tensor, "anchored 2"]
) -> Float[Tensor, ""]:
    """Σ_k ½ ‖t_k - c_k‖² over k = 2 … K, mean over the batch (Eq. 9). The first region has no anchor."""
    return 0.5 * (centres[:, 1:] - anchors).square().sum((1, 2)).mean()


def scale_constraint(scales: Float[Tensor, "batch regions 2"], alpha: float = 0.5) -> Float[Tensor, ""]:
    """Σ_k Σ_xy max(|s_k| - α, 0)², mean over the batch (Eq. 10, 11): regions should not be larger than α."""
    return (scales.abs() - alpha).clamp(min=0).square().sum((1, 2)).mean()


def positive_constraint(scales: Float[Tensor, "batch regions 2"], beta: float = 0.1) -> Float[Tensor, ""]:
    """Σ_k Σ_xy max(0, β - s_k), mean over the batch (Eq. 12): a negative scale would mirror the region."""
    return (beta - scales).clamp(min=0).sum((1, 2)).mean()
