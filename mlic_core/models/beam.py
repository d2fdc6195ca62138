"""Beam search over label sequences (CNN-RNN §3.3), for all images of a batch at once."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from mlic_core.errors import InputError

State = tuple[Tensor, ...]
Step = Callable[[State, Tensor], tuple[Tensor, State]]


class Beams(NamedTuple):
    """What a search found.

    paths: labels of the finished paths, best first, -1 after the last one, and throughout where there are fewer paths.
    path_log_probs: log P of each path, its END included; -inf where there are fewer.
    first: log P of each label at the first step. peak: its greatest log P at any step of the best path, END's included.
    """

    paths: Int[Tensor, "batch beams length"]
    path_log_probs: Float[Tensor, "batch beams"]
    first: Float[Tensor, "batch labels"]
    peak: Float[Tensor, "batch labels"]


class _Live(NamedTuple):
    """Intermediate paths, S(t) of Eq. 7."""

    log_probs: Float[Tensor, "batch live"]
    paths: Int[Tensor, "batch live length"]
    emitted: Bool[Tensor, "batch live labels"]
    peak: Float[Tensor, "batch live labels"]


class _Finished(NamedTuple):
    """Candidate paths, C of §3.3: the best that ended, best first, and the peak of the first."""

    log_probs: Float[Tensor, "batch beams"]
    paths: Int[Tensor, "batch beams length"]
    peak: Float[Tensor, "batch labels"]


def beam_search(
    step: Step,
    state: State,
    batch: int,
    num_labels: int,
    *,
    beam: int,
    length: int,
    min_length: int = 0,
    device: torch.device | str,
) -> Beams:
    """The most probable sequences of distinct labels (Eq. 6), approximately: `beam` of them are followed at a time.

    `step(state, last)` returns scores (rows, num_labels + 1) of the next token and the new state. `last` (rows,) holds
    the labels that were just added; at first num_labels + 1, START. Token num_labels is END. `state` is a tuple of
    tensors whose first dimension is the row; the search copies and reorders rows, and gives as many at a time as there
    are paths: `batch` at first.

    P is the softmax of the scores over what may follow: no label twice, END only after `min_length` labels, and nothing
    else after `length`. Hence the P of all paths add up to 1. Every live path may end, whatever the labels beside it
    score, and finished paths take no place of a live one.

    An image's search stops when its best live path is below its best finished one. Since log P only falls along a
    path, the first path is then final; the others are the best of those that ended until then. On the CPU, images
    that have stopped are taken out of the batch; on a GPU, where looking would wait for it, they only go idle.

    Raises InputError unless beam >= 1 and 0 <= min_length <= length <= num_labels.
    """
    check_search(num_labels, beam, length, min_length)
    live, finished = _start(batch, num_labels, beam, length, device)
    last = torch.full((batch,), num_labels + 1, device=device)
    images = torch.arange(batch, device=device)
    takes_out = can_look(images)
    first, rows, stopped = live.peak[:, 0], images[:, None], []
    for t in range(length):
        if t:
            state = tuple(part[rows.flatten()] for part in state)
        scores, state = step(state, last)
        log_p = _normalise(scores, live.emitted, may_end=t >= min_length)
        live = live._replace(peak=torch.maximum(live.peak, log_p[..., :num_labels]))
        first = live.peak[:, 0] if t == 0 else first
        finished = _finish(live, live.log_probs + log_p[..., num_labels], finished)
        live, rows = _extend(live, log_p[..., :num_labels], t, beam)
        going = live.log_probs[:, 0] >= finished.log_probs[:, 0]
        live = live._replace(log_probs=live.log_probs.masked_fill(~going[:, None], -torch.inf))
        if takes_out and not going.all():
            stopped.append((images[~going], _Finished(*(part[~going] for part in finished))))
            images, rows = images[going], rows[going]
            live, finished = _Live(*(part[going] for part in live)), _Finished(*(part[going] for part in finished))
            if len(images) == 0:
                break
        last = live.paths[:, :, t].flatten()
    finished = _finish(live, live.log_probs, finished)  # after `length` labels END is certain
    log_probs, paths, peak = _together([*stopped, (images, finished)])
    return Beams(paths.masked_fill(log_probs[..., None] == -torch.inf, -1), log_probs, first, peak)


def check_search(num_labels: int, beam: int, length: int, min_length: int) -> None:
    """Raise InputError unless beam >= 1 and 0 <= min_length <= length <= num_labels."""
    if beam < 1:
        raise InputError(f"beam={beam}: choose 1 or more")
    if not 0 <= min_length <= length <= num_labels:
        raise InputError(
            f"min_length={min_length}, length={length}: both lie in 0 to {num_labels}, the number of labels, "
            "and min_length is the smaller"
        )


def can_look(values: Tensor) -> bool:
    """Whether Python may act on values: a GPU would have to be waited for, and a compiled graph be cut."""
    return values.device.type == "cpu" and not torch.compiler.is_compiling()


def _start(batch, num_labels, beam, length, device) -> tuple[_Live, _Finished]:
    """One empty path for each image, and none that ended."""
    live = _Live(
        torch.zeros(batch, 1, device=device),
        torch.full((batch, 1, length), -1, device=device),
        torch.zeros(batch, 1, num_labels, dtype=torch.bool, device=device),
        torch.full((batch, 1, num_labels), -torch.inf, device=device),
    )
    paths = live.paths.expand(-1, beam, -1)
    return live, _Finished(torch.full((batch, beam), -torch.inf, device=device), paths, live.peak[:, 0])


def _normalise(
    scores: Float[Tensor, "rows tokens"], emitted: Bool[Tensor, "batch live labels"], may_end: bool
) -> Float[Tensor, "batch live tokens"]:
    """log P of the next token: a softmax over those that may follow."""
    barred = nn.functional.pad(emitted, (0, 1), value=not may_end)
    return scores.view(barred.shape).masked_fill(barred, -torch.inf).log_softmax(-1)


def _finish(live: _Live, ended: Float[Tensor, "batch live"], finished: _Finished) -> _Finished:
    """The best of the finished paths and of the live ones, which end here with log P `ended`."""
    beam = finished.log_probs.shape[1]
    log_probs, choice = torch.cat([finished.log_probs, ended], 1).topk(beam, 1)
    paths = _pick(torch.cat([finished.paths, live.paths], 1), choice)
    best = choice[:, :1]
    new_peak = _pick(live.peak, (best - beam).clamp(min=0))[:, 0]
    return _Finished(log_probs, paths, torch.where(best >= beam, new_peak, finished.peak))


def _extend(
    live: _Live, log_p: Float[Tensor, "batch live labels"], t: int, beam: int
) -> tuple[_Live, Int[Tensor, "batch extended"]]:
    """The `beam` best paths that are one label longer, best first, and the row of the one that each goes on from."""
    batch, width, num_labels = log_p.shape
    candidates = (live.log_probs[..., None] + log_p).flatten(1)
    log_probs, choice = candidates.topk(min(beam, width * num_labels), 1)
    parent, label = choice // num_labels, choice % num_labels
    paths, emitted = _pick(live.paths, parent), _pick(live.emitted, parent)
    paths[:, :, t] = label
    emitted.scatter_(2, label[..., None], True)
    rows = torch.arange(batch, device=parent.device)[:, None] * width + parent
    return _Live(log_probs, paths, emitted, _pick(live.peak, parent)), rows


def _pick(values: Tensor, index: Int[Tensor, "batch chosen"]) -> Tensor:
    """values[b, index[b, i]] for values (batch, n, ...)."""
    return values.gather(1, index[..., None].expand(-1, -1, values.shape[2]))


def _together(parts: list[tuple[Tensor, _Finished]]) -> _Finished:
    """The finished paths of all images in their order."""
    if len(parts) == 1:
        return parts[0][1]
    place = torch.cat([images for images, _ in parts]).argsort()
    return _Finished(*(torch.cat(fields)[place] for fields in zip(*(finished for _, finished in parts), strict=True)))
