"""Where the repository lies: published results and weights stand beside the package."""

import os
from pathlib import Path

from mlic_core.errors import InputError

MARKER = Path("data", "published_results.csv")


def repository_root() -> Path:
    """The folder that holds `data/`, `notebooks/` and `results/`.

    It is the folder in the environment variable MLIC_HOME where that is set; otherwise the nearest folder
    above the package, or else at or above the current one, that has `data/published_results.csv`.

    Raises InputError where there is none, as for a package installed away from its repository.
    """
    home = os.environ.get("MLIC_HOME")
    if home:
        if not Path(home, MARKER).is_file():
            raise InputError(f"MLIC_HOME is {home!r}, which has no {MARKER}; set it to a clone.")
        return Path(home).resolve()
    package, current = Path(__file__).resolve().parent, Path.cwd()
    for folder in (*package.parents, current, *current.parents):
        if (folder / MARKER).is_file():
            return folder
    raise InputError(
        f"{MARKER} is neither above {package} nor above {current}; "
        "run inside a clone of the repository or set MLIC_HOME to one."
    )
