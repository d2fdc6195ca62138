"""A stored run's model as an ONNX file: the classifier, and MCAR with its regions.

The graph takes images in [0, 1] and normalises them itself. Every step of MCAR is in it: the class maps, the boxes of
the topN best classes, their crops by `grid_sample` and the second look. Two things of the model have no counterpart in
ONNX and are put differently here, with the same values: running maxima, and a batch that is cut into parts.
"""

import copy
import importlib
import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor, nn
from torchvision.transforms.v2 import functional

from mlic_core.errors import InputError
from mlic_core.images import prepare_images
from mlic_core.models.classifier import Classifier
from mlic_core.models.mcar import MCAR
from mlic_core.study.files import write_atomically
from mlic_core.study.predict import model_of
from mlic_core.study.record import Record

PACKAGES = ("onnx", "onnxscript", "onnxruntime")
INSTALL = "pip install -c constraints.txt -e '.[export]'"
TOLERANCE = 1e-4  # between PyTorch and onnxruntime: absolute for values up to 1, relative for those above
OUTPUTS = ("logits", "regions", "region_labels")
OPSET = 18
UNWRITTEN = "nothing was written"


class Agreement(NamedTuple):
    """How an exported file compares with PyTorch: the largest absolute difference of an output, on how many images, and
    in how many of them a region lies one pixel elsewhere, which are left out of the difference.

    Where a profile of a map meets the threshold, or two peaks are level, the last bit of a sum decides on a pixel.
    """

    difference: float
    images: int
    moved: int


class Graph(nn.Module):
    """What is exported: images in [0, 1] to `logits` and, where the model has them, `regions` and `region_labels`.

    They are as in `Prediction`. The model itself is left as it is.
    """

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = copy.copy(model)
        if isinstance(model, MCAR):  # a batch of unknown size can't be cut into parts: all regions are scored at once
            self.model.score_regions = lambda regions, images: self.model.head(self.model.trunk(regions))
        for name in ("mean", "std"):
            self.register_buffer(name, torch.tensor(getattr(model.trunk, name)).view(3, 1, 1))

    def forward(self, images: Float[Tensor, "batch 3 height width"]) -> tuple[Tensor, ...]:
        return outputs(self.model((images - self.mean) / self.std))


def outputs(prediction) -> tuple[Tensor, ...]:
    """The fields of a `Prediction` that are exported."""
    return tuple(value for name in OUTPUTS if (value := getattr(prediction, name)) is not None)


def export(record: Record, out: Path, batch: int | None = None) -> Agreement:
    """Write a run's model to an ONNX file; returns how its outputs compare with PyTorch's.

    batch: how many images the graph takes at a time; None for any number. Whatever was at `out` stays until
    onnxruntime has given PyTorch's outputs on photographs and on noise. The file's metadata hold the labels (JSON), the
    input's size, the run's name and its method.

    Raises InputError for a method or a setting that can't be exported, for a package that is missing, for outputs that
    differ, and for a file that can't be written.
    """
    for package in PACKAGES:
        _require(package)
    model, labels = model_of(record)
    check_exportable(model, record)
    size = record.config["data.size"]
    content = convert(model, size, batch, metadata(record, labels))
    agreement = compare(model, content, sample_images(size), batch)
    try:
        write_atomically(out, content)
    except OSError as error:
        raise InputError(f"cannot write {out}: {error.strerror}; give another file") from error
    return agreement


def _require(package: str) -> None:
    try:
        importlib.import_module(package)
    except ImportError:
        raise InputError(f"exporting needs the package {package}: `{INSTALL}` installs it") from None


def check_exportable(model: nn.Module, record: Record) -> None:
    """Raises InputError unless the model is a classifier, or an MCAR that looks at a region of each class map."""
    if not isinstance(model, (Classifier, MCAR)):
        raise InputError(f"run {record.name}: {record.method} can't be exported; choose a run of classifier or mcar")
    if isinstance(model, MCAR) and model.selection not in ("top", "bottom"):
        raise InputError(
            f"run {record.name}: only regions that the scores choose are exported, and with "
            f"method.selection={model.selection} they don't; choose a run of top or bottom"
        )
    if isinstance(model, MCAR) and model.adaptive:
        raise InputError(
            f"run {record.name}: with method.adaptive={model.adaptive} the number of regions depends on the image, "
            "which a fixed graph can't follow; choose a run with 0"
        )


def metadata(record: Record, labels: Sequence[str]) -> dict[str, str]:
    """What an ONNX file says of itself."""
    size = record.config["data.size"]
    regions = "; regions as x0, y0, x1, y1 in [0, 1] and their labels" if record.method == "mcar" else ""
    return {
        "labels": json.dumps(labels, ensure_ascii=False),
        "size": str(size),
        "run": record.name,
        "method": record.method,
        "input": f"float32 (batch, 3, {size}, {size}): RGB in [0, 1], squashed to {size} x {size}, not normalised",
        "output": f"logits, whose sigmoid is a probability{regions}",
    }


def convert(model: nn.Module, size: int, batch: int | None, about: Mapping[str, str]) -> bytes:
    """An ONNX file of a model in evaluation mode, for `batch` images at a time or, with None, any number."""
    images = torch.rand(batch or 2, 3, size, size)  # of one image torch would take the number for fixed
    shapes = {"images": {} if batch else {0: torch.export.Dim("batch")}}
    graph = Graph(model).eval()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the exporter's, on its own inner workings
        names = OUTPUTS[: len(graph(images))]
        program = torch.export.export(graph, (images,), dynamic_shapes=shapes, strict=True)  # else len() is fixed
        program = program.run_decompositions(RUNNING)
        settings: dict[str, Any] = dict(opset_version=OPSET, input_names=["images"], output_names=list(names))
        proto = torch.onnx.export(program, dynamo=True, verbose=False, **settings).model_proto
    _forget_origin(proto)
    proto.producer_name = "mlic"
    for key, value in about.items():
        proto.metadata_props.add(key=key, value=value)
    return proto.SerializeToString()


def _forget_origin(proto: Any) -> None:
    """Remove what the exporter writes into every part of a model: files and lines of the code that it came from."""
    graph = proto.graph
    for part in (proto, graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        del part.metadata_props[:]
        part.doc_string = ""


def running_max(values: Int[Tensor, "*batch length"]) -> Int[Tensor, "*batch length"]:
    """The maximum of all values up to each place of the last axis.

    Each round doubles the stretch that a place has seen: itself, then the place before, then two more, then four.
    """
    stretch = 1
    while stretch < values.shape[-1]:
        before = torch.cat([values[..., :1].expand(*values.shape[:-1], stretch), values[..., :-stretch]], -1)
        values, stretch = torch.maximum(values, before), 2 * stretch
    return values


def cummax(values: Int[Tensor, "*shape"], dim: int) -> tuple[Int[Tensor, "*shape"], Int[Tensor, "*shape"]]:
    """torch.cummax without an operator that ONNX lacks: running maxima of integers, and the last place of each."""
    values = values.movedim(dim, -1)
    running = running_max(values)
    place = torch.arange(values.shape[-1], device=values.device)
    last = running_max(torch.where(values == running, place, 0))
    return running.movedim(-1, dim), last.movedim(-1, dim)


def cummin(values: Int[Tensor, "*shape"], dim: int) -> tuple[Int[Tensor, "*shape"], Int[Tensor, "*shape"]]:
    """torch.cummin, as `cummax`."""
    running, last = cummax(-values, dim)
    return -running, last


RUNNING = {torch.ops.aten.cummax.default: cummax, torch.ops.aten.cummin.default: cummin}


def sample_images(size: int) -> UInt8[Tensor, "12 3 size size"]:
    """Images to compare on, 0 to 255: scikit-learn's two photographs, the four quarters of each, and noise."""
    from sklearn.datasets import load_sample_images

    photos = [torch.from_numpy(one.copy()).permute(2, 0, 1) for one in load_sample_images().images]
    quarters = [half for one in photos for rows in one.chunk(2, 1) for half in rows.chunk(2, 2)]
    seen = [functional.resize(one, [size, size], antialias=True) for one in (*photos, *quarters)]
    noise = torch.randint(256, (2, 3, size, size), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return torch.cat([torch.stack(seen), noise])


def compare(
    model: nn.Module, content: bytes, images: UInt8[Tensor, "images 3 size size"], batch: int | None = None
) -> Agreement:
    """How PyTorch's outputs compare with those of an ONNX file.

    batch: how many images the file takes at a time; None tries one, then three at a time. PyTorch's outputs are those
    of the model itself on images that were prepared as in training. Raises InputError where one differs by more than
    TOLERANCE, or a region by a pixel in more than a quarter of the images.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    images = images.repeat(-(-(batch or 1) // len(images)), 1, 1, 1)
    parts = images.split(batch)[: len(images) // batch] if batch else (images[:1], *images[1:].split(3))
    largest, count, moved = 0.0, sum(map(len, parts)), 0
    for part in parts:
        with torch.inference_mode():
            ours = [one.numpy() for one in outputs(model(prepare_images(part, model.trunk)))]
        theirs = session.run(None, {"images": (part.float() / 255).numpy()})
        same = ~_moved(ours, theirs, images.shape[3])
        moved += int((~same).sum())
        for name, one, other in zip(OUTPUTS, ours, theirs, strict=False):
            largest = max(largest, _difference(name, one[same], other[same]))
    if moved > count / 4:
        raise InputError(
            f"the exported model's regions differ from PyTorch's in {moved} of {count} images; {UNWRITTEN}"
        )
    return Agreement(largest, count, moved)


def _moved(ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray], size: int) -> Bool[np.ndarray, " images"]:
    """In which images a region's edge lies one pixel elsewhere, and none further away."""
    if len(ours) == 1:
        return np.zeros(len(ours[0]), bool)
    pixels = size * np.abs(theirs[1] - ours[1]).max((1, 2))
    return (pixels > 0.5) & (pixels < 1.5)


def _difference(name: str, ours: np.ndarray, theirs: np.ndarray) -> float:
    """The largest absolute difference of an output. Raises InputError as `compare`."""
    if ours.shape == theirs.shape and np.allclose(theirs, ours, rtol=TOLERANCE, atol=TOLERANCE):
        return float(np.abs(theirs.astype(np.float64) - ours).max(initial=0.0))
    by = f"by {np.abs(theirs - ours).max():.2g}" if ours.shape == theirs.shape else f"in shape: {theirs.shape}"
    raise InputError(f"the exported model's {name} differ from PyTorch's {by}; {UNWRITTEN}")
