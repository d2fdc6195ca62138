"""Scores by image: MAP@n, Zhang & Zhou's example-based scores and ranking scores, against hand values and others."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import (
    coverage_error,
    hamming_loss,
    jaccard_score,
    label_ranking_average_precision_score,
    label_ranking_loss,
    precision_recall_fscore_support,
)
from torchmetrics.functional import classification as tm

from mlic_core import published
from mlic_core.errors import InputError
from mlic_core.metrics import example_scores, image_average_precision, map_at_n, mean_average_precision, ranking_scores
from tests.metric_problems import PROBLEMS, drawn_problems, has_ties, sigmoid, without_ignored


def problem(scores, targets):
    return np.array(scores, dtype=np.float64), np.array(targets, dtype=np.int8)


def mean(values):
    return sum(values) / len(values) if values else np.nan


def by_rank(row):
    return sorted(range(len(row)), key=lambda c: (-row[c], c))


def same(expected, tolerance=1e-9):
    return pytest.approx(expected, rel=0, abs=tolerance, nan_ok=True)


def in_groups(targets):
    """The images that share their ignored classes, and the classes that count for them: rows and columns."""
    masks, group = np.unique(targets >= 0, axis=0, return_inverse=True)
    for number, mask in enumerate(masks):
        yield np.flatnonzero(group.ravel() == number), np.flatnonzero(mask)


def chosen_labels(scores, top_k):
    chosen = np.zeros(scores.shape, dtype=np.int8)
    for row, mark in zip(scores, chosen, strict=True):
        mark[by_rank(row)[:top_k]] = 1
    return chosen


# MAP@n


def map_at_n_by_definition(scores, targets, n):
    values = []
    for row, truth in without_ignored(scores, targets):
        hits, total = 0, 0.0
        for rank, c in enumerate(by_rank(row)[:n], start=1):
            if truth[c] == 1:
                hits += 1
                total += hits / rank
        if truth.any():
            values.append(total / min(truth.sum(), n))
    return mean(values)


@pytest.mark.parametrize(
    ("n", "expected"),
    [(1, 1 / 1), (2, 1 / 2), (3, (1 + 2 / 3) / 3), (4, (1 + 2 / 3) / 3), (5, (1 + 2 / 3 + 3 / 5) / 3)],
)
def test_map_at_n_divides_by_the_positives_or_n_whichever_is_fewer(n, expected):
    image = problem([[0.9, 0.8, 0.7, 0.6, 0.5]], [[1, 0, 1, 0, 1]])
    assert map_at_n(*image, n=n) == pytest.approx(expected)


def test_map_at_n_is_the_mean_over_images_with_a_positive():
    images = problem([[3, 2, 1], [3, 2, 1], [3, 2, 1]], [[1, 0, 0], [0, 0, 0], [0, 1, 0]])
    assert map_at_n(*images) == pytest.approx((1 + 1 / 2) / 2)


def test_map_at_n_counts_ten_places_unless_told_otherwise():
    scores = np.arange(12.0, 0, -1)[None]
    at_10, at_11 = np.zeros((2, 1, 12), dtype=np.int8)
    at_10[0, 9] = at_11[0, 10] = 1
    assert map_at_n(scores, at_10) == pytest.approx(1 / 10)
    assert map_at_n(scores, at_11) == 0
    assert map_at_n(scores, at_11, n=11) == pytest.approx(1 / 11)


def test_map_at_n_moves_the_next_class_into_the_place_of_an_ignored_one():
    image = problem([[0.9, 0.8, 0.7]], [[-1, 0, 1]])
    assert map_at_n(*image, n=1) == 0
    assert map_at_n(*image, n=2) == 1 / 2


def test_map_at_n_takes_the_first_class_first_among_equals():
    assert map_at_n(*problem([[0.5, 0.5]], [[1, 0]])) == 1
    assert map_at_n(*problem([[0.5, 0.5]], [[0, 1]])) == 1 / 2


def test_map_at_n_is_not_class_map():
    # Each image ranks its own label first, but class 0 scores the wrong image higher.
    images = problem([[0.2, 0.1], [0.8, 0.9]], [[1, 0], [0, 1]])
    assert map_at_n(*images) == 1
    assert mean_average_precision(*images).value == (1 / 2 + 1) / 2


def test_map_at_n_without_a_positive_is_nan():
    assert np.isnan(map_at_n(*problem([[0.1, 0.2]], [[0, -1]])))


@pytest.mark.parametrize("n", [1, 2, 3, 10])
def test_map_at_n_equals_its_definition_on_200_problems(n):
    for scores, targets in PROBLEMS:
        assert map_at_n(scores, targets, n=n) == same(map_at_n_by_definition(scores, targets, n))


def test_map_at_every_place_equals_label_ranking_average_precision_without_ties():
    compared = 0
    for scores, targets in PROBLEMS:
        some = (targets == 1).any(axis=1)
        if scores.shape[1] == 1 or has_ties(scores) or (targets == -1).any() or not some.any():
            continue
        # scikit-learn gives 1 to an image without a positive; ours leaves it out.
        ours = map_at_n(scores, targets, n=scores.shape[1])
        assert ours == same(label_ranking_average_precision_score(targets[some], scores[some]))
        batch = torch.from_numpy(sigmoid(scores[some])), torch.from_numpy(targets[some]).long(), scores.shape[1]
        assert ours == same(float(tm.multilabel_ranking_average_precision(*batch)), 1e-6)
        compared += 1
    assert compared > 50


@pytest.mark.parametrize("n", [0, -1])
def test_map_at_n_needs_a_place(n):
    with pytest.raises(InputError, match=f"n is {n}"):
        map_at_n(*problem([[0.5, 0.4]], [[1, 0]]), n=n)


# Scores of each image's top k labels


def examples_by_definition(scores, targets, top_k):
    precision, recall, hamming, accuracy = [], [], [], []
    for row, truth in zip(scores, targets, strict=True):
        counted = {c for c in range(len(row)) if truth[c] != -1}
        chosen = set(by_rank(row)[:top_k]) & counted
        present = {c for c in counted if truth[c] == 1}
        hit = chosen & present
        if counted:
            precision.append(len(hit) / len(chosen) if chosen else 0)
        if present:
            recall.append(len(hit) / len(present))
        if counted:
            hamming.append(len(chosen ^ present) / len(counted))
        if chosen | present:
            accuracy.append(len(hit) / len(chosen | present))
    p, r = mean(precision), mean(recall)
    return {
        f"P@{top_k}": p,
        f"R@{top_k}": r,
        f"F@{top_k}": 0 if p + r == 0 else 2 * p * r / (p + r),
        f"hamming@{top_k}": mean(hamming),
        f"accuracy@{top_k}": mean(accuracy),
    }


# Top 2 of each: {0, 1}, {0, 1}, {3, 2}; present: {0}, {0, 1, 3}, {1}.
TWO_CHOSEN = problem(
    [[4, 3, 2, 1], [4, 3, 2, 1], [1, 2, 3, 4]],
    [[1, 0, 0, 0], [1, 1, 0, 1], [0, 1, 0, 0]],
)


def test_example_scores_by_hand():
    p, r = (1 / 2 + 2 / 2 + 0) / 3, (1 / 1 + 2 / 3 + 0) / 3
    assert example_scores(*TWO_CHOSEN, top_k=2) == pytest.approx(
        {
            "P@2": p,
            "R@2": r,
            "F@2": 2 * p * r / (p + r),
            "hamming@2": (1 / 4 + 1 / 4 + 3 / 4) / 3,
            "accuracy@2": (1 / 2 + 2 / 3 + 0) / 3,
        }
    )


def test_f_is_the_harmonic_mean_of_mean_p_and_mean_r_unlike_scikit_learns_mean_of_the_images_f1():
    scores, targets = TWO_CHOSEN
    *_, f1, _ = precision_recall_fscore_support(targets, chosen_labels(scores, 2), average="samples", zero_division=0)
    assert f1 == pytest.approx((2 / 3 + 4 / 5 + 0) / 3)  # 0.489
    p, r = 1 / 2, 5 / 9
    assert example_scores(scores, targets, top_k=2)["F@2"] == pytest.approx(2 * p * r / (p + r))  # 0.526


@pytest.mark.parametrize("k", [3, 5])
def test_every_f_lyu_et_al_print_is_the_harmonic_mean_of_their_own_p_and_r(k):
    rows = published.results(paper="gla", table="II").pivot(index="method", columns="metric", values="value")
    rows = rows.dropna(subset=f"F@{k}")
    p, r = rows[f"P@{k}"], rows[f"R@{k}"]
    assert len(rows) == 5
    assert np.abs(2 * p * r / (p + r) - rows[f"F@{k}"]).max() < 0.011


def test_ignored_entry_keeps_its_place_in_the_top_k_and_counts_nowhere():
    # Class 0 is chosen but ignored: one of one right, one of two found, one of two counted wrong.
    scores = example_scores(*problem([[0.9, 0.8, 0.7]], [[-1, 1, 1]]), top_k=2)
    assert scores == pytest.approx({"P@2": 1, "R@2": 1 / 2, "F@2": 2 / 3, "hamming@2": 1 / 2, "accuracy@2": 1 / 2})


def test_precision_is_zero_where_every_chosen_label_is_ignored():
    scores = example_scores(*problem([[0.9, 0.1], [0.9, 0.1]], [[-1, 0], [1, 0]]), top_k=1)
    # The first image has nothing chosen and nothing present: in precision and Hamming, not in recall and accuracy.
    assert scores == pytest.approx({"P@1": 1 / 2, "R@1": 1, "F@1": 2 / 3, "hamming@1": 0, "accuracy@1": 1})


def test_image_without_positives_lowers_precision_and_accuracy_and_has_no_recall():
    scores = example_scores(*problem([[0.9, 0.1], [0.9, 0.1]], [[0, 0], [1, 0]]), top_k=1)
    assert scores == pytest.approx({"P@1": 1 / 2, "R@1": 1, "F@1": 2 / 3, "hamming@1": 1 / 4, "accuracy@1": 1 / 2})


def test_first_class_is_chosen_first_among_equals():
    assert example_scores(*problem([[0.5, 0.5, 0.5]], [[0, 1, 0]]), top_k=2)["R@2"] == 1
    assert example_scores(*problem([[0.5, 0.5, 0.5]], [[0, 0, 1]]), top_k=2)["R@2"] == 0


def test_image_ignored_as_a_whole_counts_in_nothing():
    scores, targets = TWO_CHOSEN
    more = np.vstack([scores, scores[:1]]), np.vstack([targets, np.full((1, 4), -1, dtype=np.int8)])
    assert example_scores(*more, top_k=2) == example_scores(scores, targets, top_k=2)
    assert ranking_scores(*more) == ranking_scores(scores, targets)
    assert map_at_n(*more) == map_at_n(scores, targets)


def test_no_positive_anywhere_leaves_recall_and_f_undefined():
    scores = example_scores(*problem([[0.9, 0.1]], [[0, 0]]), top_k=1)
    assert scores == same({"P@1": 0, "R@1": np.nan, "F@1": np.nan, "hamming@1": 1 / 2, "accuracy@1": 0})


@pytest.mark.parametrize("top_k", [1, 2, 3])
def test_example_scores_equal_their_definition_on_200_problems(top_k):
    for scores, targets in PROBLEMS:
        if scores.shape[1] >= top_k:
            assert example_scores(scores, targets, top_k=top_k) == same(examples_by_definition(scores, targets, top_k))


def test_example_scores_equal_scikit_learn_over_the_images_that_count():
    compared = 0
    for scores, targets in PROBLEMS:
        if scores.shape[1] < 2:
            continue
        ours = example_scores(scores, targets, top_k=2)
        # An entry neither chosen nor present counts nowhere in precision, recall and accuracy.
        present = (targets == 1).astype(np.int8)
        chosen = chosen_labels(scores, 2) * (targets != -1)

        def by_sample(rows, truth=present, guess=chosen):
            return precision_recall_fscore_support(truth[rows], guess[rows], average="samples", zero_division=0)

        # scikit-learn would give recall 0 to an image without a positive, and a value to one with nothing to compare.
        counts, some, compares = (targets >= 0).any(axis=1), present.any(axis=1), (present | chosen).any(axis=1)
        if counts.any():
            assert ours["P@2"] == same(by_sample(counts)[0])
        if some.any():
            assert ours["R@2"] == same(by_sample(some)[1])
        if compares.any():
            assert ours["accuracy@2"] == same(jaccard_score(present[compares], chosen[compares], average="samples"))
            compared += 1
        losses = []
        for rows, columns in in_groups(targets):
            if len(columns):
                loss = hamming_loss(present[np.ix_(rows, columns)].ravel(), chosen[np.ix_(rows, columns)].ravel())
                losses += [loss] * len(rows)
        assert ours["hamming@2"] == same(mean(losses))
    assert compared > 150


def test_hamming_equals_torchmetrics_which_counts_entries_instead_of_images_so_none_is_ignored():
    compared = 0
    for scores, targets in PROBLEMS:
        if scores.shape[1] < 2 or (targets == -1).any():
            continue
        batch = torch.from_numpy(chosen_labels(scores, 2)), torch.from_numpy(targets), scores.shape[1]
        theirs = tm.multilabel_hamming_distance(*batch, average="micro")
        assert example_scores(scores, targets, top_k=2)["hamming@2"] == same(float(theirs), 1e-6)
        compared += 1
    assert compared > 80


# Ranking scores


def rankings_by_definition(scores, targets):
    one_error, coverage, loss = [], [], []
    for row, truth in without_ignored(scores, targets):
        present, absent = row[truth == 1], row[truth == 0]
        if not len(present):
            continue
        one_error.append(truth[by_rank(row)[0]] == 0)
        coverage.append(sum(score >= min(present) for score in row) - 1)
        if len(absent):
            loss.append(mean([p <= a for p in present for a in absent]))
    return {"one-error": mean(one_error), "coverage": mean(coverage), "ranking loss": mean(loss)}


def test_ranking_scores_by_hand():
    images = problem(
        [[4, 3, 2, 1], [4, 3, 2, 1], [4, 3, 2, 1]],
        [[1, 0, 1, 0], [0, 0, 0, 1], [0, 0, 0, 0]],
    )
    # Image 0: the best is right, three labels reach down to class 2, 1 of 4 pairs is wrong.
    # Image 1: the best is wrong, four labels reach down to class 3, 3 of 3 pairs are. Image 2 has no positive.
    expected = {"one-error": 1 / 2, "coverage": ((3 - 1) + (4 - 1)) / 2, "ranking loss": (1 / 4 + 3 / 3) / 2}
    assert ranking_scores(*images) == pytest.approx(expected)


def test_equal_scores_are_a_ranking_loss_and_are_all_covered_but_the_first_class_is_the_best():
    assert ranking_scores(*problem([[0.5, 0.5, 0.5]], [[1, 0, 0]])) == {
        "one-error": 0,
        "coverage": 2,
        "ranking loss": 1,
    }
    assert ranking_scores(*problem([[0.5, 0.5, 0.5]], [[0, 1, 0]]))["one-error"] == 1


def test_ignored_entries_are_out_of_the_ranking():
    kept = ranking_scores(*problem([[0.9, 0.7, 0.6, 0.2]], [[0, 1, 0, 1]]))
    with_ignored = problem([[1.0, 0.9, 0.7, 0.7, 0.6, 0.2, 0.1]], [[-1, 0, -1, 1, 0, 1, -1]])
    assert ranking_scores(*with_ignored) == kept


def test_image_of_positives_only_has_a_coverage_and_no_ranking_loss():
    scores = ranking_scores(*problem([[0.9, 0.8], [0.9, 0.8]], [[1, 1], [0, 1]]))
    assert scores == pytest.approx({"one-error": 1 / 2, "coverage": 1, "ranking loss": 1})


def test_ranking_scores_without_a_positive_are_nan():
    assert np.isnan(list(ranking_scores(*problem([[0.9, 0.8], [0.1, 0.2]], [[0, 0], [-1, 0]])).values())).all()


def test_ranking_scores_equal_their_definition_on_200_problems():
    for scores, targets in PROBLEMS:
        assert ranking_scores(scores, targets) == same(rankings_by_definition(scores, targets))


def test_coverage_is_scikit_learns_minus_one_over_images_with_a_positive():
    compared = 0
    for scores, targets in PROBLEMS:
        theirs = []
        for rows, columns in in_groups(targets):
            rows = rows[(targets[rows] == 1).any(axis=1)]
            if len(rows) and len(columns) > 1:
                part = np.ix_(rows, columns)
                theirs += [coverage_error(targets[part], scores[part]) - 1] * len(rows)
                compared += len(rows)
            else:
                theirs += [0] * len(rows)  # the only class that counts: scikit-learn takes no matrix of one class
        assert ranking_scores(scores, targets)["coverage"] == same(mean(theirs))
    assert compared > 1000
    # Without a positive, scikit-learn covers with 0 labels.
    assert coverage_error([[0, 0], [1, 0]], [[0.9, 0.1], [0.9, 0.1]]) == (0 + 1) / 2


def test_ranking_loss_equals_scikit_learn_which_adds_a_zero_for_an_image_without_positives_or_negatives():
    compared, zeros = 0, 0
    for scores, targets in PROBLEMS:
        mixed = (targets == 1).any(axis=1) & (targets == 0).any(axis=1)
        theirs = []
        for rows, columns in in_groups(targets):
            if len(columns) < 2:
                continue
            for counts in (True, False):
                part = np.ix_(rows[mixed[rows] == counts], columns)
                if len(part[0]):
                    loss = label_ranking_loss(targets[part], scores[part])
                    theirs += [loss] * len(part[0]) if counts else []
                    assert counts or loss == 0
                    zeros += (not counts) * len(part[0])
        assert ranking_scores(scores, targets)["ranking loss"] == same(mean(theirs))
        compared += len(theirs)
    assert compared > 1000
    assert zeros > 200


def test_coverage_equals_torchmetrics_minus_one_in_single_precision():
    compared = 0
    for scores, targets in PROBLEMS:
        some = (targets == 1).any(axis=1)
        # Its ignore_index puts ignored entries last, where they are still covered, so none here.
        if scores.shape[1] < 2 or (targets == -1).any() or not some.any():
            continue
        batch = torch.from_numpy(sigmoid(scores[some])), torch.from_numpy(targets[some]).long(), scores.shape[1]
        theirs = float(tm.multilabel_coverage_error(*batch))
        assert ranking_scores(sigmoid(scores), targets)["coverage"] == same(theirs - 1, 1e-5)
        compared += 1
    assert compared > 80


def test_ranking_loss_equals_torchmetrics_without_ties_which_it_breaks_in_any_order():
    compared = 0
    for scores, targets in PROBLEMS:
        positives = (targets == 1).sum(axis=1)
        mixed = (positives > 0) & (positives < scores.shape[1])
        if has_ties(scores) or (targets == -1).any() or not mixed.any():
            continue
        batch = torch.from_numpy(sigmoid(scores[mixed])), torch.from_numpy(targets[mixed]).long(), scores.shape[1]
        theirs = float(tm.multilabel_ranking_loss(*batch))
        assert ranking_scores(scores, targets)["ranking loss"] == same(theirs, 1e-6)
        compared += 1
    assert compared > 50


def test_ranking_scores_equal_scikit_learn_on_many_images():
    generator = np.random.default_rng(0)
    scores = generator.integers(0, 6, size=(3_000, 5)).astype(np.float64)
    targets = (generator.random(scores.shape) < 0.4).astype(np.int8)
    some = targets.any(axis=1)
    mixed = some & ~targets.all(axis=1)
    ours = ranking_scores(scores, targets)
    assert ours["coverage"] == same(coverage_error(targets[some], scores[some]) - 1)
    assert ours["ranking loss"] == same(label_ranking_loss(targets[mixed], scores[mixed]))


# What none of them depends on

METRICS = {
    "map_at_n": lambda scores, targets: {"value": map_at_n(scores, targets, n=2)},
    "example_scores": lambda scores, targets: example_scores(scores, targets, top_k=2),
    "ranking_scores": ranking_scores,
}
each_metric = pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)


@each_metric
@settings(max_examples=30, deadline=None)
@given(problem=drawn_problems())
def test_only_the_order_within_an_image_matters(metric, problem):
    scores, targets = problem
    images = np.arange(1, len(scores) + 1)[:, None]
    np.testing.assert_equal(metric(np.exp(scores) * images - 50 * images, targets), metric(scores, targets))


@each_metric
@settings(max_examples=30, deadline=None)
@given(problem=drawn_problems(), seed=st.integers(0, 99))
def test_neither_the_order_nor_the_number_of_copies_of_the_images_matters(metric, problem, seed):
    scores, targets = problem
    expected = same(metric(scores, targets), 1e-12)
    shuffled = np.random.default_rng(seed).permutation(len(scores))
    assert metric(scores[shuffled], targets[shuffled]) == expected
    assert metric(np.tile(scores, (3, 1)), np.tile(targets, (3, 1))) == expected


@each_metric
@settings(max_examples=30, deadline=None)
@given(problem=drawn_problems(unique=True), order=st.permutations(range(3)))
def test_the_order_of_classes_does_not_matter_without_ties(metric, problem, order):
    scores, targets = problem
    assert metric(scores[:, order], targets[:, order]) == same(metric(scores, targets), 1e-12)


@settings(max_examples=30, deadline=None)
@given(problem=drawn_problems(), order=st.permutations(range(3)))
def test_the_order_of_tied_classes_matters_to_one_error_alone_of_the_ranking_scores(problem, order):
    scores, targets = problem
    before, after = ranking_scores(scores, targets), ranking_scores(scores[:, order], targets[:, order])
    for name in ("coverage", "ranking loss"):
        assert after[name] == same(before[name], 1e-12)


@each_metric
@settings(max_examples=30, deadline=None)
@given(problem=drawn_problems())
def test_a_class_ignored_everywhere_matters_only_by_the_place_it_takes(metric, problem):
    scores, targets = problem
    lowest = np.full((len(scores), 1), -100.0), np.full((len(scores), 1), -1, dtype=np.int8)
    with_class = np.hstack([scores, lowest[0]]), np.hstack([targets, lowest[1]])
    np.testing.assert_equal(metric(*with_class), metric(scores, targets))


@settings(max_examples=30, deadline=None)
@given(problem=drawn_problems())
def test_shares_lie_between_0_and_1_and_coverage_between_0_and_the_other_classes(problem):
    ranking = ranking_scores(*problem)
    coverage = ranking.pop("coverage")
    assert np.isnan(coverage) or 0 <= coverage <= 2
    shares = [map_at_n(*problem), *example_scores(*problem, top_k=2).values(), *ranking.values()]
    assert all(np.isnan(share) or 0 <= share <= 1 for share in shares)


def test_the_values_of_the_images_have_map_at_n_as_their_mean():
    scores, targets = np.array([[0.9, 0.8, 0.1], [0.3, 0.2, 0.1], [0.1, 0.2, 0.3]]), np.array(
        [[0, 1, 1], [0, 0, 0], [-1, 1, 0]], dtype=np.int8
    )
    np.testing.assert_allclose(image_average_precision(scores, targets, 2), [0.25, np.nan, 0.5])
    assert map_at_n(scores, targets, 2) == pytest.approx(0.375)


def test_ten_places_count_unless_told_otherwise():
    """One label, on the eleventh place of twelve."""
    scores, targets = -np.arange(12.0)[None], np.zeros((1, 12), np.int8)
    targets[0, 10] = 1
    assert image_average_precision(scores, targets) == [0] and image_average_precision(scores, targets, 11) == [1 / 11]
