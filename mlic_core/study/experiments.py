"""Experiments: everything a run depends on, as frozen dataclasses with dotted settings and a name made from them."""

import hashlib
import inspect
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, get_type_hints

from mlic_core.data import DATASETS, MultiLabelDataset, load_dataset, picto, picto_coco, resolve
from mlic_core.data.picto import PictoSpec
from mlic_core.data.picto_coco import PictoCocoSpec
from mlic_core.errors import InputError, did_you_mean
from mlic_core.models import METHODS
from mlic_core.models.backbones import ALIASES, TRUNKS, brings_weights, pictonet_weights
from mlic_core.paths import repository_root
from mlic_core.progress import track
from mlic_core.study.files import sha256
from mlic_core.study.plugins import weights_digest
from mlic_core.study.values import convert
from mlic_core.training import Recipe

Difficult = Literal["ignore", "positive", "negative"]
# Sets scored on another split than "val".
EVAL_SPLITS = dict.fromkeys(("picto-voc", "picto-coco", "voc2007", "nuswide81", "nuswide1000"), "test")
DRAWERS = {"picto-voc": picto, "picto-coco": picto_coco}  # what draws a data set
SPECS = {"picto-voc": "picto", "picto-coco": "picto_coco"}  # the field of Data that says what to draw
Spec = PictoSpec | PictoCocoSpec
LARGEST = 4096  # pixels a side: one image of that size is 200 MB in fp32
RUN = "run:"  # `trunk.weights=run:NAME`
SHORT = ("data", "trunk", "method")  # `method=mcar` is short for `method.name=mcar`


@dataclass(frozen=True)
class Data:
    """Which images a run sees.

    name: of a data set; `csv:PATH`, a CSV file of one's own, becomes `csv` with the file as root.
    root: folder of the data; empty for a drawn set's own place under data/cache. size: side of the input in pixels.
    train, monitor, eval: splits; monitor is scored after each epoch ("" for none), and an empty eval is the set's
    usual one. difficult_*: what a label of which only difficult objects are in view counts as. draft: have a large JPEG
    file decoded at a half, a quarter or an eighth of its sides, where that is still `size` or more: faster, and not the
    same pixels. unlabelled: keep COCO's images without any label, too. picto, picto_coco: what to draw for picto-voc
    and picto-coco.
    """

    name: str = "picto-voc"
    root: str = ""
    size: int = 112
    train: str = "train"
    monitor: str = "val"
    eval: str = ""
    difficult_train: Difficult = "ignore"
    difficult_eval: Difficult = "ignore"
    draft: bool = False
    unlabelled: bool = False
    picto: PictoSpec = field(default_factory=PictoSpec)
    picto_coco: PictoCocoSpec = field(default_factory=PictoCocoSpec)

    def __post_init__(self):
        for key, value in zip(("name", "root"), resolve(self.name, self.root), strict=True):
            object.__setattr__(self, key, value)
        if self.name not in DATASETS:
            hint = did_you_mean(self.name, DATASETS) or f"; choose from {', '.join(DATASETS)}"
            raise InputError(f"data.name={self.name}: no such data set{hint}")
        if self.size < 16:
            raise InputError(f"data.size={self.size}: an input needs at least 16 pixels a side")
        if self.size > LARGEST:
            raise InputError(f"data.size={self.size}: an input has at most {LARGEST} pixels a side")

    @property
    def eval_split(self) -> str:
        """The split that the run is scored on."""
        return self.eval or EVAL_SPLITS.get(self.name, "val")

    @property
    def spec(self) -> Spec | None:
        """What is drawn for this data set; None for one that is only read."""
        return getattr(self, SPECS[self.name]) if self.name in SPECS else None


@dataclass(frozen=True)
class Trunk:
    """The convolutional network under the method.

    weights: "pretrained", "imagenet", "none", a safetensors file, or "run:NAME" for the trunk of a stored run.
    """

    name: str = "pictonet-m"
    weights: str = "pretrained"

    def __post_init__(self):
        object.__setattr__(self, "name", ALIASES.get(self.name, self.name))
        if self.name not in TRUNKS:
            hint = did_you_mean(self.name, [*TRUNKS, *ALIASES])
            hint = hint or f"; choose from {', '.join(TRUNKS)}, or register it in a file for --plugin"
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


def method_recipe(name: str) -> Recipe:
    """How a method is trained unless one says otherwise. Raises InputError for an unknown method."""
    method_options(name)
    return Recipe(**getattr(METHODS[name], "recipe", {}))


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
    """Experiment with the settings `chosen`, the others at their defaults; those of the recipe depend on the method.

    Keys are dotted ("recipe.lr", "method.topN"); values are typed, or text as typed on a command line. With a
    `data.root` that holds a prepared picto-voc, `data.picto` starts from what was drawn there; so with picto-coco.
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
    """Settings of the drawn data set that was prepared in `data.root`, if there is one."""
    name = values.get("data.name", Data().name)
    stamp = Path(values.get("data.root", "")).expanduser() / "spec.json"
    if not values.get("data.root") or name not in SPECS or not stamp.is_file():
        return {}
    found, prefix, kinds = json.loads(stamp.read_text()), f"data.{SPECS[name]}.", _types(Data, "data.")
    if found["name"] != name:  # `prepare` will say so
        return {}
    spec = {prefix + key: value for key, value in found["spec"].items()}
    return {key: convert(key, value, kinds[key]) for key, value in spec.items() if key in kinds}


def _build(cls: type, prefix: str, values: Mapping[str, Any]) -> Any:
    if cls is Method:
        name = values.get("method.name", Method().name)
        return Method(name, {key: values[f"method.{key}"] for key in method_options(name) if f"method.{key}" in values})
    if cls is Recipe:
        name = values.get("method.name", Method().name)
        given = {key: values[prefix + key] for key in get_type_hints(Recipe) if prefix + key in values}
        return replace(method_recipe(name), **given)
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

    What would be drawn for another data set is left out. Raises InputError if a weights file is missing.
    """
    unused = tuple(f"data.{spec}." for name, spec in SPECS.items() if name != experiment.data.name)
    kept = {key: value for key, value in settings(experiment).items() if not key.startswith(unused)}
    kept |= {"data.root": "", "data.eval": experiment.data.eval_split}
    if "method.proposals" in kept:
        kept["method.proposals"] = _proposals(experiment.method.options["proposals"])
    return kept | {"trunk.weights": _weights(experiment.trunk)}


def _weights(trunk: Trunk) -> str:
    """Weights as "sha256:...": of a file, of what "pretrained" means for PictoNet, and of a registered trunk."""
    if trunk.weights in ("imagenet", "none") or trunk.weights.startswith(("sha256:", RUN)):
        return trunk.weights  # a run's name stands for its settings, so it is the same on every machine
    if trunk.weights == "pretrained" and brings_weights(trunk.name):
        return f"sha256:{weights_digest(trunk.name)}"
    path = Path(trunk.weights).expanduser()
    if trunk.weights == "pretrained":
        path = pictonet_weights(trunk.name)
        if not trunk.name.startswith("pictonet-"):
            return trunk.weights
    if not path.is_file():
        raise InputError(
            f"trunk.weights={trunk.weights}: no file {path}; "
            "give a safetensors file, 'pretrained', 'imagenet', 'none' or 'run:NAME'"
        )
    return f"sha256:{sha256(path)}"


def _proposals(given: str) -> str:
    """A box file as "sha256:..."; what is no file stays."""
    if given in ("", "windows") or given.startswith("sha256:"):
        return given
    path = Path(given).expanduser()
    if not path.is_file():
        raise InputError(f"method.proposals={given}: no such file; give a box file, 'windows' or nothing")
    return f"sha256:{sha256(path)}"


def experiment_of(record_config: Mapping[str, Any], root: str = "") -> Experiment:
    """The experiment of a record's `config`, with its data in `root`.

    Raises InputError if its trunk started from a file that is not at hand, or its regions came from one.
    """
    chosen = {**record_config, "data.root": root}
    if str(chosen["trunk.weights"]).startswith("sha256:"):
        usual = Trunk(name=chosen["trunk.name"])
        if _weights(usual) != chosen["trunk.weights"]:
            raise InputError(
                f"the trunk {usual.name} of a stored run started from weights that are not those of data/weights; "
                "give the file as trunk.weights and train that run again"
            )
        chosen["trunk.weights"] = usual.weights
    if str(chosen.get("method.proposals", "")).startswith("sha256:"):
        raise InputError(
            "the regions of a stored run came from a box file, which is not kept with it; "
            "name the run by its settings, with method.proposals=FILE"
        )
    return from_settings(chosen)


def run_name(experiment: Experiment) -> str:
    """Twelve hexadecimal characters: SHA-256 of the settings that differ from their defaults and of the labels seen.

    Defaults stay out, so that an option added later leaves old names alone; so does `data.root`. Draws a data set
    where needed. Raises InputError for data or weights that are missing or broken.
    """
    method = experiment.method.name
    chosen, usual = config(experiment), settings(Experiment(method=Method(method), recipe=method_recipe(method)))
    always = ("data.name", "data.eval", "trunk.name", "trunk.weights", "method.name", "seed")
    kept = {key: value for key, value in chosen.items() if key in always or value != usual[key]}
    kept["labels"] = {role: split.digest() for role, split in open_splits(experiment.data).items()}
    text = json.dumps(kept, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def open_splits(data: Data) -> dict[str, MultiLabelDataset]:
    """The data sets of a run by role: "train", "eval" and, unless it is switched off, "monitor"."""
    names = {"train": data.train, "monitor": data.monitor, "eval": data.eval_split}
    return {role: open_split(data, name) for role, name in names.items() if name}


def open_split(data: Data, split: str) -> MultiLabelDataset:
    """One split. picto-voc and picto-coco are drawn first where they are missing; every other set needs `data.root`.

    Raises InputError for missing or broken files, naming them.
    """
    return _open(data.name, data.root, data.size, data.spec, split, data.draft, data.unlabelled)


@lru_cache(maxsize=6)  # a data set object keeps its decoded images; a run needs three
def _open(
    name: str, root: str, size: int, spec: Spec | None, split: str, draft: bool, unlabelled: bool
) -> MultiLabelDataset:
    if spec:
        folder = prepare(name, root, spec)
    elif root:
        folder = Path(root).expanduser()
    elif name == "csv":
        raise InputError("data.name=csv: name the file too, as in data.name=csv:labels.csv")
    else:
        raise InputError(f"data.root: {name} needs the folder that holds its files; add data.root=FOLDER")
    dataset = load_dataset(name, split, root=folder, size=size, unlabelled=unlabelled)
    dataset.draft = draft
    return dataset


def prepare(name: str, root: str | Path, spec: Spec) -> Path:
    """Draw picto-voc or picto-coco unless it is there; without a root, in data/cache under the specification's name."""
    root = Path(root).expanduser() if str(root) else _home(name, spec)
    return DRAWERS[name].prepare(root, spec, progress=lambda scenes: track(scenes, label=f"drawing {name}"))


def _home(name: str, spec: Spec) -> Path:
    return repository_root() / "data" / "cache" / f"{name}-{DRAWERS[name].digest(spec)}"
