"""What moves with the words of a path: on maps made for it, by hand and by SciPy."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from mlic_core import steering

LEFT, RIGHT = [0.0, 0.0, 0.5, 1.0], [0.5, 0.0, 1.0, 1.0]
ON_LEFT, ON_RIGHT, FLAT = [[1.0, 0.0]], [[0.0, 1.0]], [[1.0, 1.0]]
END = 10


def energies(maps, tokens, objects):
    image, label, boxes = zip(*objects, strict=True)
    values = steering.energy_by_step(
        np.array(maps), np.array(tokens), END, np.array(image), np.array(label), np.array(boxes)
    )
    return {name: interval.value for name, interval in values.items()}


def test_attention_that_goes_where_the_word_is_has_all_energy_there_and_none_at_other_steps():
    found = energies([[ON_LEFT, ON_RIGHT, FLAT]], [[3, 7, END]], [(0, 3, LEFT), (0, 7, RIGHT)])
    assert found == {"own step": 1, "other steps": 0, "difference": 1}


def test_attention_that_stays_has_no_difference():
    found = energies([[ON_LEFT, ON_LEFT, FLAT]], [[3, 7, END]], [(0, 3, LEFT), (0, 7, RIGHT)])
    assert found == {"own step": 0.5, "other steps": 0.5, "difference": 0}


def test_the_other_steps_are_the_mean_of_those_that_write_a_label_before_and_after():
    maps = [[FLAT, ON_LEFT, ON_RIGHT, ON_RIGHT, ON_RIGHT]]
    found = energies(maps, [[2, 3, 5, END, -1]], [(0, 3, LEFT)])
    assert found == {"own step": 1, "other steps": (0.5 + 0) / 2, "difference": 0.75}


def test_a_word_that_the_image_lacks_and_an_object_that_is_not_written_count_nowhere():
    found = energies([[ON_LEFT, ON_RIGHT]] * 2, [[3, 7], [8, END]], [(0, 3, LEFT), (1, 3, RIGHT), (1, 4, LEFT)])
    assert found == {"own step": 1, "other steps": 0, "difference": 1}


def test_the_difference_is_over_labels_that_have_both():
    maps, tokens = [[ON_LEFT, ON_RIGHT], [ON_LEFT, FLAT]], [[3, 7], [3, END]]
    found = energies(maps, tokens, [(0, 3, LEFT), (1, 3, RIGHT)])
    assert found == {"own step": 0.5, "other steps": 0, "difference": 1}


def test_without_a_written_object_there_is_no_number():
    assert np.isnan(list(energies([[ON_LEFT]], [[3]], [(0, 4, LEFT)]).values())).all()


def test_rank_agreement_is_spearmans_rho_of_the_cells():
    first, second = np.random.default_rng(0).integers(4, size=(2, 6, 3, 5)).astype(float)  # many ties
    second[1], second[2] = first[1] ** 3, -first[2]
    found = steering.rank_agreement(first, second)
    for a, b, value in zip(first, second, found, strict=True):
        assert value == pytest.approx(spearmanr(a.ravel(), b.ravel()).statistic)
    assert found[1:3] == pytest.approx([1, -1])
    assert np.isnan(steering.rank_agreement(np.ones((1, 2, 2)), first[:1, :2, :2])).all()
    assert np.isnan(steering.rank_agreement(first[:1, :2, :2], np.ones((1, 2, 2)))).all()


def maps_and_tokens():
    return np.random.default_rng(1).random((3, 4, 3, 3)), np.array([[1, 2, 3, END], [4, END, -1, -1], [0, 9, END, -1]])


def rho(a, b):
    return spearmanr(a.ravel(), b.ravel()).statistic


def test_steps_agree_by_the_mean_over_neighbours_that_both_write_a_label():
    maps, tokens = maps_and_tokens()
    expected = [rho(maps[i, t], maps[i, t + 1]) for i, t in ((0, 0), (0, 1), (2, 0))]
    found = steering.agreement_of_steps(maps, tokens, END)
    assert found.value == pytest.approx(np.mean(expected)) and found.low < found.value < found.high


def test_two_kinds_of_maps_agree_by_the_mean_over_steps_that_write_a_label():
    maps, tokens = maps_and_tokens()
    others = maps[::-1].copy()
    expected = [rho(maps[i, t], others[i, t]) for i, t in ((0, 0), (0, 1), (0, 2), (1, 0), (2, 0), (2, 1))]
    assert steering.agreement(maps, others, tokens, END).value == pytest.approx(np.mean(expected))


def test_paths_without_labels_agree_in_nothing():
    maps = maps_and_tokens()[0]
    nothing = np.full((3, 4), -1)
    assert np.isnan(steering.agreement(maps, maps, nothing, END).value)
    assert np.isnan(steering.agreement_of_steps(maps, nothing, END).value)
