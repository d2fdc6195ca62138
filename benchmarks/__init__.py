"""Our code beside a peer that does the same, both timed in one process, and what it costs where there is no peer.

Each module of this folder has functions named `bench_*` that take a `scale` and return a list of Benchmark and Figure;
`python -m benchmarks` runs all of them. The scale multiplies the number of images, so that a test can run them small.
"""

from collections.abc import Callable
from typing import NamedTuple


class Benchmark(NamedTuple):
    """Two callables without arguments. Before they are timed, their results are compared, to `tolerance`."""

    name: str  # module/what/peer, and the size or trunk where it is not the first
    about: str  # what is computed, on how much, and by whom beside us
    ours: Callable[[], object]
    peer: Callable[[], object]
    tolerance: float = 1e-6
    goal: float | None = None  # least ratio


class Figure(NamedTuple):
    """One number about our code alone: `measure` returns it, and its median is reported."""

    name: str
    about: str
    unit: str
    measure: Callable[[], float]
    goal: float | None = None  # largest value
    runs: int = 5
