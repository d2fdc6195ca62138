"""The figures of global/local attention show the arrays they are given, and the same arrays give the same bytes."""

import io
from itertools import chain, pairwise

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from matplotlib.path import Path
from PIL import Image
from scipy.ndimage import gaussian_filter

from mlic_core import drawings_gla, plots_gla
from mlic_core.errors import InputError

matplotlib.use("agg")

RNG = np.random.default_rng(0)
IMAGE = RNG.random((20, 40, 3))  # 40 wide
PICTURE = Image.fromarray((255 * IMAGE).astype(np.uint8))
TITLES = ["global", "step 1", "step 2"]
NAMES = [["", "dog", "diningtable"], ["", "cat", ""]]
WEIGHTS = RNG.dirichlet(np.ones(12), (2, 3)).reshape(2, 3, 3, 4)
WEIGHTS[0, 0] = 1 / 12
POSITIVE = np.array([True, False, True])
CURVES = {"mended": [[0.5, 0.6, 0.7], [0.7, 0.4, 0.8]], "literal": [[0.5, 0.6, 0.7], [0.3, 0.8, 0.4]]}
ENTROPIES = {"+L": [[np.nan, 0.8, 0.6], [np.nan, 0.9, 0.5]], "+L/G": [[0.9, 0.7, 0.5], [1.0, 0.7, 0.3]]}
STEPS = {
    name: {"alone": [[70.0, 60.0, low], [80.0, 64.0, low]], "maximum": [[70.0, 72.0, 73.0], [80.0, 82.0, 83.0]]}
    for name, low in (("+L", 50.0), ("+L/G", 62.0))
}
BLUE, ORANGE = "#0072b2", "#d55e00"  # of the style, not of matplotlib

FIGURES = {
    "schematic": drawings_gla.schematic,
    "two": drawings_gla.attention_schematic,
    "attention": lambda: plots_gla.attention_figure([IMAGE, PICTURE], WEIGHTS, TITLES, NAMES, captions=["a, b", "c"]),
    "bare": lambda: plots_gla.attention_figure([IMAGE], WEIGHTS[1:, :1], TITLES[:1], [[""]]),
    "epochs": lambda: plots_gla.epochs_figure(PICTURE, WEIGHTS, [5, 10], TITLES),
    "entropy": lambda: plots_gla.entropy_figure(ENTROPIES, TITLES),
    "toy": lambda: plots_gla.toy_margins(CURVES, POSITIVE),
    "steps": lambda: plots_gla.steps_figure(STEPS, TITLES),
}
DRAWINGS = {name: FIGURES[name] for name in ("schematic", "two")}
PICTURES = {name: FIGURES[name] for name in ("attention", "bare", "epochs")}


def every(figures):
    return pytest.mark.parametrize("draw", figures.values(), ids=figures.keys())


def bytes_of(figure, suffix) -> bytes:
    buffer = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "test"}):
        figure.savefig(buffer, format=suffix, metadata={"Date": None, "Creator": None} if suffix == "svg" else None)
    return buffer.getvalue()


def texts(axis):
    return [text.get_text() for text in axis.texts]


def shown(figure):
    """All text that is seen of a figure, once drawn: labels of ticks only within their axis."""
    figure.draw_without_rendering()
    found = [*figure.texts, *chain(*(legend.get_texts() for legend in figure.legends))]
    for axis in figure.axes:
        found += [*axis.texts, axis._left_title]
        for side in (axis.xaxis, axis.yaxis) if axis.axison else ():
            low, high = sorted(side.get_view_interval())
            found += [side.label]
            found += [tick.label1 for tick in side.get_major_ticks() if low <= tick.get_loc() <= high]
    return [one for one in found if one.get_text() and one.get_visible()]


def places(figure):
    return [(one.get_text(), one.get_window_extent()) for one in shown(figure)]


def values(line):
    return list(line.get_ydata())


def title(axis):
    return axis.get_title(loc="left")


@every(FIGURES)
def test_the_same_arrays_give_the_same_bytes(draw):
    first, second = draw(), draw()
    assert all(bytes_of(first, suffix) == bytes_of(second, suffix) for suffix in ("png", "svg"))


@every(FIGURES)
def test_drawing_leaves_the_callers_style_and_no_open_figure(draw):
    before = dict(matplotlib.rcParams)
    draw()
    assert dict(matplotlib.rcParams) == before
    assert matplotlib.pyplot.get_fignums() == []


@every(FIGURES)
def test_every_colour_is_fixed_when_the_figure_is_made(draw):
    """A line's "C0" would be looked up at drawing, in whatever style holds then."""
    lines = draw().findobj(matplotlib.lines.Line2D)
    colors = {color for line in lines for color in (line.get_color(), line.get_markerfacecolor())}
    assert not {color for color in colors if str(color).startswith("C")}


@every(FIGURES)
def test_no_text_lies_on_another_or_leaves_the_figure_or_is_tiny(draw):
    figure = draw()
    found = places(figure)
    assert len(found) > 4
    for i, (text, place) in enumerate(found):
        for other, second in found[:i]:
            assert not place.overlaps(second), f"{text!r} on {other!r}"
        inside = figure.bbox
        assert place.x0 >= 0 and place.y0 >= 0 and place.x1 <= inside.x1 and place.y1 <= inside.y1, text
    for one in shown(figure):
        least = 10 if "_" in one.get_text() else 7  # an index is 0.7 times as high
        assert one.get_fontsize() >= least, one.get_text()


@every(DRAWINGS)
def test_no_arrow_of_a_drawing_runs_through_a_text_or_a_box(draw):
    figure = draw()
    (axis,) = figure.axes
    found = places(figure)
    boxes = [one.get_window_extent().padded(-2) for one in axis.patches if isinstance(one, FancyBboxPatch)]
    arrows = [one._path_original for one in axis.patches if isinstance(one, FancyArrowPatch)]
    assert len(arrows) > 15
    for arrow in arrows:
        ends = axis.transData.transform(arrow.vertices)
        line = np.concatenate([np.linspace(a, b, 200) for a, b in pairwise(ends)])
        for text, place in found:
            assert not any(place.contains(*point) for point in line), text
        assert not any(place.contains(*point) for place in boxes for point in line)


@every(DRAWINGS)
def test_a_text_of_a_drawing_lies_in_one_box_or_in_none(draw):
    figure = draw()
    (axis,) = figure.axes
    boxes = [one.get_window_extent() for one in axis.patches if isinstance(one, FancyBboxPatch)]
    for text, place in places(figure):
        for box in boxes:
            corners = [box.contains(x, y) for x in (place.x0, place.x1) for y in (place.y0, place.y1)]
            assert all(corners) or not box.overlaps(place), text


def test_the_drawing_names_what_runs_once_and_what_each_step_does():
    (axis,) = drawings_gla.schematic().axes
    written = set(texts(axis))
    assert {"$t = 1$", "$t = 2$", "$t = T$"} <= written
    assert {"$c_0$, $h_0$", "$y_1 = 0$", "$y_2 = p_1$", "$y_T = p_{T-1}$", "$z_1$", r"$\hat{z}$"} <= written
    assert texts(axis).count("LSTM") == 3
    assert texts(axis).count("local\nattention") == 3 and texts(axis).count("global\nattention") == 1


def test_only_the_local_attention_has_the_state_in_its_score():
    (axis,) = drawings_gla.attention_schematic().axes
    halves = {"a": set(), "b": set()}
    for text in axis.texts:
        halves["a" if text.get_position()[1] > 1.95 else "b"].add(text.get_text())
    assert {"$\\tanh(W_g a_1 + b_g)$", "$\\hat{\\alpha}_L$", "$\\hat{z}$"} <= halves["a"]
    assert {"$g(a_1, h_{t-1})$", "$\\beta_{tL}$", "$z_t$", "$h_{t-1}$"} <= halves["b"]
    assert not any("h_{t-1}" in text for text in halves["a"])


def test_enlarged_weights_are_cells_repeated_under_a_gaussian_filter():
    weights = WEIGHTS[0, 1]
    repeated = np.kron(weights, np.ones((64, 64)))
    expected = gaussian_filter(repeated, 64 * plots_gla.BLUR, mode="nearest", truncate=8)
    np.testing.assert_allclose(plots_gla._enlarge(weights, 192, 256), expected, atol=1e-4 * weights.max())


@pytest.mark.parametrize("size", [(20, 40), (7, 3), (1, 1)])
def test_enlarging_keeps_uniform_weights_uniform_at_any_size(size):
    np.testing.assert_allclose(plots_gla._enlarge(np.full((3, 4), 1 / 12), *size), 1 / 12)
    np.testing.assert_allclose(plots_gla._enlarge(np.ones((1, 1)), *size), 1)


def test_a_map_lies_over_the_grey_image_scaled_by_its_maximum():
    figure = FIGURES["attention"]()
    rows = np.array(figure.axes[:8]).reshape(2, 4)
    for row, maps in zip(rows, WEIGHTS, strict=True):
        for axis, weights in zip(row[1:], maps, strict=True):
            below, above = axis.images
            light = plots_gla._enlarge(weights, 20, 40)
            np.testing.assert_allclose(above.get_array(), light / light.max())
            assert above.get_clim() == (0, 1)
            assert above.get_extent() == below.get_extent() == [0, 40, 20, 0]
            grey = np.asarray(below.get_array())
            assert np.ptp(grey, axis=2).max() == 0 and grey.min() >= plots_gla.PALE
    np.testing.assert_allclose(rows[0, 1].images[1].get_array(), 1)  # uniform: one colour
    pixels = [row[0].images[0].get_array() for row in rows]
    np.testing.assert_array_equal(pixels[0], IMAGE)
    np.testing.assert_array_equal(pixels[1], np.asarray(PICTURE) / 255)


def test_the_grey_image_keeps_the_order_of_brightness():
    image = np.zeros((1, 3, 3))
    image[0, 1], image[0, 2] = (0, 1, 0), 1
    axis = plots_gla.attention_figure([image], WEIGHTS[:1, :1], ["global"], [[""]]).axes[1]
    dark, green, white = axis.images[0].get_array()[0, :, 0]
    assert (dark, white) == pytest.approx((plots_gla.PALE, 1))
    assert green == pytest.approx(plots_gla.PALE + (1 - plots_gla.PALE) * 0.587)


def test_below_each_map_stand_its_name_and_its_peak_over_uniform_weights():
    axes = FIGURES["attention"]().axes[:8]
    peaks = [f"peak {12 * maps.max():.1f}×" for maps in WEIGHTS.reshape(6, -1)]
    assert peaks[0] == "peak 1.0×"
    assert texts(axes[0]) == ["a, b"] and texts(axes[4]) == ["c"]
    for axis, name, peak in zip([*axes[1:4], *axes[5:]], chain(*NAMES), peaks, strict=True):
        assert texts(axis) == ([name, peak] if name else [peak])
    assert [title(axis) for axis in axes] == ["image", *TITLES, "", "", "", ""]


def test_a_long_name_or_caption_is_broken_and_gets_its_room():
    caption, name = "diningtable, pottedplant, tvmonitor, motorbike", "a dining table with chairs"
    draw = plots_gla.attention_figure
    figure = draw([IMAGE] * 2, WEIGHTS, TITLES, [["", name, ""], ["", "dog", ""]], captions=[caption, "dog"])
    first, _, second = figure.axes[0], *figure.axes[2:6:3]
    assert len(texts(first)) > 2 and " ".join(texts(first)) == caption
    assert " ".join(texts(figure.axes[2])[:-1]) == name
    found = places(figure)
    assert not any(a.overlaps(b) for i, (_, a) in enumerate(found) for _, b in found[:i])
    lowest = min(text.get_window_extent().y0 for text in first.texts)
    assert lowest > second.get_window_extent().y1


def test_pictures_keep_their_sides_and_do_not_touch():
    tall = np.zeros((60, 30, 3), np.uint8)
    figure = plots_gla.attention_figure([IMAGE, tall], WEIGHTS, TITLES, NAMES)
    figure.draw_without_rendering()
    found = [axis.get_window_extent() for axis in figure.axes[:8]]
    ratios = [place.height / place.width for place in found]
    assert ratios == pytest.approx([0.5] * 4 + [2] * 4)
    assert not any(a.overlaps(b) for i, a in enumerate(found) for b in found[:i])
    assert len({round(place.width, 6) for place in found}) == 1


def test_epochs_are_columns_and_maps_are_rows():
    axes = np.array(FIGURES["epochs"]().axes[:9]).reshape(3, 3)
    assert [title(axis) for axis in axes[0]] == ["image", "epoch 5", "epoch 10"]
    assert [texts(row[1])[-1] for row in axes] == TITLES
    for j, row in enumerate(axes):
        for i, axis in enumerate(row[1:]):
            light = plots_gla._enlarge(WEIGHTS[i, j], 20, 40)
            np.testing.assert_allclose(axis.images[1].get_array(), light / light.max())
            assert texts(axis)[0] == f"peak {12 * WEIGHTS[i, j].max():.1f}×"
    assert not axes[1, 0].images and not axes[2, 0].images


@every(PICTURES)
def test_the_key_has_the_colours_of_the_maps(draw):
    figure = draw()
    (key,) = figure.axes[-1].images
    over = figure.axes[1].images[1]
    assert (key.get_cmap(), key.get_alpha(), key.get_clim()) == (over.get_cmap(), over.get_alpha(), over.get_clim())
    assert key.get_array().min() == 0 and key.get_array().max() == 1
    assert [text.get_text() for text in figure.axes[-1].get_xticklabels()] == ["0", "highest"]
    words = " ".join(text.get_text() for text in figure.texts)
    assert words == "weight of a cell peak: the highest weight in a map, 1× where all are alike"


def test_weights_of_a_model_are_taken_as_they_are():
    weights = torch.rand(1, 2, 7, 7).flatten(2).softmax(2).unflatten(2, (7, 7))
    figure = plots_gla.attention_figure([PICTURE], weights, TITLES[:2], [["", "dog"]])
    assert texts(figure.axes[1]) == [f"peak {49 * weights[0, 0].max():.1f}×"]


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(images=[IMAGE]), r"weights have the shape \(2, 3, 3, 4\): give \(1, 3\), images and titles"),
        (dict(titles=TITLES[:2]), r"give \(2, 2\)"),
        (dict(weights=WEIGHTS[0]), r"shape \(3, 3, 4\)"),
        (dict(weights=2 * WEIGHTS), "sum to 1"),
        (dict(weights=WEIGHTS - 0.1 * (np.arange(12).reshape(3, 4) % 2 - 0.5)), "0 or more"),
        (dict(weights=np.full_like(WEIGHTS, np.nan)), "sum to 1"),
        (dict(names=NAMES[:1]), r"names come in rows of \[3\]: give 3 for each image"),
        (dict(names=[["", "dog"], ["", "cat"]]), "give 3"),
        (dict(captions=["a"]), "captions are 1: give one for each of the 2 images"),
        (dict(images=[IMAGE, IMAGE[..., 0]]), r"an image has the shape \(20, 40\)"),
        (dict(images=[IMAGE, 255 * IMAGE]), "outside 0 to 1"),
        (dict(images=[IMAGE, np.where(IMAGE > 0.5, np.nan, IMAGE)]), "outside 0 to 1"),
    ],
)
def test_what_does_not_fit_is_refused(change, message):
    given = dict(images=[IMAGE, PICTURE], weights=WEIGHTS, titles=TITLES, names=NAMES) | change
    with pytest.raises(InputError, match=message):
        plots_gla.attention_figure(**given)


def test_epochs_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match=r"give \(3, 3\), epochs and titles"):
        plots_gla.epochs_figure(IMAGE, WEIGHTS, [1, 2, 3], TITLES)


def test_entropies_are_means_with_their_range_below_a_line_for_uniform_weights():
    figure = FIGURES["entropy"]()
    (axis,) = figure.axes
    uniform = axis.lines[0]
    assert values(uniform) == [1, 1] and uniform.get_linestyle() == "--" and texts(axis) == ["uniform"]
    some, all_maps = axis.containers
    assert values(some.lines[0]) == pytest.approx([np.nan, 0.85, 0.55], nan_ok=True)
    assert values(all_maps.lines[0]) == pytest.approx([0.95, 0.7, 0.4])
    spans = np.array([part[:, 1] for part in all_maps.lines[2][0].get_segments()])
    np.testing.assert_allclose(spans, [[0.9, 1.0], [0.7, 0.7], [0.3, 0.5]])
    assert [text.get_text() for text in axis.get_xticklabels()] == TITLES
    assert np.abs(np.array(all_maps.lines[0].get_xdata()) - [0, 1, 2]).max() < 0.2
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["+L", "+L/G"]
    assert len({to_hex(one.lines[0].get_color()) for one in axis.containers}) == 2


def test_the_uniform_line_moves_and_stays_in_sight():
    (axis,) = plots_gla.entropy_figure({"a": [[0.2, 0.3, 0.1]]}, TITLES, uniform=0.5).axes
    assert values(axis.lines[0]) == [0.5, 0.5]
    assert axis.get_ylim()[0] < 0.1 and axis.get_ylim()[1] > 0.5


@pytest.mark.parametrize("given", [[[0.1, 0.2]], [0.1, 0.2, 0.3], np.zeros((0, 3))])
def test_entropies_of_another_number_of_maps_are_refused(given):
    with pytest.raises(InputError, match=r"entropies of 'a' have the shape .*: give \(runs, 3\)"):
        plots_gla.entropy_figure({"a": given}, TITLES)


def test_entropies_that_only_some_runs_have_are_refused():
    with pytest.raises(InputError, match="'a' are NaN in some runs only"):
        plots_gla.entropy_figure({"a": [[np.nan, 0.1, 0.1], [0.1, 0.1, 0.1]]}, TITLES)


def test_toy_curves_are_the_probabilities_and_look_by_kind():
    figure = FIGURES["toy"]()
    for axis, (name, curves) in zip(figure.axes, CURVES.items(), strict=True):
        assert title(axis) == name and axis.get_ylim()[0] <= 0 and axis.get_ylim()[1] >= 1
        assert [values(line) for line in axis.lines] == np.transpose(curves).tolist()
        looks = [(line.get_linestyle(), line.get_marker(), to_hex(line.get_color())) for line in axis.lines]
        assert looks == [("-", "o", BLUE), ("--", "", ORANGE), ("-", "o", BLUE)]
        assert axis.get_xlabel() == "step of gradient descent"
    assert figure.axes[0].get_ylabel() == "probability"


def test_the_band_lies_between_the_least_positive_and_the_greatest_negative():
    mended, literal = FIGURES["toy"]().axes
    (right, wrong), (never, always) = mended.collections, literal.collections
    cross = 1 / 4  # where 0.5 + 0.2 x meets 0.6 - 0.2 x, at 0.55
    assert bounds(right) == pytest.approx((cross, 1, 0.4, 0.7))
    assert bounds(wrong) == pytest.approx((0, cross, 0.5, 0.6))
    assert bounds(always) == pytest.approx((0, 1, 0.3, 0.8))
    assert not never.get_paths() or not len(never.get_paths()[0].vertices)
    assert wrong.get_hatch() and not right.get_hatch()


def bounds(band):
    points = Path.make_compound_path(*band.get_paths()).vertices
    return (*(f(points[:, 0]) for f in (np.min, np.max)), *(f(points[:, 1]) for f in (np.min, np.max)))


@pytest.mark.parametrize("positive", [[True, True, True], [False] * 3, [1, 0, 1], [[True, False, True]]])
def test_the_toy_has_classes_of_both_kinds(positive):
    with pytest.raises(InputError, match="positive: give one bool a class"):
        plots_gla.toy_margins(CURVES, positive)


def test_toy_curves_of_other_classes_are_refused():
    with pytest.raises(InputError, match=r"curves of 'mended' have the shape \(2, 3\): give \(steps, 2\)"):
        plots_gla.toy_margins(CURVES, [True, False])


def test_each_panel_has_the_steps_and_their_running_maximum():
    figure = FIGURES["steps"]()
    for axis, (name, low) in zip(figure.axes, (("+L", 50), ("+L/G", 62)), strict=True):
        assert title(axis) == name
        alone, maximum = axis.lines
        assert values(alone) == [75, 62, low] and values(maximum) == [75, 77, 78]
        assert [text.get_text() for text in axis.get_xticklabels()] == TITLES
        assert bounds(axis.collections[0]) == (0, 2, low if low < 60 else 60, 80)
        assert bounds(axis.collections[1]) == (0, 2, 70, 83)
        assert alone.get_marker() != maximum.get_marker() and alone.get_linestyle() != maximum.get_linestyle()
    first, second = figure.axes
    assert first.get_ylim() == second.get_ylim() and first.get_ylim()[0] < 50 and first.get_ylim()[1] > 83
    assert first.get_ylabel() == "mAP (%)"


@pytest.mark.parametrize(
    "given, message",
    [
        ({"alone": [[1.0, 2.0, 3.0]]}, r"series 'a' has \['alone'\]: give 'alone' and 'maximum'"),
        ({"alone": [[1.0, 2.0, 3.0]], "maximum": [[1.0, 2.0]]}, "maximum of 'a' have the shape"),
    ],
)
def test_steps_that_do_not_fit_are_refused(given, message):
    with pytest.raises(InputError, match=message):
        plots_gla.steps_figure({"a": given}, TITLES)
