"""Methods whose trunk is not trained: it computes features, and the method is a head on them."""

from typing import ClassVar

import torch
from jaxtyping import Float, Int8
from torch import Tensor, nn

from mlic_core.errors import check_choice
from mlic_core.models.pooling import Pooling, global_pool
from mlic_core.models.prediction import Prediction


class FrozenTrunk(nn.Module):
    """A trunk that stays as it is, and a head that a subclass gives: `head(features, targets=None) -> Prediction`.

    Since the features of an image never change, the loop may compute them once and train the head alone; `forward` is
    the head on `features(images)`, nothing else. The trunk's parameters get no gradient and its BatchNorm layers keep
    their statistics, `train()` or not.

    pooling: how maps become one vector for each image, "gap", "gmp" or "gwp" (half of each).
    `recipe` holds the method's own defaults for the recipe. Raises InputError for another pooling.
    """

    frozen: ClassVar[bool] = True
    recipe: ClassVar[dict] = {}

    def __init__(self, trunk: nn.Module, pooling: Pooling):
        super().__init__()
        check_choice("pooling", pooling, Pooling)
        self.trunk = trunk.requires_grad_(False).eval()
        self.pooling = pooling

    @property
    def feature_kind(self) -> str:
        """What `features` computes beyond the trunk; with the trunk's weights it names a cache of features."""
        return self.pooling

    @torch.no_grad()
    def features(self, images: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch channels"]:
        """Pooled maps of normalised images, fp32."""
        return global_pool(self.trunk(images).float(), self.pooling)

    def forward(
        self, images: Float[Tensor, "batch 3 height width"], targets: Int8[Tensor, "batch classes"] | None = None
    ) -> Prediction:
        """The head on the features of normalised images."""
        return self.head(self.features(images), targets)

    def train(self, mode: bool = True):
        """Training mode for the head alone."""
        super().train(mode)
        self.trunk.eval()
        return self

    def param_groups(self, recipe) -> list[dict]:
        """The head, at `recipe.head_lr`."""
        return [{"params": [one for one in self.parameters() if one.requires_grad], "lr": recipe.head_lr}]
