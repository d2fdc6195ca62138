"""Every figure of the notebooks: plain functions from arrays to a matplotlib Figure, in one style.

Colour is never the only carrier: curves differ in dashes and markers, bars in hatching, boxes carry their names.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator
from PIL.Image import Image

STYLE = Path(__file__).with_name("mlic.mplstyle")
HATCHES = ("", "///", "...", "xxx", "\\\\\\", "ooo")
CURVES = {"loss": "training loss (mean BCE)", "monitor_mAP": "validation mAP (%)"}


def styled(function: Callable) -> Callable:
    """The function with mlic.mplstyle in force while it runs, and as it was afterwards."""

    @wraps(function)
    def inner(*args, **kwargs):
        with plt.style.context(STYLE):
            return function(*args, **kwargs)

    return inner


def new_figure(rows: int = 1, columns: int = 1, *, size: tuple[float, float]) -> tuple[Figure, np.ndarray]:
    """A figure of `size` inches and its axes (rows, columns). A notebook shows it where a cell ends in it."""
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False)
    plt.close(figure)  # pyplot would show it a second time
    return figure, axes


class Boxes(NamedTuple):
    """Boxes of one image: (M, 4) as x0, y0, x1, y1 in [0, 1], the text on each, and which are dashed."""

    xyxy: npt.ArrayLike
    labels: Sequence[str]
    dashed: Sequence[bool] = ()


def show_image(axis: Axes, image: npt.ArrayLike | Image, title: str = "") -> None:
    """An image (H, W, 3) or a PIL image on an axis in its own pixels, x to the right and y down, without ticks."""
    pixels = np.asarray(image)
    axis.imshow(pixels, extent=(0, pixels.shape[1], pixels.shape[0], 0), cmap="gray")
    axis.set_title(title)
    axis.set_axis_off()


def show_map(
    axis: Axes, values: npt.ArrayLike, *, alpha: float = 0.6, vmin: float = 0, vmax: float | None = None
) -> None:
    """A class map (rows, columns) over the image that `show_image` drew, enlarged as MCAR does it: the centres of its
    outer cells lie on the outer pixels (corners aligned)."""
    values = np.asarray(values, np.float64)
    (width, height), (rows, columns) = (axis.get_xlim()[1], axis.get_ylim()[0]), values.shape
    x, y = ((side - 1) / max(cells - 1, 1) / 2 for side, cells in ((width, columns), (height, rows)))
    extent = (0.5 - x, width - 0.5 + x, height - 0.5 + y, 0.5 - y)
    axis.imshow(values, extent=extent, interpolation="bilinear", alpha=alpha, vmin=vmin, vmax=vmax)
    axis.set(xlim=(0, width), ylim=(height, 0))


def draw_boxes(axis: Axes, boxes: Boxes, colors: Sequence[str] = ()) -> None:
    """Outline boxes with their names over the image that `show_image` drew. colors: one a box, else the style's."""
    width, height = axis.get_xlim()[1], axis.get_ylim()[0]
    dashed = boxes.dashed if len(boxes.dashed) else [False] * len(boxes.labels)
    colors = colors or [f"C{i % 7}" for i in range(len(boxes.labels))]
    for (x0, y0, x1, y1), label, dash, color in zip(boxes.xyxy, boxes.labels, dashed, colors, strict=True):
        corner, sides = (x0 * width, y0 * height), ((x1 - x0) * width, (y1 - y0) * height)
        axis.add_patch(
            Rectangle(corner, *sides, fill=False, edgecolor=color, linewidth=1.6, linestyle="--" if dash else "-")
        )
        if label:
            plate = dict(facecolor="white", edgecolor=color, alpha=0.8, pad=0.8, linewidth=0.6)
            above = "bottom" if y0 > 0.1 else "top"  # on the box, so as not to hide a small object, where there is room
            axis.text(*corner, label, fontsize=6.5, va=above, ha="left", bbox=plate, clip_on=True)


@styled
def contact_sheet(
    images: Sequence[npt.ArrayLike | Image],
    titles: Sequence[str] = (),
    boxes: Sequence[Boxes] = (),
    *,
    maps: Sequence[npt.ArrayLike] = (),
    columns: int = 4,
    side: float = 1.9,
) -> Figure:
    """Images in a grid, `side` inches each, with their titles, boxes and class maps where these are given."""
    rows = -(-len(images) // columns)
    figure, axes = new_figure(rows, columns, size=(columns * side, rows * (side + 0.25)))
    for axis in axes.flat[len(images) :]:
        axis.set_axis_off()
    for i, (axis, image) in enumerate(zip(axes.flat, images, strict=False)):
        show_image(axis, image, titles[i] if len(titles) else "")
        if len(maps):
            show_map(axis, maps[i])
        if len(boxes):
            draw_boxes(axis, boxes[i])
    return figure


@styled
def training_curves(
    histories: Mapping[str, Sequence[Sequence[Mapping[str, Any]]]], *, loss: str = CURVES["loss"]
) -> Figure:
    """Loss and validation mAP by epoch: for each name the mean over its runs, and the range of the runs as a band.

    histories: name -> one history (a dict an epoch, as `fit` returns them) for each seed. loss: what the loss is.
    """
    shown = [key for key in CURVES if all(key in row for runs in histories.values() for run in runs for row in run)]
    figure, axes = new_figure(1, len(shown), size=(3.4 * len(shown), 2.6))
    for axis, key in zip(axes.flat, shown, strict=True):
        for name, runs in histories.items():
            epochs = [row["epoch"] for row in runs[0]]
            values = np.array([[row[key] for row in run] for run in runs])
            (line,) = axis.plot(epochs, values.mean(0), label=name)
            axis.fill_between(epochs, values.min(0), values.max(0), color=line.get_color(), alpha=0.2, linewidth=0)
        axis.set(xlabel="epoch", ylabel=loss if key == "loss" else CURVES[key])
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.flat[-1].legend()
    return figure


class Panel(NamedTuple):
    """Curves over one x: name -> values (len(x),), with the labels of both axes, units included."""

    x: npt.ArrayLike
    series: Mapping[str, npt.ArrayLike]
    xlabel: str
    ylabel: str


def lines(x: npt.ArrayLike, series: Mapping[str, npt.ArrayLike], *, xlabel: str, ylabel: str, ylim=None) -> Figure:
    """One curve a name over the same x, with a marker at every value."""
    return line_panels(Panel(x, series, xlabel, ylabel), ylim=ylim)


@styled
def line_panels(*panels: Panel, ylim=None) -> Figure:
    """Panels of curves beside each other, with ticks where the values are. ylim: (low, high) of all, if given."""
    figure, axes = new_figure(1, len(panels), size=(3.2 * len(panels) + 0.4, 2.6))
    for axis, panel in zip(axes.flat, panels, strict=True):
        for name, values in panel.series.items():
            axis.plot(panel.x, values, label=name)
        axis.set(xlabel=panel.xlabel, ylabel=panel.ylabel, xticks=panel.x, ylim=ylim)
        axis.legend()
    return figure


@styled
def bars_with_intervals(
    series: Mapping[str, npt.ArrayLike], labels: Sequence[str], *, ylabel: str, xlabel: str = ""
) -> Figure:
    """Grouped bars, one group a label and one bar a name: the mean over repeats, with their range as a whisker.

    series: name -> values (labels,), or (repeats, labels).
    """
    figure, axes = new_figure(size=(max(3.4, (0.09 * len(series) + 0.14) * len(labels) + 1.0), 2.7))
    axis, width = axes[0, 0], 0.8 / len(series)
    for i, (name, values) in enumerate(series.items()):
        place = np.arange(len(labels)) + (i - (len(series) - 1) / 2) * width
        values = np.atleast_2d(np.asarray(values, np.float64))
        middle, whiskers = _mean_and_range(values)
        axis.bar(place, middle, width, label=name, hatch=HATCHES[i % len(HATCHES)], edgecolor="white", linewidth=0.5)
        if len(values) > 1:
            axis.errorbar(place, middle, whiskers, fmt="none", ecolor="black", elinewidth=1, capsize=2)
    axis.grid(axis="x", visible=False)
    axis.margins(x=0.01)
    axis.set(xlabel=xlabel, ylabel=ylabel)
    slant = dict(rotation=45, ha="right", rotation_mode="anchor") if max(map(len, labels)) > 4 else {}
    axis.set_xticks(range(len(labels)), labels, **slant)
    if len(series) > 1:
        axis.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=len(series))
    return figure


@styled
def per_class_ap(series: Mapping[str, npt.ArrayLike], labels: Sequence[str]) -> Figure:
    """AP of each class in percent, hardest class of the first name on top; one marker a name, a line for the range.

    series: name -> values (repeats, classes), NaN where a class has none.
    """
    figure, axes = new_figure(size=(4.6, 0.21 * len(labels) + 0.9))
    axis = axes[0, 0]
    values = {name: np.atleast_2d(np.asarray(value, np.float64)) for name, value in series.items()}
    order = np.argsort(-_mean_and_range(next(iter(values.values())))[0], kind="stable")  # NaN last: on top
    for i, (name, repeats) in enumerate(values.items()):
        middle, whiskers = _mean_and_range(repeats[:, order])
        place = np.arange(len(labels)) + 0.3 * (i - (len(values) - 1) / 2) / max(len(values) - 1, 1)
        marker = "os^DvPX"[i % 7]
        axis.errorbar(middle, place, xerr=whiskers, fmt=marker, linestyle="none", label=name, elinewidth=1)
    axis.set_yticks(range(len(labels)), [labels[i] for i in order])
    axis.set(xlabel="average precision (%)", xlim=(0, 100))
    axis.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=len(values))
    return figure


def _mean_and_range(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean over the rows, and how far the lowest and the highest lie below and above it (2, columns)."""
    middle = values.mean(0)
    return middle, np.stack([middle - values.min(0), values.max(0) - middle]).clip(min=0)


@styled
def histogram(
    values: Mapping[str, npt.ArrayLike],
    edges: npt.ArrayLike,
    *,
    xlabel: str,
    ylabel: str,
    marks: Mapping[str, float | int] = {},
) -> Figure:
    """Stacked counts between `edges`, one hatching a name, with named vertical lines at `marks`."""
    figure, axes = new_figure(size=(4.6, 2.6))
    axis = axes[0, 0]
    _, _, stacks = axis.hist(list(values.values()), bins=edges, stacked=True, label=list(values), edgecolor="white")
    for stack, hatch in zip(stacks if len(values) > 1 else [stacks], HATCHES, strict=False):
        for bar in stack:
            bar.set_hatch(hatch)
    for name, place in marks.items():
        axis.axvline(place, color="black", linewidth=1, linestyle=":")
        axis.annotate(
            name,
            (place, 1),
            (3, -2),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            va="top",
            fontsize=8,
        )
    axis.set(xlabel=xlabel, ylabel=ylabel, ylim=(0, 1.15 * axis.get_ylim()[1]))  # room for the marks' names
    axis.legend()
    return figure


@styled
def heat_map(
    values: npt.ArrayLike,
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    label: str,
    xlabel: str = "",
    ylabel: str = "",
    form: str = ".0f",
) -> Figure:
    """A matrix with its numbers written into the cells; empty where NaN. label: what the numbers are, with unit."""
    values = np.asarray(values, np.float64)
    figure, axes = new_figure(size=(0.34 * len(columns) + 2.2, 0.27 * len(rows) + 1.2))
    axis = axes[0, 0]
    picture = axis.imshow(values, aspect="auto")
    middle = (np.nanmin(values) + np.nanmax(values)) / 2
    for (i, j), value in np.ndenumerate(values):
        if not np.isnan(value):
            axis.text(
                j,
                i,
                format(value, form),
                ha="center",
                va="center",
                fontsize=6.5,
                color="white" if value < middle else "black",
            )
    axis.set_xticks(range(len(columns)), columns, rotation=45, ha="right", rotation_mode="anchor")
    axis.set_yticks(range(len(rows)), rows)
    axis.grid(False)
    axis.set(xlabel=xlabel, ylabel=ylabel)
    figure.colorbar(picture, label=label)
    return figure
