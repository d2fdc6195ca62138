"""Annotated images and the maps in them: every pixel, map and plate where it belongs."""

import matplotlib
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mlic_core.models import build_model, build_trunk
from mlic_core.study.annotate import (
    COLORS,
    COLUMNS,
    GAP,
    LEAST,
    PANEL,
    TEXT,
    _fit,
    _font,
    maps_picture,
    pixel_boxes,
    place,
    regions_picture,
)
from mlic_core.study.heat import HeatMap, heat_maps

LABELS = ("person", "dog", "car", "cow", "sofa", "tv")
HEAD = round(1.6 * TEXT)  # of the titles


def rgb(color):
    return tuple(round(255 * one) for one in matplotlib.colors.to_rgb(color))


def gradient(width, height):
    """A grey image whose pixels differ."""
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    return Image.fromarray(((x + 2 * y) % 200 + 30).astype(np.uint8)).convert("RGB")


# Boxes


def test_boxes_in_pixels_are_the_smallest_that_hold_the_region():
    boxes = np.array([[0, 0, 1, 1], [0.1, 0.26, 0.19, 0.5], [0.3, 0.3, 0.3, 0.9], [1, 0, 1, 1]], np.float32)
    expected = [[0, 0, 100, 50], [10, 13, 19, 25], [30, 15, 30, 45], [100, 0, 100, 50]]
    np.testing.assert_array_equal(pixel_boxes(boxes, (100, 50)), expected)
    np.testing.assert_array_equal(pixel_boxes(np.array([[0.501, 0.01, 0.502, 0.03]]), (100, 50)), [[50, 0, 51, 2]])


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 1, width=32), min_size=4, max_size=4), st.integers(1, 5000), st.integers(1, 5000))
def test_boxes_in_pixels_lie_in_the_image_and_hold_the_region(edges, width, height):
    (x0, x1), (y0, y1) = sorted(edges[:2]), sorted(edges[2:])
    [(a0, b0, a1, b1)] = pixel_boxes(np.array([[x0, y0, x1, y1]], np.float32), (width, height))
    assert 0 <= a0 <= x0 * width + 2e-3 and x1 * width - 2e-3 <= a1 <= width
    assert 0 <= b0 <= y0 * height + 2e-3 and y1 * height - 2e-3 <= b1 <= height


def test_regions_are_drawn_on_the_image_at_its_own_size():
    image = gradient(640, 400)
    boxes = np.array([[40, 50, 300, 200], [310, 60, 620, 390], [5, 300, 5, 350], [10, 395, 300, 395]])
    picture = regions_picture(image, boxes, ["1 a 0.9", "2 b 0.8", "3 c 0.7", "4 d 0.6"])
    pixels, before = np.asarray(picture).astype(int), np.asarray(image)
    assert picture.size == (640, 400) and picture.mode == "RGB"
    for (x0, y0, x1, y1), color in zip(boxes[:2], COLORS, strict=False):
        middle = (x0 + x1) // 2, (y0 + y1) // 2
        for x, y in ((x0, middle[1]), (x1 - 1, middle[1]), (middle[0], y1 - 1), (x1 - 1, y0)):
            assert tuple(pixels[y, x]) == rgb(color)  # the outermost pixels of the box
        for x, y in ((x0 - 1, middle[1]), (x1, middle[1]), (middle[0], y1), middle):
            assert (pixels[y, x] == before[y, x]).all()
    assert (pixels[290:, :300] == before[290:, :300]).all()  # a box without an area leaves nothing
    assert (pixels[:, 630:] == before[:, 630:]).all()


@pytest.mark.parametrize(("size", "factor"), [((LEAST, 10), 1), ((10, LEAST), 1), ((199, 150), 3), ((1, 1), LEAST)])
def test_a_small_image_is_enlarged_by_a_whole_number(size, factor):
    width, height = size
    picture = regions_picture(gradient(*size), np.array([[0, 0, width, height]]), ["1 person 0.50"])
    assert picture.size == (factor * width, factor * height)
    corner = picture.getpixel((picture.width - 1, picture.height - 1))
    assert corner == rgb(COLORS[0])  # the box grows with it


def test_a_plate_sits_on_its_box_or_where_there_is_no_room_in_it():
    assert place((30, 50, 90, 99), (40, 12), (200, 100), []) == (30, 38, 70, 50)
    assert place((30, 12, 90, 99), (40, 12), (200, 100), []) == (30, 0, 70, 12)
    assert place((30, 11, 90, 99), (40, 12), (200, 100), []) == (30, 11, 70, 23)
    assert place((180, 50, 199, 99), (40, 12), (200, 100), []) == (160, 38, 200, 50)
    assert place((0, 0, 9, 9), (40, 12), (20, 100), []) == (0, 0, 40, 12)  # wider than the image


def test_plates_may_touch():
    taken = [(0, 38, 30, 50), (70, 38, 110, 50), (30, 26, 70, 38), (30, 50, 70, 62)]
    assert place((30, 50, 90, 99), (40, 12), (200, 100), taken) == (30, 38, 70, 50)


def test_plates_of_equal_boxes_lie_below_each_other_and_then_above():
    taken = []
    for _ in range(6):
        taken.append(place((20, 60, 90, 99), (40, 10), (200, 100), taken))
    assert [one[1] for one in taken] == [50, 60, 70, 80, 90, 40]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 250), st.integers(0, 250)), min_size=1, max_size=6))
def test_few_plates_never_overlap_and_stay_inside(corners):
    taken = []
    for x, y in corners:
        taken.append(place((x, y, 299, 299), (90, 20), (300, 300), taken))
    covered = np.zeros((300, 300), int)
    for x0, y0, x1, y1 in taken:
        assert 0 <= x0 < x1 <= 300 and 0 <= y0 < y1 <= 300 and (x1 - x0, y1 - y0) == (90, 20)
        covered[y0:y1, x0:x1] += 1
    assert covered.max() == 1


def test_words_are_drawn_on_their_plate():
    image = Image.new("RGB", (500, 300), (0, 90, 0))
    picture = np.asarray(regions_picture(image, np.array([[100, 100, 400, 280]]), ["1 Mäuse 0.50"])).astype(int)
    plate = picture[70:100, 100:260]
    assert (plate.min(2) > 240).sum() > 400 and (plate.max(2) < 30).sum() > 50  # white ground, black letters
    assert (picture[:60] == (0, 90, 0)).all() and (picture[110:270, 110:390] == (0, 90, 0)).all()


# The sheet of maps


def panel_at(sheet, place_, size):
    """A panel of the sheet: its pixels as integers."""
    across = max(size[0], PANEL * 2 // 3)
    x, y = GAP + place_ % COLUMNS * (across + GAP), GAP // 2 + place_ // COLUMNS * (size[1] + HEAD + GAP) + HEAD
    return np.asarray(sheet).astype(int)[y : y + size[1], x : x + size[0]]


def test_a_sheet_shows_the_image_then_each_map_over_its_grey():
    image = Image.effect_mandelbrot((PANEL, 130), (-2, -1, 1, 1), 60).convert("RGB")
    image.paste((200, 30, 60), (0, 0, 90, 130))
    levels = (0.0, 0.5, 1.0)
    maps = [HeatMap(f"map {level}", np.full((3, 4), level, np.float32), "all of it") for level in levels]
    sheet = maps_picture(image, maps)
    np.testing.assert_array_equal(panel_at(sheet, 0, image.size), np.asarray(image))
    grey = np.asarray(image.convert("L"))[..., None]
    for k, level in enumerate(levels):
        expected = 0.4 * grey + 0.6 * 255 * np.array(matplotlib.colormaps["cividis"](level)[:3])
        np.testing.assert_allclose(panel_at(sheet, 1 + k, image.size), expected, atol=1)


def test_a_map_brightens_the_place_that_it_weighs_and_its_box_is_outlined():
    weights = np.zeros((4, 4), np.float32)
    weights[1, 2] = 1
    box = np.array([0.5, 0.25, 0.75, 0.5], np.float32)
    image = Image.new("RGB", (PANEL, PANEL), (128, 128, 128))
    for corners, x in ((False, 0.625), (True, 2 / 3)):
        sheet = maps_picture(image, [HeatMap("a", weights, "b", corners), HeatMap("a", weights, "b", corners, box)])
        plain, boxed = (panel_at(sheet, k, image.size) for k in (1, 2))
        y, x_best = np.unravel_index(plain.sum(2).argmax(), plain.shape[:2])
        assert abs(x_best / PANEL - x) < 0.02 and abs(y / PANEL - (0.375 if not corners else 1 / 3)) < 0.02
        edge, outside = boxed[PANEL // 4, PANEL // 2 : PANEL * 3 // 4], boxed[: PANEL // 4 - 1]
        assert (edge == 255).all() and (outside == plain[: PANEL // 4 - 1]).all()


@pytest.mark.parametrize(("count", "rows"), [(1, 1), (COLUMNS - 1, 1), (COLUMNS, 2), (2 * COLUMNS, 3)])
def test_a_sheet_has_as_many_rows_as_it_needs(count, rows):
    maps = [HeatMap("dining table 0.91", np.ones((2, 2), np.float32), "x")] * count
    sheet = maps_picture(Image.new("RGB", (800, 400)), maps)
    assert sheet.height == rows * (PANEL // 2 + HEAD + GAP) + HEAD + GAP
    assert sheet.width == min(count + 1, COLUMNS) * (PANEL + GAP) + GAP
    last = panel_at(sheet, count, (PANEL, PANEL // 2))
    assert last.shape == (PANEL // 2, PANEL, 3) and (last == last[0, 0]).all()


def test_an_image_of_any_shape_has_a_sheet_and_no_maps_have_none():
    one = HeatMap("a title that is far too long for so narrow an image", np.ones((1, 1), np.float32), "x")
    for size in ((3, 700), (700, 3), (1, 1)):
        assert maps_picture(Image.new("L", size), [one]).width >= 2 * PANEL
    with pytest.raises(ValueError, match="a map or more"):
        maps_picture(Image.new("RGB", (4, 4)), [])


def test_a_title_is_cut_to_its_width():
    font = _font(TEXT)
    assert _fit("cow", font, 200) == "cow"
    cut = _fit("a dining table", font, 60)
    assert cut.endswith("…") and "a dining table".startswith(cut[:-1]) and len(cut) > 3
    assert font.getlength(cut) <= 60 < font.getlength("a dining table"[: len(cut)] + "…")


# Maps of each method, by hand


@pytest.fixture
def trunk():
    torch.manual_seed(0)
    return build_trunk("pictonet-s", "none")


def looked(method, trunk, **options):
    """A model on three images of noise: the model, the trunk's maps, its scores and its maps."""
    torch.manual_seed(1)
    model = build_model(method, len(LABELS), trunk, **options).eval()
    inputs = torch.randn(3, 3, 64, 48)
    with torch.no_grad():
        prediction, cells = model(inputs), trunk(inputs)
    scores = prediction.logits.sigmoid().numpy()
    return model, cells, prediction, scores, heat_maps(model, cells, prediction, scores, LABELS)


@pytest.mark.parametrize(("method", "options"), [("classifier", {}), ("linear", {"loss": "bce"})])
def test_class_maps_are_the_classifier_on_every_cell_of_the_best_classes(trunk, method, options):
    model, cells, _, scores, found = looked(method, trunk, **options)
    linear = model.head.linear if method == "classifier" else model.linear
    for i, maps in enumerate(found):
        best = np.argsort(-scores[i])[:4]
        assert [one.title for one in maps] == [f"{LABELS[c]} {scores[i, c]:.2f}" for c in best]
        for c, one in zip(best, maps, strict=True):
            expected = torch.einsum("d,dhw->hw", linear.weight[c], cells[i]) + linear.bias[c]
            np.testing.assert_allclose(one.weights, expected.sigmoid().detach(), atol=1e-5)
            assert one.corners and one.box is None


def test_class_maps_under_other_losses_are_shares_or_go_from_0_to_1(trunk):
    model, cells, _, scores, found = looked("linear", trunk, loss="softmax")
    logits = torch.einsum("cd,idhw->ichw", model.linear.weight, cells) + model.linear.bias[:, None, None]
    expected = logits[0].softmax(0).detach()[np.argsort(-scores[0])[:4]]
    np.testing.assert_allclose(np.stack([one.weights for one in found[0]]), expected, atol=1e-5)
    found = looked("linear", trunk, loss="warp")[-1]
    assert all(one.weights.min() == 0 and one.weights.max() == 1 for maps in found for one in maps)


def test_maps_of_mcar_are_those_its_boxes_were_cut_from(trunk):
    _, _, prediction, scores, found = looked("mcar", trunk, topN=2)
    for i, maps in enumerate(found):
        for k, one in enumerate(maps):
            c = int(prediction.region_labels[i, k])
            assert one.title == f"{k + 1} {LABELS[c]} {scores[i, c]:.2f}"
            np.testing.assert_array_equal(one.weights, prediction.maps[i, k])
            np.testing.assert_array_equal(one.box, prediction.regions[i, k])
    assert looked("mcar", trunk, topN=2, selection="corners")[-1] == [(), (), ()]
    assert looked("mcar", trunk, topN=0)[-1] == [(), (), ()]


def test_maps_of_global_local_attention_are_its_weights_by_their_highest(trunk):
    _, _, prediction, _, found = looked("gla", trunk, T=2, hidden=8, units=4)
    steps = prediction.steps.sigmoid()
    for i, maps in enumerate(found):
        best = steps[i].argmax(1)
        names = [f"step {t + 1}: {LABELS[best[t]]} {steps[i, t, best[t]]:.2f}" for t in range(2)]
        assert [one.title for one in maps] == ["global", *names]
        for one, weights in zip(maps, prediction.maps[i], strict=True):
            np.testing.assert_allclose(one.weights, weights / weights.max(), rtol=1e-5)
            assert not one.corners
    alone = looked("gla", trunk, T=2, hidden=8, units=4, start="zero")[-1]
    assert [one.title[:6] for one in alone[0]] == ["step 1", "step 2"]
    nothing = looked("gla", trunk, T=2, hidden=8, units=4, start="zero", attention="none")[-1]
    assert nothing == [(), (), ()]


def test_maps_of_cnn_rnn_are_the_evidence_for_the_labels_of_the_best_path(trunk):
    model, cells, prediction, scores, found = looked("cnn_rnn", trunk, hidden=8, embedding=8, length=3, min_length=2)
    for i, maps in enumerate(found):
        path = [c for c in prediction.paths[i, 0].tolist() if c >= 0]
        assert len(path) >= 2
        assert [one.title for one in maps] == [f"{k + 1} {LABELS[c]} {scores[i, c]:.2f}" for k, c in enumerate(path)]
        assert all(one.weights.shape == (4, 3) and one.weights.min() >= 0 for one in maps)
        assert all(one.weights.max() in (0, 1) for one in maps)
    assert len({one.weights.tobytes() for maps in found for one in maps}) > 2
    assert all(parameter.grad is None for parameter in model.parameters())
    empty = prediction._replace(paths=torch.full_like(prediction.paths, -1))
    assert heat_maps(model, cells, empty, scores, LABELS) == [(), (), ()]


def test_rdar_has_regions_and_no_maps(trunk):
    assert looked("rdar", trunk, K=2, hidden=8)[-1] == [(), (), ()]
