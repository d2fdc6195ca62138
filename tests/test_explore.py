"""Exploring a trained model: what is drawn under other options is what a model built with them says of the image."""

import io
import json
import re
from datetime import UTC, datetime
from types import SimpleNamespace

import ipywidgets
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image
from torch.nn.functional import interpolate

from mlic_core import plots_explore
from mlic_core.data.base import MultiLabelDataset
from mlic_core.errors import InputError
from mlic_core.images import prepare_images
from mlic_core.models import METHODS, build_model, build_trunk
from mlic_core.paths import repository_root
from mlic_core.study import explore, explorer
from mlic_core.study.experiments import run_name
from mlic_core.study.notebook import Study
from mlic_core.study.profile import load_profile, profile_names

LABELS = ("ant", "bee", "cat", "dog", "elk", "fox")
SIZE = 48
OPTIONS = {
    "classifier": {"pooling": "gap"},
    "mcar": {"pooling": "gap", "topN": 3},
    "cnn_rnn": {"hidden": 8, "length": 4},
    "rdar": {"hidden": 16, "K": 3, "loss": "bce"},
    "gla": {"hidden": 16, "units": 8, "T": 2},
}


class Toy(MultiLabelDataset):
    """Two images, wider than high: blobs of colour."""

    def __init__(self, size=SIZE):
        targets = np.array([[1, 0, 0, 1, 0, -1], [0] * 6], np.int8)
        super().__init__(name="toy", split="test", labels=LABELS, targets=targets, ids=("a", "b"), size=size)

    def original(self, index):
        small = np.random.default_rng(index).integers(0, 255, (4, 6, 3), dtype=np.uint8)
        return Image.fromarray(small).resize((600, 400), Image.Resampling.BILINEAR)


def make(name, **changed):
    """A model with weights that are the same whatever the changed options: as `load_model` after another training."""
    torch.manual_seed(0)
    options = OPTIONS[name] | changed
    model = build_model(name, len(LABELS), build_trunk("pictonet-s", "none"), **options).eval()
    with torch.no_grad():
        for parameter in (one for key, one in model.named_parameters() if not key.startswith("trunk.")):
            parameter.mul_(3)  # scores that differ
        if name == "rdar":  # it begins with all regions in one place
            model.localise.weight.normal_(0, 0.3)
    return model


@pytest.fixture(scope="module")
def models():
    return {name: make(name) for name in OPTIONS}


@pytest.fixture(scope="module")
def seen(models):
    return {name: explore.look(model, Toy(), 0) for name, model in models.items()}


@pytest.fixture
def undrawn(monkeypatch):
    """No drawing, for tests of the scores: it takes most of the time."""
    for name in ("columns_figure", "paths_figure"):
        monkeypatch.setattr(explore, name, lambda *given: Figure((1, 1)))


def found_in(seen, **options):
    """The columns or paths that are drawn."""
    with torch.inference_mode(), explore._changed(seen.model, options):
        return explore._find(seen)


def said(model, name):
    """A model's own prediction and probabilities for the first image, through its forward."""
    with torch.inference_mode():
        found = model(prepare_images(Toy().read(0)[None], model.trunk))
    kind = getattr(METHODS[name], "activation", lambda options: "sigmoid")(OPTIONS[name])
    return found, (found.logits.sigmoid() if kind == "sigmoid" else found.logits.exp())[0].numpy()


# Options


CHANGES = [
    ("classifier", {}), ("classifier", {"pooling": "gmp"}), ("classifier", {"pooling": "gwp"}),
    ("mcar", {}), ("mcar", {"topN": 0}), ("mcar", {"topN": 1}), ("mcar", {"topN": 6}), ("mcar", {"tau": 0.0}),
    ("mcar", {"tau": 0.85}), ("mcar", {"selection": "bottom"}), ("mcar", {"pooling": "gmp"}),
    ("mcar", {"topN": 2, "tau": 0.2, "selection": "bottom", "pooling": "gwp"}),
    ("cnn_rnn", {}), ("cnn_rnn", {"beam": 1}), ("cnn_rnn", {"beam": 8}), ("cnn_rnn", {"min_length": 3}),
    ("rdar", {}), ("rdar", {"K": 1}), ("rdar", {"K": 2}), ("rdar", {"K": 9}),
    ("gla", {}), ("gla", {"T": 1}), ("gla", {"T": 8}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "options"), CHANGES, ids=[f"{name} {options}" for name, options in CHANGES])
def test_scores_are_those_of_a_model_that_was_built_with_the_options(undrawn, seen, name, options):
    other = make(name, **options)
    other.load_state_dict(seen[name].model.state_dict())
    np.testing.assert_allclose(explore.view(seen[name], **options).scores, said(other, name)[1], atol=1e-5)


def test_the_options_that_change_scores_do_change_them(undrawn, seen):
    changes = {"classifier": {"pooling": "gmp"}, "mcar": {"topN": 1}, "cnn_rnn": {"min_length": 4}, "rdar": {"K": 1}}
    for name, options in (changes | {"gla": {"T": 1}}).items():
        assert np.abs(explore.view(seen[name], **options).scores - seen[name].usual).max() > 1e-3, name


@pytest.mark.parametrize("name", OPTIONS)
def test_a_model_is_afterwards_as_it_was(undrawn, models, seen, name, monkeypatch):
    before, trained = said(models[name], name)[1], explore.options_of(models[name])
    changed = {option.name: option.values[0] for option in trained}
    explore.view(seen[name], **changed)
    monkeypatch.setattr(explore, "_find", lambda seen: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        explore.view(seen[name], **changed)
    assert explore.options_of(models[name]) == trained
    np.testing.assert_array_equal(said(models[name], name)[1], before)


@pytest.mark.parametrize("name", OPTIONS)
def test_the_usual_scores_are_those_as_trained_whatever_is_changed_later(undrawn, models, name):
    seen = explore.look(models[name], Toy(), 0)
    np.testing.assert_allclose(seen.usual, said(models[name], name)[1], atol=1e-5)
    np.testing.assert_array_equal(explore.view(seen).scores, seen.usual)


def test_random_regions_are_the_same_each_time_and_draw_nothing_from_other_random_numbers(seen):
    titles = []
    for seed, tau in ((1, 0.5), (2, 0.1)):
        torch.manual_seed(seed)
        titles.append([one.title for one in found_in(seen["mcar"], selection="random", tau=tau).columns])
        drawn = torch.rand(1)
        torch.manual_seed(seed)
        assert torch.rand(1) == drawn
    assert titles[0] == titles[1]


def test_a_value_from_training_is_among_those_to_choose_and_impossible_ones_are_not():
    options = {one.name: one for one in explore.options_of(make("mcar", tau=0.37))}
    assert options["tau"].values == tuple(sorted([*(i / 20 for i in range(21)), 0.37]))
    assert options["topN"].values == (0, 1, 2, 3, 4, 5, 6)
    small = build_model("mcar", 2, build_trunk("pictonet-s", "none"), topN=1)
    assert next(iter(explore.options_of(small))).values == (0, 1, 2)
    lengths = next(one for one in explore.options_of(make("cnn_rnn", length=2)) if one.name == "min_length")
    assert lengths.values == (0, 1, 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"topn": 2}, "'topn' is no option of MCAR here; did you mean 'topN'?"),
        ({"topN": 7}, "topN=7: choose one of 0, 1, 2, 3, 4, 5, 6"),
        ({"tau": 0.51}, "tau=0.51: choose one of 0.0, 0.05"),
        ({"selection": "corners"}, "selection='corners': choose one of top, random, bottom"),
    ],
)
def test_an_option_or_value_that_is_not_listed_is_refused(seen, options, message):
    with pytest.raises(InputError, match=re.escape(message)):
        explore.view(seen["mcar"], **options)


def test_models_whose_regions_come_from_elsewhere_are_refused():
    for changed in ({"selection": "corners"}, {"crop_from": "source"}, {"adaptive": 0.1}):
        with pytest.raises(InputError, match="this MCAR does not cut all regions of its maps from its input"):
            explore.look(make("mcar", **changed), Toy(), 0)
    for changed in ({"views": "five"}, {"proposals": "windows"}):
        with pytest.raises(InputError, match="this RDAR does not choose its regions in one view"):
            explore.look(make("rdar", **changed), Toy(), 0)
    linear = build_model("linear", 6, build_trunk("pictonet-s", "none"))
    with pytest.raises(InputError, match="class Linear can't be explored; choose one of Classifier, CNNRNN, RDAR"):
        explore.options_of(linear)


@pytest.mark.parametrize("index", [-1, 2])
def test_an_image_that_is_not_there_is_named(models, index):
    with pytest.raises(InputError, match=f"image {index}: toy test has the images 0 to 1"):
        explore.look(models["mcar"], Toy(), index)


# What is drawn


def test_mcar_shows_the_regions_of_its_prediction_and_what_the_network_sees_in_them(seen):
    found, _ = said(seen["mcar"].model, "mcar")
    columns = found_in(seen["mcar"]).columns
    for i, one in enumerate(columns):
        np.testing.assert_allclose(one.box, found.regions[0, i], atol=1e-6)
        np.testing.assert_allclose(one.weights, found.maps[0, i], atol=1e-6)
        mark = " ✓" if found.region_labels[0, i] in (0, 3) else ""
        assert one.title == f"{i + 1} {LABELS[found.region_labels[0, i]]}{mark}"
        assert [curve.max() for curve in one.profiles] == [1, 1] and one.tau == 0.5
        assert one.profiles[0].shape == one.profiles[1].shape == (SIZE,)
        x0, y0, x1, y1 = (round(float(edge) * SIZE) for edge in one.box)
        region = torch.from_numpy(np.array(one.picture))[y0:y1, x0:x1].permute(2, 0, 1)[None]
        enlarged = interpolate(region, (SIZE, SIZE), mode="bilinear", align_corners=True)
        np.testing.assert_allclose(one.cut, enlarged[0].permute(1, 2, 0), atol=1e-4)
        inside = np.flatnonzero(one.profiles[0] >= 0.5)
        assert inside.min() <= x0 or x1 <= inside.max() + 1
    np.testing.assert_allclose(columns[0].picture * 255, Toy().read(0).permute(1, 2, 0), atol=1e-3)


def test_below_a_region_of_mcar_stands_what_the_network_says_of_its_cut(seen):
    model = seen["mcar"].model
    for one in found_in(seen["mcar"]).columns:
        cut = torch.from_numpy(one.cut).permute(2, 0, 1)[None] * 255
        with torch.inference_mode():
            p = model.head(model.trunk(prepare_images(cut.round().to(torch.uint8), model.trunk))).sigmoid()[0]
        label, score = re.fullmatch(r"→ (\w+) (\d\.\d\d)", one.text).groups()
        assert float(score) == pytest.approx(float(p.max()), abs=0.02)
        assert p[LABELS.index(label)] > p.max() - 0.02


def test_without_regions_there_is_the_first_look_alone(seen):
    found = found_in(seen["mcar"], topN=0)
    assert list(found.series) == ["global"] and not found.columns
    assert list(found_in(seen["mcar"]).series) == ["global", "local", "both"]


def test_the_baseline_shows_the_maps_of_its_best_classes(seen):
    model, columns = seen["classifier"].model, found_in(seen["classifier"]).columns
    with torch.inference_mode():
        maps = model.head.class_maps(seen["classifier"].features)[0].sigmoid()
    best = np.argsort(-seen["classifier"].usual)[:4]
    assert [one.title.removeprefix("map of ").removesuffix(" ✓") for one in columns] == [LABELS[c] for c in best]
    assert [one.text for one in columns] == [f"{seen['classifier'].usual[c]:.2f}" for c in best]
    np.testing.assert_allclose(columns[1].weights, maps[best[1]], atol=1e-6)


def test_the_first_regions_of_rdar_do_not_depend_on_how_many_follow(seen):
    few, many = (found_in(seen["rdar"], K=K).columns for K in (2, 9))
    assert (len(few), len(many)) == (2, 9)
    for a, b in zip(few, many, strict=False):
        np.testing.assert_array_equal(a.box, b.box)
        assert (a.title, a.text) == (b.title, b.text)


def test_rdar_shows_each_step_s_region_as_it_is_sampled(seen):
    found, _ = said(seen["rdar"].model, "rdar")
    for k, one in enumerate(found_in(seen["rdar"]).columns):
        np.testing.assert_allclose(one.box, found.regions[0, k], atol=1e-6)
        best = found.steps[0, k].sigmoid().max()
        assert one.text == f"{LABELS[found.steps[0, k].argmax()]}\n{best:.2f}"
        (s_x, s_y, t_x, t_y), middle = found.transforms[0, k].tolist(), (SIZE - 1) / 2
        pixels = [round((t + s / SIZE + 1) * SIZE / 2 - 0.5) for s, t in ((s_x, t_x), (s_y, t_y))]
        if all(2 < place < SIZE - 3 for place in pixels):  # the middle of the cut lies near the region's centre
            near = one.picture[pixels[1] - 2 : pixels[1] + 3, pixels[0] - 2 : pixels[0] + 3]
            cut = one.cut[int(middle) + 1, int(middle) + 1]
            assert (cut >= near.min((0, 1)) - 1e-4).all() and (cut <= near.max((0, 1)) + 1e-4).all()


def test_under_the_euclidean_loss_probabilities_of_rdar_are_shared():
    seen = explore.look(make("rdar", loss="euclidean"), Toy(), 0)
    assert found_in(seen).series["maximum over the regions"].sum() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    ("options", "titles"),
    [
        ({}, ["global", "step 1", "step 2"]),
        ({"start": "zero"}, ["step 1", "step 2"]),
        ({"attention": "none"}, ["global"]),
        ({"attention": "none", "start": "zero"}, []),
    ],
)
def test_gla_shows_the_maps_that_it_has(options, titles):
    model = make("gla", **options)
    columns = found_in(explore.look(model, Toy(), 0)).columns
    assert [one.title for one in columns] == titles
    found, _ = said(model, "gla")
    for i, one in enumerate(columns):
        weights = found.maps[0, i].numpy()
        np.testing.assert_allclose(one.weights, weights / weights.max(), atol=1e-5)
        lines = one.text.split("\n")
        assert lines[0] == f"peak {weights.max() * weights.size:.1f}×" and not one.corners
        if one.title.startswith("step"):
            step = found.steps[0, int(one.title[-1]) - 1].sigmoid()
            assert lines[1:] == [LABELS[step.argmax()], f"{step.max():.2f}"]


def test_the_paths_of_cnn_rnn_are_those_of_its_search_and_their_steps_multiply_to_them(seen):
    found, _ = said(seen["cnn_rnn"].model, "cnn_rnn")
    rows = found_in(seen["cnn_rnn"]).paths
    expected = [[LABELS[label] for label in path if label >= 0] for path in found.paths[0].tolist()]
    kept = (found.path_log_probs[0] > -torch.inf).tolist()
    assert [row.labels for row in rows] == [path for path, there in zip(expected, kept, strict=True) if there]
    for row in rows:
        assert len(row.probabilities) == len(row.labels) + 1
        assert np.prod(row.probabilities) == pytest.approx(row.probability, rel=1e-4)


def test_bars_show_what_is_present_and_the_best_in_the_order_as_trained(seen, monkeypatch):
    monkeypatch.setattr(explore, "SHOWN", 4)
    scores, one = np.array([0.1, 0.2, 0.3, 0.0, 0.9, 0.8]), seen["mcar"]
    one = one._replace(usual=np.array([0.0, 0.7, 0.1, 0.2, 0.3, 0.4]))  # present: 0 and 3
    assert explore._shown(scores, one) == [5, 4, 3, 0]
    assert explore._shown(scores[::-1].copy(), one) == [1, 5, 3, 0]


def test_the_best_labels_are_written_with_their_scores():
    assert explore.best_labels(np.array([0.25, 0.5, 0.25]), ("a", "b", "c"), 2) == "b 0.50, a 0.25"


@pytest.mark.parametrize("corners", [True, False])
def test_maps_are_enlarged_bilinearly_over_the_picture(corners):
    rng = np.random.default_rng(0)
    weights, picture = rng.random((3, 5)), np.zeros((12, 20, 3))
    large = interpolate(torch.from_numpy(weights)[None, None], (12, 20), mode="bilinear", align_corners=corners)
    expected = plots_explore.VEIL * plots_explore.plt.get_cmap("cividis")(large[0, 0].numpy())[..., :3]
    np.testing.assert_allclose(plots_explore.over(picture, weights, corners=corners), expected, atol=0.01)
    white = plots_explore.over(np.ones((4, 4, 3)), np.ones((2, 2)), corners=corners)
    np.testing.assert_allclose(white[0, 0], 0.4 + 0.6 * np.array(plots_explore.plt.get_cmap("cividis")(1.0)[:3]))


BARS = plots_explore.Bars(["ant", "bee"], {"first": [0.1, 0.2], "answer": [0.3, 0.9]}, [0.4, 0.5])


def column(**changed):
    values = {"title": "t", "text": "a\nb", "picture": np.zeros((8, 8, 3)), "box": [0.25, 0.5, 0.75, 1.0]}
    return plots_explore.Column(**values | changed)


def test_bars_have_the_scores_and_a_line_for_those_as_trained():
    _, axis = plots_explore.columns_figure(np.zeros((4, 8, 3)), [], BARS).axes
    assert [bar.get_height() for bar in axis.patches] == [0.1, 0.2, 0.3, 0.9]
    assert [line.get_ydata().tolist() for line in axis.lines] == [[0.4, 0.4], [0.5, 0.5]]
    assert [text.get_text() for text in axis.get_xticklabels()] == ["ant", "bee"]
    assert [text.get_text() for text in axis.get_legend().get_texts()] == ["answer as trained", "first", "answer"]


def test_a_box_lies_at_its_place_on_the_image_and_on_its_column():
    canvas, _ = plots_explore.columns_figure(np.zeros((4, 8, 3)), [column()], BARS).axes
    first, second = (patch for patch in canvas.patches if isinstance(patch, Rectangle))
    left, top, edge = plots_explore.LEFT, plots_explore.TOP, plots_explore.EDGE  # the image is half as high as wide
    assert first.get_bbox().extents == pytest.approx(
        [left + edge / 4, top + edge / 4, left + 3 * edge / 4, top + edge / 2]
    )
    side, x = plots_explore.LARGEST, plots_explore.FIRST
    assert second.get_bbox().extents == pytest.approx([x + side / 4, top + side / 2, x + 3 * side / 4, top + side])
    assert [text.get_text() for text in canvas.texts] == ["image", "1", "t", "a", "b"]


def test_profiles_run_over_the_picture_with_their_interval_and_threshold():
    curves = np.linspace(0, 1, 8), np.linspace(1, 0, 4)
    canvas, _ = plots_explore.columns_figure(np.zeros((8, 8, 3)), [column(profiles=curves, tau=0.5)], BARS).axes
    side, x, y = plots_explore.LARGEST, plots_explore.FIRST, plots_explore.TOP + plots_explore.STRIP
    depth = plots_explore.STRIP - 0.04
    dashed, upright, across, down = canvas.lines
    assert dashed.get_ydata() == pytest.approx([y - depth / 2] * 2)
    assert upright.get_xdata() == pytest.approx([x + side + depth / 2] * 2)
    assert across.get_ydata() == pytest.approx(y - depth * curves[0])
    assert across.get_xdata() == pytest.approx(x + side * (np.arange(8) + 0.5) / 8)
    assert down.get_xdata() == pytest.approx(x + side + depth * curves[1])
    assert down.get_ydata() == pytest.approx(y + side * (np.arange(4) + 0.5) / 4)
    above, right = canvas.patches[1:3]
    assert above.get_bbox().extents == pytest.approx([x + side / 4, y - depth, x + 3 * side / 4, y])
    assert right.get_bbox().extents == pytest.approx([x + side, y + side / 2, x + side + depth, y + side])


@pytest.mark.parametrize("count", [1, 6, 9])
def test_all_columns_and_their_texts_lie_on_the_canvas(count):
    columns = [column(profiles=(np.ones(8), np.ones(8)), cut=np.zeros((8, 8, 3)))] * count
    figure = plots_explore.columns_figure(np.zeros((8, 8, 3)), columns, BARS)
    canvas, bars = figure.axes
    edges = np.array([image.get_extent() for image in canvas.images])
    width, height = figure.get_size_inches()
    assert len(edges) == 1 + 2 * count and (edges >= 0).all() and edges[:, 1].max() <= width
    lowest = max(edges[:, 2].max(), *(text.get_position()[1] for text in canvas.texts))
    assert lowest < height * (1 - bars.get_position().y1) - 0.1
    assert all(
        a[1] <= b[0] or a[0] >= b[1] or a[2] <= b[3] or a[3] >= b[2] for i, a in enumerate(edges) for b in edges[:i]
    )


def test_paths_are_drawn_with_their_labels_and_what_is_too_long_is_cut():
    paths = [
        plots_explore.PathRow(("ant", "bee"), (0.9, 0.5, 0.8), 0.36),
        plots_explore.PathRow(("x" * 12,) * 9, (1,) * 10, 1),
    ]
    canvas, _ = plots_explore.paths_figure(np.zeros((8, 8, 3)), paths, BARS).axes
    texts = [text.get_text() for text in canvas.texts]
    assert texts[3:7] == ["ant 0.90", "bee 0.50", "END 0.80", "0.36"]
    assert texts[-2:] == ["…", "1.00"]
    widths = [patch.get_width() for patch in canvas.patches if isinstance(patch, Rectangle)]
    assert widths[1] == pytest.approx(0.36 * widths[0]) and widths[3] == widths[2] == widths[0]
    assert all(text.get_position()[0] < plots_explore.WIDTH for text in canvas.texts)


# Controls


@pytest.fixture
def controls(models, undrawn):
    return explorer.Explorer(models, dict.fromkeys(models, Toy()))


def png(color=(250, 10, 10), size=(30, 20)):
    buffer = io.BytesIO()
    Image.new("RGB", size, color).save(buffer, "png")
    return buffer.getvalue()


def upload(controls, name, content):
    controls.file.value = ({"name": name, "type": "image/png", "size": len(content), "content": memoryview(content),
                            "last_modified": datetime.now(UTC)},)  # fmt: skip


def test_there_is_a_control_for_each_option_that_stands_at_its_trained_value(controls, models):
    for name in models:
        controls.method.value = name
        found = {option.name: (option.values, value) for option, value in explore.options_of(models[name]).items()}
        assert {key: slider.value for key, slider in controls.sliders.items()} == {k: v for k, (_, v) in found.items()}
        for key, slider in controls.sliders.items():
            assert slider.description == key and [*dict(slider._options_full).values()] == list(found[key][0])
        assert len(controls.options.children) == len(found)


def test_numbers_have_a_slider_that_acts_when_it_is_let_go_and_words_a_list(controls):
    controls.method.value = "mcar"
    assert type(controls.sliders["tau"]) is ipywidgets.SelectionSlider and not controls.sliders["tau"].continuous_update
    assert type(controls.sliders["selection"]) is ipywidgets.Dropdown
    assert "trained with 3" in controls.options.children[0].children[1].value


def test_a_slider_changes_the_picture_and_what_is_said_of_it(models):
    controls = explorer.Explorer(models, dict.fromkeys(models, Toy()))
    controls.method.value = "mcar"
    before = controls.picture.value
    controls.sliders["topN"].value = 1
    after = controls.picture.value
    assert picture_of(before) != picture_of(after)
    expected = explore.view(explore.look(models["mcar"], Toy(), 0), topN=1).scores
    assert f"mcar: {explore.best_labels(expected, LABELS)}; as trained: " in text_of(after)
    controls.sliders["topN"].value = 3
    assert controls.picture.value == before


def picture_of(html):
    return re.search(r'src="data:image/png;base64,([^"]+)"', html)[1]


def text_of(html):
    alt, caption = re.search(r'<img alt="([^"]*)"', html)[1], re.search(r"<figcaption>(.*)</figcaption>", html)[1]
    assert alt == caption
    return alt


def test_a_number_or_a_file_chooses_the_image_and_the_last_choice_counts(controls):
    assert controls.seen.truth.any() and controls.number.max == 1
    controls.number.value = 1
    np.testing.assert_allclose(controls.seen.pixels[0] * 255, Toy().read(1), atol=1e-3)
    upload(controls, "red.png", png())
    assert type(controls.seen.model) is METHODS["classifier"] and controls.seen.original.shape == (20, 30, 3)
    controls.method.value = "gla"
    assert (
        type(controls.seen.model) is METHODS["gla"]
        and controls.seen.original.shape == (20, 30, 3)
        and controls.seen.original[0, 0, 0] == pytest.approx(250 / 255)
    )
    assert not controls.seen.truth.any()
    controls.number.value = 0
    assert controls.given is None and controls.seen.truth.any()


@pytest.mark.parametrize("content", [b"no image", png(size=(300, 200))[:150], b""], ids=["text", "cut", "empty"])
def test_a_file_that_is_no_image_is_one_sentence_and_the_image_stays(controls, content):
    upload(controls, "<b>.png", content)
    assert re.fullmatch(r"<p>cannot read image &lt;b&gt;\.png: [^\n]+; leave it out</p>", controls.picture.value)
    assert "tmp" not in controls.picture.value and controls.given is None
    controls.sliders["pooling"].value = "gmp"
    assert "<img" in controls.picture.value


def test_an_upload_is_upright_and_of_eight_bits():
    exif, buffer = Image.Exif(), io.BytesIO()
    exif[0x0112] = 6
    Image.new("L", (30, 20)).save(buffer, "jpeg", exif=exif)
    found = explorer.decode("a.jpg", buffer.getvalue())
    assert (found.mode, found.size) == ("RGB", (20, 30))
    buffer = io.BytesIO()
    Image.fromarray(np.full((4, 4), 9000, np.uint16)).save(buffer, "png")
    with pytest.raises(InputError, match=r"^cannot read image deep\.png: it has more than 8 bits a pixel"):
        explorer.decode("deep.png", buffer.getvalue())


def test_a_test_image_that_is_broken_is_one_sentence(controls):
    class Broken(Toy):
        def original(self, index):
            raise InputError("cannot read image x<y: cut short")

    controls.datasets = dict.fromkeys(controls.models, Broken())
    controls.number.value = 1
    assert controls.picture.value == "<p>cannot read image x&lt;y: cut short</p>"


@pytest.mark.parametrize(
    ("parent", "answer"),
    [
        ({"content": {"allow_stdin": True}}, True),
        ({"content": {"allow_stdin": False}}, False),
        ({"content": {}}, False),
        ({}, False),
    ],
)
def test_only_a_front_end_that_could_answer_has_someone_at_it(monkeypatch, controls, capsys, parent, answer):
    shown = []
    monkeypatch.setattr(explorer, "get_ipython", lambda: SimpleNamespace(get_parent=lambda: parent))
    monkeypatch.setattr(explorer, "display", shown.append)
    assert explorer.has_front_end() is answer
    explorer.show(controls)
    assert shown == [controls.box] * answer
    assert capsys.readouterr().out == ("" if answer else f"{explorer.NOBODY}\n")


def test_outside_of_jupyter_there_is_no_front_end(monkeypatch):
    assert explorer.has_front_end() is False
    monkeypatch.setattr(explorer, "get_ipython", lambda: SimpleNamespace())  # IPython in a terminal
    assert explorer.has_front_end() is False


# The study


def test_the_runs_are_those_that_the_other_notebooks_trained():
    stored = repository_root() / "results/study/runs"
    found = {name: stored / run_name(one) / "run.json" for name, one in explorer.experiments(Study("study")).items()}
    records = {name: json.loads(path.read_text()) for name, path in found.items()}
    named = {name: record["config"]["method.name"] for name, record in records.items()}
    expected = {"MCAR": "mcar", "baseline": "classifier", "CNN-RNN": "cnn_rnn", "RDAR": "rdar", "RDAR with BCE": "rdar"}
    assert named == expected | {"global/local attention": "gla"}
    assert {record["config"]["seed"] for record in records.values()} == {0}


@pytest.mark.parametrize("profile", [name for name in profile_names() if load_profile(name).notebooks is None])
def test_every_setting_of_the_static_figures_can_be_chosen_with_the_controls(profile):
    kinds = {name: METHODS[one.method.name] for name, one in explorer.experiments(Study(profile)).items()}
    for name, key, value in load_profile(profile).sweeps["explore"]:
        options = {option.name: option.values for option in explore.METHODS[kinds[name]].options}
        assert value in options[key]
