"""The object through which a notebook asks for runs and leaves its figures and tables."""

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float32
from torch import nn

from mlic_core.data import MultiLabelDataset
from mlic_core.errors import InputError, did_you_mean
from mlic_core.features import compute_features
from mlic_core.models import Prediction
from mlic_core.paths import repository_root
from mlic_core.progress import duration, say
from mlic_core.study import report
from mlic_core.study.experiments import RUN, Experiment, from_settings, open_split, run_name
from mlic_core.study.profile import load_profile
from mlic_core.study.record import Record
from mlic_core.study.store import Store
from mlic_core.study.unchanged import note
from mlic_core.training import default_device

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

PREDICTED = 100  # images at a time


class Study:
    """One profile of the study: its experiments, its runs, and the place of its results.

    `profile` holds the parameters, `folder` is results/PROFILE, `store` the runs in it.
    """

    def __init__(self, profile: str, *, root: str = "", results: str = ""):
        self.profile = load_profile(profile)
        self.root = root
        base = Path(results).expanduser() if results else repository_root() / "results"
        self.folder = base / profile
        self.store = Store(self.folder / "runs")

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seeds of the repeated runs."""
        return self.profile.seeds

    def sweep(self, name: str) -> tuple:
        """The values that the profile lists under a name. Raises InputError for a name that it lacks."""
        if name not in self.profile.sweeps:
            hint = did_you_mean(name, self.profile.sweeps)
            raise InputError(f"profile {self.profile.name} has no sweep {name!r}{hint}")
        return self.profile.sweeps[name]

    def experiment(
        self, method: str, *, seed: int | None = None, trunk_of: Experiment | None = None, **settings: Any
    ) -> Experiment:
        """A method with the profile's settings, changed by dotted ones: `experiment("mcar", **{"method.tau": 0.4})`.

        seed: the profile's first where none is given. trunk_of: another experiment on the same data, of whose run the
        trunk is taken, such as the baseline's. Raises InputError as `from_settings` does.
        """
        chosen = dict(self.profile.settings) | dict(self.profile.methods.get(method, {}))
        chosen |= {"method.name": method, "seed": self.seeds[0] if seed is None else seed}
        if trunk_of is not None:
            chosen |= {"trunk.name": trunk_of.trunk.name, "trunk.weights": RUN + run_name(trunk_of)}
        if self.root:
            chosen["data.root"] = self.root
        return from_settings(chosen | settings)

    def named(self, name: str, *, seed: int | None = None, **settings: Any) -> Experiment:
        """An experiment that the profile lists, changed by dotted settings. Raises as `lineage` does."""
        return self.lineage(name, seed=seed, **settings)[-1]

    def lineage(self, name: str, *, seed: int | None = None, **settings: Any) -> list[Experiment]:
        """An experiment that the profile lists, changed by dotted settings, and before it those that its trunk needs.

        Raises InputError for a name that the profile lacks, and as `from_settings` does.
        """
        chosen = self.listed(name)
        below, method = chosen.pop("trunk.of", None), chosen.pop("method.name")
        before = self.lineage(below, seed=seed) if below else []
        trunk_of = before[-1] if before else None
        return [*before, self.experiment(method, seed=seed, trunk_of=trunk_of, **(chosen | settings))]

    def listed(self, name: str) -> dict[str, Any]:
        """The settings of an experiment as the profile lists it. Raises InputError for a name that it lacks."""
        if name not in self.profile.experiments:
            hint = did_you_mean(name, self.profile.experiments)
            hint = hint or f"; it lists {', '.join(self.profile.experiments) or 'none'}"
            raise InputError(f"profile {self.profile.name} lists no experiment {name!r}{hint}")
        return dict(self.profile.experiments[name])

    def dataset(self, split: str, **settings: Any) -> MultiLabelDataset:
        """One split of the profile's data, e.g. "test"."""
        return open_split(self.experiment("classifier", **settings).data, split)

    def run(self, experiment: Experiment) -> Record:
        """The record of an experiment, trained first if there is none."""
        return self.store.run(experiment)

    def runs(self, experiments: Iterable[Experiment]) -> list[Record]:
        """The records of several experiments, in order; says how many are left and how long that may take."""
        experiments = list(experiments)
        missing = sum(self.store.get(experiment) is None for experiment in experiments)
        begun, trained, records = time.monotonic(), 0, []
        for experiment in experiments:
            new = self.store.get(experiment) is None
            records.append(self.store.run(experiment))
            trained += new
            if new and trained < missing:
                elapsed = time.monotonic() - begun
                left = elapsed / trained * (missing - trained)
                say(f"{trained} of {missing} runs trained, {duration(elapsed)}, about {duration(left)} left")
        return records

    def model(self, experiment: Experiment) -> nn.Module:
        """The trained model of an experiment, in evaluation mode."""
        return self.store.model(experiment)

    def features(self, experiment: Experiment) -> Float32[np.ndarray, "images ..."]:
        """The eval split's features of a method with a frozen trunk, from the cache of training."""
        return self._features(self._loaded(experiment), experiment)

    def predict(self, experiment: Experiment) -> Prediction:
        """All that the trained head of a method with a frozen trunk says of the eval split; kept nowhere."""
        model, found = self._loaded(experiment), []
        features = self._features(model, experiment)
        with torch.inference_mode():
            for batch in np.array_split(features, range(PREDICTED, len(features), PREDICTED)):
                found.append(model.head(torch.from_numpy(np.array(batch)).to(default_device())))
        return Prediction(*(None if parts[0] is None else torch.cat(parts).cpu() for parts in zip(*found, strict=True)))

    def _loaded(self, experiment: Experiment) -> nn.Module:
        """The model where and as training had it, so that the features are found which were computed then."""
        return self.model(experiment).to(default_device(), memory_format=torch.channels_last)

    @staticmethod
    def _features(model: nn.Module, experiment: Experiment) -> Float32[np.ndarray, "images ..."]:
        return compute_features(model, open_split(experiment.data, experiment.data.eval_split)).plain

    def watch(self, experiment: Experiment, after_epoch: Callable[[int, nn.Module], object]) -> None:
        """Train a model once more, stored nowhere: `after_epoch(number, model)` is called after each epoch."""
        self.store.watch(experiment, after_epoch)

    def save_figure(self, figure: "Figure", name: str, caption: str, runs: Iterable[Record] = ()) -> None:
        """Write figures/NAME.png and .svg, and list them in manifest.json with caption and runs."""
        report.save_figure(self.folder, figure, name, caption, runs)

    def save_table(self, frame: "pandas.DataFrame", name: str, caption: str, runs: Iterable[Record] = ()) -> None:
        """Write tables/NAME.csv and .md, and list them in manifest.json with caption and runs."""
        report.save_table(self.folder, frame, name, caption, runs)

    def saved_table(self, name: str) -> "pandas.DataFrame | None":
        """A table that another notebook has saved, empty cells as NaN; None where it has not run."""
        import pandas

        path = self.folder / "tables" / f"{name}.csv"
        note(path)
        return pandas.read_csv(path, keep_default_na=False, na_values=[""]) if path.is_file() else None

    def complete(self) -> None:
        """Print "complete": the batch takes a notebook without this line for one that ended too early."""
        print("complete")
