"""Measures of regions, by hand."""

import itertools
import math

import numpy as np
import pytest
import torch

from mlic_core.attention import (
    box_of,
    coverage,
    entropy,
    held,
    iou,
    label_recall,
    mass_inside,
    mean_overlap,
    mirrored,
    oversized,
    pad,
)
from mlic_core.models.spatial import tidy, to_boxes


def boxes(*rows):
    return np.array(rows, dtype=np.float64)


def test_coverage_and_iou_by_hand():
    regions = boxes([0, 0, 2, 2], [0, 0, 4, 4], [0, 0, 1, 1])
    objects = boxes([1, 1, 3, 2], [1, 1, 2, 3], [2, 2, 3, 3])
    assert coverage(regions, objects).tolist() == [0.5, 1.0, 0.0]
    assert iou(regions, objects).tolist() == [1 / 5, 2 / 16, 0.0]


def test_identical_boxes_are_covered_and_agree_fully():
    same = boxes([0.1, 0.2, 0.7, 0.9])
    assert coverage(same, same) == pytest.approx(1) and iou(same, same) == pytest.approx(1)


def test_label_recall_by_hand():
    scores = np.array([[0.9, 0.5, 0.1, 0.3], [0.1, 0.2, 0.3, 0.4]])
    targets = np.array([[1, 0, 1, -1], [0, 0, 1, 1]], dtype=np.int8)
    assert [label_recall(scores, targets, n) for n in (1, 2, 3, 4)] == [2 / 4, 3 / 4, 3 / 4, 1]


def test_label_recall_without_positives_is_undefined():
    assert math.isnan(label_recall(np.zeros((2, 3)), np.zeros((2, 3), np.int8), 1))


def test_padding_is_relative_to_the_box_and_stays_inside():
    padded = pad(boxes([0.4, 0.4, 0.6, 0.8], [0, 0, 0.5, 1]), 0.5)
    np.testing.assert_allclose(padded, [[0.3, 0.2, 0.7, 1], [0, 0, 0.75, 1]])


def transforms(*rows):
    return np.array([rows], dtype=np.float64)  # of one image


def test_a_region_is_mirrored_if_either_scale_is_negative():
    flags = mirrored(
        transforms([0.5, 0.5, -0.9, -0.9], [-0.1, 0.5, 0, 0], [0.5, -0.1, 0, 0], [-1, -1, 0, 0], [0, 0, 0, 0])
    )
    assert flags.tolist() == [[False, True, True, True, False]]


def test_a_region_is_oversized_above_alpha_whatever_its_sign():
    found = transforms([0.5, 0.5, 3, 3], [0.51, 0.1, 0, 0], [0.1, -0.51, 0, 0], [-0.5, 0.2, 0, 0])
    assert oversized(found).tolist() == [[False, True, True, False]]
    assert oversized(found, 0.2).tolist() == [[True, True, True, True]]
    assert not oversized(found, 0.51).any()


def test_box_of_is_what_the_spatial_transformer_makes_of_a_region():
    drawn = np.random.default_rng(0).normal(0, 0.8, (40, 5, 4)).astype(np.float32)  # mirrored and outside ones too
    np.testing.assert_array_equal(box_of(drawn), tidy(to_boxes(torch.from_numpy(drawn))).numpy())
    assert box_of(drawn).dtype == np.float32


def test_box_of_by_hand():
    found = transforms([1, 1, 0, 0], [-0.5, 0.25, 0.5, 0], [0.5, 0.5, -1, 1])
    assert box_of(found)[0].tolist() == [[0, 0, 1, 1], [0.5, 0.375, 1, 0.625], [0, 0.75, 0.25, 1]]


def test_mean_overlap_is_the_mean_iou_over_pairs():
    drawn = box_of(np.random.default_rng(1).normal(0, 0.5, (30, 4, 4)))
    expected = [np.mean([iou(one[[i]], one[[j]])[0] for i, j in itertools.combinations(range(4), 2)]) for one in drawn]
    np.testing.assert_allclose(mean_overlap(drawn), expected, rtol=1e-12)
    assert 0.01 < np.mean(expected) < 0.99


def test_mean_overlap_of_one_box_is_undefined_and_of_points_zero():
    square, point = [0.2, 0.2, 0.6, 0.6], [0.4, 0.4, 0.4, 0.4]
    assert np.isnan(mean_overlap(np.array([[square]] * 3))).tolist() == [True] * 3
    assert mean_overlap(np.array([[square] * 3, [point] * 3, [square, square, point]])) == pytest.approx([1, 0, 1 / 3])
    assert mean_overlap(np.zeros((0, 3, 4))).shape == (0,)


def test_held_is_the_best_single_regions_coverage_and_not_their_union():
    left, right, top = [0, 0, 0.5, 1], [0.5, 0, 1, 1], [0, 0, 1, 0.25]
    regions = np.array([[left, right], [top, top]], dtype=np.float64)
    whole, corner = [0, 0, 1, 1], [0.75, 0, 1, 0.5]
    shares = held(regions, np.array([0, 1, 1, 0]), boxes(whole, whole, corner, corner))
    assert shares.tolist() == [0.5, 0.25, 0.5, 1]


def test_held_equals_a_loop_over_objects_and_regions():
    rng = np.random.default_rng(2)
    regions, objects = box_of(rng.normal(0, 0.5, (6, 5, 4))), box_of(rng.normal(0, 0.5, (50, 1, 4)))[:, 0]
    objects = objects[(objects[:, 2:] > objects[:, :2]).all(1)]
    image = rng.integers(6, size=len(objects))
    expected = [
        max(coverage(one[None], box[None])[0] for one in regions[i]) for i, box in zip(image, objects, strict=True)
    ]
    np.testing.assert_array_equal(held(regions, image, objects), expected)
    assert held(regions, image[:0], objects[:0]).shape == (0,)


def test_entropy_is_one_for_uniform_weights_and_zero_for_one_cell():
    uniform, single, half = np.full((3, 4), 1 / 12), np.zeros((3, 4)), np.zeros((3, 4))
    single[1, 2], half[0, :2] = 1, 0.5
    found = entropy(np.stack([uniform, single, half]))
    assert found == pytest.approx([1, 0, math.log(2) / math.log(12)])
    assert entropy(np.ones((2, 5, 1, 1), np.float32)).tolist() == [[1] * 5] * 2


def test_mass_inside_by_hand_and_by_a_fine_grid():
    weights = np.zeros((1, 2, 2))
    weights[0] = [[0.1, 0.2], [0.3, 0.4]]
    assert mass_inside(weights, boxes([0, 0, 0.5, 1])) == pytest.approx([0.4])
    assert mass_inside(weights, boxes([0.25, 0.5, 0.75, 1])) == pytest.approx([0.15 + 0.2])
    rng = np.random.default_rng(0)
    many = rng.random((20, 3, 5))
    many /= many.sum((1, 2), keepdims=True)
    low, high = rng.integers(0, 30, (20, 2)), rng.integers(30, 61, (20, 2))
    fine = many.repeat(20, 1).repeat(12, 2) / 240  # 60 x 60
    counted = [one[y0:y1, x0:x1].sum() for one, (x0, y0), (x1, y1) in zip(fine, low, high, strict=True)]
    assert mass_inside(many, np.concatenate([low, high], 1) / 60) == pytest.approx(counted)
    alike = np.full((1, 7, 7), 1 / 49)
    assert mass_inside(alike, boxes([0.1, 0.2, 0.4, 0.9])) == pytest.approx([0.3 * 0.7])
