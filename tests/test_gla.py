"""GLA's two attentions and its forward pass beside the paper's equations in NumPy, its loss by hand, its options."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from mlic_core.errors import InputError
from mlic_core.models import Prediction, activation, build_model
from mlic_core.models.gla import GlobalAttention, LocalAttention, attend
from mlic_core.training import Recipe
from tests.test_margin import plain_horizontal, plain_vertical

C, D, H, U, T = 5, 6, 7, 4, 3  # classes, channels, units of the LSTM and of g, steps
STARTS, ATTENTIONS = ("zero", "mean", "global"), ("none", "soft", "gated")
TARGETS = torch.tensor([[1, 0, 1, 0, 1], [0, 1, -1, 0, 0], [1, 1, 1, 1, 0]], dtype=torch.int8)
COUNTED = torch.tensor(
    [[0, 1, 1, -1, 1], [0, 1, 0, -1, 1], [0, 1, 0, -1, 1], [1, 1, 0, 1, -1], [1, 0, -1, 0, 0]], dtype=torch.int8
)
RANK = [2, 0, 3, 4, 1]  # 2, 4, 1, 1 and 3 of them, without the ignored; of equals the first
every_start = pytest.mark.parametrize("start", STARTS)
every_attention = pytest.mark.parametrize("attention", ATTENTIONS)


class Pixels(nn.Module):
    """A trunk whose maps are the images and their mirror images."""

    out_channels, stride, mean, std = D, 1, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.norm = nn.BatchNorm2d(D)

    def forward(self, images):
        return self.norm(torch.cat([images, images.flip(3)], 1) * self.scale)


def fresh(**options):
    torch.manual_seed(0)
    return build_model("gla", C, Pixels(), **options).eval()


def small(**options):
    """A model with weights large enough for steps, cells and images to differ, and an order of the classes."""
    model = fresh(**{"T": T, "hidden": H, "units": U, **options})
    with torch.no_grad():
        for name, value in model.named_parameters():
            if not name.startswith("trunk."):
                value.normal_(0, 0.7)
    model.observe(COUNTED)
    return model


def drawn(batch=3, rows=4, columns=3, seed=1):
    return torch.randn(batch, D, rows, columns, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def double(monkeypatch):
    """The head computes in fp32; for comparisons to the last digit it is left in double precision here."""
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)


def array(tensor):
    return tensor.detach().double().numpy()


def sigmoid(value):
    return 1 / (1 + np.exp(-value))


def softmax(values):
    powers = np.exp(values - values.max())
    return powers / powers.sum()


def numpy_lstm(p, x, h, c):
    """Eq. 6 to 11; torch keeps the matrices of i, f, g and o below each other, and two biases."""
    rows = {gate: slice(n * H, n * H + H) for n, gate in enumerate("ifgo")}
    bias = p["lstm.bias_ih"] + p["lstm.bias_hh"]
    i, f, g, o = (
        p["lstm.weight_ih"][rows[gate]] @ x + p["lstm.weight_hh"][rows[gate]] @ h + bias[rows[gate]] for gate in "ifgo"
    )
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


def numpy_global(p, cells):
    """Eq. 1, cell by cell."""
    return softmax(np.array([np.tanh(p["overview.score.weight"][0] @ a + p["overview.score.bias"][0]) for a in cells]))


def numpy_local(p, cells, h):
    """Eq. 4, cell by cell."""
    names = ("focus.from_cell.weight", "focus.from_state.weight", "focus.from_cell.bias", "focus.score.weight")
    w_a, w_h, b, w = (p[name] for name in names)
    return softmax(np.array([w[0] @ np.tanh(w_a @ a + w_h @ h + b) for a in cells]))


def mixed(weights, cells):
    return sum(weight * a for weight, a in zip(weights, cells, strict=True))


def numpy_walk(model, image, start, attention, rescale=True, true=None, steps=T):
    """Scores of each step, and all weights of the cells, of one image. true: y_t, where it isn't predicted."""
    p = {name: array(value) for name, value in model.named_parameters()}
    cells = [array(image)[:, row, column] for row in range(image.shape[1]) for column in range(image.shape[2])]
    mean, maps, scores = sum(cells) / len(cells), [], []
    h, c = np.zeros(H), np.zeros(H)
    if start != "zero":
        context = mean
        if start == "global":
            maps.append(numpy_global(p, cells))
            context = mixed(maps[0], cells) / (len(cells) if rescale else 1)
        c = p["start.weight"][:H] @ context + p["start.bias"][:H]
        h = p["start.weight"][H:] @ context + p["start.bias"][H:]
    y = np.zeros(C)
    for t in range(steps):
        z = mean
        if attention != "none":
            maps.append(numpy_local(p, cells, h))
            z = mixed(maps[-1], cells)
        if attention == "gated":
            z = z * sigmoid(p["gate.weight"][0] @ h + p["gate.bias"][0])
        h, c = numpy_lstm(p, np.concatenate([y if true is None else true[t], z]), h, c)
        scores.append(p["classify.weight"] @ h + p["classify.bias"])
        y = sigmoid(scores[-1])
    return np.stack(scores), maps


# Attention


def test_global_weights_equal_eq_1_and_sum_to_1():
    torch.manual_seed(0)
    for channels, count in ((1, 1), (3, 4), (6, 35)):
        layer, cells = GlobalAttention(channels).double(), torch.randn(2, count, channels, dtype=torch.float64)
        p = {f"overview.{name}": array(value.normal_()) for name, value in layer.state_dict().items()}
        found = array(layer(cells))
        np.testing.assert_allclose(found, [numpy_global(p, image) for image in array(cells)], rtol=1e-12)
        np.testing.assert_allclose(found.sum(1), 1, rtol=1e-12)


def test_no_global_weight_is_more_than_e_squared_times_another():
    """And with large weights, one is."""
    torch.manual_seed(0)
    layer, cells = GlobalAttention(D).double(), torch.randn(20, 50, D, dtype=torch.float64)
    ratios = []
    for scale in (0.1, 1, 10, 1000):
        with torch.no_grad():
            layer.score.weight.copy_(scale * torch.randn(1, D))
        weights = layer(cells)
        ratios.append((weights.amax(1) / weights.amin(1)).max().item())
    assert max(ratios) <= math.e**2 * (1 + 1e-12) and ratios[-1] > 0.999 * math.e**2 and ratios[0] < 5


def test_local_weights_equal_eq_4_and_sum_to_1():
    torch.manual_seed(0)
    for channels, hidden, units, count in ((1, 1, 1, 1), (3, 5, 2, 4), (D, H, U, 35)):
        layer = LocalAttention(channels, hidden, units).double()
        cells = torch.randn(2, count, channels, dtype=torch.float64)
        h = torch.randn(2, hidden, dtype=torch.float64)
        p = {f"focus.{name}": array(value.normal_()) for name, value in layer.state_dict().items()}
        found = array(layer(layer.project(cells), h))
        expected = [numpy_local(p, image, state) for image, state in zip(array(cells), array(h), strict=True)]
        np.testing.assert_allclose(found, expected, rtol=1e-11)
        np.testing.assert_allclose(found.sum(1), 1, rtol=1e-12)


def test_a_context_is_the_weighted_sum_of_the_cells():
    weights = torch.tensor([[0.5, 0.25, 0.25], [0.0, 1.0, 0.0]])
    cells = torch.tensor([[[4.0, 0.0], [8.0, 4.0], [0.0, 12.0]], [[1.0, 2.0], [3.0, 5.0], [7.0, 11.0]]])
    assert attend(weights, cells).tolist() == [[4.0, 4.0], [3.0, 5.0]]


# The forward pass


@pytest.mark.parametrize("rescale", [True, False])
@every_attention
@every_start
def test_the_forward_pass_equals_the_paper_s_equations(start, attention, rescale, double):
    model, maps = small(start=start, attention=attention, rescale=rescale).double(), drawn().double()
    found = model.head(maps)
    assert array(found.steps).std(1).min() > 1e-3  # no step like another
    for image in range(3):
        scores, weights = numpy_walk(model, maps[image], start, attention, rescale)
        np.testing.assert_allclose(array(found.steps[image]), scores, rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(array(found.logits[image]), scores.max(0), rtol=1e-10, atol=1e-12)
        if weights:
            expected = np.stack(weights).reshape(-1, 4, 3)
            np.testing.assert_allclose(array(found.maps[image]), expected, rtol=1e-10)
            assert expected.std((1, 2)).min() > 1e-3


@every_attention
@every_start
def test_maps_are_the_global_one_first_then_one_a_step(start, attention):
    model, maps = small(start=start, attention=attention), drawn()
    found = model.head(maps)
    count = (start == "global") + (0 if attention == "none" else T)
    if not count:
        assert found.maps is None
        return
    assert found.maps.shape == (3, count, 4, 3) and found.maps.min() >= 0
    torch.testing.assert_close(found.maps.sum((2, 3)), torch.ones(3, count))
    with torch.no_grad():
        for name, value in model.named_parameters():
            value.mul_(not name.startswith("focus."))
    flat = (model.head(maps).maps - 1 / 12).abs().amax((0, 2, 3)) < 1e-6  # where every cell weighs the same
    assert flat.tolist() == [False] * (start == "global") + [True] * (count - (start == "global"))


def test_without_attention_only_the_mean_of_the_cells_counts():
    maps = drawn()
    even = maps.mean((2, 3), keepdim=True).expand_as(maps)
    permuted = maps.flatten(2)[:, :, torch.randperm(12, generator=torch.Generator().manual_seed(0))].view_as(maps)
    model = small(start="zero", attention="none")
    for other in (even, permuted):
        torch.testing.assert_close(model.head(other).steps, model.head(maps).steps, rtol=1e-5, atol=1e-6)
    for options in ({"start": "global"}, {"attention": "soft"}, {"attention": "gated"}):
        model = small(**{"start": "zero", "attention": "none", **options})
        assert (model.head(even).steps - model.head(maps).steps).abs().max() > 1e-3


def test_scores_do_not_mind_where_cells_are_and_maps_go_with_them():
    model, maps = small(attention="gated"), drawn()
    found, turned = model.head(maps), model.head(maps.transpose(2, 3).flip(2))
    torch.testing.assert_close(turned.steps, found.steps, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(turned.maps, found.maps.transpose(2, 3).flip(2), rtol=1e-4, atol=1e-6)


def test_rescaling_divides_the_context_by_the_number_of_cells(double):
    """Eq. 3 as printed: as if I_c and I_h had been divided by it, which grows with the maps."""
    for rows, columns in ((4, 3), (7, 5), (1, 1)):
        maps = drawn(3, rows, columns).double()
        printed, plain = small(rescale=True).double(), small(rescale=False).double()
        expected = plain.head(maps).steps
        assert rows == 1 or (printed.head(maps).steps - expected).abs().max() > 1e-2
        with torch.no_grad():
            printed.start.weight.mul_(rows * columns)
        torch.testing.assert_close(printed.head(maps).steps, expected, rtol=1e-9, atol=1e-12)


def test_a_plain_mean_is_not_rescaled():
    printed, plain = (small(start="mean", rescale=rescale).head(drawn()).steps for rescale in (True, False))
    assert torch.equal(printed, plain)


@pytest.mark.parametrize("steps", [1, 2, 6])
def test_more_steps_begin_like_fewer(steps):
    found, more = small(T=steps).head(drawn()), small(T=8).head(drawn())
    assert found.steps.shape == (3, steps, C) and found.maps.shape[1] == steps + 1
    torch.testing.assert_close(found.steps, more.steps[:, :steps])
    torch.testing.assert_close(found.logits, more.steps[:, :steps].amax(1))


@pytest.mark.parametrize(
    ("start", "attention", "layers"),
    [
        ("zero", "none", set()),
        ("zero", "soft", {"focus"}),
        ("global", "soft", {"overview", "start", "focus"}),
        ("mean", "gated", {"start", "focus", "gate"}),
    ],
)
def test_a_model_has_no_layer_that_it_does_not_use(start, attention, layers):
    model = small(start=start, attention=attention).train()
    assert {name.split(".")[0] for name, _ in model.named_parameters()} == layers | {"trunk", "lstm", "classify"}
    assert model.lstm.hidden_size == H and (model.focus is None or model.focus.score.weight.shape == (1, U))
    sum(model.loss(model.head(drawn(), TARGETS), TARGETS).values()).backward()
    for name, value in model.named_parameters():
        assert name.startswith("trunk.") or value.grad.abs().max() > 0, name


@pytest.mark.parametrize("options", [{}, {"attention": "gated", "rescale": False}, {"start": "mean"}])
def test_gradients_of_all_steps_equal_finite_differences(options, double):
    """Through both attentions, the state, and the scores that the next step is given."""
    model, maps = small(**options).double(), drawn(1, 2, 2).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda seen: model.head(seen).steps, (maps,))


def test_logits_become_probabilities_by_a_sigmoid():
    assert activation("gla", {}) == "sigmoid"


# Labels as inputs


def seen_labels(model, *given):
    """y_t of each step (images, T, C) of a head."""
    seen = []
    hook = model.lstm.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0][:, :C]))
    found = model.head(*given)
    hook.remove()
    return torch.stack(seen, 1), found


def one_hot(*classes):
    """y_1 to y_3: nothing, then each given class."""
    rows = torch.zeros(T, C)
    for step, c in enumerate(classes, 1):
        rows[step, c] = 1
    return rows


def test_the_order_of_the_classes_is_taken_from_the_training_set():
    model = fresh()
    rank = model.rank
    assert rank.tolist() == list(range(C))
    model.observe(COUNTED)
    assert model.rank is rank and rank.tolist() == RANK  # the same tensor: it stays on the model's device
    other = fresh()
    other.load_state_dict(model.state_dict())
    assert other.rank.tolist() == RANK


def test_true_labels_feed_the_steps_in_training_most_frequent_first(double):
    """4 before 0 before 2; 1 alone, what is ignored not at all; 1, 0, and 2 and 3 come too late."""
    model, maps = small(labels="true").double().train(), drawn().double()
    fed, found = seen_labels(model, maps, TARGETS)
    expected = torch.stack([one_hot(4, 0), one_hot(1), one_hot(1, 0)]).double()
    assert torch.equal(fed, expected)
    for image in range(3):
        scores, _ = numpy_walk(model, maps[image], "global", "soft", true=expected[image].numpy())
        np.testing.assert_allclose(array(found.steps[image]), scores, rtol=1e-10, atol=1e-12)


def test_true_labels_count_neither_in_evaluation_nor_where_there_are_none():
    model, maps = small(labels="true"), drawn()
    expected = small(labels="predicted").head(maps).steps
    assert torch.equal(model.head(maps).steps, expected) and torch.equal(model.head(maps, TARGETS).steps, expected)
    model.train()
    assert torch.equal(model.head(maps).steps, expected)
    assert (model.head(maps, TARGETS).steps - expected).abs().max() > 1e-2


@pytest.mark.parametrize("training", [False, True])
def test_with_predicted_labels_targets_never_change_the_prediction(training):
    model, maps = small(labels="predicted").train(training), drawn()
    fed, found = seen_labels(model, maps, TARGETS)
    assert torch.equal(found.steps, model.head(maps).steps)
    assert fed[:, 0].abs().max() == 0 and torch.equal(fed[:, 1:], found.steps[:, :-1].sigmoid())


# The loss


def plain_terms(steps, targets, epsilon=0.3, epsilon_v=0.3, literal=False):
    """Cross-entropy, R₁ and R₂ of Eq. 17."""
    p = sigmoid(array(steps))
    best, given = p.max(1), targets.numpy()
    known = given >= 0
    bce = -np.log(np.where(given == 1, best, 1 - best))[known].mean() * C
    horizontal = plain_horizontal(best, targets, epsilon, literal)
    return bce, horizontal, plain_vertical(p, targets, np.array(RANK), epsilon_v, literal)


@pytest.mark.parametrize("margin", ["mended", "literal"])
def test_the_terms_of_the_loss_equal_eq_17(margin):
    weights = {"epsilon": 0.4, "epsilon_v": 0.2, "lambda_horizontal": 3.0, "lambda_vertical": 7.0}
    model = small(margin=margin, **weights)
    found = model.head(drawn())
    terms = model.loss(found, TARGETS)
    bce, horizontal, vertical = plain_terms(found.steps, TARGETS, 0.4, 0.2, margin == "literal")
    assert list(terms) == ["bce", "horizontal", "vertical"] and min(horizontal, vertical) > 0.01
    assert terms["bce"].item() == pytest.approx(bce, rel=1e-5)
    assert terms["horizontal"].item() == pytest.approx(3 * horizontal, rel=1e-5)
    assert terms["vertical"].item() == pytest.approx(7 * vertical, rel=1e-5)


def test_a_model_without_options_is_the_last_row_of_the_tables():
    """Five steps, attention of both kinds, margins of the right sign, times λ = 0.05 each."""
    model, maps = fresh(), drawn()
    model.observe(COUNTED)
    found = model.head(maps)
    bce, horizontal, vertical = plain_terms(found.steps, TARGETS)
    expected = {"bce": bce, "horizontal": 0.05 * horizontal, "vertical": 0.05 * vertical}
    assert found.steps.shape == (3, 5, C) and found.maps.shape == (3, 6, 4, 3)
    assert {name: term.item() for name, term in model.loss(found, TARGETS).items()} == pytest.approx(expected, rel=1e-5)
    stated = {"T": 5, "hidden": 256, "units": 128, "start": "global", "rescale": True, "attention": "soft"}
    for options in ({}, stated | {"labels": "predicted", "margin": "mended", "fine_tune": False}):
        assert torch.equal(fresh(**options).train().head(maps, TARGETS).steps, found.steps)
    assert (fresh(rescale=False).head(maps).steps - found.steps).abs().max() > 1e-4


def test_without_margins_there_is_the_cross_entropy_alone():
    terms, full = (small(margin=margin).loss(small().head(drawn()), TARGETS) for margin in ("none", "mended"))
    assert set(terms) == {"bce"} and terms["bce"] == full["bce"]


def test_a_margin_of_0_and_a_weight_of_0_are_possible():
    found = small().head(drawn())
    for option, term in (("lambda_horizontal", "horizontal"), ("lambda_vertical", "vertical")):
        assert small(**{option: 0.0}).loss(found, TARGETS)[term].item() == 0
    terms = small(epsilon=0.0, epsilon_v=0.0).loss(found, TARGETS)
    _, horizontal, vertical = plain_terms(found.steps, TARGETS, 0.0, 0.0)
    assert terms["horizontal"].item() == pytest.approx(0.05 * horizontal, rel=1e-5) and horizontal > 0
    assert terms["vertical"].item() == pytest.approx(0.05 * vertical, rel=1e-5) and vertical > 0


@pytest.mark.parametrize("margin", ["none", "mended", "literal"])
def test_ignored_entries_have_no_gradient(margin):
    model = small(margin=margin)
    targets = torch.tensor([[1, -1, 0, 1, -1], [-1] * 5, [-1, 1, 1, -1, -1]], dtype=torch.int8)
    steps = model.head(drawn()).steps.detach().requires_grad_()
    sum(model.loss(Prediction(steps.amax(1), steps), targets).values()).backward()
    gradient = steps.grad.abs().amax(1)
    assert gradient[targets == -1].max() == 0 and gradient[targets != -1].min() > 0


@pytest.mark.parametrize("labels", ["predicted", "true"])
def test_a_few_optimiser_steps_lower_the_loss(labels):
    model, maps = small(labels=labels).train(), drawn()
    optimizer = torch.optim.Adam([value for value in model.parameters() if value.requires_grad], lr=0.01)
    losses = []
    for _ in range(15):
        optimizer.zero_grad()
        loss = sum(model.loss(model.head(maps, TARGETS), TARGETS).values())
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses == sorted(losses, reverse=True) and losses[-1] < 0.8 * losses[0]


# The trunk


def step(model, images):
    recipe = Recipe(**model.recipe)
    optimizer = recipe.build_optimizer(model.param_groups(recipe))
    sum(model.loss(model(images, TARGETS), TARGETS).values()).backward()
    optimizer.step()


@pytest.mark.parametrize("fine_tune", [False, True])
def test_the_trunk_learns_only_if_it_is_fine_tuned(fine_tune):
    model = small(fine_tune=fine_tune).train()
    assert model.frozen is not fine_tune and model.training
    assert model.trunk.training is fine_tune and model.trunk.norm.training is fine_tune
    before = {key: value.clone() for key, value in model.state_dict().items()}
    step(model, 5 + torch.randn(3, 3, 8, 8))
    changed = {key for key, value in model.state_dict().items() if not torch.equal(before[key], value)}
    head = {name for name, _ in model.named_parameters() if not name.startswith("trunk.")}
    assert head <= changed and any(key.startswith("trunk.") for key in changed) is fine_tune
    assert all((value.grad is not None) is fine_tune for value in model.trunk.parameters())
    assert not model.eval().trunk.training


def test_parameter_groups_hold_each_parameter_once_at_its_rate():
    recipe = Recipe(lr=0.001, head_lr=0.01)
    frozen, tuned = small(), small(fine_tune=True)
    (group,) = frozen.param_groups(recipe)
    assert group["lr"] == 0.01
    head = {id(value) for name, value in frozen.named_parameters() if not name.startswith("trunk.")}
    assert {id(value) for value in group["params"]} == head and len(group["params"]) == len(head)
    trunk, group = tuned.param_groups(recipe)
    assert (trunk["lr"], group["lr"]) == (0.001, 0.01)
    assert {id(value) for value in trunk["params"]} == {id(value) for value in tuned.trunk.parameters()}
    assert len(trunk["params"]) + len(group["params"]) == len(list(tuned.parameters()))


def test_by_its_own_recipe_adam_trains_a_trunk_more_slowly_than_the_head():
    model = small(fine_tune=True)
    recipe = Recipe(**model.recipe)
    optimizer = recipe.build_optimizer(model.param_groups(recipe))
    assert type(optimizer) is torch.optim.Adam and not recipe.bf16
    trunk, head = (group["lr"] for group in optimizer.param_groups)
    assert (trunk, head) == (recipe.lr, recipe.head_lr) and trunk < head


def test_forward_is_the_head_on_the_maps():
    model, images = small(labels="true").train(), torch.rand(3, 3, 8, 8)
    maps = model.features(images)
    assert maps.shape == (3, D, 8, 8) and torch.equal(maps, model.trunk(images)) and not maps.requires_grad
    assert model.feature_kind == "maps"
    assert torch.equal(model(images, TARGETS).steps, model.head(maps, TARGETS).steps)
    assert torch.equal(model(images).steps, model.head(maps).steps)


@pytest.mark.parametrize("labels", ["predicted", "true"])
def test_half_precision_stops_at_the_head(labels):
    model = small(labels=labels, attention="gated").train()
    maps = drawn().bfloat16()
    expected = model.head(maps.float(), TARGETS)
    with torch.autocast("cpu", torch.bfloat16):
        found = model.head(maps, TARGETS)
    assert found.logits.dtype == found.steps.dtype == found.maps.dtype == torch.float32
    assert torch.equal(found.steps, expected.steps) and torch.equal(found.maps, expected.maps)


# Options


@pytest.mark.parametrize(
    ("option", "value"),
    [("T", 0), ("T", -1), ("hidden", 0), ("units", 0), ("epsilon", -0.1), ("epsilon", math.nan), ("epsilon_v", -0.3),
     ("epsilon_v", math.inf), ("lambda_horizontal", -0.05), ("lambda_horizontal", math.nan),
     ("lambda_vertical", -1.0), ("lambda_vertical", math.inf)],
)  # fmt: skip
def test_impossible_options_are_refused_by_name(option, value):
    with pytest.raises(InputError, match=rf"^gla: {option}={value}: choose"):
        small(**{option: value})


@pytest.mark.parametrize(
    ("option", "value", "meant"),
    [
        ("start", "globl", "global"),
        ("attention", "sofft", "soft"),
        ("labels", "tru", "true"),
        ("margin", "mend", "mended"),
    ],
)
def test_misspelt_choices_are_refused_with_the_nearest_one(untyped, option, value, meant):
    with pytest.raises(InputError, match=f"^gla: {option}='{value}': choose one of .*; did you mean '{meant}'"):
        small(**{option: value})


def test_an_unknown_option_is_named():
    with pytest.raises(InputError, match=r"^gla: .*'margins'"):
        small(margins="none")
