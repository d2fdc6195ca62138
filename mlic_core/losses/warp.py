"""WARP, the weighted approximate-rank pairwise loss (Weston et al., IJCAI 2011; Gong et al., 2013)."""

import torch
from jaxtyping import Float, Int8
from torch import Tensor, nn


def warp(logits: Float[Tensor, "batch classes"], targets: Int8[Tensor, "batch classes"]) -> Float[Tensor, ""]:
    """Σ over an image's labels p of L(r_p) times the mean hinge of p's violators, the mean over images with a label.

    The violators of p are the absent classes n with 1 - s_p + s_n > 0, r_p is their number, the hinge is that
    margin, and L(r) = Σ_{i<=r} 1/i. 0 for a label without violators, and where no image has a label.

    The papers draw absent classes until one violates and take r_p from the number of draws. This is what that draw
    estimates: the rank is counted, and the average over violators stands for the one drawn. No random numbers, and
    no pairs of classes either: r_p and the sum of the violators' scores are read off the sorted absent scores.
    """
    scores = logits.to(torch.promote_types(logits.dtype, torch.float32))
    absent, present = targets == 0, targets == 1
    ordered, order = scores.masked_fill(~absent, -torch.inf).sort(1, descending=True)
    # Scores outside the absent ones lie at the end, where no rank reaches, but an infinite sum would spoil gradients.
    sums = nn.functional.pad(ordered.masked_fill(~absent.gather(1, order), 0).cumsum(1), (1, 0))
    edge = (1 - scores.detach()).contiguous()
    rank = torch.searchsorted(-ordered.detach(), edge)  # how many absent scores exceed s_p - 1
    hinge = 1 - scores + sums.gather(1, rank) / rank.clamp(min=1)
    classes = torch.arange(1, scores.shape[1] + 1, device=scores.device, dtype=scores.dtype)
    weight = nn.functional.pad((1 / classes).cumsum(0), (1, 0))[rank]  # L, with L(0) = 0
    return torch.where(present, weight * hinge, 0).sum() / present.any(1).sum().clamp(min=1)
