"""The metrics, at the size of COCO 2014's validation set and of VOC 2007's test set."""

import functools
import tracemalloc
from functools import partial
from time import perf_counter
from typing import NamedTuple

import numpy as np
import torch
from sklearn.metrics import average_precision_score
from torchmetrics.functional.classification import multilabel_average_precision

from benchmarks import Benchmark, Figure
from mlic_core.metrics import average_precision, bootstrap, mean_average_precision, protocol_matrix

COCO, VOC = (40137, 80, 2.9), (4952, 20, 1.5)  # images, classes, labels per image


class Problem(NamedTuple):
    """Random predictions that are better than chance, as fp32 logits and probabilities."""

    logits: np.ndarray
    probabilities: np.ndarray
    targets: np.ndarray  # 1 and 0
    with_ignored: np.ndarray  # the same, with -1 for one entry in a hundred


@functools.cache
def problem(images: int, classes: int, labels: float) -> Problem:
    rng = np.random.default_rng(0)
    targets = (rng.random((images, classes)) < labels / classes).astype(np.int8)
    targets[0] = 1  # every class has a positive, however few images there are
    logits = (rng.normal(size=targets.shape) + 2 * targets).astype(np.float32)
    probabilities = (1 / (1 + np.exp(-logits.astype(np.float64)))).astype(np.float32)
    with_ignored = np.where(rng.random(targets.shape) < 0.01, np.int8(-1), targets)
    return Problem(logits, probabilities, targets, with_ignored)


def sized(size: tuple[int, int, float], scale: float) -> tuple[Problem, str]:
    images, classes, labels = max(20, round(size[0] * scale)), *size[1:]
    return problem(images, classes, labels), f"{images:,} x {classes}"


def loop_over_images(scores, targets) -> list[float]:
    """AP as the evaluation scripts of many papers compute it: down the ranking of each class, image by image."""
    values = []
    for column, present in zip(scores.T, targets.T, strict=True):
        ranking = column.argsort(descending=True) if isinstance(column, torch.Tensor) else np.argsort(-column)
        hits, area = 0, 0.0
        for seen, image in enumerate(ranking, start=1):
            if present[image] == 1:
                hits += 1
                area += hits / seen
        values.append(area / max(hits, 1))
    return values


def bench_map(scale: float = 1) -> list[Benchmark]:
    """AP of every class beside each peer, which gets what suits it: probabilities, and tensors where it uses them."""
    rows = []
    for size in (COCO, VOC):
        given, shape = sized(size, scale)
        scores, targets = given.probabilities, given.targets
        tensors = torch.from_numpy(scores), torch.from_numpy(targets).long()
        ours = partial(average_precision, scores, targets)
        # Among equal scores, rare in fp32, the loops depend on the order; torchmetrics adds up in fp32.
        peers = {
            "sklearn": ("scikit-learn", partial(average_precision_score, targets, scores, average=None), 1e-6, 5),
            "torchmetrics": ("torchmetrics", partial(_torchmetrics, *tensors), 1e-5, 5),
            "loop": ("loop over images, tensors", partial(loop_over_images, *tensors), 1e-5, 100),
            "loop-numpy": ("loop over images, arrays", partial(loop_over_images, scores, targets), 1e-5, None),
        }
        for key, (name, peer, tolerance, goal) in peers.items():
            suffix, least = ("", goal) if size is COCO else (f"/{VOC[0]}x{VOC[1]}", None)
            rows.append(Benchmark(f"metrics/map/{key}{suffix}", f"AP, {shape}: {name}", ours, peer, tolerance, least))
    return rows


def _torchmetrics(scores: torch.Tensor, targets: torch.Tensor) -> np.ndarray:
    return multilabel_average_precision(scores, targets, num_labels=scores.shape[1], average="none").numpy()


def bench_bootstrap(scale: float = 1) -> list[Benchmark | Figure]:
    """The fast way for mAP beside the way for any metric, which scores each resample by our own `average_precision`."""
    given, shape = sized(VOC, scale)

    def interval(metric, n):
        return bootstrap(given.logits, given.targets, metric, n)

    def any_metric(scores, targets):
        return mean_average_precision(scores, targets).value

    return [
        Benchmark(
            "metrics/bootstrap/resampling",
            f"50 resamples of mAP, {shape}: scoring each anew",
            lambda: interval(mean_average_precision, 50),
            lambda: interval(any_metric, 50),
        ),
        Figure(
            "metrics/bootstrap/seconds",
            f"interval of mAP from 1,000 resamples, {shape}",
            "s",
            lambda: _seconds(lambda: interval(mean_average_precision, 1000)),
        ),
    ]


def bench_cost(scale: float = 1) -> list[Figure]:
    """Seconds and memory where there is no peer; difficult entries, so that their three handlings are all computed."""
    given, shape = sized(COCO, scale)

    def ap():
        return average_precision(given.logits, given.targets)

    def protocols():
        return protocol_matrix(given.logits, given.with_ignored)

    memory = "times the score matrix (fp32)"
    return [
        Figure("metrics/protocols/seconds", f"all protocols, {shape}", "s", lambda: _seconds(protocols), 2),
        Figure("metrics/map/memory", f"peak extra memory of AP, {shape}", memory, lambda: _memory(ap, given), 3, 1),
        Figure(
            "metrics/protocols/memory",
            f"peak extra memory of all protocols, {shape}",
            memory,
            lambda: _memory(protocols, given),
            3,
            1,
        ),
    ]


def _seconds(call) -> float:
    start = perf_counter()
    call()
    return perf_counter() - start


def _memory(call, given: Problem) -> float:
    """Largest memory that the call held at once, NumPy's arrays included, over that of the score matrix."""
    tracemalloc.start()
    call()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / given.logits.nbytes
