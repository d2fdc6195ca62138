"""Runs that were never trained, for tests of what is done with a stored model: no data, no minutes."""

import torch

from mlic_core.study.experiments import config, from_settings
from mlic_core.study.record import Record, write_record
from mlic_core.study.store import new_model, save_model

LABELS = ("person", "dog", "car", "traffic light", "Mäuse 犬")


def untrained_run(folder, labels=LABELS, *, method, size=32, trunk="pictonet-s", **options):
    """A stored run in `folder` with random weights, drawn wide enough that scores and maps differ."""
    chosen = {f"method.{key}": value for key, value in options.items()}
    shape = {"method.name": method, "trunk.name": trunk, "trunk.weights": "none", "data.size": size}
    experiment = from_settings(shape | chosen)
    model = new_model(experiment, len(labels))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if not name.startswith("trunk.") and weight.dim() > 1:
                weight.mul_(4)
    folder.mkdir(parents=True, exist_ok=True)
    save_model(folder, model, tuple(labels))
    record = Record(
        folder=folder, name=folder.name, config=config(experiment), metrics={"mAP": None}, seconds=0.0,
        peak_memory=None, versions={}, commit=None, dirty=None, device="cpu", code="",
    )  # fmt: skip
    write_record(record)
    return record
