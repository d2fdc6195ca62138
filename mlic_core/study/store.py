"""The run store: an experiment is trained once, and its record is found again by the experiment's name."""

import hashlib
import io
import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from mlic_core import distributed
from mlic_core.data import MultiLabelDataset
from mlic_core.errors import InputError
from mlic_core.images import IN_MEMORY, decode
from mlic_core.models import activation, build_model, build_trunk
from mlic_core.progress import duration, say, track
from mlic_core.study import provenance, unfinished
from mlic_core.study.evaluate import evaluate_scores
from mlic_core.study.experiments import RUN, Experiment, config, experiment_of, from_settings, open_splits, run_name
from mlic_core.study.files import exclusive, sha256, write_atomically
from mlic_core.study.memory import keep_freed_memory
from mlic_core.study.record import HISTORY, SCORES, Record, describe, read_record, renewed, write_record
from mlic_core.study.unchanged import note
from mlic_core.training import CHECKPOINT, fit, predict

MODEL = "model.safetensors"
AGREEMENT = 1.0  # mAP points by which a retrained model may differ on another machine


class Store:
    """Runs in a folder, one subfolder each."""

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)

    def get(self, experiment: Experiment) -> Record | None:
        """The finished run of an experiment, or None.

        Raises InputError if a default has changed since, so that the run of that name had other settings.
        """
        name = run_name(experiment)
        if not (self.folder / name / "run.json").is_file():
            return None
        record = read_record(self.folder / name)
        for key, value in config(experiment).items():
            if key in record.config and record.config[key] != value:
                raise InputError(
                    f"run {name} was made with {key}={record.config[key]}, not {value}: a default has changed since; "
                    f"remove {record.folder} to train it anew"
                )
        return record

    def run(self, experiment: Experiment) -> Record:
        """The record of an experiment, trained first if there is none; resumes where a killed run stopped.

        Metrics of a stored run that other code computed are computed again from its scores. A second process that
        asks for the same run waits. Raises InputError for missing or broken input, and then leaves nothing behind.
        """
        if distributed.everywhere(self.get(experiment) is None):
            self._train(experiment)
        record = self.get(experiment)
        note(record.folder / "run.json")
        left_over = (record.folder / MODEL).is_file() and unfinished.is_left(record.folder)
        if not (record.outdated or left_over) or distributed.rank():
            return record
        with self._exclusive(record.name):
            if left_over:  # by a process that was killed between its last two steps
                unfinished.remove(record.folder)
            record = read_record(record.folder)  # another process may have renewed it meanwhile
            return renewed(record, experiment.data) if record.outdated else record

    def _train(self, experiment: Experiment) -> None:
        name, splits = run_name(experiment), open_splits(experiment.data)
        model = self._untrained(experiment, len(splits["train"].labels))
        for dataset in splits.values():  # a broken file is found before an hour of training
            check_images(dataset)
        with self._exclusive(name):
            # Perhaps by the process that had the lock before.
            if distributed.everywhere(self.get(experiment) is not None):
                return
            folder = self.folder / name
            with _fresh_folder(folder):
                outcome = train(model, experiment, splits, folder)
                if distributed.rank() == 0:
                    _finish(folder, name, experiment, model, splits["eval"], outcome)
                distributed.everywhere(None)  # the others wait until it is written

    def model(self, experiment: Experiment) -> nn.Module:
        """The trained model of an experiment, in evaluation mode.

        A record without its model (models are not committed) is trained again. Raises RuntimeError if that disagrees
        with the record; the record stays as it is.
        """
        record = self.run(experiment)
        weights = record.folder / MODEL
        with self._exclusive(record.name):
            if not weights.is_file():
                say(f"run {record.name} is stored without its model: training it again")
                splits = open_splits(experiment.data)
                model = self._untrained(experiment, len(splits["train"].labels))
                outcome = train(model, experiment, splits, record.folder)
                _must_agree(record, outcome["metrics"])
                save_model(record.folder, model, splits["train"].labels)
        return load_model(record.folder)

    def watch(self, experiment: Experiment, after_epoch: Callable[[int, nn.Module], object]) -> None:
        """Train an experiment's model once more, as `run` does but stored nowhere, to look at it after each epoch.

        after_epoch: called with the number of the epoch, from 1, and the model.
        """
        train = open_splits(experiment.data)["train"]
        model, label = self._untrained(experiment, len(train.labels)), f"watching {experiment.method.name}"
        how = dict(seed=experiment.seed, difficult=experiment.data.difficult_train)
        fit(model, train, experiment.recipe, label=label, after_epoch=after_epoch, **how)

    def _untrained(self, experiment: Experiment, num_classes: int) -> nn.Module:
        weights = experiment.trunk.weights
        if not weights.startswith(RUN):
            return new_model(experiment, num_classes)
        name = weights.removeprefix(RUN)
        if not (self.folder / name / "run.json").is_file():
            raise InputError(f"trunk.weights={weights}: no such run is stored in {self.folder}; train it first")
        source = experiment_of(read_record(self.folder / name).config, root=experiment.data.root)
        if run_name(source) != name:
            raise InputError(f"trunk.weights={weights}: that run saw other data than there are now; train it again")
        if distributed.world() > 1 and not (self.folder / name / MODEL).is_file():
            raise InputError(f"trunk.weights={weights}: that run is stored without its model; train it first, alone")
        self.model(source)  # trains it again where its model was not kept
        return new_model(experiment, num_classes, weights=self.folder / name / MODEL)

    def records(self) -> list[Record]:
        """Every finished run, by method, data and seed."""
        found = [read_record(path.parent) for path in self.folder.glob("*/run.json")]
        return sorted(found, key=lambda run: (run.method, run.config["data.name"], run.config["seed"], run.name))

    def unfinished(self) -> list[str]:
        """Names of the runs that stopped between two epochs and go on when they are asked for."""
        folders = [path.parent for path in self.folder.glob(f"*/{CHECKPOINT}")]
        return sorted(folder.name for folder in folders if not (folder / "run.json").is_file())

    def find(self, prefix: str) -> Record:
        """The one run whose name begins with `prefix`. Raises InputError if none or several do."""
        found = [record for record in self.records() if record.name.startswith(prefix)]
        if len(found) != 1:
            names = ": " * bool(found) + ", ".join(record.name for record in found)
            raise InputError(f"{len(found) or 'no'} runs in {self.folder} are named {prefix}...{names}")
        return found[0]

    def _exclusive(self, name: str):
        if distributed.rank():  # the first process holds the lock for all
            return nullcontext()
        return exclusive(self.folder / f".{name}.lock", f"another process is at work on run {name}")


@contextmanager
def _fresh_folder(folder: Path) -> Iterator[None]:
    """Make a run's folder; if it was not there before and the run proves impossible, take it away again.

    Unless an epoch of it went well: its checkpoint is kept.
    """
    fresh = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except (InputError, FloatingPointError):
        if fresh and not (folder / CHECKPOINT).is_file():
            shutil.rmtree(folder)
        raise


def new_model(experiment: Experiment, num_classes: int, weights: str | Path | None = None) -> nn.Module:
    """The untrained model; what no weights file gives is drawn from the experiment's seed.

    weights: of the trunk, as `build_trunk` takes them, in place of the experiment's.
    """
    keep_freed_memory()
    torch.manual_seed(experiment.seed)
    trunk = build_trunk(experiment.trunk.name, experiment.trunk.weights if weights is None else weights)
    return build_model(experiment.method.name, num_classes, trunk, **experiment.method.options)


def load_model(folder: str | Path) -> nn.Module:
    """The trained model of a run's or an imported folder, in evaluation mode.

    Raises InputError if the folder holds none, or a damaged one.
    """
    record = read_record(folder)
    labels = stored_labels(record)
    options = {key: value for key, value in record.config.items() if key.startswith(("method.", "trunk."))}
    experiment = from_settings(options | {"trunk.weights": "none"})
    model = new_model(experiment, len(labels))
    path = record.folder / MODEL
    state = safetensors.torch.load_file(path)
    if _about(path).get("sha256", digest := _digest(state)) != digest:
        raise InputError(f"{path} is damaged; remove it, and {_remedy(record)}")
    model.load_state_dict(state)
    return model.eval()


def stored_labels(record: Record) -> tuple[str, ...]:
    """The names of the classes of a run's model. Raises InputError if the run is stored without its model, or if that
    is no safetensors file."""
    path = record.folder / MODEL
    if not path.is_file():
        raise InputError(f"run {record.name} is stored without its model; {_remedy(record)}")
    try:
        return tuple(_about(path)["labels"])
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is damaged ({error}); remove it, and {_remedy(record)}") from error


def _remedy(record: Record) -> str:
    if record.imported:
        return f"remove {record.folder} and import {record.imported} again"
    return "`mlic run --eval-only` trains it again"


def _about(path: Path) -> dict[str, Any]:
    """What a model's file says of it: `labels` and, except in early ones, `sha256` of its weights."""
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    return json.loads(metadata["about"]) if "about" in metadata else {"labels": json.loads(metadata["labels"])}


def _digest(state: Mapping[str, torch.Tensor]) -> str:
    digest = hashlib.sha256()
    for key in sorted(state):
        digest.update(f"{key} {state[key].dtype} {tuple(state[key].shape)}".encode())
        digest.update(state[key].contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def check_images(dataset: MultiLabelDataset) -> None:
    """Decode every image once. Raises InputError naming the first that is broken."""
    if len(dataset) * 3 * dataset.size**2 <= IN_MEMORY:
        decode(dataset)  # which training and scoring need anyway
        return
    with ThreadPoolExecutor() as pool:
        checked = pool.map(lambda index: dataset.original(index) and None, range(len(dataset)))
        for _ in track(checked, total=len(dataset), label=f"checking {dataset.split}"):
            pass


def train(model: nn.Module, experiment: Experiment, splits: Mapping[str, MultiLabelDataset], folder: Path) -> dict:
    """Train the model in place and score it: history, seconds, scores (arrays) and metrics."""
    code = provenance.code_digest(experiment.method.name, experiment.data.name)
    spent = unfinished.begin(folder, code) if distributed.rank() == 0 else 0.0
    begun = time.monotonic()

    def keep_seconds(*_: object) -> None:
        if distributed.rank() == 0:
            unfinished.write_stamp(folder, code, spent + time.monotonic() - begun)

    with unfinished.full_disk_said():
        history = fit(
            model,
            splits["train"],
            experiment.recipe,
            seed=experiment.seed,
            difficult=experiment.data.difficult_train,
            monitor=splits.get("monitor"),
            folder=folder,
            label=f"{experiment.method.name} seed {experiment.seed}",
            after_epoch=keep_seconds,
        )
    how = experiment.data.difficult_eval, activation(experiment.method.name, experiment.method.options)
    scores, metrics = score(model, splits["eval"], *how)
    seconds = spent + time.monotonic() - begun
    return {"history": history, "seconds": seconds, "scores": scores, "metrics": metrics}


def score(
    model: nn.Module, dataset: MultiLabelDataset, difficult: str, activation: str = "sigmoid"
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Arrays as `Record.scores` returns them, and metrics as `evaluate` does."""
    scores = predict(model, dataset)
    arrays = {"logits": scores.logits, "targets": dataset.targets}
    arrays |= {"ids": np.array(dataset.ids), "labels": np.array(dataset.labels)}
    if scores.paths is not None:
        arrays["paths"] = scores.paths.astype(np.int16)
    for name in ("steps", "path_log_probs", "transforms"):
        if getattr(scores, name) is not None:
            arrays[name] = getattr(scores, name)
    if scores.steps is not None and scores.steps.shape[1] > 2:
        arrays["steps"] = scores.steps.astype(np.float16)  # else they would be most of what is kept of a run
    arrays |= {"largest": dataset.largest_objects()} if dataset.has_boxes else {}
    return arrays, evaluate_scores(arrays, difficult, activation)


def _finish(folder: Path, name: str, experiment: Experiment, model: nn.Module, dataset, outcome: dict) -> None:
    """Write what a record consists of, run.json last, so that a folder with it is complete."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **outcome["scores"])
    write_atomically(folder / SCORES, buffer.getvalue())
    write_atomically(folder / HISTORY, "".join(json.dumps(row) + "\n" for row in outcome["history"]))
    save_model(folder, model, dataset.labels)
    commit, dirty = provenance.git_state()
    record = Record(
        folder=folder,
        name=name,
        config=config(experiment),
        metrics=outcome["metrics"],
        seconds=round(outcome["seconds"], 1),
        peak_memory=provenance.peak_memory(),
        versions=provenance.versions(),
        commit=commit,
        dirty=dirty,
        device=provenance.device_name(),
        code=provenance.code_digest(experiment.method.name, experiment.data.name),
        scoring=provenance.scoring_digest(),
        files={name: f"sha256:{sha256(folder / name)}" for name in (SCORES, HISTORY)},
    )
    write_record(record)
    unfinished.remove(folder)
    say(f"run {name}: {describe(record)}, {duration(record.seconds)}")


def save_model(folder: Path, model: nn.Module, labels: tuple[str, ...]) -> None:
    """Write a model, the names of its classes and a checksum into a run's folder."""
    state = {key: value.cpu().contiguous() for key, value in model.state_dict().items()}
    # One entry of metadata: the order of several would change from run to run.
    about = json.dumps({"labels": labels, "sha256": _digest(state)})
    write_atomically(folder / MODEL, safetensors.torch.save(state, {"about": about}))


def _must_agree(record: Record, metrics: Mapping[str, Any]) -> None:
    unfinished.remove(record.folder)
    stored, new = record.metrics["mAP"], metrics["mAP"]
    if stored != new and (stored is None or new is None or abs(stored - new) > AGREEMENT):
        cause = "other code" if record.stale else "another machine or other versions"
        raise RuntimeError(f"run {record.name} has mAP {stored}, trained again {new}; it was made by {cause}")
