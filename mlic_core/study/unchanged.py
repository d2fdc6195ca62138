"""Which notebooks need not run again, since nothing that their results depend on has changed.

The kernel of a notebook notes each file in results/PROFILE that it writes or reads: figures, tables, records of runs.
When the notebook has ended well, the batch keeps a digest of each, and one of what came in: the notebook, its
parameters, the package, data/ and the installed libraries. As long as all of them are the same, so are the results.
Data sets outside of the repository are not looked at: with them a notebook always runs.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from mlic_core.paths import repository_root
from mlic_core.study.files import exclusive, sha256, write_json

NOTED = "MLIC_NOTED_FILES"  # environment variable: the file to note in; nothing is noted without it
KEPT = ".unchanged.json"
PACKAGE = Path(__file__).parents[1]


def note(path: Path) -> None:
    """Note a file of the results that was written or read, or looked for in vain."""
    if noted := os.environ.get(NOTED):
        with open(noted, "a", encoding="utf-8") as file:
            file.write(f"{path.absolute()}\n")


def inputs(notebook: Path, parameters: Mapping[str, Any]) -> str | None:
    """SHA-256 of all that comes into a notebook, or None where that can't be told: data or a plugin from elsewhere."""
    if parameters["root"] or os.environ.get("MLIC_PLUGIN"):
        return None
    given = {key: value for key, value in parameters.items() if key != "results"}
    return hashlib.sha256(f"{sha256(notebook)} {given} {_surroundings(repository_root())}".encode()).hexdigest()


@cache
def _surroundings(home: Path) -> str:
    """Digest of the package, of data/ without its caches, and of the versions of all libraries."""
    digest = hashlib.sha256()
    for part in (PACKAGE, *sorted(path for path in (home / "data").iterdir() if path.name != "cache")):
        files = sorted(path for path in part.rglob("*") if path.is_file()) if part.is_dir() else [part]
        for path in files:
            if path.suffix != ".pyc":
                digest.update(f"{path.relative_to(part.parent)} {sha256(path)}\n".encode())
    for library in sorted(f"{one.name} {one.version}" for one in distributions()):
        digest.update(f"{library}\n".encode())
    return digest.hexdigest()


def keep(folder: Path, notebook: Path, came_in: str | None, noted: Iterable[Path]) -> None:
    """Keep what a notebook, which has ended well, depended on. folder: results/PROFILE."""
    inside = sorted({str(path.relative_to(folder)) for path in noted if path.is_relative_to(folder)})
    with exclusive(folder / f"{KEPT}.lock"):
        kept = _kept(folder)
        kept[notebook.stem] = {"inputs": came_in, "files": {name: _digest(folder / name) for name in inside}}
        write_json(folder / KEPT, dict(sorted(kept.items())))


def is_unchanged(folder: Path, notebook: Path, came_in: str | None) -> bool:
    """Whether a notebook has run with just this, and all files are as it left or found them."""
    before = _kept(folder).get(notebook.stem)
    if before is None or came_in is None or before["inputs"] != came_in:
        return False
    return all(_digest(folder / name) == digest for name, digest in before["files"].items())


def _kept(folder: Path) -> dict[str, Any]:
    try:
        return json.loads((folder / KEPT).read_text(encoding="utf-8"))
    except (OSError, ValueError):  # absent or damaged: everything runs
        return {}


def _digest(path: Path) -> str:
    return sha256(path) if path.is_file() else "absent"
