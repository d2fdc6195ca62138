"""Views, scales and SVMs of a trained RDAR: what they are made of, and that they are scored once."""

import numpy as np
import pytest
import torch

from mlic_core import diagnosis, features
from mlic_core.data.picto import PictoSpec, prepare
from mlic_core.errors import InputError
from mlic_core.features import compute_features
from mlic_core.images import prepare_images
from mlic_core.metrics import mean_average_precision
from mlic_core.models import svm
from mlic_core.study.experiments import from_settings, open_split
from mlic_core.study.store import Store
from mlic_core.study.testing import at_size, scores_of, svm_of, true_boxes

TINY = {"trunk": "pictonet-s", "trunk.weights": "none", "recipe.batch_size": 8, "recipe.epochs": 1}
HEAD = {"method": "rdar", "method.hidden": 8, "method.K": 2}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A store with RDARs of two input sizes, and their experiments."""
    root = prepare(tmp_path_factory.mktemp("data") / "picto-voc", PictoSpec(train=24, val=12, test=12, side=128))
    cache = tmp_path_factory.mktemp("features")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(features, "cache_folder", lambda: cache)
        store = Store(tmp_path_factory.mktemp("runs"))
        sizes = {96: 5 / 6, 128: 7 / 8}
        made = [
            from_settings({"data.root": str(root), "data.size": size, "method.crop": crop, **TINY, **HEAD})
            for size, crop in sizes.items()
        ]
        for experiment in made:
            store.run(experiment)
        yield store, made


def test_the_whole_image_is_what_the_run_was_scored_on(trained):
    store, (small, _) = trained
    np.testing.assert_allclose(scores_of(store, [small], "whole"), store.run(small).scores()["logits"], atol=1e-5)


def test_two_scales_are_the_mean_of_their_probabilities(trained):
    store, both = trained
    single = [np.exp(scores_of(store, [one], "ten")) for one in both]
    np.testing.assert_allclose(np.exp(scores_of(store, both, "ten")), np.mean(single, 0), atol=1e-6)


def test_mirrored_images_take_the_second_half_of_the_views(trained):
    store, (_, large) = trained
    model, test = store.model(large), open_split(large.data, "test")
    model.views, halves = "five", []
    pixels = torch.stack([test.read(i) for i in range(len(test))])
    with torch.inference_mode():
        for images in (pixels, pixels.flip(3)):
            halves.append(model(prepare_images(images, model.trunk)).logits.exp().numpy())
    found = np.exp(scores_of(store, [large], "ten, mirrored images"))
    np.testing.assert_allclose(found, np.mean(halves, 0), atol=1e-5)


def test_separate_passes_see_nothing_beyond_their_crop(trained):
    store, (_, large) = trained
    model, test = store.model(large), open_split(large.data, "test")
    pixels, model.views = torch.stack([test.read(i) for i in range(len(test))]), "whole"
    places = [(8, 8), (0, 0), (0, 16), (16, 0), (16, 16)]
    with torch.inference_mode():
        images = prepare_images(pixels, model.trunk)
        crops = [images[:, :, y : y + 112, x : x + 112] for y, x in places]
        single = [model(one).logits.exp().numpy() for view in crops for one in (view, view.flip(3))]
    found = np.exp(scores_of(store, [large], "ten, separate passes"))
    np.testing.assert_allclose(found, np.mean(single, 0), atol=1e-5)


def test_the_svm_learns_from_train_chooses_by_val_and_scores_test(trained):
    store, both = trained
    parts = {}
    for split in ("train", "val", "test"):
        found = []
        for one in both:
            model, dataset = store.model(one), open_split(one.data, split)
            model.views = "ten"
            with torch.inference_mode():
                found.append(model.representation(torch.from_numpy(np.array(compute_features(model, dataset).plain))))
        parts[split] = torch.cat(found, 1), torch.from_numpy(dataset.targets)
    maps = {}
    for C in svm.VALUES:
        scores = svm.svm_scores(svm.fit_svm(*parts["train"], C), parts["val"][0]).numpy()
        maps[C] = mean_average_precision(scores, parts["val"][1].numpy()).value
    best = max(maps, key=lambda C: (maps[C], -C))
    expected = svm.svm_scores(svm.fit_svm(*parts["train"], best), parts["test"][0]).numpy()
    np.testing.assert_allclose(svm_of(store, both, "ten"), expected, rtol=1e-3, atol=1e-4)


def test_scores_are_kept_and_need_no_model(trained, monkeypatch):
    store, both = trained
    first = scores_of(store, both, "centre"), svm_of(store, both, "whole")

    def forbid(*args, **kwargs):
        raise AssertionError("the model was asked for")

    monkeypatch.setattr(Store, "model", forbid)
    np.testing.assert_array_equal(scores_of(store, both, "centre"), first[0])
    np.testing.assert_array_equal(svm_of(store, both, "whole"), first[1])


@pytest.mark.parametrize("content", [b"", b"no archive", None])
def test_broken_files_and_those_of_other_code_are_scored_again(trained, content):
    store, (small, _) = trained
    first, path = scores_of(store, [small], "five"), store.run(small).folder / "tested-five.npz"
    if content is None:
        np.savez(path, scores=np.zeros_like(first), code=np.array("other"))
    else:
        path.write_bytes(content)
    np.testing.assert_array_equal(scores_of(store, [small], "five"), first)


def test_a_flipped_bit_is_noticed_wherever_it_is(trained):
    store, (small, _) = trained
    first, path = scores_of(store, [small], "five"), store.run(small).folder / "tested-five.npz"
    whole = path.read_bytes()
    for bit in np.random.default_rng(0).integers(0, 8 * len(whole), 60):
        changed = bytearray(whole)
        changed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(changed)
        np.testing.assert_array_equal(scores_of(store, [small], "five"), first)


def test_a_run_of_other_code_is_not_scored_again(trained, monkeypatch):
    store, (small, _) = trained
    path = store.run(small).folder / "tested-centre.npz"
    path.unlink(missing_ok=True)
    monkeypatch.setattr("mlic_core.study.record.Record.stale", True)
    with pytest.raises(InputError, match="made by other code"):
        scores_of(store, [small], "centre")
    assert not path.exists()


def test_the_files_of_other_tests_have_other_names(trained):
    store, (small, _) = trained
    for test in ("five", "ten", "ten, mirrored images"):
        scores_of(store, [small], test)
    names = {path.name for path in store.run(small).folder.glob("tested-*.npz")}
    assert {"tested-five.npz", "tested-ten.npz", "tested-ten-mirrored-images.npz"} <= names


def test_another_size_is_the_same_weights_on_larger_images(trained):
    store, (small, large) = trained
    model, test = store.model(small), open_split(large.data, "test")  # 128 pixels, trained on 96
    pixels = torch.stack([test.read(i) for i in range(len(test))])
    with torch.inference_mode():
        expected = model(prepare_images(pixels, model.trunk)).logits.numpy()
    np.testing.assert_allclose(at_size(store, small, 128), expected, atol=1e-5)
    np.testing.assert_allclose(at_size(store, small, 96), store.run(small).scores()["logits"], atol=1e-5)
    assert np.abs(at_size(store, small, 96) - expected).max() > 1e-3


def test_true_boxes_are_scored_once_and_then_need_no_model(trained, tmp_path, monkeypatch):
    _, (small, _) = trained
    mcar = {"data.root": small.data.root, "data.size": 32, **TINY, "method": "mcar"}
    store, experiment = Store(tmp_path), from_settings(mcar)
    expected = diagnosis.true_region_scores(store.model(experiment), open_split(experiment.data, "test"))
    np.testing.assert_array_equal(true_boxes(store, experiment), expected)
    monkeypatch.setattr(Store, "model", None)
    np.testing.assert_array_equal(true_boxes(store, experiment), expected)
    monkeypatch.setattr("mlic_core.study.provenance.module_digest", lambda *names: f"changed {names}")
    with pytest.raises(TypeError):  # other code: it asks for the model
        true_boxes(store, experiment)
