"""Losses and pooling by hand."""

import math

import pytest
import torch

from mlic_core.losses import binary_cross_entropy, restrict_difficult
from mlic_core.models.pooling import ClassHead, global_pool


def test_binary_cross_entropy_by_hand_leaves_ignored_entries_out():
    logits = torch.tensor([[0.0, math.log(3)], [100.0, -math.log(3)]], dtype=torch.float64)
    targets = torch.tensor([[1, 0], [-1, 0]], dtype=torch.int8)
    expected = (math.log(2) + math.log(4) + math.log(4 / 3)) / 3
    assert binary_cross_entropy(logits, targets).item() == pytest.approx(expected, rel=1e-6)


def test_binary_cross_entropy_of_an_all_ignored_batch_is_zero_with_zero_gradient():
    logits = torch.randn(3, 4, requires_grad=True)
    loss = binary_cross_entropy(logits, torch.full((3, 4), -1, dtype=torch.int8))
    loss.backward()
    assert loss.item() == 0 and logits.grad.abs().max() == 0


def test_difficult_entries_count_as_asked():
    targets = torch.tensor([[1, 0, -1]], dtype=torch.int8)
    assert restrict_difficult(targets, "ignore").tolist() == [[1, 0, -1]]
    assert restrict_difficult(targets, "positive").tolist() == [[1, 0, 1]]
    assert restrict_difficult(targets, "negative").tolist() == [[1, 0, 0]]
    with pytest.raises(ValueError, match="skip"):
        restrict_difficult(targets, "skip")


def test_pooling_by_hand():
    maps = torch.tensor([[[[1.0, 2.0], [3.0, 6.0]]]])
    assert global_pool(maps, "gap").item() == 3
    assert global_pool(maps, "gmp").item() == 6
    assert global_pool(maps, "gwp").item() == 4.5
    assert global_pool(maps, "gwp", 0.25).item() == pytest.approx(0.25 * 3 + 0.75 * 6)


def test_mean_of_the_class_maps_is_the_gap_score():
    head = ClassHead(6, 4, "gap")
    maps = torch.randn(2, 6, 3, 5)
    torch.testing.assert_close(head.class_maps(maps).mean((2, 3)), head(maps), rtol=1e-5, atol=1e-6)
