"""RDAR's own figures (Wang et al., ICCV 2017): sampled places, anchors, the walk over the regions, and its failures.

Transforms are (s_x, s_y, t_x, t_y) in coordinates from -1 to 1, x to the right and y down, as in `models.spatial`;
boxes are x0, y0, x1, y1 in [0, 1].
"""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Circle, Rectangle
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MultipleLocator
from PIL.Image import Image

from mlic_core.plots import Boxes, draw_boxes, new_figure, show_image, styled
from mlic_core.plots_mcar import name_classes

COLORS = 7  # in the style's cycle; regions beyond them take a colour again, with open markers
APART = 0.13  # least distance between two numbers on an image, as a share of its sides
FAILURES = {  # what goes wrong (§4.2), on what axis it is shown, and the constraint that is against it
    "mirrored": ("mirrored regions (%)", "P"),
    "overlap": ("mean IoU of two regions", "A"),
    "oversized": ("oversized regions (%)", "S"),
}


def _color(i: int) -> str:
    """A colour of the style, looked up now: matplotlib would look up a line's "C0" as it draws, in its own style."""
    return to_hex(f"C{i % COLORS}")


def _square(axis: Axes, reach: float) -> None:
    """An axis from -reach to reach both ways, y down, with the image's edge at -1 and 1."""
    axis.add_patch(Rectangle((-1, -1), 2, 2, fill=False, edgecolor="black", linewidth=1.2, zorder=5))
    axis.set(xlim=(-reach, reach), ylim=(reach, -reach), aspect="equal", xlabel="x", ylabel="y (downward)")
    for side in (axis.xaxis, axis.yaxis):
        side.set_major_locator(MultipleLocator(0.5 if reach < 2 else np.ceil(reach / 4)))
    axis.spines[:].set_visible(False)


@styled
def coordinate_mapping(
    image: npt.ArrayLike | Image, transform: npt.ArrayLike, *, cells: tuple[int, int], side: int
) -> Figure:
    """Where a transform (4,) samples (the paper's Fig. 3): (a) on maps of `cells` (rows, columns), (b) on the image.

    Squares are the side x side places of the region, circles those of the identity.
    """
    scale, centre = np.reshape(np.asarray(transform, np.float64), (2, 2))
    line = (2 * np.arange(side) + 1) / side - 1  # centres of cells
    identity = np.stack(np.meshgrid(line, line), -1).reshape(-1, 2)
    places = scale * identity + centre
    reach = 1.08 * max(1, np.abs(places).max())
    figure, ((maps, picture),) = new_figure(1, 2, size=(6.6, 3.7))
    _square(maps, reach)
    maps.grid(False)
    for draw, count in ((maps.hlines, cells[0]), (maps.vlines, cells[1])):
        draw(np.linspace(-1, 1, count + 1), -1, 1, color="#C8C8C8", linewidth=0.8, zorder=0)
    circles = dict(linestyle="none", color=_color(0), marker="o", fillstyle="none", zorder=3)
    squares = dict(linestyle="none", color=_color(1), marker="s", markersize=min(3.6, 44 / side))
    squares |= dict(markeredgecolor="white", markeredgewidth=0.5)
    maps.plot(*identity.T, **circles, label="identity")
    maps.plot(*places.T, **squares, label="region")
    maps.set_title(f"(a) maps of {cells[0]} × {cells[1]} cells")
    show_image(picture, image, "(b) image")
    size = np.array([picture.get_xlim()[1], picture.get_ylim()[0]])
    draw_boxes(picture, Boxes([(np.concatenate([centre - scale, centre + scale]) + 1) / 2], [""]), [_color(1)])
    picture.plot(*((places + 1) / 2 * size).T, **squares)
    (left, top), (right, bottom) = (1 - reach) / 2 * size, (1 + reach) / 2 * size
    picture.set(xlim=(left, right), ylim=(bottom, top))
    title = f"places that are sampled, {side} × {side} each"
    figure.legend(*maps.get_legend_handles_labels(), title=title, loc="outside lower center", ncols=2)
    return figure


@styled
def anchor_figure(anchors: Mapping[int, npt.ArrayLike]) -> Figure:
    """The anchors of regions 2 … K for each K, (K - 1, 2) as x, y (the paper's Fig. 4), with the regions' numbers."""
    figure, axes = new_figure(1, len(anchors), size=(3.0 * len(anchors), 3.6))
    for axis, (count, points) in zip(axes[0], anchors.items(), strict=True):
        _square(axis, 1.1)
        axis.add_patch(Circle((0, 0), np.sqrt(0.5), fill=False, edgecolor=_color(1), linestyle="--", linewidth=1.2))
        axis.plot(0, 0, linestyle="none", color="black", marker="+", markersize=8)
        plate = dict(linestyle="none", marker="o", markersize=13, color=_color(0), markerfacecolor="white")
        points = np.asarray(points)
        axis.plot(*points.T, **plate)
        for k, place in enumerate(points, 2):
            axis.annotate(str(k), place, ha="center", va="center_baseline", fontsize=8)
        axis.set_title(f"K = {count}")
    looks = {
        "anchor of region k": dict(
            color=_color(0), marker="o", markersize=8, markerfacecolor="white", linestyle="none"
        ),
        "circle of radius √½": dict(color=_color(1), marker="", linestyle="--"),
        "the image's centre": dict(color="black", marker="+", markersize=8, linestyle="none"),
    }
    handles = [Line2D([], [], label=label, **look) for label, look in looks.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(looks))
    return figure


@styled
def walk_figure(
    image: npt.ArrayLike | Image,
    regions: npt.ArrayLike,
    names: Sequence[str],
    probabilities: npt.ArrayLike,
    truth: npt.ArrayLike,
) -> Figure:
    """One column a step: the region on the image and, below, the probabilities that the step gives to some labels.

    regions (K, 4); probabilities (K, labels) in [0, 1] of each step alone. The outline is the maximum over the steps
    so far, the hatched end what the step adds to it; by Eq. 6 the last outline is the answer if probabilities keep the
    order of scores, as a sigmoid's do and a softmax's for each region do not. Labels with truth (labels,) 1 carry a
    check mark.
    """
    values = np.asarray(probabilities, np.float64)
    best = np.maximum.accumulate(values)
    before = np.concatenate([np.zeros_like(best[:1]), best[:-1]])
    steps, place = len(values), np.arange(len(names))
    heights = [1.7, 0.2 * len(names) + 0.75]
    figure, axes = new_figure(2, steps, size=(1.65 * steps + 1.1, sum(heights)))
    axes[0, 0].get_gridspec().set_height_ratios(heights)
    edge = dict(edgecolor="white", linewidth=0.5)
    for k, (above, axis) in enumerate(axes.T):
        show_image(above, image, f"region {k + 1}")
        draw_boxes(above, Boxes(np.asarray(regions)[k : k + 1], [""]), ["C1"])
        axis.barh(place, values[k], 0.7, color="C0", alpha=0.45, **edge, label="this step's probability")
        added = best[k] - before[k]
        axis.barh(place, added, 0.7, before[k], color="C1", hatch="////", **edge, label="what it adds to the maximum")
        outline = dict(fill=False, edgecolor="black", linewidth=0.9)
        axis.barh(place, best[k], 0.7, **outline, label="maximum so far")
        axis.set_yticks(place, name_classes(range(len(names)), names, truth) if k == 0 else [""] * len(names))
        axis.set(xlabel="probability", xlim=(0, min(1.02, 1.06 * best.max())), ylim=(len(names) - 0.5, -0.5))
        axis.grid(axis="y", visible=False)
    figure.legend(*axis.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


@styled
def region_gallery(
    images: Sequence[npt.ArrayLike | Image],
    titles: Sequence[str],
    regions: Sequence[npt.ArrayLike],
    proposals: Sequence[npt.ArrayLike],
    *,
    columns: int = 4,
) -> Figure:
    """Images with their attentional regions (K, 4), solid, and below the same images with as many proposals, dashed
    (the paper's Fig. 5). Numbers tell the order of both."""
    rows = -(-len(images) // columns)
    figure, axes = new_figure(2 * rows, columns, size=(1.9 * columns + 0.3, 4.0 * rows))
    for axis in axes.flat:
        axis.set_axis_off()
    kinds = ((axes[::2], titles, regions, False), (axes[1::2], [""] * len(images), proposals, True))
    for part, headings, boxes, dashed in kinds:
        for axis, image, title, some in zip(part.flat, images, headings, boxes, strict=False):
            show_image(axis, image, textwrap.fill(title, 25))  # to the width of its image
            draw_boxes(axis, Boxes(some, [""] * len(some), [dashed] * len(some)))
            _number(axis, np.asarray(some))
        for axis in part[:, 0]:
            name = "proposals" if dashed else "attentional regions"
            axis.text(-0.04, 0.5, name, rotation=90, ha="right", va="center", transform=axis.transAxes)
    return figure


def _number(axis: Axes, boxes: np.ndarray) -> None:
    """Each box's number on its outline, away from those before it, so that boxes which coincide still show theirs."""
    size, taken = np.array([axis.get_xlim()[1], axis.get_ylim()[0]]), np.empty((0, 2))
    for i, (x0, y0, x1, y1) in enumerate(boxes):
        across, down = np.linspace(x0, x1, 9), np.linspace(y0, y1, 9)
        edges = [(x, y0) for x in across] + [(x, y) for x in (x0, x1) for y in down] + [(x, y1) for x in across]
        edges += [(x0 + APART * step, y0) for step in (1, -1, 2, -2, 3, -3)]  # beside regions that are points
        places = np.clip(edges, APART / 2, 1 - APART / 2)
        room = np.abs(places[:, None] - taken).max(2).min(1, initial=APART)
        taken = np.vstack([taken, places[room.argmax()]])  # the first with room enough, or else with the most
        plate = dict(facecolor="white", edgecolor=_color(i), pad=1.2, linewidth=0.8)
        axis.text(*(taken[-1] * size), str(i + 1), fontsize=7, ha="center", va="center", bbox=plate)


@styled
def failure_bars(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """What each setting of the constraints leaves of the failures that they are against: one panel a failure.

    rows: dicts of failure ("mirrored" and "oversized" in percent of the regions, "overlap" as an IoU), setting (such
    as "null" or "A+S"), and value with its interval's ends low and high. A full marker: the constraint against the
    failure is on.
    """
    shown = [name for name in FAILURES if any(row["failure"] == name for row in rows)]
    settings = list(dict.fromkeys(row["setting"] for row in rows))
    figure, axes = new_figure(1, len(shown), size=(2.1 * len(shown) + 0.8, 0.26 * len(settings) + 1.2))
    for axis, name in zip(axes[0], shown, strict=True):
        label, constraint = FAILURES[name]
        for row in (row for row in rows if row["failure"] == name):
            on = constraint in row["setting"].split("+")
            reach = np.clip([[row["value"] - row["low"]], [row["high"] - row["value"]]], 0, None)
            axis.errorbar(row["value"], settings.index(row["setting"]), xerr=reach, capsize=3, **_look(on))
        axis.set_yticks(range(len(settings)), settings if axis is axes[0, 0] else [""] * len(settings))
        axis.set(xlabel=label, title=f"targeted by {constraint}", ylim=(len(settings) - 0.5, -0.5))
        most = max(row["high"] for row in rows if row["failure"] == name) or 1.0
        axis.set_xlim(-0.06 * most, 1.06 * most)
    texts = {True: "the targeting constraint is on", False: "it is off"}
    handles = [Line2D([], [], label=text, **_look(on)) for on, text in texts.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=2)
    return figure


def _look(on: bool) -> dict[str, Any]:
    color = _color(0 if on else 1)
    return dict(color=color, markerfacecolor=color if on else "white", marker="o", markersize=6, linestyle="none")


@styled
def centres_figure(transforms: Mapping[str, npt.ArrayLike], anchors: npt.ArrayLike) -> Figure:
    """Centres of the regions over images, one panel a name: transforms (images, K, 4). The square is the image.

    anchors (K - 1, 2): x, y of the anchor points, crosses with the number of their region.
    """
    centres = {name: np.asarray(values, np.float64)[..., 2:] for name, values in transforms.items()}
    anchors = np.asarray(anchors, np.float64)
    reach = 1.08 * max(1, *(np.abs(one).max() for one in centres.values()))
    figure, axes = new_figure(1, len(centres), size=(2.9 * len(centres), 3.6))
    for axis, (name, points) in zip(axes[0], centres.items(), strict=True):
        _square(axis, reach)
        for k in range(points.shape[1]):
            look = dict(fillstyle="full" if k < COLORS else "none", alpha=0.6, markersize=3.5)
            axis.plot(*points[:, k].T, linestyle="none", **look, label=f"region {k + 1}")
        cross = dict(linestyle="none", color="black", marker="x", markersize=8, markeredgewidth=1.6)
        axis.plot(*anchors.T, **cross, path_effects=[withStroke(linewidth=3.4, foreground="white")], label="anchor")
        for k, place in enumerate(anchors, 2):
            halo = dict(facecolor="white", edgecolor="none", alpha=0.8, pad=0.6)
            axis.annotate(str(k), place, (7, 0), textcoords="offset points", va="center", fontsize=8, bbox=halo)
        axis.set_title(name)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=6)
    return figure
