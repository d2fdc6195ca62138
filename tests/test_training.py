"""The loop: schedules, randomness, resuming to the bit, bad numbers."""

import json
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mlic_core import training as module
from mlic_core.data import load_dataset, picto
from mlic_core.data.transforms import LUMA, color_jitter, random_flip
from mlic_core.errors import InputError
from mlic_core.images import decode, prepare_images, read_batches, workers
from mlic_core.models import build_model, build_trunk
from mlic_core.training import Recipe, computes_in_bf16, fit, predict

SPEC = picto.PictoSpec(train=24, val=10, test=10, side=96)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return picto.prepare(tmp_path_factory.mktemp("picto") / "set", SPEC)


@pytest.fixture
def train_set(root):
    return load_dataset("picto-voc", "train", root=root, size=48)


def new_model(name="mcar", seed=0, **options):
    torch.manual_seed(seed)
    return build_model(name, 20, build_trunk("pictonet-s"), **options)


def weights(model):
    return torch.cat([value.flatten().double() for value in model.state_dict().values()])


def test_one_cycle_rises_linearly_and_falls_to_zero():
    recipe = Recipe(epochs=10)
    factors = [recipe.lr_factor(step, 10) for step in range(100)]
    assert factors[0] == pytest.approx(1 / 25) and factors[24] == 1 and factors[25] == 1
    assert factors[-1] < 0.001 and factors[62] == pytest.approx(0.5, abs=0.02)
    assert np.all(np.diff(factors[25:]) <= 0)


def test_step_schedule_of_the_paper_divides_by_ten_after_epochs_30_and_50():
    recipe = Recipe(epochs=60, schedule="step", milestones=(30, 50))
    at = [recipe.lr_factor(epoch * 7 + 3, 7) for epoch in (0, 29, 30, 49, 50, 59)]
    assert at == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw", "rmsprop"])
def test_every_optimizer_lowers_the_loss(optimizer, train_set):
    rate = 0.05 if optimizer == "sgd" else 0.001
    recipe = Recipe(epochs=4, batch_size=8, optimizer=optimizer, lr=rate, head_lr=rate, bf16=False)
    history = fit(new_model("classifier"), train_set, recipe, seed=0)
    assert history[-1]["loss"] < 0.8 * history[0]["loss"]


def test_training_twice_gives_the_same_bits_and_another_seed_does_not(train_set):
    recipe = Recipe(epochs=2, batch_size=8)
    runs = []
    for seed in (0, 0, 1):
        model = new_model()
        fit(model, train_set, recipe, seed=seed)
        runs.append(weights(model))
    assert torch.equal(runs[0], runs[1]) and not torch.equal(runs[0], runs[2])


def test_each_epoch_can_be_watched_and_watching_changes_nothing(train_set):
    recipe, seen, alone = Recipe(epochs=3, batch_size=8), {}, new_model()
    fit(alone, train_set, recipe, seed=0)

    def after_epoch(epoch, model):
        seen[epoch] = weights(model).clone()
        predict(model, train_set)

    watched = new_model()
    fit(watched, train_set, recipe, seed=0, after_epoch=after_epoch)
    assert list(seen) == [1, 2, 3] and not torch.equal(seen[1], seen[2])
    assert torch.equal(seen[3], weights(watched)) and torch.equal(weights(alone), weights(watched))


def test_resumed_training_equals_uninterrupted_training_to_the_bit(train_set, tmp_path, monkeypatch):
    recipe = Recipe(epochs=4, batch_size=8)
    whole = new_model()
    history = fit(whole, train_set, recipe, seed=3, monitor=train_set)

    class Stopped(Exception):
        pass

    calls = []

    def stop_in_third_epoch(model, images, *args, **kwargs):
        calls.append(1)
        if len(calls) == 8:
            raise Stopped

    interrupted = new_model()
    handle = interrupted.register_forward_pre_hook(lambda module, args: stop_in_third_epoch(module, *args))
    with pytest.raises(Stopped):
        fit(interrupted, train_set, recipe, seed=3, folder=tmp_path)
    handle.remove()
    resumed = new_model(seed=99)
    again = fit(resumed, train_set, recipe, seed=3, folder=tmp_path, monitor=train_set)
    assert torch.equal(weights(whole), weights(resumed))
    assert [epoch["loss"] for epoch in again] == [epoch["loss"] for epoch in history]
    assert np.array_equal(predict(whole, train_set).logits, predict(resumed, train_set).logits)


SCRIPT = """
import sys, torch
torch.set_num_threads(1)
from pathlib import Path
from safetensors.torch import save_file
from mlic_core.data import load_dataset
from mlic_core.models import build_model, build_trunk
from mlic_core.training import Recipe, fit
root, folder = map(Path, sys.argv[1:])
torch.manual_seed(0)
model = build_model("mcar", 20, build_trunk("pictonet-s"))
dataset = load_dataset("picto-voc", "train", root=root, size=48)
fit(model, dataset, Recipe(epochs=6, batch_size=8), seed=1, folder=folder)
save_file({k: v.contiguous() for k, v in model.state_dict().items()}, folder / "model.safetensors")
"""


def test_killed_process_resumes_to_the_same_bytes(root, tmp_path):
    def start(folder):
        folder.mkdir(exist_ok=True)
        return subprocess.Popen([sys.executable, "-c", textwrap.dedent(SCRIPT), str(root), str(folder)])

    assert start(tmp_path / "whole").wait() == 0
    victim = start(tmp_path / "killed")
    while not (tmp_path / "killed" / "checkpoint.pt").exists() and victim.poll() is None:
        time.sleep(0.01)
    time.sleep(0.15)
    victim.send_signal(signal.SIGKILL)
    victim.wait()
    assert not (tmp_path / "killed" / "model.safetensors").exists(), "finished before it could be killed"
    assert start(tmp_path / "killed").wait() == 0
    whole, killed = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "killed"))
    assert whole == killed


def test_history_holds_loss_terms_and_is_plain_json(train_set):
    history = fit(new_model(), train_set, Recipe(epochs=1, batch_size=8), seed=0, monitor=train_set)
    record = json.loads(json.dumps(history))[0]
    assert record["loss"] == pytest.approx(record["global"] + record["local"])
    assert 0 <= record["monitor_mAP"] <= 100


class Poisoned(torch.nn.Module):
    """A classifier whose loss is not finite, or whose gradient isn't, at one step, counted from 0."""

    def __new__(cls, at, value=float("nan"), gradient=False):
        model = new_model("classifier")
        model.steps, usual = 0, model.loss

        def loss(prediction, targets):
            model.steps += 1
            if model.steps - 1 != at:
                return usual(prediction, targets)
            if gradient:  # zero, with the gradient 1 / 0
                return {"bce": (prediction.logits * 0).sum().sqrt()}
            return {"bce": usual(prediction, targets)["bce"] * value}

        model.loss = loss
        return model


def order_of(train_set, monkeypatch):
    """The ids of each batch of two epochs of six, as a training reads them."""
    seen = []
    model = new_model("classifier")
    monkeypatch.setattr(module, "read_batches", lambda *given: seen.extend(given[1]) or read_batches(*given))
    fit(model, train_set, SHORT, seed=0)
    monkeypatch.undo()
    return [[train_set.ids[i] for i in index.tolist()] for index in seen]


SHORT = Recipe(epochs=2, batch_size=4, bf16=False)


@pytest.mark.parametrize(("value", "look"), [(float("nan"), 50), (float("inf"), 1), (-float("inf"), 4)])
@pytest.mark.parametrize("step", [0, 7, 11])
def test_a_loss_that_is_not_finite_stops_with_its_batch_and_keeps_the_checkpoint(
    train_set, tmp_path, monkeypatch, step, value, look
):
    batches = order_of(train_set, monkeypatch)
    monkeypatch.setattr(module, "LOOK", look)
    with pytest.raises(FloatingPointError) as stop:
        fit(Poisoned(step, value), train_set, SHORT, seed=0, folder=tmp_path)
    names = ", ".join(batches[step])
    assert f"the loss is {value} in epoch {step // 6 + 1} over the images {names}; lower recipe.lr" in str(stop.value)
    assert (tmp_path / "checkpoint.pt").is_file() == (step >= 6)
    if step >= 6:  # the one after the first epoch, which went well
        state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
        assert [row["epoch"] for row in state["history"]] == [1]
        assert all(value.isfinite().all() for value in state["model"].values())


def test_the_loss_is_looked_at_before_the_end_of_an_epoch(train_set, monkeypatch):
    monkeypatch.setattr(module, "LOOK", 2)
    model = Poisoned(2)
    with pytest.raises(FloatingPointError):
        fit(model, train_set, SHORT, seed=0)
    assert model.steps == 4


def test_weights_that_are_not_finite_are_never_kept(train_set, tmp_path):
    recipe = replace(SHORT, clip=0.0)
    with pytest.raises(FloatingPointError, match=r"trunk.* is not finite after epoch 1; lower recipe\.lr"):
        fit(Poisoned(5, gradient=True), train_set, recipe, seed=0, folder=tmp_path)
    assert not list(tmp_path.glob("checkpoint.*"))


def test_a_learning_rate_that_is_far_too_large_is_named_as_the_remedy(train_set):
    recipe = Recipe(epochs=1, batch_size=4, lr=1e30, head_lr=1e30, clip=0.0, bf16=False)
    with pytest.raises(FloatingPointError, match=r"in epoch 1 over the images .*; lower recipe"):
        fit(new_model("classifier"), train_set, recipe, seed=0)


def test_frozen_norm_keeps_the_statistics(train_set):
    before, after = new_model("classifier"), new_model("classifier")
    fit(after, train_set, Recipe(epochs=1, frozen_norm=True), seed=0)
    name = "trunk.features.1.running_mean"
    assert torch.equal(before.state_dict()[name], after.state_dict()[name])
    fit(after, train_set, Recipe(epochs=1), seed=0)
    assert not torch.equal(before.state_dict()[name], after.state_dict()[name])


def test_predictions_do_not_depend_on_the_batch_size(train_set):
    model = new_model()
    whole, parts = predict(model, train_set), predict(model, train_set, batch_size=5)
    np.testing.assert_allclose(whole.logits, parts.logits, atol=1e-5)
    assert whole.logits.dtype == np.float32 and whole.steps.shape == (24, 2, 20)


def test_images_read_as_needed_equal_those_kept_in_memory(train_set, monkeypatch):
    model = new_model("classifier")
    kept = predict(model, train_set).logits
    monkeypatch.setattr("mlic_core.images.IN_MEMORY", 0)
    monkeypatch.setattr("mlic_core.images.workers", lambda: 1)
    read = predict(model, train_set).logits
    np.testing.assert_array_equal(kept, read)


def test_a_broken_image_is_one_sentence_from_a_process_that_reads_ahead(root, tmp_path, monkeypatch):
    shutil.copytree(root, tmp_path / "copy")
    next((tmp_path / "copy").rglob("train_000003.jpg")).write_bytes(b"no image")
    monkeypatch.setattr("mlic_core.images.IN_MEMORY", 0)
    monkeypatch.setattr("mlic_core.images.workers", lambda: 1)
    dataset = load_dataset("picto-voc", "train", root=tmp_path / "copy", size=48)
    with pytest.raises(InputError, match=r"\Acannot read image \S*train_000003\.jpg: .*\Z"):
        list(read_batches(dataset, [torch.arange(4)]))


@pytest.mark.parametrize(("cores", "processes", "expected"), [(8, 1, 8), (8, 3, 2), (2, 4, 1)])
def test_processes_share_the_cores_that_they_may_use(monkeypatch, cores, processes, expected):
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(cores)), raising=False)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
    assert workers() == expected


def test_emulated_bf16_of_an_older_gpu_is_not_used(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda including_emulation=True: including_emulation)
    assert not computes_in_bf16(torch.device("cuda"))


def test_truncated_picture_is_named(root, tmp_path):
    shutil.copytree(root, tmp_path / "copy")
    picture = next((tmp_path / "copy").rglob("train_000003.jpg"))
    picture.write_bytes(picture.read_bytes()[:300])
    with pytest.raises(InputError, match=r"train_000003\.jpg"):
        decode(load_dataset("picto-voc", "train", root=tmp_path / "copy", size=48))


@pytest.mark.parametrize(("key", "value"), [("epochs", 0), ("batch_size", 0), ("lr", -1.0), ("jitter", 1.0)])
def test_impossible_recipes_are_refused_by_name(key, value):
    with pytest.raises(InputError, match=f"recipe.{key}={value}"):
        Recipe(**{key: value})


def test_images_are_normalised_by_the_trunk():
    trunk = build_trunk("pictonet-s")
    images = torch.full((1, 3, 2, 2), 255, dtype=torch.uint8)
    torch.testing.assert_close(prepare_images(images, trunk), torch.full((1, 3, 2, 2), 2.0))


def test_flips_mirror_about_half_of_the_images():
    images = torch.rand(200, 3, 2, 4, generator=torch.Generator().manual_seed(0))
    flipped = random_flip(images, torch.Generator().manual_seed(1))
    same = (flipped == images).flatten(1).all(1)
    assert 70 < same.sum() < 130
    assert torch.equal(flipped[~same], images[~same].flip(3))


def test_colour_jitter_by_hand(monkeypatch):
    """One pixel pair, factors given: brightness 1.1, contrast 0.8, saturation 1.2."""
    monkeypatch.setattr(torch, "rand", lambda *size, generator: torch.tensor([0.75, 0.0, 1.0]).view(3, 1, 1, 1, 1))
    image = torch.tensor([[0.2, 0.6], [0.4, 0.5], [0.3, 0.1]], dtype=torch.float32).view(1, 3, 1, 2)
    got = color_jitter(image, 0.2, torch.Generator())
    x = image.double().numpy()[0, :, 0] * 1.1
    luma = np.array(LUMA)
    middle = (luma @ x).mean()
    x = middle + 0.8 * (x - middle)
    grey = luma @ x
    expected = grey + 1.2 * (x - grey)
    np.testing.assert_allclose(got[0, :, 0].numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("clip", [0.0, 0.01])
def test_a_scaled_loss_takes_the_step_of_the_loss_itself(train_set, monkeypatch, clip):
    """As under fp16: gradients are divided by the scale before they are clipped."""
    recipe, found = Recipe(epochs=1, batch_size=12, clip=clip, bf16=False), []
    for scaled in (False, True):
        if scaled:
            scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
            monkeypatch.setattr(module, "_scaler", lambda *_, scaler=scaler: scaler)
        model = new_model("classifier")
        fit(model, train_set, recipe, seed=0)
        found.append(weights(model))
    torch.testing.assert_close(*found, atol=1e-6, rtol=1e-5)


def test_a_step_whose_scaled_gradients_overflow_is_left_out(train_set, monkeypatch):
    monkeypatch.setattr(module, "_scaler", lambda *_: torch.amp.GradScaler("cpu", init_scale=float("inf")))
    model = new_model("classifier")
    before = [value.clone() for value in model.parameters()]
    fit(model, train_set, Recipe(epochs=1, batch_size=24, bf16=False), seed=0)  # one step
    assert all(torch.equal(now, then) for now, then in zip(model.parameters(), before, strict=True))


def test_training_in_bf16_keeps_weights_and_losses_in_fp32(train_set, monkeypatch):
    kinds, recipe = set(), Recipe(epochs=1, batch_size=12)
    monkeypatch.setattr(module, "computes_in_bf16", lambda device: True)
    model = new_model("classifier")
    model.trunk.register_forward_hook(lambda trunk, given, maps: kinds.add(maps.dtype))
    (row,) = fit(model, train_set, recipe, seed=0)
    assert kinds == {torch.bfloat16} and {value.dtype for value in model.parameters()} == {torch.float32}
    other = new_model("classifier")
    (exact,) = fit(other, train_set, replace(recipe, bf16=False), seed=0)
    assert row["loss"] != exact["loss"] and row["loss"] == pytest.approx(exact["loss"], rel=0.03)


@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="only Linux lists the processor's instructions there")
def test_bf16_is_used_only_where_the_processor_has_it():
    flags = Path("/proc/cpuinfo").read_text()
    assert computes_in_bf16(torch.device("cpu")) == ("avx512_bf16" in flags or "amx_tile" in flags)
