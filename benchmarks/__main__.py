"""Run every benchmark: `python -m benchmarks` writes results/bench.json, bench_figures.json and bench.md.

`python -m benchmarks rdar metrics` runs these modules only, prints their table and leaves the files as they are.
"""

import argparse
import importlib
import json
import os
import pkgutil
import platform
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter

import numpy as np
import torch

import benchmarks
from benchmarks import Benchmark, Figure
from mlic_core.progress import say

RESULTS = Path(__file__).parents[1] / "results"
RUNS = range(3, 16)  # how many pairs of runs: as many of these as BUDGET allows
BUDGET = 30.0  # seconds
Row = dict[str, str | float | int | None]


def module_names() -> list[str]:
    """The modules of this folder that hold benchmarks."""
    return sorted(info.name for info in pkgutil.iter_modules(benchmarks.__path__) if info.name != "__main__")


def builders(names: Sequence[str] = ()) -> list[Callable[..., list[Benchmark | Figure]]]:
    """The `bench_*` functions of some modules; of every module where none is named."""
    modules = [importlib.import_module(f"benchmarks.{name}") for name in names or module_names()]
    return [value for module in modules for name, value in vars(module).items() if name.startswith("bench_")]


def check(benchmark: Benchmark) -> float:
    """Run both sides once, raise AssertionError where they disagree, and return the seconds that a pair takes."""
    start = perf_counter()
    ours, peer = benchmark.ours(), benchmark.peer()
    taken = perf_counter() - start
    np.testing.assert_allclose(ours, peer, rtol=0, atol=benchmark.tolerance, err_msg=benchmark.name)
    return taken


def seconds(call: Callable[[], object]) -> float:
    start = perf_counter()
    call()
    return perf_counter() - start


def measure(benchmark: Benchmark, budget: float = BUDGET) -> Row:
    """Check the two sides, which runs each once without counting, and time them in turn.

    Turns, because a machine's speed drifts: the two runs of a pair see the same moment of it. `ours` and
    `peer` are medians in seconds over `n` runs of each, `ratio` is peer / ours, above 1 where we are faster, and
    `ratio_min` is the least of any pair.
    """
    runs = min(max(RUNS[0], int(budget / check(benchmark))), RUNS[-1])
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


def figure(asked: Figure) -> Row:
    value = statistics.median(asked.measure() for _ in range(asked.runs))
    return {
        "name": asked.name,
        "value": float(f"{value:.4g}"),
        "unit": asked.unit,
        "goal": asked.goal,
        "n": asked.runs,
    }


def tables(ratios: list[tuple[Benchmark, Row]], figures: list[tuple[Figure, Row]]) -> str:
    """Both as Markdown."""
    lines = [
        f"Measured in one run on {os.cpu_count()} cores ({platform.machine()}, Python {platform.python_version()}, "
        f"NumPy {np.__version__}, torch {torch.__version__} with its default of {torch.get_num_threads()} threads; "
        "our metrics use one).",
        "Seconds are medians over n runs of each side in turn, after one in which their results were compared.",
        "Ratio = peer / ours: above 1 we are faster.",
        "The C library gives freed memory back here, on both sides, as in anyone's script. `mlic` has it kept, which "
        "speeds up the trunk by the ratios of `memory/` and shrinks those to peers that run it: see "
        "`cnn_rnn/cached_head`.",
        "",
        "| benchmark | what, and the peer | ratio | least ratio | goal | ours, s | peer, s | n |",
        "|---|---|--:|--:|--:|--:|--:|--:|",
    ]
    for asked, row in ratios:
        cells = {**row, "about": asked.about, "goal": "" if asked.goal is None else f"{asked.goal:g}"}
        lines.append("| {name} | {about} | {ratio} | {ratio_min} | {goal} | {ours} | {peer} | {n} |".format(**cells))
    lines += ["", "Without a peer; the goal is an upper bound:", "", "| figure | what | value | goal | n |"]
    lines += ["|---|---|--:|--:|--:|"]
    for asked, row in figures:
        cells = {**row, "about": asked.about, "goal": "" if asked.goal is None else f"{asked.goal:g}"}
        lines.append("| {name} | {about} | {value} {unit} | {goal} | {n} |".format(**cells))
    return "\n".join(lines) + "\n"


def main(results: Path = RESULTS, scale: float = 1, names: Sequence[str] = ()) -> None:
    """Run the benchmarks of some modules, or of all of them; only the latter goes into files."""
    asked = [one for build in builders(names) for one in build(scale)]
    ratios, figures = [], []
    for i, one in enumerate(asked, start=1):
        if isinstance(one, Benchmark):
            row = measure(one)
            ratios.append((one, row))
            say(f"{i} of {len(asked)} {row['name']}: {row['ratio']} times as fast as the peer")
        else:
            row = figure(one)
            figures.append((one, row))
            say(f"{i} of {len(asked)} {row['name']}: {row['value']} {row['unit']}")
    if names:
        print(tables(ratios, figures), end="")
        return
    results.mkdir(exist_ok=True)
    for name, rows in (("bench.json", ratios), ("bench_figures.json", figures)):
        text = json.dumps([row for _, row in rows], indent=1) + "\n"
        (results / name).write_text(text, encoding="utf-8")
    (results / "bench.md").write_text(tables(ratios, figures), encoding="utf-8")


def arguments(given: list[str] | None = None) -> list[str]:
    """The modules named on the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Time our code beside its peers.")
    about = f"a module to run ({', '.join(module_names())}); without one all run, into results/"
    parser.add_argument("names", nargs="*", metavar="MODULE", help=about)
    names = parser.parse_args(given).names
    if unknown := set(names) - set(module_names()):
        parser.error(f"no module {', '.join(sorted(unknown))}: choose from {', '.join(module_names())}")
    return names


if __name__ == "__main__":
    main(names=arguments())
