"""How long the command line takes to answer, as a process of its own."""

import subprocess
import sys
from functools import partial
from time import perf_counter

from benchmarks import Figure


def seconds(*arguments: str) -> float:
    """From the start of the process to its end. Raises subprocess.CalledProcessError where it fails."""
    start = perf_counter()
    subprocess.run([sys.executable, "-m", "mlic_core", *arguments], check=True, stdout=subprocess.DEVNULL)
    return perf_counter() - start


def bench_start(scale: float = 1) -> list[Figure]:
    """torch is imported only by the commands that need it."""
    asked = {"help": ["--help"], "version": ["--version"], "run-help": ["run", "--help"]}
    return [Figure(f"cli/start/{name}", f"mlic {' '.join(given)}", "s", partial(seconds, *given), goal=0.3, runs=9)
            for name, given in asked.items()]  # fmt: skip
