"""Data at the edge, through every method from the first step to the metrics: one image, one class, nothing to learn."""

import json
import math

import numpy as np
import pytest
import torch
from PIL import Image

from mlic_core import features
from mlic_core.data import MultiLabelDataset
from mlic_core.models import METHODS, activation, build_model, build_trunk
from mlic_core.study.evaluate import evaluate
from mlic_core.study.experiments import from_settings, method_options
from mlic_core.study.store import Store
from mlic_core.training import Recipe, fit, predict

SIZE = 32


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(features, "cache_folder", lambda: tmp_path / "features")


class Noise(MultiLabelDataset):
    """Images of noise, in a folder of their own."""

    def __init__(self, folder, targets):
        ids, labels = [f"{i:03}" for i in range(len(targets))], [f"class {c}" for c in range(targets.shape[1])]
        super().__init__(name="noise", split="train", labels=labels, targets=targets, ids=ids, size=SIZE)
        self.folder, rng = folder, np.random.default_rng(0)
        for index in range(len(ids)):
            Image.fromarray(rng.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)).save(self.image_path(index))

    def image_path(self, index):
        return self.folder / f"{self.ids[index]}.png"


def at_random(images, classes):
    return (np.random.default_rng(1).random((images, classes)) < 2.0 / classes).astype(np.int8)


def with_row(row, value):
    targets = at_random(6, 4)
    targets[row] = value
    return targets


def with_column(value):
    targets = at_random(6, 4)
    targets[:, 2] = value
    return targets


TARGETS = {
    "one image": np.array([[1, 0, 1]], dtype=np.int8),
    "one image without a label": np.zeros((1, 3), dtype=np.int8),
    "one image that is ignored": np.full((1, 3), -1, dtype=np.int8),
    "one class": np.array([[1], [0], [1], [0], [-1]], dtype=np.int8),
    "one class that all have": np.ones((5, 1), dtype=np.int8),
    "one class that none has": np.zeros((5, 1), dtype=np.int8),
    "1,000 classes": at_random(6, 1000),
    "a class that none has": with_column(0),
    "a class that all have": with_column(1),
    "a class that is ignored": with_column(-1),
    "an image that is ignored": with_row(3, -1),
    "a batch that is ignored": with_row(slice(0, 6), -1),
    "nobody has a label": np.zeros((6, 4), dtype=np.int8),
}


def built(method, classes):
    """The method with its defaults, but for what a small set of classes does not allow."""
    torch.manual_seed(0)
    options = {}
    if "topN" in method_options(method):
        options["topN"] = min(4, classes)
    if method == "cnn_rnn":
        options["beam"] = min(4, classes)
    return build_model(method, classes, build_trunk("pictonet-s", "none"), **options)


@pytest.mark.parametrize("case", TARGETS)
@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains_predicts_and_is_scored(tmp_path, method, case):
    dataset = Noise(tmp_path, TARGETS[case])
    model = built(method, len(dataset.labels))
    recipe = Recipe(epochs=2, batch_size=4, jitter=0.0, bf16=False, head_lr=0.01, lr=0.001)
    history = fit(model, dataset, recipe, seed=0)
    scores = predict(model, dataset)
    assert all(math.isfinite(row["loss"]) for row in history)
    assert scores.logits.shape == dataset.targets.shape and np.isfinite(scores.logits).all()
    chosen = activation(method, {**method_options(method)})
    metrics = evaluate(scores.logits, dataset.targets, dataset.labels, paths=scores.paths, activation=chosen)
    json.dumps(metrics, allow_nan=False)
    defined = [label for label, value in metrics["AP"].items() if value is not None]
    assert len(defined) == metrics["classes"] == int((dataset.targets == 1).any(0).sum())
    assert (metrics["mAP"] is None) == (not defined)


@pytest.mark.parametrize("method", sorted(METHODS.keys() - {"rdar"}))  # whose constraints on regions need no label
def test_a_loss_over_nothing_moves_no_weight(tmp_path, method):
    dataset = Noise(tmp_path, TARGETS["one image that is ignored"])
    model = built(method, 3)
    before = {name: value.clone() for name, value in model.named_parameters()}
    recipe = Recipe(epochs=1, jitter=0.0, bf16=False, weight_decay=0.0, frozen_norm=True)
    fit(model, dataset, recipe, seed=0)
    for name, value in model.named_parameters():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0, msg=name)


def test_a_run_whose_metrics_are_not_defined_is_stored_and_found(tmp_path):
    for name in "ab":
        Image.new("RGB", (SIZE, SIZE)).save(tmp_path / f"{name}.png")
    (tmp_path / "own.csv").write_text("image,split,cat\na.png,train,1\nb.png,val,0\n")
    settings = {"data.name": f"csv:{tmp_path / 'own.csv'}", "data.size": SIZE, "trunk.name": "pictonet-s",
                "trunk.weights": "none", "recipe.epochs": 1}  # fmt: skip
    store = Store(tmp_path / "runs")
    run = store.run(from_settings(settings))
    assert run.metrics["mAP"] is None and run.metrics["AP"] == {"cat": None}
    assert store.records()[0].metrics == run.metrics
