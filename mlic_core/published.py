"""The numbers that the four papers print, as one tidy table, and notes on those that don't fit together."""

import functools

import pandas as pd

from mlic_core.errors import InputError, did_you_mean
from mlic_core.paths import repository_root

NUMBERS = ("value", "printed", "computed")


@functools.cache
def _table(name: str = "published_results") -> pd.DataFrame:
    path = repository_root() / "data" / f"{name}.csv"
    # Only these are numbers: table "4" and table "IV" belong to one column, and a blank cell is "".
    frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    return frame.astype({column: float for column in NUMBERS if column in frame})


def results(**where: object) -> pd.DataFrame:
    """Rows of `data/published_results.csv` in which each named column equals the given value.

    Columns: `paper` (cnn_rnn, rdar, gla, mcar), `table`, `dataset`, `method` and `backbone` as printed,
    `input_size`, `setting` (what the row varies), `protocol`, `label` (the class of a per-class AP), `metric`
    and `value` (float, as printed: percent unless the metric says otherwise). All others are strings; `""`
    selects cells that the paper leaves blank. Values are compared as text, so `table=4` finds table "4".

    Raises InputError for an unknown column. An empty frame is a valid answer.
    """
    return _rows(_table(), "published results", where)


def notes(**where: object) -> pd.DataFrame:
    """Rows of `data/published_notes.csv`, what doesn't fit in the papers, looked up as in `results`.

    The columns before `value` are those of `results`, so that the two frames merge. Before them stands `kind`:

    - `F1`: the row's own precision and recall give another F1;
    - `mean`: the printed mAP is not the mean of the row's classes;
    - `quotation`: the number, or its metric, differs from the one in the paper that it is quoted from;
    - `rule`: precision and recall can't come from the label rule of the table's other rows;
    - `implausible`: another metric of the row speaks against the number;
    - `comparison`: a gain that is printed beside it has another cause as well.

    After them: `printed`, `computed` (what the rest of the papers' numbers gives instead) and `note`, a sentence.
    """
    return _rows(_table("published_notes"), "published notes", where)


def marked(frame: pd.DataFrame) -> pd.Series:
    """The values of rows of `results` as text to one decimal, with a `*` where `notes` says something about them."""
    keys = list(_table().columns[:-1])
    known = set(notes()[keys].itertuples(index=False, name=None))
    stars = ["*" if row in known else "" for row in frame[keys].itertuples(index=False, name=None)]
    return frame["value"].map("{:.1f}".format) + pd.Series(stars, frame.index, dtype=str)


def _rows(frame: pd.DataFrame, name: str, where: dict[str, object]) -> pd.DataFrame:
    keys = [column for column in frame.columns if column not in NUMBERS]
    for column, wanted in where.items():
        if column not in keys:
            raise InputError(
                f"{name} have no column {column!r} to look up, only {', '.join(keys)}{did_you_mean(column, keys)}"
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
