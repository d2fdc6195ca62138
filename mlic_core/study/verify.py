"""Stored runs trained again, elsewhere, and compared with their records."""

import random
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mlic_core.errors import InputError
from mlic_core.progress import say
from mlic_core.study.experiments import RUN, Experiment, experiment_of
from mlic_core.study.record import Record, describe
from mlic_core.study.store import Store

TOLERANCE = 0.3  # mAP points by which another machine may differ


class Verified(NamedTuple):
    """A stored run and the same experiment trained again.

    `difference` is the new mAP less the stored one in points, NaN where one is undefined; `equal` says whether the
    scores of every image are the same to the bit.
    """

    stored: Record
    again: Record
    equal: bool
    difference: float

    @property
    def agrees(self) -> bool:
        """Whether the two are equal, or differ by no more than machines may."""
        return self.equal or abs(self.difference) <= TOLERANCE


def choose(records: Sequence[Record], count: int, seed: int) -> list[Record]:
    """`count` of the records, drawn at random, the quickest to train first.

    Raises InputError if there are fewer or none, or for a count below 1.
    """
    own = sorted((record for record in records if not record.imported), key=lambda record: record.name)
    if not own:
        raise InputError("there is no stored run to verify: name another --profile or --results")
    if not 1 <= count <= len(own):
        raise InputError(f"--sample {count}: choose 1 to {len(own)}, the number of stored runs")
    return sorted(random.Random(seed).sample(own, count), key=lambda record: record.seconds)


def verify(records: Sequence[Record], *, root: str = "") -> Iterator[Verified]:
    """Train each run anew in a temporary folder and compare; the records stay as they are.

    A run on the trunk of another one needs that run's model: it is trained anew too. root: folder of the data, for
    sets that are not drawn. Raises InputError as `experiment_of` does.
    """
    with tempfile.TemporaryDirectory(prefix="mlic-verify-") as folder:
        store = Store(folder)
        for record in records:
            yield compare(record, retrain(store, record, root))


def retrain(store: Store, record: Record, root: str) -> Record:
    """The same experiment in another store, and before it the run that its trunk comes from."""
    experiment = experiment_of(record.config, root=root)
    for base in _bases(experiment, record.folder.parent):
        retrain(store, base, root)
    return store.run(experiment)


def _bases(experiment: Experiment, runs: Path) -> list[Record]:
    weights = experiment.trunk.weights
    return [Store(runs).find(weights.removeprefix(RUN))] if weights.startswith(RUN) else []


def compare(stored: Record, again: Record) -> Verified:
    """The scores and the mAP of two records of one experiment."""
    arrays = [record.scores() for record in (stored, again)]
    equal = all(np.array_equal(*(one.get(key) for one in arrays)) for key in ("logits", "steps", "paths", "transforms"))
    values = [np.nan if (value := record.metrics["mAP"]) is None else value for record in (stored, again)]
    return Verified(stored, again, equal, float(values[1] - values[0]))


def report(found: Verified) -> str:
    """One line: what the run is, and how far the two are apart."""
    outcome = "equal to the bit" if found.equal else f"{found.difference:+.2f} mAP"
    if not found.agrees:
        outcome += f", more than {TOLERANCE}"
        outcome += ": made by other code" if found.stored.stale else ""
    elsewhere = "" if found.stored.device == found.again.device else f" (made on {found.stored.device})"
    return f"{found.stored.name}  {describe(found.stored)}: {outcome}{elsewhere}"


def announce(records: Sequence[Record]) -> None:
    """Say what will be trained and how long that took before."""
    say(f"{len(records)} runs took {sum(record.seconds for record in records) / 60:.0f} minutes when they were made")
