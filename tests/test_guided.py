"""Gradients to the pixels by three rules at a ReLU: guided, of a deconvolutional network, and plain."""

import copy
import itertools

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mlic_core.errors import InputError
from mlic_core.guided import image_gradients
from mlic_core.models.backbones import build_trunk

RULES = ("guided", "deconvnet", "plain")
RELUS = {
    "ReLU": (nn.ReLU(), None),
    "ReLU in place": (nn.ReLU(inplace=True), None),
    "torch.relu": (torch.relu, None),
    "torch.relu_": (torch.relu_, None),
    "Tensor.relu": (lambda x: x.relu(), None),
    "ReLU6": (nn.ReLU6(), 6),
    "ReLU6 in place": (nn.ReLU6(inplace=True), 6),
    "F.relu6": (F.relu6, 6),
}


def ruled(rule, bound=None):
    """A ReLU whose backward pass is written out, for the rule."""

    class Ruled(torch.autograd.Function):
        @staticmethod
        def forward(context, x):
            context.save_for_backward(x)
            return x.clamp(min=0, max=bound)

        @staticmethod
        def backward(context, gradient):
            (x,) = context.saved_tensors
            was_open = (x > 0) & (x < (bound or torch.inf))
            let_through = {"guided": was_open & (gradient > 0), "deconvnet": gradient > 0, "plain": was_open}[rule]
            return torch.where(let_through, gradient, 0.0)

    return Ruled.apply


class Network(nn.Module):
    """Convolutions, a shortcut and max pooling around four uses of one ReLU."""

    def __init__(self, relu):
        super().__init__()
        self.relu = relu
        self.first, self.second = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.norm, self.last = nn.BatchNorm2d(4), nn.Conv2d(4, 5, 3)

    def forward(self, images):
        x = self.relu(self.first(images))
        x = self.relu(x + self.relu(self.norm(self.second(x))))
        return self.relu(self.last(F.max_pool2d(x, 2))).mean((2, 3))


def network(relu):
    torch.manual_seed(0)
    made = Network(relu).double().eval()
    made.norm.running_mean.uniform_(-1, 1)
    return made


def images(batch=2, size=8, seed=0):
    return 8 * torch.randn(batch, 3, size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


WEIGHTS = torch.randn(3, 2, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(2))


def by_hand(rule):
    """x = (3, 1) through h = relu(Ax), whose units are 2, -5 and 4, to the score -h1 + 5 h2 + 2 h3."""
    a, back = torch.tensor([[1.0, -1.0], [-2.0, 1.0], [1.0, 1.0]]), torch.tensor([[[-1.0, 5.0, 2.0]]])
    image = torch.tensor([[[[3.0, 1.0]]]])
    return image_gradients(lambda one: torch.relu(one.flatten(1) @ a.T), image, lambda _: back, rule).flatten().tolist()


def test_plain_backpropagation_asks_for_a_positive_input():
    assert by_hand("plain") == [-1 + 2, 1 + 2]  # units 1 and 3


def test_a_deconvolutional_network_asks_for_a_positive_gradient():
    assert by_hand("deconvnet") == [5 * -2 + 2, 5 + 2]  # units 2 and 3


def test_guided_backpropagation_asks_for_both():
    assert by_hand("guided") == [2, 2]  # unit 3


@pytest.mark.parametrize("rule", RULES)
def test_without_a_relu_every_rule_gives_the_derivative(rule):
    torch.manual_seed(1)
    smooth = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Tanh(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(4, 5)).double()
    some, step = images(2, 4) / 8, 1e-6
    found = image_gradients(smooth, some, lambda _: WEIGHTS, rule)
    assert found.shape == (3, 2, 3, 4, 4)
    for place in itertools.product(range(3), range(4), range(4)):
        moved = torch.zeros_like(some)
        moved[:, *place] = step
        with torch.no_grad():
            rise = (smooth(some + moved) - smooth(some - moved)) / (2 * step)
        torch.testing.assert_close(found[:, :, *place], (WEIGHTS * rise).sum(2), rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", RELUS)
def test_the_rule_acts_at_every_kind_of_relu_as_one_written_out_does(name, rule):
    relu, bound = RELUS[name]
    made, reference = network(relu), network(ruled(rule, bound))
    pixels = images().requires_grad_()
    answer = reference(pixels)
    expected = torch.stack([torch.autograd.grad(answer, pixels, one, retain_graph=True)[0] for one in WEIGHTS])
    found = image_gradients(made, images(), lambda _: WEIGHTS, rule)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)
    assert found.any()


def test_the_network_of_these_tests_has_units_off_on_and_above_six():
    inside = network(torch.relu).first(images())
    assert (inside < 0).any() and ((inside > 0) & (inside < 6)).any() and (inside > 6).any()


def test_a_hardtanh_is_no_relu_and_passed_plainly():
    both = [image_gradients(network(nn.Hardtanh(-1, 1)), images(), lambda _: WEIGHTS, rule) for rule in RULES]
    assert torch.equal(both[0], both[2]) and torch.equal(both[1], both[2]) and both[2].any()


@pytest.mark.parametrize("name", ["pictonet-s", "resnet50", "mobilenet_v2"])
def test_trunks_obey_the_rule_in_all_their_relus(name, monkeypatch):
    torch.manual_seed(0)
    trunk = build_trunk(name).double().eval()
    reference, some = copy.deepcopy(trunk), images(1, 32) / 8
    for module in list(reference.modules()):
        for key, child in module.named_children():
            if isinstance(child, nn.ReLU | nn.ReLU6):
                own = nn.Identity()
                own.forward = ruled("guided", 6 if isinstance(child, nn.ReLU6) else None)
                setattr(module, key, own)
    back = torch.randn(trunk(some).shape, dtype=torch.float64)
    found, plain = (image_gradients(trunk, some, lambda _: back[None], rule)[0] for rule in ("guided", "plain"))
    monkeypatch.setattr(torch, "relu", ruled("guided"))
    pixels = some.requires_grad_()
    (expected,) = torch.autograd.grad(reference(pixels), pixels, back)
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-10 * expected.abs().max().item())
    assert (found - plain).abs().max() > 0.01 * plain.abs().max()


def test_every_image_is_on_its_own():
    found = image_gradients(network(torch.relu), images(), lambda _: WEIGHTS)
    for i in range(2):
        alone = image_gradients(network(torch.relu), images()[i : i + 1], lambda _, i=i: WEIGHTS[:, i : i + 1])
        torch.testing.assert_close(alone[:, 0], found[:, i])


def test_the_weights_may_depend_on_the_answer():
    some, made = images(), network(torch.relu)

    def weigh(answer):
        assert not answer.requires_grad
        return answer[None] ** 2

    found = image_gradients(made, some, weigh)
    torch.testing.assert_close(found, image_gradients(made, some, lambda _: made(some).detach()[None] ** 2))


def test_a_network_may_begin_in_place_and_the_images_stay():
    some, before = images(), images()
    found = image_gradients(
        lambda one: F.relu(one, inplace=True).sum((2, 3)), some, lambda sums: torch.ones_like(sums)[None]
    )
    assert torch.equal(some, before) and not some.requires_grad and some.grad is None
    assert torch.equal(found[0], (before > 0).double())


def test_the_model_stays_as_it_was():
    made = network(nn.ReLU(inplace=True))
    made.second.requires_grad_(False)
    made.first.train()
    before, state = str([(one.training, dict(vars(one))) for one in made.modules()]), copy.deepcopy(made.state_dict())
    found = image_gradients(made, images(), lambda _: WEIGHTS)
    assert str([(one.training, dict(vars(one))) for one in made.modules()]) == before  # hooks and gradients among it
    assert all(torch.equal(value, state[key]) for key, value in made.state_dict().items())
    assert [one.requires_grad for one in made.second.parameters()] == [False, False]
    assert all(one.grad is None for one in made.parameters()) and not found.requires_grad


@pytest.mark.parametrize("broken", [False, True])
def test_the_rule_is_gone_from_the_graph_afterwards_even_after_an_error(broken):
    made, kept = network(torch.relu), []

    def remembering(one):
        kept.extend([one, made(one)])
        return kept[1]

    if broken:
        with pytest.raises(ZeroDivisionError):
            image_gradients(remembering, images(), lambda _: 1 / 0)
    else:
        image_gradients(remembering, images(), lambda _: WEIGHTS)
    (found,) = torch.autograd.grad(kept[1], kept[0], WEIGHTS[0])
    torch.testing.assert_close(found, image_gradients(made, images(), lambda _: WEIGHTS, "plain")[0])


def test_it_works_where_gradients_are_switched_off():
    made = network(torch.relu)
    expected = image_gradients(made, images(), lambda _: WEIGHTS)
    for off in (torch.no_grad, torch.inference_mode):
        with off():
            assert torch.equal(image_gradients(made, images(), lambda _: WEIGHTS), expected)


def test_another_rule_is_told_by_name(untyped):
    with pytest.raises(InputError, match="rule='guide': choose one of guided, deconvnet, plain; did you mean 'guided'"):
        image_gradients(network(torch.relu), images(), lambda _: WEIGHTS, "guide")
