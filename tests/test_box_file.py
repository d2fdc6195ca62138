"""RDAR on proposals of a box file, in the run store: named by the file's content, trained once, loaded without it."""

import hashlib

import numpy as np
import pytest

from mlic_core import features
from mlic_core.data.picto import PictoSpec, prepare
from mlic_core.errors import InputError
from mlic_core.study import provenance
from mlic_core.study.experiments import experiment_of, from_settings, open_split, run_name
from mlic_core.study.store import Store, load_model

TINY = {"trunk": "pictonet-s", "trunk.weights": "none", "recipe.batch_size": 8, "recipe.epochs": 1, "data.size": 64}
HEAD = {"method": "rdar", "method.hidden": 8, "method.K": 2}


@pytest.fixture
def settings(tmp_path, monkeypatch):
    monkeypatch.setattr(features, "cache_folder", lambda: tmp_path / "features")
    root = prepare(tmp_path / "picto-voc", PictoSpec(train=8, val=4, test=4, side=64))
    return {"data.root": str(root), **TINY, **HEAD}


@pytest.fixture
def box_file(tmp_path, settings):
    data = from_settings(settings).data
    rows = ["id,x0,y0,x1,y1,score"]
    for split in ("train", "val", "test"):
        rows += [f"{name},0.1,0.2,0.6,0.7,0.9\n{name},0.5,0.5,1,1,0.3" for name in open_split(data, split).ids]
    path = tmp_path / "boxes.csv"
    path.write_text("\n".join(rows) + "\n")
    return path


def test_a_run_is_named_by_the_content_of_its_boxes(settings, box_file):
    first = run_name(from_settings({**settings, "method.proposals": str(box_file)}))
    copy = box_file.with_name("copy.csv")
    copy.write_bytes(box_file.read_bytes())
    assert run_name(from_settings({**settings, "method.proposals": str(copy)})) == first
    copy.write_text(box_file.read_text().replace("0.6,0.7", "0.6,0.8"))
    assert run_name(from_settings({**settings, "method.proposals": str(copy)})) != first


def test_a_run_on_boxes_is_trained_stored_and_loaded_without_the_file(settings, box_file, tmp_path):
    store = Store(tmp_path / "runs")
    record = store.run(from_settings({**settings, "method.proposals": str(box_file)}))
    digest = hashlib.sha256(box_file.read_bytes()).hexdigest()
    assert record.config["method.proposals"] == f"sha256:{digest}"
    assert "transforms" not in record.scores() and np.isfinite(record.scores()["logits"]).all()
    box_file.unlink()
    assert load_model(record.folder).source.digest == digest
    with pytest.raises(InputError, match=r"method\.proposals=FILE"):
        experiment_of(record.config)


def test_images_without_boxes_and_missing_files_are_named(settings, box_file, tmp_path):
    text = box_file.read_text().splitlines()
    box_file.write_text("\n".join(text[:-2]) + "\n")
    missing = text[-1].split(",")[0]
    with pytest.raises(InputError, match=f"no box for image {missing}"):
        Store(tmp_path / "runs").run(from_settings({**settings, "method.proposals": str(box_file)}))
    with pytest.raises(InputError, match=r"method\.proposals=nowhere\.csv"):
        run_name(from_settings({**settings, "method.proposals": "nowhere.csv"}))


def test_mirrored_features_are_those_of_the_mirrored_image_and_boxes(settings, box_file):
    import torch

    from mlic_core.features import compute_features
    from mlic_core.images import prepare_images
    from mlic_core.study.store import new_model

    experiment = from_settings({**settings, "method.proposals": str(box_file)})
    model, dataset = new_model(experiment, 20), open_split(experiment.data, "val")
    found = compute_features(model, dataset, mirrored=True).mirrored
    images = prepare_images(torch.stack([dataset.read(i) for i in range(len(dataset))]), model.trunk).flip(3)
    boxes = torch.tensor([[0.4, 0.2, 0.9, 0.7], [0.0, 0.5, 0.5, 1.0]]).expand(len(dataset), 2, 4)
    with torch.inference_mode():
        np.testing.assert_allclose(found, model.features(images, boxes).numpy(), atol=1e-5)


def test_module_digest_tells_modules_apart():
    one, other = (provenance.module_digest(f"mlic_core.models.{name}") for name in ("svm", "knn"))
    assert one != other and one == provenance.module_digest("mlic_core.models.svm")
