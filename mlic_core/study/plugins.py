"""A user's own Python file, imported before a run: it may register trunks (`mlic_core.models.register_trunk`).

The file is code, and runs as such: give only files that you trust.
"""

import hashlib
import importlib.util
import os
import sys
from functools import lru_cache
from pathlib import Path

from mlic_core.errors import InputError

VARIABLE = "MLIC_PLUGIN"  # what hands the file on to notebooks, which run in processes of their own


def use_plugin(path: str | Path) -> None:
    """Import the file now, and in every process that this one starts. Raises as `load_plugin`."""
    os.environ[VARIABLE] = str(Path(path).expanduser().resolve())
    load_plugin()


def load_plugin() -> None:
    """Import the file that the environment variable MLIC_PLUGIN names, if any, and if this was not done before.

    Raises InputError if there is no such file, or if it fails.
    """
    path = Path(os.environ.get(VARIABLE, ""))
    name = f"mlic_plugin_{path.stem}"
    if not os.environ.get(VARIABLE) or getattr(sys.modules.get(name), "__file__", None) == str(path):
        return
    if not path.is_file():
        raise InputError(f"the plugin {path} does not exist; name a Python file")
    specification = importlib.util.spec_from_file_location(name, path)
    if specification is None:
        raise InputError(f"the plugin {path} is no Python file; its name has to end in .py")
    module = importlib.util.module_from_spec(specification)
    sys.modules[name] = module
    try:
        specification.loader.exec_module(module)
    except InputError:
        del sys.modules[name]
        raise
    except Exception as error:
        del sys.modules[name]
        raise InputError(f"the plugin {path} failed: {type(error).__name__}: {error}") from error


@lru_cache
def weights_digest(trunk: str) -> str:
    """SHA-256 of the weights that a registered trunk's factory gives it; what it draws at random is drawn from 0."""
    import torch

    from mlic_core.models import build_trunk

    with torch.random.fork_rng():
        torch.manual_seed(0)
        state = build_trunk(trunk, "pretrained").state_dict()
    digest = hashlib.sha256()
    for key in sorted(state):
        digest.update(key.encode() + state[key].cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
