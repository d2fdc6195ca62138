"""What it gains that `mlic` keeps freed memory, in a process of its own, since malloc's settings hold until it ends."""

import ctypes
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context

import numpy as np
import torch

from benchmarks import Benchmark
from mlic_core.models import build_model, build_trunk
from mlic_core.study.memory import MMAP_MAX, TOP_PAD, TRIM_THRESHOLD, keep_freed_memory


@cache
def child() -> ProcessPoolExecutor:
    """The process, which lives until this one ends."""
    return ProcessPoolExecutor(1, get_context("spawn"))


def sides(function: Callable[..., np.ndarray], *args: int) -> tuple[Callable[[], np.ndarray], Callable[[], np.ndarray]]:
    """A call of `function` in that process with freed memory kept, and one without."""
    return tuple(lambda how=how: child().submit(prepared, how, function, *args).result() for how in HOW)


def prepared(how: Callable[[], object], function: Callable[..., np.ndarray], *args: int) -> np.ndarray:
    how()
    return function(*args)


def give_memory_back() -> None:
    """What glibc does by itself once it has seen large blocks freed."""
    threshold = 2**25
    own = {-3: threshold, MMAP_MAX: 65536, TRIM_THRESHOLD: 2 * threshold, TOP_PAD: 2**17}  # -3: least block mapped
    for parameter, value in own.items():
        ctypes.CDLL(None).mallopt(parameter, value)


HOW = keep_freed_memory, give_memory_back


def features(count: int) -> np.ndarray:
    """Mean features of some images, as a frozen trunk gives them."""
    torch.manual_seed(0)
    trunk = build_trunk("mobilenet_v2", "none").to(memory_format=torch.channels_last).eval()
    images = torch.randn(count, 3, 224, 224).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        return trunk(images).mean((2, 3)).numpy()


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
    about = f"features of {images} images of 224 px, mobilenet_v2, freed memory kept: glibc left alone"
    return [training, Benchmark("memory/features/given_back", about, *sides(features, images))]
