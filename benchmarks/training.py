"""The training loop beside the barest loop in PyTorch: the same model, the same batches, the same steps."""

from functools import cache, partial

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks import Benchmark
from mlic_core.data.base import MultiLabelDataset
from mlic_core.models import build_model, build_trunk
from mlic_core.training import Recipe, computes_in_bf16, fit

CLASSES, BATCH, LR, HEAD_LR, CLIP = 20, 32, 0.02, 0.1, 5.0
RECIPE = Recipe(epochs=1, batch_size=BATCH, lr=LR, head_lr=HEAD_LR, schedule="constant", flip=False, jitter=0.0)
CPU = torch.device("cpu")


class Noise(MultiLabelDataset):
    """Images of random pixels, in memory."""

    def __init__(self, count: int, size: int):
        rng = np.random.default_rng(0)
        self.pixels = torch.from_numpy(rng.integers(0, 256, (count, 3, size, size), dtype=np.uint8))
        targets = (rng.random((count, CLASSES)) < 0.1).astype(np.int8)
        names = [str(index) for index in range(count)]
        super().__init__(name="noise", split="train", labels=names[:1] * CLASSES, targets=targets, ids=names, size=size)

    def read(self, index: int) -> Tensor:
        return self.pixels[index]


@cache
def start() -> tuple[nn.Module, dict[str, Tensor]]:
    """One model for both sides, and the weights from which each run begins."""
    torch.manual_seed(0)
    model = build_model("classifier", CLASSES, build_trunk("pictonet-m"))
    return model, {name: value.clone() for name, value in model.state_dict().items()}


def fresh() -> nn.Module:
    model, weights = start()
    model.load_state_dict(weights)
    return model


def ours(dataset: Noise) -> np.ndarray:
    """The classifier's weights after one epoch."""
    model = fresh()
    fit(model, dataset, RECIPE, seed=0)
    return model.head.linear.weight.detach().numpy().copy()


def bare(dataset: Noise) -> np.ndarray:
    """The same from a loop without a history, a monitor, a checkpoint or a line of progress."""
    model = fresh().to(memory_format=torch.channels_last).train()
    groups = [{"params": model.trunk.parameters(), "lr": LR}, {"params": model.head.parameters(), "lr": HEAD_LR}]
    optimizer = torch.optim.SGD(groups, momentum=0.9, weight_decay=1e-4)
    mean, std = (torch.tensor(value).view(3, 1, 1) for value in (model.trunk.mean, model.trunk.std))
    targets = torch.from_numpy(dataset.targets).float()
    for index in torch.randperm(len(dataset), generator=torch.Generator().manual_seed(order_seed())).split(BATCH):
        images = ((dataset.pixels[index].float() / 255 - mean) / std).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16, enabled=computes_in_bf16(CPU)):
            logits = model(images).logits
        loss = nn.functional.binary_cross_entropy_with_logits(logits.float(), targets[index])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
    return model.head.linear.weight.detach().numpy().copy()


def order_seed() -> int:
    """What `fit` draws the order of the first epoch from, so that both see the same batches."""
    return int(np.random.SeedSequence((0, 0, 0)).generate_state(1, np.uint64)[0] >> np.uint64(1))


def bench_loop(scale: float = 1) -> list[Benchmark]:
    """The goal says that our loop may take 3 % longer."""
    count, size = (640, 112) if scale >= 1 else (64, 32)
    dataset = Noise(count, size)
    about = f"one epoch of {count} images at {size} px, pictonet-m, batches of {BATCH}: the barest PyTorch loop"
    sides = partial(ours, dataset), partial(bare, dataset)
    return [Benchmark("training/loop/bare", about, *sides, tolerance=1e-5, goal=0.97)]
