"""Runs of equal seeds are paired, and one seed proves nothing."""

import math

import pytest

from mlic_core.study.compare import differences, over_seeds, signed


def test_mean_and_sample_deviation_over_seeds():
    cells = over_seeds([80.0, 82.0, 84.0])
    assert (cells["mAP"], cells["sd"], cells["seeds"]) == (82.0, 2.0, 3)
    assert math.isnan(cells["gain"]) and cells["gain by seed"] == ""


def test_gains_pair_runs_of_the_same_seed():
    cells = over_seeds([81.0, 80.0], [79.5, 80.25], name="MCAR")
    assert (cells["MCAR"], cells["gain"], cells["gain by seed"]) == (80.5, 0.625, "+1.5, -0.2")


def test_one_seed_has_no_deviation():
    assert math.isnan(over_seeds([80.0])["sd"])


def test_an_undefined_number_stays_undefined():
    cells = over_seeds([None, 80.0], [70.0, 75.0])
    assert math.isnan(cells["mAP"]) and math.isnan(cells["gain"])


def test_other_numbers_of_seeds_cannot_be_paired():
    with pytest.raises(ValueError, match="2 values can't be paired with 1"):
        differences([1.0, 2.0], [1.0])


def test_what_rounds_to_zero_is_no_loss():
    assert signed([0.0, -0.04, -0.06, 1.25]) == "+0.0, +0.0, -0.1, +1.2"
