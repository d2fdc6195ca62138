"""Binary cross-entropy: every class is a question of its own."""

import torch
from jaxtyping import Float, Int8
from torch import Tensor, nn


def binary_cross_entropy(
    logits: Float[Tensor, "batch classes"], targets: Int8[Tensor, "batch classes"]
) -> Float[Tensor, ""]:
    """Mean binary cross-entropy with logits over the entries that are not ignored; 0 if all are (MCAR Eq. 9).

    Eq. 9 prints a sum without its minus sign; the mean keeps the learning rate independent of batch and class count.
    """
    exact = logits.to(torch.promote_types(logits.dtype, torch.float32))
    counted = targets >= 0
    # As weights, not by indexing: the number of counted entries stays on the device.
    terms = nn.functional.binary_cross_entropy_with_logits(
        exact, (targets == 1).to(exact), counted.to(exact), reduction="sum"
    )
    return terms / counted.sum().clamp(min=1)
