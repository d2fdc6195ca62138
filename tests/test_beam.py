"""Beam search beside exhaustive enumeration, a search image by image, and paths by hand."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.cnn_rnn import search_one
from mlic_core.errors import InputError
from mlic_core.models.beam import beam_search


def scorer(num_labels, seed, batch, sharpness=2.0):
    """A step whose scores depend on the image and the whole prefix, and the state before the first label.

    The state is one number for each row, different for every prefix, from which the scores are made.
    """
    generator = torch.Generator().manual_seed(seed)
    frequency = torch.rand(num_labels + 1, dtype=torch.float64, generator=generator) * 40
    start = torch.rand(batch, dtype=torch.float64, generator=generator) * 10

    def step(state, last):
        (code,) = state
        code = (code * 1.7 + torch.sin(last * 2.3 + code)) % 50
        return sharpness * torch.sin(code[:, None] * frequency), (code,)

    return step, (start,)


def log_softmax(scores, allowed):
    total = math.log(sum(math.exp(scores[token]) for token in allowed))
    return {token: scores[token] - total for token in allowed}


def every_path(step, state, num_labels, length, min_length):
    """log P of every path of one image by walking the tree, with the greatest log P of each label on the way."""
    paths = {}

    def walk(labels, log_prob, peak, state, last):
        if len(labels) == length:
            paths[labels] = log_prob, peak
            return
        scores, state = step(state, torch.tensor([last]))
        allowed = [label for label in range(num_labels) if label not in labels]
        allowed += [num_labels] if len(labels) >= min_length else []
        log_p = log_softmax(scores[0].tolist(), allowed)
        peak = [max(peak[label], log_p.get(label, -math.inf)) for label in range(num_labels)]
        for token, value in log_p.items():
            if token == num_labels:
                paths[labels] = log_prob + value, peak
            else:
                walk((*labels, token), log_prob + value, peak, state, token)

    walk((), 0.0, [-math.inf] * num_labels, state, num_labels + 1)
    return paths


def search(step, state, num_labels, **options):
    return beam_search(step, state, len(state[0]), num_labels, device="cpu", **options)


@st.composite
def problems(draw):
    num_labels = draw(st.integers(1, 6))
    length = draw(st.integers(1, num_labels))
    return num_labels, length, draw(st.integers(0, length)), draw(st.integers(0, 10**6)), draw(st.floats(0.1, 6))


def live_paths(num_labels, length):
    return max(math.perm(num_labels, t) for t in range(length + 1))


@settings(max_examples=200, deadline=None)
@given(problems())
def test_a_full_beam_equals_exhaustive_enumeration(problem):
    num_labels, length, min_length, seed, sharpness = problem
    step, state = scorer(num_labels, seed, 1, sharpness)
    paths = every_path(step, state, num_labels, length, min_length)
    assert sum(math.exp(log_prob) for log_prob, _ in paths.values()) == pytest.approx(1)
    assert len(paths) == sum(math.perm(num_labels, t) for t in range(min_length, length + 1))
    best = max(paths, key=lambda labels: paths[labels][0])
    found = search(step, state, num_labels, beam=live_paths(num_labels, length), length=length, min_length=min_length)
    log_prob, peak = paths[best]
    assert found.path_log_probs[0, 0].item() == pytest.approx(log_prob)
    assert found.paths[0, 0].tolist() == [*best, *[-1] * (length - len(best))]
    assert found.peak[0].tolist() == pytest.approx(peak)
    for labels, value in zip(found.paths[0].tolist(), found.path_log_probs[0].tolist(), strict=True):
        if value > -math.inf:  # what ended before the search stopped
            assert paths[tuple(label for label in labels if label >= 0)][0] == pytest.approx(value)


def test_a_full_beam_that_must_use_every_label_ranks_all_paths():
    step, state = scorer(4, 3, 1)
    paths = every_path(step, state, 4, 4, 4)
    found = search(step, state, 4, beam=24, length=4, min_length=4)
    assert found.path_log_probs[0].tolist() == pytest.approx(sorted((p for p, _ in paths.values()), reverse=True))
    assert {tuple(path) for path in found.paths[0].tolist()} == set(itertools.permutations(range(4)))


@pytest.mark.parametrize(("beam", "length", "min_length"), [(1, 10, 0), (4, 10, 0), (4, 10, 3), (3, 2, 2), (8, 5, 0)])
def test_a_batch_of_500_images_equals_a_plain_search_for_each(beam, length, min_length):
    step, state = scorer(12, beam, 500, sharpness=4)
    found = search(step, state, 12, beam=beam, length=length, min_length=min_length)
    lengths = set()
    for image in range(500):
        paths, log_probs, first, peak = search_one(
            step, (state[0][image : image + 1],), 12, beam=beam, length=length, min_length=min_length
        )
        assert found.paths[image].tolist() == paths.tolist()
        close = {"rtol": 0, "atol": 1e-9, "check_dtype": False}
        torch.testing.assert_close(found.path_log_probs[image], log_probs, **close)
        torch.testing.assert_close(found.first[image], first, **close)
        torch.testing.assert_close(found.peak[image], peak, **close)
        lengths.add((paths[0] >= 0).sum().item())
    assert len(lengths) > 1 or min_length == length


def test_without_looking_at_values_the_search_finds_the_same(monkeypatch):
    step, state = scorer(9, 5, 40, sharpness=4)
    options = {"beam": 4, "length": 6}
    looking = search(step, state, 9, **options)
    monkeypatch.setattr("mlic_core.models.beam.can_look", lambda values: False)
    for one, other in zip(looking, search(step, state, 9, **options), strict=True):
        torch.testing.assert_close(one, other)


def fixed(table):
    """A scorer for one image by a table from the labels so far to log-probabilities of a, b, c and END."""

    def step(state, last):
        (prefix,) = state
        prefix = torch.cat([prefix, last[:, None]], 1)
        rows = [table["".join("abc"[label] for label in row[1:])] for row in prefix.tolist()]
        return torch.tensor(rows, dtype=torch.float64).log(), (prefix,)

    return step, (torch.zeros(1, 0, dtype=torch.int64),)


TREE = {
    "": [0.5, 0.4, 0.1, 0.0],
    "a": [0.0, 0.3, 0.3, 0.4],
    "b": [0.0, 0.0, 0.1, 0.9],
    "c": [0.1, 0.1, 0.0, 0.8],
    "ab": [0.0, 0.0, 0.5, 0.5],
    "ac": [0.0, 0.5, 0.0, 0.5],
    "ba": [0.0, 0.0, 0.0, 1.0],
    "bc": [0.5, 0.0, 0.0, 0.5],
}


def test_the_greedy_search_takes_the_best_label_and_a_beam_the_best_path():
    greedy = search(*fixed(TREE), 3, beam=1, length=3)
    assert greedy.paths.tolist() == [[[0, -1, -1]]]
    assert greedy.path_log_probs.exp().flatten().tolist() == pytest.approx([0.5 * 0.4])
    both = search(*fixed(TREE), 3, beam=2, length=3)
    assert both.paths[0].tolist() == [[1, -1, -1], [0, -1, -1]]
    assert both.path_log_probs.exp().flatten().tolist() == pytest.approx([0.4 * 0.9, 0.5 * 0.4])
    assert both.peak.exp().flatten().tolist() == pytest.approx([0.5, 0.4, 0.1])
    assert both.first.exp().flatten().tolist() == pytest.approx([0.5, 0.4, 0.1])


def test_end_is_barred_before_the_least_length_and_the_rest_renormalised():
    found = search(*fixed(TREE), 3, beam=4, length=2, min_length=2)
    # a, b: of b and c, 0.3 each, END's 0.4 being barred; after two labels END is certain.
    expected = {(0, 1): 0.5 / 2, (0, 2): 0.5 / 2, (1, 2): 0.4}
    for labels, log_prob in zip(found.paths[0].tolist(), found.path_log_probs[0].tolist(), strict=True):
        assert math.exp(log_prob) == pytest.approx(expected.get(tuple(labels), 0.1 / 2))
    assert found.paths[0, 0].tolist() == [1, 2]
    assert found.peak[0].exp().tolist() == pytest.approx([0.5, 0.4, 1.0])  # after b nothing but c has a chance


def test_where_fewer_paths_exist_the_rest_is_empty():
    found = search(*scorer(2, 0, 3), 2, beam=7, length=1)
    assert (found.path_log_probs.isfinite().sum(1) <= 3).all()
    assert (found.paths[found.path_log_probs == -math.inf] == -1).all()


def test_no_label_twice_in_any_path():
    found = search(*scorer(8, 1, 200), 8, beam=5, length=8)
    for path in found.paths.flatten(0, 1).tolist():
        labels = [label for label in path if label >= 0]
        assert len(set(labels)) == len(labels) and path[len(labels) :] == [-1] * (8 - len(labels))


@pytest.mark.parametrize(
    ("options", "named"),
    [({"beam": 0, "length": 2}, "beam=0"), ({"beam": 1, "length": 4}, "length=4"),
     ({"beam": 1, "length": 2, "min_length": 3}, "min_length=3")],
)
def test_impossible_searches_are_refused(options, named):
    with pytest.raises(InputError, match=named):
        search(*scorer(3, 0, 1), 3, **options)
