"""Which classes of a data set carry a mean AP: those that enough images show, and among them strong and weak ones."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int8, Int64

from mlic_core.errors import InputError


def well_represented(splits: Sequence[Int8[np.ndarray, "_ classes"]], least: int) -> Int64[np.ndarray, " kept"]:
    """Columns of the classes that at least `least` images show, all of `splits` taken together, in their order.

    splits: targets in {1, 0, -1}, the evaluated split last. A class that this one does not show is left out, since it
    has no AP. Raises InputError if no class is left.
    """
    shown = sum((targets == 1).sum(0) for targets in splits)
    kept = np.flatnonzero((shown >= least) & (splits[-1] == 1).any(0))
    if not len(kept):
        raise InputError(f"least={least}: no class has so many images, and one in the evaluated split; choose fewer")
    return kept


def strong_and_weak(
    train: Int8[np.ndarray, "images classes"], kept: Int64[np.ndarray, " kept"], enough: int
) -> tuple[Int64[np.ndarray, " strong"], Int64[np.ndarray, " weak"]]:
    """The columns `kept` that at least `enough` training images show, and the others."""
    strong = (train[:, kept] == 1).sum(0) >= enough
    return kept[strong], kept[~strong]
