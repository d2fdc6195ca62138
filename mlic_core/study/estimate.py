"""What an experiment will take, told before it starts: multiply-adds, memory and disk, from shapes alone.

Nothing is trained: operations run on tensors without values. Work counts convolutions and matrix products, in floating
point operations; memory counts weights, what the optimiser keeps for them, the images and the peak of live tensors in
one step of training, all in fp32. Under bf16 the tensors of a step take about half. Scoring and reading images are in
neither.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from mlic_core import costs
from mlic_core.data.sources import PUBLISHED
from mlic_core.study.experiments import Data, Experiment, from_settings, open_split, settings
from mlic_core.study.notebook import Study
from mlic_core.study.store import new_model
from mlic_core.training import Recipe, is_frozen

CLASSES = {"voc2007": 20, "voc2012": 20, "coco2014": 80, "coco2017": 80, "nuswide81": 81, "nuswide1000": 1000}
LISTED = 161_789  # images in NUS-WIDE's list for training; how many of them have a tag is not published
STATES = {"sgd": 1, "adam": 2, "adamw": 2, "rmsprop": 2}  # numbers that an optimiser with momentum keeps for a weight
FLOAT = 4  # bytes


class Estimate(NamedTuple):
    """work: floating point operations of all of training. memory: peak bytes. cache: bytes of features on disk, of the
    training images and their mirror images."""

    images: int
    work: float
    memory: int
    cache: int


class Work(TorchDispatchMode):
    """Floating point operations in this context. (torch's own counter fails on linear layers without gradients.)"""

    total = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        if count := flop_registry.get(func._overloadpacket):
            self.total += count(*args, **(kwargs or {}), out_val=made)
        return made


def planned(study: Study, name: str) -> Experiment:
    """An experiment that the profile lists, on an untrained trunk, so that neither data nor other runs are needed."""
    chosen = study.listed(name)
    below, method = chosen.pop("trunk.of", None), chosen.pop("method.name")
    if below:
        chosen["trunk.name"] = planned(study, below).trunk.name
    return study.experiment(method, **(chosen | {"trunk.weights": "none"}))


def extent(data: Data) -> tuple[int, int]:
    """Training images and classes: of the data where there is a `data.root` or the set is drawn, else as published.

    Raises InputError where neither is known.
    """
    published = PUBLISHED.get(data.name, {}).get(data.train)
    if data.root or data.spec or published is None:
        split = open_split(data, data.train)
        return len(split), len(split.labels)
    return published.images or LISTED, CLASSES[data.name]


def estimate(experiment: Experiment, images: int, num_classes: int) -> Estimate:
    """What training takes on so many images."""
    recipe, size = experiment.recipe, experiment.data.size
    batch = -(-min(recipe.batch_size, images) // recipe.accumulate)
    untrained = from_settings(settings(experiment) | {"trunk.weights": "none"})
    with FakeTensorMode():
        model = new_model(untrained, num_classes).train()
        pictures = torch.zeros(batch, 3, size, size)
        if not is_frozen(model):
            targets = torch.zeros(batch, num_classes, dtype=torch.int8)
            work, peak = _measured(lambda: _step(model, model, pictures, targets))
            memory = _kept(model, recipe) + FLOAT * pictures.numel() + peak
            return Estimate(images, work / batch * images * recipe.epochs, memory, 0)
        with torch.no_grad():
            once, _ = _measured(lambda: model.features(pictures))
            shape = model.features(pictures).shape
    model = new_model(untrained, num_classes).train()  # a head is small, and may look at the values of its targets
    targets = torch.eye(num_classes, dtype=torch.int8)[torch.arange(batch) % num_classes]
    work, peak = _measured(lambda: _step(model, model.head, torch.zeros(shape), targets))
    total = once / batch * images * (1 + recipe.flip) + work / batch * images * recipe.epochs
    cache = FLOAT * shape[1:].numel() * images * (1 + recipe.flip)
    return Estimate(images, total, _kept(model, recipe) + peak, cache)


def _step(model: nn.Module, apply: Callable, inputs: torch.Tensor, targets: torch.Tensor) -> None:
    sum(model.loss(apply(inputs, targets), targets).values()).backward()


def _measured(call: Callable[[], object]) -> tuple[int, int]:
    """Operations of a call, and its peak bytes."""
    with Work() as work:
        peak = costs.peak_bytes(call)
    return work.total, peak


def _kept(model: nn.Module, recipe: Recipe) -> int:
    """Bytes of the weights and of what the optimiser keeps; gradients are among the live tensors of a step."""
    trained = sum(one.numel() for one in model.parameters() if one.requires_grad)
    weights = sum(one.numel() for one in model.parameters())
    return FLOAT * (weights + STATES[recipe.optimizer] * trained)
