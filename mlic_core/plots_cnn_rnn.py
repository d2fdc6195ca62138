"""CNN-RNN's own figures (Wang et al., CVPR 2016): the beam as a tree, the label embedding, recall by size, examples."""

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from PIL.Image import Image

from mlic_core.labels import Branch
from mlic_core.plots import new_figure, show_image, styled

LOOKS = {
    "live": dict(color="black", facecolor="#DDEBF7", edgecolor="C0"),
    "ended": dict(color="black", facecolor="#E2F0D9", edgecolor="C2"),
    "dropped": dict(color="#767676", facecolor="white", edgecolor="#C8C8C8"),
}


@styled
def beam_tree(image: npt.ArrayLike | Image, steps: Sequence[Sequence[Branch]], names: Sequence[str]) -> Figure:
    """An image beside the tree that `labels.trace_beam` grew for it (the paper's Fig. 5), one column a step.

    A node holds a token and its P given the path to it; END also log P of the whole path. Thick: the best path.
    """
    branches = {one.path: one for step in steps for one in step}
    best = max((one for one in branches.values() if one.fate == "ended"), key=lambda one: one.log_p)
    heights = _heights(branches)
    leaves = max(heights.values()) + 1
    figure, axes = new_figure(1, 2, size=(2.4 + 1.5 * len(steps), max(2.4, 0.27 * leaves)))
    figure.get_layout_engine().set(w_pad=0.02)
    axes[0, 0].get_gridspec().set_width_ratios([2.2, 1.5 * len(steps)])
    show_image(axes[0, 0], image)
    axis = axes[0, 1]
    texts = {path: _node_text(one, names) for path, one in branches.items()}
    for path, branch in branches.items():
        on_best = best.path[: len(path)] == path
        before = path[:-1]
        start = (
            len(before) + 0.03 + 0.042 * len(texts[before]) if before else 0.55
        )  # about where the parent's text ends
        _edge(
            axis,
            (start, heights[before]),
            (len(path) - 0.02, heights[path]),
            dropped=branch.fate == "dropped",
            thick=on_best,
        )
        look = LOOKS[branch.fate]
        plate = dict(boxstyle="round", facecolor=look["facecolor"], edgecolor=look["edgecolor"], pad=0.25)
        plate |= dict(linewidth=2.0 if on_best else 0.8)
        axis.text(len(path), heights[path], texts[path], va="center", fontsize=7, color=look["color"], bbox=plate)
    axis.text(0.35, heights[()], "START", va="center", fontsize=7, bbox=dict(boxstyle="round", facecolor="white"))
    axis.set(xlim=(0.3, len(steps) + 0.95), ylim=(leaves - 0.4, -0.6))
    axis.set_axis_off()
    return figure


def _heights(branches: Mapping[tuple[int, ...], Branch]) -> dict[tuple[int, ...], float]:
    """A row for every leaf in the order of the tree, most probable first; for a parent the middle of its children."""
    heights: dict[tuple[int, ...], float] = {}

    def place(path: tuple[int, ...], row: int) -> int:
        children = [one for one in branches.values() if one.path[:-1] == path]
        for child in sorted(children, key=lambda one: -one.p):
            row = place(child.path, row)
        heights[path] = float(np.mean([heights[one.path] for one in children])) if children else float(row)
        return row if children else row + 1

    place((), 0)
    return heights


def _node_text(branch: Branch, names: Sequence[str]) -> str:
    token = branch.path[-1]
    whole = f", log P {branch.log_p:.2f}" if branch.fate == "ended" else ""
    return f"{'END' if token == len(names) else names[token]} {branch.p:.2f}{whole}"


def _edge(axis: Axes, start: tuple[float, float], end: tuple[float, float], *, dropped: bool, thick: bool) -> None:
    """From behind the parent's text to the node."""
    look = dict(color="#C8C8C8", linestyle="--") if dropped else dict(color="black", linestyle="-")
    axis.plot(*zip(start, end, strict=True), **look, linewidth=2.0 if thick else 0.8, marker="", zorder=0)


@styled
def embedding_planes(
    planes: Mapping[str, tuple[npt.ArrayLike, npt.ArrayLike]],
    names: Mapping[str, Sequence[str]],
    groups: Mapping[str, Sequence[str]],
) -> Figure:
    """Labels as named points in a plane, one panel a data set; colour and marker tell their group.

    planes: title -> coordinates (labels, 2) and the share of the variance on both axes. names, groups: of the labels,
    by the same titles.
    """
    figure, axes = new_figure(1, len(planes), size=(5.4 * len(planes), 5.0))
    order = list(dict.fromkeys(group for one in groups.values() for group in sorted(one)))
    for axis, (title, (points, shares)) in zip(axes[0], planes.items(), strict=True):
        points = np.asarray(points)
        for group in order:  # one without labels here too, so that a group looks the same in every panel
            inside = np.array([one == group for one in groups[title]])
            axis.plot(*points[inside].T, label=group, linestyle="none", markersize=5)
        for point, name in zip(points, names[title], strict=True):
            axis.annotate(name, point, (3, 2), textcoords="offset points", fontsize=6)
        across, up = (f"{100 * share:.0f} % of the variance" for share in shares)
        axis.set(title=title, xlabel=across, ylabel=up)
        axis.margins(0.08)
    handles, texts = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, texts, loc="outside lower center", ncols=len(order))
    return figure


@styled
def class_precision_recall(precision: npt.ArrayLike, recall: npt.ArrayLike, labels: Sequence[str]) -> Figure:
    """Precision and recall of each class in percent, by falling recall (the paper's Fig. 7).

    precision, recall (runs, classes): means as markers, ranges as lines; NaN (no label given, or none present) is left
    out.
    """
    values = {"precision": np.atleast_2d(precision), "recall": np.atleast_2d(recall)}
    order = np.argsort(-np.nan_to_num(values["recall"].mean(0), nan=-1.0), kind="stable")
    figure, axes = new_figure(size=(max(4.0, 0.15 * len(labels) + 1.0), 3.0))
    axis, place = axes[0, 0], np.arange(len(labels))
    for i, (name, runs) in enumerate(values.items()):
        middle, low, high = (function(runs[:, order], axis=0) for function in (np.mean, np.min, np.max))
        reach = np.stack([middle - low, high - middle]).clip(min=0)
        look = dict(fmt="os"[i], linestyle="none", elinewidth=1, markersize=4, fillstyle=["none", "full"][i])
        axis.errorbar(place + 0.15 * (2 * i - 1), middle, reach, label=name, **look)
    axis.set_xticks(place, [labels[i] for i in order], rotation=90, fontsize=6.5)
    axis.set(ylabel="precision, recall (%)", ylim=(-4, 104), xlim=(-0.7, len(labels) - 0.3))
    axis.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2)
    return figure


@styled
def recall_panels(
    panels: Mapping[str, tuple[Sequence[str], npt.ArrayLike, Mapping[str, npt.ArrayLike]]], *, xlabel: str
) -> Figure:
    """Recall against bins of a value (the paper's Fig. 8), one panel a data set; bars in the back: how many labels.

    panels: title -> names of the bins, their numbers of labels, and name of a method -> recall (runs, bins) in [0, 1].
    """
    figure, axes = new_figure(1, len(panels), size=(4.3 * len(panels), 2.9))
    for axis, (title, (bins, counts, curves)) in zip(axes[0], panels.items(), strict=True):
        behind = axis.twinx()
        behind.bar(range(len(bins)), counts, color="#EEEEEE", width=0.9)
        behind.set_ylabel("labels", color="#767676")
        behind.grid(False)
        axis.set_zorder(behind.get_zorder() + 1)
        axis.patch.set_visible(False)
        for name, runs in curves.items():
            runs = np.atleast_2d(np.asarray(runs, np.float64))
            (line,) = axis.plot(range(len(bins)), runs.mean(0), label=name)
            axis.fill_between(range(len(bins)), runs.min(0), runs.max(0), color=line.get_color(), alpha=0.2, lw=0)
        axis.set_xticks(range(len(bins)), bins, rotation=30, ha="right", rotation_mode="anchor")
        axis.set(title=title, xlabel=xlabel, ylabel="recall", ylim=(0, 1.02))
        axis.yaxis.set_major_formatter(PercentFormatter(1.0))
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=4)
    return figure


@styled
def agreement_scatter(
    truth: npt.ArrayLike, models: Mapping[str, npt.ArrayLike], titles: Sequence[str], *, xlabel: str, ylabel: str
) -> Figure:
    """True against predicted conditional probabilities, one panel a model, one point a pair of labels.

    truth and each model's matrix (labels, labels) in [0, 1]; pairs that either leaves undefined have no point. titles:
    above the panels.
    """
    figure, axes = new_figure(1, len(models), size=(2.6 * len(models) + 0.3, 2.9))
    for axis, predicted, title in zip(axes[0], models.values(), titles, strict=True):
        axis.plot([0, 1], [0, 1], color="black", linewidth=0.8, linestyle=":", marker="")
        x, y = (np.ravel(values) for values in (truth, predicted))
        axis.plot(x, y, linestyle="none", marker="o", markersize=2.5, alpha=0.35, markeredgewidth=0)
        axis.set(title=title, xlabel=xlabel, xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), aspect="equal")
    axes[0, 0].set_ylabel(ylabel)
    return figure


@styled
def captioned_images(
    images: Sequence[npt.ArrayLike | Image], captions: Sequence[Mapping[str, str]], *, columns: int = 4
) -> Figure:
    """Images with lines of text below each: "name: text", wrapped (the paper's Fig. 6 and 9)."""
    wrapped = [
        [line for name, text in one.items() for line in textwrap.wrap(f"{name}: {text}", 36, subsequent_indent="    ")]
        for one in captions
    ]
    rows, deepest = -(-len(images) // columns), max(map(len, wrapped))
    heights = [2.1, 0.135 * deepest + 0.1] * rows
    figure, axes = new_figure(2 * rows, columns, size=(2.2 * columns, sum(heights)))
    axes[0, 0].get_gridspec().set_height_ratios(heights)
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, below, image, lines in zip(axes[::2].flat, axes[1::2].flat, images, wrapped, strict=False):
        show_image(axis, image)
        axis.set_anchor("SW")  # above its text
        below.text(0, 1, "\n".join(lines), transform=below.transAxes, va="top", fontsize=7.5).set_in_layout(False)
    return figure
