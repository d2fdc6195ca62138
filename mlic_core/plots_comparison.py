"""Figures that set the four papers side by side: differences, classes, kinds of images, and verdicts."""

from collections.abc import Mapping, Sequence
from itertools import accumulate

import numpy as np
import numpy.typing as npt
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mlic_core.claims import Comparison, verdict
from mlic_core.plots import new_figure, styled
from mlic_core.ranking import VERDICTS

BLUE, VERMILION = (
    "#0072B2",
    "#D55E00",
)  # the style's first two: a line looks "C0" up when it is drawn, outside the style
LOOKS = {"seen": ("o", BLUE, BLUE), "undecided": ("D", "white", "black"), "not seen": ("s", VERMILION, VERMILION)}
HATCH = {"seen": "", "undecided": "...", "not seen": "///"}
WRITTEN = 25  # classes up to which a number fits into each cell
LIMIT = 20.0  # points at which the colour saturates: one class far out would hide all others


@styled
def difference_forest(panels: Mapping[str, Mapping[str, Comparison]], *, xlabel: str) -> Figure:
    """Paired differences with their intervals, one row each, one panel a title; small ticks are the single runs.

    panels: title -> what is compared -> difference; a row stands in each panel that has it. Marker and colour tell the
    verdict, and all panels have one scale.
    """
    names = list(dict.fromkeys(name for found in panels.values() for name in found))
    figure, axes = new_figure(1, len(panels), size=(2.7 * len(panels) + 1.9, 0.25 * len(names) + 1.1))
    for axis, (title, found) in zip(axes[0], panels.items(), strict=True):
        axis.axvline(0, color="black", linewidth=0.8, linestyle="-", marker="")
        for name, one in found.items():
            place, (marker, face, edge) = names.index(name), LOOKS[verdict(one)]
            axis.plot([one.low, one.high], [place, place], color=edge, linewidth=1.6, linestyle="-", marker="")
            axis.plot(one.by_run, [place] * len(one.by_run), color="black", linestyle="none", marker="|", markersize=9)
            axis.plot(one.value, place, marker=marker, markerfacecolor=face, markeredgecolor=edge, markersize=6)
        axis.set_yticks(range(len(names)), names if axis is axes[0, 0] else [""] * len(names))
        axis.set(title=title, xlabel=xlabel, ylim=(len(names) - 0.4, -0.6))
    limits = [axis.get_xlim() for axis in axes[0]]
    for axis in axes[0]:
        axis.set_xlim(min(low for low, _ in limits), max(high for _, high in limits))
    handles = [
        Line2D([], [], linestyle="none", marker=marker, markerfacecolor=face, markeredgecolor=edge, label=name)
        for name, (marker, face, edge) in LOOKS.items()
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(LOOKS))
    return figure


@styled
def class_differences(differences: Mapping[str, npt.ArrayLike], labels: Sequence[str], counts: npt.ArrayLike) -> Figure:
    """AP of each class less that of the reference (points): a row a method, a column a class, the rarest on the left.

    differences: name -> (classes,), NaN where a class has no AP. counts: test images of each class, which its name
    shows. Few classes have their numbers written into the cells.
    """
    order = np.argsort(np.asarray(counts), kind="stable")
    values = np.array([np.asarray(row, np.float64)[order] for row in differences.values()])
    written = len(order) <= WRITTEN
    width = (0.42 if written else 0.165) * len(order)
    figure, axes = new_figure(size=(width + 2.6, 0.34 * len(values) + 1.9))
    axis, furthest = axes[0, 0], max(0.1, float(np.nanmax(np.abs(values))))
    reach = min(furthest, LIMIT)
    picture = axis.imshow(values, aspect="auto", cmap="PuOr_r", vmin=-reach, vmax=reach)
    for (i, j), value in np.ndenumerate(values):
        if written and not np.isnan(value):
            color = "white" if abs(value) > 0.6 * reach else "black"
            axis.text(j, i, f"{value:+.0f}" if round(value) else "0", ha="center", va="center", fontsize=7, color=color)
    names = [f"{labels[i]} ({int(np.asarray(counts)[i])})" for i in order]
    slant = dict(rotation=45, ha="right", rotation_mode="anchor") if written else dict(rotation=90)
    axis.set_xticks(range(len(order)), names, fontsize=8 if written else 6.5, **slant)
    axis.set_yticks(range(len(values)), list(differences))
    axis.grid(False)
    axis.set_xlabel("class (test images that show it), the rarest on the left")
    figure.colorbar(picture, label="AP points", pad=0.01, extend="both" if furthest > reach else "neither")
    return figure


@styled
def kinds_figure(
    panels: Mapping[str, Mapping[str, Mapping[str, Comparison]]], groups: Sequence[int], *, ylabel: str
) -> Figure:
    """Differences by kind of class, object or image with 95 % intervals: one panel a name, one marker a method.

    panels: title -> method -> kind -> difference; every method has the same kinds. groups: how many kinds belong
    together, which a line parts from the next.
    """
    figure, axes = new_figure(1, len(panels), size=(4.4 * len(panels) + 0.4, 3.5))
    names = list(dict.fromkeys(name for methods in panels.values() for name in methods))
    looks = {name: {"color": to_hex(f"C{i % 7}"), "marker": "osD^vPX"[i % 7]} for i, name in enumerate(names)}
    for axis, (title, methods) in zip(axes[0], panels.items(), strict=True):
        for i, (name, kinds) in enumerate(methods.items()):
            place = np.arange(len(kinds)) + 0.62 * ((i + 0.5) / len(methods) - 0.5)
            value, low, high = np.array([one[:3] for one in kinds.values()]).T
            axis.vlines(place, low, high, color=looks[name]["color"], linewidth=1.2)
            axis.plot(place, value, linestyle="none", **looks[name])
        for edge in list(accumulate(groups))[:-1]:
            axis.axvline(edge - 0.5, color="grey", linewidth=0.8, linestyle="-", marker="")
        axis.axhline(0, color="black", linewidth=0.8, linestyle="-", marker="")
        axis.set_xticks(range(len(kinds)), list(kinds), rotation=45, ha="right", rotation_mode="anchor")
        axis.set(title=title, ylabel=ylabel)
    handles = [Line2D([], [], linestyle="none", label=name, **look) for name, look in looks.items()]
    figure.legend(handles=handles, loc="outside upper center", ncols=min(len(names), 3))
    return figure


@styled
def verdict_bars(counts: Mapping[str, Mapping[str, int]]) -> Figure:
    """How many claims of each paper were seen, undecided and not seen: one stacked bar a paper, numbers written in."""
    figure, axes = new_figure(size=(5.2, 0.42 * len(counts) + 1.0))
    axis, papers = axes[0, 0], list(counts)
    left = np.zeros(len(papers))
    for name in VERDICTS:
        width = np.array([counts[paper].get(name, 0) for paper in papers])
        face = LOOKS[name][1]
        bars = axis.barh(papers, width, left=left, color=face, edgecolor="black", hatch=HATCH[name], label=name)
        plate = dict(facecolor="white", edgecolor="none", pad=1)
        axis.bar_label(bars, [str(n) if n else "" for n in width], label_type="center", fontsize=8, bbox=plate)
        left += width
    axis.invert_yaxis()
    axis.grid(axis="y", visible=False)
    axis.set(xlabel="claims")
    axis.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=len(VERDICTS))
    return figure
