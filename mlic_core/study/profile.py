"""Profiles: the same study with other parameters, one TOML file each."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from mlic_core.errors import InputError, did_you_mean

KEYS = ("about", "seeds", "notebooks", "settings", "methods", "experiments", "sweeps")


@dataclass(frozen=True)
class Profile:
    """about: what it is for, and how long it takes where. seeds: of the repeated runs. notebooks: numbers of those that
    are for this profile, None for all. settings: dotted, for all runs; methods: more of them for one method.
    experiments: more of them by the name of an experiment, with its `method.name`; `trunk.of` names another one, whose
    trunk it takes. sweeps: lists that the notebooks go through, by name."""

    name: str
    about: str
    seeds: tuple[int, ...]
    notebooks: tuple[str, ...] | None
    settings: Mapping[str, Any]
    methods: Mapping[str, Mapping[str, Any]]
    experiments: Mapping[str, Mapping[str, Any]]
    sweeps: Mapping[str, tuple]


def profile_names() -> list[str]:
    """The profiles that the package brings."""
    folder = files("mlic_core.study") / "profiles"
    return sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))


def load_profile(name: str) -> Profile:
    """A profile by name. Raises InputError for an unknown one, or a file with another table than a profile has."""
    known = profile_names()
    if name not in known:
        raise InputError(f"no profile is named {name!r}; choose from {', '.join(known)}{did_you_mean(name, known)}")
    table = tomllib.loads((files("mlic_core.study") / "profiles" / f"{name}.toml").read_text(encoding="utf-8"))
    for key in table:
        if key not in KEYS:
            raise InputError(f"profile {name}: unknown table {key!r}{did_you_mean(key, KEYS)}")
    return Profile(
        name=name,
        about=table["about"],
        seeds=tuple(table["seeds"]),
        notebooks=tuple(table["notebooks"]) if "notebooks" in table else None,
        settings=flatten(table.get("settings", {})),
        methods={method: flatten(chosen) for method, chosen in table.get("methods", {}).items()},
        experiments={listed: flatten(chosen) for listed, chosen in table.get("experiments", {}).items()},
        sweeps={sweep: tuple(values) for sweep, values in table.get("sweeps", {}).items()},
    )


def read_toml(path: Path) -> dict[str, Any]:
    """A TOML file. Raises InputError if it is missing or malformed."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:  # of tomllib, also for what is nested or numbered without end
        raise InputError(f"{path} is not TOML: {error}") from error


def flatten(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested TOML tables as dotted settings: {"recipe": {"lr": 0.1}} becomes {"recipe.lr": 0.1}."""
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
    return flat
