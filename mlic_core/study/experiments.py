"""Experiments: everything a run depends on, as frozen dataclasses with dotted settings and a name made from them."""

import hashlib
import inspect
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, get_type_hints

from mlic_core.data import DATASETS, MultiLabelDataset, load_dataset, picto
from mlic_core.data.picto import PictoSpec
from mlic_core.errors import InputError, did_you_mean
from mlic_core.models import METHODS
from mlic_core.models.backbones import ALIASES, TRUNKS, pictonet_weights
from mlic_core.paths import repository_root
from mlic_core.progress import track
from mlic_core.study.files import sha256
from mlic_core.study.values import convert
from mlic_core.training import Recipe

Difficult = Literal["ignore", "positive", "negative"]
EVAL_SPLITS = {"picto-voc": "test", "voc2007": "test"}  # data sets scored on another split than "val"
SHORT = ("data", "trunk", "method")  # `method=mcar` is short for `method.name=mcar`


@dataclass(frozen=True)
class Data:
    """Which images a run sees.

    root: folder of the data; empty for picto-voc's own place under data/cache. size: side of the input in pixels.
    train, monitor, eval: splits; monitor is scored after each epoch ("" for none), and an empty eval is the set's
    usual one. difficult_*: what a label of which only difficult objects are in view counts as. picto: what to draw.
    """

    name: str = "picto-voc"
    root: str = ""
    size: int = 112
    train: str = "train"
    monitor: str = "val"
    eval: str = ""
    difficult_train: Difficult = "ignore"
    difficult_eval: Difficult = "ignore"
    picto: PictoSpec = field(default_factory=PictoSpec)

    def __post_init__(self):
        if self.name not in DATASETS:
            hint = did_you_mean(self.name, DATASETS) or f"; choose from {', '.join(DATASETS)}"
            raise InputError(f"data.name={self.name}: no such data set{hint}")
        if self.size < 16:
            raise InputError(f"data.size={self.size}: an input needs at least 16 pixels a side")

    @property
    def eval_split(self) -> str:
        """The split that the run is scored on."""
        return self.eval or EVAL_SPLITS.get(self.name, "val")


@dataclass(frozen=True)
class Trunk:
    """The convolutional network under the method. weights: "pretrained", "imagenet", "none" or a safetensors file."""

    name: str = "pictonet-m"
    weights: str = "pretrained"

    def __post_init__(self):
        object.__setattr__(self, "name", ALIASES.get(self.name, self.name))
        if self.name not in TRUNKS:
            hint = did_you_mean(self.name, [*TRUNKS, *ALIASES]) or f"; choose from {', '.join(TRUNKS)}"
            raise InputError(f"trunk.name={self.name}: no such trunk{hint}")


@dataclass(frozen=True)
class Method:
    """A method of the package and its options: the keyword arguments of its class, with their defaults."""

    name: str = "classifier"
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self):
        object.__setattr__(self, "options", {**method_options(self.name), **self.options})


@dataclass(frozen=True)
class Experiment:
    """All that a run depends on."""

    data: Data = field(default_factory=Data)
    trunk: Trunk = field(default_factory=Trunk)
    method: Method = field(default_factory=Method)
    recipe: Recipe = field(default_factory=Recipe)
    seed: int = 0


def method_options(name: str) -> dict[str, Any]:
    """The options of a method with their defaults. Raises InputError for an unknown method."""
    return {option.name: option.default for option in _option_parameters(name)}


def _option_parameters(name: str) -> list[inspect.Parameter]:
    if name not in METHODS:
        hint = did_you_mean(name, METHODS) or f"; choose from {', '.join(METHODS)}"
        raise InputError(f"method.name={name}: no such method{hint}")
    parameters = inspect.signature(METHODS[name].__init__).parameters.values()
    return [parameter for parameter in parameters if parameter.kind is inspect.Parameter.KEYWORD_ONLY]


def from_settings(chosen: Mapping[str, Any]) -> Experiment:
    """Experiment with the settings `chosen`, the others at their defaults.

    Keys are dotted ("recipe.lr", "method.topN"); values are typed, or text as typed on a command line. With a
    `data.root` that holds a prepared picto-voc, `data.picto` starts from what was drawn there.
    Raises InputError naming the key for an unknown one, a wrong type or an impossible value.
    """
    chosen = {f"{key}.name" if key in SHORT else key: value for key, value in chosen.items()}
    method = chosen.get("method.name", Method().name)
    kinds = setting_types(str(method))
    for key in chosen:
        if key not in kinds:
            raise InputError(f"unknown setting {key!r}{_hint(key, kinds)}")
    values = {key: convert(key, value, kinds[key]) for key, value in chosen.items()}
    return _build(Experiment, "", {**_drawn(values), **values})


def setting_types(method: str) -> dict[str, Any]:
    """Every dotted key of an experiment with this method, and its type."""
    kinds = _types(Experiment, "")
    for option in _option_parameters(method):
        kinds[f"method.{option.name}"] = option.annotation
    return kinds


def _types(cls: type, prefix: str) -> dict[str, Any]:
    kinds: dict[str, Any] = {}
    for key, kind in get_type_hints(cls).items():
        if is_dataclass(kind):
            kinds |= _types(kind, f"{prefix}{key}.")
        elif (cls, key) != (Method, "options"):
            kinds[prefix + key] = kind
    return kinds


def _hint(key: str, known: Mapping[str, Any]) -> str:
    owners = [name for name in METHODS if key in {f"method.{option}" for option in method_options(name)}]
    if owners:
        return f": it is an option of {' and '.join(owners)}; add method={owners[0]}"
    last = key.rsplit(".", 1)[-1]
    same = [name for name in known if name.rsplit(".", 1)[-1] == last]  # the right name in the wrong section
    return f"; did you mean {same[0]!r}?" if same else did_you_mean(key, known)


def _drawn(values: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of the picto-voc that was prepared in `data.root`, if there is one."""
    stamp = Path(values.get("data.root", "")).expanduser() / "spec.json"
    if not values.get("data.root") or values.get("data.name", Data().name) != "picto-voc" or not stamp.is_file():
        return {}
    spec = json.loads(stamp.read_text())["spec"]
    kinds = _types(PictoSpec, "")
    return {f"data.picto.{key}": convert(key, value, kinds[key]) for key, value in spec.items() if key in kinds}


def _build(cls: type, prefix: str, values: Mapping[str, Any]) -> Any:
    if cls is Method:
        name = values.get("method.name", Method().name)
        return Method(name, {key: values[f"method.{key}"] for key in method_options(name) if f"method.{key}" in values})
    arguments = {}
    for key, kind in get_type_hints(cls).items():
        if is_dataclass(kind):
            arguments[key] = _build(kind, f"{prefix}{key}.", values)
        elif prefix + key in values:
            arguments[key] = values[prefix + key]
    return cls(**arguments)


def settings(experiment: Experiment) -> dict[str, Any]:
    """Every setting by its dotted key, in the order of the dataclasses; lists for tuples, as in JSON."""
    return _flatten(experiment, "")


def _flatten(part: Any, prefix: str) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in ((item.name, getattr(part, item.name)) for item in fields(part)):
        if is_dataclass(value):
            flat |= _flatten(value, f"{prefix}{key}.")
        elif isinstance(part, Method) and key == "options":
            flat |= {f"{prefix}{option}": _plain(chosen) for option, chosen in value.items()}
        else:
            flat[prefix + key] = _plain(value)
    return flat


def _plain(value: Any) -> Any:
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def config(experiment: Experiment) -> dict[str, Any]:
    """The settings as a record keeps them: no folder of this machine, weights by content, the eval split by name.

    Raises InputError if a weights file is missing.
    """
    kept = settings(experiment) | {"data.root": "", "data.eval": experiment.data.eval_split}
    return kept | {"trunk.weights": _weights(experiment.trunk)}


def _weights(trunk: Trunk) -> str:
    """A weights file as "sha256:..."; "pretrained" too where that means a committed file, as for PictoNet."""
    if trunk.weights in ("imagenet", "none") or trunk.weights.startswith("sha256:"):
        return trunk.weights
    path = Path(trunk.weights).expanduser()
    if trunk.weights == "pretrained":
        path = pictonet_weights(trunk.name)
        if not trunk.name.startswith("pictonet-"):
            return trunk.weights
    if not path.is_file():
        raise InputError(
            f"trunk.weights={trunk.weights}: no file {path}; "
            "give a safetensors file, 'pretrained', 'imagenet' or 'none'"
        )
    return f"sha256:{sha256(path)}"


def run_name(experiment: Experiment) -> str:
    """Twelve hexadecimal characters: SHA-256 of the settings that differ from their defaults and of the labels seen.

    Defaults stay out, so that an option added later leaves old names alone; so does `data.root`. Prepares picto-voc
    where needed. Raises InputError for data or weights that are missing or broken.
    """
    chosen, usual = config(experiment), settings(Experiment(method=Method(experiment.method.name)))
    always = ("data.name", "data.eval", "trunk.name", "trunk.weights", "method.name", "seed")
    kept = {key: value for key, value in chosen.items() if key in always or value != usual[key]}
    if experiment.data.name != "picto-voc":
        kept = {key: value for key, value in kept.items() if not key.startswith("data.picto.")}
    kept["labels"] = {role: split.digest() for role, split in open_splits(experiment.data).items()}
    text = json.dumps(kept, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def open_splits(data: Data) -> dict[str, MultiLabelDataset]:
    """The data sets of a run by role: "train", "eval" and, unless it is switched off, "monitor"."""
    names = {"train": data.train, "monitor": data.monitor, "eval": data.eval_split}
    return {role: open_split(data, name) for role, name in names.items() if name}


def open_split(data: Data, split: str) -> MultiLabelDataset:
    """One split. picto-voc is drawn first where it is missing; every other set needs `data.root`.

    Raises InputError for missing or broken files, naming them.
    """
    return _open(data.name, data.root, data.size, data.picto, split)


@lru_cache(maxsize=6)  # a data set object keeps its decoded images; a run needs three
def _open(name: str, root: str, size: int, spec: PictoSpec, split: str) -> MultiLabelDataset:
    if name == "picto-voc":
        folder = prepare(root, spec)
    elif root:
        folder = Path(root).expanduser()
    else:
        raise InputError(f"data.root: {name} needs the folder that holds its files; add data.root=FOLDER")
    return load_dataset(name, split, root=folder, size=size)


def prepare(root: str | Path, spec: PictoSpec) -> Path:
    """Draw a picto-voc unless it is there; without a root, in data/cache under the name of its specification."""
    root = Path(root).expanduser() if str(root) else picto_home(spec)
    return picto.prepare(root, spec, progress=lambda scenes: track(scenes, label="drawing picto-voc"))


def picto_home(spec: PictoSpec) -> Path:
    """Where a picto-voc lies unless one says otherwise."""
    return repository_root() / "data" / "cache" / f"picto-voc-{picto.digest(spec)}"
