"""MCAR's figures show the arrays they are given."""

import matplotlib
import numpy as np
import pytest
import torch

from mlic_core import plots_mcar
from mlic_core.plots import Boxes

matplotlib.use("agg")

LABELS = ("dog", "cat", "car")
IMAGE = np.zeros((40, 40, 3), np.uint8)


def patches_of(axis):
    return [patch for patch in axis.patches if patch.get_width() or patch.get_height()]


def texts(axis):
    return [text.get_text() for text in axis.texts]


def test_present_classes_carry_a_check_mark_and_ignored_ones_do_not():
    assert plots_mcar.name_classes([2, 0, 1], LABELS, [0, -1, 1]) == ["car ✓", "dog", "cat"]


def test_only_the_classes_that_give_regions_have_full_bars():
    figure = plots_mcar.global_scores(IMAGE, [0.9, 0.5, 0.25], LABELS, 2)
    bars = figure.axes[1].patches
    assert [(round(bar.get_width(), 2), bar.get_hatch()) for bar in bars] == [(0.9, ""), (0.5, ""), (0.25, "///")]
    assert figure.axes[1].yaxis_inverted()


def test_class_maps_of_one_row_share_one_scale_around_zero():
    raw = np.array([[[-1.0, 2.0]], [[-8.0, 4.0]]])
    figure = plots_mcar.class_maps(IMAGE, raw, 1 / (1 + np.exp(-raw)), ["dog", "cat"])
    assert [axis.images[0].get_clim() for axis in figure.axes[:2]] == [(-8, 8)] * 2
    assert [axis.images[-1].get_clim() for axis in figure.axes[2:4]] == [(0, 1)] * 2
    assert np.array_equal(figure.axes[1].images[0].get_array(), raw[1])


def test_shaded_intervals_are_the_sides_of_the_box():
    profile = np.linspace(0, 1, 40)
    figure = plots_mcar.localization(
        IMAGE, np.ones((1, 2, 2)), profile[None], profile[None], [(10, 4, 30, 36)], 0.5, ["dog"]
    )
    across, _, picture, down = figure.axes
    (box,) = patches_of(picture)
    assert box.get_bbox().extents == pytest.approx((10, 4, 30, 36))
    (interval,) = patches_of(across)
    assert (interval.get_x(), interval.get_x() + interval.get_width()) == (10, 30)
    (interval,) = patches_of(down)
    assert (interval.get_y(), interval.get_y() + interval.get_height()) == (4, 36)
    assert down.yaxis_inverted()  # rows of the image run down
    assert across.get_xlim() == (0, 40)


def test_profile_cases_show_profile_threshold_and_interval():
    figure = plots_mcar.profile_cases([[0, 1, 0, 0]], [(1, 2)], 0.25, ["one peak"])
    (axis,) = figure.axes
    curve, threshold = axis.lines
    assert list(curve.get_ydata()) == [0, 1, 0, 0]
    assert list(curve.get_xdata()) == [0.5, 1.5, 2.5, 3.5]  # centres of the pixels
    assert list(threshold.get_ydata()) == [0.25, 0.25]
    (interval,) = patches_of(axis)
    assert (interval.get_x(), interval.get_width()) == (1, 1)


def test_crops_are_numbered_as_their_boxes():
    boxes = torch.tensor([[0.0, 0.0, 0.5, 0.5], [0.25, 0.5, 1.0, 1.0]])
    scores = {"global": [0.2, 0.1], "local": [0.9, 0.05]}
    figure = plots_mcar.crops_and_scores(
        IMAGE, boxes, [IMAGE, IMAGE], ["dog", "cat"], ["dog 0.90", "car 0.10"], scores, ["dog", "cat"]
    )
    picture, first, second, bars = figure.axes
    assert texts(picture) == ["1", "2"]
    assert patches_of(picture)[1].get_bbox().extents == pytest.approx((10, 20, 40, 40))
    assert first.get_title(loc="left") == "1  from dog\n→ dog 0.90"
    assert second.get_title(loc="left") == "2  from cat\n→ car 0.10"
    assert [round(bar.get_height(), 2) for bar in bars.patches] == [0.2, 0.1, 0.9, 0.05]


def test_gallery_shows_only_confident_regions_and_dashes_absent_classes():
    regions = np.arange(16).reshape(4, 4) / 16
    labels = ("dog", "cat", "car", "bus", "sofa")
    first = np.array([0.14, 0.9, 0.1, 0.3, 0.8])  # car: not above 0.1
    fused = np.array([0.99, 0.95, 0.9, 0.6, 0.9])  # bus: not above 0.6; sofa: no region
    boxes = plots_mcar.gallery_boxes(regions, [1, 0, 2, 3], first, fused, [1, 0, 1, 1, 1], labels)
    assert boxes.labels == ["cat: 0.90/0.95", "dog: 0.14/0.99"]
    assert list(boxes.dashed) == [True, False]
    assert np.array_equal(boxes.xyxy, regions[:2])


def test_an_ignored_class_is_no_false_alarm():
    boxes = plots_mcar.gallery_boxes(np.ones((1, 4)), [0], [0.5], [0.9], [-1], ["dog"])
    assert boxes == Boxes(boxes.xyxy, ["dog: 0.50/0.90"], [False])


def test_sweeps_show_the_mean_the_range_and_the_setting_of_the_training():
    curves = {"two streams": np.array([[50, 80], [60, 90]]), "local": np.array([[np.nan, 60], [np.nan, 70]])}
    panels = {"topN": (np.array([0, 4]), curves), "tau": (np.array([0.1, 0.5]), {"a": np.array([[1, 2]])})}
    figure = plots_mcar.sweeps(panels, {"topN": 4.0, "tau": 0.5})
    first, second = figure.axes
    both, local, mark = first.lines
    assert list(both.get_ydata()) == [55, 85]
    assert np.isnan(local.get_ydata()[0]) and local.get_ydata()[1] == 65
    assert list(mark.get_xdata()) == [4, 4]
    band = first.collections[0].get_paths()[0].vertices[:, 1]
    assert (band.min(), band.max()) == (50, 90)
    assert (first.get_xlabel(), second.get_xlabel()) == ("topN", "tau")
    assert list(second.get_xticks()) == [0.1, 0.5]


def test_class_gains_are_sorted_losses_hatched_and_undefined_classes_left_out():
    gains = [[2.0, np.nan, -4.0], [4.0, 1.0, -2.0]]
    figure = plots_mcar.class_gains(gains, LABELS)
    (axis,) = figure.axes
    assert [label.get_text() for label in axis.get_yticklabels()] == ["car", "dog"]  # from below
    assert sorted((bar.get_width(), bar.get_hatch()) for bar in axis.patches) == [(-3, "///"), (3, "")]
    ranges = sorted(tuple(path.vertices[:, 0]) for path in axis.collections[0].get_paths())
    assert ranges == [(-4, -2), (2, 4)]


def test_cost_curves_join_the_points_of_a_model_from_cheap_to_dear():
    points = [(40.0, [70.0, 74.0], "112 px"), (10.0, [50.0, 54.0], "64 px")]
    figure = plots_mcar.cost_curves({"voc": {"MCAR": points}, "coco": {"baseline": [(5.0, [40.0], "64 px")]}})
    first, second = figure.axes
    assert [list(one) for one in first.lines[0].get_data()] == [[10, 40], [52, 72]]
    whiskers = sorted(tuple(path.vertices[:, 1]) for path in first.collections[0].get_paths())
    assert whiskers == [(50, 54), (70, 74)]
    assert texts(first) == ["64 px", "112 px"]
    assert (first.get_title(loc="left"), second.get_title(loc="left"), first.get_xscale()) == ("voc", "coco", "log")
    (legend,) = figure.legends
    assert [label.get_text() for label in legend.get_texts()] == ["MCAR", "baseline"]
