"""Other test-time options for a trained model: scored once, never mixed with other code, the run left alone."""

import json

import pytest

from mlic_core.data.picto import PictoSpec, prepare
from mlic_core.errors import InputError
from mlic_core.study import rescore as module
from mlic_core.study.experiments import from_settings
from mlic_core.study.files import with_checksum, without_checksum
from mlic_core.study.rescore import rescore
from mlic_core.study.store import Store

TINY = {"trunk": "pictonet-s", "trunk.weights": "none", "data.size": 32, "recipe.batch_size": 8, "recipe.epochs": 1}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A store with one MCAR run of two regions, and its experiment."""
    root = prepare(tmp_path_factory.mktemp("data") / "picto-voc", PictoSpec(train=16, val=4, test=12, side=64))
    experiment = from_settings({"data.root": str(root), **TINY, "method": "mcar", "method.topN": 2})
    store = Store(tmp_path_factory.mktemp("runs"))
    return store, experiment, store.run(experiment)


def forbid(*args, **kwargs):
    raise AssertionError("scored although the numbers are stored")


def test_without_regions_both_streams_are_the_global_one(trained):
    store, experiment, record = trained
    metrics = rescore(store, experiment, **{"method.topN": 0})
    global_map = record.metrics["mAP steps"][0]
    assert metrics["mAP"] == pytest.approx(global_map)
    assert metrics["mAP steps"] == pytest.approx([global_map] * 2)


def test_a_threshold_of_zero_makes_the_local_stream_the_global_one(trained):
    store, experiment, record = trained
    metrics = rescore(store, experiment, **{"method.tau": 0.0})
    assert metrics["mAP steps"][1] == pytest.approx(record.metrics["mAP steps"][0], abs=0.5)


def test_the_runs_own_options_give_its_own_metrics_without_scoring(trained, monkeypatch):
    store, experiment, record = trained
    monkeypatch.setattr(module, "score", forbid)
    assert rescore(store, experiment, **{"method.topN": 2}) == record.metrics


def test_numbers_are_scored_once_and_found_again_without_the_model(trained, monkeypatch):
    store, experiment, record = trained
    first = rescore(store, experiment, **{"method.topN": 3})
    monkeypatch.setattr(module, "score", forbid)
    monkeypatch.setattr(Store, "model", forbid)
    assert rescore(store, experiment, **{"method.topN": 3}) == first
    assert '{"method.topN": 3}' in json.loads((record.folder / "rescored.json").read_text())


def test_the_run_itself_stays_as_it_was(trained):
    store, experiment, record = trained
    before = {path.name: path.read_bytes() for path in record.folder.iterdir() if path.name != "rescored.json"}
    rescore(store, experiment, **{"method.selection": "bottom"})
    after = {path.name: path.read_bytes() for path in record.folder.iterdir() if path.name != "rescored.json"}
    assert after == before
    assert store.run(experiment) == record


def test_a_run_of_other_code_is_not_scored_again(trained, monkeypatch):
    store, experiment, _ = trained
    monkeypatch.setattr(module.Record, "stale", True)
    with pytest.raises(InputError, match="made by other code"):
        rescore(store, experiment, **{"method.topN": 5})


@pytest.mark.parametrize("change", [{"scoring": "other"}, {"code": "other"}, {"scoring": None}])
def test_numbers_of_other_code_are_computed_again(trained, change):
    store, experiment, record = trained
    first = rescore(store, experiment, **{"method.tau": 0.4})
    path, key = record.folder / "rescored.json", '{"method.tau": 0.4}'
    kept = json.loads(path.read_text())
    changed = without_checksum(kept[key]) | change | {"metrics": {"mAP": 1.0}}
    kept[key] = with_checksum({name: value for name, value in changed.items() if value})
    path.write_text(json.dumps(kept))
    assert rescore(store, experiment, **{"method.tau": 0.4}) == first
    entry = json.loads(path.read_text())[key]
    assert (entry["code"], entry["scoring"]) == (record.code, record.scoring)


@pytest.mark.parametrize("damage", [lambda text: text.replace('"mAP": ', '"mAP": 1', 1), lambda text: text[:-9],
                                    lambda text: "", lambda text: "[1]"])  # fmt: skip
def test_numbers_that_were_damaged_are_computed_again(trained, damage):
    store, experiment, record = trained
    first = rescore(store, experiment, **{"method.tau": 0.6})
    path = record.folder / "rescored.json"
    whole = path.read_text()
    path.write_text(damage(whole))
    assert rescore(store, experiment, **{"method.tau": 0.6}) == first
    assert json.loads(path.read_text())['{"method.tau": 0.6}'] == json.loads(whole)['{"method.tau": 0.6}']


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method.topn": 3}, "did you mean 'method.topN'"),
        ({"recipe.epochs": 2}, "recipe.epochs can't be changed after training"),
        ({"method.topN": 21}, "topN=21"),
    ],
)
def test_only_possible_options_of_the_method_can_change(trained, options, message):
    store, experiment, _ = trained
    with pytest.raises(InputError, match=message):
        rescore(store, experiment, **options)
