"""What a trained model shows of one image under options that can be changed after training.

METHODS lists the options of each method and their values; a notebook's sliders and its static figures both read it.
The trunk sees an image once (`look`), so that `view` costs little more than the drawing.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int8
from matplotlib.figure import Figure
from torch import Tensor, nn

from mlic_core.data import MultiLabelDataset
from mlic_core.errors import InputError, did_you_mean
from mlic_core.images import prepare_images
from mlic_core.models.classifier import Classifier
from mlic_core.models.cnn_rnn import CNNRNN
from mlic_core.models.gla import GLA
from mlic_core.models.localization import crop, normalise, profiles, select_maps
from mlic_core.models.mcar import CONTROLS, MCAR
from mlic_core.models.rdar import RDAR
from mlic_core.models.spatial import spatial_transform
from mlic_core.plots_explore import Bars, Column, PathRow, columns_figure, paths_figure
from mlic_core.plots_mcar import name_classes
from mlic_core.study.predict import path_probabilities
from mlic_core.training import is_frozen

SHOWN = 8  # labels with bars
MAPS = 4  # class maps of the baseline
LARGEST = 320  # pixels a side of the whole image in a figure


@dataclass(frozen=True)
class Option:
    """An attribute of a model that may be changed after training, its values in order, and what a change means."""

    name: str
    values: tuple[int, ...] | tuple[float, ...] | tuple[str, ...]
    meaning: str


class Seen(NamedTuple):
    """An image as a model's trunk saw it. pixels: in [0, 1], as squashed for the network; inputs: the same normalised.

    truth: 1 where a label is present; 0 throughout for a user's image. usual: scores as trained, probabilities.
    """

    model: nn.Module
    original: Float[np.ndarray, "height width 3"]
    pixels: Float[Tensor, "1 3 size size"]
    inputs: Float[Tensor, "1 3 size size"]
    features: Float[Tensor, "1 ..."]
    labels: tuple[str, ...]
    truth: Int8[np.ndarray, " classes"]
    usual: Float[np.ndarray, " classes"]


class Found(NamedTuple):
    """What a model made of an image: probabilities (C,) by stream, the last one its answer, and columns or paths."""

    series: Mapping[str, Float[Tensor, " classes"]]
    columns: Sequence[Column] = ()
    paths: Sequence[PathRow] | None = None


class View(NamedTuple):
    """A figure and the scores in it: probabilities (C,) of all labels."""

    figure: Figure
    scores: Float[np.ndarray, " classes"]


@dataclass(frozen=True)
class Method:
    """What finds a method's figures, and the options that may be changed."""

    find: Callable[[Seen], Found]
    options: tuple[Option, ...]


def options_of(model: nn.Module) -> dict[Option, int | float | str]:
    """The options of a trained model, each with the value that it was trained with, which is among its `values`.

    Raises InputError for a method that can't be explored, and for a model whose regions come from elsewhere.
    """
    if type(model) not in METHODS:
        names = ", ".join(kind.__name__ for kind in METHODS)
        raise InputError(f"a model of the class {type(model).__name__} can't be explored; choose one of {names}")
    if isinstance(model, MCAR) and (model.selection in CONTROLS or model.crop_from != "input" or model.adaptive):
        raise InputError("this MCAR does not cut all regions of its maps from its input; explore one with the defaults")
    if isinstance(model, RDAR) and (model.source is not None or model.views != "whole"):
        raise InputError("this RDAR does not choose its regions in one view; explore one with the defaults")
    return dict(_fitted(model, one) for one in METHODS[type(model)].options)


def _fitted(model: nn.Module, option: Option) -> tuple[Option, int | float | str]:
    """An option with the values that this model can take, and the present one."""
    present = getattr(_owner(model, option.name), option.name)
    if isinstance(present, str):
        return option, present
    most = {"topN": lambda: model.head.linear.out_features, "min_length": lambda: model.length}
    limit = most.get(option.name, lambda: math.inf)()
    return replace(option, values=tuple(sorted({present, *(one for one in option.values if one <= limit)}))), present


@torch.inference_mode()
def look(model: nn.Module, dataset: MultiLabelDataset, index: int) -> Seen:
    """An image of a data set, and what the model's trunk makes of it: all that no option changes.

    The data set has the size and the labels that the model was trained with. Raises InputError as `options_of` and
    `dataset.read` do, and for an index out of range.
    """
    options_of(model)
    if not 0 <= index < len(dataset):
        raise InputError(f"image {index}: {dataset.name} {dataset.split} has the images 0 to {len(dataset) - 1}")
    original = dataset.original(index)
    original.thumbnail((LARGEST, LARGEST))
    images = dataset.read(index)[None]
    inputs = prepare_images(images, model.trunk)
    features = model.features(inputs) if is_frozen(model) else model.trunk(inputs)
    shown = np.asarray(original, np.float64) / 255, images.float() / 255
    seen = Seen(model, *shown, inputs, features, dataset.labels, dataset.targets[index], np.zeros(len(dataset.labels)))
    return seen._replace(usual=_answer(_find(seen)))


@torch.inference_mode()
def view(seen: Seen, **options: int | float | str) -> View:
    """The figure and the scores of an image with some options changed: `view(seen, topN=2, tau=0.3)`.

    The model is left as it was. What is drawn at random is drawn alike each time. Raises InputError for an option that
    the method hasn't, or a value that `options_of` does not list for it.
    """
    _check(seen.model, options)
    with _changed(seen.model, options):
        found = _find(seen)
    scores = _answer(found)
    shown = _shown(scores, seen)
    series = {name: values.numpy()[shown] for name, values in found.series.items()}
    bars = Bars(name_classes(shown, seen.labels, seen.truth), series, seen.usual[shown])
    if found.paths is not None:
        return View(paths_figure(seen.original, found.paths, bars), scores)
    return View(columns_figure(seen.original, found.columns, bars), scores)


def best_labels(scores: Float[np.ndarray, " classes"], labels: Sequence[str], count: int = 3) -> str:
    """The best labels with their scores, as text: "person 0.91, dog 0.43"."""
    return ", ".join(f"{labels[c]} {scores[c]:.2f}" for c in np.argsort(-scores, kind="stable")[:count])


def _find(seen: Seen) -> Found:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return METHODS[type(seen.model)].find(seen)


def _answer(found: Found) -> Float[np.ndarray, " classes"]:
    return list(found.series.values())[-1].double().numpy()


def _shown(scores: Float[np.ndarray, " classes"], seen: Seen) -> list[int]:
    """The labels with bars: those present, and the best now and as trained; in the order of the latter."""
    best = np.argsort(-np.maximum(scores, seen.usual) - (seen.truth == 1), kind="stable")[:SHOWN]
    return sorted(best.tolist(), key=lambda c: -seen.usual[c])


def _owner(model: nn.Module, option: str) -> nn.Module:
    """The module whose attribute an option is."""
    return model.head if option == "pooling" else model


def _check(model: nn.Module, options: Mapping[str, int | float | str]) -> None:
    known = {one.name: one.values for one in options_of(model)}
    for name, value in options.items():
        if name not in known:
            raise InputError(f"{name!r} is no option of {type(model).__name__} here{did_you_mean(name, known)}")
        if value not in known[name]:
            raise InputError(f"{name}={value!r}: choose one of {', '.join(map(str, known[name]))}")


@contextmanager
def _changed(model: nn.Module, options: Mapping[str, int | float | str]) -> Iterator[None]:
    """The model with other options, and as it was afterwards."""
    before = {name: getattr(_owner(model, name), name) for name in options}
    try:
        for name, value in options.items():
            setattr(_owner(model, name), name, value)
        yield
    finally:
        for name, value in before.items():
            setattr(_owner(model, name), name, value)


def _picture(images: Float[Tensor, "1 3 height width"]) -> Float[np.ndarray, "height width 3"]:
    return images[0].permute(1, 2, 0).numpy()


def _best(scores: Float[Tensor, " classes"], labels: Sequence[str]) -> str:
    """The best label and its score, on two lines."""
    return f"{labels[int(scores.argmax())]}\n{float(scores.max()):.2f}"


def _classifier(seen: Seen) -> Found:
    """The maps of the best classes (MCAR Eq. 4)."""
    p = seen.model.head(seen.features).sigmoid()[0]
    maps = seen.model.head.class_maps(seen.features).sigmoid()[0]
    names = name_classes(range(len(p)), seen.labels, seen.truth)
    picture = _picture(seen.pixels)
    columns = [
        Column(f"map of {names[c]}", f"{p[c]:.2f}", picture, weights=maps[c].numpy())
        for c in p.argsort(descending=True, stable=True)[:MAPS].tolist()
    ]
    return Found({"score": p}, columns)


def _mcar(seen: Seen) -> Found:
    """MCAR's steps (§III-B), as in its forward: scores, regions of the best classes, scores of these, their maximum."""
    model, size = seen.model, seen.inputs.shape[2:]
    first = model.head(seen.features)
    if model.topN == 0:
        return Found({"global": first.sigmoid()[0]})
    classes = model.select(first)
    maps = select_maps(model.head.class_maps(seen.features), classes).sigmoid()
    boxes = model.boxes(maps, tuple(size))
    crops = crop(seen.inputs, boxes)[0]
    regions = model.score_regions(crops, len(crops)).sigmoid()
    across, down = (normalise(one)[0].numpy() for one in profiles(maps, *size))
    cuts = crop(seen.pixels, boxes)[0].clamp(0, 1).permute(0, 2, 3, 1).numpy()
    names = name_classes(classes[0].tolist(), seen.labels, seen.truth)
    shares = boxes[0].numpy() / np.tile(size[::-1], 2)
    columns = [
        Column(
            title=f"{i + 1} {name}",
            text="→ " + _best(regions[i], seen.labels).replace("\n", " "),
            picture=_picture(seen.pixels),
            box=shares[i],
            weights=maps[0, i].numpy(),
            profiles=(across[i], down[i]),
            tau=float(model.tau),
            cut=cuts[i],
        )
        for i, name in enumerate(names)
    ]
    local = regions.amax(0)  # Eq. 3
    series = {"global": first.sigmoid()[0], "local": local}
    return Found(series | {"both": torch.maximum(series["global"], local)}, columns)  # Eq. 11


def _rdar(seen: Seen) -> Found:
    """RDAR's walk over its regions (§3.2): what each is, and what it says."""
    model = seen.model
    found = model.head(seen.features)
    probability = torch.exp if model.loss_name == "euclidean" else torch.sigmoid
    steps, picture = probability(found.steps[0]), _picture(seen.pixels)
    columns = []
    for k, transform in enumerate(found.transforms[0]):
        cut = spatial_transform(seen.pixels, transform[None], tuple(seen.pixels.shape[2:])).clamp(0, 1)
        text = _best(steps[k], seen.labels)
        columns.append(Column(f"region {k + 1}", text, picture, box=found.regions[0, k].numpy(), cut=_picture(cut)))
    return Found({"maximum over the regions": probability(found.logits[0])}, columns)


def _gla(seen: Seen) -> Found:
    """The weights of global attention and of each step (Eq. 1 and 4), and the step's best label."""
    found = seen.model.head(seen.features)
    steps, picture = found.steps[0].sigmoid(), _picture(seen.pixels)
    texts = [("global", "")] if seen.model.overview is not None else []
    texts += [(f"step {t + 1}", _best(step, seen.labels)) for t, step in enumerate(steps)]
    columns = []
    for (title, text), weights in zip(texts, [] if found.maps is None else found.maps[0], strict=False):
        above = f"peak {float(weights.max()) * weights.numel():.1f}×"  # times the uniform weight
        light = (weights / weights.max()).numpy()
        columns.append(Column(title, f"{above}\n{text}", picture, weights=light, corners=False))
    return Found({"maximum over the steps": found.logits[0].sigmoid()}, columns)


def _cnn_rnn(seen: Seen) -> Found:
    """The paths that the beam search found (§3.3)."""
    found = seen.model.head(seen.features)
    p = path_probabilities(seen.model, seen.features, found.paths)[0].tolist()
    rows = []
    for path, steps, whole in zip(found.paths[0].tolist(), p, found.path_log_probs[0].exp().tolist(), strict=True):
        names = [seen.labels[label] for label in path if label >= 0]
        rows += [PathRow(names, steps[: len(names) + 1], whole)] * (whole > 0)  # fewer paths than beams may have ended
    return Found({"greatest P on the way of the best path": found.logits[0].exp()}, paths=rows)


_TAUS = tuple(round(0.05 * i, 2) for i in range(21))
_POOLING = Option("pooling", ("gap", "gmp", "gwp"), "how a map becomes a score")
METHODS: dict[type[nn.Module], Method] = {
    Classifier: Method(_classifier, (_POOLING,)),
    CNNRNN: Method(
        _cnn_rnn,
        (
            Option("beam", tuple(range(1, 9)), "paths followed at a time; 1 is the greedy search"),
            Option("min_length", tuple(range(5)), "least labels of a path, as k on NUS-WIDE"),
        ),
    ),
    RDAR: Method(_rdar, (Option("K", tuple(range(1, 10)), "regions; more than it was trained with go on unlearned"),)),
    GLA: Method(_gla, (Option("T", tuple(range(1, 9)), "steps; more than it was trained with go on unlearned"),)),
    MCAR: Method(
        _mcar,
        (
            Option("topN", tuple(range(7)), "classes that give a region; 0 is the first look alone"),
            Option("tau", _TAUS, "threshold τ of the profiles; 0 gives the whole image"),
            Option("selection", ("top", "random", "bottom"), "which classes give regions, by their global score"),
            _POOLING,
        ),
    ),
}
