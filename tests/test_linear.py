"""The linear baselines on frozen features."""

import pytest
import torch

from mlic_core.errors import InputError
from mlic_core.losses import binary_cross_entropy, softmax_cross_entropy, warp
from mlic_core.models import build_model, build_trunk

TARGETS = torch.tensor([[1, 0, 1, -1, 0], [0, 0, 0, 0, 0], [-1] * 5], dtype=torch.int8)
LOSSES = {"softmax": softmax_cross_entropy, "warp": warp, "bce": binary_cross_entropy}


def linear(**options):
    torch.manual_seed(0)
    return build_model("linear", 5, build_trunk("pictonet-s"), **options)


@pytest.mark.parametrize("loss", LOSSES)
def test_the_loss_is_the_one_asked_for_on_a_linear_layer(loss):
    model, features = linear(loss=loss), torch.rand(3, 96)
    scores = features @ model.linear.weight.T + model.linear.bias
    terms = model.loss(model.head(features, TARGETS), TARGETS)
    torch.testing.assert_close(terms[loss], LOSSES[loss](scores, TARGETS))
    assert set(terms) == {loss}


def test_softmax_scores_are_log_probabilities():
    logits = linear(loss="softmax").head(torch.rand(3, 96)).logits
    torch.testing.assert_close(logits.exp().sum(1), torch.ones(3))


def test_the_activation_follows_the_loss():
    model = linear()
    assert [model.activation({"loss": loss}) for loss in ("softmax", "warp", "bce")] == ["softmax", "none", "sigmoid"]


def test_a_misspelt_loss_is_refused_with_the_nearest_one(untyped):
    with pytest.raises(InputError, match="did you mean 'softmax'"):
        linear(loss="softmx")
