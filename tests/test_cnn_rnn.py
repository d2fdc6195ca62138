"""CNN-RNN beside a computation in NumPy, its orders by hand, and its frozen trunk."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from mlic_core.errors import InputError
from mlic_core.models import build_model, build_trunk
from mlic_core.models.cnn_rnn import CELLS, LSTMCell
from mlic_core.models.orders import easiest_first, frequency_rank, ranked_sequences
from mlic_core.training import Recipe

C, E, H, D = 4, 3, 5, 6  # classes, embedding, hidden, channels
TARGETS = [[1, 0, 1, 0], [0, 0, 0, 0], [0, 1, 1, 1], [0, 1, -1, 0]]
SEQUENCES = [[0, 2, 4], [4], [1, 2, 3, 4], [1, 4]]  # END is 4


class Pixels(nn.Module):
    """A trunk whose maps are the images' first D/3 rows."""

    out_channels, stride, mean, std = D, 1, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.norm = nn.BatchNorm2d(D)

    def forward(self, images):
        return self.norm(torch.cat([images, images.flip(3)], 1) * self.scale)


def small(cell="paper", **options):
    torch.manual_seed(0)
    model = build_model("cnn_rnn", C, Pixels(), cell=cell, embedding=E, hidden=H, **{"dropout": 0.0, **options})
    return model.double()


def features(batch=4, seed=1):
    return torch.randn(batch, D, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def double(monkeypatch):
    """The head computes in fp32; for comparisons to the last digit it is left in double precision here."""
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)


def targets(rows=TARGETS):
    return torch.tensor(rows, dtype=torch.int8)


def weights(model):
    named = {name: value.detach().numpy().copy() for name, value in model.named_parameters() if value.requires_grad}
    keys = {"labels": "w", "cell.from_label.weight": "uw", "cell.from_state.weight": "ur",
            "project_output.weight": "uo", "project_image.weight": "ui"}
    return {keys[name]: value for name, value in named.items()}


def sigmoid(value):
    return 1 / (1 + np.exp(-value))


def numpy_path(p, image, sequence, ignored):
    """log P of one image's sequence (Eq. 1 to 6), and its gradient by back-propagation through time."""
    r, log_prob, tape = np.zeros(H), 0.0, []
    last = None
    for token in sequence:
        w = np.zeros(E) if last is None else p["w"][last]
        before = r
        i, f, o = (sigmoid(p["ur"][k * H : k * H + H] @ r + p["uw"][k * H : k * H + H] @ w) for k in range(3))
        x = p["ur"][3 * H :] @ r + p["uw"][3 * H :] @ w
        r = f * before + i * np.maximum(x, 0)
        out = o * r
        xt = np.maximum(p["uo"] @ out + p["ui"] @ image, 0)
        s = p["w"] @ xt
        s[ignored] = -np.inf
        probability = np.exp(s - s.max()) / np.exp(s - s.max()).sum()
        log_prob += math.log(probability[token])
        tape.append((token, last, w, before, i, f, o, x, r, out, xt, probability))
        last = token
    g, dr = {key: np.zeros_like(value) for key, value in p.items()}, np.zeros(H)
    for token, last, w, before, i, f, o, x, r, out, xt, probability in reversed(tape):
        ds = -probability
        ds[token] += 1
        g["w"] += np.outer(ds, xt)
        dxt = (p["w"].T @ ds) * (xt > 0)
        g["uo"] += np.outer(dxt, out)
        g["ui"] += np.outer(dxt, image)
        dout = p["uo"].T @ dxt
        dr = dr + dout * o
        gates = np.concatenate([dr * np.maximum(x, 0) * i * (1 - i), dr * before * f * (1 - f),
                                dout * r * o * (1 - o), dr * i * (x > 0)])
        g["ur"] += np.outer(gates, before)
        g["uw"] += np.outer(gates, w)
        if last is not None:
            g["w"][last] += p["uw"].T @ gates
        dr = dr * f + p["ur"].T @ gates
    return log_prob, g


def test_one_step_of_training_equals_a_computation_in_numpy(double):
    model, rate = small(length=3).train(), 0.01
    p, images = weights(model), features()
    prediction = model.head(images, targets())
    log_probs, gradient = [], {key: np.zeros_like(value) for key, value in p.items()}
    for row, sequence in enumerate(SEQUENCES):
        ignored = [c for c in range(C) if TARGETS[row][c] == -1]
        log_prob, one = numpy_path(p, images[row].numpy(), sequence, ignored)
        log_probs.append(log_prob)
        for key, value in one.items():
            gradient[key] -= value / sum(map(len, SEQUENCES))
    assert prediction.path_log_probs[:, 0].tolist() == pytest.approx(log_probs, rel=1e-12)
    loss = model.loss(prediction, targets())["path"]
    assert loss.item() == pytest.approx(-sum(log_probs) / 10, rel=1e-12)

    recipe = Recipe(**{**model.recipe, "head_lr": rate, "weight_decay": 0.1})
    optimizer = recipe.build_optimizer(model.param_groups(recipe))
    loss.backward()
    optimizer.step()
    after = weights(model)
    for key, value in p.items():  # RMSprop's first step: the running square starts at 0, alpha is .99
        g = gradient[key] + 0.1 * value
        np.testing.assert_allclose(after[key], value - rate * g / (np.sqrt(0.01 * g * g) + 1e-8), rtol=1e-9, atol=1e-9)


def test_the_label_embedding_is_read_and_scored_with(double):
    """Eq. 2 and 5 share it: moving one label's row moves its score, and what follows it."""
    model, image = small(), features(1)
    path = torch.tensor([[1, 2, 4]])
    before = model.follow(image, path)
    with torch.no_grad():
        model.labels[1] += 0.5
    after = model.follow(image, path)
    assert not torch.allclose(before[0, 0, 1], after[0, 0, 1])
    torch.testing.assert_close(before[0, 0, [0, 2, 3, 4]], after[0, 0, [0, 2, 3, 4]])  # START has read nothing yet
    assert not torch.allclose(before[0, 1, [0, 2, 3, 4]], after[0, 1, [0, 2, 3, 4]])
    assert sum(value.shape == (C + 1, E) for value in model.parameters()) == 1


@pytest.mark.parametrize("cell", CELLS)
def test_the_recurrent_state_does_not_depend_on_the_image(cell, double):
    model, path = small(cell), torch.tensor([[0, 3, 1, 4]]).expand(2, -1)
    states = []
    model.cell.register_forward_hook(lambda module, inputs, result: states.append(result))
    near, far = model.follow(features(2), path), model.follow(1000 * features(2, seed=7), path)
    assert not torch.allclose(near, far)
    half = len(states) // 2
    for (one, one_state), (other, other_state) in zip(states[:half], states[half:], strict=True):
        for a, b in zip((one, *one_state), (other, *other_state), strict=True):
            assert torch.equal(a, b) and (len(a) == 1 or torch.equal(a[0], a[1]))


@pytest.mark.parametrize("cell", CELLS)
def test_paths_that_share_a_state_score_as_if_each_had_its_own(cell, double, monkeypatch):
    """Where values may not be looked at, on a GPU, nothing is shared and no step is left out: the same in the end."""
    known = targets([[1, 1, 0, 0], [1, 0, 1, 1], [1, 1, 1, 0], [0, 0, 0, 0], [1, 1, 0, -1]])
    model, images = small(cell).train(), features(5)
    results = []
    for may_look in (True, False):
        for module in ("cnn_rnn", "beam"):
            monkeypatch.setattr(f"mlic_core.models.{module}.can_look", lambda values, may=may_look: may)
        model.zero_grad()
        prediction = model.head(images, known)
        model.loss(prediction, known)["path"].backward()
        gradients = [value.grad.clone() for value in model.parameters() if value.grad is not None]
        results.append([*prediction[:1], *prediction[-2:], *gradients, model.head(images).path_log_probs])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


def test_the_lstm_is_torch_s():
    torch.manual_seed(0)
    ours, labels = LSTMCell(E, H), torch.randn(7, E)
    state = (torch.randn(7, H), torch.randn(7, H))
    output, (h, c) = ours(ours.project(labels), state)
    expected = nn.LSTMCell.forward(ours, labels, state)
    torch.testing.assert_close((h, c), expected)
    assert output is h


def test_the_linear_cell_knows_the_last_label_only(double):
    model, image = small("linear"), features(1)
    one, other = (model.follow(image, torch.tensor([path])) for path in ([0, 1, 2, 4], [3, 0, 2, 4]))
    torch.testing.assert_close(one[:, 3], other[:, 3])
    assert not torch.allclose(one[:, 2], other[:, 2])


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("beam", [1, 4])
def test_a_found_path_has_the_probability_that_following_it_gives(cell, beam, double):
    """The search shares states among images; followed label by label, with emitted ones masked, P is the same."""
    model = small(cell, beam=beam).eval()
    with torch.no_grad():
        model.labels *= 4
    images = features(50)
    found = model.head(images)
    for image in range(50):
        for labels, expected in zip(found.paths[image].tolist(), found.path_log_probs[image].tolist(), strict=True):
            labels = [label for label in labels if label >= 0]
            if expected == -math.inf:
                continue
            scores = model.follow(images[image : image + 1], torch.tensor([[*labels, C]]))[0]
            log_prob, peak = 0.0, torch.full((C,), -torch.inf, dtype=torch.float64)
            for step, token in enumerate([*labels, C]):
                if step == C:
                    break  # nothing but END is left
                log_p = scores[step].index_fill(0, torch.tensor(labels[:step], dtype=torch.int64), -torch.inf)
                log_p = log_p.log_softmax(0)
                log_prob, peak = log_prob + log_p[token].item(), torch.maximum(peak, log_p[:C])
            assert log_prob == pytest.approx(expected, abs=1e-9)
            if labels == [label for label in found.paths[image, 0].tolist() if label >= 0]:
                torch.testing.assert_close(found.logits[image], peak)
    assert found.steps.shape == (50, 2, C) and torch.equal(found.steps[:, 1], found.logits)


def test_end_ends():
    """With END far above every label no path has one; barred up to two labels, each has two."""
    model = small().eval()
    with torch.no_grad():
        model.labels.fill_(0.1)
        model.labels[C] = 100
        model.project_image.weight.fill_(1)
    images = features(3).abs().float()
    model.float()
    found = model.head(images)
    assert (found.paths[:, 0] == -1).all() and found.path_log_probs[:, 0].abs().max() < 1e-3
    model.min_length = 2
    assert ((model.head(images).paths[:, 0] >= 0).sum(1) == 2).all()


def test_the_beam_may_be_changed_afterwards():
    model = small(beam=3).float().eval()
    images = features(4).float()
    assert model.head(images).paths.shape == (4, 3, C)
    model.beam = 1
    assert model.head(images).paths.shape == (4, 1, C)


def test_tokens_of_training_are_the_labels_and_one_end():
    model = small(length=3).float()
    paths = model.head(features().float(), targets()).paths
    expected = [[*sequence, *[-1] * (4 - len(sequence))] for sequence in SEQUENCES]
    assert paths[:, 0].tolist() == expected


@pytest.mark.parametrize("order", ["frequency", "easiest-first"])
def test_an_ignored_class_counts_nowhere(order, double):
    """Neither its score nor its weights have any effect on an image that ignores it."""
    model, image = small(order=order), features(1)
    rows = targets([[0, 1, -1, 0]])
    before = model.head(image, rows).path_log_probs
    with torch.no_grad():
        model.labels[2] += 3
    torch.testing.assert_close(model.head(image, rows).path_log_probs, before)
    loss = model.loss(model.head(image, rows), rows)["path"]
    loss.backward()
    assert model.labels.grad[2].abs().max() == 0 and model.labels.grad[1].abs().max() > 0


def test_images_without_labels_learn_end_and_without_known_labels_nothing(double):
    model = small()
    rows = targets([[0] * C, [-1] * C])
    prediction = model.head(features(2), rows)
    assert prediction.paths[:, 0, 0].tolist() == [C, C]
    assert prediction.path_log_probs[0, 0] < 0 and prediction.path_log_probs[1, 0] == 0
    model.loss(prediction, rows)["path"].backward()
    assert all(value.grad.isfinite().all() for value in model.parameters() if value.requires_grad)


def test_dropout_acts_on_both_projections_and_only_in_training():
    model, rows = small(dropout=0.5).float(), targets()
    images = features().float()
    model.train()
    assert not torch.equal(model.head(images, rows).path_log_probs, model.head(images, rows).path_log_probs)
    model.eval()
    assert torch.equal(model.head(images, rows).path_log_probs, model.head(images, rows).path_log_probs)


def test_frequent_classes_come_first_and_ties_go_by_the_index():
    counted = targets([[1, 0, 1, 0], [0, -1, 1, 1], [1, 0, 1, 1], [0, 0, -1, -1]])
    assert frequency_rank(counted).tolist() == [1, 3, 0, 2]  # 2, 0, 3, 2 images
    assert ranked_sequences(targets([[1, 0, 1, 1]]), frequency_rank(counted), 3).tolist() == [[2, 0, 3, 4]]
    assert ranked_sequences(targets([[1, 0, 1, 1]]), frequency_rank(counted), 2).tolist() == [[2, 0, 4]]


def test_orders_of_the_classes():
    counted = targets([[1, 0, 1, 0], [0, -1, 1, 1], [1, 0, 1, 1]])

    def rank(order, seed=0):
        model = small(order=order, order_seed=seed)
        model.observe(counted)
        return model.rank.tolist()

    assert rank("frequency") == [1, 3, 0, 2]
    assert rank("rare-first") == [2, 0, 3, 1]
    drawn = [tuple(rank("random-fixed", seed)) for seed in range(20)]
    assert all(sorted(one) == [0, 1, 2, 3] for one in drawn) and len(set(drawn)) > 5
    assert rank("random-fixed", 3) == rank("random-fixed", 3)
    assert "rank" in small().state_dict()


def test_random_batch_draws_one_order_for_each_mini_batch():
    model = small(order="random-batch").float()
    rows, images = targets([[1, 1, 1, 1]] * 6), features(6).float()
    orders = []
    for _ in range(20):
        paths = model.head(images, rows).paths[:, 0]
        assert (paths == paths[0]).all()
        orders.append(tuple(paths[0].tolist()))
    assert len(set(orders)) > 5 and all(sorted(order) == [0, 1, 2, 3, 4] for order in orders)
    torch.manual_seed(5)
    first = model.head(images, rows).paths
    torch.manual_seed(5)
    assert torch.equal(model.head(images, rows).paths, first)


def test_the_easiest_label_comes_first_on_a_fixed_scorer():
    """By hand: after START 2 beats 0, 1; after 2 the scores favour 1 over 0; the best of all, 3, is absent."""
    table = {5: [1.0, 0.5, 2.0, 9.0, 9.0], 2: [1.0, 3.0, 8.0, 9.0, 9.0], 1: [7.0, 8.0, 8.0, 9.0, 9.0],
             0: [0.0, 1.0, 1.0, 0.0, 0.0]}

    def step(state, last):
        return torch.tensor([table[token] for token in last.tolist()]), state

    rows = targets([[1, 1, 1, 0], [1, 1, 0, -1], [0, 0, 0, 0], [0, 0, 1, 0]])
    assert easiest_first(step, (), rows, 3).tolist() == [
        [2, 1, 0, 4],
        [0, 1, 4, -1],
        [4, -1, -1, -1],
        [2, 4, -1, -1],
    ]


def test_easiest_first_takes_the_present_model_s_own_ranking(double):
    model, images = small(order="easiest-first").train(), features()
    rows = targets([[1, 1, 1, 1]] * 4)
    paths = model.head(images, rows).paths[:, 0]
    for row, path in enumerate(paths.tolist()):
        scores = model.follow(images[row : row + 1], torch.tensor([path]))[0]
        for step in range(C):
            left = path[step:C]
            assert path[step] == max(left, key=lambda label: scores[step, label].item())


def test_too_many_labels_are_refused_with_their_number():
    with pytest.raises(InputError, match=r"length=2: an image has 3 labels; set method.length=3 or more"):
        small(length=2).observe(targets())
    small(length=3).observe(targets())
    assert small(length=10).length == C  # no path is longer than the classes are many


def test_the_loss_refuses_a_prediction_without_targets():
    model = small().float().eval()
    with pytest.raises(InputError, match="made with the targets"):
        model.loss(model.head(features().float()), targets())


@pytest.mark.parametrize(
    ("option", "value"), [("dropout", 1.0), ("length", 0), ("hidden", 0), ("embedding", 0), ("cell", "gru")]
)
def test_impossible_options_are_refused_by_name(untyped, option, value):
    with pytest.raises(InputError, match=option):
        build_model("cnn_rnn", C, Pixels(), **{option: value})


@pytest.mark.parametrize("name", ["cnn_rnn", "linear"])
def test_a_frozen_trunk_is_left_alone(name):
    torch.manual_seed(0)
    model = build_model(name, C, Pixels()).train()
    assert model.training and not model.trunk.training and not model.trunk.norm.training
    recipe = Recipe(**model.recipe)
    optimizer = recipe.build_optimizer(model.param_groups(recipe))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    images = 5 + torch.randn(4, 3, 8, 8)
    sum(model.loss(model(images, targets()), targets()).values()).backward()
    optimizer.step()
    assert all(value.grad is None for value in model.trunk.parameters())
    after = model.state_dict()
    changed = {key for key in after if not torch.equal(before[key], after[key])}
    assert changed and not any(key.startswith("trunk.") for key in changed)


@pytest.mark.parametrize("name", ["cnn_rnn", "linear"])
@pytest.mark.parametrize("pooling", ["gap", "gmp", "gwp"])
def test_forward_is_the_head_on_the_features(name, pooling):
    model = build_model(name, 5, build_trunk("pictonet-s"), pooling=pooling).eval()
    images = torch.rand(2, 3, 64, 64)
    found = model.features(images)
    assert found.shape == (2, 96) and found.dtype == torch.float32 and not found.requires_grad
    maps = model.trunk(images)
    parts = {"gap": maps.mean((2, 3)), "gmp": maps.amax((2, 3)), "gwp": (maps.mean((2, 3)) + maps.amax((2, 3))) / 2}
    torch.testing.assert_close(found, parts[pooling])
    assert model.feature_kind == pooling
    assert torch.equal(model(images).logits, model.head(found).logits)


@pytest.mark.parametrize("cell", CELLS)
def test_the_head_learns_which_labels_an_image_has_and_when_to_end(cell):
    """Features that say which labels are there; after training, the best path names them and no others."""
    generator = torch.Generator().manual_seed(0)
    known = (torch.rand(200, C, generator=generator) < torch.tensor([0.7, 0.5, 0.3, 0.2])).to(torch.int8)
    images = torch.cat([known.float(), 0.1 * torch.randn(200, D - C, generator=generator)], 1)
    torch.manual_seed(0)
    model = build_model("cnn_rnn", C, Pixels(), cell=cell, embedding=16, hidden=32, dropout=0.0)
    model.observe(known)
    optimizer = torch.optim.RMSprop(model.param_groups(Recipe())[0]["params"], 0.005)
    model.train()
    for _ in range(150):
        optimizer.zero_grad()
        model.loss(model.head(images, known), known)["path"].backward()
        optimizer.step()
    found = model.eval().head(images)
    named = torch.zeros(200, C + 1).scatter(1, found.paths[:, 0] % (C + 1), 1)[:, :C]  # -1 goes to the last column
    right = (named == known).all(1).float().mean()
    assert right > (0.95 if cell != "linear" else 0.6)
