"""RDAR's Euclidean loss and its three constraints on regions, by hand and beside plain loops."""

import math

import pytest
import torch

from mlic_core.losses import anchor_constraint, anchors, euclidean, positive_constraint, scale_constraint


def logs(rows):
    return torch.tensor(rows).log()


def labels(rows):
    return torch.tensor(rows, dtype=torch.int8)


def plain_euclidean(scores, targets):
    """Eq. 7 and 8, image by image, class by class."""
    terms = []
    for row, present in zip(scores.tolist(), targets.tolist(), strict=True):
        known = [c for c, value in enumerate(present) if value >= 0]
        count = sum(present[c] == 1 for c in known)
        if count:
            total = sum(math.exp(row[c]) for c in known)
            terms.append(sum((math.exp(row[c]) / total - (present[c] == 1) / count) ** 2 for c in known))
    return sum(terms) / len(terms) if terms else 0.0


def drawn(seed, batch=6, classes=9):
    generator = torch.Generator().manual_seed(seed)
    scores = 2 * torch.randn(batch, classes, dtype=torch.float64, generator=generator)
    return scores, torch.randint(-1, 2, (batch, classes), generator=generator).to(torch.int8)


def test_euclidean_by_hand():
    """p = (1/4, 1/2, 1/4) for labels (1/2, 1/2, 0), and (3/5, 1/5, 1/5) for (1, 0, 0)."""
    scores, targets = logs([[1.0, 2.0, 1.0], [6.0, 2.0, 2.0]]), labels([[1, 1, 0], [1, 0, 0]])
    assert euclidean(scores, targets).item() == pytest.approx((2 / 16 + 6 / 25) / 2, rel=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_euclidean_equals_a_plain_loop(seed):
    scores, targets = drawn(seed)
    found = euclidean(scores, targets)
    assert found.dtype == torch.float32  # whatever comes in
    assert found.item() == pytest.approx(plain_euclidean(scores, targets), rel=1e-5)


def test_euclidean_does_not_mind_a_constant_for_each_image():
    scores, targets = drawn(0)
    constants = torch.tensor([[0.0], [5.0], [-7.0], [30.0], [-30.0], [1.0]], dtype=torch.float64)
    expected = euclidean(scores, targets).item()
    assert euclidean(scores + constants, targets).item() == pytest.approx(expected, rel=1e-5)
    assert euclidean(scores.log_softmax(1), targets).item() == pytest.approx(expected, rel=1e-5)


def test_ignored_entries_are_in_neither_distribution():
    """Without the third class p = (1/4, 3/4), however high its score."""
    for score in (1.0, 1e6):
        scores = torch.tensor([[0.0, math.log(3), score]], requires_grad=True)
        loss = euclidean(scores, labels([[0, 1, -1]]))
        loss.backward()
        assert loss.item() == pytest.approx(2 / 16, rel=1e-6)
        assert scores.grad[0, 2] == 0 and scores.grad[0, 0] > 0 > scores.grad[0, 1]


def test_images_without_labels_are_left_out_of_the_mean():
    scores, targets = drawn(1, batch=4)
    targets[0], targets[2] = 0, -1
    targets[1, 0] = targets[3, 0] = 1
    kept = scores[[1, 3]].requires_grad_()
    scores.requires_grad_()
    loss, expected = euclidean(scores, targets), euclidean(kept, targets[[1, 3]])
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    loss.backward()
    expected.backward()
    assert scores.grad[[0, 2]].abs().max() == 0
    torch.testing.assert_close(scores.grad[[1, 3]], kept.grad)


def test_one_image_with_one_label_is_its_own_mean():
    """p = (1/4, 3/4) for the label (1, 0)."""
    assert euclidean(logs([[1.0, 3.0]]), labels([[1, 0]])).item() == pytest.approx(2 * 9 / 16, rel=1e-6)


@pytest.mark.parametrize("value", [0, -1])
def test_a_batch_without_any_label_gives_zero_and_a_zero_gradient(value):
    scores = drawn(2)[0].requires_grad_()
    loss = euclidean(scores, torch.full((6, 9), value, dtype=torch.int8))
    loss.backward()
    assert loss.item() == 0 and scores.grad.abs().max() == 0


def test_four_anchors_stand_in_the_printed_order():
    assert anchors(4).tolist() == [[0.5, 0.5], [0.5, -0.5], [-0.5, 0.5], [-0.5, -0.5]]


@pytest.mark.parametrize("count", [1, 2, 3, 5, 6, 8, 11])
def test_other_anchors_go_round_the_circle_evenly_from_45_degrees(count):
    angles = [math.radians(45 + i * 360 / count) for i in range(count)]
    expected = [[math.sqrt(2) / 2 * math.cos(angle), math.sqrt(2) / 2 * math.sin(angle)] for angle in angles]
    torch.testing.assert_close(anchors(count), torch.tensor(expected), rtol=0, atol=6e-8)  # to the last digit


def test_eight_anchors_are_the_four_printed_ones_and_four_on_the_axes():
    """Fig. 4, K = 9."""
    r = math.sqrt(0.5)
    expected = [[0.5, 0.5], [0, r], [-0.5, 0.5], [-r, 0], [-0.5, -0.5], [0, -r], [0.5, -0.5], [r, 0]]
    torch.testing.assert_close(anchors(8), torch.tensor(expected), rtol=0, atol=1e-6)


def test_one_region_has_no_anchor():
    assert anchors(0).shape == (0, 2)
    assert anchor_constraint(torch.rand(3, 1, 2), anchors(0)).item() == 0


def test_anchor_constraint_by_hand():
    """½(.2² + .1²) + ½(.5² + 1²) in one image and 0 in the other; the first region counts nowhere."""
    points = torch.tensor([[0.5, 0.5], [0.5, -0.5]])
    centres = torch.tensor([[[9.0, 9.0], [0.7, 0.4], [0.0, 0.5]], [[-3.0, 0.0], [0.5, 0.5], [0.5, -0.5]]])
    expected = (0.5 * (0.04 + 0.01) + 0.5 * (0.25 + 1)) / 2
    assert anchor_constraint(centres, points).item() == pytest.approx(expected, rel=1e-6)


def test_scale_constraint_by_hand():
    """(.9 - .5)² + (|-.8| - .5)² in the first region, (.6 - .5)² in the last; the mean over two images."""
    scales = torch.tensor([[[0.9, -0.8], [0.5, -0.5]], [[0.1, 0.0], [0.2, 0.6]]])
    assert scale_constraint(scales).item() == pytest.approx((0.16 + 0.09 + 0.01) / 2, rel=1e-5)
    assert scale_constraint(scales, 0.7).item() == pytest.approx((0.04 + 0.01) / 2, rel=1e-5)


def test_positive_constraint_by_hand():
    """.1 - (-.4), .1 - 0 and .1 - .04, on both axes; the mean over two images."""
    scales = torch.tensor([[[-0.4, 0.5], [0.1, 0.0]], [[0.9, 0.04], [0.3, 2.0]]])
    assert positive_constraint(scales).item() == pytest.approx((0.5 + 0.1 + 0.06) / 2, rel=1e-5)
    assert positive_constraint(scales, 0.04).item() == pytest.approx((0.44 + 0.04) / 2, rel=1e-5)


def test_scale_constraint_is_zero_up_to_alpha():
    scales = torch.tensor([[[0.5, -0.5], [0.0, 0.3]]], requires_grad=True)
    loss = scale_constraint(scales, 0.5)
    loss.backward()
    assert loss.item() == 0 and scales.grad.abs().max() == 0


def gradient(constraint, values, *others):
    values = torch.tensor(values, requires_grad=True)
    constraint(values, *others).backward()
    return values.grad


def test_anchors_pull_centres_towards_them_and_leave_the_first_region_alone():
    points = anchors(2)
    centres = [[[0.3, -0.2], [0.0, 0.0], [0.9, 0.9]]]
    found = gradient(anchor_constraint, centres, points)
    torch.testing.assert_close(found[0, 1:], torch.tensor(centres)[0, 1:] - points)
    assert found[0, 0].abs().max() == 0


def test_large_scales_shrink_on_either_side_of_zero():
    found = gradient(scale_constraint, [[[0.9, -0.9], [0.4, -0.4]]], 0.5)
    torch.testing.assert_close(found, torch.tensor([[[0.8, -0.8], [0.0, 0.0]]]))


def test_small_and_negative_scales_grow_and_others_stay():
    found = gradient(positive_constraint, [[[-0.9, 0.05], [0.2, 1.0]]], 0.1)
    assert found.tolist() == [[[-1, -1], [0, 0]]]
