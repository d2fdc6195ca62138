"""Features of a frozen trunk: the cache on disk, and training on it beside training through the trunk."""

import io
import multiprocessing
import zlib

import numpy as np
import pytest
import torch

from mlic_core import features as module
from mlic_core.data import load_dataset, picto, scenes
from mlic_core.errors import InputError
from mlic_core.features import Features, compute_features
from mlic_core.images import decode, prepare_images
from mlic_core.models import build_model, build_trunk
from mlic_core.training import Recipe, fit, predict

SPEC = picto.PictoSpec(train=40, val=8, test=12, side=48)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return picto.prepare(tmp_path_factory.mktemp("data") / "picto", SPEC)


@pytest.fixture
def train(root):
    return load_dataset("picto-voc", "train", root=root, size=48)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A cache of the test's own."""
    monkeypatch.setattr(module, "cache_folder", lambda: tmp_path / "features")
    return tmp_path / "features"


def linear(seed=0, pooling="gwp"):
    torch.manual_seed(seed)
    return build_model("linear", 20, build_trunk("pictonet-s"), pooling=pooling)


class Counted(torch.nn.Module):
    """A trunk that counts the images it has seen, apart from the probe's."""

    def __init__(self, trunk):
        super().__init__()
        self.trunk, self.images = trunk, 0
        self.out_channels, self.mean, self.std = trunk.out_channels, trunk.mean, trunk.std

    def forward(self, images):
        self.images += len(images) if len(images) > 1 else 0
        return self.trunk(images)


def counted():
    model = linear()
    model.trunk = Counted(model.trunk)
    return model


def test_cached_features_are_those_of_the_model(train):
    model = linear()
    stored = compute_features(model, train, mirrored=True)
    images = prepare_images(decode(train), model.trunk)
    torch.testing.assert_close(torch.from_numpy(np.array(stored.plain)), model.features(images))
    torch.testing.assert_close(torch.from_numpy(np.array(stored.mirrored)), model.features(images.flip(3)))


def test_the_trunk_sees_every_image_once_whatever_is_trained_and_predicted(train):
    model = counted()
    recipe = Recipe(epochs=3, batch_size=16, jitter=0.0, flip=False)
    fit(model, train, recipe, seed=0)
    predict(model, train)
    fit(model, train, recipe, seed=1)
    assert model.trunk.images == len(train)


def test_mirror_images_are_another_file_and_the_plain_one_is_shared(train, folder):
    model = counted()
    compute_features(model, train)
    compute_features(model, train, mirrored=True)
    assert model.trunk.images == 2 * len(train)
    assert sorted(path.name.split("-")[1] for path in folder.glob("*.npy")) == ["mirrored.npy", "plain.npy"]


@pytest.mark.parametrize("flip", [False, True])
def test_training_on_the_cache_gives_the_losses_of_the_trunk_in_the_loop(train, flip):
    recipe = Recipe(epochs=3, batch_size=16, jitter=0.0, flip=flip, bf16=False, head_lr=0.05)
    histories = [fit(linear(), train, recipe, seed=3, cached=cached) for cached in (True, False)]
    losses = [[row["loss"] for row in history] for history in histories]
    np.testing.assert_allclose(losses[0], losses[1], atol=1e-5)
    assert losses[0][0] > losses[0][-1]


@pytest.mark.parametrize("change", ["weights", "pooling", "size", "images"])
def test_other_weights_pooling_size_or_images_are_not_taken_for_these(train, root, tmp_path, change):
    before = np.array(compute_features(linear(), train).plain)
    other = {"weights": linear(seed=1), "pooling": linear(pooling="gap")}.get(change, linear())
    dataset = train
    if change == "size":
        dataset = load_dataset("picto-voc", "train", root=root, size=64)
    if change == "images":  # the same labels and names over other pictures, as after a change to the drawing
        copy = tmp_path / "copy"
        picto.prepare(copy, SPEC)
        path = copy / "VOCdevkit" / "VOC2012" / "JPEGImages"
        first, second = sorted(path.glob("train_*.jpg"))[:2]
        first.write_bytes(second.read_bytes())
        (copy / scenes.CHECKSUMS).unlink()  # or it would be refused
        dataset = load_dataset("picto-voc", "train", root=copy, size=48)
    after = np.array(compute_features(other, dataset).plain)
    assert not np.array_equal(before, after)


@pytest.mark.parametrize("damage", [
    lambda content: content[:500], lambda content: content[:-4], lambda content: content[:3], lambda content: b"",
    lambda content: content[:-9] + bytes([content[-9] ^ 1]) + content[-8:],  # in the last row
    lambda content: content[:130] + bytes([content[130] ^ 128]) + content[131:],  # in the first one
    lambda content: content[:-1] + bytes([content[-1] ^ 4]), lambda content: content + b"\0",
])  # fmt: skip
def test_a_broken_file_is_computed_again(train, folder, monkeypatch, damage):
    whole = np.array(compute_features(linear(), train).plain)
    [path] = folder.glob("*.npy")
    right = path.read_bytes()
    path.write_bytes(damage(right))
    said = []
    monkeypatch.setattr(module, "say", said.append)
    np.testing.assert_array_equal(np.array(compute_features(linear(), train).plain), whole)
    assert path.read_bytes() == right and f"{path.name} in the feature cache is broken" in said[0]


def test_a_whole_file_is_read_through_once(train, monkeypatch):
    compute_features(linear(), train)
    calls, checksum = [], module._checksum
    monkeypatch.setattr(module, "_checksum", lambda file, size: calls.append(size) or checksum(file, size))
    for _ in range(3):
        compute_features(linear(), train)
    assert calls == [128 + 40 * 96 * 4]


def test_features_are_an_array_of_numpy_with_their_checksum_behind_it(train, folder):
    stored = np.array(compute_features(linear(), train).plain)
    [path] = folder.glob("*.npy")
    content = path.read_bytes()
    assert int.from_bytes(content[-4:], "little") == zlib.crc32(content[:-4])
    np.testing.assert_array_equal(np.load(io.BytesIO(content[:-4])), stored)


def test_a_disk_that_fills_up_is_the_systems_error_and_leaves_nothing(train, folder, monkeypatch):
    def full(file, size):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "_checksum", full)
    with pytest.raises(OSError, match="No space left"):
        compute_features(linear(), train)
    assert {path.suffix for path in folder.iterdir()} == {".lock"}


def test_features_of_images_in_draft_mode_are_not_taken_for_those_of_whole_ones(train, root, folder):
    drafted = load_dataset("picto-voc", "train", root=root, size=48)
    drafted.draft = True
    compute_features(linear(), train)
    compute_features(linear(), drafted)
    assert len(list(folder.glob("*.npy"))) == 2


def test_an_interrupted_writer_leaves_nothing_that_is_taken_for_whole(train, folder, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "prepare_images", stop)
    with pytest.raises(KeyboardInterrupt):
        compute_features(linear(), train)
    assert not list(folder.glob("*.npy"))
    monkeypatch.undo()
    monkeypatch.setattr(module, "cache_folder", lambda: folder)
    assert compute_features(linear(), train).plain.shape == (40, 96)


def _compute(root, folder):
    module.cache_folder = lambda: folder
    train = load_dataset("picto-voc", "train", root=root, size=48)
    return np.array(compute_features(linear(), train).plain).sum()


def test_two_processes_at_once_get_the_same_features(root, folder):
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        sums = pool.starmap(_compute, [(root, folder)] * 2)
    assert sums[0] == sums[1]
    assert len(list(folder.glob("*.npy"))) == 1


def test_a_disk_without_room_is_told_before_it_is_written(train, folder, monkeypatch):
    usage = type("Usage", (), {"free": 10})()
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(InputError, match=r"picto-voc train need .* MB, but 0 MB are free in data/cache"):
        compute_features(linear(), train)
    assert not list(folder.glob("*.npy"))


def test_the_size_is_said_before_the_trunk_runs(train, monkeypatch):
    said = []
    monkeypatch.setattr(module, "say", said.append)
    compute_features(linear(), train)
    assert said == ["features of picto-voc train, plain: 40 x 96 fp32, 0.0 MB in data/cache/features"]


def test_half_of_the_images_of_a_batch_are_mirrored():
    plain, mirrored = np.zeros((1000, 2), np.float32), np.ones((1000, 2), np.float32)
    batch = Features(plain, mirrored).batch(torch.arange(1000), torch.Generator().manual_seed(0))
    assert 400 < batch[:, 0].sum() < 600
    assert (batch[:, 0] == batch[:, 1]).all()
    assert Features(plain).batch(torch.arange(3)).sum() == 0


def test_jitter_can_not_reach_cached_features(train):
    with pytest.raises(InputError, match=r"recipe\.jitter=0\.2.*set recipe\.jitter=0"):
        fit(linear(), train, Recipe(epochs=1), seed=0)
