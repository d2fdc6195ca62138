"""Steps of a recurrent model: by hand, by a loop, and against the losses that share their definition."""

import numpy as np
import pytest
import torch

from mlic_core.losses import horizontal_margin, own_steps, vertical_margin
from mlic_core.metrics import mean_average_precision
from mlic_core.steps import held_margins, horizontal_gap, step_scores, vertical_gap

RNG = np.random.default_rng(0)


def test_steps_are_scored_alone_and_by_their_running_maximum():
    steps = RNG.normal(size=(40, 3, 4)).astype(np.float32)
    targets = (RNG.random((40, 4)) < 0.4).astype(np.int8)
    found = step_scores(steps, targets)
    for t in range(3):
        assert found.alone[t] == 100 * mean_average_precision(steps[:, t], targets).value
        assert found.maximum[t] == 100 * mean_average_precision(steps[:, : t + 1].max(1), targets).value
    assert found.alone[0] == found.maximum[0] and found.maximum[2] != found.alone[2]


def test_horizontal_gap_by_hand():
    p = np.array([[0.9, 0.2, 0.6, 0.1], [0.3, 0.8, 0.5, 0.9], [0.1, 0.2, 0.3, 0.4], [0.1, 0.2, 0.3, 0.4]])
    targets = np.array([[1, 0, 1, 0], [1, 0, -1, -1], [0, 0, -1, 0], [1, 1, -1, 1]], np.int8)
    assert horizontal_gap(p, targets) == pytest.approx([0.4, -0.5, np.nan, np.nan], nan_ok=True)


def test_vertical_gap_by_hand():
    p = np.array([[[0.9, 0.2, 0.7], [0.4, 0.1, 0.8]]])
    own = np.array([[[True, False, False], [False, False, True]]])
    assert vertical_gap(p, own)[0] == pytest.approx([0.5, np.nan, 0.1], nan_ok=True)
    assert np.isnan(vertical_gap(p[:, :1], own[:, :1])).all()  # one step: none to compare it with


@pytest.mark.parametrize("epsilon", [0.0, 0.3])
def test_the_margins_losses_are_zero_exactly_where_the_gaps_are_wide_enough(epsilon):
    p = RNG.random((60, 4, 5))
    targets = RNG.choice([-1, 0, 1], (60, 5), p=[0.1, 0.5, 0.4]).astype(np.int8)
    labels, rank = torch.from_numpy(targets), torch.tensor([2, 0, 4, 1, 3])
    own = own_steps(labels, rank, 4)
    across, along = horizontal_gap(p.max(1), targets), vertical_gap(p, own.numpy())
    for i in range(60):
        one, label = torch.from_numpy(p[i : i + 1]), labels[i : i + 1]
        lost = (
            horizontal_margin(one.amax(1), label, epsilon).item(),
            vertical_margin(one, label, own[i : i + 1], epsilon).item(),
        )
        held = not across[i] < epsilon, not (along[i] < epsilon).any()
        assert [value == 0 for value in lost] == list(held)


def test_held_margins_by_hand():
    p = np.array([[[0.9, 0.2, 0.7], [0.4, 0.1, 0.8]], [[0.3, 0.6, 0.2], [0.3, 0.6, 0.2]]])
    targets = np.array([[1, 0, 1], [1, 0, 0]], np.int8)
    own = own_steps(torch.from_numpy(targets), torch.arange(3), 2).numpy()
    found = held_margins(np.log(p / (1 - p)), targets, own, epsilon=0.5, epsilon_v=0.3)
    assert found.images == 0.5 and found.labels == pytest.approx(1 / 3)  # gaps of .6 and -.3; of .5, .1 and 0
    assert found.horizontal == pytest.approx(0.15) and found.vertical == pytest.approx(0.2)
    none = held_margins(
        np.zeros((2, 1, 3)), np.zeros((2, 3), np.int8), np.zeros((2, 1, 3), bool), epsilon=0.0, epsilon_v=0.0
    )
    assert np.isnan(none).all()
