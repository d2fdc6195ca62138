"""A finished run on disk: what its folder holds, and its metrics by the present code."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from mlic_core.errors import InputError
from mlic_core.models import activation
from mlic_core.progress import say
from mlic_core.study import provenance
from mlic_core.study.evaluate import SIZES, evaluate_scores
from mlic_core.study.experiments import Data, from_settings, open_split
from mlic_core.study.files import sha256, with_checksum, without_checksum, write_json

NEEDED = ("method.name", "data.name", "seed")  # settings by which runs are listed
SCORES, HISTORY = "scores.npz", "history.jsonl"
ROUNDING = 1e-9  # percent points by which sums may differ between machines


@dataclass(frozen=True)
class Record:
    """A finished run. `metrics` are in percent, `seconds` of training and scoring, `peak_memory` in bytes.

    `code` is the digest of the code that made its weights and scores, `scoring` of the code that made its metrics,
    `files` has those of its scores and its history.
    `imported` is the name of the checkpoint that a model comes from which was trained elsewhere: see `checkpoints`.
    """

    folder: Path
    name: str
    config: Mapping[str, Any]
    metrics: Mapping[str, Any]
    seconds: float
    peak_memory: int | None
    versions: Mapping[str, str]
    commit: str | None
    dirty: bool | None
    device: str
    code: str
    scoring: str = ""  # of a record from before there was this digest
    files: Mapping[str, str] = field(default_factory=dict)  # none in early records
    imported: str = ""

    @property
    def method(self) -> str:
        """The method's name."""
        return self.config["method.name"]

    @property
    def activation(self) -> str:
        """What makes probabilities of its logits: "sigmoid", "softmax" (they are log-probabilities) or "none"."""
        own = {key: value for key, value in self.config.items() if key.startswith("method.")}
        return activation(self.method, {key.removeprefix("method."): value for key, value in own.items()})

    @property
    def stale(self) -> bool:
        """Whether the package's code for such a run has changed since."""
        return not self.imported and self.code != provenance.code_digest(self.method, self.config["data.name"])

    @property
    def outdated(self) -> bool:
        """Whether the code that computes metrics has changed since; `renewed` computes them again."""
        return not self.imported and self.scoring != provenance.scoring_digest()

    def scores(self) -> dict[str, np.ndarray]:
        """Arrays: logits fp32 (N, C), targets int8 (N, C) in {1, 0, -1}, ids (N,), labels (C,); where the method has
        them, steps (N, T, C), fp32 or for more than two fp16, paths int16 (N, beams, length) and path_log_probs fp32
        (N, beams); and where the data have boxes, largest fp32 (N, C), as `largest_objects` gives it, which early
        records lack.

        Raises InputError when the file is missing or broken.
        """
        path = self.folder / SCORES
        remedy = f"put it back, or remove {self.folder} to train the run again"
        if self.imported:
            remedy = f"`mlic run {self.folder} --eval-only` scores an imported checkpoint"
        try:
            self._check(path)
            with open(path, "rb") as file, np.load(file) as arrays:
                return dict(arrays)
        except FileNotFoundError:
            raise InputError(f"run {self.name} is stored without its scores: {path} is missing; {remedy}") from None
        except Exception as error:  # zipfile and NumPy raise a dozen kinds for bytes that went wrong
            raise InputError(f"cannot read {path} ({error}); {remedy}") from error

    def history(self) -> list[dict[str, float | int]]:
        """One dict an epoch, as `fit` returns them. Raises InputError when the file is missing or broken."""
        path = self.folder / HISTORY
        try:
            self._check(path)
            if text := path.read_text(encoding="utf-8"):
                return [json.loads(line) for line in text.splitlines()]
            raise ValueError("it is empty")
        except (OSError, ValueError, RecursionError) as error:
            remedy = f"put it back, or remove {self.folder} to train the run again"
            raise InputError(f"cannot read {path} ({error}); {remedy}") from error

    def _check(self, path: Path) -> None:
        if self.files.get(path.name, own := f"sha256:{sha256(path)}") != own:
            raise ValueError("it is not the file that run.json describes")


def read_record(folder: str | Path) -> Record:
    """A finished run from its folder. Raises InputError if the folder holds none."""
    path = Path(folder) / "run.json"
    try:
        content = without_checksum(json.loads(path.read_text(encoding="utf-8")))
        record = Record(folder=Path(folder), **content)
        missing = [key for key in NEEDED if key not in record.config]
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"{folder} holds no finished run: there is no run.json in it") from None
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{path} is not a run's record ({error}); remove its folder to train the run again") from error
    if missing or not all(isinstance(part, Mapping) for part in (record.config, record.metrics, record.files)):
        lacks = f"lacks {missing[0]}" if missing else "has no config and metrics"
        raise InputError(f"{path} is not a run's record (it {lacks}); remove its folder to train the run again")
    return record


def write_record(record: Record) -> None:
    """Write run.json, in one step."""
    content = {item.name: getattr(record, item.name) for item in fields(Record)[1:]}
    if not record.imported:
        del content["imported"]
    write_json(record.folder / "run.json", with_checksum(content))


def describe(record: Record) -> str:
    """A run in a few words: method, seed and mAP."""
    return f"{record.method} seed {record.config['seed']}, mAP {_shown(record.metrics['mAP'], 1)}"


def renewed(record: Record, data: Data) -> Record:
    """The record with its metrics by the present code, kept in its run.json. Raises as `present_metrics` does.

    Says so if a number changed. Numbers that differ in rounding alone stay, so that committed records do.
    """
    metrics = present_metrics(record, data)
    same = equal(record.metrics, metrics)
    new = replace(record, metrics=record.metrics if same else metrics, scoring=provenance.scoring_digest())
    write_record(new)
    if not same:
        before, after = (_shown(one.metrics["mAP"], 2) for one in (record, new))
        say(f"run {record.name} scored again, since the metrics' code has changed: mAP {before} before, {after} now")
    return new


def present_metrics(record: Record, data: Data | None = None) -> dict[str, Any]:
    """Metrics of a run from its stored scores, by the present code and without the model.

    data: where its data set is, for a record that has metrics by object size but is too early to hold the sizes
    themselves; by default the place of a picto-voc that is drawn here. Raises InputError without scores or, for such
    a record, without that data set's boxes.
    """
    arrays = record.scores()
    if "largest" not in arrays and any(f"mAP {size} objects" in record.metrics for size in SIZES):
        arrays["largest"] = _sizes(record, arrays, data or _recorded_data(record))
    return evaluate_scores(arrays, record.config["data.difficult_eval"], record.activation)


def _recorded_data(record: Record) -> Data:
    return from_settings({key: value for key, value in record.config.items() if key.startswith("data.")}).data


def _sizes(record: Record, arrays: Mapping[str, np.ndarray], data: Data) -> Float32[np.ndarray, "images classes"]:
    dataset = open_split(data, data.eval_split)
    if dataset.ids != tuple(arrays["ids"].tolist()):
        raise InputError(
            f"run {record.name} was scored on other images than {data.name} has in {data.eval_split}; "
            "give the folder of the ones it saw as data.root"
        )
    if not dataset.has_boxes:
        raise InputError(
            f"run {record.name} has metrics by object size, but {data.name} has lost its annotations; put them back"
        )
    return dataset.largest_objects()


def equal(stored: Any, new: Any) -> bool:
    """Whether metrics are the same but for rounding."""
    if isinstance(stored, Mapping) and isinstance(new, Mapping):
        return stored.keys() == new.keys() and all(equal(stored[key], new[key]) for key in stored)
    if isinstance(stored, list) and isinstance(new, list):
        return len(stored) == len(new) and all(map(equal, stored, new))
    if isinstance(stored, (int, float)) and isinstance(new, (int, float)):
        return abs(stored - new) <= ROUNDING
    return stored == new


def _shown(value: float | None, digits: int) -> str:
    return "undefined" if value is None else f"{value:.{digits}f}"
