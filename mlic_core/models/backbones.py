"""Trunks: convolutional networks without their classifier, from images to feature maps.

Every trunk maps normalised images (B, 3, H, W) to maps (B, out_channels, ceil(H / stride), ceil(W / stride)) and says
how to normalise: `(image in [0, 1] - mean) / std`.
"""

from collections.abc import Callable
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors.torch import load_file
from torch import Tensor, nn

from mlic_core.errors import InputError, did_you_mean
from mlic_core.paths import repository_root

MODEL_PREFIX = "trunk."  # of a trunk's entries in the state of a method
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Trunk(nn.Module):
    """Feature extractor with the facts that a method needs to build on it.

    Attributes: `out_channels` (D), `stride` (input pixels per map cell), `mean` and `std` (RGB, for images in [0, 1]).
    """

    def __init__(self, features: nn.Module, out_channels: int, stride: int, mean=IMAGENET_MEAN, std=IMAGENET_STD):
        super().__init__()
        self.features = features
        self.out_channels, self.stride = out_channels, stride
        self.mean, self.std = tuple(mean), tuple(std)

    def forward(self, images: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch channels rows columns"]:
        return self.features(images)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut (He et al., CVPR 2016, Fig. 2)."""

    def __init__(self, inputs: int, outputs: int, stride: int, norm: Callable[[int], nn.Module]):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = norm(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = norm(outputs)
        same = stride == 1 and inputs == outputs
        self.shortcut = (
            nn.Identity() if same else nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), norm(outputs))
        )

    def forward(self, x: Float[Tensor, "batch inputs h w"]) -> Float[Tensor, "batch outputs h2 w2"]:
        y = torch.relu(self.norm1(self.conv1(x)))
        return torch.relu(self.norm2(self.conv2(y)) + self.shortcut(x))


def group_norm(channels: int) -> nn.GroupNorm:
    """GroupNorm with eight channels a group (Wu & He, ECCV 2018)."""
    return nn.GroupNorm(channels // 8, channels)


def pictonet(stem: int, widths: tuple[int, ...], norm: Callable[[int], nn.Module] = nn.BatchNorm2d) -> Trunk:
    """A small residual network of stride 16: a 5x5 stem, then one block a width, the first three of stride 2.

    The embedded data's stand-in for VGG and ResNet. With four blocks a map cell sees 153 input pixels, with five 217:
    more than the 112 of the network's input, which class maps need in order to judge whole objects.
    """
    blocks: list[nn.Module] = [nn.Conv2d(3, stem, 5, 2, 2, bias=False), norm(stem), nn.ReLU()]
    for index, (inputs, outputs) in enumerate(zip((stem, *widths), widths, strict=False)):
        blocks.append(ResidualBlock(inputs, outputs, 2 if index < 3 else 1, norm))
    return Trunk(nn.Sequential(*blocks), widths[-1], 16, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


def _vgg16() -> Trunk:
    from torchvision.models import vgg16

    return Trunk(vgg16(weights=None).features[:30], 512, 16)  # up to the ReLU of conv5_3, without the last pooling


def _resnet(depth: int) -> Callable[[], Trunk]:
    def build() -> Trunk:
        from torchvision.models import resnet

        network = getattr(resnet, f"resnet{depth}")(weights=None)
        names = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4")
        return Trunk(nn.Sequential(*(getattr(network, name) for name in names)), 2048, 32)

    return build


def _mobilenet_v2() -> Trunk:
    from torchvision.models import mobilenet_v2

    return Trunk(mobilenet_v2(weights=None).features, 1280, 32)


TRUNKS: dict[str, Callable[[], Trunk]] = {
    "pictonet-s": lambda: pictonet(16, (24, 48, 96, 96)),
    "pictonet-m": lambda: pictonet(24, (32, 64, 128, 160, 160)),
    "pictonet-l": lambda: pictonet(32, (48, 96, 192, 192, 192)),
    "vgg16": _vgg16,
    "resnet50": _resnet(50),
    "resnet101": _resnet(101),
    "mobilenet_v2": _mobilenet_v2,
}
ALIASES = {"pictonet": "pictonet-m"}


def register_trunk(name: str, factory: Callable[[], Trunk]) -> None:
    """Make `build_trunk(name)` call `factory`, which returns a `Trunk` or any module with its four attributes.

    Raises InputError if the name is taken.
    """
    if name in TRUNKS or name in ALIASES:
        raise InputError(f"the trunk name {name!r} is taken; register yours under another name")
    TRUNKS[name] = factory


def build_trunk(name: str, weights: str | Path | None = None) -> nn.Module:
    """A trunk by name: one of `TRUNKS`, or "pictonet" for "pictonet-m".

    weights: None or "none" for random ones; "pretrained" for what the trunk usually starts from, that is the committed
    pictogram weights for PictoNet and "imagenet" for torchvision's trunks; "imagenet" for torchvision's
    `IMAGENET1K_V1` (downloaded once); else the path of a safetensors file with the trunk's own state or that of a whole
    model, of which the trunk is taken.

    Raises InputError for an unknown name, a missing file, weights of another shape, or a download that fails.
    """
    name = ALIASES.get(name, name)
    if name not in TRUNKS:
        raise InputError(f"unknown trunk {name!r}{did_you_mean(name, [*TRUNKS, *ALIASES])}")
    trunk = TRUNKS[name]()
    if weights in (None, "none") or (weights == "pretrained" and brings_weights(name)):
        return trunk
    state = _state(name, trunk, weights)
    try:
        trunk.load_state_dict(state)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"trunk.weights={weights} does not fit {name}: {reason}") from error
    return trunk


def brings_weights(name: str) -> bool:
    """Whether a trunk was registered by its user, whose factory then gives it its weights."""
    return not name.startswith("pictonet-") and name not in ("vgg16", "resnet50", "resnet101", "mobilenet_v2")


def pictonet_weights(name: str) -> Path:
    """Where the committed weights of a PictoNet lie."""
    return repository_root() / "data" / "weights" / f"{name}.safetensors"


def _state(name: str, trunk: nn.Module, weights: str | Path) -> dict[str, Tensor]:
    if weights == "imagenet" or (weights == "pretrained" and not name.startswith("pictonet-")):
        return _imagenet_state(name, trunk)
    path = pictonet_weights(name) if weights == "pretrained" else Path(weights)
    if not path.is_file():
        raise InputError(f"trunk.weights: no file {path}; give a safetensors file, 'pretrained', 'imagenet' or 'none'")
    try:
        state = load_file(path)
    except Exception as error:
        raise InputError(f"trunk.weights: {path} is not a safetensors file ({error})") from error
    if any(key.startswith(MODEL_PREFIX) for key in state):
        state = {key.removeprefix(MODEL_PREFIX): value for key, value in state.items() if key.startswith(MODEL_PREFIX)}
    return {key: value.float() if value.is_floating_point() else value for key, value in state.items()}


def _imagenet_state(name: str, trunk: nn.Module) -> dict[str, Tensor]:
    from torchvision.models import get_model_weights

    if name.startswith("pictonet-"):
        raise InputError(f"trunk.weights=imagenet: there are none for {name}; use 'pretrained' or 'none'")
    try:
        # By name: DEFAULT means a newer recipe than the one the papers start from.
        full = get_model_weights(name)["IMAGENET1K_V1"].get_state_dict(progress=False, check_hash=True)
    except Exception as error:
        raise InputError(
            f"the ImageNet weights of {name} could not be downloaded ({error}); "
            "give trunk.weights a safetensors file or 'none'"
        ) from error
    own = trunk.state_dict()
    values = [value for key, value in full.items() if not key.startswith(("fc.", "classifier."))]
    # The trunk keeps torchvision's order of layers, so its entries are the leading ones of the full network.
    return dict(zip(own, values, strict=False))
