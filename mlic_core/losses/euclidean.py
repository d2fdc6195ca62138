"""Squared distance of a softmax from the labels' shares (RDAR Eq. 7, 8)."""

import torch
from jaxtyping import Float, Int8
from torch import Tensor


def euclidean(scores: Float[Tensor, "batch classes"], targets: Int8[Tensor, "batch classes"]) -> Float[Tensor, ""]:
    """Mean over images of Σ_c (p_c - p̂_c)², with p the softmax of the scores and p̂ = y / ‖y‖₁.

    Ignored entries are in neither distribution, and an image without a positive label, for which p̂ is not defined, is
    left out; 0 if that is every image. Scores may be log-probabilities: a softmax doesn't mind a constant.
    """
    present = (targets == 1).float()
    count = present.sum(1, keepdim=True)
    some = count > 0
    p = torch.where(targets == -1, torch.finfo(torch.float32).min, scores.float()).softmax(1)
    distance = (p - present / count.clamp(min=1)).square().sum(1, keepdim=True)
    return distance.where(some, 0).sum() / some.sum().clamp(min=1)
