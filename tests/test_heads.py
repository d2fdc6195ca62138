"""Heads on frozen trunks in the run store: the trunk of another run, a method's own recipe, and scores of paths."""

import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import mlic_core.study
from mlic_core import features
from mlic_core.data.picto import PictoSpec, prepare
from mlic_core.errors import InputError
from mlic_core.metrics import protocol_matrix
from mlic_core.study.evaluate import evaluate, path_labels
from mlic_core.study.experiments import from_settings, method_recipe, run_name
from mlic_core.study.show import print_protocols
from mlic_core.study.store import Store, load_model

TINY = {"trunk": "pictonet-s", "trunk.weights": "none", "data.size": 32, "recipe.batch_size": 8, "recipe.epochs": 1}
HEAD = {"method": "cnn_rnn", "method.hidden": 8, "method.length": 4}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "picto-voc"
    return str(prepare(folder, PictoSpec(train=24, val=8, test=12, side=64)))


@pytest.fixture
def tiny(root):
    return lambda **changed: from_settings({"data.root": root, **TINY, **changed})


@pytest.fixture(scope="module")
def trained(root, tmp_path_factory):
    """A store with a baseline and a CNN-RNN on its trunk; not to be changed."""
    cache = tmp_path_factory.mktemp("features")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(features, "cache_folder", lambda: cache)
        runs = Store(tmp_path_factory.mktemp("runs"))
        baseline = runs.run(from_settings({"data.root": root, **TINY}))
        head = from_settings({"data.root": root, **TINY, **HEAD, "trunk.weights": f"run:{baseline.name}"})
        return runs, baseline, runs.run(head)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(features, "cache_folder", lambda: tmp_path / "features")


def trunk_of(folder):
    state = load_file(folder / "model.safetensors")
    return {key: value for key, value in state.items() if key.startswith("trunk.")}


def test_a_head_keeps_the_trunk_of_the_run_that_it_names(trained):
    _, baseline, head = trained
    before, after = trunk_of(baseline.folder), trunk_of(head.folder)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_a_record_names_the_run_and_no_file(trained):
    _, baseline, head = trained
    assert head.config["trunk.weights"] == f"run:{baseline.name}"


def test_another_trunk_is_another_run(tiny, trained):
    _, baseline, head = trained
    assert run_name(tiny(**HEAD, **{"trunk.weights": f"run:{baseline.name}"})) == head.name
    assert run_name(tiny(**HEAD)) != head.name


def test_a_head_is_loaded_without_the_run_that_its_trunk_came_from(trained, tmp_path):
    _, _, head = trained
    shutil.copytree(head.folder, tmp_path / head.name)
    assert type(load_model(tmp_path / head.name)).__name__ == "CNNRNN"


def test_a_baseline_stored_without_its_model_is_trained_again_for_the_head(trained, tiny, tmp_path):
    runs, baseline, head = trained
    shutil.copytree(runs.folder, tmp_path / "runs")
    (tmp_path / "runs" / baseline.name / "model.safetensors").unlink()
    shutil.rmtree(tmp_path / "runs" / head.name)
    again = Store(tmp_path / "runs").run(tiny(**HEAD, **{"trunk.weights": f"run:{baseline.name}"}))
    np.testing.assert_array_equal(again.scores()["logits"], head.scores()["logits"])


def test_a_trunk_of_a_run_that_is_not_stored_is_one_sentence(tiny, tmp_path):
    with pytest.raises(InputError, match=r"weights=run:0123456789ab: no such run is stored in .*; train it first"):
        Store(tmp_path / "runs").run(tiny(**HEAD, **{"trunk.weights": "run:0123456789ab"}))
    assert not list((tmp_path / "runs").glob("*/run.json"))


def test_scores_of_a_path_method_hold_its_paths(trained):
    arrays = trained[2].scores()
    assert arrays["paths"].shape == (12, 4, 4) and arrays["paths"].dtype == np.int16
    assert arrays["path_log_probs"].shape == (12, 4) and arrays["steps"].shape == (12, 2, 20)


def test_a_method_brings_its_own_recipe_and_settings_overrule_it():
    assert method_recipe("cnn_rnn").optimizer == "rmsprop" and method_recipe("classifier").optimizer == "sgd"
    chosen = from_settings({"method": "cnn_rnn", "recipe.head_lr": 0.5}).recipe
    assert (chosen.optimizer, chosen.head_lr, chosen.jitter) == ("rmsprop", 0.5, 0.0)


SCORES = np.log(np.array([[0.5, 0.3, 0.15, 0.05], [0.1, 0.2, 0.3, 0.4]]))
TARGETS = np.array([[1, 0, 1, 0], [0, 0, 1, 1]], dtype=np.int8)
LABELS = ("a", "b", "c", "d")


def test_labels_of_a_path():
    assert path_labels(np.array([[0, 2, -1], [-1, -1, -1]]), 4).tolist() == [[True, False, True, False], [False] * 4]


def test_labels_of_the_best_path_are_scored_all_and_at_most_three():
    paths = np.array([[[0, 1, 2, 3], [0, -1, -1, -1]], [[3, -1, -1, -1], [0, 1, -1, -1]]])
    metrics = evaluate(SCORES, TARGETS, LABELS, paths=paths, activation="softmax")
    # Image 0 is given all four labels, two of them right, or its three best; image 1 one label, right.
    assert (metrics["O-P path"], metrics["O-R path"]) == (pytest.approx(60), pytest.approx(75))
    assert (metrics["O-P path@3"], metrics["O-R path@3"]) == (pytest.approx(75), pytest.approx(75))


@pytest.mark.parametrize(("activation", "rule"), [("sigmoid", "p > 0.5"), ("softmax", "top-3"), ("none", "top-3")])
def test_only_a_sigmoid_is_compared_with_a_threshold(activation, rule):
    metrics = evaluate(SCORES, TARGETS, LABELS, activation=activation)
    assert metrics["rule"] == rule
    assert (metrics["O-P"] == metrics["O-P@3"]) == (rule == "top-3")
    assert metrics["O-R@3"] == pytest.approx(100)
    assert metrics["MAP@10"] == pytest.approx(100 * ((1 + 2 / 3) / 2 + 1) / 2)


def test_protocols_of_a_path_method_compare_its_own_probabilities_with_the_threshold(trained, monkeypatch):
    seen = []
    monkeypatch.setattr("mlic_core.metrics.protocol_matrix", lambda *a, **k: seen.append(k) or protocol_matrix(*a, **k))
    print_protocols(trained[2])
    np.testing.assert_allclose(seen[0]["probabilities"], np.exp(trained[2].scores()["logits"].astype(np.float64)))


def test_a_notebook_sees_all_that_a_head_says_as_it_was_scored(root, tmp_path):
    opened = mlic_core.study.open("smoke", root=root, results=str(tmp_path / "results"))
    drawn = {f"data.picto.{key}": value for key, value in {"train": 24, "val": 8, "test": 12, "side": 64}.items()}
    baseline = opened.experiment("classifier", **TINY, **drawn)
    opened.run(baseline)
    options = {"method.hidden": 8, "method.units": 4, "method.T": 3, "data.size": 32, "recipe.batch_size": 8}
    experiment = opened.experiment("gla", trunk_of=baseline, **options, **drawn)
    record = opened.run(experiment)
    found = opened.predict(experiment)
    assert np.array_equal(found.logits.numpy(), record.scores()["logits"])
    kept = record.scores()["steps"]
    assert kept.dtype == np.float16 and np.array_equal(found.steps.numpy().astype(np.float16), kept)
    assert found.maps.shape == (12, 4, *found.maps.shape[2:]) and found.regions is None
    torch.testing.assert_close(found.maps.sum((2, 3)), torch.ones(12, 4))
