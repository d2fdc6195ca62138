"""Figures: what stands in them and where, and that the same arrays give the same bytes."""

import io

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_hex

from mlic_core import plots

RNG = np.random.default_rng(0)
IMAGES = [RNG.random((20, 40, 3)) for _ in range(5)]
BOXES = plots.Boxes([[0.25, 0.5, 0.75, 1.0], [0, 0, 0.5, 0.5]], ["dog", "cat"], [True, False])
PANEL = plots.Panel([1, 2, 4], {"all": [10, 20, 30], "small": [0, 10, 20]}, "labels kept", "recall (%)")
HISTORIES = {
    "gap": [[{"epoch": 1, "loss": 0.8, "monitor_mAP": 40.0}, {"epoch": 2, "loss": 0.4, "monitor_mAP": 60.0}],
            [{"epoch": 1, "loss": 0.6, "monitor_mAP": 50.0}, {"epoch": 2, "loss": 0.2, "monitor_mAP": 50.0}]],
    "gmp": [[{"epoch": 1, "loss": 0.9, "monitor_mAP": 30.0}, {"epoch": 2, "loss": 0.5, "monitor_mAP": 35.0}]],
}  # fmt: skip

FIGURES = {
    "contact sheet": lambda: plots.contact_sheet(IMAGES, "abcde", [BOXES] * 5, maps=[RNG_MAP] * 5),
    "training curves": lambda: plots.training_curves(HISTORIES),
    "lines": lambda: plots.lines(*PANEL[:2], xlabel="n", ylabel="recall (%)"),
    "bars": lambda: plots.bars_with_intervals({"a": np.ones((3, 4)), "b": np.ones(4)}, "wxyz", ylabel="images (%)"),
    "per-class AP": lambda: plots.per_class_ap({"gap": np.ones((3, 4)), "gmp": np.ones((3, 4))}, "wxyz"),
    "histogram": lambda: plots.histogram({"a": [1, 2], "b": [2]}, [0, 1, 2, 3], xlabel="side", ylabel="objects"),
    "heat map": lambda: plots.heat_map(np.eye(3), "abc", "xyz", label="share (%)"),
}
RNG_MAP = RNG.random((2, 4))


def png(figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def svg(figure) -> bytes:
    buffer = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "test"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


@pytest.mark.parametrize("draw", FIGURES.values(), ids=FIGURES.keys())
def test_the_same_arrays_give_the_same_bytes(draw):
    first, second = draw(), draw()
    assert png(first) == png(second)
    assert svg(first) == svg(second)


@pytest.mark.parametrize("draw", FIGURES.values(), ids=FIGURES.keys())
def test_drawing_leaves_the_callers_style_and_no_open_figure(draw):
    before = dict(matplotlib.rcParams)
    draw()
    assert dict(matplotlib.rcParams) == before
    assert matplotlib.pyplot.get_fignums() == []


@pytest.mark.parametrize("name", [name for name in FIGURES if name not in ("contact sheet", "heat map")])
def test_both_axes_are_labelled_and_series_are_named(name):
    axis = FIGURES[name]().axes[-1]
    assert axis.get_ylabel() or name == "per-class AP"  # whose rows carry the classes
    assert axis.get_xlabel() or name == "bars"
    assert len(axis.get_legend().get_texts()) == 2


def test_a_contact_sheet_fills_rows_and_leaves_the_rest_empty():
    figure = plots.contact_sheet(IMAGES, "abcde", columns=3)
    assert len(figure.axes) == 6
    assert [axis.get_title(loc="left") for axis in figure.axes] == [*"abcde", ""]
    assert [len(axis.images) for axis in figure.axes] == [1, 1, 1, 1, 1, 0]


def test_boxes_lie_at_their_share_of_the_image_and_carry_names():
    axis = plots.contact_sheet(IMAGES[:1], boxes=[BOXES]).axes[0]
    dog, cat = axis.patches
    assert (dog.get_xy(), dog.get_width(), dog.get_height()) == ((10, 10), 20, 10)  # of 40 x 20 pixels
    assert (cat.get_xy(), cat.get_width(), cat.get_height()) == ((0, 0), 20, 10)
    assert [text.get_text() for text in axis.texts] == ["dog", "cat"]
    assert (dog.get_linestyle(), cat.get_linestyle()) == ("--", "-")
    assert dog.get_edgecolor() != cat.get_edgecolor()


def test_boxes_without_a_text_for_each_are_refused():
    with pytest.raises(ValueError):
        plots.contact_sheet(IMAGES[:1], boxes=[plots.Boxes([[0, 0, 1, 1]], [])])


def test_a_class_map_puts_its_outer_cells_on_the_outer_pixels():
    axis = plots.contact_sheet(IMAGES[:1], maps=[RNG_MAP]).axes[0]
    left, right, bottom, top = axis.images[1].get_extent()
    cell = (right - left) / 4, (bottom - top) / 2
    assert (left + cell[0] / 2, right - cell[0] / 2) == (0.5, 39.5)
    assert (top + cell[1] / 2, bottom - cell[1] / 2) == (0.5, 19.5)
    assert axis.get_xlim() == (0, 40) and axis.get_ylim() == (20, 0)


def test_training_curves_show_the_mean_of_the_seeds_and_their_range():
    loss, score = plots.training_curves(HISTORIES).axes
    np.testing.assert_allclose(loss.lines[0].get_xydata(), [[1, 0.7], [2, 0.3]])
    np.testing.assert_allclose(score.lines[0].get_ydata(), [45, 55])
    band = loss.collections[0].get_paths()[0].get_extents()
    np.testing.assert_allclose([band.y0, band.y1], [0.2, 0.8])
    first, second = loss.lines
    assert first.get_linestyle() != second.get_linestyle() and first.get_marker() != second.get_marker()
    assert score.get_ylabel().endswith("(%)")


def test_curves_that_a_history_lacks_are_left_out():
    assert len(plots.training_curves({"gap": [[{"epoch": 1, "loss": 1.0}]]}).axes) == 1


def test_panels_share_their_limits_and_keep_their_own_curves():
    first, second = plots.line_panels(PANEL, PANEL._replace(x=[0, 5, 9]), ylim=(0, 100)).axes
    assert first.get_ylim() == second.get_ylim() == (0, 100)
    assert first.get_xticks().tolist() == [1, 2, 4] and second.get_xticks().tolist() == [0, 5, 9]
    np.testing.assert_array_equal(second.lines[1].get_xydata(), [[0, 0], [5, 10], [9, 20]])


def test_whiskers_reach_from_the_lowest_to_the_highest_repeat():
    axis = plots.bars_with_intervals({"gap": [[1.0, 2.0], [4.0, 2.0]]}, ["a", "b"], ylabel="AP (%)").axes[0]
    assert [bar.get_height() for bar in axis.patches] == [2.5, 2.0]
    np.testing.assert_allclose([line[:, 1] for line in axis.collections[0].get_segments()], [[1, 4], [2, 2]])


def test_bars_of_two_names_differ_in_hatching():
    axis = FIGURES["bars"]().axes[0]
    assert axis.patches[0].get_hatch() != axis.patches[-1].get_hatch()


def test_the_hardest_class_is_on_top_and_an_undefined_one_above_it():
    axis = plots.per_class_ap({"gap": [[50.0, 90.0, np.nan, 20.0]]}, ["b", "a", "none", "c"]).axes[0]
    assert [text.get_text() for text in axis.get_yticklabels()] == ["a", "b", "c", "none"]
    np.testing.assert_allclose(axis.lines[0].get_xdata(), [90, 50, 20, np.nan])


def test_a_histogram_stacks_its_counts_and_names_its_marks():
    figure = plots.histogram({"a": [0.5, 1.5], "b": [1.6]}, [0, 1, 2], xlabel="x", ylabel="n", marks={"small": 1.0})
    axis = figure.axes[0]
    assert [(bar.get_y(), bar.get_height()) for bar in axis.patches] == [(0, 1), (0, 1), (1, 0), (1, 1)]
    assert axis.texts[0].get_text() == "small" and axis.texts[0].xy[0] == 1.0
    assert axis.patches[0].get_hatch() != axis.patches[2].get_hatch()


def test_a_heat_map_writes_its_numbers_where_they_are_readable_and_skips_what_is_missing():
    axis, bar = plots.heat_map([[0.0, 10.0], [np.nan, 4.0]], "ab", "xy", label="share (%)").axes
    cells = {text.get_position(): (text.get_text(), to_hex(text.get_color())) for text in axis.texts}
    assert cells == {(0, 0): ("0", "#ffffff"), (1, 0): ("10", "#000000"), (1, 1): ("4", "#ffffff")}
    assert bar.get_ylabel() == "share (%)"
