"""The benchmarks: each is built small and agrees with its peer. No time is asserted."""

import json
import re
import time

import numpy as np
import pytest
import torch

from benchmarks import Benchmark, Figure
from benchmarks.__main__ import arguments, builders, check, figure, main, measure
from benchmarks.metrics import loop_over_images
from benchmarks.rdar import one_pass, ten_passes
from mlic_core.metrics import average_precision
from mlic_core.models import build_model
from mlic_core.models.backbones import Trunk

SMALL = [one for build in builders() for one in build(0.005)]
ROW = {"name", "ratio", "ratio_min", "ours", "peer", "n"}


@pytest.mark.parametrize("benchmark", [one for one in SMALL if isinstance(one, Benchmark)], ids=lambda one: one.name)
def test_both_sides_agree(benchmark):
    assert check(benchmark) > 0


@pytest.mark.parametrize("asked", [one for one in SMALL if isinstance(one, Figure)], ids=lambda one: one.name)
def test_a_figure_is_a_positive_number(asked):
    row = figure(asked._replace(runs=1))
    assert row["value"] > 0 and row["n"] == 1


def test_names_are_unique_and_begin_with_the_module():
    names = [one.name for one in SMALL]
    assert {"metrics/map/sklearn", "metrics/map/torchmetrics", "metrics/map/loop"} <= set(names)
    assert {"rdar/ten_view/ten_passes", "rdar/ten_view/ten_passes/vgg16", "rdar/ten_view/one_view"} <= set(names)
    assert {"training/loop/bare", "data/loader/pillow"} <= set(names)
    assert len(set(names)) == len(names)
    assert [name for name in names if not re.fullmatch(r"[a-z_]+/[a-z0-9_-]+/[a-z0-9_-]+(/[a-z\d]+)?", name)] == []


def test_a_side_that_disagrees_is_not_timed():
    with pytest.raises(AssertionError, match="a/b/c"):
        measure(Benchmark("a/b/c", "", lambda: np.ones(2), lambda: np.array([1.0, 1.1])))


def test_the_loop_gives_the_average_precision_of_a_ranking_worked_out_by_hand():
    scores, targets = np.array([[0.9], [0.8], [0.7], [0.6]]), np.array([[0], [1], [0], [1]])
    assert loop_over_images(scores, targets) == [(1 / 2 + 2 / 4) / 2]
    assert average_precision(scores, targets)[0] == pytest.approx(0.5)


def test_ten_views_are_ten_passes_where_the_trunk_sees_one_cell_at_a_time():
    torch.manual_seed(0)
    cells = torch.nn.Conv2d(3, 8, 16, 16)
    with torch.no_grad():
        cells.weight.add_(cells.weight.flip(3))  # so that a mirror image has mirrored maps
    model = build_model("rdar", 20, Trunk(cells, 8, 16), hidden=16, start="xavier").eval()
    model.localise.weight.data.mul_(3)  # regions that follow what is seen
    model.classify.weight.data.mul_(30)
    images = torch.randn(3, 3, 256, 256)
    found, expected = one_pass(model, images, "ten"), ten_passes(model, images)
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-4)
    assert np.abs(one_pass(model, images, "five") - expected).max() > 0.01


def test_the_ratio_is_above_one_where_ours_is_faster_and_a_slow_pair_runs_three_times():
    def after(delay):
        return lambda: time.sleep(delay) or 0.0

    row = measure(Benchmark("a/b/c", "", after(0.002), after(0.02)), budget=0.01)
    assert row["ours"] >= 0.002 and row["peer"] >= 0.02
    assert 1 < row["ratio_min"] <= row["ratio"]
    assert row["n"] == 3 and set(row) == ROW


def test_the_files_hold_every_benchmark(tmp_path, monkeypatch):
    monkeypatch.setattr("benchmarks.__main__.BUDGET", 0.0)
    monkeypatch.setattr("benchmarks.__main__.builders", lambda names: [lambda scale: SMALL_PAIR])
    main(tmp_path)
    [row] = json.loads((tmp_path / "bench.json").read_text())
    assert set(row) == ROW and row["name"] == "a/b/c"
    [alone] = json.loads((tmp_path / "bench_figures.json").read_text())
    assert alone == {"name": "a/b/d", "value": 1.5, "unit": "s", "goal": 2.0, "n": 5}
    text = (tmp_path / "bench.md").read_text()
    assert f"| a/b/c | sums | {row['ratio']} | {row['ratio_min']} | 5 |" in text
    assert "| a/b/d | cost | 1.5 s | 2 | 5 |" in text


def test_a_run_of_some_modules_is_printed_and_leaves_the_files(tmp_path, monkeypatch, capsys):
    def build(names):
        assert names == ["metrics", "rdar"]
        return [lambda scale: SMALL_PAIR]

    monkeypatch.setattr("benchmarks.__main__.BUDGET", 0.0)
    monkeypatch.setattr("benchmarks.__main__.builders", build)
    main(tmp_path, names=arguments(["metrics", "rdar"]))
    assert "| a/b/c | sums |" in capsys.readouterr().out and list(tmp_path.iterdir()) == []


def test_modules_are_chosen_by_name_and_all_run_without_one(capsys):
    assert {build.__module__ for build in builders(["rdar"])} == {"benchmarks.rdar"}
    everything = {build.__module__ for build in builders()}
    names = ("cli", "cnn_rnn", "data", "mcar", "memory", "metrics", "rdar", "training")
    assert everything == {f"benchmarks.{name}" for name in names}
    assert arguments([]) == []
    with pytest.raises(SystemExit):
        arguments(["rdra"])
    assert f"no module rdra: choose from {', '.join(names)}\n" in capsys.readouterr().err


SMALL_PAIR = [
    Benchmark("a/b/c", "sums", lambda: sum(range(9)), lambda: sum(range(9)), goal=5.0),
    Figure("a/b/d", "cost", "s", lambda: 1.5, goal=2.0),
]
