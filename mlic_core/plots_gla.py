"""The figures of global/local attention (Lyu et al.): where a model's weights lie, margins, entropy and steps.

Attention weights are numbers over the cells (rows, columns) of a map that sum to 1, as `models.gla` returns them.
"""

import math
import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from PIL.Image import Image

from mlic_core.errors import InputError
from mlic_core.plots import new_figure, show_image, styled

BLUR = 0.5  # standard deviation of the filter that smooths enlarged weights, in cells
PALE = 0.3  # how white black becomes below the weights
VEIL = 0.6  # how much of a picture is the colour of the weights
SMALL = 7.5  # points: words below pictures
LUMA = (0.299, 0.587, 0.114)  # share of red, green and blue in the brightness
LINE = 9.5  # points between two lines of them
KEY = ("weight of a cell", "peak: the highest weight in a map, 1× where all are alike")


def _enlarge(weights: Float[np.ndarray, "rows columns"], height: int, width: int) -> Float[np.ndarray, "height width"]:
    """Weights at each pixel: every cell over its part of the image, under a Gaussian filter; edge cells go on outside.

    The paper enlarges 16 times, "and applying a Gaussian filter" (§IV-D); it doesn't say how wide.
    """
    down, across = (_spread(cells, side) for cells, side in zip(weights.shape, (height, width), strict=True))
    return down @ weights @ across.T


def _spread(cells: int, side: int) -> Float[np.ndarray, "side cells"]:
    """Share of each cell in each of `side` pixels along one side; the shares of a pixel sum to 1."""
    pixels = (np.arange(side) + 0.5) * cells / side
    below = [[math.erf((edge - x) / BLUR / math.sqrt(2)) / 2 + 0.5 for edge in range(1, cells)] for x in pixels]
    return np.diff(np.reshape(below, (side, cells - 1)), axis=1, prepend=0.0, append=1.0)


def _pixels(image: npt.ArrayLike | Image) -> Float[np.ndarray, "height width 3"]:
    pixels = np.asarray(image.convert("RGB") if isinstance(image, Image) else image)
    if pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
        raise InputError(f"an image has the shape {pixels.shape}: give a PIL image or an array (height, width, 3)")
    pixels = pixels / 255 if pixels.dtype == np.uint8 else pixels.astype(np.float64)
    if not (pixels.min() >= 0 and pixels.max() <= 1):  # also where NaN
        raise InputError(f"an image of {np.asarray(image).dtype} has values outside 0 to 1: scale it, or give uint8")
    return pixels


def _height(image: npt.ArrayLike | Image) -> float:
    """Height of an image as a share of its width."""
    rows, columns, _ = _pixels(image).shape
    return rows / columns


def _weights(weights: npt.ArrayLike, shape: tuple[int, int], meaning: str) -> Float[np.ndarray, "a b rows columns"]:
    """The weights as numbers, if they are `shape` maps of weights."""
    values = np.asarray(weights, np.float64)
    if values.ndim != 4 or values.shape[:2] != shape or not values.size:
        raise InputError(f"weights have the shape {values.shape}: give {shape}, {meaning}, and then (rows, columns)")
    sums = values.sum((2, 3))
    if not (values.min() >= 0 and np.abs(sums - 1).max() < 1e-3):
        raise InputError("weights of a map must be 0 or more and sum to 1: give those that `GLA` returns as maps")
    return values


def _panel(axis: Axes, image: npt.ArrayLike | Image, weights: Float[np.ndarray, "rows columns"], title: str) -> str:
    """One map over the image in pale grey, scaled by its maximum; returns how far its highest weight is above uniform.

    Not from its minimum to its maximum: a map without a peak is all of one colour.
    """
    pixels = _pixels(image)
    grey = PALE + (1 - PALE) * pixels @ LUMA
    show_image(axis, np.repeat(grey[..., None], 3, 2).clip(max=1), title)
    light = _enlarge(weights, *pixels.shape[:2])
    extent = (0, pixels.shape[1], pixels.shape[0], 0)
    axis.imshow(light / light.max(), extent=extent, alpha=VEIL, vmin=0, vmax=1)
    return f"peak {weights.max() * weights.size:.1f}×"


def _below(axis: Axes, *texts: str) -> None:
    """Lines of text below a picture."""
    place = dict(xycoords="axes fraction", textcoords="offset points", annotation_clip=False)
    for i, line in enumerate(line for text in texts for line in text.splitlines()):
        axis.annotate(line, (0, 0), (0, -LINE * (i + 1)), ha="left", va="baseline", fontsize=SMALL, **place)


def _wrap(text: str, side: float) -> str:
    """The text in lines that are no wider than `side` inches."""
    return textwrap.fill(text, max(int(side * 72 / (0.58 * SMALL)), 4))


def _side(columns: int) -> float:
    """Width of a picture in inches, of which `columns` stand beside each other."""
    return min(1.3, 7.7 / columns)


def _sheet(
    heights: Sequence[float], lines: Sequence[int], columns: int, left: float = 0.0
) -> tuple[Figure, np.ndarray]:
    """A figure and its axes (rows, columns) for pictures of one width, and the key to their colours.

    heights: of the pictures in each row, as a share of their width. lines: of text below each row. left: inches
    between the first column and the second.
    """
    side, gap, above = _side(columns), 0.07, 0.24
    tall = [side * height + LINE * (count + 0.9) / 72 for height, count in zip(heights, lines, strict=True)]
    note = f"{_wrap(KEY[0], (columns - 1) * side)}\n{_wrap(KEY[1], (columns - 1) * side)}"
    key = 0.2 + LINE * max(2, len(note.splitlines())) / 72
    size = (side * columns + gap * (columns + 1) + left, above + sum(tall) + key)
    figure, axes = new_figure(len(heights), columns, size=size)
    figure.set_layout_engine("none")
    scale = np.array([*size, *size])
    for i, (row, height) in enumerate(zip(axes, heights, strict=True)):
        bottom = size[1] - above - sum(tall[:i]) - side * height
        for j, axis in enumerate(row):
            axis.set_axis_off()
            axis.set_position((gap + j * (side + gap) + (left if j else 0), bottom, side, side * height) / scale)
    bar = figure.add_axes((gap, key - 0.17, side, 0.09) / scale)
    bar.imshow(np.linspace(0, 1, 256)[None], extent=(0, 1, 0, 1), aspect="auto", alpha=VEIL, vmin=0, vmax=1)
    bar.set(xticks=(0, 1), yticks=())
    bar.set_xticklabels(["0", "highest"], fontsize=SMALL)
    for label, side_of in zip(bar.get_xticklabels(), ("left", "right"), strict=True):
        label.set_ha(side_of)
    bar.tick_params(length=0, pad=2)
    bar.spines[:].set_visible(False)
    bar.grid(False)
    for i, line in enumerate(note.splitlines()):
        place = ((side + 2 * gap + left) / size[0], (key - 0.16 - LINE * i / 72) / size[1])
        figure.text(*place, line, fontsize=SMALL, va="baseline")
    return figure, axes


@styled
def attention_figure(
    images: Sequence[npt.ArrayLike | Image],
    weights: npt.ArrayLike,
    titles: Sequence[str],
    names: Sequence[Sequence[str]],
    *,
    captions: Sequence[str] = (),
) -> Figure:
    """A row an image: the image, then one panel a map with its weights over the image in grey (the paper's Fig. 3).

    images: PIL images, or arrays (H, W, 3) of uint8 or of floats in [0, 1]. weights (images, maps, rows, columns).
    titles: of the maps, as "global" and "step 1". names (images, maps): what is written below each map, "" for
    nothing; captions: what below each image. Each map is scaled by its own maximum; "peak" says how high that is, in
    multiples of the uniform weight. Raises InputError for shapes that don't fit and for weights that don't sum to 1.
    """
    values = _weights(weights, (len(images), len(titles)), "images and titles")
    if [len(row) for row in names] != [len(titles)] * len(images):
        raise InputError(f"names come in rows of {[len(row) for row in names]}: give {len(titles)} for each image")
    if len(captions) not in (0, len(images)):
        raise InputError(f"captions are {len(captions)}: give one for each of the {len(images)} images, or none")
    side = _side(len(titles) + 1)
    names = [[_wrap(name, side) for name in row] for row in names]
    captions = [_wrap(text, side) for text in captions] or [""] * len(images)
    lines = [
        max(len(caption.splitlines()), *(1 + len(name.splitlines()) for name in row))
        for caption, row in zip(captions, names, strict=True)
    ]
    figure, axes = _sheet([_height(image) for image in images], lines, len(titles) + 1)
    for i, (row, image) in enumerate(zip(axes, images, strict=True)):
        show_image(row[0], _pixels(image), "" if i else "image")
        _below(row[0], captions[i])
        for j, axis in enumerate(row[1:]):
            _below(axis, names[i][j], _panel(axis, image, values[i, j], "" if i else titles[j]))
    return figure


@styled
def epochs_figure(
    image: npt.ArrayLike | Image, weights: npt.ArrayLike, epochs: Sequence[int], titles: Sequence[str]
) -> Figure:
    """How a model's maps on one image came about (the paper's Fig. 4): a row a map, a column an epoch.

    image: PIL, or an array (H, W, 3) of uint8 or of floats in [0, 1]. weights (epochs, maps, rows, columns).
    titles: of the maps, as "global" and "step 1". Colours and peaks are as in `attention_figure`, as are errors.
    """
    values = _weights(weights, (len(epochs), len(titles)), "epochs and titles")
    figure, axes = _sheet([_height(image)] * len(titles), [1] * len(titles), len(epochs) + 1, 0.22)
    show_image(axes[0, 0], _pixels(image), "image")
    for j, (row, title) in enumerate(zip(axes[:, 1:], titles, strict=True)):
        for i, axis in enumerate(row):
            _below(axis, _panel(axis, image, values[i, j], "" if j else f"epoch {epochs[i]}"))
        row[0].text(-0.05, 0.5, title, rotation=90, ha="right", va="center", transform=row[0].transAxes)
    return figure


@styled
def entropy_figure(series: Mapping[str, npt.ArrayLike], labels: Sequence[str], *, uniform: float | int = 1.0) -> Figure:
    """How spread the weights of each map are: the mean over runs, with their range as a bar.

    series: name -> mean entropies (runs, maps) as a share of log L, from 0, one cell has all, to 1, all cells weigh the
    same; NaN in every run where a model has no such map. labels: of the maps, as "global" and "step 1". uniform: what
    uniform weights have, dashed. Raises InputError for shapes that don't fit.
    """
    figure, axes = new_figure(size=(0.62 * len(labels) + 2.2, 2.7))
    axis, place = axes[0, 0], np.arange(len(labels))
    axis.axhline(uniform, color="black", linestyle="--", linewidth=0.9, marker="", zorder=1)
    for i, (name, given) in enumerate(series.items()):
        values = _runs(given, len(labels), f"entropies of {name!r}")
        missing = np.isnan(values)
        if (missing.any(0) != missing.all(0)).any():
            raise InputError(f"entropies of {name!r} are NaN in some runs only: give NaN in all runs, or numbers")
        middle, reach = _mean_and_range(values)
        aside = 0.12 * (i - (len(series) - 1) / 2)  # bars of two names stay apart
        axis.errorbar(place + aside, middle, reach, color=to_hex(f"C{i % 7}"), elinewidth=1, capsize=2, label=name)
    text = dict(xycoords=("axes fraction", "data"), textcoords="offset points", fontsize=SMALL)
    axis.annotate("uniform", (1, uniform), (-2, 2), ha="right", va="bottom", **text)
    low, high = axis.get_ylim()
    axis.set(ylabel="entropy (share of log L)", ylim=(low, max(high, uniform + 0.1 * (high - low))))
    axis.set_xticks(place, labels)
    axis.grid(axis="x", visible=False)
    figure.legend(*axis.get_legend_handles_labels(), loc="outside lower center", ncols=min(len(series), 4))
    return figure


def _runs(given: npt.ArrayLike, count: int, what: str, rows: str = "runs") -> Float[np.ndarray, "runs count"]:
    values = np.asarray(given, np.float64)
    if values.ndim != 2 or values.shape[1] != count or not values.size:
        raise InputError(f"{what} have the shape {values.shape}: give ({rows}, {count})")
    return values


def _mean_and_range(values: Float[np.ndarray, "runs count"]) -> tuple[np.ndarray, np.ndarray]:
    """Mean over the runs, and how far the lowest and the highest lie below and above it (2, count)."""
    middle = values.mean(0)
    return middle, np.stack([middle - values.min(0), values.max(0) - middle]).clip(min=0)


@styled
def toy_margins(curves: Mapping[str, npt.ArrayLike], positive: npt.ArrayLike) -> Figure:
    """What descent on a margin alone makes of one image's probabilities: a panel a form of the margin.

    curves: name of the form -> probabilities (steps, classes) in [0, 1] before each step of descent. positive: bool
    (classes,), with classes of both kinds. Between the least positive and the greatest negative the panel is plain
    green where their order is right and hatched where it is wrong. Raises InputError for shapes that don't fit.
    """
    positive = np.asarray(positive)
    if positive.dtype != bool or positive.ndim != 1 or positive.all() or not positive.any():
        raise InputError("positive: give one bool a class, with at least one True and one False")
    figure, axes = new_figure(1, len(curves), size=(3.2 * len(curves) + 0.2, 2.9))
    shades = {
        "least positive above greatest negative": dict(facecolor="#009E7340", edgecolor="none", linewidth=0),
        "least positive below greatest negative": dict(
            facecolor="#D55E0026", edgecolor="#D55E0099", hatch="////", linewidth=0
        ),
    }
    looks = {
        True: dict(color=to_hex("C0"), linestyle="-", marker="o"),
        False: dict(color=to_hex("C1"), linestyle="--", marker=""),
    }
    for axis, (name, given) in zip(axes[0], curves.items(), strict=True):
        values = _runs(given, len(positive), f"curves of {name!r}", "steps")
        least, greatest = values[:, positive].min(1), values[:, ~positive].max(1)
        steps = np.arange(len(values))
        for right, shade in zip((least > greatest, least < greatest), shades.values(), strict=True):
            axis.fill_between(steps, least, greatest, where=right, interpolate=True, zorder=1, **shade)
        for probabilities, present in zip(values.T, positive.tolist(), strict=True):
            axis.plot(steps, probabilities, markevery=max(len(steps) // 10, 1), **looks[present])
        axis.set(title=name, xlabel="step of gradient descent", ylim=(-0.02, 1.02))
    axes[0, 0].set_ylabel("probability")
    handles = [Line2D([], [], label=text, **looks[kind]) for kind, text in ((True, "positive"), (False, "negative"))]
    handles += [Patch(label=text, **shade) for text, shade in shades.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=2)
    return figure


@styled
def steps_figure(series: Mapping[str, Mapping[str, npt.ArrayLike]], labels: Sequence[str]) -> Figure:
    """mAP of each step alone and of the maximum over the steps so far: a panel a name, with the range of the runs.

    series: name -> {"alone": (runs, T), "maximum": (runs, T)} in percent. labels: of the steps. Raises InputError for
    shapes that don't fit.
    """
    figure, axes = new_figure(1, len(series), size=(2.55 * len(series) + 0.5, 2.7))
    figure.get_layout_engine().set(wspace=0.04)
    kinds = {"alone": "this step alone", "maximum": "maximum over the steps so far"}
    limits = []
    for axis, (name, given) in zip(axes[0], series.items(), strict=True):
        if set(given) != set(kinds):
            raise InputError(f"series {name!r} has {sorted(given)}: give 'alone' and 'maximum'")
        for i, (kind, label) in enumerate(kinds.items()):
            values = _runs(given[kind], len(labels), f"{kind} of {name!r}")
            place, color = np.arange(len(labels)), to_hex(f"C{i}")
            axis.plot(place, values.mean(0), color=color, label=label)
            axis.fill_between(place, values.min(0), values.max(0), color=color, alpha=0.2, linewidth=0)
        axis.set_title(name)
        axis.set_xticks(place, labels)
        limits.append(axis.get_ylim())
    for axis in axes[0]:
        axis.set_ylim(min(low for low, _ in limits), max(high for _, high in limits))
        axis.tick_params(labelleft=axis is axes[0, 0])
    axes[0, 0].set_ylabel("mAP (%)")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure
