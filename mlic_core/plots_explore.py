"""Figures that are drawn anew while a slider moves: one canvas in inches for all pictures, and one row of bars.

A panel a picture, as in `plots_mcar` and `plots_rdar`, takes a second to draw; here a redraw takes a seventh of that.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from mlic_core.plots import HATCHES, new_figure, styled
from mlic_core.plots_mcar import BAND

WIDTH = 10.8  # inches, as is everything below
LEFT, TOP, EDGE = 0.08, 0.3, 1.9  # of the whole image
FIRST, LARGEST, GAP = 2.2, 1.3, 0.1  # where columns begin, their greatest side, and the space between two
STRIP = 0.26  # height of a profile
LINE = 0.145  # of text
BARS = 1.35  # height of the bars
SMALL = 8  # points
VEIL = 0.6  # how much of a picture is the colour of the map over it
Pair = tuple[float, float]
COLORS = ("C0", "C1", "C2", "C3", "C4", "C5", "C6")


class Column(NamedTuple):
    """One region or step. title: above; text: lines below. picture: (H, W, 3) in [0, 1], what is looked at.

    box: x0, y0, x1, y1 in [0, 1] of the picture's sides. weights: (rows, columns) in [0, 1], drawn over the picture;
    corners: whether the outer cells lie on its corners, or else each over its own part. profiles: two curves in [0, 1]
    along the width and the height, with the threshold `tau`. cut: (h, w, 3) in [0, 1], the region as the network sees
    it.
    """

    title: str
    text: str
    picture: Float[np.ndarray, "height width 3"]
    box: npt.ArrayLike | None = None
    weights: Float[np.ndarray, "rows columns"] | None = None
    corners: bool = True
    profiles: tuple[npt.ArrayLike, npt.ArrayLike] | None = None
    tau: float = 0.0
    cut: Float[np.ndarray, "cut_height cut_width 3"] | None = None


class Bars(NamedTuple):
    """Scores in [0, 1] of some labels: `series` by name, the last of which is the answer, and `usual`, as trained."""

    names: Sequence[str]
    series: Mapping[str, npt.ArrayLike]
    usual: npt.ArrayLike


class PathRow(NamedTuple):
    """A label path: its labels, P of each given those before it and of END, and their product."""

    labels: Sequence[str]
    probabilities: Sequence[float]
    probability: float


@styled
def columns_figure(image: npt.ArrayLike, columns: Sequence[Column], bars: Bars) -> Figure:
    """An image with the numbered boxes of its columns, the columns beside it, and the scores below.

    image: (H, W, 3) in [0, 1]; its shape may be another than the pictures', which a network sees squashed.
    """
    strip = STRIP if any(one.profiles is not None for one in columns) else 0.0
    step = min((WIDTH - FIRST) / max(len(columns), 1), LARGEST + GAP + strip)
    side, cuts = step - GAP - strip, any(one.cut is not None for one in columns)
    lines = max((len(one.text.splitlines()) for one in columns), default=0)
    tall = strip + side * (1 + cuts) + 0.06 * cuts + lines * LINE if columns else 0.0
    figure, canvas = _canvas(max(tall, EDGE), bars)
    corner, edges = _whole(canvas, image)
    for number, column in enumerate(columns):
        if column.box is not None:
            _outline(canvas, column.box, corner, edges, COLORS[number % 7])
            _number(canvas, column.box, corner, edges, number, len(columns))
        _column(canvas, column, (FIRST + number * step, TOP + strip), side, COLORS[number % 7])
    return figure


@styled
def paths_figure(image: npt.ArrayLike, paths: Sequence[PathRow], bars: Bars) -> Figure:
    """An image (H, W, 3) in [0, 1] beside the label paths of a beam search, best first, and the scores below.

    The number after a label is P given the image and the labels before it; a bar is P of the whole path.
    """
    figure, canvas = _canvas(max(EDGE, 0.3 * len(paths) + 0.1), bars)
    _whole(canvas, image)
    end, room = WIDTH - 2.0, 1.3
    canvas.text(FIRST, TOP - 0.1, "paths, best first, with P of each label given those before it", fontsize=SMALL)
    canvas.text(end, TOP - 0.1, "P of the path", fontsize=SMALL)
    for row, path in enumerate(paths):
        y = TOP + 0.15 + 0.3 * row
        _chain(canvas, path, y, end - 0.2)
        canvas.add_patch(Rectangle((end, y - 0.08), room, 0.16, facecolor="#EEEEEE"))
        canvas.add_patch(Rectangle((end, y - 0.08), room * path.probability, 0.16, facecolor="C0"))
        canvas.text(end + room + 0.08, y, f"{path.probability:.2f}", va="center", fontsize=SMALL)
    return figure


def _chain(canvas: Axes, path: PathRow, y: float, end: float) -> None:
    """The labels of a path on one line, each on a plate, up to `end`."""
    x, names = FIRST + 0.06, (*path.labels, "END")
    for place, (name, p) in enumerate(zip(names, path.probabilities, strict=True)):
        text = f"{name} {p:.2f}"
        width = 0.068 * len(text) + 0.1
        if x + width > end:
            canvas.text(x, y, "…", va="center", fontsize=SMALL)
            return
        color = "C2" if name == "END" and place == len(path.labels) else "C0"
        plate = dict(boxstyle="round,pad=0.2", facecolor="white", edgecolor=color, linewidth=0.8)
        canvas.text(x, y, text, va="center", fontsize=SMALL, bbox=plate)
        x += width + 0.16


def _canvas(tall: float, bars: Bars) -> tuple[Figure, Axes]:
    """A figure with a canvas in inches, y down, for pictures of a height, and below it the bars."""
    below = BARS + 0.55
    height = TOP + tall + 0.1 + below
    figure, axes = new_figure(size=(WIDTH, height))
    figure.set_layout_engine("none")
    canvas = axes[0, 0]
    canvas.set_position((0, 0, 1, 1))
    canvas.set_axis_off()
    canvas.set(xlim=(0, WIDTH), ylim=(height, 0), autoscale_on=False)
    _bars(figure.add_axes((0.6 / WIDTH, 0.3 / height, 1 - 0.7 / WIDTH, BARS / height)), bars)
    return figure, canvas


def _bars(axis: Axes, bars: Bars) -> None:
    """Bars by label, hatched by series, and black dashes for the scores as trained."""
    width = 0.8 / len(bars.series)
    places = np.arange(len(bars.names))
    for i, (name, values) in enumerate(bars.series.items()):
        at = places + (i - (len(bars.series) - 1) / 2) * width
        axis.bar(at, values, width, label=name, color=COLORS[i], hatch=HATCHES[i], edgecolor="white", linewidth=0.5)
    ends = np.stack([places - 0.42, places + 0.42])
    lines = axis.plot(ends, np.stack([bars.usual] * 2), color="black", linestyle="-", linewidth=1.6, marker="")
    lines[0].set_label("answer as trained")
    axis.set_xticks(places, bars.names)
    axis.set(ylim=(0, 1.02), xlim=(-0.6, len(places) - 0.4), ylabel="probability")
    axis.grid(axis="x", visible=False)
    axis.legend(ncols=len(bars.series) + 1, loc="lower right", bbox_to_anchor=(1, 0.98), borderaxespad=0)


def _whole(canvas: Axes, image: npt.ArrayLike) -> tuple[Pair, Pair]:
    """The image on the left, in its own shape; returns its corner and its sides."""
    height, width = np.asarray(image).shape[:2]
    sides = EDGE * width / max(height, width), EDGE * height / max(height, width)
    canvas.text(LEFT, TOP - 0.1, "image", fontsize=SMALL)
    _picture(canvas, image, (LEFT, TOP), sides)
    return (LEFT, TOP), sides


def _picture(canvas: Axes, image: npt.ArrayLike, corner: Pair, sides: Pair) -> None:
    (x, y), (width, height) = corner, sides
    canvas.imshow(image, extent=(x, x + width, y + height, y), aspect="auto", vmin=0, vmax=1)


def _outline(canvas: Axes, box: npt.ArrayLike, corner: Pair, sides: Pair, color: str) -> None:
    """A box over a picture at `corner` with `sides`."""
    x0, y0, x1, y1 = np.asarray(box, np.float64) * (*sides, *sides) + (*corner, *corner)
    canvas.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, edgecolor=color, linewidth=1.6))


def _number(canvas: Axes, box: npt.ArrayLike, corner: Pair, sides: Pair, number: int, count: int) -> None:
    """A box's number on its upper edge, the further right the higher it is: those of equal boxes lie side by side."""
    x0, y0, x1, _ = np.asarray(box, np.float64) * (*sides, *sides) + (*corner, *corner)
    plate = dict(facecolor="white", edgecolor=COLORS[number % 7], pad=0.8, linewidth=0.6)
    place = x0 + (x1 - x0) * (number + 0.5) / count, y0 + 0.08
    canvas.text(*place, str(number + 1), fontsize=6.5, va="center", ha="center", bbox=plate)


def _column(canvas: Axes, column: Column, corner: Pair, side: float, color: str) -> None:
    x, y = corner
    strip = STRIP if column.profiles is not None else 0.0
    canvas.text(x, y - strip - 0.1, column.title, fontsize=SMALL)
    shown = column.picture if column.weights is None else over(column.picture, column.weights, corners=column.corners)
    _picture(canvas, shown, corner, (side, side))
    if column.profiles is not None:
        _profiles(canvas, column, corner, side)
    if column.box is not None:
        _outline(canvas, column.box, corner, (side, side), "white" if column.weights is not None else color)
    y += side
    if column.cut is not None:
        _picture(canvas, column.cut, (x, y + 0.06), (side, side))
        y += side + 0.06
    for i, line in enumerate(column.text.splitlines()):
        canvas.text(x, y + LINE * (i + 1), line, fontsize=SMALL - 0.5, va="baseline")


def _profiles(canvas: Axes, column: Column, corner: Pair, side: float) -> None:
    """The profile along the width above a picture, that along the height on its right, the intervals shaded."""
    (x, y), (across, down) = corner, (np.asarray(one, np.float64) for one in column.profiles)
    depth, line = STRIP - 0.04, dict(color="black", linewidth=1, linestyle="-", marker="")
    (left, top), (right, bottom) = np.reshape(column.box, (2, 2)) * side
    shade = dict(facecolor=BAND, alpha=0.45, linewidth=0)
    canvas.add_patch(Rectangle((x + left, y - depth), right - left, depth, **shade))
    canvas.add_patch(Rectangle((x + side, y + top), depth, bottom - top, **shade))
    dashed = dict(color="C1", linewidth=1, linestyle="--", marker="")
    canvas.plot([x, x + side], [y - depth * column.tau] * 2, **dashed)
    canvas.plot([x + side + depth * column.tau] * 2, [y, y + side], **dashed)
    canvas.plot(x + side * (np.arange(len(across)) + 0.5) / len(across), y - depth * across, **line)
    canvas.plot(x + side + depth * down, y + side * (np.arange(len(down)) + 0.5) / len(down), **line)


def over(
    picture: Float[np.ndarray, "height width 3"], weights: Float[np.ndarray, "rows columns"], *, corners: bool
) -> Float[np.ndarray, "height width 3"]:
    """A picture in [0, 1] below a veil in the colours of weights in [0, 1], enlarged bilinearly to its size.

    corners: the outer cells lie on the picture's corners, or else each cell is the middle of its own part.
    """
    across = np.stack(
        [np.interp(_places(picture.shape[1], len(row), corners), range(len(row)), row) for row in weights]
    )
    large = np.stack(
        [np.interp(_places(picture.shape[0], len(row), corners), range(len(row)), row) for row in across.T]
    )
    colors = plt.get_cmap("cividis")(large.T)[..., :3]
    return (1 - VEIL) * picture + VEIL * colors


def _places(pixels: int, cells: int, corners: bool) -> Float[np.ndarray, " pixels"]:
    """Where each pixel lies among the cells."""
    return np.linspace(0, cells - 1, pixels) if corners else (np.arange(pixels) + 0.5) * cells / pixels - 0.5
