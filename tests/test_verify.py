"""`mlic verify`: runs trained again agree with their records, and what was tampered with does not."""

import json
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner

from mlic_core import features
from mlic_core.data.picto import PictoSpec, prepare
from mlic_core.errors import InputError
from mlic_core.study import verify
from mlic_core.study.cli import main
from mlic_core.study.experiments import RUN, from_settings, run_name
from mlic_core.study.store import Store

TINY = {"trunk": "pictonet-s", "recipe.batch_size": 8, "recipe.epochs": 1, "data.size": 48}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Results with a baseline and a head on its trunk, and the root of their data."""
    root = prepare(tmp_path_factory.mktemp("data") / "picto-voc", PictoSpec(train=16, val=8, test=8, side=96))
    results, cache = tmp_path_factory.mktemp("results"), tmp_path_factory.mktemp("features")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(features, "cache_folder", lambda: cache)
        store = Store(results / "study" / "runs")
        base = from_settings({"data.root": str(root), "method": "classifier", "trunk.weights": "none", **TINY})
        store.run(base)
        weights = {"trunk.weights": RUN + run_name(base)}
        head = from_settings({"data.root": str(root), "method": "linear", **TINY, **weights})
        store.run(head)
        yield results, store, str(root)


def files(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_runs_trained_again_are_equal_to_the_bit_and_leave_the_records_alone(made):
    results, store, root = made
    before = files(results)
    found = list(verify.verify(store.records(), root=root))
    assert [(one.equal, one.difference, one.agrees) for one in found] == [(True, 0.0, True)] * 2
    assert all(one.again.folder != one.stored.folder for one in found)
    assert not any(one.again.folder.exists() for one in found)  # the temporary folder is gone
    assert files(results) == before


def test_a_changed_record_is_found_and_ends_with_status_1(made, tmp_path):
    results, store, root = made
    record = next(one for one in store.records() if one.method == "classifier")
    folder = tmp_path / "study" / "runs" / record.name
    folder.mkdir(parents=True)
    for path in record.folder.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    content = json.loads((folder / "run.json").read_text())
    content["metrics"]["mAP"] -= 5
    del content["files"], content["sha256"]
    (folder / "run.json").write_text(json.dumps(content))
    with np.load(folder / "scores.npz") as arrays:
        changed = dict(arrays) | {"logits": arrays["logits"] + np.float32(1e-6)}
    np.savez(folder / "scores.npz", **changed)
    arguments = ["verify", "--sample", "1", "--results", str(tmp_path), "--data-root", root]
    outcome = CliRunner().invoke(main, arguments)
    assert outcome.exit_code == 1
    assert "+5.00 mAP, more than 0.3" in outcome.output
    arguments[4] = str(results)
    arguments += ["--run", record.name[:6]]
    outcome = CliRunner().invoke(main, arguments)
    assert (outcome.exit_code, "equal to the bit" in outcome.output) == (0, True)


@pytest.mark.parametrize(("difference", "agrees"), [(0.3, True), (-0.3, True), (0.31, False), (float("nan"), False)])
def test_another_machine_may_differ_by_three_tenths(made, difference, agrees):
    record = made[1].records()[0]
    assert verify.Verified(record, record, False, difference).agrees is agrees


def test_the_report_names_the_machine_where_it_is_another(made):
    record = made[1].records()[0]
    here, there = (verify.Verified(one, record, False, 0.1) for one in (record, replace(record, device="a GPU")))
    assert "(made on a GPU)" in verify.report(there) and "made on" not in verify.report(here)
    assert "+0.10 mAP" in verify.report(here)


def test_the_sample_is_drawn_by_its_seed_and_the_quickest_comes_first(made):
    record = made[1].records()[0]
    records = [replace(record, name=f"{i:02}", seconds=float(-i)) for i in range(20)]
    first = verify.choose(records, 5, seed=1)
    assert first == verify.choose(records[::-1], 5, seed=1) != verify.choose(records, 5, seed=2)
    assert [one.seconds for one in first] == sorted(one.seconds for one in first)
    assert len({one.name for one in first}) == 5


@pytest.mark.parametrize("count", [0, 3])
def test_more_runs_than_there_are_can_not_be_drawn(made, count):
    with pytest.raises(InputError, match="choose 1 to 2, the number of stored runs"):
        verify.choose(made[1].records(), count, 0)
    imported = replace(made[1].records()[0], imported="weights.pth")
    with pytest.raises(InputError, match="no stored run to verify"):
        verify.choose([imported], 1, 0)
