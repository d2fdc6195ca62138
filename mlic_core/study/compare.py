"""Repeated runs side by side: means, spread, and differences between runs of the same seed."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Values = Sequence[float | None]  # one number a seed, in the order of the seeds; None where it is not defined


def over_seeds(values: Values, reference: Values | None = None, *, name: str = "mAP") -> dict[str, Any]:
    """Cells of a table row: mean (under `name`), "sd" of the sample, and "seeds".

    With a reference, one value for each of the same seeds, also the mean "gain" over it and the "gain by seed", a
    text. Undefined numbers are NaN: all of them where a value is None, and the spread of a single seed.
    """
    numbers = np.array(values, np.float64)
    spread = numbers.std(ddof=1) if len(numbers) > 1 else np.nan
    cells = {name: float(numbers.mean()), "sd": float(spread), "seeds": len(numbers)}
    if reference is None:
        return cells | {"gain": np.nan, "gain by seed": ""}
    gains = differences(values, reference)
    return cells | {"gain": float(gains.mean()), "gain by seed": signed(gains)}


def differences(values: Values, reference: Values) -> np.ndarray:
    """Values less reference, seed by seed. Raises ValueError for another number of seeds."""
    if len(values) != len(reference):
        raise ValueError(f"{len(values)} values can't be paired with {len(reference)}")
    return np.array(values, np.float64) - np.array(reference, np.float64)


def signed(values: npt.ArrayLike) -> str:
    """Numbers to one decimal with their signs: "+1.2, -0.3"; what rounds to zero is "+0.0"."""
    return ", ".join(f"{value:+.1f}" for value in np.round(np.asarray(values, np.float64), 1) + 0.0)
