"""Scores of 5,000 images and 20 classes, the size of VOC 2007's test set, with 1.5 labels an image."""

import numpy as np
from sklearn.metrics import average_precision_score

from benchmarks import Benchmark
from mlic_core.metrics import average_precision


def bench_map_sklearn() -> Benchmark:
    rng = np.random.default_rng(0)
    targets = (rng.random((5000, 20)) < 1.5 / 20).astype(np.int8)
    scores = (rng.normal(size=targets.shape) + 2 * targets).astype(np.float32)

    def ours():
        return average_precision(scores, targets)

    def peer():
        return average_precision_score(targets, scores, average=None)

    np.testing.assert_allclose(ours(), peer(), rtol=1e-6)
    return Benchmark("metrics/map/sklearn", ours, peer)
