"""One training loop and one prediction loop for every method."""

import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch import Tensor, nn

from mlic_core import distributed
from mlic_core.data.base import MultiLabelDataset
from mlic_core.divergence import check_losses, check_weights
from mlic_core.errors import InputError
from mlic_core.features import Features, compute_features
from mlic_core.images import prepare_images, read_batches
from mlic_core.losses import restrict_difficult
from mlic_core.metrics import mean_average_precision
from mlic_core.models.prediction import Prediction
from mlic_core.progress import track

CHECKPOINT = "checkpoint.pt"
LOOK = 50  # steps between two looks at the losses


@dataclass(frozen=True)
class Recipe:
    """How to train.

    lr and head_lr: peak learning rates of the trunk and of the new layers. schedule: "one-cycle" (linear rise over
    the first quarter, cosine fall to 0), "step" (times `gamma` after each epoch of `milestones`) or "constant".
    clip: largest norm of the gradient, 0 for none. frozen_norm: BatchNorm keeps its pretrained statistics.
    jitter: strength of the colour jitter in [0, 1). bf16: autocast the forward pass of training to bf16 where the
    device computes in it; predictions are always fp32. fp16: on a GPU without bf16, fp16 with a scaled loss.
    accumulate: parts that a batch is cut into to save memory; BatchNorm sees each part alone, and terms of the loss are
    averaged over them by their numbers of images. compile: let torch.compile make kernels for the forward pass.
    sync_norm: with several processes on GPUs, BatchNorm takes its statistics over all of them.
    """

    epochs: int = 12
    batch_size: int = 32
    optimizer: Literal["sgd", "adam", "adamw", "rmsprop"] = "sgd"
    lr: float = 0.02
    head_lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 1e-4
    schedule: Literal["one-cycle", "step", "constant"] = "one-cycle"
    milestones: tuple[int, ...] = ()
    gamma: float = 0.1
    clip: float = 5.0
    frozen_norm: bool = False
    flip: bool = True
    jitter: float = 0.2
    bf16: bool = True
    fp16: bool = False
    accumulate: int = 1
    compile: bool = False
    sync_norm: bool = False

    def __post_init__(self):
        for key in ("epochs", "batch_size", "accumulate"):
            if getattr(self, key) < 1:
                raise InputError(f"recipe.{key}={getattr(self, key)}: choose 1 or more")
        for key in ("lr", "head_lr", "weight_decay", "clip"):
            if not (getattr(self, key) >= 0 and math.isfinite(getattr(self, key))):
                raise InputError(f"recipe.{key}={getattr(self, key)}: choose a finite number, 0 or more")
        if not 0 <= self.jitter < 1:
            raise InputError(f"recipe.jitter={self.jitter}: choose a strength from 0 to below 1")

    def lr_factor(self, step: int, steps_per_epoch: int) -> float:
        """Share of the peak learning rate at an optimiser step, counted from 0."""
        if self.schedule == "constant":
            return 1.0
        if self.schedule == "step":
            return self.gamma ** sum(step // steps_per_epoch >= epoch for epoch in self.milestones)
        total = self.epochs * steps_per_epoch
        rise = max(1, total // 4)
        if step < rise:
            return (step + 1) / rise
        return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, total - rise)))

    def build_optimizer(self, groups: list[dict]) -> torch.optim.Optimizer:
        """The optimiser over `model.param_groups(recipe)`, each group with its own peak learning rate `lr`."""
        momentum, decay = self.momentum, self.weight_decay
        build = {
            "sgd": lambda: torch.optim.SGD(groups, momentum=momentum, weight_decay=decay),
            "adam": lambda: torch.optim.Adam(groups, weight_decay=decay),
            "adamw": lambda: torch.optim.AdamW(groups, weight_decay=decay),
            "rmsprop": lambda: torch.optim.RMSprop(groups, momentum=momentum, weight_decay=decay),
        }
        return build[self.optimizer]()


class Scores(NamedTuple):
    """What a model says about every image of a data set, in its order: the fields of its `Prediction`s."""

    logits: Float32[np.ndarray, "images classes"]
    steps: Float32[np.ndarray, "images steps classes"] | None = None
    paths: Int64[np.ndarray, "images beams length"] | None = None
    path_log_probs: Float32[np.ndarray, "images beams"] | None = None
    transforms: Float32[np.ndarray, "images regions 4"] | None = None


def default_device() -> torch.device:
    """The GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def fit(
    model: nn.Module,
    dataset: MultiLabelDataset,
    recipe: Recipe,
    *,
    seed: int,
    difficult: str = "ignore",
    monitor: MultiLabelDataset | None = None,
    folder: Path | None = None,
    label: str = "",
    cached: bool = True,
    after_epoch: Callable[[int, nn.Module], object] | None = None,
) -> list[dict]:
    """Train `model` in place; returns one dict an epoch: the mean of each loss term, the learning rate, monitor mAP.

    A model with a frozen trunk is trained on the features that `compute_features` keeps, and so only its head runs;
    cached=False sends every image through the trunk in every epoch instead. A model that has a method `observe` is
    shown the targets first.

    With a `folder` every epoch ends in a checkpoint there, and training goes on from the one it finds: on a CPU to the
    same bits as without the interruption. `monitor` is scored after each epoch, for the history only.
    after_epoch: called with the number of each epoch, from 1, and the model as it is then.
    difficult: how entries with only difficult objects count in the loss: "ignore", "positive" or "negative".
    Several processes (see `distributed`) share each batch and compute the loss of the whole one; the first one writes.

    Raises InputError for unreadable images; FloatingPointError when a loss is not finite, with the ids of its batch,
    and when a weight is not. The checkpoint before that is kept.
    """
    device = default_device()
    model.to(device, memory_format=torch.channels_last)
    optimizer = recipe.build_optimizer(model.param_groups(recipe))
    peaks = [group["lr"] for group in optimizer.param_groups]
    targets = restrict_difficult(torch.from_numpy(dataset.targets), difficult)
    if hasattr(model, "observe"):
        model.observe(targets)
    stored = _frozen_features(model, dataset, recipe) if cached and is_frozen(model) else None
    checkpoint = folder / CHECKPOINT if folder else None
    history = _resume(checkpoint, model, optimizer)
    apply, scaler = _applied(model, recipe, "forward" if stored is None else "head"), _scaler(recipe, device)
    batches = -(-len(dataset) // recipe.batch_size)
    steps = _epoch_batches(model, dataset, recipe, seed, first=len(history), stored=stored)
    progress = track(steps, total=recipe.epochs * batches, initial=len(history) * batches, label=label or "training")
    sums: dict[str, Tensor] = {}
    unseen: list[tuple[Tensor, Tensor]] = []  # losses that were not looked at, and the images
    for epoch, batch, inputs, index in progress:
        step = epoch * batches + batch
        if batch == 0:
            _start_epoch(model, recipe, seed, epoch)
            sums = {}
        for group, peak in zip(optimizer.param_groups, peaks, strict=True):
            group["lr"] = peak * recipe.lr_factor(step, batches)
        terms = _step(model, apply, optimizer, recipe, scaler, inputs, targets[index].to(device))
        for name, value in terms.items():
            sums[name] = sums.get(name, 0) + value * len(index)
        unseen.append((sum(terms.values()), index))
        if len(unseen) == LOOK or batch + 1 == batches:
            check_losses(*zip(*unseen, strict=True), dataset.ids, epoch + 1)
            unseen.clear()
        if batch + 1 == batches:
            history.append(_close_epoch(epoch, sums, len(dataset), optimizer, model, monitor))
            progress.note(f"loss {history[-1]['loss']:.3f}")
            if after_epoch is not None:
                after_epoch(epoch + 1, model)
            if checkpoint and distributed.rank() == 0:
                _save(checkpoint, model, optimizer, history)
    return history


def _applied(model: nn.Module, recipe: Recipe, name: str) -> Callable[..., Prediction]:
    """The model's method `name`, for all processes and compiled where that is asked for."""
    apply = model if name == "forward" else getattr(model, name)
    if distributed.world() > 1:
        apply = distributed.parallel(model, name, recipe.sync_norm)
    return torch.compile(apply) if recipe.compile else apply


def _scaler(recipe: Recipe, device: torch.device) -> torch.amp.GradScaler:
    return torch.amp.GradScaler(device.type, enabled=recipe.fp16 and device.type == "cuda")


def _step(model, apply, optimizer, recipe: Recipe, scaler, inputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """One step of the optimiser; `inputs` are this process's share of the batch, `targets` the whole batch's."""
    optimizer.zero_grad(set_to_none=True)
    parts = _parts(targets, recipe)
    own = inputs.split([len(distributed.share(part)) for part in parts])
    sums: dict[str, Tensor] = {}
    for given, wanted in zip(own, parts, strict=True):
        terms = _loss(model, apply, recipe, given, wanted)
        share = len(wanted) / len(targets)
        scaler.scale(sum(terms.values()) * (share * distributed.loss_scale(len(wanted)))).backward()
        for name, value in terms.items():
            sums[name] = sums.get(name, 0) + value.detach() * share
    scaler.unscale_(optimizer)
    if recipe.clip:
        nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
    scaler.step(optimizer)
    scaler.update()
    return sums


def _parts(batch: Tensor, recipe: Recipe) -> tuple[Tensor, ...]:
    """What is passed through the model at a time: all of a batch, unless gradients are accumulated."""
    return batch.tensor_split(max(1, min(recipe.accumulate, len(batch) // distributed.world())))


def _loss(model, apply, recipe: Recipe, inputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
    with _autocast(recipe, inputs.device):
        prediction = apply(inputs, distributed.share(targets))
    return model.loss(distributed.whole(prediction, len(targets)), targets)


def _autocast(recipe: Recipe, device: torch.device) -> torch.autocast:
    if recipe.bf16 and computes_in_bf16(device):
        return torch.autocast(device.type, torch.bfloat16)
    return torch.autocast(device.type, torch.float16, enabled=recipe.fp16 and device.type == "cuda")


def _start_epoch(model: nn.Module, recipe: Recipe, seed: int, epoch: int) -> None:
    # An epoch draws its random numbers from (seed, epoch) alone, so a resumed run needs no generator state.
    torch.manual_seed(_mix(seed, epoch, 1, *_other_process()))
    model.train()
    if recipe.frozen_norm:
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()


def _other_process() -> tuple[int, ...]:
    """What other processes than the first one add to a seed, so that each changes its images in its own way."""
    return (distributed.rank(),) if distributed.rank() else ()


def _close_epoch(epoch, sums, count, optimizer, model, monitor) -> dict:
    means = {name: (total / count).item() for name, total in sums.items()}
    loss = sum(means.values())
    check_weights(model, epoch + 1)
    record = {"epoch": epoch + 1, "loss": loss, **means, "lr": optimizer.param_groups[0]["lr"]}
    if monitor is not None:
        scores = predict(model, monitor).logits
        record["monitor_mAP"] = 100 * float(mean_average_precision(scores, monitor.targets).value)
    return record


def _mix(*numbers: int) -> int:
    """One seed from several numbers, without the collisions of their sum."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))


def computes_in_bf16(device: torch.device) -> bool:
    """Whether bf16 is native; elsewhere it is emulated and slower than fp32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


@torch.inference_mode()
def predict(model: nn.Module, dataset: MultiLabelDataset, *, batch_size: int = 100, label: str = "") -> Scores:
    """Score every image in fp32; of a frozen trunk the cached features are used.

    The model is left in evaluation mode. Raises InputError for unreadable images.
    """
    device = default_device()
    model.to(device, memory_format=torch.channels_last).eval()
    torch.manual_seed(0)  # for methods that draw at random when they predict
    stored = compute_features(model, dataset) if is_frozen(model) else None
    apply = model if stored is None else model.head
    found: dict[str, list[Tensor]] = {}
    order = torch.arange(len(dataset)).split(batch_size)[distributed.rank() :: distributed.world()]
    batches = _inputs(model, dataset, order, stored, device)
    for inputs in track(batches, total=len(order), label=label or "predicting"):
        prediction = apply(inputs)._asdict()
        for name in Scores._fields:
            if prediction[name] is not None:
                found.setdefault(name, []).append(prediction[name].cpu())
    shares = distributed.collected(found)
    return Scores(**{name: _joined([share.get(name, []) for share in shares]) for name in shares[0]})


def _joined(shares: list[list[Tensor]]) -> np.ndarray:
    """The batches of all processes, which took them in turn, in the order of the images."""
    values = torch.cat([batch for turn in zip_longest(*shares) for batch in turn if batch is not None])
    return (values.float() if values.is_floating_point() else values).numpy()


def is_frozen(model: nn.Module) -> bool:
    """Whether the method leaves its trunk as it is, so that features can be computed once."""
    return getattr(model, "frozen", False)


def _frozen_features(model: nn.Module, dataset: MultiLabelDataset, recipe: Recipe) -> Features:
    if recipe.jitter:
        raise InputError(
            f"recipe.jitter={recipe.jitter}: the features of a frozen trunk are computed once, so that colours can't "
            "change; set recipe.jitter=0"
        )
    return compute_features(model, dataset, mirrored=recipe.flip)


def _epoch_batches(model, dataset, recipe: Recipe, seed: int, *, first: int, stored: Features | None) -> Iterator:
    """Epoch, batch, what the model takes, and the indices of the images; changed at random, anew in every epoch."""
    device = default_device()
    for epoch in range(first, recipe.epochs):
        generator = torch.Generator().manual_seed(_mix(seed, epoch, 0))
        order = torch.randperm(len(dataset), generator=generator).split(recipe.batch_size)
        if distributed.rank():
            generator.manual_seed(_mix(seed, epoch, 0, *_other_process()))
        own = [torch.cat([distributed.share(part) for part in _parts(index, recipe)]) for index in order]
        batches = _inputs(model, dataset, own, stored, device, recipe, generator)
        for batch, inputs in enumerate(batches):
            yield epoch, batch, inputs, order[batch]


def _inputs(model, dataset, order, stored: Features | None, device, recipe=None, generator=None) -> Iterator[Tensor]:
    """Stored features, or images ready for the trunk, in the order of the indices."""
    place = dict(device=device, dtype=next(model.parameters()).dtype)
    if stored is not None:
        yield from (stored.batch(index, generator).to(**place) for index in order)
        return
    changes = {} if recipe is None else {"jitter": recipe.jitter, "flip": recipe.flip}
    for images in read_batches(dataset, order):
        images = images.to(device, non_blocking=True)
        yield prepare_images(images, model.trunk, generator=generator, **changes).to(**place)


def _save(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, history: list[dict]) -> None:
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "history": history}
    partial = path.with_suffix(".partial")
    with open(partial, "wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)


def _resume(path: Path | None, model: nn.Module, optimizer: torch.optim.Optimizer) -> list[dict]:
    here = path is not None and path.is_file() and distributed.rank() == 0
    state = distributed.everywhere(torch.load(path, map_location=default_device(), weights_only=True) if here else None)
    if state is None:
        return []
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    return state["history"]
