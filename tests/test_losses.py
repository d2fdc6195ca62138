"""Losses and pooling by hand."""

import math

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from mlic_core.losses import (
    binary_cross_entropy,
    euclidean,
    own_steps,
    restrict_difficult,
    softmax_cross_entropy,
    warp,
)
from mlic_core.models.pooling import ClassHead, global_pool


def test_binary_cross_entropy_by_hand_leaves_ignored_entries_out():
    logits = torch.tensor([[math.log(7), math.log(3)], [100.0, -math.log(3)]], dtype=torch.float64)
    targets = torch.tensor([[1, 0], [-1, 0]], dtype=torch.int8)
    expected = (math.log(8 / 7) + math.log(4) + math.log(4 / 3)) / 3
    assert binary_cross_entropy(logits, targets).item() == pytest.approx(expected, rel=1e-14)


def test_binary_cross_entropy_of_an_all_ignored_batch_is_zero_with_zero_gradient():
    logits = torch.randn(3, 4, requires_grad=True)
    loss = binary_cross_entropy(logits, torch.full((3, 4), -1, dtype=torch.int8))
    loss.backward()
    assert loss.item() == 0 and logits.grad.abs().max() == 0


def test_binary_cross_entropy_of_a_single_entry_is_its_term():
    """A mean over one, in double precision; an ignored entry beside it is none."""
    logits, targets = torch.tensor([[math.log(3), 9.0]], dtype=torch.float64), torch.tensor([[0, -1]], dtype=torch.int8)
    assert binary_cross_entropy(logits, targets).item() == pytest.approx(math.log(4), rel=1e-14)


def plain_softmax(logits, targets):
    """Image by image, class by class."""
    terms = []
    for scores, present in zip(logits.tolist(), targets.tolist(), strict=True):
        labels = [c for c, value in enumerate(present) if value == 1]
        total = sum(math.exp(scores[c]) for c, value in enumerate(present) if value >= 0)
        if labels:
            terms.append(-sum(math.log(math.exp(scores[c]) / total) for c in labels) / len(labels))
    return sum(terms) / len(terms) if terms else 0.0


def plain_warp(logits, targets):
    """Image by image, label by label, over each absent class."""
    terms = []
    for scores, present in zip(logits.tolist(), targets.tolist(), strict=True):
        labels = [c for c, value in enumerate(present) if value == 1]
        term = 0.0
        for p in labels:
            margins = [1 - scores[p] + scores[n] for n, value in enumerate(present) if value == 0]
            hinges = [margin for margin in margins if margin > 0]
            if hinges:
                term += sum(1 / i for i in range(1, len(hinges) + 1)) * sum(hinges) / len(hinges)
        if labels:
            terms.append(term)
    return sum(terms) / len(terms) if terms else 0.0


def drawn(seed, batch=6, classes=9):
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(batch, classes, dtype=torch.float64, generator=generator)
    return logits, torch.randint(-1, 2, (batch, classes), generator=generator).to(torch.int8)


@pytest.mark.parametrize(("loss", "plain"), [(softmax_cross_entropy, plain_softmax), (warp, plain_warp)])
@pytest.mark.parametrize("seed", range(5))
def test_losses_over_several_labels_equal_a_plain_loop(loss, plain, seed):
    logits, targets = drawn(seed)
    targets[0], targets[1], targets[2] = 0, -1, 1
    assert loss(logits, targets).item() == pytest.approx(plain(logits, targets), rel=1e-12)
    assert loss(logits[:, ::2], targets[:, ::2]).item() == pytest.approx(plain(logits[:, ::2], targets[:, ::2]))


@pytest.mark.parametrize("loss", [softmax_cross_entropy, warp])
def test_gradients_of_losses_over_several_labels(loss):
    logits, targets = drawn(7)
    targets[0], targets[1], targets[2] = 0, -1, 1
    assert torch.autograd.gradcheck(loss, (logits.requires_grad_(), targets))
    (gradient,) = torch.autograd.grad(loss(logits, targets), logits)
    assert (gradient[targets == -1] == 0).all() and (gradient[:2] == 0).all()


@pytest.mark.parametrize("loss", [softmax_cross_entropy, warp])
@pytest.mark.parametrize("value", [0, -1])
def test_without_any_label_the_loss_is_zero_with_zero_gradient(loss, value):
    logits = torch.randn(3, 4, requires_grad=True)
    with torch.autograd.set_detect_anomaly(True):  # raises where a NaN lies under a mask
        result = loss(logits, torch.full((3, 4), value, dtype=torch.int8))
        result.backward()
    assert result.item() == 0 and logits.grad.abs().max() == 0


def test_softmax_cross_entropy_by_hand():
    logits = torch.tensor([[math.log(2), math.log(3), math.log(5), 50.0]], dtype=torch.float64)
    targets = torch.tensor([[1, 0, 1, -1]], dtype=torch.int8)
    assert softmax_cross_entropy(logits, targets).item() == pytest.approx(-(math.log(0.2) + math.log(0.5)) / 2)


def test_warp_by_hand():
    logits = torch.tensor([[2.0, 1.5, 1.2, 0.9, 9.0, -1.0]], dtype=torch.float64)
    targets = torch.tensor([[1, 0, 0, 0, -1, 1]], dtype=torch.int8)
    # Violators of the 2.0: 1.5 and 1.2, L(2) = 1.5. Of the -1.0: all three absent classes, L(3) = 11/6.
    expected = 1.5 * (0.5 + 0.2) / 2 + 11 / 6 * (3.5 + 3.2 + 2.9) / 3
    assert warp(logits, targets).item() == pytest.approx(expected)


def test_a_margin_of_exactly_one_is_no_violation():
    targets = torch.tensor([[1, 0]], dtype=torch.int8)
    assert warp(torch.tensor([[2.0, 1.0]]), targets).item() == 0


@pytest.mark.parametrize("loss", [softmax_cross_entropy, warp])
def test_one_image_with_one_label_is_its_own_mean(loss):
    """Two classes, the label .5 behind: log(1 + e^.5), and a hinge of 1.5 with L(1) = 1."""
    logits, targets = torch.tensor([[1.0, 1.5]], dtype=torch.float64), torch.tensor([[1, 0]], dtype=torch.int8)
    expected = {softmax_cross_entropy: math.log1p(math.exp(0.5)), warp: 1.5}[loss]
    assert loss(logits, targets).item() == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize("loss", [binary_cross_entropy, softmax_cross_entropy, warp])
def test_losses_of_half_precision_scores_are_computed_in_fp32(loss):
    logits, targets = drawn(1)
    found = loss(logits.bfloat16(), targets)
    assert found.dtype == torch.float32 and found == loss(logits.bfloat16().float(), targets)


@pytest.mark.parametrize("loss", [binary_cross_entropy, softmax_cross_entropy, warp, euclidean])
def test_losses_stay_on_a_gpu(loss):
    """On fake CUDA tensors, mixing devices or asking for a value raises; no GPU is needed."""
    with FakeTensorMode():
        scores, targets = torch.empty(3, 5, device="cuda"), torch.empty(3, 5, dtype=torch.int8, device="cuda")
        assert loss(scores, targets).device.type == "cuda"
        assert own_steps(targets, torch.empty(5, dtype=torch.int64, device="cuda"), 2).device.type == "cuda"


def test_difficult_entries_count_as_asked():
    targets = torch.tensor([[1, 0, -1]], dtype=torch.int8)
    assert restrict_difficult(targets, "ignore").tolist() == [[1, 0, -1]]
    assert restrict_difficult(targets, "positive").tolist() == [[1, 0, 1]]
    assert restrict_difficult(targets, "negative").tolist() == [[1, 0, 0]]
    with pytest.raises(ValueError, match=r"^difficult='skip' is none of ignore, positive, negative$"):
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
