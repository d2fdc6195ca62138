"""Metrics against hand values, definitions written as plain loops, scikit-learn and torchmetrics."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import average_precision_score, precision_recall_fscore_support
from torchmetrics.functional.classification import multilabel_average_precision

from mlic_core.errors import InputError
from mlic_core.metrics import average_precision, label_scores, mean_average_precision

KINDS = ("raw", "voc10", "voc07")


def one_class(scores, targets, kind="raw"):
    column = np.array(scores, dtype=np.float64)[:, None], np.array(targets, dtype=np.int8)[:, None]
    return average_precision(*column, kind)[0]


def random_problem(seed):
    """Scores (N, C) on a grid coarse enough for ties, and targets with ignored entries and rare classes."""
    generator = np.random.default_rng(seed)
    images, classes = generator.integers(1, 40), generator.integers(1, 8)
    scores = generator.normal(size=(images, classes))
    if seed % 2:
        scores = np.round(scores * generator.integers(1, 4)) / 4
    chances = [0.2, 0.5, 0.3] if seed % 3 else [0.0, 0.8, 0.2]
    return scores, generator.choice([-1, 0, 1], p=chances, size=(images, classes)).astype(np.int8)


def precision_recall_by_definition(scores, targets):
    """Precision and recall of one class at each distinct score, highest first."""
    scores, targets = scores[targets >= 0], targets[targets >= 0]
    points = []
    for threshold in sorted(set(scores), reverse=True):
        hits = int((targets[scores >= threshold] == 1).sum())
        points.append((hits / int((scores >= threshold).sum()), hits / int((targets == 1).sum())))
    return points


def ap_by_definition(scores, targets, kind):
    """One class's AP, as the PASCAL VOC definitions read."""
    if not (targets == 1).any():
        return np.nan
    points = precision_recall_by_definition(scores, targets)

    def best(recall):
        return max(p for p, r in points if r >= recall - 1e-12)

    if kind == "voc07":
        return sum(best(k / 10) for k in range(11)) / 11
    total, before = 0.0, 0.0
    for precision, recall in points:
        total += (recall - before) * (precision if kind == "raw" else best(recall))
        before = recall
    return total


# Average precision


def test_raw_ap_is_the_mean_precision_at_each_positive():
    assert one_class([0.9, 0.8, 0.7, 0.6], [1, 0, 1, 0]) == pytest.approx((1 + 2 / 3) / 2)


def test_voc10_raises_precision_to_the_best_at_higher_recall():
    scores, targets = [0.9, 0.8, 0.7, 0.6], [0, 1, 1, 0]
    assert one_class(scores, targets, "raw") == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert one_class(scores, targets, "voc10") == pytest.approx(2 / 3)


def test_voc07_takes_eleven_recall_points():
    # Recall 1/2 at precision 1, recall 1 at precision 2/3: six points up to 0.5 at 1, five at 2/3.
    assert one_class([0.9, 0.8, 0.7], [1, 0, 1], "voc07") == pytest.approx((6 + 5 * 2 / 3) / 11)


def test_voc07_recall_of_three_in_ten_reaches_the_point_at_three_tenths():
    # In floating point 3 * 0.1 exceeds 3 / 10, which would move this point to the lower precision.
    targets = [1, 1, 1] + [0] * 10 + [1] * 7
    scores = np.arange(len(targets), 0, -1.0)
    assert one_class(scores, targets, "voc07") == pytest.approx((4 + 7 * 10 / 20) / 11)


def test_ties_form_one_threshold():
    # The three at 0.5 enter together: both positives are gained at precision 2/4, whatever their order.
    for targets in ([0, 1, 0, 1], [0, 1, 1, 0], [0, 0, 1, 1]):
        assert one_class([0.9, 0.5, 0.5, 0.5], targets) == 0.5


@pytest.mark.parametrize("kind", KINDS)
def test_constant_scores_give_the_share_of_positives(kind):
    assert one_class([0.3] * 5, [1, 0, 0, 1, 0], kind) == pytest.approx(2 / 5)


@pytest.mark.parametrize("kind", KINDS)
def test_ignored_entries_count_nowhere(kind):
    kept = one_class([0.9, 0.7, 0.6, 0.2], [0, 1, 0, 1], kind)
    assert one_class([1.0, 0.9, 0.8, 0.7, 0.7, 0.6, 0.2, 0.1], [-1, 0, -1, 1, -1, 0, 1, -1], kind) == kept


@pytest.mark.parametrize("kind", KINDS)
def test_class_without_positives_is_nan_and_left_out_of_the_mean(kind):
    scores = np.array([[0.9, 0.1, 0.2], [0.2, 0.8, 0.3]])
    targets = np.array([[1, 0, 0], [0, 0, 1]], dtype=np.int8)
    targets[0, 1] = -1
    assert np.array_equal(average_precision(scores, targets, kind), [1.0, np.nan, 1.0], equal_nan=True)
    assert mean_average_precision(scores, targets, kind) == (1.0, 2)


def test_mean_over_no_class_is_nan():
    value, classes = mean_average_precision(np.zeros((2, 1)), np.zeros((2, 1), dtype=np.int8))
    assert np.isnan(value)
    assert classes == 0


@pytest.mark.parametrize("kind", KINDS)
def test_no_image_gives_nan(kind):
    assert np.isnan(average_precision(np.zeros((0, 3)), np.zeros((0, 3), dtype=np.int8), kind)).all()


@pytest.mark.parametrize("kind", KINDS)
def test_ap_equals_its_definition_on_random_problems(kind):
    for seed in range(200):
        scores, targets = random_problem(seed)
        expected = [ap_by_definition(*pair, kind) for pair in zip(scores.T, targets.T, strict=True)]
        np.testing.assert_allclose(average_precision(scores, targets, kind), expected, rtol=0, atol=1e-9)


def test_raw_ap_equals_scikit_learn():
    compared = 0
    for seed in range(200):
        scores, targets = random_problem(seed)
        for ours, s, t in zip(average_precision(scores, targets), scores.T, targets.T, strict=True):
            if (t == 1).any():
                assert ours == pytest.approx(average_precision_score(t[t >= 0] == 1, s[t >= 0]), abs=1e-9)
                compared += 1
    assert compared > 500


def test_raw_ap_equals_torchmetrics_which_computes_in_single_precision():
    compared = 0
    for seed in range(100):
        scores, targets = random_problem(seed)
        # torchmetrics refuses a single label, and warns and gives 0 where a class has no positive.
        if scores.shape[1] == 1 or not (targets == 1).any(axis=0).all():
            continue
        probabilities = 1 / (1 + np.exp(-scores))
        ours = average_precision(probabilities, targets)
        theirs = multilabel_average_precision(
            torch.from_numpy(probabilities),
            torch.from_numpy(targets).long(),
            len(ours),
            average=None,
            ignore_index=-1,
        ).numpy()
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6)
        compared += 1
    assert compared > 20


problems = st.integers(1, 12).flatmap(
    lambda images: st.tuples(
        arrays(np.float64, (images, 3), elements=st.integers(-3, 3).map(float)),
        arrays(np.int8, (images, 3), elements=st.sampled_from([-1, 0, 1])),
    )
)


@settings(max_examples=50, deadline=None)
@given(problem=problems, kind=st.sampled_from(KINDS), seed=st.integers(0, 99))
def test_ap_depends_only_on_the_order_of_scores(problem, kind, seed):
    scores, targets = problem
    expected = average_precision(scores, targets, kind)
    shuffled = np.random.default_rng(seed).permutation(len(scores))
    np.testing.assert_allclose(average_precision(scores[shuffled], targets[shuffled], kind), expected, atol=1e-12)
    np.testing.assert_array_equal(average_precision(np.exp(scores) - 7, targets, kind), expected)


@settings(max_examples=50, deadline=None)
@given(problem=problems)
def test_ap_lies_in_the_unit_interval_and_the_envelope_only_raises_it(problem):
    raw, envelope = average_precision(*problem, "raw"), average_precision(*problem, "voc10")
    counted = ~np.isnan(raw)
    assert (raw[counted] > 0).all()
    assert (envelope[counted] <= 1).all()
    assert (raw[counted] <= envelope[counted] + 1e-12).all()


@settings(max_examples=50, deadline=None)
@given(problem=problems, kind=st.sampled_from(KINDS))
def test_duplicating_every_image_changes_no_ap(problem, kind):
    scores, targets = problem
    twice = average_precision(np.repeat(scores, 2, axis=0), np.repeat(targets, 2, axis=0), kind)
    np.testing.assert_allclose(twice, average_precision(scores, targets, kind), atol=1e-12)


# Precision, recall and F1 of labels


def labels_by_definition(probabilities, targets, top_k, threshold):
    """Right, predicted and positive counts of each class, image by image."""
    classes = targets.shape[1]
    right, predicted, positives = [0] * classes, [0] * classes, [0] * classes
    for row, truth in zip(probabilities, targets, strict=True):
        ranked = sorted(range(classes), key=lambda c: (-row[c], c))
        for c in range(classes):
            if truth[c] == -1:
                continue
            chosen = (top_k is None or c in ranked[:top_k]) and (threshold is None or row[c] > threshold)
            predicted[c] += chosen
            positives[c] += truth[c] == 1
            right[c] += chosen and truth[c] == 1
    return np.array(right), np.array(predicted), np.array(positives)


# Two classes right and wrong in known numbers: class 0 has 2 right of 3 predicted and 2 positives,
# class 1 has 1 right of 1 predicted and 3 positives, class 2 is never predicted and has 1 positive.
PROBABILITIES = np.array([[0.9, 0.8, 0.1], [0.7, 0.2, 0.3], [0.6, 0.4, 0.5], [0.1, 0.3, 0.2]])
LABELS = np.array([[1, 1, 0], [1, 0, 1], [0, 1, 0], [0, 1, 0]], dtype=np.int8)


def test_label_scores_by_hand():
    scores = label_scores(PROBABILITIES, LABELS, threshold=0.5)
    c_p, c_r = (2 / 3 + 1 + 0) / 3, (1 + 1 / 3 + 0) / 3
    assert scores == pytest.approx(
        {
            "C-P": c_p,
            "C-R": c_r,
            "C-F1": 2 * c_p * c_r / (c_p + c_r),
            "C-F1 mean": (0.8 + 0.5 + 0) / 3,
            "O-P": 3 / 4,
            "O-R": 3 / 6,
            "O-F1": 0.6,
        }
    )


def test_class_never_predicted_has_precision_zero():
    targets = np.array([[1, 1], [1, 0]], dtype=np.int8)
    assert label_scores(np.array([[0.9, 0.1], [0.9, 0.1]]), targets, threshold=0.5)["C-P"] == 0.5


def test_probability_equal_to_the_threshold_is_not_chosen():
    scores = label_scores(np.array([[0.5, 0.6]]), np.array([[1, 1]], dtype=np.int8), threshold=0.5)
    assert scores["O-R"] == 0.5


def test_equal_probabilities_fill_the_top_k_in_class_order():
    targets = np.array([[1, 1, 0, 0]], dtype=np.int8)
    assert label_scores(np.full((1, 4), 0.5), targets, top_k=2)["O-P"] == 1


def test_ignored_entry_keeps_its_top_k_slot_and_counts_nowhere():
    probabilities = np.array([[0.9, 0.8, 0.7]])
    targets = np.array([[-1, 1, 1]], dtype=np.int8)
    scores = label_scores(probabilities, targets, top_k=2)
    assert scores["O-P"] == 1  # class 0 is not wrong
    assert scores["O-R"] == 1 / 2  # and class 2 does not move up into its place


def test_both_rules_together_ask_for_both():
    targets = np.array([[1, 1, 1, 1]], dtype=np.int8)
    probabilities = np.array([[0.9, 0.8, 0.7, 0.1]])
    assert label_scores(probabilities, targets, top_k=2, threshold=0.5)["O-R"] == 2 / 4
    assert label_scores(probabilities, targets, top_k=4, threshold=0.5)["O-R"] == 3 / 4


def test_class_without_positives_has_no_recall_but_lowers_precision():
    targets = np.array([[1, 0], [1, 0]], dtype=np.int8)
    scores = label_scores(np.array([[0.9, 0.9], [0.9, 0.1]]), targets, threshold=0.5)
    assert scores["C-R"] == 1
    assert scores["C-F1 mean"] == 1
    assert scores["C-P"] == 1 / 2


def test_nothing_predicted_scores_zero_and_nothing_to_find_is_nan():
    nothing = label_scores(np.zeros((2, 2)), np.ones((2, 2), dtype=np.int8), threshold=0.5)
    assert set(nothing.values()) == {0.0}
    no_positive = label_scores(np.ones((2, 2)), np.zeros((2, 2), dtype=np.int8), threshold=0.5)
    assert no_positive["O-P"] == 0
    assert np.isnan([no_positive[key] for key in ("C-R", "C-F1", "C-F1 mean", "O-R", "O-F1")]).all()


@pytest.mark.parametrize("rule", [{"top_k": 2}, {"threshold": 0.5}, {"top_k": 2, "threshold": 0.25}])
def test_label_scores_equal_their_definition_on_random_problems(rule):
    for seed in range(200):
        probabilities, targets = random_problem(seed)
        if probabilities.shape[1] < 2 or not (targets == 1).any():
            continue
        scores = label_scores(probabilities, targets, **rule)
        right, predicted, positives = labels_by_definition(
            probabilities, targets, rule.get("top_k"), rule.get("threshold")
        )
        precision = [r / p if p else 0 for r, p in zip(right, predicted, strict=True)]
        recall = [r / p for r, p in zip(right, positives, strict=True) if p]
        assert scores["C-P"] == pytest.approx(np.mean(precision), abs=1e-12)
        assert scores["C-R"] == pytest.approx(np.mean(recall), abs=1e-12)
        assert scores["O-P"] == pytest.approx(right.sum() / predicted.sum() if predicted.any() else 0, abs=1e-12)
        assert scores["O-R"] == pytest.approx(right.sum() / positives.sum(), abs=1e-12)


def test_label_scores_equal_scikit_learn_where_every_class_has_a_positive():
    generator = np.random.default_rng(0)
    probabilities = generator.random((300, 6))
    targets = (generator.random((300, 6)) < 0.3).astype(np.int8)
    ours = label_scores(probabilities, targets, threshold=0.6)
    for average, prefix in (("macro", "C"), ("micro", "O")):
        p, r, f, _ = precision_recall_fscore_support(targets, probabilities > 0.6, average=average, zero_division=0)
        f1 = "C-F1 mean" if average == "macro" else "O-F1"
        assert [ours[f"{prefix}-P"], ours[f"{prefix}-R"], ours[f1]] == pytest.approx([p, r, f], abs=1e-12)


# Refusals


@pytest.mark.parametrize("fault", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    "metric", [average_precision, mean_average_precision, lambda s, t: label_scores(s, t, top_k=1)]
)
def test_score_that_is_not_finite_is_named_by_image_and_class(metric, fault):
    scores = np.zeros((4, 3))
    scores[2, 1] = fault
    with pytest.raises(InputError, match=rf"image 2, class 1 is {fault}"):
        metric(scores, np.ones((4, 3), dtype=np.int8))


@pytest.mark.parametrize("shapes", [((3, 2), (2, 3)), ((3, 2), (3, 1)), ((3,), (3,)), ((3, 0), (3, 0))])
def test_shapes_that_differ_are_refused(shapes, untyped):
    scores, targets = np.zeros(shapes[0]), np.zeros(shapes[1], dtype=np.int8)
    with pytest.raises(InputError, match="one shape"):
        average_precision(scores, targets)
    with pytest.raises(InputError, match="one shape"):
        label_scores(scores, targets, top_k=1)


def test_target_outside_the_three_values_is_named():
    with pytest.raises(InputError, match="target of image 1, class 0 is 2"):
        average_precision(np.zeros((2, 1)), np.array([[0], [2]]))


def test_unknown_kind_names_the_nearest(untyped):
    with pytest.raises(InputError, match="did you mean 'voc07'"):
        average_precision(np.zeros((2, 1)), np.zeros((2, 1), dtype=np.int8), "voc7")


def test_label_scores_need_a_rule_that_can_be_met():
    problem = np.zeros((2, 3)), np.zeros((2, 3), dtype=np.int8)
    with pytest.raises(InputError, match="top_k, threshold or both"):
        label_scores(*problem)
    for top_k in (0, 4):
        with pytest.raises(InputError, match="between 1 and 3"):
            label_scores(*problem, top_k=top_k)
