"""`mlic export`: the file computes what the model does, for any image and batch, or is not written."""

import json
import re
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mlic_core.errors import InputError
from mlic_core.models import backbones
from mlic_core.study import export as exporting
from mlic_core.study.export import compare, cummax, cummin, export, running_max, sample_images
from mlic_core.study.predict import model_of
from tests.untrained import LABELS, untrained_run

ROOT = Path(__file__).parents[1]
CASES = {
    "classifier": dict(method="classifier", pooling="gmp"),
    "mcar": dict(method="mcar", pooling="gwp", topN=4, tau=0.6),
    "official": dict(method="mcar", pooling="gap", topN=1, rule="official"),
}
BATCH = {"official": 3}  # the others take any number of images


def small_trunk():
    """Two convolutions: exporting takes its time by the number of layers."""
    layers = (nn.Conv2d(3, 8, 5, 4, 2), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, 2, 1))
    for layer in (layers[0], layers[3]):
        nn.init.normal_(layer.weight, std=0.3)  # maps that hardly vary would leave their boxes to rounding
    return backbones.Trunk(nn.Sequential(*layers), 8, 8, (0.4, 0.5, 0.6), (0.2, 0.25, 0.3))


@pytest.fixture(scope="module", autouse=True)
def _trunk():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(backbones.TRUNKS, "small", small_trunk)
        yield


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """An untrained run of each case, by name; one has a single class."""
    folder = tmp_path_factory.mktemp("runs")
    return {
        name: untrained_run(folder / name, LABELS[:1] if name == "official" else LABELS, trunk="small", **case)
        for name, case in CASES.items()
    }


@pytest.fixture(scope="module")
def files(runs, tmp_path_factory):
    """The exported file of each case, and the difference that was found."""
    import jaxtyping

    jaxtyping.config.update("jaxtyping_disable", True)  # a traced tensor has no shape to check
    folder = tmp_path_factory.mktemp("files")
    found = {}
    try:
        for name in CASES:
            path = folder / f"{name}.onnx"
            found[name] = path, export(runs[name], path, BATCH.get(name))
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)
    return found


def session(content):
    return onnxruntime.InferenceSession(str(content) if isinstance(content, Path) else content)


def scenes(count, size=32):
    """Smooth pictures in [0, 1], as photographs are and noise is not."""
    few = torch.rand(count, 3, 5, 5, generator=torch.Generator().manual_seed(1))
    return nn.functional.interpolate(few, (size, size), mode="bicubic").clamp(0, 1)


# What the file computes


@pytest.mark.parametrize("name", CASES)
def test_a_file_gives_the_outputs_of_the_model(runs, files, name):
    model, _ = model_of(runs[name])
    images = scenes(BATCH.get(name, 7))
    mean, std = (torch.tensor(value)[:, None, None] for value in ((0.4, 0.5, 0.6), (0.2, 0.25, 0.3)))
    with torch.no_grad():
        prediction = model((images - mean) / std)
    found = session(files[name][0]).run(None, {"images": images.numpy()})
    np.testing.assert_allclose(found[0], prediction.logits, atol=1e-4, rtol=1e-4)
    assert np.ptp(found[0], axis=0).min() > 0.01  # the images do differ to this model
    assert len(found) == (1 if name == "classifier" else 3)
    if name != "classifier":
        np.testing.assert_allclose(found[1], prediction.regions, atol=1e-6)
        np.testing.assert_array_equal(found[2], prediction.region_labels)
        assert len(np.unique(found[1], axis=0)) > 1


@pytest.mark.parametrize("name", ["classifier", "mcar"])
def test_a_file_takes_any_number_of_images_and_each_is_seen_alone(files, name):
    images = scenes(5).numpy()
    ready = session(files[name][0])
    together = ready.run(None, {"images": images})
    alone = [ready.run(None, {"images": one[None]}) for one in images]
    for k, values in enumerate(together):
        np.testing.assert_allclose(np.concatenate([one[k] for one in alone]), values, atol=1e-4, rtol=1e-4)


def test_a_file_of_fixed_batch_takes_that_number_alone(files):
    ready = session(files["official"][0])
    assert ready.get_inputs()[0].shape == [3, 3, 32, 32]
    with pytest.raises(Exception, match=r"[Gg]ot invalid dimensions|INVALID_ARGUMENT"):
        ready.run(None, {"images": scenes(2).numpy()})


def test_a_file_says_what_it_is(runs, files):
    ready = session(files["mcar"][0])
    about = ready.get_modelmeta().custom_metadata_map
    assert json.loads(about["labels"]) == list(LABELS)
    assert (about["size"], about["run"], about["method"]) == ("32", "mcar", "mcar")
    assert "[0, 1]" in about["input"] and "sigmoid" in about["output"]
    assert [(one.name, one.type) for one in ready.get_outputs()] == [
        ("logits", "tensor(float)"), ("regions", "tensor(float)"), ("region_labels", "tensor(int64)"),
    ]  # fmt: skip
    assert [one.shape[1:] for one in ready.get_outputs()] == [[5], [4, 4], [4]]


@pytest.mark.parametrize("name", CASES)
def test_a_file_names_no_place_of_this_machine(files, name):
    content = files[name][0].read_bytes()
    for word in (str(ROOT), sys.prefix, tempfile.gettempdir(), "site-packages", ".py", "mlic_core"):
        assert word.encode() not in content, word


def test_the_difference_is_small_and_exporting_leaves_the_model_as_it_is(runs, files):
    assert all(0 < found.difference < 1e-4 and found[1:] == (12, 0) for _, found in files.values())
    model, _ = model_of(runs["mcar"])
    exporting.Graph(model)
    assert "score_regions" not in vars(model)


# Running maxima, which ONNX does not have


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(-4, 4), min_size=1, max_size=19), st.integers(0, 1))
def test_running_extremes_are_those_of_torch(values, dim):
    rows = torch.tensor([values, values[::-1]])
    rows = rows if dim else rows.T.contiguous()
    for ours, theirs in ((cummax, torch.cummax), (cummin, torch.cummin)):
        expected = theirs(rows, dim)
        found = ours(rows, dim)
        assert torch.equal(found[0], expected.values) and torch.equal(found[1], expected.indices)


def test_a_running_maximum_by_hand():
    assert running_max(torch.tensor([[-3, -5, 2, 1, 4, 0, 4]])).tolist() == [[-3, -3, 2, 2, 4, 4, 4]]


# The check


def test_another_models_file_is_found_out_and_whatever_was_there_stays(runs, files, tmp_path, monkeypatch):
    content = files["classifier"][0].read_bytes()
    monkeypatch.setattr(exporting, "convert", lambda *_: content)
    torch.manual_seed(5)
    other = untrained_run(tmp_path / "other", trunk="small", method="classifier", pooling="gap")
    for name in ("new.onnx", "old.onnx"):
        (tmp_path / "old.onnx").write_text("before")
        with pytest.raises(InputError, match=r"logits differ from PyTorch's by \d.*; nothing was written"):
            export(other, tmp_path / name)
    assert (tmp_path / "old.onnx").read_text() == "before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["old.onnx", "other"]


@pytest.mark.parametrize(("shift", "found"), [(9e-5, True), (-9e-5, True), (1.2e-4, False), (-1.2e-4, False)])
def test_values_up_to_one_may_differ_by_a_ten_thousandth(shift, found):
    ours = np.array([[0.0, 0.0]], np.float32)
    theirs = ours + np.array([[0, shift]], np.float32)
    if found:
        assert exporting._difference("logits", ours, theirs) == pytest.approx(abs(shift), rel=1e-3)
    else:
        with pytest.raises(InputError, match=r"logits differ from PyTorch's by 0\.00012;"):
            exporting._difference("logits", ours, theirs)


def test_large_values_may_differ_in_proportion_and_shapes_not_at_all():
    assert exporting._difference("logits", np.float32([40]), np.float32([40.002])) == pytest.approx(0.002, rel=1e-2)
    with pytest.raises(InputError, match=r"by 0\.01"):
        exporting._difference("logits", np.float32([40]), np.float32([40.01]))
    with pytest.raises(InputError, match=re.escape("regions differ from PyTorch's in shape: (1,)")):
        exporting._difference("regions", np.float32([1, 1]), np.float32([1]))


@pytest.mark.parametrize("change", ["one image", "regions"])
def test_a_difference_in_any_image_and_output_counts(runs, files, monkeypatch, change):
    """Each image is compared, the first and the others, and the boxes as well as the logits."""
    model, _ = model_of(runs["mcar"])
    content, images = files["mcar"][0].read_bytes(), sample_images(32)
    assert compare(model, content, images).difference < 1e-4
    forward = model.forward

    def changed(inputs):
        found = forward(inputs)
        if change == "regions":
            return found._replace(regions=found.regions + 0.01)
        last = 1.0 * (torch.arange(len(inputs)) == 1)[:, None] * (len(inputs) == 2)  # twelve are 1, 3, 3, 3 and 2
        return found._replace(logits=found.logits + last)

    monkeypatch.setattr(model, "forward", changed)
    with pytest.raises(
        InputError, match=r"regions differ .* by 0\.01" if change == "regions" else "logits differ .* by 1;"
    ):
        compare(model, content, images)


@pytest.mark.parametrize(("pixels", "images", "fits"), [(1, 3, True), (-1, 3, True), (1, 4, False), (2, 1, False)])
def test_a_region_may_lie_a_pixel_elsewhere_in_few_images_which_then_do_not_count(
    runs, files, monkeypatch, pixels, images, fits
):
    model, _ = model_of(runs["mcar"])
    content, forward, left = files["mcar"][0].read_bytes(), model.forward, [images]

    def moved(inputs):
        found = forward(inputs)
        change = torch.zeros(len(inputs), 1, 1)
        change[: left[0]] = pixels / 32
        left[0] -= int((change != 0).sum())
        return found._replace(regions=found.regions + change, logits=found.logits + 100 * change[..., 0])

    monkeypatch.setattr(model, "forward", moved)
    if fits:
        found = compare(model, content, sample_images(32))
        assert found.difference < 1e-4 and found[1:] == (12, images)
    else:
        with pytest.raises(InputError, match=r"differ from PyTorch's (in 4 of 12 images|by 6\.[23]); nothing was"):
            compare(model, content, sample_images(32))


def test_what_is_compared_are_photographs_and_noise():
    images = sample_images(24)
    assert images.shape == (12, 3, 24, 24) and len(images.flatten(1).unique(dim=0)) == 12
    rough = (images[..., 1:].float() - images[..., :-1].float()).abs().mean((1, 2, 3))
    assert rough[:10].max() < 40 < 75 < rough[10:].min()  # 85 for noise
    top_left = nn.functional.interpolate(images[2:3].float(), (12, 12), mode="area")
    assert (top_left - images[0, :, :12, :12].float()).abs().mean() < 12  # a quarter is that of its photograph


# What can't be exported


@pytest.mark.parametrize(
    ("case", "message"),
    [
        (dict(method="gla", T=2, hidden=4, units=4), "gla can't be exported; choose a run of classifier or mcar"),
        (dict(method="linear"), "linear can't be exported"),
        (
            dict(method="mcar", topN=1, selection="random"),
            "with method.selection=random they don't; choose a run of top",
        ),
        (dict(method="mcar", topN=1, selection="corners"), "with method.selection=corners they don't"),
        (dict(method="mcar", topN=1, adaptive=0.2), "method.adaptive=0.2 the number of regions depends on the image"),
    ],
)
def test_what_no_fixed_graph_can_do_is_one_sentence(tmp_path, case, message):
    record = untrained_run(tmp_path / "run", trunk="small", **case)
    with pytest.raises(InputError) as error:
        export(record, tmp_path / "model.onnx")
    assert message in str(error.value) and "run: " in str(error.value) and "\n" not in str(error.value)
    assert not (tmp_path / "model.onnx").exists()


@pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime"])
def test_a_missing_package_is_named_with_what_installs_it(runs, call_mlic, tmp_path, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    result = call_mlic("export", "--run", runs["classifier"].folder, tmp_path / "model.onnx")
    assert (result.exit_code, result.stdout) == (2, "")
    command = "`pip install -c constraints.txt -e '.[export]'`"
    assert result.stderr == f"mlic: exporting needs the package {package}: {command} installs it\n"
    assert not (tmp_path / "model.onnx").exists()


def test_a_run_without_its_model_and_a_place_that_cannot_be_written_are_named(runs, files, tmp_path, monkeypatch):
    monkeypatch.setattr(exporting, "convert", lambda *_: files["classifier"][0].read_bytes())
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot write .*file.model\.onnx: .*; give another file"):
        export(runs["classifier"], tmp_path / "file/model.onnx")
    record = untrained_run(tmp_path / "run", trunk="small", method="classifier")
    (tmp_path / "run/model.safetensors").unlink()
    with pytest.raises(InputError, match="is stored without its model"):
        export(record, tmp_path / "model.onnx")


# The command


@pytest.mark.parametrize(("batch", "given"), [("dynamic", None), ("4", 4)])
def test_the_command_says_how_far_the_file_is_from_pytorch(runs, files, call_mlic, tmp_path, monkeypatch, batch, given):
    asked = []

    def kept(model, size, batch, about):
        asked.append((size, batch, about["run"]))
        return files["classifier"][0].read_bytes()

    monkeypatch.setattr(exporting, "convert", kept)
    monkeypatch.chdir(tmp_path)
    result = call_mlic("export", "--run", runs["classifier"].folder, "new/model.onnx", "--batch", batch)
    assert (result.exit_code, result.stderr) == (0, "")
    assert re.fullmatch(r"wrote new.model\.onnx: largest difference from PyTorch \d\.\de-\d\d\n", result.stdout)
    assert asked == [(32, given, "classifier")] and session(tmp_path / "new/model.onnx")


@pytest.mark.parametrize("batch", ["0", "-2", "many", "1.5", ""])
def test_a_batch_that_is_no_number_is_named(runs, call_mlic, tmp_path, batch):
    result = call_mlic("export", "--run", runs["classifier"].folder, tmp_path / "model.onnx", "--batch", batch)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == f"mlic: --batch {batch}: give a number of images, or dynamic\n"


def test_the_extra_is_part_of_what_the_tests_need():
    import tomllib

    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(extras["export"]) <= set(extras["test"]) and len(extras["export"]) == 3
    assert all(re.match(name, extra) for name, extra in zip(exporting.PACKAGES, extras["export"], strict=True))
