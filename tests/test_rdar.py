"""RDAR's walk beside the paper's equations in NumPy, its views beside slices of the maps, and its regions by hand."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from mlic_core.errors import InputError
from mlic_core.losses import euclidean
from mlic_core.models import activation, build_model
from mlic_core.models.proposals import Windows
from mlic_core.models.rdar import MemoryCell, average_views
from mlic_core.models.spatial import random_crop, spatial_transform
from mlic_core.training import Recipe
from tests.test_spatial import bilinear

C, D, H, K, S, P = 4, 6, 8, 3, 4, 2  # classes, channels, hidden units, regions, places sampled and cells pooled a side
LOSSES = ("euclidean", "bce")
TARGETS = torch.tensor([[1, 0, 1, 0], [0, 1, -1, 0]], dtype=torch.int8)


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
    return build_model("rdar", C, Pixels(), **{"K": K, "hidden": H, "sampled": S, "pooled": P, **options}).eval()


def small(**options):
    """A model with weights large enough to send it to other places in each image and step."""
    model = fresh(**options)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if not name.startswith("trunk."):
                value.normal_(0, 0.6)
        model.localise.weight.mul_(0.4)
        model.localise.bias.copy_(torch.tensor([0.5, 0.4, 0.0, 0.0]))
    return model


def drawn(batch=2, rows=8, columns=8, seed=1):
    return torch.randn(batch, D, rows, columns, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def double(monkeypatch):
    """The head computes in fp32; for comparisons to the last digit it is left in double precision here."""
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)


def sigmoid(value):
    return 1 / (1 + np.exp(-value))


def numpy_cell(weight_x, bias, weight_h, x, h, c):
    """Eq. 4 after x_k, matrix by matrix."""
    size = len(h)
    rows = [slice(n * size, n * size + size) for n in range(4)]
    i, g, o, m = (weight_x[part] @ x + weight_h[part] @ h + bias[part] for part in rows)
    c = sigmoid(g) * c + sigmoid(i) * np.tanh(m)
    return sigmoid(o) * c, c


def numpy_pooled(region):
    return region.reshape(D, P, S // P, P, S // P).max((2, 4))


def numpy_walk(model, image, given=None, sampled=None):
    """s_k, z_k and M_k, k = 1 … K, of one image (Eq. 2 to 5); M_k or f_k themselves may be given."""
    p = {name: value.detach().double().numpy() for name, value in model.named_parameters()}
    memory = p["memory.from_region.weight"], p["memory.from_region.bias"], p["memory.from_state.weight"]
    h, c, place, steps = np.zeros(H), np.zeros(H), (1.0, 1.0, 0.0, 0.0), []
    for k in range(K + 1):
        f = numpy_pooled(bilinear(image, place, (S, S))) if sampled is None else sampled[k]
        x = np.maximum(p["region.weight"] @ f.ravel() + p["region.bias"], 0)
        h, c = numpy_cell(*memory, x, h, c)
        z = np.maximum(p["reading.weight"] @ h + p["reading.bias"], 0)
        if k > 0:
            steps.append((p["classify.weight"] @ z + p["classify.bias"], z, place))
        place = p["localise.weight"] @ z + p["localise.bias"]
        if given is not None and k < K:
            place = given[k]
    return [np.stack(part) for part in zip(*steps, strict=True)]


def test_the_memory_cell_equals_eq_4_step_by_step():
    torch.manual_seed(0)
    cell = MemoryCell(3, 5).double()
    matrices = [
        value.detach().numpy() for value in (cell.from_region.weight, cell.from_region.bias, cell.from_state.weight)
    ]
    h, c = np.zeros((2, 5)), np.zeros((2, 5))
    state = torch.zeros(2, 5, dtype=torch.float64), torch.zeros(2, 5, dtype=torch.float64)
    for step in range(4):
        x = torch.randn(2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(step))
        state = cell(x, state)
        h, c = zip(*(numpy_cell(*matrices, x[row].numpy(), h[row], c[row]) for row in range(2)), strict=True)
        np.testing.assert_allclose(state[0].detach().numpy(), h, rtol=1e-12)
        np.testing.assert_allclose(state[1].detach().numpy(), c, rtol=1e-12)


def test_the_second_gate_forgets_and_the_output_has_no_tanh():
    """With i, o and m at 1, c counts steps while g is at 1 and h follows it beyond 1; with g at 0, c is m alone."""
    cell = MemoryCell(1, 1)
    for forget, expected in ((30.0, [1, 2, 3]), (-30.0, [1, 1, 1])):
        with torch.no_grad():
            cell.from_region.weight.zero_()
            cell.from_state.weight.zero_()
            cell.from_region.bias.copy_(torch.tensor([30.0, forget, 30.0, 30.0]))
        state, seen = (torch.zeros(1, 1), torch.zeros(1, 1)), []
        for _ in range(3):
            state = cell(torch.zeros(1, 1), state)
            seen.append(state[0].item())
        assert seen == pytest.approx(expected)


@pytest.mark.parametrize("cells", [(8, 8), (5, 9)])
def test_the_walk_equals_the_paper_s_equations(cells, double):
    model, maps = small().double(), drawn(3, *cells).double()
    walk = model.walk(maps)
    assert walk.transforms.std((0, 1)).min() > 0.05 and (walk.hidden > 0).any(0).any(0).sum() > H / 2  # no trivial walk
    for image in range(3):
        scores, hidden, transforms = numpy_walk(model, maps[image].numpy())
        np.testing.assert_allclose(walk.scores[image].detach().numpy(), scores, rtol=1e-9, atol=1e-11)
        np.testing.assert_allclose(walk.hidden[image].detach().numpy(), hidden, rtol=1e-9, atol=1e-11)
        np.testing.assert_allclose(walk.transforms[image].detach().numpy(), transforms, rtol=1e-9, atol=1e-11)


def test_k_regions_are_scored_in_k_plus_one_iterations():
    model, calls = small(K=5), []
    for name in ("memory", "classify"):
        getattr(model, name).register_forward_hook(lambda *_, name=name: calls.append(name))
    walk = model.walk(drawn())
    assert (calls.count("memory"), calls.count("classify")) == (6, 5)
    assert [part.shape for part in walk] == [(2, 5, C), (2, 5, H), (2, 5, 4)]


def test_a_score_is_the_maximum_over_the_regions(double):
    """Eq. 6; under the Euclidean loss the log of its softmax."""
    maps = drawn().double()
    model = small(loss="bce").double()
    raw = np.stack([numpy_walk(model, image.numpy())[0] for image in maps])
    found = model.head(maps)
    np.testing.assert_allclose(found.logits.detach().numpy(), raw.max(1), rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(found.steps.detach().numpy(), raw, rtol=1e-9, atol=1e-11)
    found = small(loss="euclidean").double().head(maps)
    shares = np.exp(raw.max(1)) / np.exp(raw.max(1)).sum(1, keepdims=True)
    np.testing.assert_allclose(found.logits.exp().detach().numpy(), shares, rtol=1e-9)
    shares = np.exp(raw) / np.exp(raw).sum(2, keepdims=True)
    np.testing.assert_allclose(found.steps.exp().detach().numpy(), shares, rtol=1e-9)


def test_logits_say_how_they_become_probabilities():
    assert activation("rdar", {"loss": "euclidean"}) == "softmax" and activation("rdar", {"loss": "bce"}) == "sigmoid"


def test_regions_are_named_by_the_class_that_each_scores_best():
    found = small().head(drawn())
    assert torch.equal(found.region_labels, found.steps.argmax(2))


def test_a_new_model_looks_at_the_middle_half():
    found = fresh().head(drawn())
    assert found.transforms.tolist() == [[[0.5, 0.5, 0.0, 0.0]] * K] * 2
    assert found.regions.tolist() == [[[0.25, 0.25, 0.75, 0.75]] * K] * 2


def test_by_xavier_s_rule_a_new_model_looks_there_only_where_it_sees_nothing():
    """Then z is 0, which leaves the bias; anything else sends regions astray."""
    model, maps = fresh(start="xavier"), drawn()
    maps[0] = 0
    nothing, something = model.head(maps).transforms
    assert nothing.tolist() == [[0.5, 0.5, 0.0, 0.0]] * K
    assert (something - nothing).abs().min() > 0


@pytest.mark.parametrize("start", ["middle", "xavier"])
def test_every_matrix_starts_by_xavier_s_rule(start):
    """Those that share a layer too: the bound is that of one gate's matrix. W_zm may be zero instead."""
    model = fresh(hidden=32, start=start)
    layers = [model.region, *model.memory.children(), model.reading, model.classify, model.localise]
    assert all(layer is model.localise or layer.bias is None or layer.bias.abs().max() == 0 for layer in layers)
    if start == "middle":
        assert layers.pop().weight.abs().max() == 0
    for layer in layers:
        for matrix in layer.weight.chunk(4 if layer in (model.memory.from_region, model.memory.from_state) else 1):
            bound = math.sqrt(6 / sum(matrix.shape))
            assert 0.9 * bound < matrix.abs().max() <= bound


def test_regions_are_boxes_sorted_and_cut_at_the_edge():
    model = small()
    with torch.no_grad():
        model.localise.weight.zero_()
        model.localise.bias.copy_(torch.tensor([-0.5, 0.25, 0.75, 0.0]))  # mirrored, and over the right edge
    found = model.head(drawn(1))
    assert found.transforms.tolist() == [[[-0.5, 0.25, 0.75, 0.0]] * K]
    assert found.regions.tolist() == [[[0.625, 0.375, 1.0, 0.625]] * K]


def test_one_region_needs_no_anchor():
    model = small(K=1)
    found = model.head(drawn())
    assert found.transforms.shape == (2, 1, 4) and model.loss(found, TARGETS)["anchor"].item() == 0


def test_the_number_of_regions_is_in_no_weight():
    model, more = small(K=1), fresh(K=7)
    more.load_state_dict(model.state_dict())
    found = more.walk(drawn())
    torch.testing.assert_close(found.scores[:, :1], model.walk(drawn()).scores)


# The loss


def by_hand(transforms, alpha, beta):
    """Eq. 9 to 12, summed over the regions; the mean over the batch."""
    anchors = {2: (0.5, 0.5), 3: (-0.5, -0.5)}  # 45° and 225° for K = 3
    sums = {"scale": 0.0, "anchor": 0.0, "positive": 0.0}
    for image in transforms.tolist():
        for k, (s_x, s_y, t_x, t_y) in enumerate(image, 1):
            sums["scale"] += max(abs(s_x) - alpha, 0) ** 2 + max(abs(s_y) - alpha, 0) ** 2
            sums["positive"] += max(0, beta - s_x) + max(0, beta - s_y)
            if k > 1:
                sums["anchor"] += 0.5 * ((t_x - anchors[k][0]) ** 2 + (t_y - anchors[k][1]) ** 2)
    return {name: value / len(transforms) for name, value in sums.items()}


def test_the_terms_of_the_loss_have_the_paper_s_weights():
    model = small()
    found = model.head(drawn())
    terms, expected = model.loss(found, TARGETS), by_hand(found.transforms, 0.5, 0.1)
    assert set(terms) == {"euclidean", "scale", "anchor", "positive"} and min(expected.values()) > 0
    assert terms["euclidean"].item() == pytest.approx(euclidean(found.logits, TARGETS).item())
    for name, weight in (("scale", 0.1), ("anchor", 0.1 * 0.01), ("positive", 0.1 * 0.1)):
        assert terms[name].item() == pytest.approx(weight * expected[name], rel=1e-5)


def test_weights_and_bounds_may_be_set():
    model = small(gamma=3.0, lambda_anchor=0.5, lambda_positive=7.0, alpha=0.2, beta=0.6)
    found = model.head(drawn())
    terms, expected = model.loss(found, TARGETS), by_hand(found.transforms, 0.2, 0.6)
    for name, weight in (("scale", 3), ("anchor", 1.5), ("positive", 21)):
        assert terms[name].item() == pytest.approx(weight * expected[name], rel=1e-5)


@pytest.mark.parametrize("off", ["scale", "anchor", "positive"])
def test_a_constraint_that_is_off_has_no_term(off):
    model = small(**{off: False})
    full, terms = (one.loss(one.head(drawn()), TARGETS) for one in (small(), model))
    assert set(full) - set(terms) == {off}
    assert all(full[name] == terms[name] for name in terms)


def test_binary_cross_entropy_takes_the_euclidean_loss_s_place():
    model = small(loss="bce", anchor=False, scale=False, positive=False)
    found = model.head(drawn())
    p, known = found.logits.double().sigmoid(), TARGETS >= 0
    expected = -torch.where(TARGETS == 1, p, 1 - p).log()[known].mean()
    terms = model.loss(found, TARGETS)
    assert set(terms) == {"bce"} and terms["bce"].item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("loss", LOSSES)
def test_classification_alone_teaches_where_to_look(loss):
    model = small(loss=loss, anchor=False, scale=False, positive=False).train()
    sum(model.loss(model.head(drawn(), TARGETS), TARGETS).values()).backward()
    for name, value in model.named_parameters():
        assert name.startswith("trunk.") or value.grad.abs().max() > 0, name


# Views

ROWS, COLUMNS, SHARE, KEPT = 10, 5, 0.6, (6, 3)  # crops whose centre, too, lies at whole cells
ORIGINS = ((1, 2), (0, 0), (2, 0), (0, 4), (2, 4))  # x, y of the first cell: the centre, and the corners row by row


def slices(maps, views):
    """The views of maps by slicing, with their origins, and whether they are mirrored."""
    cut = [(maps[:, :, y : y + KEPT[0], x : x + KEPT[1]], (x, y), False) for x, y in ORIGINS]
    mirrored = [(part.flip(3), origin, True) for part, origin, _ in cut]
    return {"centre": cut[:1], "five": cut, "ten": cut + mirrored}[views]


def probabilities(scores, loss):
    return scores.double().sigmoid() if loss == "bce" else scores.double().softmax(-1)


@pytest.mark.parametrize("loss", LOSSES)
def test_the_whole_view_is_the_walk(loss):
    model, maps = small(loss=loss, views="whole"), drawn()
    walk, look = model.walk(maps), model.look(maps)
    for one, other in zip(walk, look, strict=True):
        assert torch.equal(one[None], other)
    assert torch.equal(model.head(maps).transforms, walk.transforms)


@pytest.mark.parametrize("proposals", ["", "windows"])
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("views", ["centre", "five", "ten"])
def test_views_average_the_probabilities_of_separate_crops(views, loss, proposals):
    model, maps = small(loss=loss, crop=SHARE, views=views, proposals=proposals), drawn(3, ROWS, COLUMNS)
    walks = [model.walk(part) for part, _, _ in slices(maps, views)]
    expected = torch.stack([probabilities(walk.scores.amax(1), loss) for walk in walks]).mean(0)
    found = model.head(maps)
    logits = found.logits.double()
    torch.testing.assert_close(logits.sigmoid() if loss == "bce" else logits.exp(), expected, rtol=1e-4, atol=1e-5)
    z = torch.stack([walk.hidden.amax(1) for walk in walks]).mean(0)
    torch.testing.assert_close(model.representation(maps), z, rtol=1e-4, atol=1e-4)


def test_regions_of_all_views_point_into_the_whole_image():
    """The crop's box is shifted by its origin, one of a mirror image turned over first, view by view."""
    model, maps = small(crop=SHARE, views="ten"), drawn(2, ROWS, COLUMNS)
    expected = []
    for part, (x, y), mirrored in slices(maps, "ten"):
        s_x, s_y, t_x, t_y = model.walk(part).transforms.detach().unbind(-1)
        t_x = -t_x if mirrored else t_x
        left, right = (t_x - s_x.abs() + 1) / 2, (t_x + s_x.abs() + 1) / 2
        top, bottom = (t_y - s_y.abs() + 1) / 2, (t_y + s_y.abs() + 1) / 2
        across = [(x + KEPT[1] * edge) / COLUMNS for edge in (left, right)]
        down = [(y + KEPT[0] * edge) / ROWS for edge in (top, bottom)]
        expected.append(torch.stack([across[0], down[0], across[1], down[1]], -1).clamp(0, 1))
    found = model.head(maps)
    torch.testing.assert_close(found.regions, torch.cat(expected, 1), rtol=1e-4, atol=1e-4)
    assert found.regions.shape == (2, 10 * K, 4) == found.transforms.shape
    assert found.region_labels.shape == (2, 10 * K) and found.steps is None


def test_regions_of_all_views_hold_what_the_views_saw():
    model, maps = small(crop=0.8, views="ten"), drawn(2, 10, 10)
    with torch.no_grad():  # regions that stay clear of the crop's edge, beyond which it has zeros and the image has not
        model.localise.weight.mul_(0.02)
        model.localise.bias.copy_(torch.tensor([0.3, 0.25, 0.2, -0.15]))
    transforms = model.look(maps).transforms
    for number, (x, y) in enumerate(((1, 1), (0, 0), (2, 0), (0, 2), (2, 2))):
        part = maps[:, :, y : y + 8, x : x + 8]
        for view, seen in ((number, part), (number + 5, part.flip(3))):
            own = model.walk(seen).transforms
            assert (own[..., :2].abs() + own[..., 2:].abs()).max() < 0.8
            for k in range(K):
                in_view = spatial_transform(seen, own[:, k], (5, 5))
                in_image = spatial_transform(maps, transforms[view, :, k], (5, 5))
                in_image = in_image.flip(3) if view >= 5 else in_image
                torch.testing.assert_close(in_image, in_view, rtol=0, atol=1e-3)


def test_a_mirrored_region_is_told_in_every_view():
    """s keeps its sign, so that what is counted as mirrored is mirrored with respect to what the model saw."""
    model = small(crop=SHARE, views="ten")
    with torch.no_grad():
        model.localise.weight.zero_()
        model.localise.bias.copy_(torch.tensor([-0.5, 0.25, 0.1, 0.0]))
    scales = model.head(drawn(1, ROWS, COLUMNS)).transforms[0, :, :2]
    torch.testing.assert_close(scales, torch.tensor([-0.5, 0.25]).mul(0.6).expand(10 * K, 2))


def test_views_may_be_changed_afterwards():
    model, maps = small(), drawn()
    whole = model.head(maps).logits
    model.views = "ten"
    assert model.head(maps).regions.shape == (2, 10 * K, 4) and not torch.allclose(model.head(maps).logits, whole)
    model.views = "whole"
    assert torch.equal(model.head(maps).logits, whole)


@pytest.mark.parametrize("views", [1, 2, 10])
def test_averaged_scores_have_the_mean_of_the_probabilities(views):
    scores = 3 * torch.randn(views, 6, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = average_views(scores, "softmax").exp()
    torch.testing.assert_close(found, scores.softmax(2).mean(0), rtol=1e-12, atol=0)
    found = average_views(scores, "sigmoid").sigmoid()
    torch.testing.assert_close(found, scores.sigmoid().mean(0), rtol=1e-12, atol=0)


def test_averages_of_extreme_scores_stay_finite():
    scores = torch.tensor([[[1e4, 0.0, -1e4]], [[-1e4, 0.0, -1e4]]])
    found = average_views(scores, "sigmoid")
    assert found.isfinite().all()
    torch.testing.assert_close(found[0], torch.tensor([0.0, 0.0, -1e4]))
    found = average_views(scores, "softmax")
    assert found.isfinite().all()
    torch.testing.assert_close(found[0, :2].exp(), torch.tensor([0.5, 0.5]))
    assert found[0, 2] < -9e3


@pytest.mark.parametrize("proposals", ["", "windows"])
@pytest.mark.parametrize("views", ["whole", "ten"])
def test_training_looks_at_a_random_crop_whatever_the_views(views, proposals):
    model, maps = small(crop=0.75, views=views, proposals=proposals), drawn(4)
    torch.manual_seed(5)
    found = model.train().head(maps, TARGETS.repeat(2, 1))
    torch.manual_seed(5)
    cropped = random_crop(maps, 0.75)
    model.views = "whole"
    expected = model.eval().head(cropped)
    assert cropped.shape == (4, D, 6, 6) and torch.equal(found.logits, expected.logits)
    assert torch.equal(found.transforms, expected.transforms) and found.transforms.shape == (4, K, 4)
    assert not torch.allclose(model.head(maps).logits, found.logits)


@pytest.mark.parametrize("views", ["centre", "ten"])
def test_with_targets_there_is_one_view_for_the_loss(views):
    model, maps = small(views=views), drawn()
    found, expected = model.head(maps, TARGETS), small().head(maps)
    assert torch.equal(found.logits, expected.logits) and torch.equal(found.transforms, expected.transforms)
    assert not torch.allclose(model.head(maps).logits, found.logits)
    assert set(model.loss(found, TARGETS)) == {"euclidean", "scale", "anchor", "positive"}


def test_representation_is_the_maximum_over_regions():
    model, maps = small(), drawn(3)
    found = model.representation(maps)
    assert found.shape == (3, H)
    torch.testing.assert_close(found, model.walk(maps).hidden.amax(1))


def test_a_crop_that_leaves_nothing_is_refused():
    with pytest.raises(InputError, match=r"crop=0.05 leaves nothing of a map of 8 x 8 cells"):
        small(crop=0.05, views="ten").head(drawn())


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
    step(model, 5 + torch.randn(2, 3, 8, 8))
    changed = {key for key, value in model.state_dict().items() if not torch.equal(before[key], value)}
    assert {"classify.weight", "localise.weight", "memory.from_state.weight"} <= changed
    assert ("trunk.norm.weight" in changed) is fine_tune and ("trunk.norm.running_mean" in changed) is fine_tune
    assert any(key.startswith("trunk.") for key in changed) is fine_tune
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


def test_forward_is_the_head_on_the_maps():
    model, images = small(), torch.rand(2, 3, 8, 8)
    maps = model.features(images)
    assert torch.equal(maps, model.trunk(images)) and not maps.requires_grad and model.feature_kind == "maps"
    assert torch.equal(model(images).logits, model.head(maps).logits)


# Proposals

BOXES = {"a": [[0.0, 0.0, 0.5, 0.25], [0.25, 0.5, 1.0, 1.0], [0.5, 0.0, 0.75, 1.0]], "b": [[0.5, 0.25, 1.0, 0.75]]}


@pytest.fixture
def boxes(tmp_path):
    """A box file: three boxes, best first, for image a, and one for b."""
    lines = [
        f"{name},{','.join(map(str, box))},{-rank}" for name, rows in BOXES.items() for rank, box in enumerate(rows)
    ]
    path = tmp_path / "boxes.csv"
    path.write_text("\n".join(["id,x0,y0,x1,y1,score", *lines]), encoding="utf-8")
    return str(path)


def transform_of(box):
    x0, y0, x1, y1 = box
    return x1 - x0, y1 - y0, x0 + x1 - 1, y0 + y1 - 1


def test_windows_take_the_regions_place():
    model, maps = small(proposals="windows"), drawn()
    walk = model.walk(maps)
    for image in range(2):
        given = [transform_of(box) for box in Windows().propose(maps, K)[image].tolist()]
        scores, hidden, _ = numpy_walk(model, maps[image].double().numpy(), given=given)
        np.testing.assert_allclose(walk.scores[image].detach().numpy(), scores, rtol=0, atol=1e-4)
        np.testing.assert_allclose(walk.hidden[image].detach().numpy(), hidden, rtol=0, atol=1e-4)
        np.testing.assert_allclose(walk.transforms[image].numpy(), given, rtol=0, atol=1e-6)


def test_features_of_a_box_file_are_the_whole_image_s_and_its_boxes(boxes):
    model = small(proposals=boxes)
    images = torch.rand(2, 3, 8, 6, generator=torch.Generator().manual_seed(0))
    maps, given = model.trunk(images).double().numpy(), model.boxes_of(["a", "b"])
    found = model.features(images, given)
    assert found.shape == (2, K + 1, D, P, P) and not found.requires_grad
    whole = [0.0, 0.0, 1.0, 1.0]
    for image, rows in enumerate(([whole, *BOXES["a"]], [whole, *BOXES["b"], whole, whole])):
        for part, box in zip(found[image], rows, strict=True):
            expected = numpy_pooled(bilinear(maps[image], transform_of(box), (S, S)))
            np.testing.assert_allclose(part.numpy(), expected, rtol=0, atol=1e-5)


def test_a_walk_through_a_box_file_s_features_equals_the_paper_s_equations(boxes, double):
    model = small(proposals=boxes).double()
    features = torch.randn(2, K + 1, D, P, P, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    walk = model.walk(features)
    assert walk.transforms is None
    for image in range(2):
        scores, hidden, _ = numpy_walk(model, None, sampled=features[image].numpy())
        np.testing.assert_allclose(walk.scores[image].detach().numpy(), scores, rtol=1e-9, atol=1e-11)
        np.testing.assert_allclose(walk.hidden[image].detach().numpy(), hidden, rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(model.representation(features), walk.hidden.amax(1))


def test_features_of_a_box_file_are_neither_cropped_nor_seen_in_views(boxes):
    features = torch.randn(2, K + 1, D, P, P, generator=torch.Generator().manual_seed(0))
    expected = small(proposals=boxes).head(features)
    assert torch.equal(small(proposals=boxes, views="ten").head(features).logits, expected.logits)
    assert torch.equal(small(proposals=boxes, crop=0.5).train().head(features, TARGETS).logits, expected.logits)
    assert expected.steps.shape == (2, K, C) and expected.regions is expected.transforms is None


def test_given_regions_have_no_constraints_and_nothing_to_locate(boxes):
    features = torch.randn(2, K + 1, D, P, P, generator=torch.Generator().manual_seed(0))
    for proposals, seen in (("windows", drawn()), (boxes, features)):
        model = small(proposals=proposals).train()
        terms = model.loss(model.head(seen), TARGETS)
        assert set(terms) == {"euclidean"}
        terms["euclidean"].backward()
        learnt = model.param_groups(Recipe())[0]["params"]
        assert all(value.grad is not None for value in learnt)
        assert not {id(value) for value in model.localise.parameters()} & {id(value) for value in learnt}


def test_images_without_ids_have_no_boxes(boxes):
    model = small(proposals=boxes)
    for look in (model, model.features):
        with pytest.raises(InputError, match="box file"):
            look(torch.rand(1, 3, 8, 8))
    assert small().boxes_of(["a"]) is None and small(proposals="windows").boxes_of(["a"]) is None


def test_an_image_that_a_box_file_lacks_is_named(boxes):
    with pytest.raises(InputError, match=r"boxes\.csv has no box for image c"):
        small(proposals=boxes).boxes_of(["a", "c"])


def test_cached_features_are_named_by_all_that_they_depend_on(boxes, tmp_path):
    other = tmp_path / "other.csv"
    other.write_text("id,x0,y0,x1,y1,score\na,0,0,1,1,1", encoding="utf-8")
    options = ({}, {"proposals": boxes}, {"proposals": str(other)}, {"proposals": boxes, "K": 2},
               {"proposals": boxes, "sampled": 8}, {"proposals": boxes, "pooled": 4})  # fmt: skip
    assert len({small(**one).feature_kind for one in options}) == len(options)
    same = ({"proposals": boxes, "hidden": 3, "alpha": 0.3}, {"proposals": boxes})
    assert len({small(**one).feature_kind for one in same}) == 1


# Options


@pytest.mark.parametrize(
    ("option", "value"),
    [("K", 0), ("hidden", 0), ("sampled", 0), ("pooled", 0), ("pooled", 3), ("pooled", 8), ("crop", 0.0),
     ("crop", 1.01), ("crop", -0.5), ("gamma", -0.1), ("lambda_anchor", -1.0), ("lambda_positive", math.inf),
     ("alpha", math.nan), ("beta", -0.2)],
)  # fmt: skip
def test_impossible_options_are_refused_by_name(option, value):
    with pytest.raises(InputError, match=rf"rdar: {option}={value}: choose"):
        small(**{option: value})


@pytest.mark.parametrize(
    ("option", "value", "meant"),
    [
        ("loss", "euclidian", "euclidean"),
        ("views", "tenn", "ten"),
        ("views", "center", "centre"),
        ("start", "midle", "middle"),
    ],
)
def test_misspelt_choices_are_refused_with_the_nearest_one(untyped, option, value, meant):
    with pytest.raises(InputError, match=f"{option}='{value}': choose one of .*; did you mean '{meant}'"):
        small(**{option: value})


def test_an_absent_box_file_is_refused_by_name():
    with pytest.raises(InputError, match=r"proposals=absent\.csv: cannot read this file"):
        small(proposals="absent.csv")


@pytest.mark.parametrize("proposals", ["windows", "boxes.csv"])
def test_proposals_need_a_frozen_trunk(proposals):
    with pytest.raises(InputError, match="fine_tune=True: proposals need a frozen trunk"):
        small(proposals=proposals, fine_tune=True)
