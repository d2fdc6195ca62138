"""Intervals over resampled images: the fast way against the plain one, known widths, and what is refused."""

from functools import partial

import numpy as np
import pytest

from mlic_core.errors import InputError
from mlic_core.metrics import (
    average_precision,
    bootstrap,
    example_scores,
    map_at_n,
    mean_average_precision,
    paired_bootstrap,
)
from tests.metric_problems import PROBLEMS

KINDS = ("raw", "voc10", "voc07")


def plain_map(kind):
    """mAP as a metric that `bootstrap` can't know."""
    return lambda scores, targets: mean_average_precision(scores, targets, kind)


def accuracy(scores, targets):
    return np.mean((scores > 0) == (targets == 1))


def same(expected):
    return pytest.approx(expected, rel=0, abs=1e-12, nan_ok=True)


def random_scores(seed, *, images=40, classes=4, runs=None):
    """Scores on a grid, with ties; better than chance for the targets of `random_targets`."""
    shape = (images, classes) if runs is None else (runs, images, classes)
    scores = np.random.default_rng(seed).normal(size=shape) + random_targets(images, classes)
    return np.round(2 * scores) / 2


def random_targets(images=40, classes=4):
    """One class in a tenth of the images, so that some resamples have none of it, and ignored entries."""
    generator = np.random.default_rng(99)
    targets = (generator.random((images, classes)) < np.linspace(0.1, 0.5, classes)).astype(np.int8)
    targets[generator.random((images, classes)) < 0.1] = -1
    return targets


def image_numbers(images=40, classes=4):
    """Scores that say which image a row is, for metrics that look the image up."""
    return np.repeat(np.arange(float(images))[:, None], classes, axis=1)


class Recorder:
    """A metric that keeps what it was called with."""

    def __init__(self, metric):
        self.metric, self.calls = metric, []

    def __call__(self, scores, targets):
        self.calls.append((scores.copy(), targets.copy()))
        return self.metric(scores, targets)


# The fast way


@pytest.mark.parametrize("kind", KINDS)
def test_fast_map_equals_the_plain_metric_on_the_same_resamples(kind):
    for seed in range(0, 200, 4):
        scores, targets = PROBLEMS[seed]
        fast = bootstrap(scores, targets, partial(mean_average_precision, kind=kind), 12, seed=seed)
        assert fast == same(bootstrap(scores, targets, plain_map(kind), 12, seed=seed)), seed


@pytest.mark.parametrize("kind", KINDS)
def test_fast_map_equals_the_plain_metric_resample_by_resample(kind):
    # Of 21 values, level 1 - k / 10 has its bounds at the k-th from either end; so all are seen but the median.
    scores, targets = random_scores(0), random_targets()
    for k in range(10):
        options = {"n": 21, "seed": 3, "level": 1 - max(k / 10, 1e-12)}
        fast = bootstrap(scores, targets, partial(mean_average_precision, kind=kind), **options)
        assert fast == pytest.approx(bootstrap(scores, targets, plain_map(kind), **options), abs=1e-9)


def test_classes_do_lose_their_positives_in_some_of_these_resamples():
    recorder = Recorder(plain_map("raw"))
    bootstrap(random_scores(0), random_targets(), recorder, 200)
    counted = [mean_average_precision(*call).classes for call in recorder.calls]
    assert min(counted) == 3
    assert max(counted) == 4


def test_raw_map_is_the_default_metric():
    problem = random_scores(0), random_targets()
    assert bootstrap(*problem, n=30) == same(bootstrap(*problem, plain_map("raw"), 30))
    assert bootstrap(*problem, n=30) == bootstrap(*problem, partial(mean_average_precision), 30)
    assert bootstrap(*problem, n=30).value == mean_average_precision(*problem).value


def test_a_thousand_resamples_are_the_default():
    a, b, targets = random_scores(0), random_scores(1), random_targets()
    assert bootstrap(a, targets) == bootstrap(a, targets, n=1000) != bootstrap(a, targets, n=1001)
    assert paired_bootstrap(a, b, targets) == paired_bootstrap(a, b, targets, n=1000)
    assert paired_bootstrap(a, b, targets) != paired_bootstrap(a, b, targets, n=1001)


@pytest.mark.parametrize("kind", KINDS)
def test_fast_difference_equals_the_plain_one(kind):
    a, b, targets = random_scores(0), random_scores(1), random_targets()
    fast = paired_bootstrap(a, b, targets, partial(mean_average_precision, kind=kind), 60, seed=5)
    assert fast == same(paired_bootstrap(a, b, targets, plain_map(kind), 60, seed=5))


# What a resample is


def test_each_resample_draws_whole_images_with_replacement_and_the_bounds_are_percentiles():
    recorder = Recorder(accuracy)
    scores, targets = random_scores(0), random_targets()
    scores[:, 0] = np.arange(40)  # tells the images apart
    interval = bootstrap(scores, targets, recorder, 100, level=0.9)
    drawn = [call for call in recorder.calls if not np.array_equal(call[0], scores)]
    assert len(drawn) == 100
    for resampled, labels in drawn:
        images = resampled[:, 0].astype(int)
        np.testing.assert_array_equal(resampled, scores[images])
        np.testing.assert_array_equal(labels, targets[images])
    # A resample of n images holds 1 - 1/e of them on average.
    assert np.mean([len(np.unique(s[:, 0])) for s, _ in drawn]) == pytest.approx(40 * (1 - 1 / np.e), abs=1)
    values = [accuracy(*call) for call in drawn]
    assert interval == same((accuracy(scores, targets), *np.percentile(values, [5, 95])))


def test_both_sides_of_a_difference_see_the_same_images():
    calls = {1.0: [], 2.0: []}

    def side(scores, targets):
        calls[scores[0, 1]].append(scores[:, 0].tolist())
        return scores[:, 0].mean()

    a, b = image_numbers(), image_numbers()
    a[:, 1], b[:, 1] = 1.0, 2.0
    difference = paired_bootstrap(a, b, random_targets(), side, 30)
    assert calls[1.0] == calls[2.0]
    assert difference == (0, 0, 0, 0.5)


def test_difference_equals_the_bootstrap_of_the_metrics_difference():
    a, b, targets = random_scores(0), random_scores(1), random_targets()

    def difference(numbers, labels):
        images = numbers[:, 0].astype(int)
        return mean_average_precision(a[images], labels).value - mean_average_precision(b[images], labels).value

    recorder = Recorder(difference)
    expected = bootstrap(image_numbers(), targets, recorder, 60, seed=2)
    found = paired_bootstrap(a, b, targets, n=60, seed=2)
    assert found[:3] == same(expected)
    values = np.array([difference(*call) for call in recorder.calls if len(np.unique(call[0])) < 40])
    assert len(values) == 60
    assert found.probability == pytest.approx((values > 0).mean())  # none of these is a tie


def test_metric_may_return_a_number_or_an_object_with_a_value():
    problem = random_scores(0), random_targets()
    number = bootstrap(*problem, lambda s, t: float(np.nanmean(average_precision(s, t))), 20)
    assert number == same(bootstrap(*problem, n=20))
    assert bootstrap(*problem, lambda s, t: example_scores(s, t, top_k=2)["R@2"], 20).low < 1


@pytest.mark.parametrize("metric", [mean_average_precision, lambda s, t: mean_average_precision(s, t)])
def test_resample_without_any_positive_is_left_out(metric):
    # One image in five has the only positive: a third of the resamples miss it; in the others the AP is 1.
    scores, targets = np.arange(5.0)[:, None], np.array([[0], [0], [0], [0], [1]])
    assert bootstrap(scores, targets, metric, 50) == (1, 1, 1)
    assert paired_bootstrap(scores, scores, targets, metric, 50) == (0, 0, 0, 0.5)
    assert np.isnan(bootstrap(scores, 0 * targets, metric, 50)).all()
    assert np.isnan(paired_bootstrap(scores, scores, 0 * targets, metric, 50)).all()


# Runs


@pytest.mark.parametrize("metric", [mean_average_precision, map_at_n])
def test_runs_are_averaged_over_the_same_resampled_images(metric):
    runs, targets = random_scores(0, runs=3), random_targets()

    def mean_of_runs(numbers, labels):
        values = [metric(run[numbers[:, 0].astype(int)], labels) for run in runs]
        return np.mean([getattr(value, "value", value) for value in values])

    assert bootstrap(runs, targets, metric, 50, seed=4) == same(
        bootstrap(image_numbers(), targets, mean_of_runs, 50, seed=4)
    )


def test_one_run_is_the_matrix_itself():
    runs, targets = random_scores(0, runs=1), random_targets()
    assert bootstrap(runs, targets, n=40) == bootstrap(runs[0], targets, n=40)


def test_differences_take_runs_on_either_side():
    a, b, targets = random_scores(0, runs=3), random_scores(1), random_targets()
    expected = paired_bootstrap(a, np.stack([b, b]), targets, n=40)
    assert paired_bootstrap(a, b, targets, n=40) == same(expected)
    assert expected.value == same(
        np.mean([mean_average_precision(run, targets).value for run in a]) - mean_average_precision(b, targets).value
    )


def test_order_of_the_runs_does_not_matter():
    runs, targets = random_scores(0, runs=3), random_targets()
    assert bootstrap(runs[::-1], targets, n=40) == same(bootstrap(runs, targets, n=40))


# Known widths


def test_interval_of_an_accuracy_is_as_wide_as_the_binomial_one():
    images, chance = 500, 0.8
    right = np.arange(images) < chance * images
    interval = bootstrap(np.where(right, 1.0, -1.0)[:, None], np.ones((images, 1), dtype=np.int8), accuracy, 4000)
    width = 2 * 1.96 * np.sqrt(chance * (1 - chance) / images)  # 0.070
    assert interval.value == chance
    assert interval.high - interval.low == pytest.approx(width, rel=0.06)
    assert (interval.low + interval.high) / 2 == pytest.approx(chance, abs=0.003)


def test_95_percent_intervals_hold_the_true_accuracy_about_95_times_in_100():
    generator = np.random.default_rng(0)
    targets = np.ones((100, 1), dtype=np.int8)
    held = 0
    for seed in range(150):
        scores = np.where(generator.random((100, 1)) < 0.7, 1.0, -1.0)
        interval = bootstrap(scores, targets, lambda s, t: (s > 0).mean(), 100, seed=seed)
        held += interval.low <= 0.7 <= interval.high
    assert 0.9 < held / 150 < 0.99


def test_difference_of_two_accuracies_is_narrower_paired_than_apart():
    # b errs where a errs and on 4 images more, so the difference hardly varies although both accuracies do.
    a = np.where(np.arange(200) < 120, 1.0, -1.0)[:, None]
    b = np.where(np.arange(200) < 116, 1.0, -1.0)[:, None]
    targets = np.ones((200, 1), dtype=np.int8)
    alone, paired = bootstrap(a, targets, accuracy), paired_bootstrap(a, b, targets, accuracy)
    assert paired.value == pytest.approx(4 / 200)
    sigma = np.sqrt(0.02 * 0.98 / 200)
    assert paired.high - paired.low == pytest.approx(2 * 1.96 * sigma, rel=0.2)
    assert paired.high - paired.low < (alone.high - alone.low) / 2
    assert paired.probability == pytest.approx(1 - 0.98**200 / 2, abs=0.02)  # half of the resamples without the four


@pytest.mark.parametrize("metric", [mean_average_precision, accuracy])
def test_wider_level_gives_a_wider_interval_inside_which_the_others_lie(metric):
    problem = random_scores(0), random_targets()
    inner, middle, outer = (bootstrap(*problem, metric, 200, level=level) for level in (0.5, 0.9, 0.99))
    assert outer.low < middle.low < inner.low < inner.high < middle.high < outer.high
    assert inner.value == middle.value == outer.value


def test_interval_narrows_with_the_root_of_the_images():
    few, many = random_targets(50), random_targets(800)
    wide = bootstrap(random_scores(0, images=50), few, accuracy, 400)
    narrow = bootstrap(random_scores(0, images=800), many, accuracy, 400)
    assert (wide.high - wide.low) / (narrow.high - narrow.low) == pytest.approx(4, rel=0.25)


# Symmetries


@pytest.mark.parametrize("metric", [mean_average_precision, partial(mean_average_precision, kind="voc07"), map_at_n])
def test_difference_of_equal_arrays_is_zero_with_probability_one_half(metric):
    scores, targets = random_scores(0), random_targets()
    assert paired_bootstrap(scores, scores.copy(), targets, metric, 30) == (0, 0, 0, 0.5)


def test_swapping_the_sides_turns_the_difference_round():
    a, b, targets = random_scores(0), random_scores(1), random_targets()
    there, back = paired_bootstrap(a, b, targets, n=101), paired_bootstrap(b, a, targets, n=101)
    assert back == same((-there.value, -there.high, -there.low, 1 - there.probability))


def test_clearly_better_scores_are_better_in_every_resample():
    targets = random_targets()
    difference = paired_bootstrap(targets + 0.0, random_scores(0), targets, n=50)
    assert difference.probability == 1
    assert 0 < difference.low < difference.value < difference.high


@pytest.mark.parametrize("metric", [mean_average_precision, plain_map("raw")])
def test_same_seed_gives_the_same_interval_and_another_seed_another(metric):
    problem = random_scores(0), random_targets()
    assert bootstrap(*problem, metric, 40, seed=1) == bootstrap(*problem, metric, 40, seed=1)
    assert bootstrap(*problem, metric, 40, seed=1)[1:] != bootstrap(*problem, metric, 40, seed=2)[1:]
    state = np.random.get_state()[1].copy()
    bootstrap(*problem, metric, 40)
    np.testing.assert_array_equal(np.random.get_state()[1], state)


def test_many_images_go_through_in_blocks_that_change_nothing():
    # More draws than the arrays of one block hold.
    scores, targets = random_scores(0, images=30_000, classes=1), random_targets(30_000, 1)
    fast = bootstrap(scores, targets, n=40)
    assert fast == same(bootstrap(scores, targets, plain_map("raw"), 40))


@pytest.mark.parametrize("n", [1, 2, 5])
def test_resamples_are_as_many_as_asked_for_where_blocks_are_of_two(monkeypatch, n):
    scores, targets = random_scores(0), random_targets()
    whole = bootstrap(scores, targets, accuracy, n=n)
    monkeypatch.setattr("mlic_core.metrics.resampling.CHUNK", 2 * len(scores))
    recorder = Recorder(accuracy)
    assert bootstrap(scores, targets, recorder, n=n) == whole
    assert len(recorder.calls) == 1 + n


# Refusals


def refused(match, n=10, level=0.9, images=40):
    scores, targets = random_scores(0, images=images), random_targets(images)
    with pytest.raises(InputError, match=match):
        bootstrap(scores, targets, n=n, level=level)
    with pytest.raises(InputError, match=match):
        paired_bootstrap(scores, scores, targets, n=n, level=level)


@pytest.mark.parametrize("n", [0, -3])
def test_number_of_resamples_must_be_positive(n):
    refused(f"n is {n}", n=n)


@pytest.mark.parametrize("level", [0.0, 1.0, 95.0, -0.5, np.nan])
def test_level_must_lie_between_0_and_1(level):
    refused(f"level {level}", level=level)


def test_no_image_is_refused():
    refused("no image", images=0)


@pytest.mark.parametrize("side", [0, 1])
def test_score_of_any_run_that_is_not_finite_is_named_by_image_and_class(side):
    sides = [random_scores(0), random_scores(1, runs=3)]
    targets = random_targets()
    sides[1][2, 17, 3] = np.nan
    with pytest.raises(InputError, match="image 17, class 3 is nan"):
        bootstrap(sides[1], targets, n=5)
    with pytest.raises(InputError, match="image 17, class 3 is nan"):
        paired_bootstrap(sides[side], sides[1 - side], targets, map_at_n, n=5)


def test_runs_without_a_run_or_with_one_axis_too_many_are_refused(untyped):
    for shape in ((0, 40, 4), (1, 1, 40, 4), (40,)):
        with pytest.raises(InputError, match="shape"):
            bootstrap(np.zeros(shape), random_targets(), n=5)


def test_unknown_kind_of_ap_names_the_nearest(untyped):
    with pytest.raises(InputError, match="did you mean 'voc07'"):
        bootstrap(random_scores(0), random_targets(), partial(mean_average_precision, kind="voc7"), 5)
