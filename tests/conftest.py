"""Tests share a small machine: one thread each, and no progress lines."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before NumPy and torch start their threads
os.environ.setdefault("MLIC_PROGRESS", "silent")

import jaxtyping
import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture
def untyped():
    """No shape and type checks meanwhile: for wrong types on purpose, and for torch.compile, which can't trace them."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture
def call_mlic():
    """Calls `mlic` and returns click's result; what no command foresees is raised."""
    from click.testing import CliRunner

    from mlic_core.study.cli import main

    def call(*arguments):
        result = CliRunner().invoke(main, [str(argument) for argument in arguments])
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return call
