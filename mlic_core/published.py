"""The numbers that the four papers print, as one tidy table."""

import functools

import pandas as pd

from mlic_core.errors import InputError, did_you_mean
from mlic_core.paths import repository_root


@functools.cache
def _table() -> pd.DataFrame:
    path = repository_root() / "data" / "published_results.csv"
    # Only `value` is a number: table "4" and table "IV" belong to one column, and a blank cell is "".
    frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    return frame.astype({"value": float})


def results(**where: object) -> pd.DataFrame:
    """Rows of `data/published_results.csv` in which each named column equals the given value.

    Columns: `paper` (cnn_rnn, rdar, gla, mcar), `table`, `dataset`, `method` and `backbone` as printed,
    `input_size`, `setting` (what the row varies), `protocol`, `label` (the class of a per-class AP), `metric`
    and `value` (float, as printed: percent unless the metric says otherwise). All others are strings; `""`
    selects cells that the paper leaves blank. Values are compared as text, so `table=4` finds table "4".

    Raises InputError for an unknown column. An empty frame is a valid answer.
    """
    frame = _table()
    keys = [column for column in frame.columns if column != "value"]
    for column, wanted in where.items():
        if column not in keys:
            raise InputError(
                f"published results have no column {column!r} to look up, only {', '.join(keys)}"
                f"{did_you_mean(column, keys)}"
            )
        frame = frame[frame[column] == str(wanted)]
    return frame.reset_index(drop=True)


def value(**where: object) -> float:
    """The one printed number in which each named column equals the given value, e.g.
    `value(paper="mcar", table="IV", dataset="voc2007", setting="streams=local")`.

    Raises InputError when no row or more than one row matches, naming what to correct or to add.
    """
    found = results(**where)
    if len(found) == 1:
        return float(found["value"].iloc[0])
    asked = ", ".join(f"{column}={wanted!r}" for column, wanted in where.items())
    if found.empty:
        hints = (did_you_mean(str(wanted), _unlike(column, wanted)) for column, wanted in where.items())
        raise InputError(f"no published result has {asked}{next(filter(None, hints), '')}")
    open_columns = [column for column in found.columns[:-1] if found[column].nunique() > 1]
    raise InputError(
        f"{len(found)} published results have {asked or 'no condition'}; "
        f"they differ in {', '.join(open_columns)}: name the one wanted."
    )


def _unlike(column: str, wanted: object) -> list[str]:
    """Values of a column to suggest for a misspelt one; none where the value itself occurs."""
    values = [text for text in _table()[column].unique() if text]
    return [] if str(wanted) in values else values
