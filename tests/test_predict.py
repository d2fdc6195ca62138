"""`mlic predict` on tiny runs: what it prints is what the model says, whatever file the image comes in."""

import csv
import json
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from mlic_core.data.picto import PictoSpec, prepare
from mlic_core.errors import InputError
from mlic_core.images import prepare_images
from mlic_core.models import build_model, build_trunk
from mlic_core.study import predict
from mlic_core.study.cli import main
from mlic_core.study.predict import (
    LabelPath,
    Photos,
    Predicted,
    as_probabilities,
    describe,
    find_images,
    path_probabilities,
    predict_images,
)  # fmt: skip
from mlic_core.study.predicted_files import as_json, write_predictions
from mlic_core.study.record import read_record
from mlic_core.study.store import load_model
from tests.untrained import untrained_run

TINY = ["trunk=pictonet-s", "trunk.weights=none", "data.size=32", "recipe.epochs=1", "recipe.batch_size=8"]
METHODS = {
    "classifier": [], "mcar": ["method.topN=2"], "cnn_rnn": ["method.hidden=8", "method.length=6"],
    "linear": ["method.loss=softmax"], "warp": ["method=linear", "method.loss=warp"],
}  # fmt: skip


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "picto-voc"
    return prepare(folder, PictoSpec(train=16, val=6, test=8, side=64))


@pytest.fixture(scope="module")
def results(root, tmp_path_factory):
    """The folder of a finished run of each method, by name, in one folder of results."""
    folder, found = tmp_path_factory.mktemp("results"), {}
    for name, sets in METHODS.items():
        chosen = [f"data.root={root}", f"method={name}", *TINY, *sets]
        command = ["run", "--results", str(folder), *(word for text in chosen for word in ("--set", text))]
        result = CliRunner().invoke(main, command, catch_exceptions=False)
        assert result.exit_code == 0, result.stderr
        found[name] = folder / "own/runs" / result.stdout.split()[1]
    return found


@pytest.fixture
def mlic(tmp_path, monkeypatch):
    """Calls `mlic` in an empty folder and returns click's result."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        return CliRunner().invoke(main, [str(argument) for argument in arguments], catch_exceptions=False)

    return call


@pytest.fixture
def photo(root, tmp_path):
    """A test scene, as a user's file."""
    shutil.copy(root / "VOCdevkit/VOC2012/JPEGImages/test_000001.jpg", tmp_path / "photo.jpg")
    return tmp_path / "photo.jpg"


def left(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


# What is printed


@pytest.mark.parametrize("method", ["classifier", "mcar", "linear", "warp"])
def test_scores_are_those_of_the_run_on_its_own_scene(results, photo, method):
    record = read_record(results[method])
    labels, [found] = predict_images(record, [photo])
    stored = record.scores()
    row = stored["ids"].tolist().index("test_000001")
    expected = as_probabilities(stored["logits"][[row]], record.activation)[0]
    assert labels == tuple(stored["labels"].tolist())
    np.testing.assert_allclose(found.scores, expected, atol=1e-4)
    assert found.paths is None
    assert (found.regions is not None) == (method == "mcar")


def test_the_paths_of_cnn_rnn_are_those_of_the_run(results, photo):
    record = read_record(results["cnn_rnn"])
    labels, [found] = predict_images(record, [photo])
    stored = record.scores()
    row = stored["ids"].tolist().index("test_000001")
    expected = [tuple(labels[label] for label in path if label >= 0) for path in stored["paths"][row]]
    assert [path.labels for path in found.paths] == expected
    np.testing.assert_allclose(
        [path.probability for path in found.paths], np.exp(stored["path_log_probs"][row]), atol=1e-4
    )
    for path in found.paths:
        assert len(path.probabilities) == len(path.labels) + 1
        assert np.prod(path.probabilities) == pytest.approx(path.probability, rel=1e-4)


@pytest.mark.parametrize(("beam", "length", "min_length"), [(1, 3, 0), (5, 3, 0), (40, 4, 0), (6, 4, 2), (6, 2, 2)])
def test_the_probabilities_of_a_path_multiply_to_it(beam, length, min_length):
    torch.manual_seed(0)
    options = {"hidden": 8, "embedding": 5, "length": length, "beam": beam, "min_length": min_length}
    model = build_model("cnn_rnn", 4, build_trunk("pictonet-s", "none"), **options).eval()
    torch.nn.init.normal_(model.labels, std=3)
    features = torch.rand(6, model.trunk.out_channels) * 4
    with torch.no_grad():
        prediction = model.head(features)
        p = path_probabilities(model, features, prediction.paths)
    ended = prediction.path_log_probs > -torch.inf
    assert ended.any() and p.shape == (6, beam, length + 1)
    torch.testing.assert_close(p.prod(2)[ended], prediction.path_log_probs.exp()[ended], rtol=1e-4, atol=1e-7)
    full = (prediction.paths >= 0).sum(2) == length
    assert (p[..., -1][full] == 1).all()  # after the last label END is certain


def test_a_path_is_written_as_its_steps():
    paths = (LabelPath(("person", "dog"), (0.912, 0.43, 0.8), 0.3137), LabelPath((), (0.05,), 0.05))
    found = Predicted(Path("a/photo.jpg"), np.zeros(2), paths=paths)
    assert describe(found, ("person", "dog"), "softmax").splitlines() == [
        "a/photo.jpg", "  person 0.91 -> dog 0.43 -> END 0.80, path 0.31", "  END 0.05, path 0.05",
    ]  # fmt: skip


@pytest.mark.parametrize(("scores", "activation", "text"), [
    ([0.6, 0.2, 0.93, 0.5], "sigmoid", "car 0.93, person 0.60"),
    ([0.4, 0.2, 0.1, 0.5], "sigmoid", "no label above 0.5; best: cow 0.50, person 0.40, dog 0.20"),
    ([0.6, 0.2, 0.1, 0.1], "softmax", "best: person 0.60, dog 0.20, car 0.10"),
    ([-3.0, 2.5, 7.1, 1.0], "none", "best by score: car 7.10, dog 2.50, cow 1.00"),
])
def test_labels_are_written_by_rule(scores, activation, text):
    found = Predicted(Path("photo.jpg"), np.array(scores))
    assert describe(found, ("person", "dog", "car", "cow"), activation) == f"photo.jpg\n  {text}"


def test_the_command_prints_every_image_in_order_and_finds_the_run_by_name_or_folder(results, mlic, photo, tmp_path):
    shutil.copy(photo, tmp_path / "other.png")
    folder = results["cnn_rnn"]
    result = mlic("predict", "--run", folder, "other.png", photo)
    assert (result.exit_code, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert [line for line in lines if not line.startswith("  ")] == ["other.png", str(photo)]
    assert re.fullmatch(r"  (\w+ \d\.\d\d -> )*END \d\.\d\d, path \d\.\d\d", lines[1])
    assert lines[1] == lines[1 + len(lines) // 2]
    by_name = mlic("predict", "--run", folder.name[:8], "--results", folder.parents[2], "other.png", photo)
    assert by_name.stdout == result.stdout
    assert left(tmp_path) == [tmp_path / "other.png", photo]


# Images


def test_an_image_of_any_size_mode_and_orientation_is_read_as_in_training(root, photo, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    with Image.open(photo) as image:
        upright = image.convert("L")
    upright.rotate(90, expand=True).save(tmp_path / "turned.png", exif=exif)
    upright.save(tmp_path / "upright.png")
    Image.new("RGBA", (700, 3), (255, 0, 0, 128)).save(tmp_path / "thin.png")
    photos = Photos([tmp_path / f"{name}.png" for name in ("turned", "upright", "thin")], ("a",), 32)
    assert torch.equal(photos.read(0), photos.read(1))
    assert photos.read(2).shape == (3, 32, 32)


def test_more_images_than_a_batch_are_predicted_alike(results, mlic, photo, monkeypatch, tmp_path):
    monkeypatch.setattr("mlic_core.study.predict.BATCH", 2)
    record, model = read_record(results["classifier"]), load_model(results["classifier"])
    names = [tmp_path / f"{i}.png" for i in range(5)]
    for i, name in enumerate(names):
        Image.new("RGB", (50, 40 + i), (50 * i, 90, 10)).save(name)
    _, found = predict_images(record, names)
    images = prepare_images(torch.stack([Photos(names, ("a",), 32).read(i) for i in range(5)]), model.trunk)
    with torch.inference_mode():
        expected = as_probabilities(model(images).logits.numpy(), "sigmoid")
    np.testing.assert_allclose([one.scores for one in found], expected, atol=1e-4)


def test_a_folder_stands_for_the_images_in_it(photo, tmp_path):
    folder = tmp_path / "many"
    (folder / "within").mkdir(parents=True)
    for name in ("b.JPG", "a.png", "notes.txt", "within/c.jpg"):
        (folder / name).write_bytes(b"")
    assert find_images([photo, str(folder)]) == [photo, folder / "a.png", folder / "b.JPG"]


@pytest.mark.parametrize(("given", "message"), [
    (["nothing.jpg"], "nothing.jpg: no such file or folder"),
    (["empty"], "empty has no image in it: no file that ends in .jpg"),
    (["photo.jpg", "broken.jpg"], "cannot read image broken.jpg: "),
    (["photo.jpg", "short.jpg"], "cannot read image short.jpg: image file is truncated"),
])
def test_what_is_no_image_is_one_sentence_and_nothing_is_written(results, mlic, photo, tmp_path, given, message):
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.jpg").write_text("no image")
    (tmp_path / "short.jpg").write_bytes(photo.read_bytes()[:-300])
    before = left(tmp_path)
    result = mlic("predict", "--run", results["mcar"], *given, "--out", "out")
    assert (result.exit_code, result.stdout) == (2, "")
    assert re.fullmatch(r"mlic: [^\n]+\n", result.stderr) and message in result.stderr
    assert left(tmp_path) == before


# Files


def test_out_has_every_class_of_every_image(results, mlic, photo, tmp_path):
    shutil.copy(photo, tmp_path / "a, b.jpg")
    result = mlic("predict", "--run", results["classifier"], "photo.jpg", "a, b.jpg", "--out", "new/out")
    assert result.exit_code == 0
    assert result.stderr == "wrote predictions.csv, predictions.jsonl and 2 pictures into new/out\n"
    with open("new/out/predictions.csv", newline="") as file:
        rows = list(csv.reader(file))
    labels, [expected] = predict_images(read_record(results["classifier"]), [photo])
    assert rows[0] == ["image", "label", "score"]
    assert [row[:2] for row in rows[1:]] == [[name, label] for name in ("photo.jpg", "a, b.jpg") for label in labels]
    np.testing.assert_allclose([float(row[2]) for row in rows[1:]], np.tile(expected.scores, 2), rtol=1e-4)
    names = ["a, b_maps.png", "photo_maps.png", "predictions.csv", "predictions.jsonl"]
    assert [path.name for path in left(tmp_path / "new")] == names


def lines_of(folder):
    return [json.loads(line) for line in (folder / "predictions.jsonl").read_text("utf-8").splitlines()]


def test_of_a_method_with_regions_pictures_show_them_under_names_of_their_own(results, mlic, photo, tmp_path):
    (tmp_path / "more").mkdir()
    shutil.copy(photo, tmp_path / "more/Photo.png")
    result = mlic("predict", "--run", results["mcar"], "photo.jpg", "more", "--out", "out")
    names = ["Photo_maps_2.png", "Photo_regions_2.png", "photo_maps.png", "photo_regions.png", "predictions.csv",
             "predictions.jsonl"]  # fmt: skip
    assert result.exit_code == 0 and [path.name for path in left(tmp_path / "out")] == names
    first, second = lines_of(tmp_path / "out")
    assert first["pictures"] == ["photo_regions.png", "photo_maps.png"]
    assert second["pictures"] == ["Photo_regions_2.png", "Photo_maps_2.png"]  # case differs: one file on some systems


def test_a_line_of_json_holds_what_is_printed_and_what_the_csv_has(results, mlic, photo, tmp_path):
    for method in ("classifier", "mcar", "cnn_rnn", "linear", "warp"):
        result = mlic("predict", "--run", results[method], photo, "--out", tmp_path / method)
        assert result.exit_code == 0, result.stderr
        [line] = lines_of(tmp_path / method)
        with open(tmp_path / method / "predictions.csv", newline="") as file:
            rows = {row["label"]: float(row["score"]) for row in csv.DictReader(file)}
        assert (line["image"], line["width"], line["height"]) == (str(photo), 64, 64)
        assert line["scores"] == rows
        best = sorted(rows.values(), reverse=True)[:3]
        assert [one["score"] for one in line["top"]] == best
        assert all(rows[one["label"]] == one["score"] for one in line["top"])
        assert ("regions" in line, "paths" in line) == (method == "mcar", method == "cnn_rnn")
        if method == "cnn_rnn":
            assert line["labels"] == line["paths"][0]["labels"]
            assert len(line["paths"][0]["probabilities"]) == len(line["labels"]) + 1
        elif method in ("linear", "warp"):
            assert line["labels"] == [one["label"] for one in line["top"]]
        else:
            assert line["labels"] == [name for name, p in sorted(rows.items(), key=lambda one: -one[1]) if p > 0.5]
        if method == "mcar":
            assert [one["score"] for one in line["regions"]] == [rows[one["label"]] for one in line["regions"]]


@pytest.mark.parametrize(("size", "turned"), [((120, 40), False), ((120, 40), True), ((33, 200), 0), ((3, 300), 0)])
def test_boxes_lie_in_the_upright_image_of_any_shape_and_pictures_have_its_size(results, mlic, tmp_path, size, turned):
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    noise = np.random.default_rng(0).integers(256, size=(size[1], size[0]), dtype=np.uint8)
    name = "Straße am See, früh.png"
    Image.fromarray(noise).save(tmp_path / name, exif=exif if turned else None)  # grey
    result = mlic("predict", "--run", results["mcar"], name, "--out", "out")
    assert result.exit_code == 0, result.stderr
    [line] = lines_of(tmp_path / "out")
    width, height = size[::-1] if turned else size
    assert (line["image"], line["width"], line["height"]) == (name, width, height)
    assert name in (tmp_path / "out/predictions.jsonl").read_text("utf-8")  # as it is, not escaped
    _, [found] = predict_images(read_record(results["mcar"]), [tmp_path / name])
    assert len(line["regions"]) == 2
    for one, region in zip(line["regions"], found.regions, strict=True):
        x0, y0, x1, y1 = one["box"]
        assert 0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height
        assert all(isinstance(edge, int) for edge in one["box"])
        exact = region * [width, height, width, height]
        assert np.abs(np.array(one["box"]) - exact).max() <= 1
    with Image.open(tmp_path / "out" / line["pictures"][0]) as picture:
        factor = picture.width // width
        assert picture.size == (factor * width, factor * height) and factor == -(-400 // max(size))


def test_a_region_of_rdar_has_the_score_that_it_alone_gives_its_class(tmp_path, photo):
    for loss, probability in (("euclidean", torch.exp), ("bce", torch.sigmoid)):
        record = untrained_run(tmp_path / loss, method="rdar", K=3, hidden=8, loss=loss, start="xavier")
        _, [found] = predict_images(record, [photo], maps=True)
        model = load_model(record.folder)
        inputs = prepare_images(Photos([photo], ("a",), 32).read(0)[None], model.trunk)
        with torch.no_grad():
            steps = probability(model(inputs).steps[0])
        np.testing.assert_allclose(found.region_scores, steps.amax(1), rtol=1e-4)
        assert found.region_labels.tolist() == steps.argmax(1).tolist()
        assert found.maps == ()


@pytest.mark.parametrize("method", ["classifier", "linear", "cnn_rnn", "gla"])
def test_maps_cost_no_second_pass_through_the_trunk(tmp_path, photo, monkeypatch, method):
    record, calls = untrained_run(tmp_path / "run", method=method), []
    model, labels = predict.model_of(record)
    model.trunk.register_forward_hook(lambda trunk, given, cells: calls.append(len(cells)))
    monkeypatch.setattr(predict, "model_of", lambda _: (model, labels))
    _, [found] = predict_images(record, [photo], maps=True)
    assert calls == [1] and (found.maps or method == "cnn_rnn")  # whose path may be empty


def test_a_name_that_is_no_utf8_parses_back(tmp_path):
    name = "caf\udce9.jpg"  # as Python gives a name of other bytes
    Image.new("RGB", (20, 10)).save(tmp_path / "cafe.jpg")
    (tmp_path / "cafe.jpg").rename(tmp_path / name)
    found = Predicted(tmp_path / name, np.array([0.25, 0.75]))
    write_predictions([found], ("a", "b"), "sigmoid", tmp_path / "out")
    [line] = lines_of(tmp_path / "out")
    assert line["image"] == str(tmp_path / name)
    assert line["labels"] == ["b"] and line["scores"] == {"a": 0.25, "b": 0.75} and line["pictures"] == []


def test_an_object_by_hand():
    paths = (LabelPath(("dog",), (0.5, 0.25), 0.125), LabelPath((), (0.0625,), 0.0625))
    regions = {"regions": np.array([[0.1, 0.2, 0.55, 1.0]], np.float32), "region_labels": np.array([1]),
               "region_scores": np.array([0.123456789])}  # fmt: skip
    found = Predicted(Path("a/photo.jpg"), np.array([0.3, 0.2, 0.5, 0.1]), paths, **regions)
    assert as_json(found, ("cat", "dog", "car", "cow"), "softmax", (50, 20)) == {
        "image": str(Path("a/photo.jpg")), "width": 50, "height": 20, "labels": ["dog"],
        "top": [{"label": "car", "score": 0.5}, {"label": "cat", "score": 0.3}, {"label": "dog", "score": 0.2}],
        "scores": {"cat": 0.3, "dog": 0.2, "car": 0.5, "cow": 0.1},
        "regions": [{"box": [5, 4, 28, 20], "label": "dog", "score": 0.123457}],
        "paths": [{"labels": ["dog"], "probabilities": [0.5, 0.25], "probability": 0.125},
                  {"labels": [], "probabilities": [0.0625], "probability": 0.0625}],
    }  # fmt: skip
    alone = Predicted(Path("photo.jpg"), np.array([0.3, 0.2, 0.5, 0.1]))
    for activation, labels in (("sigmoid", []), ("softmax", ["car", "cat", "dog"]), ("none", ["car", "cat", "dog"])):
        content = as_json(alone, ("cat", "dog", "car", "cow"), activation, (5, 2))
        assert content["labels"] == labels and not {"regions", "paths"} & set(content)


def test_a_place_that_cannot_be_written_is_named(results, mlic, photo):
    result = mlic("predict", "--run", results["classifier"], photo, "--out", photo)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "cannot write" in result.stderr and "give another folder with --out" in result.stderr
    with pytest.raises(InputError, match="cannot write"):
        write_predictions([], (), "sigmoid", photo)


# Runs


def test_an_unknown_run_is_named(mlic, photo):
    result = mlic("predict", "--run", "abcdef", photo)
    assert result.exit_code == 2 and "no stored runs have a name that begins with 'abcdef'" in result.stderr


@pytest.mark.parametrize("method", ["cnn_rnn", "warp"])
def test_without_the_model_the_command_is_printed_that_makes_it(results, mlic, photo, tmp_path, method, monkeypatch):
    folder = tmp_path / "results/own/runs" / results[method].name
    shutil.copytree(results[method], folder)
    expected = mlic("predict", "--run", folder, photo).stdout
    (folder / "model.safetensors").unlink()
    result = mlic("predict", "--run", folder.name[:6], "--results", "results", photo)
    assert (result.exit_code, result.stdout) == (2, "")
    assert re.fullmatch(r"mlic: [^\n]+\n", result.stderr)
    (tmp_path / "home/data").mkdir(parents=True)
    (tmp_path / "home/data/published_results.csv").write_text("")
    monkeypatch.setenv("MLIC_HOME", str(tmp_path / "home"))  # the scenes are drawn there
    command = re.search(r"`mlic (run --eval-only .*)` trains it again", result.stderr)[1]
    trained = mlic(*shlex.split(command))
    assert trained.exit_code == 0, trained.stderr
    assert mlic("predict", "--run", folder, photo).stdout == expected


def test_the_command_names_the_profile_and_the_folder_of_real_data(results, mlic, photo, tmp_path):
    folder = tmp_path / "results/smoke/runs" / results["classifier"].name
    shutil.copytree(results["classifier"], folder)
    (folder / "model.safetensors").unlink()
    content = json.loads((folder / "run.json").read_text())
    kept = {key: value for key, value in content["config"].items() if not key.startswith("data.picto")}
    content["config"] = kept | {"data.name": "voc2012", "data.eval": "val"}
    del content["sha256"]
    (folder / "run.json").write_text(json.dumps(content))
    message = mlic("predict", "--run", folder, photo).stderr
    assert "`mlic run --eval-only --profile smoke --results " in message
    assert "--set data.name=voc2012" in message and "--set data.root=FOLDER`" in message and "data.eval" not in message
    shutil.move(tmp_path / "results/smoke/runs", tmp_path / "elsewhere")
    message = mlic("predict", "--run", tmp_path / "elsewhere" / folder.name, photo).stderr
    assert "is stored without its model; put its model.safetensors into" in message


def test_help_says_what_is_printed(mlic):
    text = mlic("predict", "--help").stdout
    assert "person 0.91 -> dog 0.43 -> END 0.80, path 0.31" in text and "image,label,score" in text
    fields = ("image", "width", "height", "labels", "top", "scores", "pictures", "regions", "paths", "box")
    assert all(re.search(rf"\b{name}\b", text.split("predictions.jsonl")[1]) for name in fields)
