"""Intervals and differences of label metrics agree with the metrics and with the general bootstrap; verdicts."""

import math

import numpy as np
import pytest

from mlic_core import claims
from mlic_core.claims import Comparison, Outcome
from mlic_core.metrics import (
    bootstrap,
    example_scores,
    label_scores,
    map_at_n,
    mean_average_precision,
    paired_bootstrap,
    ranking_scores,
)

LABELS = ("C-P", "C-R", "C-F1", "O-P", "O-R", "O-F1")


def outcome(seed, runs=2, images=60, classes=4):
    generator = np.random.default_rng(seed)
    scores = generator.normal(size=(runs, images, classes)).astype(np.float32)
    return Outcome(scores, generator.random(scores.shape) < 0.4)


@pytest.fixture(scope="module")
def targets():
    found = np.random.default_rng(9).integers(-1, 2, (60, 4)).astype(np.int8)
    found[::7] = 0  # images without a label
    return found


def metric_of(name):
    return lambda given, targets: label_scores(given, targets, threshold=0.5)[name]


def test_values_are_the_means_of_the_runs(targets):
    one = outcome(0)
    found = claims.by_run(one, targets)
    for run in range(2):
        labels = label_scores(one.given[run].astype(float), targets, threshold=0.5)
        assert {name: found[name][run] for name in LABELS} == pytest.approx({k: 100 * labels[k] for k in LABELS})
        assert found["MAP@10"][run] == pytest.approx(100 * map_at_n(one.scores[run], targets))
        assert found["mAP"][run] == pytest.approx(100 * mean_average_precision(one.scores[run], targets).value)
    assert {name: value.value for name, value in claims.intervals(one, targets, n=5).items()} == pytest.approx(
        {name: np.mean(values) for name, values in found.items()}
    )


def test_intervals_are_those_of_the_general_bootstrap(targets):
    one = outcome(1)
    found = claims.intervals(one, targets, n=150, seed=3)
    for name in LABELS:
        expected = bootstrap(one.given.astype(float), targets, metric_of(name), n=150, seed=3)
        assert tuple(found[name]) == pytest.approx([100 * value for value in expected])
    expected = bootstrap(one.scores, targets, map_at_n, n=150, seed=3)
    assert tuple(found["MAP@10"]) == pytest.approx([100 * value for value in expected])


def test_differences_are_those_of_the_paired_bootstrap(targets):
    a, b = outcome(1), outcome(2)
    found = claims.differences(a, b, targets, n=150, seed=3)
    for name in ("C-F1", "O-R"):
        given = (one.given.astype(float) for one in (a, b))
        expected = paired_bootstrap(*given, targets, metric_of(name), n=150, seed=3)
        assert found[name][:3] == pytest.approx([100 * value for value in expected[:3]])
    runs = [claims.by_run(one, targets)["mAP"] for one in (a, b)]
    assert found["mAP"].by_run == pytest.approx(np.subtract(*runs))
    assert found["mAP"].value == pytest.approx(np.mean(found["mAP"].by_run))


def test_runs_of_other_numbers_are_not_paired(targets):
    found = claims.differences(outcome(1, runs=3), outcome(2, runs=1), targets, n=20)
    assert found["O-F1"].by_run == ()


def test_a_method_does_not_differ_from_itself(targets):
    one = outcome(4)
    assert set(claims.differences(one, one, targets, n=20).values()) == {Comparison(0.0, 0.0, 0.0, (0.0, 0.0))}


@pytest.mark.parametrize(
    ("low", "high", "by_run", "expected"),
    [
        (0.1, 2.0, (1.0,), "seen"),
        (0.1, 2.0, (1.0, -0.1), "undecided"),
        (0.1, 2.0, (), "seen"),
        (-0.1, 2.0, (1.0, 1.0), "undecided"),
        (-2.0, -0.1, (-1.0, -0.5), "not seen"),
        (0.0, 0.0, (0.0,), "undecided"),
        (math.nan, math.nan, (), "undecided"),
    ],
)
def test_a_verdict_needs_the_interval_and_every_pair_of_runs(low, high, by_run, expected):
    assert claims.verdict(Comparison((low + high) / 2, low, high, by_run)) == expected


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(-0.5, 0.9, "seen"), (0.2, 0.9, "seen"), (0.2, 1.9, "undecided"), (1.2, 1.9, "not seen"), (-3, -1.1, "not seen")],
)
def test_smallness_is_a_claim_of_its_own(low, high, expected):
    assert claims.verdict(Comparison((low + high) / 2, low, high, ()), within=1.0) == expected


def test_mean_interval_counts_no_undefined_image():
    values = np.array([[1.0, np.nan, 3.0], [5.0, np.nan, np.nan]])
    found = claims.mean_interval(values, n=200)
    assert found.value == 3.0 and found.low <= 3.0 <= found.high
    assert np.isnan(claims.mean_interval(np.full((2, 3), np.nan), n=5)).all()


def test_mean_interval_is_the_bootstrap_s():
    values = np.random.default_rng(0).normal(size=(2, 50))
    drawn = np.random.default_rng(7).integers(50, size=(300, 50))
    means = [values[:, row].mean() for row in drawn]
    np.testing.assert_allclose(claims.mean_interval(values, n=300, seed=7)[1:], np.quantile(means, [0.025, 0.975]))


def test_mean_difference_resamples_the_same_images_on_both_sides():
    values = np.random.default_rng(1).normal(size=(2, 40))
    found = claims.mean_difference(values + 0.5, values)
    np.testing.assert_allclose(found[:3], 0.5)
    np.testing.assert_allclose(found.by_run, 0.5)


def test_ap_difference_is_that_of_all_metrics():
    generator = np.random.default_rng(2)
    targets = (generator.random((60, 4)) < 0.4).astype(np.int8)
    a, b = generator.normal(size=(2, 3, 60, 4))
    given = np.zeros(a.shape, dtype=bool)
    whole = claims.differences(claims.Outcome(a, given), claims.Outcome(b, given), targets, n=100)["mAP"]
    np.testing.assert_allclose(claims.ap_difference(a, b, targets, n=100)[:3], whole[:3])
    np.testing.assert_allclose(claims.ap_difference(a, b, targets, n=100).by_run, whole.by_run)


def by_examples(scores, targets):
    found = example_scores(scores, targets, top_k=3) | example_scores(scores, targets, top_k=5)
    return found | ranking_scores(scores, targets)


def test_example_intervals_are_those_of_resampled_images(targets):
    scores = np.random.default_rng(3).normal(size=(1, 60, 7)).astype(np.float32)
    labels = np.concatenate([targets, targets[:, :3]], 1)
    found = claims.example_intervals(scores, labels, n=300)
    plain = by_examples(scores[0], labels)
    assert set(found) == {*plain, "mAP"}
    assert {name: found[name].value for name in plain} == pytest.approx(plain)
    drawn = np.random.default_rng(0).integers(60, size=(300, 60))
    for name in ("P@3", "F@5", "hamming@3", "accuracy@5", "one-error", "coverage", "ranking loss"):
        values = [by_examples(scores[0][rows], labels[rows])[name] for rows in drawn]
        assert found[name][1:] == pytest.approx(np.quantile(values, [0.025, 0.975]))
    assert found["mAP"] == bootstrap(scores, labels, n=300)


def test_example_differences_are_paired(targets):
    rng = np.random.default_rng(4)
    a, b = (rng.normal(size=(2, 60, 7)).astype(np.float32) for _ in range(2))
    labels = np.concatenate([targets, targets[:, :3]], 1)
    found = claims.example_differences(a, b, labels, n=200)
    rows = [[by_examples(run, labels) for run in runs] for runs in (a, b)]
    for name, one in found.items():
        if name != "mAP":
            pairs = [x[name] - y[name] for x, y in zip(*rows, strict=True)]
            assert one.by_run == pytest.approx(pairs)
        if name[0] not in "Fma":  # F is of the mean runs, and accuracy counts other images in each run
            assert one.value == pytest.approx(np.mean(pairs))
        assert one.low <= one.value <= one.high
    again = claims.example_differences(a, a, labels, n=50)
    assert all((one.value, one.low, one.high, *one.by_run) == (0, 0, 0, 0, 0) for one in again.values())
    assert claims.example_differences(a, b[:1], labels, n=50)["P@3"].by_run == ()
    area = claims.ap_difference(a, b, labels, n=200)
    assert [100 * value for value in found["mAP"][:3]] == pytest.approx(area[:3])


def test_gains_are_compared_on_the_same_images():
    generator = np.random.default_rng(5)
    targets = (generator.random((50, 3)) < 0.4).astype(np.int8)
    a, base_of_a, b, base_of_b = (
        generator.normal(size=(4, 2, 50, 3)) + targets * np.array([2, 1, 1.5, 0.2])[:, None, None, None]
    )
    found = claims.gain_difference(a, base_of_a, b, base_of_b, targets, n=200)

    def gain(rows):
        area = [
            [100 * mean_average_precision(run[rows], targets[rows]).value for run in runs]
            for runs in (a, base_of_a, b, base_of_b)
        ]
        return np.array(area[0]) - area[1] - (np.array(area[2]) - area[3])

    np.testing.assert_allclose(found.by_run, gain(np.arange(50)))
    assert found.value == pytest.approx(gain(np.arange(50)).mean())
    drawn = np.random.default_rng(0).integers(50, size=(200, 50))
    np.testing.assert_allclose(found[1:3], np.quantile([gain(rows).mean() for rows in drawn], [0.025, 0.975]))
