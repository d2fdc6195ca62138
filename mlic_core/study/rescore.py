"""A trained model scored again with other test-time options, such as another number of regions."""

import json
from pathlib import Path
from typing import Any

from mlic_core.errors import InputError
from mlic_core.models import activation
from mlic_core.study.experiments import Experiment, from_settings, open_split, settings
from mlic_core.study.files import exclusive, with_checksum, without_checksum, write_json
from mlic_core.study.record import Record
from mlic_core.study.store import Store, new_model, score

RESCORED = "rescored.json"


def rescore(store: Store, experiment: Experiment, **options: Any) -> dict[str, Any]:
    """Metrics of an experiment's trained model, as `evaluate` returns them, with options of its method changed for
    scoring alone: `rescore(store, experiment, **{"method.tau": 0.3})`.

    They are kept in the run's folder: scored once, and found again where the model itself was not kept, but scored
    again when the metrics' code changes, since the scores are not kept. Trains the run if there is none. Raises
    InputError for what is no option of the method, and for a run that other code made.
    """
    changed = from_settings(settings(experiment) | options)
    before, after = settings(experiment), settings(changed)
    differing = {key: value for key, value in after.items() if value != before.get(key)}
    if foreign := [key for key in differing if not key.startswith("method.") or key == "method.name"]:
        raise InputError(f"{foreign[0]} can't be changed after training: train another run with it")
    record = store.run(experiment)
    if not differing:
        return dict(record.metrics)
    key, path = json.dumps(differing, sort_keys=True), record.folder / RESCORED
    with exclusive(record.folder / ".rescored.lock", f"run {record.name} is being scored by another process"):
        kept = _read(path)
        made_by = {"code": record.code, "scoring": record.scoring}
        if made_by != {digest: kept.get(key, {}).get(digest) for digest in made_by}:
            kept[key] = with_checksum(made_by | {"metrics": _score(store, experiment, changed, record)})
            write_json(path, dict(sorted(kept.items())))
    return kept[key]["metrics"]


def _read(path: Path) -> dict[str, Any]:
    """What was kept; nothing where there is no such file or a broken one, so that it is made again."""
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        return {key: entry for key, entry in kept.items() if without_checksum(entry)}
    except (FileNotFoundError, ValueError, AttributeError, RecursionError):
        return {}


def _score(store: Store, experiment: Experiment, changed: Experiment, record: Record) -> dict[str, Any]:
    if record.stale:
        raise InputError(
            f"run {record.name} was made by other code and can't be scored again beside its own numbers; "
            f"remove {record.folder.name} from the runs to train it anew"
        )
    dataset = open_split(experiment.data, experiment.data.eval_split)
    model = new_model(changed, len(dataset.labels), weights="none")
    model.load_state_dict(store.model(experiment).state_dict())
    kind = activation(changed.method.name, changed.method.options)
    return score(model, dataset, experiment.data.difficult_eval, kind)[1]
