"""Cross-entropy between a softmax over the classes and an image's labels: the classes compete."""

import torch
from jaxtyping import Float, Int8
from torch import Tensor


def softmax_cross_entropy(
    logits: Float[Tensor, "batch classes"], targets: Int8[Tensor, "batch classes"]
) -> Float[Tensor, ""]:
    """-Σ y/‖y‖₁ log softmax(logits), the mean over the images that have a label; 0 if none has (RDAR Eq. 8).

    Ignored classes take no part in their image's softmax. It is the softmax of CNN-RNN's Tables 1 to 3.
    """
    present = targets == 1
    labels = present.sum(1, keepdim=True)
    # An image without labels keeps all its classes: a softmax over none would give NaN, in the gradient too.
    ignored = (targets == -1) & (labels > 0)
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    log_probs = logits.masked_fill(ignored, -torch.inf).log_softmax(1)
    terms = torch.where(present, log_probs, 0).sum(1) / labels[:, 0].clamp(min=1)
    return -terms.sum() / (labels > 0).sum().clamp(min=1)
