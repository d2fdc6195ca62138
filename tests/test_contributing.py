"""What CONTRIBUTING.md says of adding a method, a data set and a trunk is followed here to the letter."""

import re
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image

from mlic_core import data, models
from mlic_core.data.picto import PictoSpec, prepare
from mlic_core.errors import InputError
from mlic_core.models import backbones, build_model, build_trunk
from mlic_core.study import experiments
from mlic_core.study.experiments import from_settings
from mlic_core.study.store import Store

TEXT = (Path(__file__).resolve().parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")


def described(what):
    """The Python of one of the three sections."""
    section = TEXT.split(f"## How to add a {what}\n")[1].split("\n## ")[0]
    (code,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    return code


@pytest.fixture
def added(monkeypatch):
    """Makes a module of a section's code, under the name that the section gives it."""

    def add(what, name):
        module = ModuleType(name)
        exec(compile(described(what), f"{what} of CONTRIBUTING.md", "exec"), module.__dict__)
        monkeypatch.setitem(sys.modules, name, module)
        return module

    return add


@pytest.mark.parametrize("what", ["method", "data set", "trunk"])
def test_each_takes_fewer_than_30_lines(what):
    assert len([line for line in described(what).splitlines() if line.strip()]) < 30


def test_the_method_trains_and_is_what_its_text_says(added, monkeypatch, tmp_path):
    module = added("method", "mlic_core.models.lse")
    module.LSE.__module__ = "mlic_core.models.lse"
    monkeypatch.setitem(models.METHODS, "lse", module.LSE)
    root = prepare(tmp_path / "picto-voc", PictoSpec(train=8, val=4, test=4, side=64))
    settings = {"method": "lse", "method.r": 8.0, "trunk": "pictonet-s", "trunk.weights": "none"}
    settings |= {"data.root": str(root), "data.size": 32, "recipe.epochs": 1}
    record = Store(tmp_path / "runs").run(from_settings(settings))
    assert record.config["method.r"] == 8.0 and 0 <= record.metrics["mAP"] <= 100

    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    for r, pooled in ((1e-3, lambda maps: maps.mean(2)), (1e4, lambda maps: maps.amax(2))):
        model = build_model("lse", 5, build_trunk("pictonet-s"), r=r).double().eval()
        maps = model.cells(model.trunk(images.double())).flatten(2)
        torch.testing.assert_close(model(images.double()).logits, pooled(maps), atol=2e-3, rtol=0)


def test_the_data_set_reads_its_folders(added, monkeypatch, tmp_path):
    added("data set", "mlic_core.data.folders")
    monkeypatch.setitem(data.DATASETS, "folders", "folders")
    for place, color in (("cat/a", 10), ("dog/a", 10), ("dog/b", 200)):
        path = tmp_path / "train" / f"{place}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (20, 30), color).save(path)
    dataset = data.load_dataset("folders", "train", root=tmp_path, size=16)
    assert (dataset.labels, dataset.ids) == (("cat", "dog"), ("a.jpg", "b.jpg"))
    np.testing.assert_array_equal(dataset.targets, [[1, 1], [0, 1]])
    assert dataset[1][0].shape == (3, 16, 16) and abs(float(dataset[1][0].mean()) - 200 / 255) < 0.02
    with pytest.raises(InputError, match=r"has no image CLASS/NAME\.jpg"):
        data.load_dataset("folders", "val", root=tmp_path, size=16)


def test_the_trunk_gives_maps_of_its_channels_and_stride(added, monkeypatch):
    monkeypatch.setattr(backbones, "TRUNKS", backbones.TRUNKS.copy())
    monkeypatch.setattr(experiments, "TRUNKS", backbones.TRUNKS)
    added("trunk", "mlic_plugin_efficientnet")
    trunk = build_trunk("efficientnet_b0", "none").eval()
    assert trunk(torch.zeros(1, 3, 64, 64)).shape == (1, trunk.out_channels, 64 // trunk.stride, 64 // trunk.stride)
    assert build_model("mcar", 5, trunk)(torch.zeros(1, 3, 64, 64)).logits.shape == (1, 5)
