"""The matrix of scoring conventions: each number beside the direct call."""

import numpy as np
import pytest
import torch

from mlic_core.errors import InputError
from mlic_core.losses import restrict_difficult
from mlic_core.metrics import label_scores, mean_average_precision, protocol_matrix
from mlic_core.metrics.protocols import Rule
from tests.metric_problems import sigmoid

COLUMNS = ["metric", "definition", "rule", "difficult", "value", "classes"]
DIFFICULT = ("ignore", "positive", "negative")
RULES = {
    "top-3": {"top_k": 3},
    "p > 0.5": {"threshold": 0.5},
    "p > 0.6": {"threshold": 0.6},
    "top-3 and p > 0.5": {"top_k": 3, "threshold": 0.5},
    "top-3 and p > 0.6": {"top_k": 3, "threshold": 0.6},
}
LABEL_KEYS = {("C-F1", "harmonic"): "C-F1", ("C-F1", "mean of classes"): "C-F1 mean", ("O-F1", ""): "O-F1"}


def random_predictions(seed=0):
    """30 images of 6 classes: class 4 has nothing but ignored entries and negatives, class 5 negatives only."""
    generator = np.random.default_rng(seed)
    scores = generator.normal(size=(30, 6))
    targets = generator.choice(np.array([-1, 0, 1], dtype=np.int8), p=[0.1, 0.6, 0.3], size=(30, 6))
    targets[targets[:, 4] == 1, 4] = -1
    targets[:, 5] = 0
    return scores, targets


def restricted(targets, difficult):
    return restrict_difficult(torch.from_numpy(targets), difficult).numpy()


def cells(frame):
    return frame.set_index(["metric", "definition", "rule", "difficult"])


def expected_cells(scores, probabilities, targets):
    """Value in percent and number of classes of each row, from the direct calls."""
    expected = {}
    for difficult in DIFFICULT:
        settled = restricted(targets, difficult)
        classes = int((settled == 1).any(axis=0).sum())
        for kind in ("raw", "voc10", "voc07"):
            value, counted = mean_average_precision(scores, settled, kind)
            assert counted == classes
            expected["mAP", kind, "", difficult] = 100 * value, classes
        for rule, options in RULES.items():
            found = label_scores(probabilities, settled, **options)
            for (metric, definition), key in LABEL_KEYS.items():
                expected[metric, definition, rule, difficult] = 100 * found[key], classes
    return expected


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("own", [True, False])
def test_every_number_equals_the_direct_call(seed, own):
    scores, targets = random_predictions(seed)
    probabilities = np.random.default_rng(seed + 100).random(scores.shape) if own else None
    frame = protocol_matrix(scores, targets, probabilities=probabilities)
    expected = expected_cells(scores, probabilities if own else sigmoid(scores), targets)
    assert list(frame.columns) == COLUMNS
    assert set(cells(frame).index) == set(expected)
    assert len(frame) == len(expected) == 3 * (3 + 5 * 3)
    for row, (value, classes) in expected.items():
        found = cells(frame).loc[row]
        assert found["value"] == pytest.approx(value, abs=1e-9), row
        assert found["classes"] == classes, row


def test_class_of_difficult_objects_only_counts_when_they_are_positives():
    scores, targets = random_predictions()
    classes = protocol_matrix(scores, targets).groupby("difficult")["classes"].unique()
    assert {name: list(found) for name, found in classes.items()} == {"ignore": [4], "positive": [5], "negative": [4]}


def test_classes_are_whole_numbers_and_values_percent():
    frame = protocol_matrix(*random_predictions())
    assert frame["classes"].dtype.kind == "i"
    assert frame["value"].dtype == np.float64
    assert frame["value"].between(1, 100).all()


def test_without_ignored_entries_only_ignore_is_listed():
    scores, targets = random_predictions()
    targets[targets == -1] = 0
    frame = protocol_matrix(scores, targets)
    assert len(frame) == 3 + 5 * 3
    assert set(frame["difficult"]) == {"ignore"}


def test_chosen_handlings_only():
    frame = protocol_matrix(*random_predictions(), difficult=("negative", "ignore"))
    assert set(frame["difficult"]) == {"ignore", "negative"}
    whole = cells(protocol_matrix(*random_predictions()))
    assert cells(frame).equals(whole.loc[cells(frame).index])


def test_ap_ignores_the_probabilities_and_labels_ignore_the_scores():
    scores, targets = random_predictions()
    probabilities = np.random.default_rng(7).random(scores.shape)
    frame = cells(protocol_matrix(scores, targets, probabilities=probabilities))
    other = cells(protocol_matrix(-scores, targets, probabilities=probabilities))
    changed = frame["value"] != other["value"]
    assert changed.loc["mAP"].all()
    assert not changed.loc[["C-F1", "O-F1"]].any()


def test_sigmoid_stands_in_for_the_probabilities():
    scores, targets = random_predictions()
    frame = protocol_matrix(scores, targets)
    assert frame.equals(protocol_matrix(scores, targets, probabilities=sigmoid(scores)))


@pytest.mark.parametrize("threshold", [-0.5, 0.0, 1.0, 2.0])
def test_every_probability_is_above_zero_and_none_above_one(threshold):
    scores, targets = random_predictions()
    rules = [Rule(threshold=threshold)]
    found = [protocol_matrix(scores, targets, rules=rules, probabilities=p) for p in (None, sigmoid(scores))]
    assert found[0].equals(found[1])


def test_logit_zero_is_one_half_and_not_above_it():
    scores = np.array([[0.0, 1e-9, -1.0], [0.0, -1e-9, -1.0]])
    found = cells(protocol_matrix(scores, np.ones((2, 3), dtype=np.int8)))
    recall = 1 / 6  # one of six entries, and right
    assert found.loc[("O-F1", "", "p > 0.5", "ignore"), "value"] == pytest.approx(100 * 2 * recall / (1 + recall))


def test_extreme_logits_neither_overflow_nor_warn():
    scores = np.array([[1e4, -1e4, 0.0], [-1e4, 1e4, 0.0]])
    found = cells(protocol_matrix(scores, (scores > 0).astype(np.int8)))
    assert found.loc[("O-F1", "", "p > 0.6", "ignore"), "value"] == 100


def test_no_positive_gives_nan_and_no_class():
    scores = np.random.default_rng(0).normal(size=(5, 3))
    frame = protocol_matrix(scores, np.zeros((5, 3), dtype=np.int8))
    assert frame["value"].isna().all()
    assert (frame["classes"] == 0).all()


def test_unknown_handling_names_the_nearest(untyped):
    with pytest.raises(InputError, match="did you mean 'ignore'"):
        protocol_matrix(*random_predictions(), difficult=("ignored",))


def test_two_classes_have_no_top_3():
    with pytest.raises(InputError, match="top_k is 3; with 2 classes"):
        protocol_matrix(np.zeros((4, 2)), np.ones((4, 2), dtype=np.int8))


def test_targets_stay_as_they_were():
    scores, targets = random_predictions()
    before = targets.copy()
    protocol_matrix(scores, targets)
    np.testing.assert_array_equal(targets, before)
