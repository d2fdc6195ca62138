"""One-vs-rest SVMs beside scikit-learn's, fitted by hand, and beside the objective itself."""

import numpy as np
import pytest
import torch
from sklearn.svm import LinearSVC

from mlic_core.errors import InputError
from mlic_core.metrics import average_precision, mean_average_precision
from mlic_core.models import svm as module
from mlic_core.models.svm import choose_C, fit_svm, svm_scores


def problem(seed=0, images=60, units=5, classes=4, dtype=torch.float64):
    """Features of different scales, and noisy labels of which some are ignored."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(images, units, dtype=dtype, generator=generator) * 10.0 ** torch.arange(units) - 2
    truth = (features / features.std(0)) @ torch.randn(units, classes, dtype=dtype, generator=generator)
    targets = (truth + torch.randn(images, classes, generator=generator) > 0.5).to(torch.int8)
    targets[torch.rand(images, classes, generator=generator) < 0.2] = -1
    return features, targets


@pytest.mark.parametrize("C", [1e-3, 1.0])
def test_decision_values_are_those_of_scikit_learn_on_standardised_features(C):
    features, targets = problem()
    asked, _ = problem(seed=1)
    found = svm_scores(fit_svm(features, targets, C), asked)
    mean, deviation = features.mean(0), features.std(0, correction=0)
    for c in range(4):
        known = targets[:, c] >= 0
        peer = LinearSVC(C=C, dual=False).fit(((features - mean) / deviation)[known], targets[known, c])
        expected = torch.from_numpy(peer.decision_function((asked - mean) / deviation)).float()
        torch.testing.assert_close(found[:, c], expected, rtol=1e-5, atol=1e-6)


def test_weights_and_bias_minimise_the_objective():
    features, targets = problem()
    C, svm = 0.1, fit_svm(features, targets, 0.1)
    scaled = (features - features.mean(0)) / features.std(0, correction=0)
    for c in range(4):
        known = targets[:, c] >= 0
        sign = 2.0 * targets[known, c] - 1
        w = svm.weights[:, c] * features.std(0, correction=0)
        b = svm.bias[c] + svm.weights[:, c] @ features.mean(0)
        w, b = w.requires_grad_(), b.requires_grad_()
        hinge = (1 - sign * (scaled[known] @ w + b)).clamp(min=0)
        loss = (w.square().sum() + b.square()) / 2 + C * hinge.square().sum()
        slope = torch.cat([part.flatten() for part in torch.autograd.grad(loss, (w, b))])
        assert slope.norm() < 1e-4


def test_ignored_entries_are_left_out_for_their_class_alone():
    features, targets = problem()
    svm = fit_svm(features, targets, 1.0)
    changed = targets.clone()
    changed[:10, 0] = -1
    other = fit_svm(features, changed, 1.0)
    assert not torch.equal(other.weights[:, 0], svm.weights[:, 0])
    torch.testing.assert_close(other.weights[:, 1:], svm.weights[:, 1:], rtol=0, atol=0)
    rest = (features - features.mean(0)) / features.std(0, correction=0)
    peer = LinearSVC(C=1.0, dual=False).fit(rest[changed[:, 0] >= 0], changed[changed[:, 0] >= 0, 0])
    expected = torch.from_numpy(peer.coef_[0]) / features.std(0, correction=0)
    torch.testing.assert_close(other.weights[:, 0], expected, rtol=1e-9, atol=0)


def test_a_class_with_labels_of_one_kind_scores_a_constant():
    features, targets = problem()
    targets[:, 0], targets[:, 1], targets[:, 2] = 0, 1, -1
    targets[:5, :2] = -1
    svm = fit_svm(features, targets, 1.0)
    assert not svm.weights[:, :3].any() and svm.bias[:3].tolist() == [-1, 1, -1]
    assert svm_scores(svm, features)[:, :3].unique(dim=0).tolist() == [[-1, 1, -1]]


def test_a_unit_that_never_varies_has_no_part_in_the_ranking():
    features, targets = problem()
    still = torch.cat([features, torch.full((len(features), 1), 0.1, dtype=torch.float64)], 1)
    found, expected = (svm_scores(fit_svm(x, targets, 1.0), x) for x in (still, features))
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


def test_separable_classes_are_ranked_without_a_mistake():
    generator = torch.Generator().manual_seed(0)
    centres = 4 * torch.eye(3).repeat_interleave(20, 0)
    features = centres + torch.rand(60, 3, generator=generator)
    targets = (centres > 0).to(torch.int8)
    scores = svm_scores(fit_svm(features, targets, 1.0), features)
    assert average_precision(scores.numpy(), targets.numpy()).tolist() == [1, 1, 1]
    assert torch.equal(scores > 0, targets == 1)


def test_scores_are_single_precision_and_do_not_change_with_the_random_state():
    features, targets = problem(dtype=torch.float32)
    found = []
    for seed in (0, 1):
        np.random.seed(seed)
        found.append(svm_scores(fit_svm(features, targets, 0.1), features))
    assert found[0].dtype == torch.float32 and torch.equal(*found)


def test_a_fit_that_is_cut_short_is_recorded_and_warns_nobody(monkeypatch):
    features, targets = problem()
    targets[:, 3] = 0
    assert fit_svm(features, targets, 1.0).converged.tolist() == [True] * 4
    monkeypatch.setattr(module, "ITERATIONS", 1)
    assert fit_svm(features, targets, 1.0).converged.tolist() == [False, False, False, True]


@pytest.mark.parametrize("C", [0.0, -1.0, float("nan"), float("inf")])
def test_an_impossible_c_is_refused(C):
    with pytest.raises(InputError, match=f"C={C}: choose a number above 0"):
        fit_svm(*problem(), C)


def test_c_is_the_one_whose_map_on_the_validation_images_is_highest():
    features, targets = problem(images=40, units=20)
    asked, wanted = problem(seed=1, units=20)
    values = (1.0, 1e-2, 1e-4)
    chosen, found = choose_C(features, targets, asked, wanted, values)
    expected = {}
    for C in values:
        scores = svm_scores(fit_svm(features, targets, C), asked)
        expected[C] = mean_average_precision(scores.numpy(), wanted.numpy()).value
    assert found == expected and chosen == max(expected, key=expected.get)


def test_c_follows_the_validation_targets():
    """The same images under two labellings: what a small C ranks first, or what a large C does."""
    features, targets = problem(images=40, units=20, classes=1)
    asked, _ = problem(seed=1, units=20, classes=1)
    for C in (1e-4, 1.0):
        scores = svm_scores(fit_svm(features, targets, C), asked)
        wanted = (scores > scores.median()).to(torch.int8)
        chosen, found = choose_C(features, targets, asked, wanted, (1e-4, 1.0))
        assert chosen == C and found[C] == 1 and min(found.values()) < 1


def test_of_equal_values_of_c_the_smallest_is_taken():
    features, targets = torch.tensor([[0.0], [1.0], [2.0], [3.0]]), torch.tensor([[0], [0], [1], [1]], dtype=torch.int8)
    chosen, found = choose_C(features, targets, features, targets, (1.0, 0.01, 0.1))
    assert chosen == 0.01 and found == {1.0: 1, 0.01: 1, 0.1: 1}


def test_c_needs_a_positive_validation_image():
    features, targets = problem()
    with pytest.raises(InputError, match="no class has a positive validation image"):
        choose_C(features, targets, features, targets.clamp(max=0))
