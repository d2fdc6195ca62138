"""The figures that compare where methods look show the arrays they are given."""

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_hex

from mlic_core import plots_attention
from mlic_core.metrics import Interval
from mlic_core.plots import Boxes

matplotlib.use("agg")

IMAGE = np.zeros((40, 40, 3), np.uint8)


def texts(axis):
    return [text.get_text() for text in axis.texts]


def test_a_path_has_a_panel_for_each_of_its_words_and_each_map_its_own_scale():
    maps = [np.array([[[0.0, 4.0]], [[1.0, 2.0]]]), np.zeros((1, 1, 2))]
    figure = plots_attention.path_figure([IMAGE] * 2, ["dog, cat", "car"], maps, [["dog 0.9", "END 0.8"], ["END 1.0"]])
    first, second = np.reshape(figure.axes, (2, 3))
    assert [axis.get_title(loc="left") for axis in first] == ["dog, cat", "1: dog 0.9", "2: END 0.8"]
    assert [axis.get_title(loc="left") for axis in second] == ["car", "1: END 1.0", ""]
    assert [axis.images[1].get_array().tolist() for axis in first[1:]] == [[[0, 1]], [[0.5, 1]]]
    assert second[1].images[1].get_array().tolist() == [[0, 0]] and not second[2].images
    assert {axis.images[1].get_clim() for axis in first[1:]} == {(0, 1)}


def test_pixels_stand_below_the_maps_of_their_image_and_edges_below_the_image():
    maps, words = [np.ones((2, 1, 2)), np.ones((1, 1, 2))], [["dog 0.9", "END 0.8"], ["END 1.0"]]
    fine = [np.arange(3200.0).reshape(2, 40, 40), np.zeros((1, 40, 40))]
    pixels = {"guided": fine, "shuffled": [2 * one for one in fine]}
    figure = plots_attention.path_figure([IMAGE] * 2, ["a", "b"], maps, words, pixels=pixels, edges=[IMAGE[..., 0]] * 2)
    axes = np.reshape(figure.axes, (6, 3))
    titles = [[axis.get_title(loc="left") for axis in row] for row in axes]
    assert titles[:3] == [["a", "1: dog 0.9", "2: END 0.8"], ["its edges", "guided", ""], ["", "shuffled", ""]]
    assert titles[3:] == [["b", "1: END 1.0", ""], ["its edges", "guided", ""], ["", "shuffled", ""]]
    drawn = [[len(axis.images) for axis in row] for row in axes]
    assert drawn == [[1, 2, 2], [1, 1, 1], [0, 1, 1], [1, 2, 0], [1, 1, 0], [0, 1, 0]]
    assert axes[1, 2].images[0].get_array().tolist() == fine[0][1].tolist()
    assert axes[2, 1].images[0].get_array().tolist() == (2 * fine[0][0]).tolist()
    first = axes[1, 1].images[0]
    assert first.get_clim() == (0, pytest.approx(0.99 * 1599)) and first.cmap.name == "Greys"
    assert axes[4, 1].images[0].get_clim()[1] > 0  # a picture of zeros stays white


def test_a_label_has_one_number_and_one_colour_in_all_columns():
    left, right = [0, 0, 0.5, 1], [0.5, 0, 1, 1]
    columns = {"objects": [Boxes([left, right, left], ["dog", "cat", "dog"])], "MCAR": [Boxes([right], ["cat"])]}
    figure = plots_attention.regions_by_method([IMAGE], columns)
    objects, mcar = figure.axes
    assert texts(objects) == ["1", "2", "1", "1 dog   2 cat"] and texts(mcar) == ["2"]
    assert [axis.get_title(loc="left") for axis in figure.axes] == ["objects", "MCAR"]
    edges = [[to_hex(patch.get_edgecolor()) for patch in axis.patches] for axis in figure.axes]
    assert edges[0] == [edges[0][0], edges[1][0], edges[0][0]] and edges[0][0] != edges[1][0]
    assert mcar.patches[0].get_bbox().extents.tolist() == [20, 0, 40, 40]


def curves():
    bounds, counts = np.linspace(0.1, 0.9, 9), np.arange(1, 4)
    recall = {"MCAR": 1 - bounds, "random": 0.5 - bounds / 2, "RDAR": 0.9 - bounds}
    covered = {"MCAR": [0.1, 0.2, 0.3], "random": [0.0, 0.1, 0.1], "RDAR": [0.2, 0.2, np.nan]}
    return plots_attention.recall_curves(bounds, recall, counts, covered, blind=["random"])


def test_recall_curves_are_grey_for_what_looks_at_nothing_and_alike_in_both_panels():
    figure = curves()
    left, right = ({line.get_label(): line for line in axis.lines} for axis in figure.axes)
    assert left["MCAR"].get_ydata() == pytest.approx(1 - np.linspace(0.1, 0.9, 9))
    assert right["MCAR"].get_xdata().tolist() == [1, 2, 3] and right["MCAR"].get_ydata() == pytest.approx(
        [0.1, 0.2, 0.3]
    )
    for name, line in left.items():
        same = right[name]
        assert (line.get_color(), line.get_linestyle()) == (same.get_color(), same.get_linestyle())
    assert left["random"].get_color() == "#8C8C8C"
    looks = {(line.get_color(), line.get_linestyle(), line.get_marker()) for line in left.values()}
    assert len(looks) == 3
    assert "#0072b2" in {line.get_color() for line in left.values()}  # the style's, not matplotlib's


def test_points_by_size_stand_beside_each_other_with_their_intervals():
    values = {name: {"small": Interval(0.2 + i / 10, 0.1, 0.5), "large": Interval(0.8, 0.7, 0.95)}
              for i, name in enumerate(("CAM", "MCAR"))}  # fmt: skip
    figure = plots_attention.by_size_figure(values, ylabel="hits")
    (axis,) = figure.axes
    assert [tick.get_text() for tick in axis.get_xticklabels()] == ["small", "large"]
    first, second = (container.lines[0] for container in axis.containers)
    assert first.get_ydata().tolist() == [0.2, 0.8] and second.get_ydata() == pytest.approx([0.3, 0.8])
    assert first.get_xdata()[0] < 0 < second.get_xdata()[0] < 0.5
    whiskers = axis.containers[1].lines[2][0].get_segments()
    assert [one[:, 1].tolist() for one in whiskers] == [pytest.approx([0.1, 0.5]), pytest.approx([0.7, 0.95])]


def scatter(x=(10.0, 50.0, np.nan, 90.0)):
    panels = {name: (np.array(x), {"AP": np.array([20.0, 40, 60, 80]) + 5 * i, "gain": np.array([1.0, np.nan, 2, 3])})
              for i, name in enumerate(("CAM", "MCAR"))}  # fmt: skip
    notes = {(name, row): f"{name} {row}" for name in panels for row in ("AP", "gain")}
    return plots_attention.class_scatter(panels, ["dog", "cat", "car", "cow"], notes, xlabel="hits")


def test_a_scatter_has_a_row_a_number_a_column_a_method_and_names_the_ends():
    axes = np.reshape(scatter().axes, (2, 2))
    assert [axis.get_title(loc="left") for axis in axes.flat] == [
        "CAM\nCAM AP",
        "MCAR\nMCAR AP",
        "CAM gain",
        "MCAR gain",
    ]
    assert [axis.get_ylabel() for axis in axes.flat] == ["AP", "", "gain", ""]
    assert [axis.get_xlabel() for axis in axes.flat] == ["", "", "hits", "hits"]
    assert [texts(axis) for axis in axes.flat] == [["dog", "cow"]] * 4
    assert axes[0, 1].lines[0].get_ydata().tolist() == [25, 45, 65, 85]
    assert axes[0, 0].get_ylim() == axes[0, 1].get_ylim() != axes[1, 0].get_ylim()
    assert axes[0, 1].get_ylim()[1] > 90 and axes[0, 0].get_ylim()[0] < 20


def test_a_scatter_of_classes_that_do_not_differ_names_none():
    assert [texts(axis) for axis in scatter((5.0, 5.0, 5.0, 5.0)).axes] == [[]] * 4
    assert [texts(axis) for axis in scatter((np.nan,) * 4).axes] == [[]] * 4
