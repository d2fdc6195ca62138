"""Several processes that train one model: `torchrun` starts them, and each takes a share of every batch.

Without torchrun there is one process, and everything here does nothing.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from jaxtyping import Shaped
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from mlic_core.errors import InputError
from mlic_core.models.prediction import Prediction

Value = TypeVar("Value")


@contextmanager
def processes() -> Iterator[None]:
    """Join the processes that torchrun started, with nccl where there are GPUs and gloo elsewhere, and leave them."""
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        yield
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield
    finally:
        dist.destroy_process_group()


def world() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """This process's number; 0 is the one that writes."""
    return dist.get_rank() if dist.is_initialized() else 0


def everywhere(value: Value) -> Value:
    """What the first process has, in all of them."""
    if world() == 1:
        return value
    holder = [value]
    dist.broadcast_object_list(holder, src=0)
    return holder[0]


def collected(values: Any) -> list[Any]:
    """What each process has, by rank, in all of them."""
    if world() == 1:
        return [values]
    found: list[Any] = [None] * world()
    dist.all_gather_object(found, values)
    return found


def share(batch: Shaped[Tensor, "batch ..."]) -> Shaped[Tensor, "part ..."]:
    """This process's part of a batch; of one with fewer images than processes, all of it."""
    return batch.tensor_split(world())[rank()] if len(batch) >= world() else batch


def whole(prediction: Prediction, batch: int) -> Prediction:
    """The prediction of a whole batch of `batch` images, from those of its shares; gradients flow to the own share.

    So every process computes the loss of the whole batch, whatever that loss is a mean of.
    """
    if world() == 1 or batch < world():
        return prediction
    sizes = [len(part) for part in torch.arange(batch).tensor_split(world())]
    return Prediction(*(None if field is None else _joined(field, sizes) for field in prediction))


def _joined(own: Tensor, sizes: list[int]) -> Tensor:
    padded = own.detach().new_zeros(max(sizes), *own.shape[1:])  # gathered tensors have to be of one size
    padded[: len(own)] = own.detach()
    parts = [torch.empty_like(padded) for _ in sizes]
    dist.all_gather(parts, padded)
    parts = [part[:size] for part, size in zip(parts, sizes, strict=True)]
    parts[rank()] = own
    return torch.cat(parts)


class _Applied(nn.Module):
    """A part of a model as a module of its own, which is what DistributedDataParallel wraps."""

    def __init__(self, model: nn.Module, name: str):
        super().__init__()
        self.model, self.name = model, name

    def forward(self, *inputs: Tensor) -> Prediction:
        return getattr(self.model, self.name)(*inputs)


def parallel(model: nn.Module, name: str, sync_norm: bool) -> nn.Module:
    """What calls the model's method `name` and averages the gradients of all processes in the backward pass.

    sync_norm: BatchNorm takes its statistics over all processes. Raises InputError for it without a GPU.
    """
    on_gpu = next(model.parameters()).is_cuda
    if sync_norm and not on_gpu:
        raise InputError("recipe.sync_norm=true needs GPUs; leave it out")
    applied = _Applied(model, name)
    applied = nn.SyncBatchNorm.convert_sync_batchnorm(applied) if sync_norm else applied
    device = [torch.cuda.current_device()] if on_gpu else None
    # Not every option of every method uses all of its parameters.
    return DistributedDataParallel(applied, device_ids=device, find_unused_parameters=True)


def loss_scale(batch: int) -> int:
    """What the loss of a whole batch is multiplied by, since DistributedDataParallel takes the mean of gradients.

    Each process has the gradient of its own share; of a batch that all of them took whole, each has all of it.
    """
    return world() if batch >= world() else 1
