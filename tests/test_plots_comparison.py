"""The figures that set the papers side by side: what they draw where, read back from the axes."""

import io

import matplotlib
import numpy as np
from matplotlib.colors import to_hex

from mlic_core import plots_comparison as plots
from mlic_core.claims import Comparison

SEEN, OPPOSITE = Comparison(2.0, 1.0, 3.0, (1.5, 2.5)), Comparison(-2.0, -3.0, -1.0, (-2.5, -1.5))
OPEN = Comparison(0.5, -1.0, 2.0, (0.4, 0.6))


def png(figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def legend_of(figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_the_forest_shows_each_difference_its_interval_and_its_runs():
    far = Comparison(7.0, 6.0, 9.0, (7.0, 7.0))
    figure = plots.difference_forest({"one": {"a": SEEN, "b": OPEN, "c": OPPOSITE}, "two": {"d": far}}, xlabel="x")
    first, second = figure.axes
    assert [text.get_text() for text in first.get_yticklabels()] == ["a", "b", "c", "d"]
    assert [text.get_text() for text in second.get_yticklabels()] == [""] * 4
    zero, *drawn = first.get_lines()
    assert list(zero.get_xdata()) == [0, 0]
    for place, one in enumerate((SEEN, OPEN, OPPOSITE)):
        bar, runs, mark = drawn[3 * place : 3 * place + 3]
        assert list(bar.get_xdata()) == [one.low, one.high] and list(bar.get_ydata()) == [place, place]
        assert list(runs.get_xdata()) == list(one.by_run) and runs.get_marker() == "|"
        assert list(mark.get_xdata()) == [one.value] and list(mark.get_ydata()) == [place]
    assert [line.get_marker() for line in drawn[2::3]] == ["o", "D", "s"]
    assert drawn[5].get_markerfacecolor() == "white"  # undecided: hollow
    assert list(second.get_lines()[3].get_ydata()) == [3]  # in its own row
    assert first.get_ylim() == (3.6, -0.6) == second.get_ylim()  # the first row on top
    assert first.get_xlim() == second.get_xlim() and first.get_xlabel() == "x"
    assert first.get_xlim()[0] < -3 and first.get_xlim()[1] > 9
    assert legend_of(figure) == ["seen", "undecided", "not seen"]


def test_class_differences_go_from_the_rarest_class_to_the_most_frequent():
    found = {"m": np.array([1.0, -4.0, np.nan]), "n": np.array([0.4, 3.0, 2.0])}
    figure = plots.class_differences(found, ["x", "y", "z"], np.array([9, 3, 5]))
    axis = figure.axes[0]
    assert [text.get_text() for text in axis.get_xticklabels()] == ["y (3)", "z (5)", "x (9)"]
    assert [text.get_text() for text in axis.get_yticklabels()] == ["m", "n"]
    assert [text.get_text() for text in axis.texts] == ["-4", "+1", "+3", "+2", "0"]
    picture = axis.images[0]
    assert picture.get_clim() == (-4, 4)  # zero in the middle
    np.testing.assert_array_equal(picture.get_array().filled(np.nan), [[-4, np.nan, 1], [3, 2, 0.4]])
    shades = [to_hex(text.get_color()) for text in axis.texts]
    assert shades == ["#ffffff", "#000000", "#ffffff", "#000000", "#000000"]
    assert figure.axes[1].get_ylabel() == "AP points"


def test_a_class_far_out_does_not_fade_the_others():
    figure = plots.class_differences({"m": np.array([-58.0, 4.0])}, ["x", "y"], np.array([1, 2]))
    assert figure.axes[0].images[0].get_clim() == (-20, 20)
    assert figure.axes[0].images[0].colorbar.extend == "both"
    near = plots.class_differences({"m": np.array([-2.0, 4.0])}, ["x", "y"], np.array([1, 2]))
    assert near.axes[0].images[0].colorbar.extend == "neither"


def test_many_classes_have_no_numbers_in_their_cells():
    labels = [f"c{i}" for i in range(plots.WRITTEN + 1)]
    figure = plots.class_differences({"m": np.ones(len(labels))}, labels, np.arange(len(labels)))
    assert not figure.axes[0].texts and len(figure.axes[0].get_xticks()) == len(labels)


def test_kinds_keep_a_methods_marker_from_panel_to_panel():
    kinds = dict.fromkeys(("rare", "frequent", "small"), SEEN)
    figure = plots.kinds_figure({"one": {"a": kinds, "b": kinds}, "two": {"b": kinds}}, [2, 1], ylabel="points")
    first, second = figure.axes
    marked = [[line for line in axis.get_lines() if line.get_marker() in ("o", "s")] for axis in (first, second)]
    assert [line.get_marker() for line in marked[0]] == ["o", "s"] and [x.get_marker() for x in marked[1]] == ["s"]
    assert marked[0][1].get_color() == marked[1][0].get_color() != marked[0][0].get_color()
    assert [text.get_text() for text in first.get_xticklabels()] == ["rare", "frequent", "small"]
    np.testing.assert_allclose(marked[0][0].get_ydata(), 2.0)
    assert (marked[0][0].get_xdata() < marked[0][1].get_xdata()).all()
    np.testing.assert_allclose(marked[1][0].get_xdata(), [0, 1, 2])  # alone: in the middle
    (segments, *_) = (collection.get_segments() for collection in first.collections)
    assert [list(segment[:, 1]) for segment in segments] == [[1.0, 3.0]] * 3
    edges = [line.get_xdata()[0] for line in first.get_lines() if len(set(line.get_xdata())) == 1]
    assert edges == [1.5]
    assert legend_of(figure) == ["a", "b"]
    assert marked[0][0].get_color() == plots.BLUE.lower()  # the style's own, wherever it is drawn


def test_verdicts_are_stacked_with_their_numbers():
    figure = plots.verdict_bars({"p": {"seen": 3, "not seen": 2}, "q": {"undecided": 4}})
    axis = figure.axes[0]
    seen, undecided, unseen = axis.containers
    assert [bar.get_width() for bar in seen] == [3, 0]
    assert [bar.get_width() for bar in undecided] == [0, 4]
    assert [(bar.get_x(), bar.get_width()) for bar in unseen] == [(3, 2), (4, 0)]
    assert [text.get_text() for text in axis.texts] == ["3", "", "", "4", "2", ""]
    assert axis.yaxis.get_inverted()  # the first paper on top
    assert len({bars[0].get_hatch() for bars in axis.containers}) == 3  # colour is not the only carrier


def test_figures_leave_the_style_as_it_was_and_give_the_same_bytes():
    before = dict(matplotlib.rcParams)
    figures = [plots.verdict_bars({"p": {"seen": 3}}) for _ in range(2)]
    assert png(figures[0]) == png(figures[1])
    assert dict(matplotlib.rcParams) == before
