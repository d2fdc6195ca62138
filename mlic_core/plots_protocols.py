"""How far the scores of one set of predictions move with the convention that they are computed by, as a heat map."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from mlic_core.errors import InputError
from mlic_core.plots import new_figure, styled

ROW = ["metric", "definition", "rule"]
HEADLINE = {"mAP": ("raw", ""), "C-F1": ("harmonic", "p > 0.5"), "O-F1": ("", "p > 0.5")}  # definition and rule
COLUMN = "ignore"  # the headline's handling of difficult entries
LIMIT = 5.0  # points at which the colour saturates: a rule that doesn't suit the data would hide all other differences


def moved(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame of `metrics.protocol_matrix` with a column `moved`: points above the metric's headline convention.

    The headline is raw AP, the harmonic C-F1 and the O-F1 of the labels with p > 0.5, difficult entries ignored.
    Raises InputError for a metric whose headline is not in the frame.
    """
    headline = {metric: _headline(frame, metric) for metric in frame["metric"].unique()}
    return frame.assign(moved=frame["value"] - frame["metric"].map(headline))


def _headline(frame: pd.DataFrame, metric: str) -> float:
    definition, rule = HEADLINE.get(metric, ("", ""))
    there = frame[ROW].eq([metric, definition, rule]).all(axis=1) & frame["difficult"].eq(COLUMN)
    if there.sum() != 1:
        wanted = ", ".join(filter(None, (metric, definition, rule, f"difficult {COLUMN}")))
        raise InputError(f"the protocols need one row for the headline of {metric} ({wanted}), not {there.sum()}")
    return float(frame.loc[there, "value"].iloc[0])


@styled
def protocol_heat_map(frames: Mapping[str, pd.DataFrame]) -> Figure:
    """One panel a name: the values of `metrics.protocol_matrix` by convention (rows) and handling of difficult entries.

    The colour is the distance from the headline convention of the same metric and panel, which is framed, on one scale
    for all panels. The frames hold the same conventions. Raises InputError as `moved` does.
    """
    names, tables = list(frames), [moved(frame) for frame in frames.values()]
    rows = sorted(tables[0][ROW].drop_duplicates().itertuples(index=False, name=None), key=_place)
    columns = list(tables[0]["difficult"].unique())
    width = 0.62 * len(columns) * len(names) + 0.3 * len(names) + 3.0
    figure, axes = new_figure(1, len(names), size=(width, 0.23 * len(rows) + 1.1))
    furthest = max(0.1, *(table["moved"].abs().max() for table in tables))
    reach = min(furthest, LIMIT)
    for axis, name, table in zip(axes.flat, names, tables, strict=True):
        picture = _panel(axis, table, rows, columns, reach)
        axis.set_title(name)
        labels = [", ".join(filter(None, row)) for row in rows] if axis is axes.flat[0] else [""] * len(rows)
        axis.set_yticks(range(len(rows)), labels)
    figure.supxlabel("how difficult entries count", fontsize=9)
    ends = "both" if furthest > reach else "neither"
    figure.colorbar(picture, ax=axes.ravel().tolist(), extend=ends, label="points above the framed headline")
    return figure


def _place(row: tuple[str, str, str]) -> tuple[int, str]:
    """mAP, C-F1, O-F1, each definition together; rows that compare equal keep their order."""
    return list(HEADLINE).index(row[0]), "" if row[1] in ("raw", "voc10", "voc07") else row[1]


def _panel(axis: Axes, table: pd.DataFrame, rows: list[tuple], columns: list[str], reach: float):
    wide = table.pivot(index=ROW, columns="difficult", values=["value", "moved"]).reindex(rows)
    values, change = wide["value"][columns].to_numpy(float), wide["moved"][columns].to_numpy(float)
    picture = axis.imshow(change, aspect="auto", cmap="PuOr_r", norm=TwoSlopeNorm(0, -reach, reach))
    for (i, j), value in np.ndenumerate(values):
        if not np.isnan(value):
            dark = abs(change[i, j]) > 0.65 * reach
            axis.text(j, i, f"{value:.1f}", ha="center", va="center", fontsize=7, color="white" if dark else "black")
    for i, row in enumerate(rows):
        if HEADLINE.get(row[0]) == row[1:] and COLUMN in columns:
            corner = (columns.index(COLUMN) - 0.48, i - 0.46)
            axis.add_patch(Rectangle(corner, 0.96, 0.92, fill=False, edgecolor="black", linewidth=1.4))
        if i and row[0] != rows[i - 1][0]:
            axis.axhline(i - 0.5, color="black", linewidth=0.8)
    axis.set_xticks(range(len(columns)), columns, rotation=45, ha="right", rotation_mode="anchor")
    axis.grid(False)
    return picture

