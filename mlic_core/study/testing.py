"""Other ways to score a trained model: at another size, with true boxes; RDAR by views, scales, an SVM (§5.1, Table 6).

What they give is kept in the run's folder, so that a table needs no model.
"""

import io
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor, nn

from mlic_core.data import MultiLabelDataset
from mlic_core.diagnosis import true_region_scores
from mlic_core.errors import InputError
from mlic_core.features import compute_features
from mlic_core.images import prepare_images, read_batches
from mlic_core.models.rdar import Views, average_views
from mlic_core.models.svm import choose_C, fit_svm, svm_scores
from mlic_core.progress import track
from mlic_core.study import provenance
from mlic_core.study.experiments import Experiment, open_split
from mlic_core.study.files import exclusive, write_atomically
from mlic_core.study.store import Store
from mlic_core.training import default_device, predict

Test = Views | Literal["ten, mirrored images", "ten, separate passes"]
BATCH = 100
CODE = ("mlic_core.models.svm",)  # what the scores depend on beside the code of the runs


def scores_of(store: Store, experiments: Sequence[Experiment], test: Test) -> Float32[np.ndarray, "images classes"]:
    """Scores on the eval split by a trained model's views, or by several models' with their probabilities averaged.

    experiments: one, or one for each scale (size of the input). test: views as RDAR's option has them. Half of "ten"
    are cut from mirrored maps; with "ten, mirrored images" they are cut from the maps of the mirrored image, a second
    pass through the trunk, and with "ten, separate passes" every view is cut from the image and takes its own pass.
    Trains the runs if there are none. Raises InputError for runs that other code made.
    """
    found = [_kept(store, [one], f"tested-{test}", partial(_views, store, one, test)) for one in experiments]
    return average_views(torch.from_numpy(np.stack(found)), store.run(experiments[0]).activation).numpy()


def svm_of(store: Store, experiments: Sequence[Experiment], views: Views) -> Float32[np.ndarray, "images classes"]:
    """Decision values of one-vs-rest linear SVMs on the eval split, trained on the train split as the model was.

    Their input is `RDAR.representation`, of several models one behind the other. C is the value of the best mAP on the
    monitor split. Otherwise as `scores_of`.
    """
    names = "-".join([store.run(one).name for one in experiments][1:])
    key = f"tested-svm-{views}" + (f"-{names}" if names else "")
    return _kept(store, experiments, key, partial(_svm, store, experiments, views))


def at_size(store: Store, experiment: Experiment, size: int) -> Float32[np.ndarray, "images classes"]:
    """Logits of the trained model on the eval split, with images of `size` pixels a side; otherwise as `scores_of`."""
    data = replace(experiment.data, size=size)

    def compute() -> Float32[np.ndarray, "images classes"]:
        return predict(store.model(experiment), open_split(data, data.eval_split)).logits

    return _kept(store, [experiment], f"tested-size-{size}", compute)


def true_boxes(store: Store, experiment: Experiment) -> Float32[np.ndarray, "images classes"]:
    """`diagnosis.true_region_scores` of the trained model on the eval split; otherwise as `scores_of`."""

    def compute() -> Float32[np.ndarray, "images classes"]:
        dataset = open_split(experiment.data, experiment.data.eval_split)
        return true_region_scores(store.model(experiment), dataset)

    return _kept(store, [experiment], "tested-true-boxes", compute, ("mlic_core.diagnosis",))


def _kept(
    store: Store,
    experiments: Sequence[Experiment],
    key: str,
    compute: Callable[[], Float32[np.ndarray, "..."]],
    modules: Sequence[str] = CODE,
) -> Float32[np.ndarray, "..."]:
    """What `compute` gives, from the first run's folder if the same code put it there."""
    records = [store.run(one) for one in experiments]
    record, code = records[0], " ".join([*(one.code for one in records), provenance.module_digest(*modules)])
    path = record.folder / f"{key.replace(', ', '-').replace(' ', '-')}.npz"
    with exclusive(record.folder / ".tested.lock", f"run {record.name} is being scored by another process"):
        try:
            with np.load(path) as kept:
                if str(kept["code"]) == code:
                    return kept["scores"]
        except Exception:  # NumPy, zipfile and zlib raise a dozen kinds for bytes that went wrong
            pass  # not there, or broken: scored below
        for stale in (one for one in records if one.stale):
            raise InputError(
                f"run {stale.name} was made by other code and can't be scored again beside its own numbers; "
                f"remove {stale.folder.name} from the runs to train it anew"
            )
        scores, buffer = compute(), io.BytesIO()
        np.savez_compressed(buffer, scores=scores, code=np.array(code))
        write_atomically(path, buffer.getvalue())
    return scores


def _views(store: Store, experiment: Experiment, test: Test) -> Float32[np.ndarray, "images classes"]:
    model, dataset = _model(store, experiment), open_split(experiment.data, experiment.data.eval_split)
    activation = store.run(experiment).activation
    if test == "ten, separate passes":
        return _passes(model, dataset, activation)
    if test != "ten, mirrored images":
        return _batches(model, compute_features(model, dataset).plain, test, _logits)
    sides = compute_features(model, dataset, mirrored=True)
    halves = [torch.from_numpy(_batches(model, maps, "five", _logits)) for maps in sides]
    return average_views(torch.stack(halves), activation).numpy()


def _model(store: Store, experiment: Experiment) -> nn.Module:
    """The trained model as training had it, so that features are found which were computed then."""
    return store.model(experiment).to(default_device(), memory_format=torch.channels_last)


@torch.inference_mode()
def _passes(model: nn.Module, dataset: MultiLabelDataset, activation: str) -> Float32[np.ndarray, "images classes"]:
    """The ten views, each cut from the image and sent through the trunk."""
    model.views, side = "whole", round(dataset.size * model.crop)
    room = dataset.size - side
    corners = [(room // 2, room // 2), (0, 0), (0, room), (room, 0), (room, room)]
    order, parts = torch.arange(len(dataset)).split(BATCH), []
    for images in track(read_batches(dataset, order), total=len(order), label="ten passes"):
        images = prepare_images(images.to(default_device()), model.trunk)
        five = [images[:, :, top : top + side, left : left + side] for top, left in corners]
        scores = torch.stack([model(one).logits for view in five for one in (view, view.flip(3))])
        parts.append(average_views(scores, activation))
    return torch.cat(parts).cpu().numpy()


def _svm(store: Store, experiments: Sequence[Experiment], views: Views) -> Float32[np.ndarray, "images classes"]:
    data, found = experiments[0].data, {}
    for split in (data.train, data.monitor, data.eval_split):
        parts = []
        for one in experiments:
            model, dataset = _model(store, one), open_split(one.data, split)
            parts.append(_batches(model, compute_features(model, dataset).plain, views, _representation))
        targets = open_split(data, split).targets
        found[split] = torch.from_numpy(np.concatenate(parts, 1)), torch.from_numpy(targets)
    best, _ = choose_C(*found[data.train], *found[data.monitor])
    return svm_scores(fit_svm(*found[data.train], best), found[data.eval_split][0]).numpy()


def _logits(model: nn.Module, maps: Tensor) -> Tensor:
    return model.head(maps).logits


def _representation(model: nn.Module, maps: Tensor) -> Tensor:
    return model.representation(maps)


@torch.inference_mode()
def _batches(
    model: nn.Module, features: np.ndarray, views: Views, compute: Callable[[nn.Module, Tensor], Tensor]
) -> np.ndarray:
    device, model.views = default_device(), views
    order = np.array_split(np.arange(len(features)), -(-len(features) // BATCH))
    parts = [
        compute(model, torch.from_numpy(features[index]).to(device)) for index in track(order, label=f"{views} views")
    ]
    return torch.cat(parts).float().cpu().numpy()
