"""Global pooling and the linear classifier on top of it (MCAR §IV-C.6 and Eq. 1, 4)."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mlic_core.errors import check_choice

Pooling = Literal["gap", "gmp", "gwp"]


def global_pool(
    maps: Float[Tensor, "batch channels rows columns"], kind: Pooling = "gap", weight: float = 0.5
) -> Float[Tensor, "batch channels"]:
    """Global average ("gap", MCAR Eq. 13), maximum ("gmp", Eq. 14) or weighted pooling ("gwp", Eq. 15).

    weight: share of the average in "gwp", the λ of Eq. 15, in [0, 1].
    """
    if kind == "gap":
        return maps.mean((2, 3))
    if kind == "gmp":
        return maps.amax((2, 3))
    return weight * maps.mean((2, 3)) + (1 - weight) * maps.amax((2, 3))


class ClassHead(nn.Module):
    """One linear classifier with two uses: pooled features give the image's scores, single map cells the class maps.

    Always computed in the weights' fp32: bf16 scores would tie, and ties change AP and the extent of regions.
    """

    def __init__(self, channels: int, num_classes: int, pooling: Pooling = "gap", gwp_weight: float = 0.5):
        super().__init__()
        check_choice("pooling", pooling, Pooling)
        self.linear = nn.Linear(channels, num_classes)
        self.pooling, self.gwp_weight = pooling, gwp_weight

    def forward(self, maps: Float[Tensor, "batch channels rows columns"]) -> Float[Tensor, "batch classes"]:
        """Logits of the image (MCAR Eq. 1)."""
        with torch.autocast(maps.device.type, enabled=False):
            return self.linear(global_pool(maps.to(self.linear.weight), self.pooling, self.gwp_weight))

    def class_maps(
        self, maps: Float[Tensor, "batch channels rows columns"]
    ) -> Float[Tensor, "batch classes rows columns"]:
        """Class activation maps F = WᵀA + b, before the sigmoid (MCAR Eq. 4)."""
        with torch.autocast(maps.device.type, enabled=False):
            return self.linear(maps.to(self.linear.weight).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
