"""Many methods on shared resamples: against scikit-learn, scipy, the package's own bootstrap, and by hand."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import rankdata
from sklearn.metrics import average_precision_score

from mlic_core import claims, ranking
from mlic_core.errors import InputError
from mlic_core.metrics import average_precision, bootstrap, label_scores, paired_bootstrap

RNG = np.random.default_rng(3)
TARGETS = RNG.choice(np.array([1, 0, -1], np.int8), size=(40, 5), p=[0.25, 0.65, 0.1])
TARGETS[:, 4] = np.where(TARGETS[:, 4] == 1, 0, TARGETS[:, 4])  # a class that no image shows
SCORES = np.round(RNG.normal(size=(2, 40, 5)) + (TARGETS == 1), 1).astype(np.float32)  # rounded: with ties
TIMES = ranking.times_drawn(40, 30, seed=1)


def images_of(resample: int) -> np.ndarray:
    """The images of a resample, each as often as it was drawn."""
    return np.repeat(np.arange(40), TIMES[:, resample])


def test_every_resample_has_as_many_images_as_there_are():
    assert TIMES.shape == (40, 30)
    assert (TIMES.sum(0) == 40).all() and TIMES.max() > 1
    assert (ranking.times_drawn(40, 30, seed=2) != TIMES).any()


def test_ap_of_a_resample_is_that_of_the_images_repeated():
    found = ranking.resampled_ap(SCORES, TARGETS, TIMES)
    for resample in range(30):
        drawn = images_of(resample)
        expected = 100 * np.mean([average_precision(run[drawn], TARGETS[drawn]) for run in SCORES], axis=0)
        np.testing.assert_allclose(found[resample], expected, rtol=1e-6)
    assert np.isnan(found[:, 4]).all() and np.isfinite(found[:, :4]).all()


def test_ap_counts_a_drawn_image_as_scikit_learn_counts_its_weight():
    drawn, known = TIMES[:, :1], TARGETS[:, 0] >= 0
    weights = drawn[known, 0].astype(float)
    expected = average_precision_score(TARGETS[known, 0] == 1, SCORES[0][known, 0], sample_weight=weights)
    assert ranking.resampled_ap(SCORES[:1], TARGETS, drawn)[0, 0] == pytest.approx(100 * expected)


def test_a_class_of_which_no_positive_was_drawn_has_no_ap():
    targets = np.array([[1], [0], [0]], np.int8)
    scores = np.array([[[2.0], [1.0], [3.0]]], np.float32)
    times = np.array([[0, 1], [2, 1], [1, 1]], np.int32)
    found = ranking.resampled_ap(scores, targets, times)
    assert np.isnan(found[0, 0]) and found[1, 0] == pytest.approx(50)


def test_positives_taken_in_parts_give_the_same_ap(monkeypatch):
    whole = ranking.resampled_ap(SCORES, TARGETS, TIMES)
    monkeypatch.setattr(ranking, "CHUNK", 90)  # two or three positives at a time
    np.testing.assert_allclose(ranking.resampled_ap(SCORES, TARGETS, TIMES), whole)


def test_intervals_are_those_of_the_metrics_bootstrap():
    scores, targets = SCORES[:, :, :4], TARGETS[:, :4]
    times = ranking.times_drawn(40, 200)
    draws = np.nanmean(ranking.resampled_ap(scores, targets, times), axis=1)
    expected = bootstrap(scores, targets, n=200)
    np.testing.assert_allclose(ranking.interval(100 * expected.value, draws), 100 * np.array(expected), rtol=1e-6)


def test_differences_are_those_of_the_paired_bootstrap():
    targets, times = TARGETS[:, :4], ranking.times_drawn(40, 200)
    a, b = SCORES[:, :, :4], np.ascontiguousarray(SCORES[:, ::-1, :4])
    draws = [np.nanmean(ranking.resampled_ap(one, targets, times), axis=1) for one in (a, b)]
    by_run = [np.array([100 * np.nanmean(average_precision(run, targets)) for run in one]) for one in (a, b)]
    found, expected = ranking.compare(*by_run, *draws), paired_bootstrap(a, b, targets, n=200)
    np.testing.assert_allclose(found[:3], 100 * np.array(expected[:3]), rtol=1e-6)
    assert found.by_run == pytest.approx((by_run[0] - by_run[1]).tolist())
    assert claims.verdict(found) == "seen"


def test_f1_of_a_resample_is_that_of_the_images_repeated():
    given = SCORES > 0.5
    given[0, :, 2] = False  # never given: its precision is 0
    found = ranking.resampled_f1(given, TARGETS, TIMES)
    assert found.shape == (30, 2)
    for resample in range(30):
        drawn = images_of(resample)
        rows = [label_scores(run[drawn].astype(float), TARGETS[drawn], threshold=0.5) for run in given]
        expected = np.mean([[row["C-F1"], row["O-F1"]] for row in rows], axis=0)
        np.testing.assert_allclose(found[resample], 100 * expected)


def test_f1_is_zero_where_nothing_is_given():
    nothing = np.zeros((1, 40, 5), bool)
    assert (ranking.resampled_f1(nothing, TARGETS, TIMES) == 0).all()


def test_an_interval_leaves_undefined_resamples_out():
    found = ranking.interval(5.0, np.array([np.nan, *np.arange(101.0)]))
    assert found == pytest.approx((5.0, 2.5, 97.5))
    empty = ranking.interval(5.0, np.array([np.nan]))
    assert empty.value == 5 and np.isnan(empty.low) and np.isnan(empty.high)


def test_ranks_by_hand_share_the_mean_of_their_places():
    ap = np.array([[90.0, 50.0, 70.0], [80.0, 60.0, 70.0], [85.0, 40.0, 70.0]])
    assert ranking.class_ranks(ap).tolist() == [[1, 2, 2], [3, 1, 2], [2, 3, 2]]
    assert ranking.mean_ranks(ap).tolist() == pytest.approx([5 / 3, 2, 7 / 3])


def test_ranks_are_scipys():
    ap = RNG.integers(0, 6, size=(7, 30, 4)).astype(float)
    np.testing.assert_array_equal(ranking.class_ranks(ap), rankdata(-ap, axis=0))


def test_a_class_without_an_ap_in_one_method_is_ranked_in_none():
    ap = np.array([[90.0, np.nan], [80.0, 10.0]])
    assert ranking.class_ranks(ap)[:, 0].tolist() == [1, 2]
    assert np.isnan(ranking.class_ranks(ap)[:, 1]).all()
    assert ranking.mean_ranks(ap).tolist() == [1, 2]
    assert np.isnan(ranking.mean_ranks(np.full((2, 3), np.nan))).all()


def test_rank_intervals_are_of_the_resamples_of_the_same_method():
    ap = {"a": np.array([9.0, 9.0]), "b": np.array([1.0, 1.0])}
    draws = {"b": np.array([[1.0, 9.0]] * 50), "a": np.array([[2.0, 3.0]] * 50)}  # in another order
    found = ranking.mean_rank_intervals(ap, draws)
    assert list(found) == ["a", "b"]
    assert found["a"] == (1.0, 1.5, 1.5) and found["b"] == (2.0, 1.5, 1.5)
    draws["a"] = np.array([[2.0, 10.0]] * 50)
    assert ranking.mean_rank_intervals(ap, draws)["b"] == (2.0, 2.0, 2.0)


def test_flips_are_the_pairs_whose_order_is_reversed():
    usual = {"a": 70.0, "b": 60.0, "c": 50.0, "d": 60.0}
    other = {"d": 80.0, "a": 61.0, "b": 62.0, "c": 61.0}
    assert ranking.flips(usual, other) == [("a", "b"), ("a", "d")]  # a and c tie there, b and d tie here
    assert ranking.flips(other, usual) == [("d", "a"), ("b", "a")]
    assert ranking.flips(usual, usual) == []
    with pytest.raises(InputError, match=r"\['b', 'c', 'd'\] are under one rule only"):
        ranking.flips(usual, {"a": 1.0})


def test_thirds_begin_with_the_rarest_and_leave_out_empty_classes():
    found = ranking.thirds(np.array([9, 0, 2, 5, 7, 1, 3]))
    assert [part.tolist() for part in found] == [[5, 2], [6, 3], [4, 0]]


def test_claims_of_every_form_of_table_become_alike_rows():
    rest = {"claim": ["x"], "data": ["voc"], "verdict": ["seen"]}
    forms = [
        pd.DataFrame(rest | {"ours": [1.5], "low": [-0.5], "high": [2.0], "paper": [3.0]}),
        pd.DataFrame(rest | {"difference": [1.5], "interval": ["-0.5 to +2.0"]}),
        pd.DataFrame(rest | {"ours": ["+1.5"], "interval": ["-0.5 to +2.0"]}),
    ]
    for form in forms:
        assert ranking.judged(form).to_dict("records") == [
            {"claim": "x", "data": "voc", "ours": 1.5, "low": -0.5, "high": 2.0, "verdict": "seen"}
        ]


def test_the_difference_of_a_claim_may_be_named_in_words_beside_its_number():
    table = {"claim": ["x"], "data": ["voc"], "verdict": ["undecided"], "difference": ["mAP: a − b"]}
    table |= {"ours": [2.0], "low": [1.0], "high": [3.0]}
    assert ranking.judged(pd.DataFrame(table))["ours"].tolist() == [2.0]


def test_claims_that_only_seeds_decide_have_no_bounds():
    table = {"claim": ["x"], "data": ["voc"], "verdict": ["not seen"], "ours": ["-1.0"], "interval": ["seeds only"]}
    row = ranking.judged(pd.DataFrame(table)).iloc[0]
    assert row["ours"] == -1 and np.isnan(row["low"]) and np.isnan(row["high"])


def test_a_claim_that_is_not_defined_is_left_out():
    table = {"claim": ["x", "y"], "data": ["voc"] * 2, "verdict": ["undecided"] * 2, "ours": [np.nan, 1.0]}
    assert ranking.judged(pd.DataFrame(table | {"low": [0.0, 0.5], "high": [0.0, 1.5]}))["claim"].tolist() == ["y"]


def test_tables_that_are_no_claims_are_refused():
    table = pd.DataFrame({"claim": ["x"], "data": ["voc"], "verdict": ["maybe"], "ours": [1.0], "interval": [""]})
    with pytest.raises(InputError, match="'x' has the verdict 'maybe'"):
        ranking.judged(table)
    for column, missing in (("verdict", "verdict"), ("ours", "difference"), ("data", "data"), ("claim", "claim")):
        with pytest.raises(InputError, match=f"lacks the column {missing}"):
            ranking.judged(table.drop(columns=column))
