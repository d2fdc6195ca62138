"""Where CNN-RNN looks, against finite differences, its own search and a linear model; and regions that look nowhere."""

import numpy as np
import pytest
import torch
from torch import nn

from mlic_core import looks
from mlic_core.data.base import MultiLabelDataset
from mlic_core.images import prepare_images
from mlic_core.models import build_model
from mlic_core.models.localization import localize
from mlic_core.models.pooling import global_pool
from mlic_core.models.proposals import windows

LABELS, CHANNELS = 5, 6
PATHS = torch.tensor([[3, 0, -1, -1], [1, -1, -1, -1], [-1, -1, -1, -1], [4, 2, 0, 1]])


class Cells(nn.Module):
    """A trunk: colours averaged over cells of 4 x 4 pixels, and what they lack."""

    out_channels, stride, mean, std = CHANNELS, 4, (0.5, 0.4, 0.3), (0.2, 0.2, 0.25)

    def forward(self, images):
        cells = nn.functional.avg_pool2d(images, 4)
        return torch.cat([cells, 1 - cells], 1)


@pytest.fixture
def model():
    torch.manual_seed(0)
    options = dict(embedding=8, hidden=7, length=4, beam=3)
    return build_model("cnn_rnn", LABELS, Cells(), **options).eval().requires_grad_(False)


@pytest.fixture
def maps():
    return torch.randn(4, CHANNELS, 3, 2, generator=torch.Generator().manual_seed(1))


def test_tokens_are_the_labels_and_an_end():
    tokens = looks.tokens_of(build_model("cnn_rnn", LABELS, Cells()), PATHS)
    assert tokens.tolist() == [[3, 0, 5, -1, -1], [1, 5, -1, -1, -1], [5, -1, -1, -1, -1], [4, 2, 0, 1, 5]]


def test_probabilities_along_the_best_path_are_those_of_the_models_own_search(model, maps):
    model.labels[-1] = 0  # so that paths do not end at once
    features = global_pool(4 * maps, model.pooling)
    found = model.head(features)
    tokens = looks.tokens_of(model, found.paths[:, 0])
    log_p = looks.step_log_p(model, features, tokens)
    torch.testing.assert_close(log_p[..., :LABELS].amax(1), found.logits)  # the greatest on the way
    taken = log_p.gather(2, tokens.clamp(min=0)[..., None])[..., 0]
    torch.testing.assert_close(torch.where(tokens >= 0, taken, 0).sum(1), found.path_log_probs[:, 0])
    assert len({tuple(path) for path in found.paths[:, 0].tolist()}) > 1


def test_a_label_is_written_once_and_nothing_after_the_end(model, maps):
    p = looks.step_log_p(model, global_pool(maps, model.pooling), looks.tokens_of(model, PATHS)).exp()
    reached = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 0, 0, 0], [1, 0, 0, 0, 0], [1, 1, 1, 1, 1]])
    torch.testing.assert_close(p.sum(2), reached.float())
    assert p[3, 1:, 4].tolist() == [0] * 4 and p[3, 2:, 2].tolist() == [0] * 3 and p[3, 0, 4] > 0


@pytest.mark.parametrize("pooling", ["gap", "gwp"])
def test_evidence_is_how_scores_rise_when_the_feature_moves_towards_a_cells(model, maps, pooling):
    model, maps, step = model.double(), maps.double(), 1e-6
    model.pooling = pooling
    tokens, weights = looks.tokens_of(model, PATHS), torch.randn(2, 4, 5, 6, dtype=torch.float64)
    feature = global_pool(maps, pooling)
    found, signs = looks.evidence(model, maps, tokens, weights), set()
    for row in range(3):
        for column in range(2):
            cell = maps[:, :, row, column]
            up, down = (model.follow(feature + side * step * cell, tokens) for side in (1, -1))
            rise = ((up - down) * (weights - weights.mean(3, keepdim=True))).sum((2, 3)).T / (2 * step)
            torch.testing.assert_close(found[:, :, row, column], rise.clamp(min=0), rtol=1e-6, atol=1e-8)
            signs |= set(rise.sign().flatten().tolist())
    assert signs == {-1.0, 1.0}


def test_what_all_scores_have_in_common_is_no_evidence(model, maps):
    tokens, weights = looks.tokens_of(model, PATHS[:, :0]), torch.rand(3, 4, 1, 6)
    before = looks.evidence(model, maps, tokens, weights)
    model.labels += torch.randn(8)  # of every label and END alike; before the first label none was read
    torch.testing.assert_close(looks.evidence(model, maps, tokens, weights), before)


def test_the_attention_of_a_step_weighs_labels_by_their_probability_and_leaves_out_end(model, maps):
    tokens = looks.tokens_of(model, PATHS)
    p = looks.step_log_p(model, global_pool(maps, model.pooling), tokens).exp()
    found = looks.step_evidence(model, maps, tokens)
    assert found.shape == (4, 5, 3, 2)
    for t in range(5):
        weights = torch.zeros(4, 5, 6)
        weights[:, t, :LABELS] = p[:, t, :LABELS]
        torch.testing.assert_close(found[:, t], looks.evidence(model, maps, tokens, weights[None])[:, 0])
    assert not found[2, 1:].any() and not found[1, 2:].any() and found[3, 4].any()


def test_the_evidence_for_a_label_is_read_at_its_most_probable_step(model, maps):
    model.project_output.weight *= 100  # so that what was written before decides which units of Eq. 4 are open
    tokens, labels = looks.tokens_of(model, PATHS), torch.tensor([2, 0, 1, 1])
    p = looks.step_log_p(model, global_pool(maps, model.pooling), tokens).exp()
    found, steps = looks.label_evidence(model, maps, tokens, labels), []
    for i, label in enumerate(labels.tolist()):
        weights = torch.zeros(4, 5, 6)
        steps.append(max(range(5), key=lambda t, i=i, label=label: p[i, t, label].item()))
        weights[i, steps[-1], label] = 1
        torch.testing.assert_close(found[i], looks.evidence(model, maps, tokens, weights[None])[i, 0])
    assert len(set(steps)) > 1 and found.any((1, 2)).any()


def test_where_the_model_is_linear_its_evidence_is_the_class_map_less_the_mean_of_all(model, maps):
    # With a large output of the recurrent layer the ReLU of Eq. 4 is open: s = labels (o + U I) is linear in I.
    model.project_output.weight.zero_()
    model.project_image.weight.abs_()
    positive = maps.abs()
    tokens, weights = looks.tokens_of(model, PATHS[:, :0]), torch.zeros(4, 1, 6)
    weights[:, 0, 3] = 1
    linear = (model.labels[3] - model.labels.mean(0)) @ model.project_image.weight
    expected = torch.einsum("d,bdhw->bhw", linear, positive).relu()
    torch.testing.assert_close(looks.evidence(model, positive, tokens, weights[None])[:, 0], expected)


def test_evidence_leaves_no_gradient_behind(model, maps):
    with torch.inference_mode(False):
        found = looks.step_evidence(model.requires_grad_(True), maps, looks.tokens_of(model, PATHS))
    assert not found.requires_grad and all(one.grad is None for one in model.parameters())


class Rectified(Cells):
    """The same cells after a convolution and a ReLU, which `relu` is."""

    relu = staticmethod(torch.relu)

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, images):
        return super().forward(self.relu(self.first(images)))


class Guided(torch.autograd.Function):
    """A ReLU with the guided rule written out."""

    @staticmethod
    def forward(context, x):
        context.save_for_backward(x)
        return x.clamp(min=0)

    @staticmethod
    def backward(context, gradient):
        return gradient * (context.saved_tensors[0] > 0) * (gradient > 0)


@pytest.mark.parametrize("rule", ["plain", "guided"])
def test_a_steps_pixels_are_the_gradient_of_its_labels_scores_above_the_mean_weighed_by_their_probability(rule):
    torch.manual_seed(0)
    options = dict(embedding=8, hidden=7, length=4, beam=3)
    model = build_model("cnn_rnn", LABELS, Rectified(), **options).eval().requires_grad_(False)
    images, tokens = torch.randn(4, 3, 12, 8), looks.tokens_of(model, PATHS)
    found = looks.step_pixels(model, images, tokens, rule)
    assert found.shape == (4, 5, 3, 12, 8)
    p = looks.step_log_p(model, model.features(images), tokens).exp()
    model.trunk.relu = Guided.apply if rule == "guided" else torch.relu  # Eq. 4 has a ReLU too: it stays as it is
    scores = model.follow(model.features(images.requires_grad_()), tokens)  # the whole way in one graph
    above = scores - scores.mean(2, keepdim=True)
    for t in range(5):
        asked = (p[:, t, :LABELS] * above[:, t, :LABELS]).sum()
        (expected,) = torch.autograd.grad(asked, images, retain_graph=True)
        torch.testing.assert_close(found[:, t], expected)
    assert not found[2, 1:].any() and not found[1, 2:].any() and found[3, 4].any()


class Colours(MultiLabelDataset):
    """Images of noise."""

    def __init__(self, images):
        targets = np.zeros((images, 2), np.int8)
        super().__init__(name="noise", split="val", labels=("a", "b"), targets=targets, ids=["x"] * images, size=16)

    def read(self, index):
        generator = torch.Generator().manual_seed(index)
        return torch.randint(256, (3, 16, 16), dtype=torch.uint8, generator=generator)


def test_trunk_maps_are_those_of_every_normalised_image_in_order(model):
    dataset = Colours(looks.BATCH + 3)
    images = torch.stack([dataset.read(i) for i in range(len(dataset))])
    torch.testing.assert_close(looks.trunk_maps(model.train(), dataset), Cells()(prepare_images(images, Cells())))
    assert not model.training


@pytest.mark.parametrize("rule", [(), ("plain",)])
def test_saliency_adds_the_sizes_of_the_colours_gradients_of_the_images_asked_for(rule):
    torch.manual_seed(0)
    model = build_model("cnn_rnn", LABELS, Rectified(), embedding=8, hidden=7).eval()
    dataset = Colours(looks.BATCH_WITH_GRAPH + 5)
    index = torch.arange(len(dataset)).flip(0)[:-2]
    tokens = torch.randint(LABELS + 1, (len(dataset), 3), generator=torch.Generator().manual_seed(0))
    found = looks.step_saliency(model, dataset, tokens, index, *rule)
    assert found.shape == (len(index), 3, 16, 16) and not found.requires_grad
    for place in (0, looks.BATCH_WITH_GRAPH + 1):
        i = index[place]
        image = prepare_images(dataset.read(int(i))[None], model.trunk)
        expected = looks.step_pixels(model, image, tokens[i : i + 1], *(rule or ("guided",)))[0].abs().sum(1)
        torch.testing.assert_close(found[place], expected)


def test_edges_are_numpys_differences_of_the_colours():
    dataset = Colours(3)
    found = looks.edges(dataset, torch.tensor([2, 0]))
    for picture, i in zip(found, (2, 0), strict=True):
        down, right = np.gradient(dataset.read(i).numpy() / 255, axis=(1, 2))
        assert picture.numpy() == pytest.approx((abs(down) + abs(right)).sum(0), rel=1e-5)


def test_a_shuffled_head_has_the_same_weights_at_other_places_and_the_trunk_as_it_was():
    torch.manual_seed(0)
    model = build_model("cnn_rnn", LABELS, Rectified(), embedding=8, hidden=7)
    before = {name: values.clone() for name, values in model.named_parameters()}
    shuffled, again, other = (looks.shuffle_head(model, seed) for seed in (0, 0, 1))
    assert all(torch.equal(values, before[name]) for name, values in model.named_parameters())
    for name, values in shuffled.named_parameters():
        assert torch.equal(values, again.get_parameter(name))
        if name.startswith("trunk."):
            assert torch.equal(values, before[name])
        else:
            assert not torch.equal(values, before[name]) and not torch.equal(values, other.get_parameter(name))
            assert torch.equal(values.flatten().sort().values, before[name].flatten().sort().values)


def test_a_maps_box_is_mcars_as_a_share_of_the_image():
    maps = torch.rand(3, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    found = looks.boxes_of(maps, 64)
    assert torch.equal(found, localize(maps, 64, 0.5) / 64) and found.shape == (3, 2, 4)
    assert torch.equal(looks.boxes_of(maps[:, 1], 64, 0.2), localize(maps[:, 1:], 64, 0.2)[:, 0] / 64)
    peak = torch.zeros(1, 5, 5)
    peak[0, 4, 0] = 1  # the lower left corner
    x0, y0, x1, y1 = looks.boxes_of(peak, 100)[0].tolist()
    assert x0 == 0 and y1 == 1 and x1 < 0.2 and y0 > 0.8


def test_blind_regions_are_the_same_in_every_call_and_lie_where_they_should():
    state = torch.get_rng_state()
    found, again = (looks.blind_regions(30, 128, 4) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), state)
    for name, boxes in found.items():
        assert torch.equal(boxes, again[name]) and len(boxes) == 30
        assert boxes.min() >= 0 and boxes.max() <= 1 and (boxes[..., 2:] > boxes[..., :2]).all()
    shapes = {name: boxes.shape[1] for name, boxes in found.items()}
    assert shapes == {"whole image": 1, "centre box": 1, "corner views": 4, "random boxes": 4, "random windows": 4,
                      "all windows": len(windows())}  # fmt: skip
    assert found["whole image"][7, 0].tolist() == [0, 0, 1, 1]
    assert found["centre box"][7, 0].tolist() == [0.25, 0.25, 0.75, 0.75]
    assert found["corner views"][7].tolist() == [
        [0, 0, 0.625, 0.625], [0.375, 0, 1, 0.625], [0, 0.375, 0.625, 1], [0.375, 0.375, 1, 1]
    ]  # fmt: skip


def test_random_regions_differ_between_images_and_seeds_and_random_windows_are_distinct_windows():
    found, other = looks.blind_regions(30, 128, 4), looks.blind_regions(30, 128, 4, seed=1)
    for name in ("random boxes", "random windows"):
        assert not torch.equal(found[name][0], found[name][1]) and not torch.equal(found[name], other[name])
    every = {tuple(box) for box in windows().tolist()}
    for boxes in found["random windows"].tolist():
        assert len({tuple(box) for box in boxes} & every) == 4
    sides = found["random boxes"][..., 2:] - found["random boxes"][..., :2]
    assert sides.min() >= 0.25 - 1 / 128 and sides.max() <= 0.75 + 1 / 128
