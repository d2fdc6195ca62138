"""Methods and trunks by name."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from mlic_core.errors import InputError, did_you_mean
from mlic_core.models.backbones import build_trunk, register_trunk
from mlic_core.models.classifier import Classifier
from mlic_core.models.cnn_rnn import CNNRNN
from mlic_core.models.gla import GLA
from mlic_core.models.linear import Linear
from mlic_core.models.mcar import MCAR
from mlic_core.models.prediction import Prediction
from mlic_core.models.rdar import RDAR

METHODS: dict[str, type[nn.Module]] = {
    "classifier": Classifier,
    "linear": Linear,
    "cnn_rnn": CNNRNN,
    "rdar": RDAR,
    "gla": GLA,
    "mcar": MCAR,
}

__all__ = ["METHODS", "Prediction", "activation", "build_model", "build_trunk", "register_trunk"]


def build_model(name: str, num_classes: int, trunk: nn.Module, **options) -> nn.Module:
    """A method by name on a trunk: `forward(images, targets=None) -> Prediction`, `loss`, `param_groups`.

    options: keyword arguments of the method's class. Raises InputError for an unknown method or option, or a value
    that the method refuses.
    """
    if name not in METHODS:
        raise InputError(f"unknown method {name!r}{did_you_mean(name, METHODS)}")
    try:
        return METHODS[name](trunk, num_classes, **options)
    except (TypeError, InputError) as error:
        raise InputError(f"{name}: {error}") from error


def activation(name: str, options: Mapping[str, Any]) -> str:
    """How a method's logits become probabilities: by a "sigmoid", by exp as the log of a "softmax", or not ("none")."""
    own = getattr(METHODS[name], "activation", None)
    return own(options) if own else "sigmoid"
