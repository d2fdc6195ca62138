"""The figures of what methods cost show the numbers they are given."""

import matplotlib
import pytest
from matplotlib.colors import to_hex

from mlic_core.plots_costs import Point, Series, accuracy_against_cost, growth_panels, stage_bars

matplotlib.use("agg")

ROWS = {
    "theirs": {"global": 1.0, "global-to-local": 1.5, "local": 2.0},
    "ours": {"global": 1.1, "global-to-local": 0.05, "local": 4.0},
}


def test_stages_are_stacked_in_order_and_the_papers_are_pale():
    figure = stage_bars(ROWS, paper=["theirs"])
    (axis,) = figure.axes
    bars = [[(bar.get_x(), bar.get_width(), bar.get_alpha()) for bar in stage] for stage in axis.containers]
    assert [stage[0] for stage in bars] == [(0.0, 1.0, 0.45), (1.0, 1.5, 0.45), (2.5, 2.0, 0.45)]
    assert [stage[1] for stage in bars] == [
        (0.0, 1.1, 1.0),
        (1.1, pytest.approx(0.05), 1.0),
        (pytest.approx(1.15), 4.0, 1.0),
    ]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["theirs", "ours"] and axis.yaxis_inverted()
    assert len({bar[0].get_hatch() for bar in axis.containers}) == 3
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["global", "global-to-local", "local"]
    assert list(axis.lines[0].get_xdata()) == [1, 1]
    assert axis.get_xlim()[1] > 5.15


def test_numbers_stand_in_the_middle_of_parts_that_have_room_for_them():
    (axis,) = stage_bars(ROWS).axes
    written = {text.get_text(): text.get_position() for text in axis.texts}
    assert set(written) == {"1.00", "1.10", "1.50", "2.00", "4.00"}  # not the .05
    assert written["1.50"] == pytest.approx((1.75, 0)) and written["4.00"] == pytest.approx((3.15, 1))


def test_growth_has_time_above_memory_below_and_one_look_a_method():
    panels = {
        "size (px)": {"MCAR": Series([64, 128], [1, 4], [1, 5]), "RDAR": Series([64, 128], [1, 3], [1, 2])},
        "topN": {"RDAR": Series([0, 4], [1, 20], [1, 6])},
    }
    figure = growth_panels(panels)
    time, time_of_topN, memory, memory_of_topN = figure.axes
    assert [list(line.get_ydata()) for line in time.lines] == [[1, 4], [1, 3]]
    assert [list(line.get_ydata()) for line in memory.lines] == [[1, 5], [1, 2]]
    assert list(time_of_topN.lines[0].get_ydata()) == [1, 20] and list(memory_of_topN.lines[0].get_xdata()) == [0, 4]
    again = time_of_topN.lines[0]
    looks = [(line.get_marker(), to_hex(line.get_color())) for line in (*time.lines, again)]
    assert looks[1] == looks[2] and looks[0][0] != looks[1][0] and looks[0][1] != looks[1][1]
    assert (time.get_xscale(), time_of_topN.get_xscale()) == ("log", "linear")  # a setting is 0
    assert {axis.get_yscale() for axis in figure.axes} == {"log"}
    assert [label.get_text() for label in time.get_xticklabels()] == ["64", "128"]
    assert (memory.get_xlabel(), memory_of_topN.get_xlabel()) == ("size (px)", "topN")
    assert time.get_ylabel().startswith("time, ") and memory.get_ylabel().startswith("peak memory, ")
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["MCAR", "RDAR"]


def test_the_panels_of_a_row_share_a_range_that_holds_everything():
    figure = growth_panels(
        {"a": {"x": Series([1, 2], [1, 4], [1, 1.5])}, "b": {"x": Series([1, 2], [0.8, 20], [1, 2])}}
    )
    time, other, memory, _ = figure.axes
    assert time.get_ylim() == other.get_ylim() and time.get_ylim()[0] < 0.8 and time.get_ylim()[1] > 20
    assert memory.get_ylim()[1] < 3
    assert [label.get_text() for label in time.get_yticklabels()] == ["1", "2", "5", "10", "20"]
    assert not len(time.yaxis.get_minorticklocs())


def test_points_show_mean_and_range_against_both_costs():
    figure = accuracy_against_cost({"base": Point([70, 80, 84], 85e6, 1.0), "MCAR": Point([90], 427e6, 8.0)})
    macs, minutes = figure.axes
    for axis, places in ((macs, (85, 427)), (minutes, (1, 8))):
        assert [container.lines[0].get_xdata()[0] for container in axis.containers] == pytest.approx(places)
        assert [container.lines[0].get_ydata()[0] for container in axis.containers] == [78, 90]
        (whisker,) = axis.containers[0].lines[2]
        assert whisker.get_segments()[0][:, 1].tolist() == [70, 84]
        assert axis.get_xscale() == "log" and axis.get_xlim()[0] < places[0] and axis.get_xlim()[1] > places[1]
    assert [label.get_text() for label in minutes.get_xticklabels()] == ["1", "2", "5", "10"]
    assert "multiply-adds" in macs.get_xlabel() and "minutes" in minutes.get_xlabel()
    assert macs.get_ylabel() == "mAP (%)"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["base", "MCAR"]


def test_more_models_than_colours_are_told_apart():
    figure = accuracy_against_cost({str(i): Point([i], 10.0**i, 1.0) for i in range(10)})
    lines = [container.lines[0] for container in figure.axes[0].containers]
    looks = {(line.get_marker(), line.get_color(), line.get_fillstyle()) for line in lines}
    assert len(looks) == 10 and lines[6].get_fillstyle() == "full" and lines[7].get_fillstyle() == "none"
