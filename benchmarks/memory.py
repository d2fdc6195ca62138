"""What it gains that `mlic` keeps freed memory: in one process it does, in another the C library is left alone.

In processes of their own, since what malloc is told holds until a process ends.
"""

import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context

import numpy as np
import torch

from benchmarks import Benchmark
from benchmarks.cnn_rnn import train_head
from mlic_core.models import build_model, build_trunk
from mlic_core.study.memory import keep_freed_memory


@cache
def process(keep: bool) -> ProcessPoolExecutor:
    """One that lives until this one ends."""
    return ProcessPoolExecutor(1, get_context("spawn"), keep_freed_memory if keep else None)


def sides(function: Callable[..., object], *args: int) -> tuple[Callable[[], object], Callable[[], object]]:
    """A call of `function` with freed memory kept, and one without."""
    return tuple(lambda keep=keep: process(keep).submit(function, *args).result() for keep in (True, False))


def epoch(count: int) -> float:
    """The loss of CNN-RNN's head after an epoch with its frozen trunk in the loop."""
    return train_head(cnn_rnn(), count, 224, cached=False)


@cache
def cnn_rnn() -> torch.nn.Module:
    torch.manual_seed(0)
    return build_model("cnn_rnn", 20, build_trunk("mobilenet_v2", "none"))


def steps(size: int) -> np.ndarray:
    """Two steps of training; the weights of the head."""
    torch.manual_seed(0)
    model = build_model("classifier", 20, build_trunk("mobilenet_v2", "none")).to(memory_format=torch.channels_last)
    images = torch.randn(16, 3, size, size).contiguous(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.train().parameters(), lr=0.02)
    for _ in range(2):
        optimizer.zero_grad(set_to_none=True)
        model(images).logits.square().mean().backward()
        optimizer.step()
    return model.head.linear.weight.detach().numpy().copy()


def bench_kept_memory(scale: float = 1) -> list[Benchmark]:
    """Nothing to compare where the C library is not Linux's."""
    if sys.platform != "linux":
        return []
    size, images = (256, 128) if scale >= 1 else (64, 2)
    about = f"two training steps, mobilenet_v2, 16 images of {size} px, freed memory kept: glibc left alone"
    training = Benchmark("memory/training/given_back", about, *sides(steps, size))
    about = f"an epoch of {images} images of 224 px, frozen mobilenet_v2 in the loop, memory kept: glibc left alone"
    return [training, Benchmark("memory/frozen_trunk/given_back", about, *sides(epoch, images), 1e-4)]
