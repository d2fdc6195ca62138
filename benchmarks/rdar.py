"""RDAR: ten views cut from the maps of one pass, beside one view and beside ten passes through the trunk."""

from collections.abc import Callable
from functools import cache, partial

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks import Benchmark
from mlic_core.models import build_model, build_trunk

CLASSES, CROP = 20, 0.875  # VOC's classes; views of 448 px in an image of 512 (§3.3)
# Wide enough that it asks for the same shape and finite numbers, no more: a pass of a patch sees nothing beyond its
# edge, and one view is not ten. A test has a trunk that sees one cell at a time, where ten views do equal ten passes.
TOLERANCE = 0.25  # in probability


@cache
def model_on(trunk: str) -> nn.Module:
    torch.manual_seed(0)
    options = {"sampled": 14, "pooled": 7, "hidden": 512, "crop": CROP}
    return build_model("rdar", CLASSES, build_trunk(trunk), **options).eval()


@torch.inference_mode()
def one_pass(model: nn.Module, images: Tensor, views: str) -> np.ndarray:
    """Probabilities from views that are cut from the maps."""
    model.views = views
    return model(images).logits.exp().numpy()


def ten_passes(model: nn.Module, images: Tensor) -> np.ndarray:
    """Probabilities from views that are cut from the images, averaged."""
    return np.mean([one_pass(model, patch, "whole") for patch in ten_patches(images)], axis=0)


def ten_patches(images: Tensor) -> list[Tensor]:
    """The centre, the four corners, and the mirror images of the five."""
    side = round(CROP * images.shape[2])
    rest = images.shape[2] - side
    corners = [(rest // 2, rest // 2), (0, 0), (0, rest), (rest, 0), (rest, rest)]
    five = [images[:, :, y : y + side, x : x + side] for y, x in corners]
    return five + [patch.flip(3) for patch in five]


def on(trunk: str, side: Callable[..., np.ndarray], *given) -> np.ndarray:
    """One side of a benchmark; the model is built when it is first asked for."""
    return side(model_on(trunk), *given)


def bench_views(scale: float = 1) -> list[Benchmark]:
    """One image, the trunk included: fewer there can't be, so a small scale makes it smaller."""
    rows = []
    for trunk, suffix, cell in (("resnet50", "", 32), ("vgg16", "/vgg16", 16)):
        size = 512 if scale >= 1 else 8 * cell
        image = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0))
        about = f"RDAR, ten views of an image at {size} px in one pass, {trunk}"
        ours, one = (partial(on, trunk, one_pass, image, views) for views in ("ten", "whole"))
        ten = partial(on, trunk, ten_passes, image)
        rows += [
            Benchmark(f"rdar/ten_view/one_view{suffix}", f"{about}: a single view", ours, one, TOLERANCE, 0.4),
            Benchmark(f"rdar/ten_view/ten_passes{suffix}", f"{about}: ten passes", ours, ten, TOLERANCE, 4),
        ]
    return rows
