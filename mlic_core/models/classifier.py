"""The baseline: one stream, one look (MCAR §III-A.1; step one of RDAR; N = 0 of MCAR)."""

from jaxtyping import Float, Int8
from torch import Tensor, nn

from mlic_core.losses import binary_cross_entropy
from mlic_core.models.pooling import ClassHead, Pooling
from mlic_core.models.prediction import Prediction


class Classifier(nn.Module):
    """Trunk, global pooling, linear classifier; trained by binary cross-entropy.

    pooling: "gap", "gmp" or "gwp"; gwp_weight: share of the average in "gwp" (λ of MCAR Eq. 15).
    """

    def __init__(self, trunk: nn.Module, num_classes: int, *, pooling: Pooling = "gap", gwp_weight: float = 0.5):
        super().__init__()
        self.trunk = trunk
        self.head = ClassHead(trunk.out_channels, num_classes, pooling, gwp_weight)

    def forward(
        self, images: Float[Tensor, "batch 3 height width"], targets: Int8[Tensor, "batch classes"] | None = None
    ) -> Prediction:
        """Score normalised images; `targets` are not used."""
        return Prediction(self.head(self.trunk(images)))

    def loss(self, prediction: Prediction, targets: Int8[Tensor, "batch classes"]) -> dict[str, Tensor]:
        """Binary cross-entropy over the entries that are not ignored."""
        return {"bce": binary_cross_entropy(prediction.logits, targets)}

    def param_groups(self, recipe) -> list[dict]:
        """The trunk at `recipe.lr`, the new classifier at `recipe.head_lr`."""
        return [
            {"params": list(self.trunk.parameters()), "lr": recipe.lr},
            {"params": list(self.head.parameters()), "lr": recipe.head_lr},
        ]
