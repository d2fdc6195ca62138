"""What every method owes the loop: contract, devices, compilation."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from mlic_core.errors import InputError
from mlic_core.models import METHODS, build_model, build_trunk
from mlic_core.training import Recipe

VARIANTS = [
    *((name, {}) for name in METHODS),
    ("linear", {"loss": "softmax"}),
    ("linear", {"loss": "warp"}),
    ("cnn_rnn", {"cell": "lstm", "order": "easiest-first", "length": 3}),
    ("cnn_rnn", {"cell": "linear", "order": "random-batch", "length": 3, "min_length": 1}),
    ("rdar", {"loss": "bce", "views": "ten", "fine_tune": True}),
    ("rdar", {"K": 1, "views": "centre", "proposals": "windows"}),
    ("mcar", {"rule": "official", "crop_from": "source"}),
    ("mcar", {"selection": "corners"}),
    ("gla", {"start": "zero", "attention": "none", "margin": "none", "T": 1}),
    ("gla", {"start": "mean", "attention": "gated", "labels": "true", "margin": "literal", "fine_tune": True}),
]


@pytest.fixture(autouse=True)
def forget_graphs():
    """Each variant is compiled anew: torch refuses to compile one function too many times."""
    torch._dynamo.reset()


variants = pytest.mark.parametrize(("name", "options"), VARIANTS, ids=lambda value: str(value).replace("{}", ""))


@variants
def test_forward_and_loss_stay_on_a_gpu(name, options):
    """On fake CUDA tensors, mixing devices or asking for a value raises; no GPU is needed."""
    with FakeTensorMode(allow_non_fake_inputs=False), torch.device("cuda"):
        model = build_model(name, 20, build_trunk("pictonet-s"), **options)
        images = torch.empty(2, 3, 64, 64)
        targets = torch.zeros(2, 20, dtype=torch.int8)
        prediction = model(images, targets)
        loss = sum(model.loss(prediction, targets).values())
        found = model.eval()(images)
    assert prediction.logits.device.type == loss.device.type == found.logits.device.type == "cuda"


@variants
def test_forward_compiles_without_a_graph_break(untyped, name, options):
    torch.manual_seed(0)
    model = build_model(name, 5, build_trunk("pictonet-s"), **options).eval()
    images = torch.rand(2, 3, 64, 64)
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    for one, other in zip(compiled(images), model(images), strict=True):
        torch.testing.assert_close(one, other)


@variants
def test_loss_compiles_without_a_graph_break(untyped, name, options):
    torch.manual_seed(0)
    model = build_model(name, 5, build_trunk("pictonet-s"), **options).eval()
    images, targets = torch.rand(2, 3, 64, 64), torch.tensor([[1, 0, 0, -1, 1], [0] * 5], dtype=torch.int8)

    def loss(images, targets):
        return sum(model.loss(model(images, targets), targets).values())

    compiled = torch.compile(loss, fullgraph=True, backend="eager")
    torch.manual_seed(0)
    ours = compiled(images, targets)
    torch.manual_seed(0)
    torch.testing.assert_close(ours, loss(images, targets))


@pytest.mark.parametrize("name", METHODS)
def test_prediction_has_the_contract_s_shapes_and_finite_gradients(name):
    torch.manual_seed(0)
    model = build_model(name, 5, build_trunk("pictonet-s"))
    targets = torch.tensor([[1, 0, 0, -1, 1], [0, 0, 0, 0, 0], [-1] * 5], dtype=torch.int8)
    prediction = model(torch.rand(3, 3, 64, 64), targets)
    assert prediction.logits.shape == (3, 5) and prediction.logits.dtype == torch.float32
    if prediction.regions is not None:
        regions = prediction.regions
        assert regions.shape[0] == 3 and regions.shape[2] == 4
        assert (regions >= 0).all() and (regions <= 1).all() and (regions[..., 2:] > regions[..., :2]).all()
    sum(model.loss(prediction, targets).values()).backward()
    gradients = [parameter.grad for parameter in model.parameters() if parameter.requires_grad]
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize("name", METHODS)
def test_scores_are_fp32_under_autocast(name):
    model = build_model(name, 5, build_trunk("pictonet-s"))
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(torch.rand(2, 3, 64, 64)).logits
    assert logits.dtype == torch.float32
    assert not torch.equal(logits, logits.bfloat16().float())


@pytest.mark.parametrize("name", METHODS)
def test_parameter_groups_cover_every_trained_parameter_once(name):
    model = build_model(name, 5, build_trunk("pictonet-s"))
    grouped = [id(p) for group in model.param_groups(Recipe()) for p in group["params"]]
    assert sorted(grouped) == sorted(id(p) for p in model.parameters() if p.requires_grad)
    assert all(p.requires_grad for p in model.trunk.parameters()) != getattr(model, "frozen", False)


def test_unknown_method_and_option_are_named():
    trunk = build_trunk("pictonet-s")
    with pytest.raises(InputError, match="did you mean 'mcar'"):
        build_model("mcarr", 5, trunk)
    with pytest.raises(InputError, match="topn"):
        build_model("mcar", 5, trunk, topn=3)
    with pytest.raises(InputError, match="topN=6: choose 0 to 5"):
        build_model("mcar", 5, trunk, topN=6)
