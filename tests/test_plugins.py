"""A user's file registers a trunk, and runs on it are named after the weights that it brings."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from mlic_core.data.picto import PictoSpec, prepare
from mlic_core.errors import InputError
from mlic_core.models import backbones, build_trunk
from mlic_core.study import experiments
from mlic_core.study.cli import main
from mlic_core.study.experiments import config, experiment_of, from_settings, run_name
from mlic_core.study.plugins import VARIABLE, load_plugin, use_plugin, weights_digest
from mlic_core.study.store import Store

ROOT = Path(__file__).resolve().parents[1]
REAL = ROOT.parent / "shared" / "real" / "mobilenet_v2_imagenet.py"
SOURCE = """
import torch
from mlic_core.models import register_trunk
from mlic_core.models.backbones import pictonet

def mine():
    trunk = pictonet(8, (8, 8, 16))
    torch.nn.init.constant_(trunk.features[0].weight, {value})
    return trunk

register_trunk("{name}", mine)
"""


@pytest.fixture(autouse=True)
def clean(monkeypatch):
    """Trunks, modules and the variable as they were."""
    monkeypatch.setattr(backbones, "TRUNKS", backbones.TRUNKS.copy())
    monkeypatch.setattr(experiments, "TRUNKS", backbones.TRUNKS)
    monkeypatch.setenv(VARIABLE, "")
    weights_digest.cache_clear()
    yield
    for name in [name for name in sys.modules if name.startswith("mlic_plugin_")]:
        del sys.modules[name]


def written(folder, name="mine", value=0.1, file="plugin.py"):
    path = folder / file
    path.write_text(SOURCE.format(name=name, value=value))
    return path


def test_a_registered_trunk_is_built_and_handed_on_to_other_processes(tmp_path):
    path = written(tmp_path)
    use_plugin(path)
    assert build_trunk("mine").out_channels == 16
    load_plugin()  # once is enough: the name would be taken
    code = "import mlic_core.study as s; s.open('smoke'); from mlic_core.models import build_trunk; build_trunk('mine')"
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | {"PYTHONPATH": str(ROOT)})


def test_the_name_of_a_run_depends_on_the_weights_that_the_trunk_brings(tmp_path):
    use_plugin(written(tmp_path))
    first = from_settings({"trunk": "mine"})
    assert config(first)["trunk.weights"].startswith("sha256:")
    assert run_name(experiment_of(config(first))) == run_name(first) == run_name(from_settings({"trunk": "mine"}))
    state = torch.random.get_rng_state()
    weights_digest.cache_clear()
    assert run_name(first) == run_name(from_settings({"trunk": "mine"}))
    assert torch.equal(torch.random.get_rng_state(), state)  # naming draws nothing
    use_plugin(written(tmp_path, "other", 0.2, "other.py"))
    same = {key: value for key, value in config(from_settings({"trunk": "other"})).items() if key != "trunk.name"}
    assert same["trunk.weights"] != config(first)["trunk.weights"]


def test_the_command_trains_on_it_and_scores_it_again(tmp_path):
    root = prepare(tmp_path / "picto-voc", PictoSpec(train=8, val=4, test=4, side=64))
    path = written(tmp_path, value=0.05)
    sets = {"trunk": "mine", "data.root": root, "data.size": 32, "recipe.epochs": 1}
    arguments = ["run", *(part for key, value in sets.items() for part in ("--set", f"{key}={value}"))]
    arguments += ["--results", str(tmp_path), "--plugin", str(path)]
    trained = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert trained.exit_code == 0, trained.output
    (record,) = Store(tmp_path / "own" / "runs").records()
    assert record.config["trunk.name"] == "mine"
    again = CliRunner().invoke(main, [*arguments, "--eval-only"], catch_exceptions=False)
    assert (again.exit_code, "differ" in again.output) == (0, False)
    without = [word for word in arguments if word not in ("--plugin", str(path))]
    del backbones.TRUNKS["mine"]
    refused = CliRunner().invoke(main, without)
    assert refused.exit_code == 2 and "register it in a file for --plugin" in refused.output


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "does not exist; name a Python file"),
        ("raise KeyError('x')", "failed: KeyError: 'x'"),
        ("import nothing_of_that_name", "failed: ModuleNotFoundError"),
        ("def", "failed: SyntaxError"),
    ],
)
def test_a_plugin_that_fails_is_one_sentence(tmp_path, text, message):
    path = tmp_path / "plugin.py"
    if text is not None:
        path.write_text(text)
    for _ in range(2):  # a failed one is not taken for loaded
        with pytest.raises(InputError, match=message):
            use_plugin(path)


def test_a_plugin_ends_in_py(tmp_path):
    path = tmp_path / "plugin.txt"
    path.write_text("")
    with pytest.raises(InputError, match=r"has to end in \.py"):
        use_plugin(path)


def test_imagenet_s_mobilenet_names_its_file(monkeypatch):
    monkeypatch.setenv("MLIC_MOBILENET", "nowhere.py")
    use_plugin(ROOT / "workflow" / "mobilenet_v2_plugin.py")
    with pytest.raises(InputError, match=r"MLIC_MOBILENET=nowhere\.py: set it"):
        build_trunk("mobilenet_v2_imagenet")


@pytest.mark.skipif(not REAL.is_file(), reason="the ImageNet trunk is not at hand")
def test_imagenet_s_mobilenet_has_its_weights(monkeypatch):
    monkeypatch.setenv("MLIC_MOBILENET", str(REAL))
    use_plugin(ROOT / "workflow" / "mobilenet_v2_plugin.py")
    trunk = build_trunk("mobilenet_v2_imagenet", "pretrained")
    assert (trunk.out_channels, trunk.stride, trunk.mean) == (1280, 32, (0.5, 0.5, 0.5))
    assert trunk(torch.zeros(1, 3, 64, 64)).shape == (1, 1280, 2, 2)
    assert config(from_settings({"trunk": "mobilenet_v2_imagenet"}))["trunk.weights"].startswith("sha256:")
