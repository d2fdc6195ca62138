"""RDAR's figures show the arrays they are given, and the same arrays give the same bytes."""

import io

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex

from mlic_core import plots_rdar
from mlic_core.losses import anchors
from mlic_core.models.spatial import spatial_transform

matplotlib.use("agg")

RNG = np.random.default_rng(0)
IMAGE = RNG.random((20, 40, 3))  # 40 wide
BOXES = np.array([[0.0, 0.2, 0.5, 0.7], [0.35, 0.0, 0.6, 0.5], [0.35, 0.0, 0.6, 0.5]])
NAMES = ["dog", "cat"]
PROBABILITIES = np.array([[0.5, 0.1], [0.2, 0.6], [0.8, 0.3]])
TRANSFORMS = RNG.normal(0, 0.4, (6, 5, 4))
ROWS = [
    {"failure": failure, "setting": setting, "value": value, "low": value - 1, "high": value + 2}
    for failure, value in (("oversized", 50.0), ("mirrored", 9.0))
    for setting in ("null", "A+S", "A+S+P")
]
FOUR, EIGHT = anchors(4).numpy(), anchors(8).numpy()
BLUE, ORANGE = "#0072b2", "#d55e00"  # of the style, not of matplotlib

FIGURES = {
    "mapping": lambda: plots_rdar.coordinate_mapping(IMAGE, [0.5, 0.4, 0.7, 0.1], cells=(2, 3), side=4),
    "anchors": lambda: plots_rdar.anchor_figure({5: anchors(4), 9: EIGHT}),
    "walk": lambda: plots_rdar.walk_figure(IMAGE, BOXES, NAMES, PROBABILITIES, [0, 1]),
    "gallery": lambda: plots_rdar.region_gallery([IMAGE] * 3, "abc", [BOXES] * 3, [BOXES[:2]] * 3, columns=2),
    "failures": lambda: plots_rdar.failure_bars(ROWS),
    "centres": lambda: plots_rdar.centres_figure({"null": TRANSFORMS, "A+S+P": 3 * TRANSFORMS}, FOUR),
}


def bytes_of(figure, suffix) -> bytes:
    buffer = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "test"}):
        figure.savefig(buffer, format=suffix, metadata={"Date": None, "Creator": None} if suffix == "svg" else None)
    return buffer.getvalue()


def texts(axis):
    return [text.get_text() for text in axis.texts]


def points(line):
    return np.stack(line.get_data(), 1)


def named(axis):
    return {line.get_label(): line for line in axis.lines}


def bars(axis, hatch=None, filled=True):
    """Left end and length of each bar of one look, from the top."""
    chosen = [bar for bar in axis.patches if bar.get_hatch() == hatch and bar.get_fill() == filled]
    return [(round(bar.get_x(), 6), round(bar.get_width(), 6)) for bar in chosen]


@pytest.mark.parametrize("draw", FIGURES.values(), ids=FIGURES.keys())
def test_the_same_arrays_give_the_same_bytes(draw):
    first, second = draw(), draw()
    assert all(bytes_of(first, suffix) == bytes_of(second, suffix) for suffix in ("png", "svg"))


@pytest.mark.parametrize("draw", FIGURES.values(), ids=FIGURES.keys())
def test_drawing_leaves_the_callers_style_and_no_open_figure(draw):
    before = dict(matplotlib.rcParams)
    draw()
    assert dict(matplotlib.rcParams) == before
    assert matplotlib.pyplot.get_fignums() == []


@pytest.mark.parametrize("draw", FIGURES.values(), ids=FIGURES.keys())
def test_every_colour_is_fixed_when_the_figure_is_made(draw):
    """A line's "C0" would be looked up at drawing, in whatever style holds then."""
    figure = draw()
    lines = [line for axis in figure.axes for line in axis.lines] + [
        handle for legend in figure.legends for handle in legend.legend_handles if hasattr(handle, "get_marker")
    ]
    colors = {color for line in lines for color in (line.get_color(), line.get_markerfacecolor())}
    assert not {color for color in colors if str(color).startswith("C")}


@pytest.mark.parametrize("draw", FIGURES.values(), ids=FIGURES.keys())
def test_no_legend_covers_an_axis(draw):
    figure = draw()
    figure.draw_without_rendering()
    for legend in figure.legends:
        place = legend.get_window_extent()
        assert not any(place.overlaps(axis.get_tightbbox()) for axis in figure.axes)


def test_dots_lie_where_the_spatial_transformer_samples():
    transform = [-0.5, 0.4, 0.2, 0.1]  # mirrored
    centres = torch.linspace(-1, 1, 21, dtype=torch.float64) * 20 / 21
    ramps = torch.stack(torch.meshgrid(centres, centres, indexing="xy"))[None]  # x and y of each cell of a map
    sampled = spatial_transform(ramps, torch.tensor([transform], dtype=torch.float64), (4, 4))[0].flatten(1).T
    maps, picture = plots_rdar.coordinate_mapping(IMAGE, transform, cells=(2, 3), side=4).axes
    np.testing.assert_allclose(points(named(maps)["region"]), sampled.numpy(), atol=1e-9)
    np.testing.assert_allclose(points(picture.lines[0]), (sampled.numpy() + 1) / 2 * [40, 20], atol=1e-9)


def test_the_identity_samples_the_centres_of_cells():
    maps = plots_rdar.coordinate_mapping(IMAGE, [0.5, 0.5, 0, 0], cells=(2, 2), side=2).axes[0]
    assert points(named(maps)["identity"]).tolist() == [[-0.5, -0.5], [0.5, -0.5], [-0.5, 0.5], [0.5, 0.5]]


def test_the_maps_axis_goes_from_minus_one_to_one_with_y_down_and_shows_the_cells():
    maps, picture = FIGURES["mapping"]().axes
    assert maps.yaxis_inverted() and picture.yaxis_inverted() and not maps.xaxis_inverted()
    assert {-1, 0, 1} <= set(maps.get_xticks())
    lines = sorted(len(part.get_segments()) for part in maps.collections)
    assert lines == [3, 4]  # of 2 rows and 3 columns
    (region,) = picture.patches
    assert region.get_bbox().extents == pytest.approx((24, 7, 44, 15))


def test_both_panels_reach_as_far_as_the_region():
    maps, picture = plots_rdar.coordinate_mapping(IMAGE, [1, 1, 1, 0], cells=(2, 2), side=2).axes
    assert maps.get_xlim()[1] > 1.5  # the outer places; the image ends at 1
    assert picture.get_xlim() == pytest.approx([20 * (1 + end) for end in maps.get_xlim()])
    assert picture.get_ylim() == pytest.approx([10 * (1 + end) for end in maps.get_ylim()])


def test_anchors_lie_on_the_circle_and_carry_the_numbers_of_their_regions():
    figure = FIGURES["anchors"]()
    for axis, expected in zip(figure.axes, (FOUR, EIGHT), strict=True):
        (circle,) = [patch for patch in axis.patches if hasattr(patch, "radius")]
        assert (circle.center, circle.radius) == ((0, 0), pytest.approx(0.5**0.5))
        assert [tuple(text.xy) for text in axis.texts] == [tuple(point) for point in expected]
        assert texts(axis) == [str(k) for k in range(2, 2 + len(expected))]
        assert axis.yaxis_inverted() and axis.get_ylabel() == "y (downward)"
    assert [axis.get_title(loc="left") for axis in figure.axes] == ["K = 5", "K = 9"]


def test_a_step_of_the_walk_fills_what_it_adds_to_the_maximum_so_far():
    charts = FIGURES["walk"]().axes[3:]
    assert [bars(axis) for axis in charts] == [[(0, a), (0, b)] for a, b in PROBABILITIES]
    assert [bars(axis, "////") for axis in charts] == [
        [(0, 0.5), (0, 0.1)],
        [(0.5, 0), (0.1, 0.5)],
        [(0.5, 0.3), (0.6, 0)],
    ]
    best = [[0.5, 0.1], [0.5, 0.6], [0.8, 0.6]]
    assert [bars(axis, filled=False) for axis in charts] == [[(0, a), (0, b)] for a, b in best]
    assert len({axis.get_xlim() for axis in charts}) == 1


def test_the_walk_shows_each_steps_region_and_marks_true_labels():
    axes = FIGURES["walk"]().axes
    extents = [axis.patches[0].get_bbox().extents / (40, 20, 40, 20) for axis in axes[:3]]
    np.testing.assert_allclose(extents, BOXES)
    assert [text.get_text() for text in axes[3].get_yticklabels()] == ["dog", "cat ✓"]
    assert axes[3].yaxis_inverted()  # the first label on top


def test_the_gallery_has_regions_above_and_dashed_proposals_below_each_image():
    figure = FIGURES["gallery"]()
    above, below = np.array(figure.axes).reshape(2, 2, 2).transpose(1, 0, 2).reshape(2, 4)
    assert [axis.get_title(loc="left") for axis in above] == ["a", "b", "c", ""]
    for part, boxes, dash in ((above, BOXES, "-"), (below, BOXES[:2], "--")):
        for axis in part[:3]:
            np.testing.assert_allclose([one.get_bbox().extents / (40, 20, 40, 20) for one in axis.patches], boxes)
            assert {one.get_linestyle() for one in axis.patches} == {dash}
        assert not part[3].images and not part[3].patches
    assert texts(above[0]) == ["1", "2", "3", "attentional regions"]
    assert texts(below[1]) == ["1", "2"]


@pytest.mark.parametrize(
    "box", [(0, 0, 1, 1), (0.3, 0.4, 0.5, 0.6), (0.5, 0.5, 0.5, 0.5)], ids=["all", "small", "point"]
)
def test_numbers_of_regions_that_coincide_are_still_apart(box):
    axis = plots_rdar.region_gallery([IMAGE], ["a"], [np.tile(box, (5, 1))], [BOXES], columns=1).axes[0]
    places = np.array([text.get_position() for text in axis.texts[:5]]) / (40, 20)
    between = np.abs(places[:, None] - places).max(2)[np.triu_indices(5, 1)]
    assert between.min() >= plots_rdar.APART - 1e-9
    assert (places > 0).all() and (places < 1).all()


def test_long_titles_do_not_run_into_the_next_image():
    figure = plots_rdar.region_gallery([IMAGE] * 2, ["motorbike, diningtable, tvmonitor"] * 2, [BOXES] * 2, [BOXES] * 2)
    figure.draw_without_rendering()
    first, second = (axis.get_tightbbox() for axis in figure.axes[:2])
    assert not first.overlaps(second)


def test_failures_have_a_dot_with_its_interval_for_every_setting():
    figure = FIGURES["failures"]()
    assert [axis.get_xlabel() for axis in figure.axes] == ["mirrored regions (%)", "oversized regions (%)"]
    axis = figure.axes[1]
    dots = [container.lines[0] for container in axis.containers]
    assert [points(dot).tolist() for dot in dots] == [[[50, 0]], [[50, 1]], [[50, 2]]]
    spans = [container.lines[2][0].get_segments()[0][:, 0].tolist() for container in axis.containers]
    assert spans == [[49, 52]] * 3
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == ["null", "A+S", "A+S+P"]


def test_a_marker_is_full_where_the_constraint_against_the_failure_is_on():
    mirrored, oversized = FIGURES["failures"]().axes

    def full(axis):
        return [to_hex(container.lines[0].get_markerfacecolor()) for container in axis.containers]

    assert full(mirrored) == ["#ffffff", "#ffffff", BLUE]  # P
    assert full(oversized) == ["#ffffff", BLUE, BLUE]  # S
    assert [axis.get_title(loc="left") for axis in (mirrored, oversized)] == ["targeted by P", "targeted by S"]


def test_centres_of_a_region_look_the_same_in_every_panel():
    first, second = FIGURES["centres"]().axes
    for axis, factor in ((first, 1), (second, 3)):
        for k in range(5):
            np.testing.assert_allclose(points(named(axis)[f"region {k + 1}"]), factor * TRANSFORMS[:, k, 2:])
        np.testing.assert_array_equal(points(named(axis)["anchor"]), FOUR)
        assert texts(axis) == ["2", "3", "4", "5"]
    looks = [[(line.get_color(), line.get_marker()) for line in axis.lines] for axis in (first, second)]
    assert looks[0] == looks[1] and len(set(looks[0])) == 6
    assert first.get_xlim() == second.get_xlim() and first.get_xlim()[1] > 3 * np.abs(TRANSFORMS[..., 2:]).max()
    assert first.yaxis_inverted()


def test_nine_regions_have_nine_looks():
    axis = plots_rdar.centres_figure({"null": RNG.normal(0, 0.4, (3, 9, 4))}, EIGHT).axes[0]
    assert len({(line.get_color(), line.get_marker(), line.get_fillstyle()) for line in axis.lines[:9]}) == 9


def test_no_failure_lies_on_the_edge_of_its_panel():
    """Values that are close together and far from 0 would otherwise be cut by it."""
    rows = [dict(failure="overlap", setting=s, value=v, low=v, high=v) for s, v in (("null", 0.91), ("A", 0.90))]
    rows += [dict(failure="mirrored", setting="null", value=0.0, low=0.0, high=0.0)]
    figure = plots_rdar.failure_bars(rows)
    for axis, highest in zip(figure.axes, (0.0, 0.91), strict=True):
        low, high = axis.get_xlim()
        assert low < 0 and high - highest > 0.05 * (high - low)
