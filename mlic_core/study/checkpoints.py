"""Models that were trained elsewhere: MCAR's released checkpoints as folders that read like a run's.

An imported folder holds `model.safetensors` and `run.json`. The record's `imported` names the file, its `config` has
the model's settings and in `trunk.weights` the file's SHA-256; there is no recipe, no history and there are no scores.
"""

import io
import pickle
import re
import shutil
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mlic_core.data.voc import LABELS as VOC
from mlic_core.errors import InputError, check_choice
from mlic_core.models import build_model, build_trunk
from mlic_core.models.pooling import Pooling
from mlic_core.study import provenance
from mlic_core.study.experiments import config, from_settings, open_split
from mlic_core.study.files import exclusive, sha256
from mlic_core.study.record import Record, read_record, write_record
from mlic_core.study.store import load_model, save_model, score, stored_labels

# COCO's categories by rising id, the order of every data set here that is read from COCO's files.
COCO = (
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light",
    "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow",
    "elephant", "bear", "zebra", "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee",
    "skis", "snowboard", "sports ball", "kite", "baseball bat", "baseball glove", "skateboard", "surfboard",
    "tennis racket", "bottle", "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple",
    "sandwich", "orange", "broccoli", "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch",
    "potted plant", "bed", "dining table", "toilet", "tv", "laptop", "mouse", "remote", "keyboard", "cell phone",
    "microwave", "oven", "toaster", "sink", "refrigerator", "book", "clock", "vase", "scissors", "teddy bear",
    "hair drier", "toothbrush",
)  # fmt: skip
LABELS = {len(labels): labels for labels in (VOC, COCO)}
# The data set that a checkpoint is scored on unless one says otherwise.
DATA = {len(VOC): "voc2007", len(COCO): "coco2014"}
TRUNKS = ("resnet50", "resnet101", "mobilenet_v2")
WEIGHT, BIAS = "convclass.weight", "convclass.bias"
PREFIX = "module."  # of every key, where DataParallel wrapped the model
REMEDY = f"give a checkpoint that MCAR's authors released, of {', '.join(TRUNKS[:-1])} or {TRUNKS[-1]}"
COUNTER = "num_batches_tracked"  # older versions of torch saved none, and a trained model needs none


class Layout(NamedTuple):
    """A kind of released checkpoint: its key for each entry of our model's state, and the shapes of the trunk's."""

    kind: str
    names: Mapping[str, str]
    shapes: Mapping[str, torch.Size]
    channels: int


def import_mcar(path: str | Path, out: str | Path, *, pooling: str = "gap", size: int = 448) -> Path:
    """Convert a checkpoint that MCAR's authors released into the folder `out`, for `load_model`; returns the folder.

    The file doesn't say how its model pools nor how large its images were: pooling is "gap" (their VOC 2007), "gmp" or
    "gwp" (their COCO), size the side in pixels. A wrong one goes unnoticed but for lower scores. The model has the
    authors' localisation rule, topN 4 and tau 0.5.

    The trunk and the number of classes are read off the keys and shapes. 20 classes are VOC's, 80 are COCO's: the
    authors sort COCO's by name, so its rows are brought into the order of the category ids.

    The file is read without running code in it. Raises InputError if it isn't such a checkpoint, or if `out` can't be
    written or has something in it already; then nothing is left behind.
    """
    path, out = Path(path).expanduser(), Path(out).expanduser().resolve()
    check_choice("pooling", pooling, Pooling)
    _check_free(out)
    released = _read(path)
    layout = _recognise(path, released)
    _check_shapes(path, released, layout)
    labels = LABELS[len(released[BIAS])]
    record = _record(path, out, layout.kind, len(labels), pooling, size)
    model = _model(record, released, layout, labels)
    try:
        with exclusive(out.with_name(f".{out.name}.lock"), f"another process is writing {out}"):
            _check_free(out)
            _write(out, model, labels, record)
    except OSError as error:
        raise InputError(f"cannot write {out}: {error.strerror}; give another folder with --out") from error
    return out


def score_folder(folder: str | Path, chosen: Mapping[str, Any]) -> dict[str, Any]:
    """Metrics, as `evaluate` returns them, of the model in a run's or an imported folder, which stays as it is.

    chosen: dotted settings of the data, over those in the folder's record. Raises InputError for other settings, for
    missing data, and for data of other classes than the model's.
    """
    record = read_record(folder)
    chosen = {"data.name" if key == "data" else key: value for key, value in chosen.items()}
    if foreign := [key for key in chosen if not key.startswith("data.")]:
        raise InputError(f"{foreign[0]}: of a stored model only the data can be chosen, as in --set data.root=FOLDER")
    same = chosen.get("data.name", record.config["data.name"]) == record.config["data.name"]
    kept = ("data.",) if same else ("data.size", "data.difficult_eval")
    kept = {key: value for key, value in record.config.items() if key.startswith(kept)}
    data = from_settings(kept | chosen).data
    labels, dataset = stored_labels(record), open_split(data, data.eval_split)
    if dataset.labels != labels:
        raise InputError(
            f"{record.folder} knows {len(labels)} classes ({', '.join(labels[:3])}, ...), but {data.name} has "
            f"{len(dataset.labels)} ({', '.join(dataset.labels[:3])}, ...); choose a data.name of the same classes"
        )
    return score(load_model(folder), dataset, data.difficult_eval, record.activation)[1]


def released_names(trunk: nn.Module) -> dict[str, str]:
    """What each entry of a trunk's state is called in a released checkpoint.

    ResNets have the same sequence there. MobileNet-v2 is two: `features.0` are its blocks, each of them flat where
    torchvision's is nested, and `features.1` is the last convolution.
    """
    modules: dict[str, str] = {}
    if hasattr(trunk.features[1], "conv"):
        last = len(trunk.features) - 1
        for i, block in enumerate(trunk.features):
            modules[f"features.{i}"] = "features.1" if i == last else f"features.0.{i}"
            layers = block.conv.named_modules() if hasattr(block, "conv") else ()
            leaves = [name for name, layer in layers if not any(layer.children())]
            modules |= {f"features.{i}.conv.{leaf}": f"features.0.{i}.conv.{k}" for k, leaf in enumerate(leaves)}
    names = {}
    for key in trunk.state_dict():
        module = key
        while module and module not in modules:
            module = module.rpartition(".")[0]
        names[key] = modules.get(module, "") + key.removeprefix(module)
    return names


def _check_free(out: Path) -> None:
    if out.is_dir() and not any(out.iterdir()):
        return
    if out.exists():
        raise InputError(f"{out} is there already and not an empty folder; give another one with --out, or remove it")


def _read(path: Path) -> dict[str, Tensor]:
    """The state of a checkpoint by key, without the prefix that DataParallel adds."""
    try:
        file = io.BytesIO(path.read_bytes())
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}; give the file of a checkpoint") from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch, about what is not its own format
            content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:
        if isinstance(error, pickle.UnpicklingError) and (found := re.search(r"GLOBAL ([\w.]+)", str(error))):
            raise InputError(
                f"{path} holds more than tensors ({found[1]}) and could run code when read, so it is not read; "
                "get a file with nothing but the state_dict"
            ) from error
        raise InputError(f"{path} is no checkpoint of PyTorch, or cut short; download it again") from error
    if not isinstance(content, dict) or not isinstance(content.get("state_dict"), dict):
        found = f"only {_some(map(str, content))}" if isinstance(content, dict) and content else "nothing with keys"
        raise InputError(f"{path} has no state_dict in it, {found}; {REMEDY}")
    state = content["state_dict"]
    for key, value in state.items():
        if not isinstance(key, str) or not isinstance(value, Tensor) or value.layout != torch.strided:
            raise InputError(f"{path}: {key} in its state_dict is no plain tensor; download the file again")
    prefix = PREFIX if state and all(key.startswith(PREFIX) for key in state) else ""
    return {key.removeprefix(prefix): value for key, value in state.items()}


@lru_cache
def _layout(kind: str) -> Layout:
    with torch.device("meta"):
        trunk = build_trunk(kind)
    names = {f"trunk.{key}": name for key, name in released_names(trunk).items()}
    names |= {"head.linear.weight": WEIGHT, "head.linear.bias": BIAS}
    shapes = {f"trunk.{key}": value.shape for key, value in trunk.state_dict().items()}
    return Layout(kind, names, shapes, trunk.out_channels)


def _recognise(path: Path, released: Mapping[str, Tensor]) -> Layout:
    """The layout whose keys the file has."""
    nearest = min(map(_layout, TRUNKS), key=lambda layout: len(released.keys() ^ set(layout.names.values())))
    wanted = list(nearest.names.values())
    missing = [name for name in wanted if name not in released and not name.endswith(COUNTER)]
    left_over = [name for name in released if name not in wanted]
    if 2 * len(missing) > len(wanted):
        found = f"its keys are {_some(released)}" if released else "it has no keys"
        raise InputError(f"{path} is of no known trunk: {found}; {REMEDY}")
    for keys, what in ((missing, "lacks"), (left_over, "more than those:")):
        if keys:
            raise InputError(f"{path} has nearly the keys of a {nearest.kind}, but {what} {_some(keys)}; {REMEDY}")
    return nearest


def _check_shapes(path: Path, released: Mapping[str, Tensor], layout: Layout) -> None:
    classes = released[BIAS].numel()
    head = {"head.linear.weight": (classes, layout.channels, 1, 1), "head.linear.bias": (classes,)}
    shapes = {**layout.shapes, **head}
    for key, name in layout.names.items():
        if name in released and released[name].shape != shapes[key]:
            found, wanted = _shape(released[name].shape), _shape(shapes[key])
            raise InputError(f"{path}: {name} is {found}, but {wanted} in a {layout.kind}; {REMEDY}")
    if classes not in LABELS:
        raise InputError(
            f"{path} has {classes} classes ({BIAS}) and doesn't name them; give a checkpoint of VOC's {len(VOC)} or "
            f"COCO's {len(COCO)}"
        )


def _record(path: Path, out: Path, trunk: str, classes: int, pooling: str, size: int) -> Record:
    chosen = {"data.name": DATA[classes], "data.size": size, "trunk.name": trunk, "trunk.weights": "none"}
    chosen |= {"method.name": "mcar", "method.pooling": pooling, "method.rule": "official"}
    settings = config(from_settings(chosen | {"method.topN": 4, "method.tau": 0.5}))
    known = {key: value for key, value in settings.items() if not key.startswith("recipe.")}  # theirs isn't in the file
    commit, dirty = provenance.git_state()
    return Record(
        folder=out,
        name=out.name,
        config=known | {"trunk.weights": f"sha256:{sha256(path)}"},
        metrics={},
        seconds=0.0,
        peak_memory=None,
        versions=provenance.versions(),
        commit=commit,
        dirty=dirty,
        device="unknown",
        code="",
        imported=path.name,
    )


def _model(record: Record, released: Mapping[str, Tensor], layout: Layout, labels: tuple[str, ...]) -> nn.Module:
    prefix = "method."
    options = {key.removeprefix(prefix): value for key, value in record.config.items() if key.startswith(prefix)}
    with torch.device("meta"):
        model = build_model(options.pop("name"), len(labels), build_trunk(layout.kind), **options)
    own, state = model.state_dict(), {}
    for key, name in layout.names.items():
        value = released.get(name, torch.tensor(0))  # a counter
        state[key] = value.to(own[key].dtype).reshape(own[key].shape).clone()  # entries might share memory
    if labels == COCO:
        rows = [sorted(COCO).index(label) for label in COCO]
        state |= {key: state[key][rows] for key in ("head.linear.weight", "head.linear.bias")}
    model.load_state_dict(state, assign=True)
    return model


def _write(out: Path, model: nn.Module, labels: tuple[str, ...], record: Record) -> None:
    """Write the folder beside its place and move it there, so that it is never seen half-written."""
    partial = out.with_name(f".{out.name}.tmp")
    shutil.rmtree(partial, ignore_errors=True)  # what a killed process left
    try:
        partial.mkdir()
        save_model(partial, model, labels)
        write_record(replace(record, folder=partial))
        if out.is_dir():
            out.rmdir()
        partial.rename(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _some(keys: Iterable[str], most: int = 3) -> str:
    """The first few keys, and how many more there are."""
    keys = list(keys)
    more = f" and {len(keys) - most} more" if len(keys) > most else ""
    return ", ".join(keys[:most]) + more


def _shape(shape: Iterable[int]) -> str:
    return "x".join(map(str, shape)) or "a single number"
