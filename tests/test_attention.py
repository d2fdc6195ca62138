"""Measures of regions, by hand."""

import math

import numpy as np
import pytest

from mlic_core.attention import coverage, iou, label_recall, pad


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
