"""What the methods cost: stages beside the baseline, growth with each setting, and accuracy against cost."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axis import Axis
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from mlic_core.plots import HATCHES, new_figure, styled

STAGES = ("global", "global-to-local", "local")
MARKERS, DASHES = "osD^vPX*<>hd", ("-", "--", "-.", ":")


def _color(i: int) -> str:
    """A colour of the style, looked up now: matplotlib would look up a line's "C0" as it draws, in its own style."""
    return to_hex(f"C{i % 7}")


@styled
def stage_bars(rows: Mapping[str, Mapping[str, float]], *, paper: Sequence[str] = ()) -> Figure:
    """Stacked bars of MCAR's stages in times of the baseline, one bar a row, the first on top.

    rows: name -> the three `STAGES`, as ratios to the baseline. paper: names of the rows that are printed numbers,
    which are drawn pale. Numbers stand in the parts that have room for them.
    """
    figure, axes = new_figure(size=(6.4, 0.27 * len(rows) + 1.0))
    axis, left = axes[0, 0], np.zeros(len(rows))
    reach = max(sum(row[stage] for stage in STAGES) for row in rows.values())
    for i, stage in enumerate(STAGES):
        values = np.array([row[stage] for row in rows.values()])
        bars = axis.barh(range(len(rows)), values, left=left, color=f"C{i}", hatch=HATCHES[i], edgecolor="white")
        bars.set_label(stage)
        for bar, name, value in zip(bars, rows, values, strict=True):
            bar.set_alpha(0.45 if name in paper else 1.0)
            if value > 0.07 * reach:
                plate = dict(facecolor="white", edgecolor="none", alpha=0.85, pad=0.8)
                middle = bar.get_x() + value / 2, bar.get_y() + bar.get_height() / 2
                axis.text(*middle, f"{value:.2f}", ha="center", va="center", fontsize=7, bbox=plate)
        left += values
    axis.axvline(1, color="black", linewidth=1, linestyle=":")
    axis.set_yticks(range(len(rows)), list(rows))
    axis.invert_yaxis()
    axis.grid(axis="y", visible=False)
    axis.set(xlabel="time of an image, in times of the baseline (dotted line)", xlim=(0, 1.02 * reach))
    figure.legend(*axis.get_legend_handles_labels(), loc="outside upper right", ncols=len(STAGES))
    return figure


class Series(NamedTuple):
    """Growth of one method: its settings, and time and memory relative to the smallest of them."""

    settings: Sequence[float | int]
    time: Sequence[float | int]
    memory: Sequence[float | int]


@styled
def growth_panels(panels: Mapping[str, Mapping[str, Series]]) -> Figure:
    """Small multiples: time above, memory below, one column for each thing that grows and one curve a method.

    panels: x label -> method -> series. A method looks the same in every panel. Logarithmic axes, except x where a
    setting is 0; the scale of y is shared in a row.
    """
    figure, axes = new_figure(2, len(panels), size=(1.75 * len(panels) + 0.6, 4.3))
    methods = list(dict.fromkeys(name for panel in panels.values() for name in panel))
    looks = {
        name: dict(marker=MARKERS[i], color=_color(i), linestyle=DASHES[i % 4], label=name)
        for i, name in enumerate(methods)
    }
    for column, (xlabel, panel) in zip(axes.T, panels.items(), strict=True):
        settings = sorted({value for series in panel.values() for value in series.settings})
        for axis, part in zip(column, ("time", "memory"), strict=True):
            for name, series in panel.items():
                axis.plot(series.settings, getattr(series, part), **looks[name])
            axis.set_xscale("log" if settings[0] > 0 else "linear")
            axis.set_xticks(settings, [f"{value:g}" for value in settings])
            axis.xaxis.set_minor_locator(NullLocator())
        column[1].set_xlabel(xlabel)
    for row, part, label in zip(axes, ("time", "memory"), ("time", "peak memory"), strict=True):
        values = [value for panel in panels.values() for series in panel.values() for value in getattr(series, part)]
        for axis in row:
            axis.set_yscale("log")
            _plain_log(axis.yaxis, min(values), max(values))
        row[0].set_ylabel(f"{label}, relative to\nthe smallest setting")
    handles = {label: line for axis in axes.flat for line, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=len(handles))
    return figure


class Point(NamedTuple):
    """A model: its mAP (%) in each run, multiply-adds an image, and minutes of training with its trunk's."""

    values: Sequence[float | int]
    macs: float
    minutes: float


@styled
def accuracy_against_cost(points: Mapping[str, Point]) -> Figure:
    """mAP against multiply-adds an image (left) and against minutes of training (right), both logarithmic.

    A marker is the mean over the runs, a line their range.
    """
    figure, ((left, right),) = new_figure(1, 2, size=(7.6, 3.4))
    across = {
        left: ("multiply-adds an image (millions)", [point.macs / 1e6 for point in points.values()]),
        right: ("minutes of training, the trunk's included", [point.minutes for point in points.values()]),
    }
    for axis, (xlabel, places) in across.items():
        for i, (x, (name, point)) in enumerate(zip(places, points.items(), strict=True)):
            values = np.asarray(point.values, np.float64)
            whiskers = np.array([[values.mean() - values.min()], [values.max() - values.mean()]]).clip(min=0)
            look = dict(marker=MARKERS[i % 12], color=_color(i), fillstyle="full" if i < 7 else "none")
            axis.errorbar(x, values.mean(), whiskers, linestyle="none", elinewidth=1, markersize=6, label=name, **look)
        axis.set_xlabel(xlabel)
        axis.set_xscale("log")
        _plain_log(axis.xaxis, min(places), max(places))
    left.set_ylabel("mAP (%)")
    figure.legend(*left.get_legend_handles_labels(), loc="outside right center")
    return figure


def _plain_log(side: Axis, low: float | int, high: float | int) -> None:
    """A logarithmic axis, a little wider than its values, with plain numbers at 1, 2 and 5 times powers of ten."""
    low, high = low / 1.3, high * 1.3
    ticks = [step * 10.0**power for power in range(-3, 7) for step in (1, 2, 5)]
    ticks = [tick for tick in ticks if low <= tick <= high]
    side.set_ticks(ticks, [f"{tick:g}" for tick in ticks])
    side.set_minor_locator(NullLocator())
    side.set_view_interval(low, high, ignore=True)
