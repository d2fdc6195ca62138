"""Average precision and label scores against hand values, plain loops, scikit-learn and torchmetrics."""

from functools import partial

import numpy as np
import pytest
import sklearn
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, precision_recall_curve, precision_recall_fscore_support
from torchmetrics.functional import classification as tm

from mlic_core.errors import InputError
from mlic_core.metrics import (
    average_precision,
    bootstrap,
    example_scores,
    label_scores,
    map_at_n,
    mean_average_precision,
    paired_bootstrap,
    protocol_matrix,
    ranking_scores,
)
from tests.metric_problems import PROBLEMS, drawn_problems, has_ties, sigmoid, without_ignored

KINDS = ("raw", "voc10", "voc07")


def one_class(scores, targets, kind="raw"):
    column = np.array(scores, dtype=np.float64)[:, None], np.array(targets, dtype=np.int8)[:, None]
    return average_precision(*column, kind)[0]


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


# The problems themselves


@pytest.mark.parametrize(
    ("situation", "holds"),
    {
        "ties": lambda scores, targets: has_ties(scores) and not (scores == scores[0, 0]).all(),
        "no ties": lambda scores, targets: not has_ties(scores),
        "ignored entries": lambda scores, targets: (targets == -1).any(),
        "nothing ignored": lambda scores, targets: (targets >= 0).all() and scores.size > 1,
        "ties and ignored entries": lambda scores, targets: has_ties(scores) and (targets == -1).any(),
        "class without positives": lambda scores, targets: (targets < 1).all(axis=0).any(),
        "class without negatives": lambda scores, targets: (targets == 1).all(axis=0).any(),
        "image without positives": lambda scores, targets: (targets < 1).all(axis=1).any(),
        "class ignored as a whole": lambda scores, targets: (targets == -1).all(axis=0).any(),
        "image ignored as a whole": lambda scores, targets: (targets == -1).all(axis=1).any(),
        "one image": lambda scores, targets: len(scores) == 1,
        "one class": lambda scores, targets: scores.shape[1] == 1,
        "constant scores": lambda scores, targets: scores.size > 1 and (scores == scores[0, 0]).all(),
    }.items(),
)
def test_ten_or_more_of_the_200_problems_have_each_situation(situation, holds):
    assert len(PROBLEMS) == 200
    assert sum(bool(holds(*problem)) for problem in PROBLEMS) >= 10, situation


def test_the_200_problems_hardly_repeat_and_are_exact_in_single_precision():
    assert len({(p.scores.tobytes(), p.targets.tobytes(), p.scores.shape) for p in PROBLEMS}) > 195
    assert all((p.scores == p.scores.astype(np.float32)).all() for p in PROBLEMS)


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
def test_ap_equals_its_definition_on_200_problems(kind):
    for scores, targets in PROBLEMS:
        expected = [ap_by_definition(*pair, kind) for pair in zip(scores.T, targets.T, strict=True)]
        ours = average_precision(scores, targets, kind)
        np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-9)
        value, classes = mean_average_precision(scores, targets, kind)
        kept = [ap for ap in expected if ap == ap]
        assert classes == len(kept)
        assert value == pytest.approx(sum(kept) / len(kept) if kept else np.nan, abs=1e-9, nan_ok=True)


def test_raw_ap_equals_scikit_learn_which_has_a_zero_where_ours_leaves_a_class_out():
    compared, left_out = 0, 0
    for scores, targets in PROBLEMS:
        for ours, (s, t) in zip(average_precision(scores, targets), without_ignored(scores.T, targets.T), strict=True):
            if t.any():
                with sklearn.config_context(skip_parameter_validation=True, assume_finite=True):  # quicker
                    assert ours == pytest.approx(average_precision_score(t, s), abs=1e-9)
            else:
                assert np.isnan(ours)
            compared, left_out = compared + t.any(), left_out + (not t.any())
    assert compared > 500
    assert left_out > 50
    with pytest.warns(UserWarning, match="No positive class"):
        assert average_precision_score([0, 0], [0.1, 0.2]) == 0


def test_voc_ap_equals_the_envelope_of_scikit_learns_curve():
    for scores, targets in PROBLEMS:
        area, points = average_precision(scores, targets, "voc10"), average_precision(scores, targets, "voc07")
        for c, (s, t) in enumerate(without_ignored(scores.T, targets.T)):
            if t.any():
                precision, recall, _ = precision_recall_curve(t, s)
                envelope = np.maximum.accumulate(precision)  # recall falls along the curve
                assert area[c] == pytest.approx((-np.diff(recall) * envelope[:-1]).sum(), abs=1e-9)
                eleven = [precision[recall >= k / 10].max() for k in range(11)]
                # The curve ends in a made-up point (recall 0, precision 1), which VOC doesn't have.
                eleven[0] = precision[:-1].max()
                assert points[c] == pytest.approx(np.mean(eleven), abs=1e-9)


def test_raw_ap_equals_torchmetrics_which_computes_in_single_precision():
    compared = 0
    for scores, targets in PROBLEMS:
        # torchmetrics warns and gives 0 where a class has no positive, and refuses a single label.
        some = (targets == 1).any(axis=0)
        if some.sum() < 2:
            continue
        ours = average_precision(sigmoid(scores), targets)[some]
        probabilities, labels = torch.from_numpy(sigmoid(scores)[:, some]), torch.from_numpy(targets[:, some]).long()
        theirs = tm.multilabel_average_precision(probabilities, labels, len(ours), average=None, ignore_index=-1)
        np.testing.assert_allclose(ours, theirs.numpy(), rtol=0, atol=1e-6)
        compared += 1
    assert compared > 120


def test_raw_ap_equals_scikit_learn_on_many_images():
    generator = np.random.default_rng(0)
    scores = generator.normal(size=(50_000, 3)).round(3)
    targets = (generator.random((50_000, 3)) < [0.5, 0.05, 0.001]).astype(np.int8)
    expected = [average_precision_score(t, s) for s, t in zip(scores.T, targets.T, strict=True)]
    np.testing.assert_allclose(average_precision(scores, targets), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_largest_finite_scores_keep_their_order(kind):
    top = np.finfo(np.float64).max
    scores, targets = [top, 1.0, 0.0, -0.0, -top], [1, 0, 1, 0, 1]
    assert one_class(scores, targets, kind) == one_class([4, 3, 2, 2, 1], targets, kind)


@settings(max_examples=30, deadline=None)
@given(problem=drawn_problems(), kind=st.sampled_from(KINDS), seed=st.integers(0, 99))
def test_ap_depends_only_on_the_order_of_scores_within_a_class(problem, kind, seed):
    scores, targets = problem
    expected = average_precision(scores, targets, kind)
    shuffled = np.random.default_rng(seed).permutation(len(scores))
    np.testing.assert_allclose(average_precision(scores[shuffled], targets[shuffled], kind), expected, atol=1e-12)
    by_class = np.exp(scores) * [1, 2, 3] - [7, 0, 100]
    np.testing.assert_array_equal(average_precision(by_class, targets, kind), expected)


@settings(max_examples=30, deadline=None)
@given(problem=drawn_problems(), kind=st.sampled_from(KINDS), order=st.permutations(range(3)))
def test_ap_of_permuted_classes_is_the_permuted_ap(problem, kind, order):
    scores, targets = problem
    expected = average_precision(scores, targets, kind)[order]
    np.testing.assert_allclose(average_precision(scores[:, order], targets[:, order], kind), expected, atol=1e-12)


@settings(max_examples=30, deadline=None)
@given(problem=drawn_problems())
def test_ap_lies_in_the_unit_interval_and_the_envelope_only_raises_it(problem):
    raw, envelope = average_precision(*problem, "raw"), average_precision(*problem, "voc10")
    counted = ~np.isnan(raw)
    assert (raw[counted] > 0).all()
    assert (envelope[counted] <= 1).all()
    assert (raw[counted] <= envelope[counted] + 1e-12).all()


@settings(max_examples=30, deadline=None)
@given(problem=drawn_problems(), kind=st.sampled_from(KINDS))
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


RULES = ({"top_k": 1}, {"top_k": 2}, {"threshold": 0.25}, {"top_k": 2, "threshold": 0.25})


@pytest.mark.parametrize("rule", RULES)
def test_label_scores_equal_their_definition_on_200_problems(rule):
    for scores, targets in PROBLEMS:
        if scores.shape[1] < rule.get("top_k", 1):
            continue
        right, predicted, positives = labels_by_definition(scores, targets, rule.get("top_k"), rule.get("threshold"))
        some = positives > 0
        precision = [r / p if p else 0 for r, p in zip(right, predicted, strict=True)]
        recall = right[some] / positives[some]
        f1 = 2 * right[some] / (predicted + positives)[some]
        expected = {
            "C-P": np.mean(precision),
            "C-R": np.mean(recall) if some.any() else np.nan,
            "C-F1 mean": np.mean(f1) if some.any() else np.nan,
            "O-P": right.sum() / predicted.sum() if predicted.any() else 0,
            "O-R": right.sum() / positives.sum() if some.any() else np.nan,
        }
        for average in "CO":
            p, r = expected[f"{average}-P"], expected[f"{average}-R"]
            expected[f"{average}-F1"] = 0 if p + r == 0 else 2 * p * r / (p + r)
        assert label_scores(scores, targets, **rule) == pytest.approx(expected, abs=1e-12, nan_ok=True)


def test_label_scores_equal_scikit_learn_which_counts_a_zero_for_a_class_without_positives():
    for scores, targets in PROBLEMS:
        ours = label_scores(scores, targets, threshold=0.125)
        some = (targets == 1).any(axis=0)
        # An entry neither predicted nor present counts nowhere; each class twice, since one alone is no matrix to it.
        present = np.tile(targets == 1, 2).astype(int)
        predicted = np.tile((scores > 0.125) & (targets >= 0), 2).astype(int)
        by_class = precision_recall_fscore_support(present, predicted, average=None, zero_division=0)[:3]
        precision, recall, f1 = np.array(by_class)[:, : len(some)]
        assert ours["C-P"] == pytest.approx(precision.mean(), abs=1e-9)
        assert not np.concatenate([recall[~some], f1[~some]]).any()
        if some.any():
            overall = precision_recall_fscore_support(present, predicted, average="micro", zero_division=0)[:3]
            expected = [recall[some].mean(), f1[some].mean(), *overall]
            assert [ours[key] for key in ("C-R", "C-F1 mean", "O-P", "O-R", "O-F1")] == pytest.approx(
                expected, abs=1e-9
            )


def test_label_scores_equal_scikit_learns_macro_and_micro_where_every_class_has_a_positive():
    generator = np.random.default_rng(0)
    probabilities = generator.random((300, 6))
    targets = (generator.random((300, 6)) < 0.3).astype(np.int8)
    ours = label_scores(probabilities, targets, threshold=0.6)
    for average, prefix in (("macro", "C"), ("micro", "O")):
        p, r, f, _ = precision_recall_fscore_support(targets, probabilities > 0.6, average=average, zero_division=0)
        f1 = "C-F1 mean" if average == "macro" else "O-F1"
        assert [ours[f"{prefix}-P"], ours[f"{prefix}-R"], ours[f1]] == pytest.approx([p, r, f], abs=1e-12)


def test_label_scores_equal_torchmetrics_which_computes_in_single_precision():
    compared = 0
    for scores, targets in PROBLEMS:
        some = (targets == 1).any(axis=0)
        if scores.shape[1] < 2 or not some.any():
            continue
        ours = label_scores(sigmoid(scores), targets, threshold=0.5)
        batch = torch.from_numpy(sigmoid(scores)), torch.from_numpy(targets).long(), scores.shape[1]
        options = {"threshold": 0.5, "ignore_index": -1, "validate_args": False}
        precision = tm.multilabel_precision(*batch, average="macro", **options)
        recall = tm.multilabel_recall(*batch, average=None, **options).numpy()
        f1 = tm.multilabel_f1_score(*batch, average=None, **options).numpy()
        assert ours["C-P"] == pytest.approx(float(precision), abs=1e-6)
        # As in scikit-learn, a class without positives has recall and F1 of 0 there and none here.
        assert ours["C-R"] == pytest.approx(recall[some].mean(), abs=1e-6)
        assert ours["C-F1 mean"] == pytest.approx(f1[some].mean(), abs=1e-6)
        overall = {"O-P": tm.multilabel_precision, "O-R": tm.multilabel_recall, "O-F1": tm.multilabel_f1_score}
        for name, theirs in overall.items():
            assert ours[name] == pytest.approx(float(theirs(*batch, average="micro", **options)), abs=1e-6)
        compared += 1
    assert compared > 120


@settings(max_examples=30, deadline=None)
@given(problem=drawn_problems(), rule=st.sampled_from(RULES), seed=st.integers(0, 99))
def test_label_scores_know_no_order_of_images_and_no_count_of_copies(problem, rule, seed):
    scores, targets = problem
    expected = pytest.approx(label_scores(scores, targets, **rule), abs=1e-12, nan_ok=True)
    shuffled = np.random.default_rng(seed).permutation(len(scores))
    assert label_scores(scores[shuffled], targets[shuffled], **rule) == expected
    assert label_scores(np.tile(scores, (3, 1)), np.tile(targets, (3, 1)), **rule) == expected


@settings(max_examples=30, deadline=None)
@given(problem=drawn_problems(unique=True), rule=st.sampled_from(RULES), order=st.permutations(range(3)))
def test_label_scores_know_no_order_of_classes_without_ties(problem, rule, order):
    scores, targets = problem
    expected = pytest.approx(label_scores(scores, targets, **rule), abs=1e-12, nan_ok=True)
    assert label_scores(scores[:, order], targets[:, order], **rule) == expected


@settings(max_examples=30, deadline=None)
@given(problem=drawn_problems())
def test_top_k_labels_depend_only_on_the_order_within_an_image(problem):
    scores, targets = problem
    by_image = np.exp(scores) * np.arange(1, len(scores) + 1)[:, None] - 50
    expected = label_scores(scores, targets, top_k=2)
    np.testing.assert_equal(label_scores(by_image, targets, top_k=2), expected)


@settings(max_examples=30, deadline=None)
@given(problem=drawn_problems())
def test_threshold_moves_with_the_scores(problem):
    scores, targets = problem
    expected = label_scores(scores, targets, threshold=1.0)
    np.testing.assert_equal(label_scores(scores**3 - 9, targets, threshold=-8.0), expected)


# Every function: how its arrays are held, and what it refuses


def protocol_values(scores, targets, **options):
    return protocol_matrix(scores, targets, **options).to_dict("list")


EVERY_FUNCTION = {
    "average_precision": average_precision,
    "mean_average_precision": mean_average_precision,
    "label_scores, top 2": partial(label_scores, top_k=2),
    "label_scores, threshold": partial(label_scores, threshold=0.25),
    "map_at_n": map_at_n,
    "example_scores": partial(example_scores, top_k=2),
    "ranking_scores": ranking_scores,
    "bootstrap": partial(bootstrap, n=20),
    "bootstrap of another metric": partial(bootstrap, metric=map_at_n, n=20),
    "bootstrap over runs": lambda s, t: bootstrap(np.stack([np.zeros_like(s), s]), t, n=20),
    "paired_bootstrap, first": lambda s, t: paired_bootstrap(s, np.zeros_like(s), t, n=20),
    "paired_bootstrap, second": lambda s, t: paired_bootstrap(np.zeros_like(s), s, t, n=20),
    "paired_bootstrap of another metric": lambda s, t: paired_bootstrap(np.zeros_like(s), s, t, map_at_n, n=20),
    "protocol_matrix": protocol_values,
    "protocol_matrix, probabilities": lambda s, t: protocol_values(np.zeros_like(s), t, probabilities=s),
}
every_function = pytest.mark.parametrize("function", EVERY_FUNCTION.values(), ids=EVERY_FUNCTION)


def held_problem():
    """Probabilities in steps of 1/8, exact in half precision."""
    generator = np.random.default_rng(5)
    targets = generator.choice(np.array([-1, 0, 1], dtype=np.int8), p=[0.1, 0.5, 0.4], size=(12, 4))
    return generator.integers(0, 9, size=(12, 4)) / 8, targets


@every_function
def test_single_precision_scores_give_the_double_precision_result(function):
    scores, targets = held_problem()
    np.testing.assert_equal(function(scores.astype(np.float32), targets), function(scores, targets))


@every_function
def test_memory_layout_of_the_arrays_does_not_matter(function):
    scores, targets = held_problem()
    expected = function(scores, targets)
    np.testing.assert_equal(function(np.asfortranarray(scores), np.asfortranarray(targets)), expected)
    spread = np.zeros((24, 8))
    spread[::2, 1::2] = scores
    np.testing.assert_equal(function(spread[::2, 1::2], targets), expected)
    np.testing.assert_equal(function(scores[::-1].copy()[::-1], targets[::-1].copy()[::-1]), expected)


@every_function
def test_width_of_the_integer_targets_does_not_matter(function):
    scores, targets = held_problem()
    np.testing.assert_equal(function(scores, targets.astype(np.int64)), function(scores, targets))


@every_function
def test_inputs_are_left_as_they_were(function):
    scores, targets = held_problem()
    scores.setflags(write=False)
    targets.setflags(write=False)
    function(scores, targets)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int64])
@pytest.mark.parametrize("name", [name for name in EVERY_FUNCTION if not name.startswith("protocol")])
def test_integer_scores_rank_as_their_floats_do(name, dtype):
    scores, targets = held_problem()
    scores = (8 * scores).astype(dtype)
    scores[0, 0] = np.iinfo(dtype).min  # whose negative overflows
    function = EVERY_FUNCTION[name]
    np.testing.assert_equal(function(scores, targets), function(scores.astype(np.float64), targets))


@pytest.mark.parametrize("threshold", [0.6, 0.7])
def test_single_precision_probability_beside_the_threshold_is_compared_as_it_is(threshold):
    # The single-precision neighbours of 0.6 and 0.7 lie above and below them.
    probabilities = np.array([[threshold]], dtype=np.float32)
    recall = label_scores(probabilities, np.array([[1]]), threshold=threshold)["O-R"]
    assert recall == (float(probabilities[0, 0]) > threshold)


@pytest.mark.parametrize("fault", [np.nan, np.inf, -np.inf])
@every_function
def test_score_that_is_not_finite_is_named_by_image_and_class(function, fault):
    scores, targets = held_problem()
    scores[7, 3] = fault
    with pytest.raises(InputError, match=rf"image 7, class 3 is {fault}"):
        function(scores, targets)


@every_function
def test_score_of_an_ignored_entry_must_be_finite_too(function):
    scores, targets = held_problem()
    scores[7, 3], targets[7, 3] = np.nan, -1
    with pytest.raises(InputError, match="image 7, class 3 is nan"):
        function(scores, targets)


@every_function
def test_target_outside_the_three_values_is_named(function):
    scores, targets = held_problem()
    targets[7, 3] = 2
    with pytest.raises(InputError, match="target of image 7, class 3 is 2"):
        function(scores, targets)


@pytest.mark.parametrize("fault", [0.5, np.nan])
def test_target_between_the_three_values_is_named(fault, untyped):
    scores, targets = held_problem()
    targets = targets.astype(np.float64)
    targets[7, 3] = fault
    for function in (average_precision, ranking_scores, bootstrap):
        with pytest.raises(InputError, match=f"target of image 7, class 3 is {fault}"):
            function(scores, targets)


@every_function
@pytest.mark.parametrize("shape", [(12, 3), (11, 4), (4, 12)])
def test_shapes_that_differ_are_refused(function, shape, untyped):
    scores, _ = held_problem()
    with pytest.raises(InputError, match="one shape"):
        function(scores, np.zeros(shape, dtype=np.int8))


@pytest.mark.parametrize("shape", [(3,), (3, 0), (2, 3, 4)])
def test_arrays_that_are_not_images_by_classes_are_refused(shape, untyped):
    for name in ("average_precision", "label_scores, top 2", "map_at_n", "example_scores", "ranking_scores"):
        with pytest.raises(InputError, match="one shape"):
            EVERY_FUNCTION[name](np.zeros(shape), np.zeros(shape, dtype=np.int8))


def test_unknown_kind_names_the_nearest(untyped):
    with pytest.raises(InputError, match="did you mean 'voc07'"):
        average_precision(np.zeros((2, 1)), np.zeros((2, 1), dtype=np.int8), "voc7")


@pytest.mark.parametrize("function", [label_scores, example_scores])
@pytest.mark.parametrize("top_k", [0, 4])
def test_top_k_must_name_a_number_of_classes(function, top_k):
    with pytest.raises(InputError, match="between 1 and 3"):
        function(np.zeros((2, 3)), np.zeros((2, 3), dtype=np.int8), top_k=top_k)


def test_label_scores_need_a_rule():
    with pytest.raises(InputError, match="top_k, threshold or both"):
        label_scores(np.zeros((2, 3)), np.zeros((2, 3), dtype=np.int8))


ZEROS, NONE = np.zeros((2, 3)), np.zeros((2, 3), dtype=np.int8)


def with_fault(array, fault):
    found = array.copy()
    found[1, 2] = fault
    return found


@pytest.mark.parametrize(("call", "sentence"), [
    (lambda: average_precision(ZEROS, NONE[:, :2]),
     "scores and targets must have one shape (images, classes), not (2, 3) and (2, 2)."),
    (lambda: average_precision(with_fault(ZEROS, np.nan), NONE),
     "the score of image 1, class 2 is nan; scores must be finite."),
    (lambda: average_precision(ZEROS, with_fault(NONE, 2)),
     "the target of image 1, class 2 is 2; targets are 1 (present), 0 (absent) or -1 (ignored)."),
    (lambda: average_precision(ZEROS, NONE, "voc7"),
     "kind='voc7': choose one of raw, voc10, voc07; did you mean 'voc07'?"),
    (lambda: label_scores(ZEROS, NONE), "label_scores needs a rule: give top_k, threshold or both."),
    (lambda: label_scores(ZEROS, NONE, top_k=4), "top_k is 4; with 3 classes it must lie between 1 and 3."),
    (lambda: map_at_n(ZEROS, NONE, 0), "n is 0; MAP@n needs at least the first place."),
    (lambda: bootstrap(ZEROS, NONE, n=0), "n is 0 and level 0.95: n must be at least 1 and level between 0 and 1."),
    (lambda: bootstrap(ZEROS[:0], NONE[:0]), "scores of shape (0, 3) hold no run or no image to resample."),
    (lambda: protocol_matrix(ZEROS, NONE, difficult=("ignored",)),
     "difficult='ignored': choose one of ignore, positive, negative; did you mean 'ignore'?"),
])  # fmt: skip
def test_a_refusal_is_one_sentence_that_says_what_to_change(call, sentence, untyped):
    with pytest.raises(InputError) as refusal:
        call()
    assert str(refusal.value) == sentence
