"""Figures that set methods side by side by where they look: paths of CNN-RNN, regions, recall, size, and AP."""

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from PIL.Image import Image

from mlic_core.metrics import Interval
from mlic_core.plots import Boxes, draw_boxes, new_figure, show_image, show_map, styled

WIDE = 24  # letters in the title of a picture


@styled
def path_figure(
    images: Sequence[npt.ArrayLike | Image],
    titles: Sequence[str],
    maps: Sequence[npt.ArrayLike],
    words: Sequence[Sequence[str]],
    *,
    pixels: Mapping[str, Sequence[npt.ArrayLike]] = {},
    edges: Sequence[npt.ArrayLike] = (),
) -> Figure:
    """A row an image: the image, then its attention before each word of its path (CNN-RNN Fig. 10).

    maps: of each image (steps, rows, columns), 0 or more, each scaled by its own highest value; words (steps,): what
    the model writes at each. Images may have different numbers of steps.
    pixels: name -> the same at the pixels (steps, H, W) of each image, a row each below the image's, dark where high;
    edges: a picture (H, W) of each image to stand beside the first of these.
    """
    most, each = max(map(len, words)), 1 + len(pixels)
    side = 1.25 if pixels else 1.5
    height = len(images) * (side + 0.35 + (side + 0.18) * len(pixels))
    figure, axes = new_figure(each * len(images), most + 1, size=(side * (most + 1) + 0.1, height))
    figure.get_layout_engine().set(h_pad=0.06)
    for axis in axes.flat:
        axis.set_axis_off()
    for row, image, title, steps, names in zip(axes[::each], images, titles, maps, words, strict=True):
        show_image(row[0], image, textwrap.fill(title, WIDE - 4))
        for t, (axis, values, name) in enumerate(zip(row[1:], np.asarray(steps), names, strict=False)):
            show_image(axis, image, f"{t + 1}: {name}")
            show_map(axis, values / max(values.max(), 1e-12), vmax=1.0)
    for below, (name, of_images) in enumerate(pixels.items(), 1):
        for row, steps, names in zip(axes[below::each], of_images, words, strict=True):
            for axis, values, _ in zip(row[1:], np.asarray(steps), names, strict=False):
                _show_pixels(axis, values)
            row[1].set_title(name)
    for axis, values in zip(axes[1::each, 0], edges, strict=False):
        _show_pixels(axis, values, "its edges")
    for axis in axes.flat:
        axis.title.set_fontsize(8)
    return figure


def _show_pixels(axis: Axes, values: npt.ArrayLike, title: str = "") -> None:
    """Values (H, W), 0 or more, dark where high; the highest hundredth all black, so that single pixels don't rule."""
    values = np.asarray(values, np.float64)
    axis.imshow(values, cmap="Greys", vmin=0, vmax=max(np.quantile(values, 0.99), 1e-12))
    axis.set_axis_on()
    axis.set(title=title, xticks=(), yticks=())
    axis.spines[:].set(visible=True, color="#BBBBBB", linewidth=0.5)  # else nobody sees where white ends


@styled
def regions_by_method(
    images: Sequence[npt.ArrayLike | Image], columns: Mapping[str, Sequence[Boxes]], *, side: float = 1.5
) -> Figure:
    """A row an image, a column a method: the boxes that each gives to the image's labels.

    A label has one number and colour in all columns; what they mean stands below the first.
    """
    size = (side * len(columns) + 0.1, (side + 0.38) * len(images) + 0.2)
    figure, axes = new_figure(len(images), len(columns), size=size)
    figure.get_layout_engine().set(h_pad=0.18)
    first = [list(dict.fromkeys(boxes.labels)) for boxes in next(iter(columns.values()))]
    for column, (name, found) in zip(axes.T, columns.items(), strict=True):
        for i, (axis, image, boxes) in enumerate(zip(column, images, found, strict=True)):
            show_image(axis, image, "" if i else name)
            numbers = [first[i].index(label) for label in boxes.labels]
            texts, colors = [str(number + 1) for number in numbers], [to_hex(f"C{number % 7}") for number in numbers]
            draw_boxes(axis, Boxes(boxes.xyxy, texts), colors)
    for axis, labels in zip(axes[:, 0], first, strict=True):
        named = [f"{i} {label}" for i, label in enumerate(labels, 1)]
        text = "\n".join("   ".join(named[i : i + 2]) for i in range(0, len(named), 2))
        note = axis.text(0, -0.04, text, va="top", fontsize=7.5, transform=axis.transAxes)
        note.set_in_layout(axis is axes[-1, 0])  # the others stand between the rows
    return figure


@styled
def recall_curves(
    bounds: npt.ArrayLike,
    recall: Mapping[str, npt.ArrayLike],
    counts: npt.ArrayLike,
    covered: Mapping[str, npt.ArrayLike],
    *,
    blind: Sequence[str] = (),
) -> Figure:
    """Recall of objects against the IoU that is asked for, and images all of whose objects some regions hold.

    recall: name -> shares (bounds,) in [0, 1]; covered: name -> shares (counts,), NaN beyond a method's last region.
    blind: the names of those that look at nothing, which are grey.
    """
    figure, axes = new_figure(1, 2, size=(7.6, 3.6))
    looks = _looks(list(recall), blind)
    panels = ((axes[0, 0], bounds, recall), (axes[0, 1], counts, covered))
    for axis, x, curves in panels:
        for name, values in curves.items():
            every = max(len(np.asarray(x)) // 6, 1)
            axis.plot(x, values, label=name, markevery=every, **looks[name])
        axis.set_ylim(-0.02, 1.02)
        axis.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes[0, 0].set(xlabel="IoU that counts as found", ylabel="objects found by a region")
    axes[0, 1].set(xlabel="regions, in their order", ylabel="images with every object held")
    axes[0, 1].xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


def _looks(names: Sequence[str], blind: Sequence[str]) -> dict[str, dict]:
    """Colour, dashes and marker of each name: those of the style for methods, greys for what looks at nothing."""
    markers, dashes, found = "osD^vPX", ("-", "--", "-.", ":"), {}
    for i, name in enumerate([one for one in names if one not in blind]):
        found[name] = dict(color=to_hex(f"C{i % 7}"), linestyle=dashes[i % 4], marker=markers[i % 7])
    for i, name in enumerate([one for one in names if one in blind]):
        found[name] = dict(color="#8C8C8C", linestyle=dashes[i % 4], marker=markers[i % 7], fillstyle="none", alpha=0.9)
    return found


@styled
def by_size_figure(values: Mapping[str, Mapping[str, Interval]], *, ylabel: str) -> Figure:
    """A share in [0, 1] by the size of objects, with intervals: a group of points a size, one point a method.

    values: name of the method -> size -> value and bounds; every method has the same sizes.
    """
    sizes = list(next(iter(values.values())))
    figure, axes = new_figure(size=(6.4, 2.9))
    axis, place = axes[0, 0], np.arange(len(sizes))
    looks = _looks(list(values), ())
    for i, (name, of) in enumerate(values.items()):
        middle, low, high = np.array([of[size] for size in sizes]).T
        aside = 0.7 * (i - (len(values) - 1) / 2) / len(values)
        reach = np.clip([middle - low, high - middle], 0, None)
        look = looks[name] | dict(linestyle="none")
        axis.errorbar(place + aside, middle, reach, label=name, elinewidth=1, capsize=2, **look)
    axis.set(ylabel=ylabel, ylim=(-0.02, 1.02), xlim=(-0.5, len(sizes) - 0.5))
    axis.set_xticks(place, sizes)
    axis.grid(axis="x", visible=False)
    axis.yaxis.set_major_formatter(PercentFormatter(1.0))
    figure.legend(*axis.get_legend_handles_labels(), loc="outside right center")
    return figure


@styled
def class_scatter(
    panels: Mapping[str, tuple[npt.ArrayLike, Mapping[str, npt.ArrayLike]]],
    labels: Sequence[str],
    notes: Mapping[tuple[str, str], str],
    *,
    xlabel: str,
) -> Figure:
    """One column a method, one row a number: each class as a point by how well it is localised, and by that number.

    panels: name -> x (classes,) in percent, and row -> y (classes,). notes: (name, row) -> what stands in the title.
    The classes at both ends of x carry their names.
    """
    rows = list(next(iter(panels.values()))[1])
    figure, axes = new_figure(len(rows), len(panels), size=(2.05 * len(panels) + 0.4, 2.15 * len(rows) + 0.2))
    for i, row in enumerate(rows):
        for axis, (name, (x, values)) in zip(axes[i], panels.items(), strict=True):
            x, y = np.asarray(x, np.float64), np.asarray(values[row], np.float64)
            axis.plot(
                x, y, color=to_hex("C0"), linestyle="none", marker="o", markersize=3.5, alpha=0.8, markeredgewidth=0
            )
            axis.set_title(f"{name}\n{notes[name, row]}" if i == 0 else notes[name, row], fontsize=8)
            _name_ends(axis, x, y, labels)
            axis.margins(0.12)
            if i == len(rows) - 1:
                axis.set_xlabel(xlabel)
        axes[i, 0].set_ylabel(row)
        low, high = (pick(axis.get_ylim()[end] for axis in axes[i]) for end, pick in enumerate((min, max)))
        for axis in axes[i]:
            axis.set_ylim(low, high)
            axis.tick_params(labelleft=axis is axes[i, 0])
    return figure


def _name_ends(axis: Axes, x: np.ndarray, y: np.ndarray, labels: Sequence[str]) -> None:
    """The names of the classes with the least and the greatest x, towards the middle of the panel."""
    there = np.flatnonzero(~np.isnan(x) & ~np.isnan(y))
    if not len(there) or x[there].min() == x[there].max():
        return
    ends = ((there[x[there].argmin()], "left"), (there[x[there].argmax()], "right"))
    above = y[there].mean()
    for i, side in ends:
        down = y[i] > above
        place = dict(ha=side, va="top" if down else "bottom", fontsize=6.5, textcoords="offset points")
        axis.annotate(labels[i], (x[i], y[i]), (0, -3 if down else 3), **place)
