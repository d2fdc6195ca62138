"""A trunk of one's own, for `mlic run --plugin workflow/mobilenet_v2_plugin.py`: MobileNet-v2 with ImageNet's weights.

The network and its weights come from a file that is not part of this repository, named by the environment variable
MLIC_MOBILENET: a Python module with `trunk()`, which returns the feature extractor, and its OUT_CHANNELS, STRIDE, MEAN
and STD. Any trunk is brought in the same way: register a function that returns a module from images (B, 3, H, W) to
maps (B, D, h, w) with the attributes of `mlic_core.models.backbones.Trunk`.
"""

import importlib.util
import os

from mlic_core.errors import InputError
from mlic_core.models import register_trunk
from mlic_core.models.backbones import Trunk


def mobilenet_v2_imagenet() -> Trunk:
    """Called whenever a model is built."""
    path = os.environ.get("MLIC_MOBILENET", "")
    if not os.path.isfile(path):
        raise InputError(f"MLIC_MOBILENET={path}: set it to the Python file that has the network")
    specification = importlib.util.spec_from_file_location("mobilenet_v2_imagenet", path)
    source = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(source)
    return Trunk(source.trunk(), source.OUT_CHANNELS, source.STRIDE, source.MEAN, source.STD)


register_trunk("mobilenet_v2_imagenet", mobilenet_v2_imagenet)
