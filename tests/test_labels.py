"""Co-occurrence, neighbours, recall by bins and the textbook beam search, against small cases worked by hand."""

import math

import numpy as np
import pytest
import torch

from mlic_core import labels
from mlic_core.metrics import label_scores
from mlic_core.models.beam import beam_search
from mlic_core.study.evaluate import evaluate, path_labels

# Four images; label 0 in three of them, label 1 in two, both in two, label 2 in one.
IMAGES = np.array([[1, 1, 0], [1, 1, 0], [1, 0, 1], [0, 0, 0]], dtype=bool)
nan = math.nan


def test_every_class_of_voc_and_coco_has_a_group():
    from mlic_core.data.picto_coco import CLASSES
    from mlic_core.data.voc import LABELS

    assert {labels.group_of(name) for name in (*CLASSES, *LABELS)} <= set(labels.GROUPS)
    assert labels.group_of("dining table") == labels.group_of("diningtable") == "indoor"
    assert labels.group_of("clouds") == "other"


def test_groups_hold_each_name_once_and_all_80_of_coco():
    names = [name for group in labels.GROUPS.values() for name in group.split()]
    assert len(names) == len(set(names))
    voc_only = {"aeroplane", "motorbike", "diningtable", "pottedplant", "sofa", "tvmonitor"}
    assert len(set(names) - voc_only) == 80


def test_conditional_probabilities_are_read_given_the_row():
    assert labels.conditional(IMAGES) == pytest.approx(
        np.array([[nan, 2 / 3, 1 / 3], [1, nan, 0], [1, 0, nan]]), nan_ok=True
    )


def test_rows_of_rare_labels_and_of_labels_that_are_never_there_are_undefined():
    shares = labels.conditional(np.array([[1, 0, 0], [1, 1, 0]], dtype=bool), least=2)
    assert shares == pytest.approx(np.array([[nan, 0.5, 0], [nan] * 3, [nan] * 3]), nan_ok=True)


def test_transitions_are_of_the_first_two_labels():
    sequences = np.array([[0, 1, 3], [0, 2, 1], [0, 1, 2], [1, 3, -1], [3, -1, -1]])  # END is 3
    shares = labels.transitions(sequences, 3)
    assert shares == pytest.approx(np.array([[nan, 2 / 3, 1 / 3], [nan] * 3, [nan] * 3]), nan_ok=True)
    assert np.isnan(labels.transitions(sequences, 3, least=4)).all()


def test_expected_next_labels_leave_out_end_and_the_label_itself():
    scores = np.log(np.array([[[9, 3, 1, 5], [1, 9, 1, 5], [2, 6, 9, 5]]], dtype=np.float64))
    both = np.concatenate([scores, scores[:, :, [1, 0, 2, 3]] + 7])  # any shift, and another image
    alone = labels.next_given_first(scores)
    assert alone == pytest.approx(np.array([[nan, 0.75, 0.25], [0.5, nan, 0.5], [0.25, 0.75, nan]]), nan_ok=True)
    second = labels.next_given_first(both[1:])
    assert labels.next_given_first(both) == pytest.approx((alone + second) / 2, nan_ok=True)


def test_agreement_counts_only_what_both_define():
    a, b = np.array([[nan, 0.2], [0.4, 0.6]]), np.array([[nan, 0.1], [0.3, nan]])
    found = labels.agreement(a, b)
    assert (found.pairs, found.error, found.correlation) == pytest.approx((2, 0.1, 1.0))
    constant = labels.agreement(a, np.full((2, 2), 0.5))
    assert constant.pairs == 3 and math.isnan(constant.correlation)
    assert labels.agreement(a, np.full((2, 2), nan)).pairs == 0


def test_nearest_labels_are_others_in_the_order_of_their_angle():
    embedding = np.array([[1.0, 0.0], [5.0, 1.0], [0.0, 2.0], [-1.0, 0.0]])
    assert labels.nearest_labels(embedding, 2).tolist() == [[1, 2], [0, 2], [1, 0], [2, 1]]
    assert labels.cosine(np.zeros((1, 2)), embedding).tolist() == [[0, 0, 0, 0]]


def test_nearest_puts_undefined_last_and_the_first_of_equals_first():
    assert labels.nearest(np.array([[nan, 0.5, 0.5, 0.9]]), 4).tolist() == [[3, 1, 2, 0]]


def test_the_plane_keeps_distances_of_points_that_lie_in_one():
    generator = np.random.default_rng(0)
    flat = generator.normal(size=(6, 2)) @ np.linalg.qr(generator.normal(size=(5, 5)))[0][:2]
    plane, shares = labels.principal_plane(flat)
    assert shares.sum() == pytest.approx(1) and shares[0] > shares[1]
    assert np.linalg.norm(plane[1] - plane[4]) == pytest.approx(np.linalg.norm(flat[1] - flat[4]))
    mirrored, _ = labels.principal_plane(flat * [1, -1, 1, 1, 1])
    assert (np.abs(mirrored) == pytest.approx(np.abs(plane))) and mirrored.max(0) == pytest.approx(plane.max(0))


def test_context_support_is_the_strongest_suggestion_of_another_label():
    given = np.array([[nan, 0.9, 0.1], [0.2, nan, 0.3], [nan, nan, nan]])
    images = np.array([[1, 1, 0], [0, 1, 1], [1, 0, 0], [0, 0, 0]], dtype=bool)
    support = labels.context_support(images, given)
    assert support.tolist() == [[0.2, 0.9, 0.3], [0.2, 0.0, 0.3], [0.0, 0.9, 0.1], [0.0, 0.0, 0.0]]


def test_top_labels_take_a_number_for_each_image():
    scores = np.array([[0.1, 0.9, 0.9], [0.5, 0.4, 0.6], [0.3, 0.2, 0.1]])
    assert labels.top_labels(scores, np.array([1, 2, 0])).tolist() == [
        [False, True, False], [True, False, True], [False, False, False],
    ]  # fmt: skip


def test_given_labels_are_those_that_the_metrics_of_a_run_count():
    generator = np.random.default_rng(1)
    scores = generator.normal(size=(30, 6)).astype(np.float32)
    targets = generator.integers(-1, 2, (30, 6)).astype(np.int8)
    paths = np.argsort(generator.normal(size=(30, 6)), axis=1)
    paths[np.arange(6) >= generator.integers(0, 6, (30, 1))] = -1
    found = evaluate(scores, targets, tuple("abcdef"), paths=paths[:, None], activation="softmax")
    for name, path in (("@3", None), (" path@3", path_labels(paths, 6))):
        given = labels.given_labels(scores, 3, path)
        counted = label_scores(given.astype(float), targets, threshold=0.5)
        assert {key: 100 * value for key, value in counted.items()} == pytest.approx(
            {key: found[f"{key}{name}"] for key in counted}
        )


def test_probabilities_of_runs_are_averaged_not_their_logarithms():
    runs = np.log(np.array([[[0.1, 0.9]], [[0.5, 0.3]]]))
    assert np.exp(labels.mean_probability(runs)) == pytest.approx(np.array([[0.3, 0.6]]))


def test_scores_of_the_classes_average_to_the_class_metrics():
    generator = np.random.default_rng(2)
    given, targets = generator.random((40, 5)) < 0.4, generator.integers(-1, 2, (40, 5)).astype(np.int8)
    given[:, 3], targets[:, 4] = False, 0
    precision, recall = labels.class_scores(given, targets)
    whole = label_scores(given.astype(float), targets, threshold=0.5)
    assert precision[3] == 0 and math.isnan(recall[4])
    assert (precision.mean(), np.nanmean(recall)) == pytest.approx((whole["C-P"], whole["C-R"]))


def test_recall_by_bins_counts_present_labels_with_a_known_value():
    targets = np.array([[1, 1, 1], [1, 0, -1]], dtype=np.int8)
    given = np.array([[1, 0, 1], [0, 1, 1]], dtype=bool)
    values = np.array([[0.1, 0.1, nan], [1.0, 0.1, 0.1]])
    recall, counts = labels.recall_by(given, targets, values, [0, 0.2, 0.5, 1])
    assert recall == pytest.approx([0.5, nan, 0.0], nan_ok=True)
    assert counts.tolist() == [2, 0, 1]
    bins, counts, curves = labels.recall_panel({"a": given[None]}, targets, values, [0, 0.2, 0.5, 1])
    assert bins == ["0–20 %", "20–50 %", "50–100 %"] and counts.tolist() == [2, 0, 1]
    assert curves["a"] == pytest.approx(recall[None], nan_ok=True)


# What follows each label of a, b, c and START, as in the notebook: a is probable and leads nowhere.
P = np.array([[0, 0.3, 0.3, 0.4], [0.05, 0, 0.05, 0.9], [0, 0, 0, 1], [0, 0, 0, 1], [0.5, 0.4, 0.1, 0]])
FOLLOWS = np.log(P + 1e-12)


def after(paths):
    return FOLLOWS[[path[-1] if path else 4 for path in paths]]


def test_the_traced_search_shows_what_lived_ended_and_was_dropped():
    first, second = labels.trace_beam(after, 3, beam=2, length=3)[:2]
    assert [(one.path, one.fate) for one in first] == [((0,), "live"), ((1,), "live"), ((3,), "ended")]
    best = max((one for one in second if one.fate == "ended"), key=lambda one: one.log_p)
    assert best.path == (1, 3) and math.exp(best.log_p) == pytest.approx(0.36)
    assert {one.fate for one in second if one.path[-1] != 3} == {"dropped"}  # .15 is below .36
    assert best.p == pytest.approx(0.9)


def test_a_least_length_bars_end():
    steps = labels.trace_beam(after, 3, beam=2, length=3, min_length=2)
    ended = [one for grown in steps for one in grown if one.fate == "ended"]
    assert min(len(one.path) for one in ended) == 3


@pytest.mark.parametrize("beam", [1, 2, 5])
@pytest.mark.parametrize(("length", "min_length"), [(4, 0), (4, 2), (2, 2), (5, 5)])
def test_the_traced_search_finds_what_the_batched_one_finds(beam, length, min_length):
    generator = np.random.default_rng(beam)
    for _ in range(5):
        table = generator.normal(scale=1.5, size=(7, 6))
        table[:, 5] += 1  # END
        steps = labels.trace_beam(
            lambda paths, table=table: table[[path[-1] if path else 6 for path in paths]],
            5, beam=beam, length=length, min_length=min_length,
        )  # fmt: skip
        found = beam_search(
            lambda state, last, table=table: (torch.from_numpy(table)[last], state),
            (), 1, 5, beam=beam, length=length, min_length=min_length, device="cpu",
        )  # fmt: skip
        best = max((one for grown in steps for one in grown if one.fate == "ended"), key=lambda one: one.log_p)
        assert list(best.path[:-1]) == [label for label in found.paths[0, 0].tolist() if label >= 0]
        assert best.log_p == pytest.approx(found.path_log_probs[0, 0].item(), abs=1e-5)
