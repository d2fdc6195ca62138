"""CNN-RNN: beam search over a batch beside one image at a time, and training on stored features beside the trunk."""

from functools import cache, partial

import numpy as np
import torch
from torch import Tensor

from benchmarks import Benchmark
from mlic_core.data import load_dataset, picto
from mlic_core.data.base import MultiLabelDataset
from mlic_core.models import build_model, build_trunk
from mlic_core.models.beam import Step
from mlic_core.paths import repository_root
from mlic_core.training import Recipe, fit

CLASSES, BEAM, LENGTH, MIN_LENGTH = 80, 4, 10, 3  # COCO's classes; at least three labels, as on NUS-WIDE


def search_one(
    step: Step, state: tuple[Tensor, ...], num_labels: int, *, beam: int, length: int, min_length: int = 0
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """`beam_search` for a single image, whose state has one row: plainly, with paths in lists."""
    live, finished = [(0.0, [], torch.full((num_labels,), -torch.inf))], []  # log P, labels, greatest log P of each
    last, first = torch.tensor([num_labels + 1]), None
    for t in range(length):
        scores, state = step(state, last)
        for row, (_, labels, _) in enumerate(live):
            scores[row, labels] = -torch.inf
        if t < min_length:
            scores[:, num_labels] = -torch.inf
        log_p = scores.log_softmax(1)
        first = log_p[0, :num_labels] if first is None else first
        peaks = torch.maximum(torch.stack([peak for _, _, peak in live]), log_p[:, :num_labels])
        total = torch.tensor([log_prob for log_prob, _, _ in live], dtype=log_p.dtype)[:, None] + log_p
        if t >= min_length:
            finished += [(end, live[row][1], peaks[row]) for row, end in enumerate(total[:, num_labels].tolist())]
        best, choice = total[:, :num_labels].flatten().topk(min(beam, (num_labels - t) * len(live)))
        parents, labels = (choice // num_labels).tolist(), (choice % num_labels).tolist()
        live = [
            (value, [*live[row][1], label], peaks[row])
            for value, row, label in zip(best.tolist(), parents, labels, strict=True)
        ]
        state, last = tuple(part[parents] for part in state), torch.tensor(labels)
        if finished and live[0][0] < max(finished, key=lambda path: path[0])[0]:
            break
    else:
        finished += live
    finished = sorted(finished, key=lambda path: -path[0])[:beam]
    missing = beam - len(finished)
    paths = [labels + [-1] * (length - len(labels)) for _, labels, _ in finished] + [[-1] * length] * missing
    log_probs = [log_prob for log_prob, _, _ in finished] + [-torch.inf] * missing
    return torch.tensor(paths), torch.tensor(log_probs, dtype=log_p.dtype), first, finished[0][2]


def plain_step(model):
    """CNN-RNN's step by Eq. 1 to 5, each row on its own."""
    table = model.cell.project(torch.nn.functional.pad(model.labels, (0, 0, 0, 1)))

    def step(state, last):
        image, *recurrent = state
        output, recurrent = model.cell(table[last], tuple(recurrent))
        return torch.relu(model.project_output(output) + image) @ model.labels.T, (image, *recurrent)

    return step


@torch.inference_mode()
def one_by_one(model, features: Tensor) -> np.ndarray:
    """log P of each image's best path, from a search for each."""
    step, images = plain_step(model), model.project_image(features).split(1)
    search = partial(search_one, step, num_labels=model.num_classes, beam=model.beam, length=model.length)
    start = model.start(features)
    found = [search(state=(image, *start), min_length=model.min_length)[1][0] for image in images]
    return torch.stack(found).numpy()


@torch.inference_mode()
def at_once(model, features: Tensor) -> np.ndarray:
    return model.head(features).path_log_probs[:, 0].numpy()


def bench_beam(scale: float = 1) -> list[Benchmark]:
    """The same step on 256 images at once, and on one after the other."""
    images, rows = max(2, round(256 * scale)), []
    for hidden, suffix, goal in ((128, "", 8), (512, "/512", 4)):
        torch.manual_seed(0)
        options = {"cell": "lstm", "hidden": hidden, "beam": BEAM, "length": LENGTH, "min_length": MIN_LENGTH}
        model = build_model("cnn_rnn", CLASSES, build_trunk("pictonet-s"), **options).eval()
        features = torch.randn(images, model.trunk.out_channels).relu()
        about = f"beam search, {images} images x {BEAM} paths, {CLASSES} classes, LSTM of {hidden}: image by image"
        sides = partial(at_once, model, features), partial(one_by_one, model, features)
        rows.append(Benchmark(f"cnn_rnn/beam/per_image{suffix}", about, *sides, 1e-4, goal))
    return rows


@cache
def pictures(images: int, size: int) -> MultiLabelDataset:
    """Drawn once and kept, so that their features are stored once."""
    spec = picto.PictoSpec(train=images, val=1, test=1)
    root = repository_root() / "data" / "cache" / f"picto-voc-{picto.digest(spec)[:8]}"
    picto.prepare(root, spec)
    return load_dataset("picto-voc", "train", root=root, size=size)


def train_head(model, images: int, size: int, cached: bool) -> float:
    """The loss of one epoch of the head, from the same start each time."""
    torch.manual_seed(0)
    for part in (model.cell, model.project_output, model.project_image):
        for module in part.modules():
            if hasattr(module, "reset_parameters"):
                module.reset_parameters()
    torch.nn.init.normal_(model.labels, std=0.1)
    recipe = Recipe(**{**model.recipe, "epochs": 1, "flip": False})
    return fit(model, pictures(images, size), recipe, seed=0, cached=cached)[-1]["loss"]


def bench_cached_head(scale: float = 1) -> list[Benchmark]:
    """An epoch of the head on stored features, beside the frozen trunk in the loop; the store is filled before."""
    rows = []
    for trunk, count, size, key, goal in (
        ("mobilenet_v2", 128, 224, "end_to_end", 20),
        ("pictonet-m", 512, 112, "pictonet", 3),
    ):
        torch.manual_seed(0)
        images, model = max(2, round(count * scale)), build_model("cnn_rnn", 20, build_trunk(trunk))
        about = f"one epoch of CNN-RNN's head, {images} images: {trunk} at {size} px in the loop"
        ours, peer = (partial(train_head, model, images, size, cached) for cached in (True, False))
        rows.append(Benchmark(f"cnn_rnn/cached_head/{key}", about, ours, peer, 1e-4, goal))
    return rows
