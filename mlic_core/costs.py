"""What a method costs: parameters, multiply-adds, passes through the trunk, bytes of live tensors, and time.

Multiply-adds are those of convolutions and matrix products, half of what torch's flop counter finds. Normalisation,
pooling, sampling and every function of single values are not in them.

Memory is the peak of the bytes in live tensors, counted at every operation by a TorchDispatchMode: the same number on
each run. Weights and inputs are not in it, nor is what an operation allocates for itself and frees before it ends.

Time on the CPU is that of the process with one thread, which other work on the machine disturbs least; on a GPU it is
the clock's, read when the GPU has finished.
"""

import copy
import platform
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from time import perf_counter, process_time
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from mlic_core.errors import InputError
from mlic_core.models import build_model, build_trunk
from mlic_core.models.localization import crop, select_maps
from mlic_core.models.mcar import MCAR


def untrained(method: str, trunk: str, num_classes: int, device: torch.device | str = "cpu", **options) -> nn.Module:
    """A method with random weights, always the same, in evaluation mode and laid out in memory as training does it.

    Raises InputError as `build_model` does.
    """
    torch.manual_seed(0)
    model = build_model(method, num_classes, build_trunk(trunk), **options)
    return model.to(device, memory_format=torch.channels_last).eval()


def variant(model: nn.Module, **attributes: object) -> nn.Module:
    """The same model, weights shared, with other attributes, such as `views` of RDAR or `topN` of MCAR.

    Raises InputError for an attribute that it does not have.
    """
    other = copy.copy(model)
    for name, value in attributes.items():
        if not hasattr(model, name):
            raise InputError(f"{type(model).__name__} has no attribute {name!r} to vary")
        setattr(other, name, value)
    return other


def noise(count: int, size: int, device: torch.device | str = "cpu") -> Float[Tensor, "count 3 size size"]:
    """Normalised images of random pixels, always the same: neither counts nor times depend on what is in a picture."""
    images = torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(0))
    return images.to(device, memory_format=torch.channels_last)


class Counts(NamedTuple):
    """Parameters, passes of an image (or a region of it) through the trunk, and multiply-adds an image."""

    trunk_parameters: int
    head_parameters: int
    passes: float
    trunk_macs: float
    head_macs: float


@torch.no_grad()
def counts(model: nn.Module, images: Float[Tensor, "batch 3 height width"]) -> Counts:
    """What a method's forward pass takes; all that is not its `trunk` counts as head."""
    seen: list[int] = []
    hook = model.trunk.register_forward_hook(lambda trunk, inputs, output: seen.append(len(inputs[0])))
    with FlopCounterMode(display=False) as counter:
        model(images)
    hook.remove()
    both = counter.get_total_flops() / 2
    trunk = sum(counter.get_flop_counts()[f"{type(model).__name__}.trunk"].values()) / 2
    parameters = [sum(one.numel() for one in module.parameters()) for module in (model, model.trunk)]
    per_image = [number / len(images) for number in (sum(seen), trunk, both - trunk)]
    return Counts(parameters[1], parameters[0] - parameters[1], *per_image)


class LiveBytes(TorchDispatchMode):
    """Bytes in the tensors made inside this context: `now`, and the most there were at once."""

    def __init__(self):
        super().__init__()
        self.now = self.peak = 0
        self.seen: set[int] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        given = [one.untyped_storage()._cdata for one in tree_leaves((args, kwargs)) if isinstance(one, Tensor)]
        made = func(*args, **(kwargs or {}))
        for one in tree_leaves(made):
            if not isinstance(one, Tensor):
                continue
            storage = one.untyped_storage()  # shared by views; lives as long as any of its tensors
            if storage._cdata not in self.seen and storage._cdata not in given:
                self.seen.add(storage._cdata)
                self.now += storage.nbytes()
                weakref.finalize(storage, self._freed, storage._cdata, storage.nbytes())
        self.peak = max(self.peak, self.now)
        return made

    def _freed(self, key: int, size: int) -> None:
        self.seen.remove(key)
        self.now -= size


def peak_bytes(call: Callable[[], object]) -> int:
    """The most bytes that tensors made by `call` held at once."""
    with LiveBytes() as memory:
        call()
    return memory.peak


@torch.no_grad()
def forward_bytes(model: nn.Module, images: Float[Tensor, "batch 3 height width"]) -> int:
    """Peak bytes of live tensors in a forward pass that keeps nothing for a backward one."""
    return peak_bytes(partial(model, images))


def stages(
    model: MCAR, images: Float[Tensor, "batch 3 height width"]
) -> Iterator[tuple[str, Float[Tensor, "batch ..."]]]:
    """MCAR's forward pass in the three stages of its Table IX; pauses after each with its name and what it made.

    "global": scores of the image. "global-to-local": the regions, cut out and enlarged. "local": the fused scores.
    Raises InputError for a model without regions, with adaptive ones, or with crops from the source.
    """
    if model.topN == 0 or model.adaptive or model.crop_from != "input":
        raise InputError("the stages of MCAR need topN of 1 or more, adaptive=0 and crop_from=input")
    features = model.trunk(images)
    first = model.head(features)
    yield "global", first
    classes = model.select(first)
    maps = select_maps(model.head.class_maps(features), classes).sigmoid()
    crops = crop(images, model.boxes(maps, images.shape[2:]))
    yield "global-to-local", crops
    scores = model.score_regions(crops.flatten(0, 1), len(images)).unflatten(0, crops.shape[:2])
    yield "local", torch.maximum(first, scores.amax(1))


@torch.no_grad()
def stage_bytes(model: MCAR, images: Float[Tensor, "batch 3 height width"]) -> dict[str, int]:
    """Peak bytes of live tensors in each of the `stages`; what an earlier one left behind counts."""
    found = {}
    with LiveBytes() as memory:
        for name, _ in stages(model, images):
            found[name], memory.peak = memory.peak, memory.now
    return found


@contextmanager
def one_thread() -> Iterator[None]:
    """torch computes with one thread on the CPU meanwhile."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def devices() -> list[torch.device]:
    """The CPU, and the GPU where there is one."""
    return [torch.device(kind) for kind in ("cpu", "cuda")[: 1 + torch.cuda.is_available()]]


def machine(device: torch.device) -> str:
    """What times on a device were taken on, in words."""
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, torch {torch.__version__}"
    return f"one CPU thread ({platform.machine()}), torch {torch.__version__}"


def clock(device: torch.device) -> float:
    """Seconds from some point: CPU time of this process, or on a GPU the time when it has finished its work."""
    if device.type == "cpu":
        return process_time()
    torch.cuda.synchronize(device)
    return perf_counter()


def stage_seconds(model: MCAR, images: Float[Tensor, "batch 3 height width"]) -> dict[str, float]:
    """Seconds of each of the `stages`, and their "total"."""
    found, begun = {}, clock(images.device)
    for name, _ in stages(model, images):
        now = clock(images.device)
        found[name], begun = now - begun, now
    return found | {"total": sum(found.values())}


def in_turn(calls: Mapping[str, Callable[[], object]], device: torch.device) -> dict[str, float]:
    """Seconds of each call, one after the other."""
    found = {}
    for name, call in calls.items():
        begun = clock(device)
        call()
        found[name] = clock(device) - begun
    return found


def repeated(probe: Callable[[], Mapping[str, float]], rounds: int) -> dict[str, Float64[np.ndarray, " rounds"]]:
    """What `probe` finds in each of some rounds, after one that does not count; without gradients, on one CPU thread.

    What is compared is measured in one probe: a machine's speed drifts, and a round sees the same moment of it. Raises
    InputError for less than one round.
    """
    if rounds < 1:
        raise InputError(f"rounds={rounds}: choose 1 or more")
    with one_thread(), torch.inference_mode():
        probe()
        found = [probe() for _ in range(rounds)]
    return {name: np.array([one[name] for one in found]) for name in found[0]}


class Timed(NamedTuple):
    """Median seconds; and the ratio to the reference, round by round: median, least and greatest."""

    seconds: float
    ratio: float
    least: float
    greatest: float


def against(times: Mapping[str, Float64[np.ndarray, " rounds"]], reference: str) -> dict[str, Timed]:
    """The times of `repeated` beside those of one of its names."""
    found = {}
    for name, values in times.items():
        ratios = values / times[reference]
        numbers = np.median(values), np.median(ratios), ratios.min(), ratios.max()
        found[name] = Timed(*map(float, numbers))
    return found


class Growth(NamedTuple):
    """One setting of a series: seconds and peak bytes, and both relative to the first setting."""

    setting: float | int
    seconds: float
    bytes: int
    time: float
    memory: float


def growth(cases: Mapping[float | int, tuple[nn.Module, Tensor]], rounds: int) -> list[Growth]:
    """How time and memory of forward passes grow: setting -> model and images, the smallest setting first."""
    calls = {str(setting): partial(model, images) for setting, (model, images) in cases.items()}
    device = next(iter(cases.values()))[1].device
    times = against(repeated(partial(in_turn, calls, device), rounds), next(iter(calls)))
    peaks = [forward_bytes(model, images) for model, images in cases.values()]
    series = zip(cases, times.values(), peaks, strict=True)
    return [Growth(setting, one.seconds, peak, one.ratio, peak / peaks[0]) for setting, one, peak in series]


@torch.no_grad()
def threshold_for(model: MCAR, images: Float[Tensor, "batch 3 height width"], share: float) -> float:
    """The `adaptive` at which an untrained MCAR looks at `share` (in [0, 1]) of the regions of these images.

    Which regions those are is arbitrary, but not how many, and of that alone the time depends.
    """
    best = model(images).steps[:, 0].topk(model.topN, 1).values.sigmoid().flatten().sort(descending=True).values
    looked = round(share * len(best))
    if looked == len(best):
        return 0.0
    return float(best[looked - 1]) if looked else 1.0
