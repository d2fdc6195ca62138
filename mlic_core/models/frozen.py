"""Methods that are a head on a trunk's features, computed once where the trunk is not trained."""

from typing import ClassVar

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

    pooling: how maps become one vector for each image, "gap", "gmp" or "gwp" (half of each); None keeps the maps.
    fine_tune: train the trunk as well, at `recipe.lr`; then nothing is computed once.
    `recipe` holds the method's own defaults for the recipe. Raises InputError for another pooling.
    """

    recipe: ClassVar[dict] = {}

    def __init__(self, trunk: nn.Module, pooling: Pooling | None = None, *, fine_tune: bool = False):
        super().__init__()
        if pooling is not None:
            check_choice("pooling", pooling, Pooling)
        self.frozen = not fine_tune
        self.trunk = trunk if fine_tune else trunk.requires_grad_(False).eval()
        self.pooling = pooling

    @property
    def feature_kind(self) -> str:
        """What `features` computes beyond the trunk; with the trunk's weights it names a cache of features."""
        return self.pooling or "maps"

    def features(self, images: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch channels *cells"]:
        """Maps of normalised images, or pooled maps, fp32."""
        maps = self.trunk(images).float()
        return maps if self.pooling is None else global_pool(maps, self.pooling)

    def forward(
        self, images: Float[Tensor, "batch 3 height width"], targets: Int8[Tensor, "batch classes"] | None = None
    ) -> Prediction:
        """The head on the features of normalised images."""
        return self.head(self.features(images), targets)

    def train(self, mode: bool = True):
        """Training mode, for the head alone where the trunk is frozen."""
        super().train(mode)
        if self.frozen:
            self.trunk.eval()
        return self

    def param_groups(self, recipe) -> list[dict]:
        """The head at `recipe.head_lr`, and a trunk that is trained at `recipe.lr`."""
        trunk = [] if self.frozen else list(self.trunk.parameters())
        known = set(map(id, self.trunk.parameters()))
        head = [one for one in self.parameters() if one.requires_grad and id(one) not in known]
        groups = [{"params": trunk, "lr": recipe.lr}, {"params": head, "lr": recipe.head_lr}]
        return [group for group in groups if group["params"]]
