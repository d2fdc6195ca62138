"""Two processes under torchrun train what one process trains, and only the first of them writes."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from mlic_core import distributed
from mlic_core.data.picto import PictoSpec, prepare
from mlic_core.errors import InputError
from mlic_core.models import build_model
from mlic_core.models.backbones import group_norm, pictonet
from mlic_core.models.prediction import Prediction
from mlic_core.study import cli
from mlic_core.study.experiments import from_settings, open_split, run_name
from mlic_core.study.store import Store
from mlic_core.training import CHECKPOINT, Recipe, fit, predict

ROOT = Path(__file__).resolve().parents[1]
TINY = {"method": "mcar", "method.topN": 1, "trunk": "pictonet-s", "trunk.weights": "none", "data.size": 48}
TINY |= {"recipe.batch_size": 8, "recipe.epochs": 4}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return prepare(tmp_path_factory.mktemp("data") / "picto-voc", PictoSpec(train=21, val=9, test=11, side=96))


def launch(*command, processes=2):
    """A torchrun of `command`, not waited for."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "MLIC_PROGRESS": "silent"}
    port = ["--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0", "--nnodes", "1"]
    run = [sys.executable, "-m", "torch.distributed.run", *port, "--nproc-per-node", str(processes), *map(str, command)]
    return subprocess.Popen(run, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)


def settings(root):
    given = TINY | {"data.root": str(root)}
    return given, [part for key, value in given.items() for part in ("--set", f"{key}={value}")]


def losses_of(root, folder, **recipe):
    """20 steps in float64 on a trunk without BatchNorm: the mean loss of each, the weights, and the scores.

    The 21 images make batches of 8, 8 and 5, which two processes can't share evenly.
    """
    torch.manual_seed(0)
    model = build_model("mcar", 20, pictonet(16, (24, 48), group_norm), topN=2).double()
    experiment = from_settings({"data.root": str(root), "data.size": 48})
    train, test = (open_split(experiment.data, split) for split in ("train", "test"))
    chosen = dict(epochs=7, batch_size=8, flip=False, jitter=0.0, bf16=False) | recipe
    history = fit(model, train, Recipe(**chosen), seed=0, folder=folder)
    weights = torch.cat([value.flatten() for value in model.state_dict().values()])
    scores = predict(model, test, batch_size=4).logits
    return [[row["global"], row["local"]] for row in history], weights.numpy(), scores


def main(root, out):
    """What torchrun runs: every process writes what it found."""
    with distributed.processes():
        rows, weights, scores = losses_of(root, Path(out))
        np.savez(f"{out}/rank{distributed.rank()}.npz", rows=rows, weights=weights, scores=scores)


def watched(out, *arguments):
    """What torchrun runs: `mlic`, and which files below `out` this process opened for writing or renamed."""
    written = set()

    def note(event, given):
        if event == "os.rename" or (event == "open" and given[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)):
            written.update(str(path) for path in given[:2] if str(path).startswith(out))

    sys.addaudithook(note)
    cli.main([*arguments, "--results", out], standalone_mode=False)
    found = sorted(written)
    Path(f"{out}-{os.environ['RANK']}.json").write_text(json.dumps(found))


def test_two_processes_have_the_losses_the_weights_and_the_scores_of_one(root, tmp_path):
    (tmp_path / "two").mkdir()
    together = launch("-m", "tests.test_distributed", "main", root, tmp_path / "two")
    (tmp_path / "one").mkdir()
    rows, weights, scores = losses_of(root, tmp_path / "one")
    _, errors = together.communicate(timeout=300)
    assert together.returncode == 0, errors
    for rank in range(2):
        found = np.load(tmp_path / "two" / f"rank{rank}.npz")
        np.testing.assert_allclose(found["rows"], rows, atol=1e-5)
        np.testing.assert_allclose(found["weights"], weights, atol=1e-5)
        np.testing.assert_allclose(found["scores"], scores, atol=1e-4)  # of 11 images, none twice
    assert rows[-1] != rows[0]


def test_parts_of_a_batch_add_up_to_the_whole(root):
    rows, weights, _ = losses_of(root, None)
    for accumulate in (2, 8):
        parts = losses_of(root, None, accumulate=accumulate)
        # Ignored labels weigh by their part of the batch, not by the batch.
        np.testing.assert_allclose(parts[0], rows, rtol=0.02)
        assert np.abs(parts[1] - weights).max() < 0.05


def test_without_ignored_labels_accumulation_changes_nothing(root):
    def trained(accumulate):
        torch.manual_seed(0)
        model = build_model("classifier", 20, pictonet(16, (24, 48), group_norm)).double()
        train = open_split(from_settings({"data.root": str(root), "data.size": 48}).data, "train")
        recipe = Recipe(epochs=2, batch_size=8, bf16=False, accumulate=accumulate)
        history = fit(model, train, recipe, seed=0, difficult="negative")
        return [row["loss"] for row in history], model.head.linear.weight.detach()

    (rows, weights), (again, others) = trained(1), trained(3)
    np.testing.assert_allclose(again, rows, atol=1e-6)
    torch.testing.assert_close(others, weights, atol=1e-6, rtol=0)


def test_a_compiled_model_trains_alike(root, untyped):
    torch.compiler.reset()
    calls = []

    def backend(graph, example_inputs):
        calls.append(graph)
        return graph.forward

    compiled = torch.compile
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "compile", lambda apply: compiled(apply, backend=backend))
        found = losses_of(root, None, epochs=2, compile=True)
    assert calls
    np.testing.assert_allclose(found[1], losses_of(root, None, epochs=2)[1], atol=1e-6)


def test_the_command_trains_one_run_which_one_process_finds_again(root, tmp_path):
    given, sets = settings(root)
    together = launch("-m", "tests.test_distributed", "watched", tmp_path / "results", "run", *sets)
    output, errors = together.communicate(timeout=300)
    assert together.returncode == 0, errors
    name, store = run_name(from_settings(given)), Store(tmp_path / "results/own/runs")
    assert output.count(f"run {name}") == 1  # the first process speaks for both
    record = store.run(from_settings(given))
    assert record.device.endswith(", 2 processes")
    assert len(record.scores()["ids"]) == 11 == len(set(record.scores()["ids"].tolist()))
    assert sorted(path.name for path in record.folder.iterdir()) == [
        "history.jsonl", "model.safetensors", "run.json", "scores.npz"
    ]  # fmt: skip
    first, second = (json.loads((tmp_path / f"results-{rank}.json").read_text()) for rank in range(2))
    assert str(record.folder / "run.json") in first and second == []  # only the first process writes


def test_a_killed_process_ends_the_job_with_a_message_and_the_next_goes_on(root, tmp_path):
    given, sets = settings(root)
    sets += ["--set", "recipe.epochs=20", "--results", tmp_path]
    folder = tmp_path / "own" / "runs" / run_name(from_settings(given | {"recipe.epochs": 20}))
    together = launch("-m", "mlic_core", "run", *sets)
    deadline = time.monotonic() + 200
    while not (folder / CHECKPOINT).is_file() and time.monotonic() < deadline:
        time.sleep(0.05)
    children = Path(f"/proc/{together.pid}/task/{together.pid}/children")
    if not children.is_file():
        together.kill()
        pytest.skip("this system doesn't list a process's children in /proc")
    os.kill(int(children.read_text().split()[-1]), signal.SIGKILL)
    _, errors = together.communicate(timeout=120)
    assert together.returncode != 0
    assert "SIGKILL" in errors or "Signal 9" in errors
    assert (folder / CHECKPOINT).is_file() and not (folder / "run.json").is_file()
    again = launch("-m", "mlic_core", "run", *sets)
    _, errors = again.communicate(timeout=300)
    assert again.returncode == 0, errors
    assert len((folder / "history.jsonl").read_text().splitlines()) == 20
    assert json.loads((folder / "run.json").read_text())["seconds"] > 0


def test_alone_nothing_is_shared():
    batch = torch.arange(5)
    assert distributed.world() == 1 and distributed.rank() == 0
    assert torch.equal(distributed.share(batch), batch) and distributed.everywhere("x") == "x"
    prediction = Prediction(torch.zeros(5, 2))
    assert distributed.whole(prediction, 5) is prediction
    assert distributed.collected(3) == [3] and distributed.loss_scale(5) == 1
    with distributed.processes():
        assert not torch.distributed.is_initialized()


def test_batchnorm_over_processes_needs_gpus():
    with pytest.raises(InputError, match=r"recipe.sync_norm=true needs GPUs"):
        distributed.parallel(nn.Linear(2, 2), "forward", sync_norm=True)


if __name__ == "__main__":
    {"main": main, "watched": watched}[sys.argv[1]](*sys.argv[2:])
