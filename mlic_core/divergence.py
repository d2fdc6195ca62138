"""What ends a training that went wrong, with the images that it went wrong on."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

REMEDY = "lower recipe.lr or set recipe.clip"


def check_losses(
    losses: Sequence[Float[Tensor, ""]], batches: Sequence[Int64[Tensor, " _"]], ids: Sequence[str], epoch: int
) -> None:
    """Raise FloatingPointError with the images of the first step whose loss is not finite.

    losses: of some steps. batches: the indices of their images. ids: of all images. epoch: counted from 1, to be named.
    """
    values = torch.stack(list(losses)).tolist()  # at once, since a look at a GPU's number waits for it
    for value, batch in zip(values, batches, strict=True):
        if not math.isfinite(value):
            names = ", ".join(ids[index] for index in batch.tolist())
            raise FloatingPointError(f"the loss is {value} in epoch {epoch} over the images {names}; {REMEDY}")


def check_weights(model: nn.Module, epoch: int) -> None:
    """Raise FloatingPointError if a weight is not finite: a gradient may be infinite where the loss is not."""
    for name, value in model.named_parameters():
        if not value.isfinite().all():
            raise FloatingPointError(f"{name} is not finite after epoch {epoch}; {REMEDY}")
