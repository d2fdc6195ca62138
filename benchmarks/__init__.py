"""Our code beside a peer that does the same, both timed in one process.

Each module of this folder has functions named `bench_*` that return a Benchmark; `python -m
benchmarks` runs all of them.
"""

from collections.abc import Callable
from typing import NamedTuple


class Benchmark(NamedTuple):
    """Two callables without arguments that return the same, as the function that makes them has checked."""

    name: str  # module/what/peer
    ours: Callable[[], object]
    peer: Callable[[], object]
