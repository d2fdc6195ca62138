"""One linear layer on frozen features, under the losses that CNN-RNN is compared with (CNN-RNN Tables 1 to 3)."""

from typing import ClassVar, Literal

import torch
from jaxtyping import Float, Int8
from torch import Tensor, nn

from mlic_core.errors import check_choice
from mlic_core.losses import binary_cross_entropy, softmax_cross_entropy, warp
from mlic_core.models.frozen import FrozenTrunk
from mlic_core.models.pooling import Pooling
from mlic_core.models.prediction import Prediction

Loss = Literal["softmax", "warp", "bce"]
LOSSES = {"softmax": softmax_cross_entropy, "warp": warp, "bce": binary_cross_entropy}


class Linear(FrozenTrunk):
    """Frozen trunk, global pooling, linear classifier.

    loss: "softmax", "warp" or "bce". Under softmax the scores are log-probabilities, since raw ones are trained only up
    to a constant for each image, and AP ranks across images. Raises InputError for another loss or pooling.
    """

    recipe: ClassVar[dict] = {
        "optimizer": "rmsprop",
        "epochs": 20,
        "batch_size": 64,
        "head_lr": 0.001,
        "jitter": 0.0,
        "bf16": False,
    }

    def __init__(self, trunk: nn.Module, num_classes: int, *, loss: Loss = "bce", pooling: Pooling = "gwp"):
        super().__init__(trunk, pooling)
        check_choice("loss", loss, Loss)
        self.loss_name = loss
        self.linear = nn.Linear(trunk.out_channels, num_classes)

    @staticmethod
    def activation(options: dict) -> str:
        """How logits become probabilities: by "sigmoid", as exp(logits) ("softmax"), or not at all ("none")."""
        return {"softmax": "softmax", "warp": "none", "bce": "sigmoid"}[options["loss"]]

    def head(
        self, features: Float[Tensor, "batch channels"], targets: Int8[Tensor, "batch classes"] | None = None
    ) -> Prediction:
        """Score features; `targets` are not used."""
        with torch.autocast(features.device.type, enabled=False):
            scores = self.linear(features.float())
        return Prediction(scores.log_softmax(1) if self.loss_name == "softmax" else scores)

    def loss(self, prediction: Prediction, targets: Int8[Tensor, "batch classes"]) -> dict[str, Tensor]:
        """The loss by its name, over the entries that are not ignored."""
        return {self.loss_name: LOSSES[self.loss_name](prediction.logits, targets)}
