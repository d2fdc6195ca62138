"""Methods and trunks by name."""

from torch import nn

from mlic_core.errors import InputError, did_you_mean
from mlic_core.models.backbones import build_trunk, register_trunk
from mlic_core.models.classifier import Classifier
from mlic_core.models.mcar import MCAR
from mlic_core.models.prediction import Prediction

METHODS: dict[str, type[nn.Module]] = {"classifier": Classifier, "mcar": MCAR}

__all__ = ["METHODS", "Prediction", "build_model", "build_trunk", "register_trunk"]


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
