"""MCAR: from class maps to boxes beside enlarging every map, and what the second stream costs.

Memory is the peak of the bytes in live tensors (`mlic_core.costs`): the same number on each run and machine.
Time is that of one thread on both sides: of ours, most is many short operations, which gain nothing from a second.
"""

import math
from functools import cache, partial
from itertools import pairwise
from time import process_time

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks import Benchmark, Figure
from mlic_core.costs import one_thread, peak_bytes
from mlic_core.models import build_model, build_trunk
from mlic_core.models.localization import Rule, localize, select_maps

CLASSES, TOPN, TAU = 80, 4, 0.5  # COCO's classes; §IV-A.1


def paper_interval(values: list[float], tau: float) -> tuple[int, int]:
    """Eq. 7 by a plain loop: the run of values >= tau that holds the maximum, the widest, then the leftmost."""
    high, best, start = max(values), (0, 0), None
    for i, value in enumerate([*values, -math.inf]):
        if value >= tau:
            start = i if start is None else start
        elif start is not None:
            if i - start > best[1] - best[0] and max(values[start:i]) == high:
                best = start, i
            start = None
    return best


def paper_least(start: int, end: int, length: int, fraction: float = 0.125) -> tuple[int, int]:
    """At least an eighth of the side, a pixel at a time to the right and the left in turn, then shifted inside."""
    to_the_right = True
    while end - start < math.ceil(fraction * length):
        start, end = (start, end + 1) if to_the_right else (start - 1, end)
        to_the_right = not to_the_right
    shift = max(0, -start) - max(0, end - length)
    return start + shift, end + shift


def official_interval(values: list[float], tau: float) -> tuple[int, int]:
    """The authors' rule by a plain loop, from its description in words (FIDELITY)."""
    length = len(values)
    sides = [(value > tau) - (value < tau) for value in values]
    z = [i for i, (one, other) in enumerate(pairwise(sides)) if one * other == -1]
    if not z:
        return math.ceil(0.125 * length), math.ceil(0.875 * length)
    candidates = [(0, z[0])] if z[0] > 0 else []
    candidates += [(z[-1], length), *pairwise(z)]
    best, low, high = 0.0, 0, 0
    for start, end in candidates:
        score = max(values[start:end])
        if score > best or (score == best and end - start > high - low):
            best, low, high = score, start, end
    least = math.ceil(0.125 * length)
    if high - low <= least:
        lacking = least - (high - low)
        half = math.ceil(lacking / 2)
        if low > half and length - high > lacking:
            low, high = low - (half - 1), high + half
        if low < half:
            low, high = 0, least
        if length - high < half:
            low, high = length - least + 1, length
    return low, high


def published_interval(profile: np.ndarray, tau: float, rule: Rule) -> tuple[int, int]:
    """Eq. 6 and 7, and the least side."""
    low, high = profile.min(), profile.max()
    values = ((profile - low) / (high - low) if high > low else profile / high).tolist()
    if rule == "official":
        return official_interval(values, tau)
    return paper_least(*paper_interval(values, tau), len(values))


@one_thread()
def published(class_maps: Tensor, scores: Tensor, size: int, rule: Rule) -> np.ndarray:
    """Every class map enlarged to the image, its maxima (Eq. 5), then a loop over images and regions."""
    maps = nn.functional.interpolate(class_maps.sigmoid(), (size, size), mode="bilinear", align_corners=True)
    across, down = maps.amax(2).numpy(), maps.amax(3).numpy()
    boxes = []
    for image, classes in enumerate(scores.topk(TOPN, 1).indices.tolist()):
        for one in classes:
            x0, x1 = published_interval(across[image, one], TAU, rule)
            y0, y1 = published_interval(down[image, one], TAU, rule)
            boxes.append([x0, y0, x1, y1])
    return np.array(boxes).reshape(-1, TOPN, 4)


@one_thread()
def ours(class_maps: Tensor, scores: Tensor, size: int, rule: Rule) -> np.ndarray:
    """As MCAR's forward: only the selected maps, of which only the profiles are enlarged."""
    maps = select_maps(class_maps, scores.topk(TOPN, 1).indices).sigmoid()
    return localize(maps, size, TAU, rule=rule).numpy()


def bench_localize(scale: float = 1) -> list[Benchmark | Figure]:
    """No value of these profiles lies within 1e-5 of tau, so that the two ways of rounding give the same boxes."""
    images, size = max(2, round(16 * scale)), 448 if scale >= 1 else 112
    class_maps = 2 * torch.randn(images, CLASSES, 14, 14, generator=torch.Generator().manual_seed(0))
    given = class_maps, class_maps.mean((2, 3)), size
    shape = f"{images} images x {CLASSES} maps of 14 x 14 to {TOPN} boxes at {size} px"
    rows: list[Benchmark | Figure] = []
    for rule, suffix in (("paper", ""), ("official", "/official")):
        about = f"{shape}, {rule} rule: every map enlarged, then a loop"
        sides = partial(ours, *given, rule), partial(published, *given, rule)
        rows.append(Benchmark(f"mcar/localize/published{suffix}", about, *sides, tolerance=0, goal=50))

    def share() -> float:
        return peak_bytes(partial(ours, *given, "paper")) / peak_bytes(partial(published, *given, "paper"))

    about = f"peak of live tensors, {shape}"
    return [*rows, Figure("mcar/localize/memory", about, "times that of the published way", share, 0.1, 1)]


@cache
def model_on(trunk: str, topN: int, size: int) -> nn.Module:
    """A model that has run once."""
    torch.manual_seed(0)
    model = build_model("mcar", CLASSES, build_trunk(trunk), topN=topN).eval()
    with torch.inference_mode():
        model(torch.randn(1, 3, size, size))
    return model


@one_thread()
@torch.inference_mode()
def over_passes(trunk: str, images: Tensor) -> float:
    """CPU time of the model over that of 1 + topN passes through its trunk, which run before and after it."""
    model, passes = model_on(trunk, TOPN, images.shape[-1]), 1 + TOPN
    stamps = [process_time()]
    for call, times in ((model.trunk, passes // 2), (model, 1), (model.trunk, passes - passes // 2)):
        for _ in range(times):
            call(images)
        stamps.append(process_time())
    before, whole, after = (end - start for start, end in pairwise(stamps))
    return whole / (before + after)


def training_bytes(trunk: str, images: Tensor, topN: int) -> int:
    """Peak of one forward and backward pass."""
    model = model_on(trunk, topN, images.shape[-1]).train()
    targets = torch.zeros(len(images), CLASSES, dtype=torch.int8)

    def step() -> None:
        sum(model.loss(model(images, targets), targets).values()).backward()

    try:
        return peak_bytes(step)
    finally:
        model.zero_grad()


def bench_streams(scale: float = 1) -> list[Figure]:
    """What N regions cost beside the image itself."""
    size = 448 if scale >= 1 else 64
    image = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0))
    batch = torch.randn(4, 3, 112, 112, generator=torch.Generator().manual_seed(0))

    def growth() -> float:
        none, four, eight = (training_bytes("pictonet-s", batch, topN) for topN in (0, 4, 8))
        return (eight - four) / (four - none)

    return [
        Figure(
            "mcar/inference/passes",
            f"CPU time of one image at {size} px, resnet50, topN {TOPN}",
            f"times {1 + TOPN} passes of the trunk",
            partial(over_passes, "resnet50", image),
            1.1,
            9,
        ),
        Figure(
            "mcar/training/growth",
            "peak of live tensors of a training step, 4 images at 112 px, pictonet-s: topN 8 over 4",
            "times the growth from topN 0 to 4",
            growth,
            1.1,
            1,
        ),
    ]
