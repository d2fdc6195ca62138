"""What a stored run's model sees in a user's own images."""

import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Float32, Int, Int64
from PIL import Image
from torch import Tensor, nn

from mlic_core.data.base import MultiLabelDataset
from mlic_core.errors import InputError
from mlic_core.images import prepare_images
from mlic_core.models import Prediction
from mlic_core.paths import repository_root
from mlic_core.study.evaluate import THRESHOLD, TOP, probabilities
from mlic_core.study.experiments import Experiment, experiment_of, from_settings, settings
from mlic_core.study.heat import HeatMap, heat_maps
from mlic_core.study.profile import profile_names
from mlic_core.study.record import Record
from mlic_core.study.store import MODEL, load_model, stored_labels
from mlic_core.training import default_device, is_frozen

ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")  # of what is taken from a folder
BATCH = 32
END = "END"


class LabelPath(NamedTuple):
    """Labels in the order of their prediction, P of each given those before it and last of END, and their product."""

    labels: tuple[str, ...]
    probabilities: tuple[float, ...]
    probability: float


class Predicted(NamedTuple):
    """What a model sees in one image.

    scores: (C,) by class; probabilities, or with activation "none" scores that only rank. paths: best first, of a
    method that predicts paths. regions: (R, 4) boxes x0, y0, x1, y1 in [0, 1], where it has any, the class of each, and
    the score of that class: of the region alone if the method scores regions one by one (RDAR), else of the image.
    maps: what its answer rests on, of a method that has maps, where they are asked for.
    """

    image: Path
    scores: Float[np.ndarray, " classes"]
    paths: tuple[LabelPath, ...] | None = None
    regions: Float32[np.ndarray, "regions 4"] | None = None
    region_labels: Int[np.ndarray, " regions"] | None = None
    region_scores: Float[np.ndarray, " regions"] | None = None
    maps: tuple[HeatMap, ...] = ()


class Photos(MultiLabelDataset):
    """A user's images, read as those of every data set are, but without labels."""

    def __init__(self, images: Sequence[Path], labels: Sequence[str], size: int):
        targets = np.zeros((len(images), len(labels)), dtype=np.int8)
        super().__init__(
            name="images", split="given", labels=labels, targets=targets, ids=list(map(str, images)), size=size
        )

    def image_path(self, index: int) -> Path:
        return Path(self.ids[index])

    def original(self, index: int) -> Image.Image:
        try:
            return super().original(index)
        except InputError as error:
            raise InputError(f"cannot read image {self.ids[index]}: {error.__cause__}; leave it out") from error


def find_images(given: Iterable[str | Path]) -> list[Path]:
    """The files among `given` and, by name, the images in the folders among it; not those in folders within.

    Raises InputError for what does not exist, and for a folder without an image.
    """
    found: list[Path] = []
    for path in (Path(name).expanduser() for name in given):
        if path.is_dir():
            inside = sorted(file for file in path.iterdir() if file.suffix.lower() in ENDINGS and file.is_file())
            if not inside:
                raise InputError(f"{path} has no image in it: no file that ends in {', '.join(ENDINGS)}")
            found += inside
        elif path.exists():
            found.append(path)
        else:
            raise InputError(f"{path}: no such file or folder")
    return found


def model_of(record: Record) -> tuple[nn.Module, tuple[str, ...]]:
    """A run's model, in evaluation mode, and the names of its classes.

    Raises InputError for a run without its model, naming the command that makes it.
    """
    if not (record.folder / MODEL).is_file():
        raise InputError(f"run {record.name} is stored without its model; {_how_to_train(record)}")
    return load_model(record.folder), stored_labels(record)


def predict_images(
    record: Record, images: Sequence[Path], *, maps: bool = False
) -> tuple[tuple[str, ...], list[Predicted]]:
    """The class names of a run's model, and what it sees in each of the images; with `maps`, also on what that rests.

    They are squashed to the size that the run was trained at. Raises InputError for a file that can't be read, and as
    `model_of` does.
    """
    model, labels = model_of(record)
    photos, device = Photos(images, labels, record.config["data.size"]), default_device()
    model.to(device, memory_format=torch.channels_last)
    torch.manual_seed(0)  # as `training.predict` does
    found: list[Predicted] = []
    for index in torch.arange(len(photos)).split(BATCH):
        pixels = torch.stack([photos.read(i) for i in index.tolist()])
        inputs = prepare_images(pixels.to(device), model.trunk)
        found += _predict_batch(model, inputs, record, [photos.image_path(i) for i in index.tolist()], labels, maps)
    return labels, found


@torch.no_grad()
def _predict_batch(
    model: nn.Module, inputs: Tensor, record: Record, paths: list[Path], labels: tuple[str, ...], maps: bool
) -> list[Predicted]:
    seen: list[Tensor] = []  # the trunk's maps: of the images, then of MCAR's regions
    with model.trunk.register_forward_hook(lambda trunk, given, cells: seen.append(cells)):
        features = model.features(inputs) if is_frozen(model) else None
        prediction = model(inputs) if features is None else model.head(features)
    columns = {"scores": as_probabilities(prediction.logits.cpu().numpy(), record.activation)}
    if prediction.paths is not None:
        steps = path_probabilities(model, features, prediction.paths)
        found = zip(prediction.paths.tolist(), steps.tolist(), prediction.path_log_probs.tolist(), strict=True)
        columns["paths"] = [_label_paths(*of_image, labels) for of_image in found]
    if prediction.regions is not None:
        columns["regions"] = prediction.regions.float().cpu().numpy()
        columns["region_labels"] = prediction.region_labels.cpu().numpy()
        columns["region_scores"] = _region_scores(prediction, columns["scores"], record.activation)
    if maps:
        columns["maps"] = heat_maps(model, seen[0], prediction, columns["scores"], labels)
    return [
        Predicted(path, **{name: values[row] for name, values in columns.items()}) for row, path in enumerate(paths)
    ]


def _region_scores(
    prediction: Prediction, scores: Float[np.ndarray, "images classes"], activation: str
) -> Float[np.ndarray, "images regions"]:
    """The score of each region's class: the region's own where each step is one, or else the image's."""
    chosen, steps = prediction.region_labels.cpu().numpy(), prediction.steps
    if prediction.transforms is None or steps is None:
        return np.take_along_axis(scores, chosen, 1)
    alone = as_probabilities(steps.flatten(0, 1).float().cpu().numpy(), activation)
    return np.take_along_axis(alone, chosen.reshape(-1, 1), 1).reshape(chosen.shape)


def as_probabilities(
    logits: Float[np.ndarray, "images classes"], activation: str
) -> Float[np.ndarray, "images classes"]:
    """Probabilities as a method's `activation` makes them; for "none" the logits as they are."""
    return {"sigmoid": probabilities, "softmax": np.exp, "none": np.asarray}[activation](logits)


def path_probabilities(
    model: nn.Module, features: Float[Tensor, "batch channels"], paths: Int64[Tensor, "batch beams length"]
) -> Float[Tensor, "batch beams steps"]:
    """P of each label of CNN-RNN's paths given the image and the labels before it, then of END, then ones.

    As in the search, a softmax over what may follow: no label twice, END only after `model.min_length` labels, and
    nothing else after `model.length`. Hence their product is exp(path_log_probs).
    """
    beams, end = paths.shape[1], model.num_classes
    tokens = nn.functional.pad(paths, (0, 1), value=-1).flatten(0, 1)
    count = (tokens >= 0).sum(1, keepdim=True)
    tokens = tokens.scatter(1, count, end)
    place = torch.arange(tokens.shape[1], device=tokens.device)
    taken = nn.functional.one_hot(tokens.clamp(min=0), end + 1) * (place <= count)[..., None]
    barred = taken.cumsum(1) - taken > 0
    barred[..., end] |= place < model.min_length
    scores = model.follow(features.repeat_interleave(beams, 0), tokens)
    p = scores.masked_fill(barred, -torch.inf).softmax(2).gather(2, tokens.clamp(min=0)[..., None])[..., 0]
    return torch.where((place > count) | (place >= model.length), 1.0, p).unflatten(0, (-1, beams))


def _label_paths(paths: list, steps: list, log_probs: list[float], labels: Sequence[str]) -> tuple[LabelPath, ...]:
    found = []
    for path, step, log_p in zip(paths, steps, log_probs, strict=True):
        names = tuple(labels[label] for label in path if label >= 0)
        if log_p > -np.inf:  # fewer paths than beams may have ended
            found.append(LabelPath(names, tuple(step[: len(names) + 1]), float(np.exp(log_p))))
    return tuple(found)


def describe(predicted: Predicted, labels: Sequence[str], activation: str) -> str:
    """An image and, below it, its paths, best first, or else its labels.

    These are the labels with p > 0.5; where there is none, or a softmax shares 1 among all labels, the best three.
    """
    lines = [str(predicted.image)]
    if predicted.paths is not None:
        return "\n".join(lines + [f"  {_path_text(path)}" for path in predicted.paths])
    order = best_first(predicted.scores)
    sure = sure_labels(predicted.scores, activation)
    text = ", ".join(f"{labels[i]} {predicted.scores[i]:.2f}" for i in sure or order[:TOP])
    before = {"sigmoid": f"no label above {THRESHOLD}; best: ", "softmax": "best: "}.get(activation, "best by score: ")
    return "\n".join([*lines, f"  {text if sure else before + text}"])


def best_first(scores: Float[np.ndarray, " classes"]) -> list[int]:
    """The classes by score; of equal ones the first."""
    return np.argsort(-scores, kind="stable").tolist()


def sure_labels(scores: Float[np.ndarray, " classes"], activation: str) -> list[int]:
    """The classes with p > 0.5, best first; none where scores are no probabilities of one label at a time."""
    return [c for c in best_first(scores) if scores[c] > THRESHOLD] if activation == "sigmoid" else []


def _path_text(path: LabelPath) -> str:
    steps = zip((*path.labels, END), path.probabilities, strict=True)
    return " -> ".join(f"{name} {p:.2f}" for name, p in steps) + f", path {path.probability:.2f}"


def _how_to_train(record: Record) -> str:
    """The command that trains a run's model again."""
    if record.imported:
        return f"remove {record.folder} and import {record.imported} again"
    runs = record.folder.resolve().parent
    profile, results = runs.parent.name, runs.parent.parent
    if runs.name != "runs" or profile not in ("own", *profile_names()):
        return f"put its {MODEL} into {record.folder}"
    parts = ["mlic run --eval-only"]
    parts += [f"--profile {profile}"] if profile != "own" else []
    parts += [f"--results {shlex.quote(str(results))}"] if results != repository_root() / "results" else []
    experiment = experiment_of(record.config)
    parts += [f"--set {shlex.quote(text)}" for text in _settings_beyond(profile, experiment)]
    if experiment.data.spec is None:
        parts.append("--set data.root=FOLDER")
    return f"`{' '.join(parts)}` trains it again"


def _settings_beyond(profile: str, experiment: Experiment) -> list[str]:
    """KEY=VALUE of the settings that an experiment has and its profile doesn't give."""
    from mlic_core.study.notebook import Study

    method = experiment.method.name
    usual = from_settings({"method.name": method}) if profile == "own" else Study(profile).experiment(method)
    before = settings(usual) | {"data.eval": experiment.data.eval_split}
    differing = {key: value for key, value in settings(experiment).items() if before[key] != value}
    return [f"method={method}", *(f"{key}={'none' if value is None else value}" for key, value in differing.items())]
