"""MCAR's own figures (Gao & Zhou, IEEE TIP 2021): from global scores to regions, and what came of them."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator
from PIL.Image import Image

from mlic_core.plots import HATCHES, Boxes, draw_boxes, new_figure, show_image, show_map, styled

PRESENT = "\N{CHECK MARK}"
BAND = "C5"  # fill of an interval


def name_classes(classes: Sequence[int], labels: Sequence[str], present: npt.ArrayLike) -> list[str]:
    """Names of classes by index, with a check mark where `present` (C,) is 1."""
    return [f"{labels[c]} {PRESENT}" if np.asarray(present)[c] == 1 else labels[c] for c in classes]


@styled
def global_scores(image: npt.ArrayLike | Image, scores: npt.ArrayLike, names: Sequence[str], chosen: int) -> Figure:
    """An image beside its best scores in [0, 1], falling; the first `chosen`, which give regions, are full bars."""
    figure, axes = new_figure(1, 2, size=(5.8, 2.5))
    show_image(axes[0, 0], image)
    axis, place = axes[0, 1], np.arange(len(names))
    looks = ((place < chosen, "", 1.0, "gives a region"), (place >= chosen, "///", 0.45, "does not"))
    for part, hatch, alpha, label in looks:
        widths = np.asarray(scores)[part]
        axis.barh(place[part], widths, color="C0", hatch=hatch, alpha=alpha, edgecolor="white", label=label)
    axis.set_yticks(place, names)
    axis.invert_yaxis()
    axis.grid(axis="y", visible=False)
    axis.set(xlim=(0, 1), xlabel="global score (probability)")
    axis.legend(loc="lower right")
    return figure


@styled
def class_maps(
    image: npt.ArrayLike | Image, raw: npt.ArrayLike, probabilities: npt.ArrayLike, names: Sequence[str]
) -> Figure:
    """Class maps (N, h, w) before the sigmoid, cell by cell, and after it, enlarged over the image."""
    raw = np.asarray(raw)
    figure, axes = new_figure(2, len(names), size=(1.75 * len(names) + 0.7, 3.9))
    limit = np.abs(raw).max()
    for axis, values, name in zip(axes[0], raw, names, strict=True):
        cells = axis.imshow(values, cmap="PuOr_r", vmin=-limit, vmax=limit)
        axis.set_title(name)
        axis.set_axis_off()
    for axis, values in zip(axes[1], np.asarray(probabilities), strict=True):
        show_image(axis, image)
        show_map(axis, values, vmax=1.0)
    figure.colorbar(cells, ax=axes[0].tolist(), label="F (logit)")
    figure.colorbar(axes[1, 0].images[-1], ax=axes[1].tolist(), label="σ(F)")
    return figure


@styled
def localization(
    image: npt.ArrayLike | Image,
    maps: npt.ArrayLike,
    across: npt.ArrayLike,
    down: npt.ArrayLike,
    boxes: npt.ArrayLike,
    tau: float,
    names: Sequence[str],
) -> Figure:
    """For each class map (N, h, w) its two normalised profiles, the threshold, the intervals and the box they make.

    across (N, width), down (N, height): profiles in [0, 1]. boxes (N, 4): x0, y0, x1, y1 in pixels.
    """
    figure, _ = new_figure(1, 1, size=(2.1 * len(names), 2.4))
    figure.clear()
    for part, values, p_x, p_y, box, name in zip(
        figure.subfigures(1, len(names), squeeze=False)[0], maps, across, down, boxes, names, strict=True
    ):
        axes = part.subplots(2, 2, width_ratios=(3, 1), height_ratios=(1, 3))
        height, width = np.asarray(image).shape[:2]
        show_image(axes[1, 0], image)
        show_map(axes[1, 0], values, vmax=1.0)
        draw_boxes(axes[1, 0], Boxes([np.asarray(box) / (width, height, width, height)], [""]), ["white"])
        axes[1, 0].set_aspect("auto")  # to the width and height of the profiles
        axes[0, 1].set_axis_off()
        _profile(axes[0, 0], p_x, box[0], box[2], tau)
        _profile(axes[1, 1], p_y, box[1], box[3], tau, upright=True)
        axes[0, 0].set_title(name)
        for axis in (axes[0, 0], axes[1, 1]):
            axis.tick_params(labelbottom=False, labelleft=False, length=0)
    return figure


def _profile(axis: Axes, profile: npt.ArrayLike, start: int, end: int, tau: float, *, upright: bool = False) -> None:
    """A profile over pixels, its threshold and its half-open interval; upright: pixels run down the page."""
    place = np.arange(len(profile)) + 0.5
    if upright:
        axis.plot(profile, place, color="black", linestyle="-", marker="")
        axis.axvline(tau, color="C1", linestyle="--", linewidth=1)
        axis.axhspan(start, end, color=BAND, alpha=0.35, linewidth=0)
        axis.set(ylim=(len(profile), 0), xlim=(0, 1.05))
    else:
        axis.plot(place, profile, color="black", linestyle="-", marker="")
        axis.axhline(tau, color="C1", linestyle="--", linewidth=1)
        axis.axvspan(start, end, color=BAND, alpha=0.35, linewidth=0)
        axis.set(xlim=(0, len(profile)), ylim=(0, 1.05))
    axis.grid(False)


@styled
def profile_cases(
    profiles: Sequence[npt.ArrayLike], intervals: Sequence[tuple[int, int]], tau: float, titles: Sequence[str]
) -> Figure:
    """Normalised profiles side by side with threshold and chosen half-open interval (the paper's Fig. 3)."""
    figure, axes = new_figure(1, len(titles), size=(1.9 * len(titles), 1.9))
    for axis, profile, (start, end), title in zip(axes[0], profiles, intervals, titles, strict=True):
        _profile(axis, profile, start, end, tau)
        axis.set(title=title, xlabel="position (pixels)")
    axes[0, 0].set_ylabel("p after min-max")
    return figure


@styled
def crops_and_scores(
    image: npt.ArrayLike | Image,
    boxes: npt.ArrayLike,
    crops: Sequence[npt.ArrayLike],
    proposers: Sequence[str],
    answers: Sequence[str],
    scores: Mapping[str, npt.ArrayLike],
    names: Sequence[str],
) -> Figure:
    """The boxes on the image, each region as the network sees it, and below them the scores in [0, 1] by class.

    boxes (N, 4) in [0, 1], with the class that proposed each and the network's answer to its crop.
    scores: name -> one value for each of `names`.
    """
    figure, _ = new_figure(1, 1, size=(1.55 * (len(crops) + 1), 4.0))
    figure.clear()
    above, below = figure.subfigures(2, 1, height_ratios=(1.15, 1))
    axes = above.subplots(1, len(crops) + 1)
    show_image(axes[0], image)
    numbers = [str(i + 1) for i in range(len(crops))]
    draw_boxes(axes[0], Boxes(boxes, numbers))
    for axis, crop, number, proposer, answer in zip(axes[1:], crops, numbers, proposers, answers, strict=True):
        show_image(axis, crop, f"{number}  from {proposer}\n→ {answer}")
    axis, width = below.subplots(), 0.8 / len(scores)
    for i, (name, values) in enumerate(scores.items()):
        place = np.arange(len(names)) + (i - (len(scores) - 1) / 2) * width
        axis.bar(place, values, width, label=name, hatch=HATCHES[i], edgecolor="white", linewidth=0.5)
    axis.set_xticks(range(len(names)), names)
    axis.grid(axis="x", visible=False)
    axis.set(ylim=(0, 1.02), ylabel="score (probability)")
    axis.legend(ncols=len(scores), loc="lower right", bbox_to_anchor=(1, 1))
    return figure


def gallery_boxes(
    regions: npt.ArrayLike,
    region_labels: npt.ArrayLike,
    global_scores: npt.ArrayLike,
    fused_scores: npt.ArrayLike,
    targets: npt.ArrayLike,
    labels: Sequence[str],
    *,
    least_global: float = 0.1,
    least_fused: float = 0.6,
) -> Boxes:
    """One image's regions as the paper's Fig. 6 shows them, with "class: global/two-stream" on each.

    regions (N, 4) in [0, 1] with the class (N,) that proposed each; scores in [0, 1] and targets (C,). Only regions
    whose class has a global score above `least_global` and a two-stream score above `least_fused`; dashed where the
    class is absent.
    """
    first, fused = np.asarray(global_scores), np.asarray(fused_scores)
    passing = (first > least_global) & (fused > least_fused)
    shown = [(box, c) for box, c in zip(regions, region_labels, strict=True) if passing[c]]
    texts = [f"{labels[c]}: {first[c]:.2f}/{fused[c]:.2f}" for _, c in shown]
    return Boxes([box for box, _ in shown], texts, [bool(np.asarray(targets)[c] == 0) for _, c in shown])


@styled
def sweeps(
    panels: Mapping[str, tuple[npt.ArrayLike, Mapping[str, npt.ArrayLike]]],
    marks: Mapping[str, float | int],
    *,
    mark: str = "trained",
    logarithmic: Sequence[str] = (),
) -> Figure:
    """mAP against an option, one panel an option (the paper's Fig. 5); means over seeds, and their range as a band.

    panels: name of the option -> (its values, {name of a curve: mAP (seeds, values) in percent}). marks: a value of
    each option that stands out, by default that with which the model was trained; mark: what to write there.
    logarithmic: options whose values are spread that way.
    """
    figure, axes = new_figure(1, len(panels), size=(3.6 * len(panels), 2.9))
    for axis, (option, (x, curves)) in zip(axes[0], panels.items(), strict=True):
        for name, values in curves.items():
            values = np.atleast_2d(np.asarray(values, np.float64))
            (line,) = axis.plot(x, values.mean(0), label=name)
            axis.fill_between(x, values.min(0), values.max(0), color=line.get_color(), alpha=0.2, linewidth=0)
        axis.axvline(marks[option], color="black", linewidth=0.8, linestyle=":")
        corner = dict(xycoords=("data", "axes fraction"), textcoords="offset points")
        axis.annotate(mark, (marks[option], 0), (3, 3), fontsize=7, **corner)
        axis.set(xlabel=option, ylabel="mAP (%)", xscale="log" if option in logarithmic else "linear")
        axis.set_xticks(x, [f"{value:g}" for value in x], minor=False)
        axis.minorticks_off()
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=4)
    return figure


@styled
def cost_curves(panels: Mapping[str, Mapping[str, Sequence[tuple[float, Sequence[float], str]]]]) -> Figure:
    """mAP against what an image costs, one panel a data set; means over seeds, and their range as a whisker.

    panels: name of the panel -> {name of a curve: (millions of multiply-adds, mAP by seed in percent, text) of each of
    its points}.
    """
    figure, axes = new_figure(1, len(panels), size=(3.9 * len(panels), 3.1))
    for axis, (title, curves) in zip(axes[0], panels.items(), strict=True):
        for (name, points), marker in zip(curves.items(), "osD^vPX*", strict=False):
            cost, values, texts = zip(*sorted(points), strict=True)
            middle = np.array([np.mean(one) for one in values])
            reach = [middle - [min(one) for one in values], [max(one) for one in values] - middle]
            axis.errorbar(cost, middle, yerr=np.clip(reach, 0, None), label=name, marker=marker, capsize=2)
            for x, y, text in zip(cost, middle, texts, strict=True):
                axis.annotate(text, (x, y), (4, -9), textcoords="offset points", fontsize=7)
        axis.set(title=title, xlabel="million multiply-adds an image", ylabel="mAP (%)", xscale="log")
        axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.xaxis.set_major_formatter("{x:g}")
        axis.minorticks_off()
        axis.margins(x=0.15, y=0.1)
    handles = {label: one for axis in axes[0] for one, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=2)
    return figure


@styled
def class_gains(gains: npt.ArrayLike, labels: Sequence[str]) -> Figure:
    """Gain in AP points by class, largest on top: the mean over seeds as a bar, the range as a whisker.

    gains (seeds, classes); classes with a NaN are left out. Losses are hatched.
    """
    gains = np.atleast_2d(np.asarray(gains, np.float64))
    kept = np.flatnonzero(~np.isnan(gains).any(0))
    order = kept[np.argsort(gains[:, kept].mean(0), kind="stable")]
    middle = gains[:, order].mean(0)
    figure, axes = new_figure(size=(4.6, 0.19 * len(order) + 0.8))
    axis = axes[0, 0]
    for part, color, hatch in ((middle >= 0, "C2", ""), (middle < 0, "C1", "///")):
        axis.barh(np.flatnonzero(part), middle[part], color=color, hatch=hatch, edgecolor="white", linewidth=0.5)
    if len(gains) > 1:
        reach = [middle - gains[:, order].min(0), gains[:, order].max(0) - middle]
        whiskers = dict(fmt="none", ecolor="black", elinewidth=1, capsize=2)
        axis.errorbar(middle, range(len(order)), xerr=np.clip(reach, 0, None), **whiskers)
    axis.axvline(0, color="black", linewidth=0.8)
    axis.set_yticks(range(len(order)), [labels[i] for i in order])
    axis.grid(axis="y", visible=False)
    axis.set(xlabel="gain in AP (points)", ylim=(-0.6, len(order) - 0.4))
    return figure
