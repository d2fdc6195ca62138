"""Run every benchmark and write results/bench.json and results/bench.md: `python -m benchmarks`."""

import importlib
import json
import os
import pkgutil
import platform
import statistics
from pathlib import Path
from time import perf_counter

import torch

import benchmarks
from benchmarks import Benchmark

RESULTS = Path(__file__).parents[1] / "results"
RUNS = 15


def collect() -> list[Benchmark]:
    """The benchmarks of every module in this folder, by name."""
    found = []
    for info in pkgutil.iter_modules(benchmarks.__path__):
        if info.name == "__main__":
            continue
        module = importlib.import_module(f"benchmarks.{info.name}")
        found += [function() for name, function in vars(module).items() if name.startswith("bench_")]
    return sorted(found, key=lambda benchmark: benchmark.name)


def seconds(call) -> float:
    start = perf_counter()
    call()
    return perf_counter() - start


def measure(benchmark: Benchmark, runs: int = RUNS) -> dict[str, str | float | int]:
    """Time both sides in turn, after one run each that doesn't count.

    Turns, because a machine's speed drifts: the two runs of a pair see the same moment of it. `ours` and
    `peer` are medians in seconds, `ratio` is peer / ours, above 1 where we are faster, and `ratio_min` is
    the least of any pair.
    """
    benchmark.ours(), benchmark.peer()
    pairs = [(seconds(benchmark.ours), seconds(benchmark.peer)) for _ in range(runs)]
    ours, peer = (statistics.median(side) for side in zip(*pairs, strict=True))
    return {
        "name": benchmark.name,
        "ratio": round(peer / ours, 2),
        "ratio_min": round(min(theirs / mine for mine, theirs in pairs), 2),
        "ours": float(f"{ours:.4g}"),
        "peer": float(f"{peer:.4g}"),
        "n": runs,
    }


def table(rows: list[dict]) -> str:
    lines = [
        f"Seconds are medians over n runs of each side in turn, on {os.cpu_count()} cores "
        f"({platform.machine()}, Python {platform.python_version()}, torch {torch.__version__}).",
        "Ratio = peer / ours: above 1 we are faster.",
        "",
        "| benchmark | ratio | least ratio | ours, s | peer, s | n |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    lines += ["| {name} | {ratio} | {ratio_min} | {ours} | {peer} | {n} |".format(**row) for row in rows]
    return "\n".join(lines) + "\n"


def main() -> None:
    rows = []
    for benchmark in collect():
        rows.append(measure(benchmark))
        print("{name}: {ratio} times as fast as the peer".format(**rows[-1]), flush=True)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "bench.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    (RESULTS / "bench.md").write_text(table(rows), encoding="utf-8")


if __name__ == "__main__":
    main()
