"""A released checkpoint of MCAR gives the model it was saved from, and nothing in it is run."""

import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file
from torch import nn

from mlic_core.data.picto import PictoSpec, prepare
from mlic_core.data.picto_coco import CATEGORIES
from mlic_core.data.voc import LABELS as VOC
from mlic_core.errors import InputError
from mlic_core.models import build_model, build_trunk
from mlic_core.study import checkpoints
from mlic_core.study.checkpoints import COCO, import_mcar, released_names, score_folder
from mlic_core.study.cli import main
from mlic_core.study.record import read_record
from mlic_core.study.store import load_model, score, stored_labels

KINDS = ["mobilenet_v2", "resnet50", "resnet101"]
REAL = Path(__file__).resolve().parents[2] / "shared/real/COCO_Tiny/annotations/instances_val2017.json"
OPTIONS = {"topN": 4, "tau": 0.5, "rule": "official"}


def original(kind, classes=20, pooling="gap"):
    """A model of ours whose batch norms are no identities, so that each entry matters."""
    torch.manual_seed(0)
    model = build_model("mcar", classes, build_trunk(kind), pooling=pooling, **OPTIONS).eval()
    for key, value in model.state_dict().items():
        if value.is_floating_point() and value.ndim == 1:
            value.uniform_(0.8, 1.2) if key.endswith(("weight", "running_var")) else value.normal_(0, 0.1)
    model.head.linear.weight.data.normal_(0, 0.05)
    return model


def released_key(key):
    """Our key as the authors' files have it."""
    if key.startswith("head.linear."):
        return key.replace("head.linear", "convclass")
    key = key.removeprefix("trunk.")
    if ".18." in key and "conv" not in key:  # MobileNet-v2's last convolution
        return key.replace("features.18.", "features.1.")
    block = re.fullmatch(r"features\.(\d+)\.conv\.(\d)(?:\.(\d))?\.(\w+)", key)
    if block:  # convolution, batch norm and ReLU6 each take a place, where torchvision puts the three into one
        i, place, inner, entry = block.groups()
        flat = 3 * int(place) + int(inner) if inner else int(place) + (2 if i == "1" else 4)
        return f"features.0.{i}.conv.{flat}.{entry}"
    return f"features.0.{key.removeprefix('features.')}" if mobile(key) else key


def mobile(key):
    return re.match(r"features\.0\.\d\.", key)


def released(model):
    state = {released_key(key): value for key, value in model.state_dict().items()}
    return state | {"convclass.weight": state["convclass.weight"][..., None, None]}


def save(path, state, prefix="", **how):
    state = {prefix + key: value for key, value in state.items()}
    torch.save({"epoch": 60, "arch": "mcar", "state_dict": state, "best_score": torch.tensor(94.8)}, path, **how)
    return path


def hollow(kind, classes=20):
    """A checkpoint of the right keys and shapes that takes no space: every tensor repeats one zero."""
    with torch.device("meta"):
        model = build_model("mcar", classes, build_trunk(kind), **OPTIONS)
    state = released(model)
    return {key: torch.zeros((), dtype=value.dtype).expand(value.shape) for key, value in state.items()}


@pytest.fixture(scope="module")
def images():
    return torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(3))


@pytest.fixture(scope="module")
def mobilenet():
    return original("mobilenet_v2")


@pytest.fixture
def file(tmp_path, mobilenet):
    return save(tmp_path / "model_best_91.3.pth.tar", released(mobilenet))


@pytest.fixture
def mlic(tmp_path, monkeypatch):
    """Calls `mlic` in an empty folder and returns click's result."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        return CliRunner().invoke(main, [str(argument) for argument in arguments], catch_exceptions=False)

    return call


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return prepare(tmp_path_factory.mktemp("data") / "picto-voc", PictoSpec(train=4, val=2, test=6, side=64))


@torch.no_grad()
def same(found, expected, images):
    found, expected = found(images), expected(images)
    assert found.logits.isfinite().all() and found.logits.std() > 0.01
    for name in ("logits", "steps", "regions", "maps"):
        torch.testing.assert_close(getattr(found, name), getattr(expected, name), atol=1e-6, rtol=0)
    assert torch.equal(found.region_labels, expected.region_labels)


# What is imported


@pytest.mark.parametrize(("kind", "prefix", "pooling"), [
    ("mobilenet_v2", "", "gap"), ("mobilenet_v2", "module.", "gwp"), ("resnet50", "module.", "gap"),
    ("resnet50", "", "gmp"),
])
def test_the_imported_model_scores_as_the_original(tmp_path, images, kind, prefix, pooling):
    model = original(kind, pooling=pooling)
    folder = import_mcar(save(tmp_path / "file", released(model), prefix), tmp_path / "out", pooling=pooling, size=64)
    found = load_model(folder)
    same(found, model, images)
    assert (found.rule, found.topN, found.tau, found.head.pooling) == ("official", 4, 0.5, pooling)
    assert not found.training


def flat_mobilenet():
    """MobileNet-v2's convolutions (Sandler et al., CVPR 2018, Table 2) in the modules that the files are saved from."""
    def layers(inputs, outputs, kernel, stride=1, groups=1, relu=True):
        found = [nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)]
        return [*found, nn.BatchNorm2d(outputs), *([nn.ReLU6()] if relu else [])]

    class Block(nn.Module):
        def __init__(self, inputs, outputs, stride, expansion):
            super().__init__()
            wide = inputs * expansion
            first = layers(inputs, wide, 1) if expansion > 1 else []
            self.conv = nn.Sequential(
                *first, *layers(wide, wide, 3, stride, wide), *layers(wide, outputs, 1, relu=False)
            )
            self.added = stride == 1 and inputs == outputs

        def forward(self, x):
            return x + self.conv(x) if self.added else self.conv(x)

    blocks, inputs = [nn.Sequential(*layers(3, 32, 3, 2))], 32
    for expansion, outputs, count, stride in (
        (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)
    ):  # fmt: skip
        for i in range(count):
            blocks.append(Block(inputs, outputs, stride if i == 0 else 1, expansion))
            inputs = outputs
    model = nn.Module()
    model.features = nn.Sequential(nn.Sequential(*blocks), nn.Sequential(*layers(320, 1280, 1)))
    model.convclass = nn.Conv2d(1280, 20, 1)
    return model.eval()


@torch.no_grad()
def test_a_network_of_the_released_layout_has_the_global_scores_and_maps_of_its_import(tmp_path, images):
    torch.manual_seed(1)
    model = flat_mobilenet()
    for key, value in model.state_dict().items():
        if value.ndim == 1:
            value.uniform_(0.8, 1.2) if key.endswith(("weight", "running_var")) else value.normal_(0, 0.1)
    found = load_model(import_mcar(save(tmp_path / "file", model.state_dict()), tmp_path / "out", size=64))
    features = model.features(images)
    expected = model.convclass(features.mean((2, 3), keepdim=True))[..., 0, 0]
    prediction = found(images)
    torch.testing.assert_close(prediction.steps[:, 0], expected, atol=1e-6, rtol=1e-5)
    assert features.std() > 0.01
    maps = model.convclass(features).sigmoid()[torch.arange(2)[:, None], prediction.region_labels]
    torch.testing.assert_close(prediction.maps, maps, atol=1e-6, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("prefix", ["", "module."])
def test_every_entry_of_each_trunk_finds_its_place(tmp_path, monkeypatch, kind, prefix):
    saved = {}
    monkeypatch.setattr(checkpoints, "save_model", lambda folder, model, labels: saved.update(model.state_dict()))
    folder = import_mcar(save(tmp_path / "file", hollow(kind), prefix), tmp_path / "out")
    with torch.device("meta"):
        expected = build_model("mcar", 20, build_trunk(kind)).state_dict()
    assert {key: value.shape for key, value in saved.items()} == {key: value.shape for key, value in expected.items()}
    assert read_record(folder).config["trunk.name"] == kind


@pytest.mark.parametrize("kind", KINDS)
def test_the_names_are_those_of_the_files(kind):
    with torch.device("meta"):
        trunk = build_trunk(kind)
    assert released_names(trunk) == {key: released_key(f"trunk.{key}") for key in trunk.state_dict()}


def test_files_of_other_versions_and_precisions_are_read(tmp_path, mobilenet, images):
    state = {key: value for key, value in released(mobilenet).items() if not key.endswith("num_batches_tracked")}
    old = save(tmp_path / "old", state, _use_new_zipfile_serialization=False)
    same(load_model(import_mcar(old, tmp_path / "a", size=64)), mobilenet, images)
    half = save(tmp_path / "half", {key: value.half() for key, value in state.items()})
    found = load_model(import_mcar(half, tmp_path / "b", size=64))
    stored = load_file(tmp_path / "b/model.safetensors")
    assert {value.dtype for value in stored.values()} == {torch.float32, torch.int64}
    with torch.no_grad():
        expected = mobilenet(images).steps[:, 0]
        torch.testing.assert_close(found(images).steps[:, 0], expected, atol=0.02, rtol=0)


def test_the_folder_reads_like_a_run_that_says_where_it_comes_from(file, tmp_path):
    folder = import_mcar(file, tmp_path / "new/out", pooling="gwp", size=256)
    assert folder == tmp_path / "new/out"
    assert sorted(path.name for path in folder.iterdir()) == ["model.safetensors", "run.json"]
    record = read_record(folder)
    expected = {
        "data.name": "voc2007", "data.eval": "test", "data.size": 256, "data.root": "", "trunk.name": "mobilenet_v2",
        "method.name": "mcar", "method.pooling": "gwp", "method.rule": "official", "method.topN": 4, "method.tau": 0.5,
    }  # fmt: skip
    assert expected.items() <= record.config.items()
    assert not any(key.startswith("recipe.") for key in record.config)
    assert re.fullmatch("sha256:[0-9a-f]{64}", record.config["trunk.weights"])
    assert (record.imported, record.metrics, record.name) == ("model_best_91.3.pth.tar", {}, "out")
    assert not record.stale and not record.outdated
    assert stored_labels(record) == VOC
    assert str(tmp_path) not in (folder / "run.json").read_text()


def test_the_same_file_gives_the_same_bytes(file, tmp_path):
    first, second = (import_mcar(file, tmp_path / name / "out") for name in ("a", "b"))
    for name in ("model.safetensors", "run.json"):
        assert (first / name).read_bytes() == (second / name).read_bytes()


def test_coco_classes_are_brought_from_the_order_of_names_into_that_of_ids(tmp_path, images):
    model = original("mobilenet_v2", classes=80)
    folder = import_mcar(save(tmp_path / "file", released(model)), tmp_path / "out", size=64)
    assert read_record(folder).config["data.name"] == "coco2014"
    assert stored_labels(read_record(folder)) == COCO
    with torch.no_grad():
        expected, found = model(images), load_model(folder)(images)
    by_name = dict(zip(sorted(COCO), expected.logits.T, strict=True))
    torch.testing.assert_close(found.logits, torch.stack([by_name[name] for name in COCO], 1), atol=1e-6, rtol=0)
    torch.testing.assert_close(found.regions, expected.regions)
    names = [[sorted(COCO)[label] for label in row] for row in expected.region_labels.tolist()]
    assert [[COCO[label] for label in row] for row in found.region_labels.tolist()] == names


def test_cocos_names_are_in_the_order_of_their_ids():
    assert len(set(COCO)) == 80
    assert [name for name in COCO if name in CATEGORIES] == list(CATEGORIES)


@pytest.mark.skipif(not REAL.is_file(), reason="the real images are not beside the repository")
def test_cocos_names_are_those_of_its_annotations():
    entries = json.loads(REAL.read_text())["categories"]
    assert tuple(entry["name"] for entry in sorted(entries, key=lambda entry: entry["id"])) == COCO


# What is refused


class Code:
    def __init__(self, flag):
        self.flag = str(flag)

    def __reduce__(self):
        return os.mkdir, (self.flag,)


def refuse(path, message, out="out", **options):
    """The import fails in one sentence that names the file, and leaves nothing."""
    before = sorted(path.parent.rglob("*"))
    with pytest.raises(InputError, match=message) as caught:
        import_mcar(path, path.parent / out, **options)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    assert sorted(path.parent.rglob("*")) == before


@pytest.mark.parametrize("where", ["beside", "in the state", "alone"])
@pytest.mark.parametrize("new", [True, False])
def test_a_file_with_code_in_it_is_refused_and_the_code_not_run(tmp_path, where, new):
    path, flag = tmp_path / "file", tmp_path / "ran"
    state = {"convclass.bias": torch.zeros(20)}
    content = {
        "beside": {"state_dict": state, "epoch": Code(flag)},
        "in the state": {"state_dict": state | {"x": Code(flag)}},
        "alone": Code(flag),
    }[where]
    torch.save(content, path, _use_new_zipfile_serialization=new)
    refuse(path, rf"holds more than tensors \({os.mkdir.__module__}\.mkdir\) and could run code when read")
    assert not flag.exists()
    if new:  # which the code would have made
        torch.load(path, weights_only=False)
        assert flag.is_dir()


def test_a_whole_model_is_refused(tmp_path):
    torch.save(nn.Linear(2, 2), tmp_path / "file")
    refuse(tmp_path / "file", r"torch\.nn\.modules\.linear\.Linear.* get a file with nothing but the state_dict")


@pytest.mark.parametrize("content", [b"", b"no checkpoint\n", b"<!DOCTYPE html><html>", b"PK\x03\x04" + bytes(40)])
def test_what_is_no_checkpoint_is_refused(tmp_path, content):
    (tmp_path / "file").write_bytes(content)
    refuse(tmp_path / "file", "is no checkpoint of PyTorch, or cut short; download it again")


@pytest.mark.parametrize("new", [True, False])
@pytest.mark.parametrize("share", [0.0005, 0.5, 0.999])
def test_a_truncated_file_is_refused(tmp_path, mobilenet, new, share):
    path = save(tmp_path / "file", released(mobilenet), _use_new_zipfile_serialization=new)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    refuse(path, "is no checkpoint of PyTorch, or cut short; download it again")


def test_a_file_that_is_not_there_is_named(tmp_path):
    refuse(tmp_path / "absent", "cannot read .*absent: No such file or directory; give the file of a checkpoint")
    (tmp_path / "folder").mkdir()
    refuse(tmp_path / "folder", "cannot read .*folder: Is a directory")


@pytest.mark.parametrize(("content", "message"), [
    ({"model": {}, "epoch": 3}, "has no state_dict in it, only model, epoch; give"),
    ({}, "has no state_dict in it, nothing with keys"),
    ([1, 2], "has no state_dict in it, nothing with keys"),
    (torch.zeros(3), "has no state_dict in it, nothing with keys"),
    ({"state_dict": [torch.zeros(3)]}, "has no state_dict in it, only state_dict"),
    ({"state_dict": {"convclass.bias": 3}}, "convclass.bias in its state_dict is no plain tensor"),
    ({"state_dict": {3: torch.zeros(3)}}, "3 in its state_dict is no plain tensor"),
    ({"state_dict": {"x": torch.zeros(3).to_sparse()}}, "x in its state_dict is no plain tensor"),
    ({"state_dict": {}}, "is of no known trunk: it has no keys; give .* resnet50, resnet101 or mobilenet_v2"),
    ({"state_dict": {"fc.weight": torch.zeros(3)}}, "is of no known trunk: its keys are fc.weight; give"),
])
def test_a_file_without_a_model_is_refused(tmp_path, content, message):
    torch.save(content, tmp_path / "file")
    refuse(tmp_path / "file", message)


def test_torchvisions_own_weights_are_of_no_known_trunk(tmp_path):
    state = {key.replace("features.0.", "layer."): value for key, value in hollow("mobilenet_v2").items()}
    refuse(save(tmp_path / "file", state), "is of no known trunk: its keys are layer.0.0.weight, .* and 311 more;")


@pytest.mark.parametrize(("kind", "change", "message"), [
    ("mobilenet_v2", {"convclass.bias": None}, "has nearly the keys of a mobilenet_v2, but lacks convclass.bias; give"),
    ("resnet50", {"features.7.2.bn3.weight": None}, "the keys of a resnet50, but lacks features.7.2.bn3.weight; give"),
    ("resnet101", {"features.6.22.conv1.weight": None}, "of a resnet101, but lacks features.6.22.conv1.weight; give"),
    ("resnet50", {"extra": (3,)}, "has nearly the keys of a resnet50, but more than those: extra; give"),
    ("resnet101", {"features.5.4.conv1.weight": (128, 512, 1, 1)}, "resnet101, but more than those: features.5.4.conv"),
    ("mobilenet_v2", {"convclass.weight": (20, 1280)}, "convclass.weight is 20x1280, but 20x1280x1x1 in a mobilenet"),
    ("mobilenet_v2", {"convclass.weight": (21, 1280, 1, 1)}, "convclass.weight is 21x1280x1x1, but 20x1280x1x1"),
    ("mobilenet_v2", {"convclass.bias": (20, 1)}, "convclass.bias is 20x1, but 20 in a mobilenet_v2"),
    ("resnet50", {"features.0.weight": (64, 3, 3, 3)}, "features.0.weight is 64x3x3x3, but 64x3x7x7 in a resnet50"),
    ("resnet50", {"features.1.bias": ()}, "features.1.bias is a single number, but 64 in a resnet50; give"),
    ("resnet50", {"features.1.num_batches_tracked": (2,)}, "num_batches_tracked is 2, but a single number in a"),
])
def test_keys_and_shapes_that_do_not_fit_are_named(tmp_path, kind, change, message):
    state = hollow(kind)
    for key, shape in change.items():
        state |= {key: torch.zeros(()).expand(shape or ())}
        if shape is None:
            del state[key]
    refuse(save(tmp_path / "file", state), message)


def test_classes_without_names_are_refused(tmp_path):
    path = save(tmp_path / "file", hollow("mobilenet_v2", classes=21))
    refuse(path, r"has 21 classes \(convclass.bias\) and doesn't name them; give a checkpoint of VOC's 20 or COCO's 80")


def test_impossible_options_are_refused(file, tmp_path):
    with pytest.raises(InputError, match="pooling='max': choose one of gap, gmp, gwp"):
        import_mcar(file, tmp_path / "out", pooling="max")
    with pytest.raises(InputError, match=r"data\.size=8: an input needs at least 16 pixels a side"):
        import_mcar(file, tmp_path / "out", size=8)
    assert list(tmp_path.iterdir()) == [file]


def test_a_folder_with_something_in_it_is_left_as_it_is(file, tmp_path):
    (tmp_path / "out").mkdir()
    import_mcar(file, tmp_path / "out")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    for out in (tmp_path / "out", file):
        with pytest.raises(InputError, match=f"{out} is there already and not an empty folder"):
            import_mcar(file, out)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


@pytest.mark.parametrize("step", ["save_model", "write_record"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_an_interrupted_import_leaves_nothing(file, tmp_path, monkeypatch, step, error):
    def stop(*_):
        assert (tmp_path / ".out.tmp").is_dir() and not (tmp_path / "out").exists()
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(checkpoints, step, stop)
        with pytest.raises((KeyboardInterrupt, InputError)) as caught:
            import_mcar(file, tmp_path / "out")
    assert list(tmp_path.iterdir()) == [file]
    if caught.type is InputError:
        reason = "No space left on device; give another folder with --out"
        assert str(caught.value) == f"cannot write {tmp_path / 'out'}: {reason}"
    (tmp_path / ".out.tmp").mkdir()  # as a killed process leaves it
    (tmp_path / ".out.tmp/rest").write_text("")
    import_mcar(file, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == [file.name, "out"]


# The commands


def test_an_imported_checkpoint_predicts_and_is_scored(file, mlic, root, tmp_path):
    result = mlic("import", "mcar", file, "--out", "out", "--pooling", "gwp", "--size", 64)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == "MCAR on mobilenet_v2, classes as in voc2007, gwp at 64 pixels: in out\n"
    before = {path: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    shutil.copy(root / "VOCdevkit/VOC2012/JPEGImages/test_000001.jpg", tmp_path / "photo.jpg")
    predicted = mlic("predict", "--run", "out", "photo.jpg", "--out", "seen")
    assert predicted.exit_code == 0 and predicted.stdout.startswith("photo.jpg\n  ")
    assert (tmp_path / "seen/photo_regions.png").is_file()
    scored = mlic("run", "out", "--eval-only", "--set", "data=picto-voc", "--set", f"data.root={root}")
    assert (scored.exit_code, scored.stderr) == (0, "")
    dataset = checkpoints.open_split(read_dataset(root), "test")
    expected = score(load_model("out"), dataset, "ignore")[1]
    assert f"run out\n  mAP                  {expected['mAP']:.1f}\n" in scored.stdout
    assert scored.stdout.endswith("in out\n")
    assert score_folder("out", {"data.name": "picto-voc", "data.root": str(root)}) == expected
    assert {path: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before


def read_dataset(root):
    return checkpoints.from_settings({"data.root": str(root), "data.size": 64}).data


def test_voc2007_in_its_devkit_is_scored_with_the_folder_alone(file, mlic, root, tmp_path):
    shutil.copytree(root / "VOCdevkit/VOC2012", tmp_path / "voc/VOCdevkit/VOC2007")
    import_mcar(file, tmp_path / "out", size=64)
    scored = mlic("run", "out", "--eval-only", "--set", "data.root=voc")
    assert scored.exit_code == 0, scored.stderr
    assert np.isfinite(float(re.search(r"  mAP +(\S+)", scored.stdout)[1]))


def test_other_data_are_scored_on_their_own_usual_split(file, root, tmp_path):
    folder = import_mcar(file, tmp_path / "out", size=64)
    found = score_folder(folder, {"data": "voc2012", "data.root": str(root)})
    assert found == score(load_model(folder), checkpoints.open_split(read_dataset(root), "val"), "ignore")[1]


@pytest.mark.parametrize(("arguments", "message"), [
    (["run", "out"], "out is a folder: give --eval-only, to score its model, and no --profile"),
    (["run", "out", "--eval-only", "--profile", "smoke"], "out is a folder: give --eval-only, to score its model, and"),
    (["run", "out", "--eval-only"], "data.root: voc2007 needs the folder that holds its files; add data.root=FOLDER"),
    (["run", "out", "--eval-only", "--set", "method.topN=2"], "method.topN: of a stored model only the data can be"),
    (["run", "out", "--eval-only", "--set", "data.rot=x"], "unknown setting 'data.rot'; did you mean 'data.root'?"),
    (["run", ".", "--eval-only"], "holds no finished run: there is no run.json in it"),
    (["score", "out"], "scores.npz is missing; `mlic run out --eval-only` scores an imported checkpoint"),
    (["import", "mcar", "absent", "--out", "new"], "cannot read absent: No such file or directory"),
    (["import", "mcar", "model_best_91.3.pth.tar", "--out", "out"], "out is there already and not an empty folder"),
])
def test_wrong_input_is_one_sentence(file, mlic, tmp_path, arguments, message):
    import_mcar(file, tmp_path / "out", size=64)
    before = sorted(tmp_path.rglob("*"))
    result = mlic(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert re.fullmatch(r"mlic: [^\n]+\n", result.stderr) and message in result.stderr
    assert sorted(tmp_path.rglob("*")) == before


def test_data_of_other_classes_is_refused(file, mlic, tmp_path):
    import_mcar(file, tmp_path / "out", size=64)
    sizes = {"train": 3, "val": 2, "test": 2, "side": 64}
    sets = [f"data.picto_coco.{key}={value}" for key, value in sizes.items()] + ["data=picto-coco", "data.root=coco"]
    result = mlic("run", "out", "--eval-only", *(word for text in sets for word in ("--set", text)))
    assert result.exit_code == 2
    assert "out knows 20 classes (aeroplane, bicycle, bird, ...), but picto-coco has" in result.stderr


def test_among_stored_runs_an_import_is_listed_as_one(file, mlic, tmp_path):
    folder = import_mcar(file, tmp_path / "results/own/runs/mcar-mobilenet", size=64)
    line = mlic("runs", "--results", "results").stdout.splitlines()[1]
    assert line.split()[:6] == ["mcar-mobilenet", "own", "mcar", "mobilenet_v2", "voc2007", "0"]
    assert line.endswith("  imported")
    assert "mcar-mobilenet" not in mlic("runs", "--results", "results", "--stale").stdout
    shown = mlic("runs", "--results", "results", "show", "mcar-m")
    assert shown.exit_code == 0 and re.search(r"^method.rule +official$", shown.stdout, re.MULTILINE)
    (folder / "model.safetensors").unlink()
    remedy = f"remove {folder} and import model_best_91.3.pth.tar again"
    result = mlic("predict", "--run", "mcar-m", "--results", "results", file)
    assert result.exit_code == 2 and "is stored without its model; remove" in result.stderr
    with pytest.raises(InputError, match=remedy):
        load_model(folder)
