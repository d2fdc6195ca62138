"""The order in which an image's labels are learned (CNN-RNN §3.4)."""

from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Bool, Int, Int8
from torch import Tensor

Order = Literal["frequency", "rare-first", "random-fixed", "random-batch", "easiest-first"]


def frequency_rank(targets: Int8[Tensor, "images classes"]) -> Int[Tensor, " classes"]:
    """Place of each class when the most frequent one comes first, and of equals the one with the smaller index."""
    counts = (targets == 1).sum(0)
    return counts.argsort(descending=True, stable=True).argsort()


def random_rank(num_classes: int, seed: int) -> Int[Tensor, " classes"]:
    """Place of each class in an order drawn once."""
    return torch.randperm(num_classes, generator=torch.Generator().manual_seed(seed))


def ranked_sequences(
    targets: Int8[Tensor, "batch classes"], rank: Int[Tensor, " classes"], length: int
) -> Int[Tensor, "batch tokens"]:
    """The present labels of each image by `rank`, then END (the number of classes), then -1 up to `length` + 1 tokens.

    Only the first `length` labels of an image are kept.
    """
    present = targets == 1
    absent_last = torch.where(present, rank, len(rank))
    return _end(absent_last.argsort(dim=1, stable=True)[:, :length], present)


def easiest_first(
    step: Callable, state: tuple[Tensor, ...], targets: Int8[Tensor, "batch classes"], length: int
) -> Int[Tensor, "batch tokens"]:
    """Sequences as `ranked_sequences` gives them, in the order that a scorer finds easiest.

    The next label is the one of an image's remaining labels that `step` scores highest after the labels before it; of
    equals the one with the smaller index. step and state: as for `beam_search`.
    """
    present = targets == 1
    remaining, classes = present, targets.shape[1]
    last = targets.new_full(targets.shape[:1], classes + 1, dtype=torch.int64)
    chosen = []
    for _ in range(length):
        scores, state = step(state, last)
        last = scores[:, :classes].masked_fill(~remaining, -torch.inf).argmax(1)
        remaining = remaining.scatter(1, last[:, None], False)
        chosen.append(last)
    return _end(torch.stack(chosen, 1), present)


def _end(labels: Int[Tensor, "batch length"], present: Bool[Tensor, "batch classes"]) -> Int[Tensor, "batch tokens"]:
    """END after an image's own labels, and -1 after it."""
    count = present.sum(1, keepdim=True).clamp(max=labels.shape[1])
    place = torch.arange(labels.shape[1] + 1, device=labels.device)
    tokens = torch.nn.functional.pad(labels, (0, 1))
    return torch.where(place < count, tokens, torch.where(place == count, present.shape[1], -1))
