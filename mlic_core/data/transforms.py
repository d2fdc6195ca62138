"""Random changes to training images, for a whole batch at once on its device."""

import torch
from jaxtyping import Float
from torch import Tensor

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as Pillow and torchvision weigh grey


def random_flip(
    images: Float[Tensor, "batch 3 height width"], generator: torch.Generator
) -> Float[Tensor, "batch 3 height width"]:
    """Mirror each image left to right with probability one half."""
    chosen = torch.rand(len(images), generator=generator) < 0.5
    return torch.where(chosen.to(images.device)[:, None, None, None], images.flip(3), images)


def color_jitter(
    images: Float[Tensor, "batch 3 height width"], strength: float, generator: torch.Generator
) -> Float[Tensor, "batch 3 height width"]:
    """Scale each image's brightness, contrast and saturation by a factor in 1 ± `strength`; values stay in [0, 1]."""
    factors = 1 + strength * (2 * torch.rand(3, len(images), 1, 1, 1, generator=generator) - 1)
    brightness, contrast, saturation = factors.to(images.device)
    images = (images * brightness).clamp(0, 1)
    luma = torch.tensor(LUMA, device=images.device).view(3, 1, 1)
    middle = (images * luma).sum(1, keepdim=True).mean((2, 3), keepdim=True)
    images = (middle + contrast * (images - middle)).clamp(0, 1)
    grey = (images * luma).sum(1, keepdim=True)
    return (grey + saturation * (images - grey)).clamp(0, 1)
