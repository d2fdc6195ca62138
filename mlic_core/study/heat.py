"""Where in an image a method's answer comes from: a few maps for each image, whatever the method.

The baseline and the linear classifier have class maps, MCAR those that its regions were cut from, global/local
attention the weights of each step, CNN-RNN the evidence for the labels of its best path (see `looks`). RDAR has regions
only.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from mlic_core.looks import label_evidence, tokens_of
from mlic_core.models import Prediction
from mlic_core.models.classifier import Classifier
from mlic_core.models.cnn_rnn import CNNRNN
from mlic_core.models.gla import GLA
from mlic_core.models.linear import Linear
from mlic_core.models.mcar import MCAR

MAPS = 4  # class maps of a method that has one for every class


class HeatMap(NamedTuple):
    """A map over an image. weights: (rows, columns) in [0, 1]; meaning: what 1 is, in words.

    corners: whether its outer cells lie on the image's corners, or else each over its own part.
    box: the region that was cut out by it, x0, y0, x1, y1 in [0, 1].
    """

    title: str
    weights: Float[np.ndarray, "rows columns"]
    meaning: str
    corners: bool = True
    box: Float[np.ndarray, "4"] | None = None


class Batch(NamedTuple):
    """What a method's maps are made from: the trunk's maps of images, what the model said of them, scores by class."""

    model: nn.Module
    cells: Float[Tensor, "images channels rows columns"]
    prediction: Prediction
    scores: Float[np.ndarray, "images classes"]
    labels: Sequence[str]

    def name(self, image: int, label: int) -> str:
        """A class with its score in an image."""
        return f"{self.labels[label]} {self.scores[image, label]:.2f}"


def heat_maps(
    model: nn.Module,
    cells: Float[Tensor, "images channels rows columns"],
    prediction: Prediction,
    scores: Float[np.ndarray, "images classes"],
    labels: Sequence[str],
) -> list[tuple[HeatMap, ...]]:
    """The maps of each image; none for a method that has none.

    cells: the trunk's maps of the images; prediction: of the model on these; scores: the same as they are shown, for
    the titles.
    """
    find = METHODS.get(type(model))
    with torch.no_grad():
        return find(Batch(model, cells, prediction, scores, labels)) if find else [()] * len(cells)


def _of_best(batch: Batch, maps: Float[Tensor, "images classes rows columns"], meaning: str) -> list:
    """The maps of each image's best classes."""
    shown = maps.float().cpu().numpy()
    best = np.argsort(-batch.scores, axis=1, kind="stable")[:, :MAPS].tolist()
    return [tuple(HeatMap(batch.name(i, c), shown[i, c], meaning) for c in classes) for i, classes in enumerate(best)]


def _classifier(batch: Batch) -> list[tuple[HeatMap, ...]]:
    """MCAR Eq. 4: the classifier on every cell."""
    maps = batch.model.head.class_maps(batch.cells)
    return _of_best(batch, maps.sigmoid(), "the classifier is sure of the class in this cell")


def _linear(batch: Batch) -> list[tuple[HeatMap, ...]]:
    """The classifier on every cell, with what its loss makes of scores; those that only rank go from 0 to 1."""
    cells = batch.cells.float().permute(0, 2, 3, 1)
    maps = batch.model.linear(cells).permute(0, 3, 1, 2)
    if batch.model.loss_name != "warp":
        how = {"bce": torch.sigmoid, "softmax": lambda logits: logits.softmax(1)}[batch.model.loss_name]
        return _of_best(batch, how(maps), "the classifier is sure of the class in this cell")
    low, high = maps.amin((2, 3), keepdim=True), maps.amax((2, 3), keepdim=True)
    return _of_best(batch, (maps - low) / (high - low).clamp(min=1e-12), "the map's highest score, dark its lowest")


def _mcar(batch: Batch) -> list[tuple[HeatMap, ...]]:
    """The maps that the regions were cut from."""
    found = batch.prediction
    if found.maps is None:  # controls look at no map
        return [()] * len(batch.cells)
    maps, boxes = (one.float().cpu().numpy() for one in (found.maps, found.regions))
    meaning = "the first look is sure of the class in this cell"
    return [
        tuple(
            HeatMap(f"{k + 1} {batch.name(i, c)}", maps[i, k], meaning, box=boxes[i, k]) for k, c in enumerate(classes)
        )
        for i, classes in enumerate(found.region_labels.tolist())
    ]


def _gla(batch: Batch) -> list[tuple[HeatMap, ...]]:
    """The weights of global attention and of each step (Eq. 1 and 4), each map by its highest."""
    if batch.prediction.maps is None:
        return [()] * len(batch.cells)
    maps = batch.prediction.maps.float()
    maps = (maps / maps.amax((2, 3), keepdim=True)).cpu().numpy()
    steps = batch.prediction.steps.sigmoid()
    found = []
    for weights, p in zip(maps, steps, strict=True):
        titles = ["global"] if batch.model.overview is not None else []
        best = zip(p.argmax(1).tolist(), p.amax(1).tolist(), strict=True)
        titles += [f"step {t + 1}: {batch.labels[c]} {score:.2f}" for t, (c, score) in enumerate(best)]
        pairs = zip(titles, weights, strict=False)  # without local attention the steps have no maps
        found.append(tuple(HeatMap(title, one, "the map's highest weight", corners=False) for title, one in pairs))
    return found


def _cnn_rnn(batch: Batch) -> list[tuple[HeatMap, ...]]:
    """The evidence for each label of the best path, each map by its highest."""
    paths = batch.prediction.paths[:, 0]
    image, step = (paths >= 0).nonzero(as_tuple=True)
    found: list[list[HeatMap]] = [[] for _ in batch.cells]
    labels, tokens = paths[image, step], tokens_of(batch.model, paths)
    maps = label_evidence(batch.model, batch.cells.float()[image], tokens[image], labels)
    maps = (maps / maps.amax((1, 2), keepdim=True).clamp(min=1e-12)).cpu().numpy()
    for i, k, label, weights in zip(image.tolist(), step.tolist(), labels.tolist(), maps, strict=True):
        title = f"{k + 1} {batch.name(i, label)}"
        found[i].append(HeatMap(title, weights, "the strongest evidence for the label", corners=False))
    return list(map(tuple, found))


METHODS: dict[type[nn.Module], Callable[[Batch], list[tuple[HeatMap, ...]]]] = {
    Classifier: _classifier,
    Linear: _linear,
    CNNRNN: _cnn_rnn,
    GLA: _gla,
    MCAR: _mcar,
}
