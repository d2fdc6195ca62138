"""The max-margin terms of global/local attention, by hand, beside plain loops, and by what descent on them does."""

import itertools

import numpy as np
import pytest
import torch

from mlic_core.losses import horizontal_margin, own_steps, vertical_margin

FORMS = pytest.mark.parametrize("literal", [False, True])


def labels(rows):
    return torch.tensor(rows, dtype=torch.int8)


def double(rows):
    return torch.tensor(rows, dtype=torch.float64)


def plain_hinge(positive, negative, epsilon, literal):
    """Eq. 13 or 15 as a hinge; literal: as Eq. 14 and 16 print it."""
    if not positive or not negative:
        return 0.0
    gap = min(positive) - max(negative) if literal else max(negative) - min(positive)
    return max(gap + epsilon, 0.0)


def plain_horizontal(p, targets, epsilon, literal=False):
    """Eq. 14, image by image."""
    hinges = []
    for row, given in zip(p.tolist(), targets.tolist(), strict=True):
        positive = [value for value, label in zip(row, given, strict=True) if label == 1]
        negative = [value for value, label in zip(row, given, strict=True) if label == 0]
        hinges.append(plain_hinge(positive, negative, epsilon, literal))
    return sum(hinges) / len(hinges)


def plain_order(given, rank):
    """The present classes of an image by rank."""
    return sorted((c for c, label in enumerate(given) if label == 1), key=lambda c: rank[c])


def plain_vertical(p, targets, rank, epsilon, literal=False):
    """Eq. 16, image by image, class by class: the t-th present class is positive at step t only."""
    images = []
    for steps, given in zip(p.tolist(), targets.tolist(), strict=True):
        order, total = plain_order(given, rank.tolist()), 0.0
        for own, c in enumerate(order):
            column = [step[c] for step in steps]
            total += plain_hinge(column[own : own + 1], column[:own] + column[own + 1 :], epsilon, literal)
        images.append(total / len(order) if order else 0.0)
    return sum(images) / len(images)


def drawn(seed):
    """p (B, T, C), targets, a rank and a margin, of random sizes; every other time p has many equal values."""
    random = np.random.default_rng(seed)
    batch, steps, classes = (int(random.integers(1, high)) for high in (5, 6, 8))
    p = random.random((batch, steps, classes))
    p = p if seed % 2 else np.round(4 * p) / 4
    targets = random.choice([-1, 0, 1], (batch, classes), p=random.dirichlet([1, 1, 1]))
    rank = torch.from_numpy(random.permutation(classes))
    return torch.from_numpy(p), torch.from_numpy(targets.astype(np.int8)), rank, float(random.random())


def both_terms(p, targets, rank, epsilon, literal=False):
    own = own_steps(targets, rank, p.shape[1])
    return (
        horizontal_margin(p.amax(1), targets, epsilon, literal=literal),
        vertical_margin(p, targets, own, epsilon, literal=literal),
    )


# Steps


def test_own_steps_by_hand():
    """Class 2 is the most frequent, then 0, 3 and 1; the image's fourth label has no step left, an ignored one none."""
    rank, given = torch.tensor([1, 3, 0, 2]), labels([[1, 1, 1, 1], [1, 1, -1, 0], [0, 0, -1, 0]])
    expected = [
        [[False, False, True, False], [True, False, False, False], [False, False, False, True]],
        [[True, False, False, False], [False, True, False, False], [False] * 4],
        [[False] * 4] * 3,
    ]
    assert own_steps(given, rank, 3).tolist() == expected


@pytest.mark.parametrize("seed", range(40))
def test_own_steps_equal_a_plain_loop(seed):
    p, targets, rank, _ = drawn(seed)
    expected = np.zeros(p.shape, dtype=bool)
    for image, given in enumerate(targets.tolist()):
        for step, c in enumerate(plain_order(given, rank.tolist())[: p.shape[1]]):
            expected[image, step, c] = True
    found = own_steps(targets, rank, p.shape[1])
    assert found.dtype == torch.bool
    np.testing.assert_array_equal(found.numpy(), expected)


def test_a_step_has_at_most_one_class_and_a_class_at_most_one_step():
    rank = torch.tensor([4, 2, 0, 3, 1])
    every = labels(list(itertools.product([-1, 0, 1], repeat=5)))
    for steps in (1, 3, 5, 8):
        own = own_steps(every, rank, steps)
        assert own.sum(1).max() == own.sum(2).max() == 1
        assert torch.equal(own.sum((1, 2)), (every == 1).sum(1).clamp(max=steps))
        places = (own * rank).sum(2)  # of each step's class, if it has one
        both = own[:, 1:].any(2)
        assert (places[:, 1:] > places[:, :-1])[both].all() and (own[:, :-1].any(2) | ~both).all()


# Values


def test_horizontal_margin_by_hand():
    """.1 + .3 - .5 is below 0, .6 + .3 - .5 is not, and the other two images have but one kind of label."""
    p = double([[0.5, 0.1, 0.0, 0.9], [0.6, 0.5, 0.9, 0.99], [0.9, 0.2, 0.3, 0.4], [0.1, 0.8, 0.3, 0.4]])
    given = labels([[1, 0, 0, 1], [0, 1, 1, -1], [0, 0, -1, 0], [1, 1, -1, 1]])
    assert horizontal_margin(p, given, 0.3).item() == pytest.approx(0.4 / 4)
    assert horizontal_margin(p, given, 0.3, literal=True).item() == pytest.approx((0.7 + 0.2) / 4)


def test_vertical_margin_by_hand():
    """Two steps. In the first image class 1 comes first: .7 against .6, class 0 next: .2 against .9, and class 2 has
    no step left; in the second class 2 comes first: .8 against .1. Class 3 is ignored or absent."""
    rank = torch.tensor([1, 0, 2, 3])
    given = labels([[1, 1, 1, -1], [0, 0, 1, -1], [0, -1, 0, 0]])
    p = double([[[0.9, 0.7, 0.0, 0.0], [0.2, 0.6, 0.9, 0.9]], [[0.1, 0.9, 0.8, 0.0], [0.9, 0.1, 0.1, 0.9]],
                [[0.1, 0.5, 0.5, 0.5], [0.9, 0.5, 0.5, 0.5]]])  # fmt: skip
    own = own_steps(given, rank, 2)
    assert vertical_margin(p, given, own, 0.3).item() == pytest.approx((0.2 + 1.0) / 3 / 3)
    assert vertical_margin(p, given, own, 0.3, literal=True).item() == pytest.approx((0.4 / 3 + 1.0) / 3)


def test_vertical_margin_takes_the_steps_it_is_given():
    """The same labels, their steps the other way round."""
    given, p = labels([[1, 1]]), double([[[0.9, 0.3], [0.2, 0.6]]])
    own = torch.tensor([[[True, False], [False, True]]])
    assert vertical_margin(p, given, own, 0.5).item() == pytest.approx((0 + 0.2) / 2)
    assert vertical_margin(p, given, own.flip(1), 0.5).item() == pytest.approx((1.2 + 0.8) / 2)


@FORMS
def test_both_terms_equal_plain_loops(literal):
    seen = set()
    for seed in range(150):
        p, targets, rank, epsilon = drawn(seed)
        horizontal, vertical = both_terms(p, targets, rank, epsilon, literal)
        assert horizontal.dtype == vertical.dtype == torch.float64
        np.testing.assert_allclose(horizontal, plain_horizontal(p.amax(1), targets, epsilon, literal), atol=1e-15)
        np.testing.assert_allclose(vertical, plain_vertical(p, targets, rank, epsilon, literal), atol=1e-15)
        for given in targets.tolist():
            count = given.count(1)
            seen |= {"ignored"} if -1 in given else set()
            seen |= {"no positive"} if not count else {"no negative"} if 0 not in given else {"both"}
            seen |= {"more labels than steps"} if count > p.shape[1] else set()
            seen |= {"one step"} if count and p.shape[1] == 1 else set()
        seen |= {"violated"} if horizontal > 0 and vertical > 0 else set()
    assert len(seen) == 7


def test_terms_are_0_exactly_where_the_margins_hold():
    """In eighths, so that a margin held to the last bit is among them."""
    seen = set()
    for seed in range(300):
        random = np.random.default_rng(seed)
        p, epsilon = torch.from_numpy(random.integers(0, 9, (1, 2, 3)) / 8), int(random.integers(0, 5)) / 8
        given = labels([[1, 1, 0]])
        horizontal, vertical = both_terms(p, given, torch.arange(3), epsilon)
        (a, b, c), (first, second) = p[0].amax(0).tolist(), p[0, :, :2].tolist()
        held = min(a, b) >= c + epsilon, first[0] >= second[0] + epsilon and second[1] >= first[1] + epsilon
        assert (horizontal.item() == 0, vertical.item() == 0) == held and min(horizontal, vertical) >= 0
        seen.add(held)
    assert len(seen) == 4


@FORMS
def test_an_image_alone_with_one_step_has_no_vertical_term(literal):
    given, p = labels([[1, 1, 0]]), double([[[0.2, 0.3, 0.9]]])
    own = own_steps(given, torch.arange(3), 1)
    assert own.any() and vertical_margin(p, given, own, 0.5, literal=literal).item() == 0


@FORMS
def test_an_image_counts_as_much_as_another_however_many_labels_it_has(literal):
    """The mean over the batch of what each image has alone."""
    p = torch.rand(4, 3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    given, rank = labels([[1] * 4 + [0], [1] + [0] * 4, [0] * 5, [1] * 5]), torch.arange(5)
    whole = both_terms(p, given, rank, 0.9, literal)
    alone = [both_terms(p[n : n + 1], given[n : n + 1], rank, 0.9, literal) for n in range(4)]
    for one, parts in zip(whole, zip(*alone, strict=True), strict=True):
        assert one.item() == pytest.approx(sum(parts).item() / 4, rel=1e-12)


# Gradients


def test_the_mended_horizontal_term_raises_the_least_positive_and_lowers_the_greatest_negative():
    p = double([[0.3, 0.8, 0.4, 0.1, 0.9], [0.9, 0.1, 0.1, 0.1, 0.1]]).requires_grad_()
    given = labels([[1, 1, 0, 0, -1], [1, 0, 0, 0, 0]])
    horizontal_margin(p, given, 0.3).backward()
    assert p.grad.tolist() == [[-0.5, 0, 0.5, 0, 0], [0] * 5]  # descent goes against it; the second image is done
    p.grad = None
    horizontal_margin(p, given, 0.3, literal=True).backward()
    assert p.grad[0].tolist() == [0.5, 0, -0.5, 0, 0] and p.grad[1, 0] == 0.5 and p.grad[1, 1:].max() < 0


def test_the_mended_vertical_term_raises_the_own_step_and_lowers_the_greatest_other_step():
    p = double([[[0.3, 0.9, 0.5], [0.2, 0.1, 0.5], [0.4, 0.2, 0.5]]]).requires_grad_()
    given = labels([[1, 1, 0]])
    own = own_steps(given, torch.arange(3), 3)
    vertical_margin(p, given, own, 0.3).backward()
    assert p.grad.tolist() == [[[-0.5, 0.5, 0], [0, -0.5, 0], [0.5, 0, 0]]]
    p.grad = None
    vertical_margin(p, given, own, 0.3, literal=True).backward()
    assert p.grad.tolist() == [[[0.5, 0, 0], [0, 0, 0], [-0.5, 0, 0]]]  # class 1 lies behind: nothing left to lower


def test_a_probability_at_the_end_of_its_range_has_the_whole_gradient():
    """What is neither positive nor negative never shares it."""
    p, given = double([[1.0, 0.9, 0.0], [0.4, 0.0, 0.3]]).requires_grad_(), labels([[1, 0, -1], [1, 0, -1]])
    horizontal_margin(p, given, 0.5).backward()
    assert p.grad.tolist() == [[-0.5, 0.5, 0], [-0.5, 0.5, 0]]


@FORMS
@pytest.mark.parametrize("steps", [1, 2, 4])
@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_no_value_and_no_gradient_is_ever_nan(literal, steps, value):
    """Every image of three labels, the ones without a positive or a negative among them, at the ends of p too."""
    given = labels(list(itertools.product([-1, 0, 1], repeat=3)))
    p = torch.full((len(given), steps, 3), value, requires_grad=True)
    for term in both_terms(p, given, torch.tensor([2, 0, 1]), 0.3, literal):
        p.grad = None
        term.backward(retain_graph=True)
        assert term.isfinite() and p.grad.isfinite().all()
        assert p.grad.transpose(1, 2)[given == -1].abs().max() == 0


@FORMS
def test_an_image_without_a_positive_or_a_negative_has_no_gradient(literal):
    p = torch.rand(4, 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    given = labels([[0, 0, -1], [1, 1, -1], [-1, -1, -1], [1, 0, 0]])
    horizontal, vertical = both_terms(p, given, torch.arange(3), 2.0, literal)
    horizontal.backward(retain_graph=True)
    assert p.grad[:3].abs().max() == 0 and p.grad[3].abs().max() > 0
    p.grad = None
    vertical.backward()
    assert p.grad[[0, 2]].abs().max() == 0 and p.grad[1, :, :2].abs().min() > 0 and p.grad[3, :, 0].abs().min() > 0
    assert p.grad[1, :, 2].abs().max() == p.grad[3, :, 1:].abs().max() == 0


@FORMS
@pytest.mark.parametrize("term", [0, 1])
def test_gradients_equal_finite_differences(literal, term):
    scores = torch.randn(4, 3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(2)).requires_grad_()
    given = labels([[1, 0, 1, 0, -1], [1, 1, 1, 1, 0], [0] * 5, [1] * 5])
    rank = torch.tensor([3, 0, 4, 1, 2])
    assert both_terms(scores.sigmoid(), given, rank, 0.3, literal)[term] > 0
    assert torch.autograd.gradcheck(lambda x: both_terms(x.sigmoid(), given, rank, 0.3, literal)[term], (scores,))


# Descent

TOY = labels([[1, 0, 1, 0, -1], [0, 1, 0, 0, 1], [1, 1, 1, 0, 0], [0, 0, 0, 1, 0]])
RANK, EPSILON, EPSILON_V = torch.tensor([2, 0, 1, 4, 3]), 0.3, 0.4


def descend(literal):
    """p (4 images, 3 steps, 5 classes) after descent on the two terms alone, from scores near 0."""
    scores = 0.1 * torch.randn(4, 3, 5, generator=torch.Generator().manual_seed(0))
    scores.requires_grad_()
    optimizer, own = torch.optim.SGD([scores], lr=1.0), own_steps(TOY, RANK, 3)
    for _ in range(400):
        optimizer.zero_grad()
        p = scores.sigmoid()
        horizontal = horizontal_margin(p.amax(1), TOY, EPSILON, literal=literal)
        loss = horizontal + vertical_margin(p, TOY, own, EPSILON_V, literal=literal)
        if loss == 0:
            break
        loss.backward()
        optimizer.step()
    assert loss == 0
    return p.detach()


def gaps(p):
    """min₊ - max₋ of each image, and own step - greatest other step of each of its labels."""
    across, down = [], []
    for steps, given in zip(p.tolist(), TOY.tolist(), strict=True):
        best = [max(column) for column in zip(*steps, strict=True)]
        positive, negative = ([best[c] for c, label in enumerate(given) if label == kind] for kind in (1, 0))
        across.append(min(positive) - max(negative))
        for own, c in enumerate(plain_order(given, RANK.tolist())):
            down.append(steps[own][c] - max(step[c] for t, step in enumerate(steps) if t != own))
    return across, down


def test_descent_on_the_mended_terms_separates_labels_and_steps():
    across, down = gaps(descend(literal=False))
    assert min(across) >= EPSILON - 1e-6 and min(down) >= EPSILON_V - 1e-6


def test_descent_on_the_literal_terms_ranks_absent_labels_and_other_steps_first():
    """Eq. 14 and 16 as printed: the very margins of Eq. 13 and 15, upside down."""
    across, down = gaps(descend(literal=True))
    assert max(across) <= -EPSILON + 1e-6 and max(down) <= -EPSILON_V + 1e-6
