"""The harness around the science: experiments, the run store, profiles and the batch.

A notebook opens a study, `study = mlic_core.study.open(profile, root=root, results=results)`, and asks it for runs.
torch is imported when it is needed, so that `mlic --help` is quick.
"""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

    from mlic_core.study.experiments import Experiment
    from mlic_core.study.notebook import Study
    from mlic_core.study.record import Record


def open(profile: str, *, root: str = "", results: str = "") -> "Study":
    """The study with a profile's parameters. root: folder of the data, empty for picto-voc's own place.
    results: folder of all results, empty for the repository's. A file that MLIC_PLUGIN names is imported first.
    Raises InputError for an unknown profile, and for a plugin that fails.
    """
    from mlic_core.study.notebook import Study
    from mlic_core.study.plugins import load_plugin

    load_plugin()
    return Study(profile, root=root, results=results)


def run(experiment: "Experiment") -> "Record":
    """The record of an experiment in results/own, trained first if there is none. Raises as `Store.run` does."""
    from mlic_core.paths import repository_root
    from mlic_core.study.store import Store

    return Store(repository_root() / "results" / "own" / "runs").run(experiment)


def load_model(folder: str | Path) -> "nn.Module":
    """The trained model of a run's folder, in evaluation mode. Raises InputError if the folder holds none."""
    from mlic_core.study.store import load_model

    return load_model(folder)
