"""Drawings of Lyu et al.'s method, after their Fig. 1 and 2."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch, Polygon, Rectangle
from matplotlib.path import Path

from mlic_core.plots import new_figure, styled

SMALL = 7.5  # points: words
SYMBOL = 10.0  # points: letters whose indices, 0.7 times as high, still have to be read
LOOKS = {
    "trunk": dict(facecolor="#F2F2F2", edgecolor="#5A5A5A"),
    "attention": dict(facecolor="#DDEBF7", edgecolor="#0072B2"),
    "memory": dict(facecolor="#E2F0D9", edgecolor="#009E73"),
    "answer": dict(facecolor="#FBE3D6", edgecolor="#D55E00"),
}
OVERVIEW = [[2, 3, 3, 2], [3, 6, 6, 4], [3, 6, 7, 4], [2, 3, 4, 2]]  # weights in the drawing, of 9
FOCI = {  # and in its steps
    "1": [[0, 0, 0, 0], [1, 1, 0, 0], [4, 9, 1, 0], [3, 7, 1, 0]],
    "2": [[0, 1, 3, 2], [0, 1, 9, 5], [0, 0, 2, 1], [0, 0, 0, 0]],
    "T": [[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 1, 2], [0, 1, 4, 9]],
}


def _canvas(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure with one axis over all of it, whose units are inches."""
    figure, axes = new_figure(size=(width, height))
    figure.set_layout_engine("none")
    axis = axes[0, 0]
    axis.set_position((0, 0, 1, 1))
    axis.set(xlim=(0, width), ylim=(0, height))
    axis.set_axis_off()
    return figure, axis


def _text(axis: Axes, x: float, y: float, text: str, *, size: float = SMALL, ha: str = "center", **options) -> None:
    axis.text(x, y, text, fontsize=size, ha=ha, va="center", **options)


def _box(
    axis: Axes, centre: tuple[float, float], sides: tuple[float, float], look: str, text: str = "", size: float = SMALL
) -> None:
    """A rounded box of `sides` (width, height), with its text in the middle."""
    (x, y), (width, height) = centre, sides
    rounded = "round,pad=0,rounding_size=0.05"
    corner = (x - width / 2, y - height / 2)
    axis.add_patch(FancyBboxPatch(corner, width, height, boxstyle=rounded, linewidth=1.1, zorder=2, **LOOKS[look]))
    if text:
        _text(axis, x, y, text, size=size)


def _arrow(axis: Axes, *points: tuple[float, float], head: bool = True) -> None:
    """A line through the points, with a head at the last."""
    style = "-|>,head_width=2.2,head_length=4" if head else "-"
    line = dict(color="#303030", linewidth=0.9, capstyle="butt", joinstyle="miter", shrinkA=0, shrinkB=0, zorder=3)
    axis.add_patch(FancyArrowPatch(path=Path(points), arrowstyle=style, mutation_scale=1, **line))


def _cells(axis: Axes, centre: tuple[float, float], side: float, weights: Sequence[Sequence[int]] = ()) -> None:
    """A square map of 4 x 4 cells, darker where the weights, 0 to 9, are higher; all alike without."""
    x0, y1, cell = centre[0] - side / 2, centre[1] + side / 2, side / 4
    for row in range(4):
        for column in range(4):
            grey = 1 - 0.085 * weights[row][column] if len(weights) else 0.93
            corner = (x0 + column * cell, y1 - (row + 1) * cell)
            look = dict(facecolor=(grey,) * 3, edgecolor="#5A5A5A", linewidth=0.6, zorder=3)
            axis.add_patch(Rectangle(corner, cell, cell, **look))


def _scene(axis: Axes, centre: tuple[float, float], side: float) -> None:
    """A small picture with three things in it: a house, the sun and a ball."""
    x0, y0 = centre[0] - side / 2, centre[1] - side / 2

    def at(x: float, y: float) -> tuple[float, float]:
        return x0 + x * side, y0 + y * side

    def block(x: float, y: float, width: float, height: float, color: str) -> None:
        axis.add_patch(Rectangle(at(x, y), width * side, height * side, facecolor=color, zorder=2, linewidth=0))

    block(0.0, 0.0, 1.0, 1.0, "#CFE5F5")
    block(0.0, 0.0, 1.0, 0.24, "#B9D9B0")
    block(0.12, 0.14, 0.36, 0.32, "#E9C9A8")
    block(0.25, 0.14, 0.1, 0.19, "#7A4A21")
    roof = [at(0.06, 0.46), at(0.54, 0.46), at(0.3, 0.68)]
    axis.add_patch(Polygon(roof, facecolor="#D55E00", zorder=2, linewidth=0))
    axis.add_patch(Circle(at(0.7, 0.76), 0.12 * side, facecolor="#E69F00", zorder=2, linewidth=0))
    axis.add_patch(Circle(at(0.84, 0.16), 0.1 * side, facecolor="#0072B2", zorder=2, linewidth=0))
    axis.add_patch(Rectangle(at(0.0, 0.0), side, side, fill=False, edgecolor="#5A5A5A", linewidth=1.1, zorder=3))


@styled
def schematic() -> Figure:
    """The method as one drawing, the paper's Fig. 1 in our own form: what runs once an image, and what each of T steps.

    The darker a cell of a small map, the higher its weight; these weights are made up.
    """
    figure, axis = _canvas(7.0, 3.95)
    bus, look, memory, answer, last = 3.3, 2.62, 1.62, 0.98, 0.3  # heights of the rows
    glance, steps, more = 2.2, {"1": 3.5, "2": 4.74, "T": 6.4}, 5.31  # centres of the columns, and of the dots
    _scene(axis, (0.55, bus), 0.86)
    _text(axis, 0.55, bus + 0.53, "image")
    _box(axis, (1.37, bus), (0.46, 0.5), "trunk", "trunk")
    _cells(axis, (glance, bus), 0.62)
    _text(axis, glance, bus + 0.44, "map of $L$ cells")
    _arrow(axis, (0.98, bus), (1.14, bus))
    _arrow(axis, (1.6, bus), (glance - 0.31, bus))
    _arrow(axis, (glance + 0.31, bus), (steps["T"], bus), (steps["T"], look + 0.25))
    for name in "12":
        _arrow(axis, (steps[name], bus), (steps[name], look + 0.25))
    _text(axis, 2.85, bus + 0.12, "$a_1$ … $a_L$", size=SYMBOL)
    _arrow(axis, (glance, bus - 0.31), (glance, look + 0.25))
    _attention(axis, (glance, look), "global\nattention", OVERVIEW)
    _arrow(axis, (glance, look - 0.25), (glance, memory + 0.2))
    _text(axis, glance + 0.06, (look + memory) / 2, r"$\hat{z}$", ha="left", size=SYMBOL)
    _box(axis, (glance, memory), (0.7, 0.4), "memory")
    _text(axis, glance, memory + 0.09, "start")
    _text(axis, glance, memory - 0.09, "$I_c$, $I_h$", size=SYMBOL)
    before = glance + 0.35
    for name, x in steps.items():
        state = {"1": "0", "2": "1", "T": "{T-1}"}[name]
        _text(axis, x, bus + 0.14, f"$t = {name}$", size=SYMBOL)
        _attention(axis, (x, look), "local\nattention", FOCI[name])
        _arrow(axis, (x, look - 0.25), (x, memory + 0.2))
        _text(axis, x + 0.06, (look + memory) / 2, f"$z_{name}$", ha="left", size=SYMBOL)
        _box(axis, (x, memory), (0.62, 0.4), "memory", "LSTM")
        turn = x - 0.62
        if name == "T":
            _arrow(axis, (before, memory), (more - 0.1, memory), head=False)
            before = more + 0.1
        _arrow(axis, (before, memory), (x - 0.31, memory))
        axis.plot(turn, memory, marker="o", markersize=2.6, color="#303030", linestyle="none", zorder=4)
        _arrow(axis, (turn, memory), (turn, look), (x - 0.52, look))
        _text(axis, turn - 0.05, (look + memory) / 2, f"$h_{state}$", ha="right", size=SYMBOL)
        _text(axis, x - (0.73 if name == "T" else 0.61), memory - 0.15, f"$c_{state}$, $h_{state}$", size=SYMBOL)
        _arrow(axis, (x, memory - 0.2), (x, answer + 0.16))
        _box(axis, (x, answer), (0.34, 0.32), "answer", f"$p_{name}$", SYMBOL)
        _arrow(axis, (x, answer - 0.16), (x, last + 0.17))
        before = x + 0.31
    starts = {"1": steps["1"] - 0.82, "2": steps["1"] + 0.17, "T": more + 0.1}
    inputs = {"1": "y_1 = 0", "2": "y_2 = p_1", "T": "y_T = p_{T-1}"}
    for name, start in starts.items():
        turn = steps[name] - 0.25
        _arrow(axis, (start, answer), (turn, answer), (turn, memory - 0.2))
        _text(axis, (start + turn) / 2, answer - 0.12, f"${inputs[name]}$", size=SYMBOL)
    _arrow(axis, (steps["2"] + 0.17, answer), (more - 0.1, answer), head=False)
    for y in (memory, answer, last + 0.3):
        _text(axis, more, y, "…", size=SYMBOL)
    left, right = steps["1"] - 0.35, steps["T"] + 0.35
    text = "$p$: the highest of the $T$ steps, class by class (Eq. 12)"
    _box(axis, ((left + right) / 2, last), (right - left, 0.34), "answer", text)
    for y, kind, text in (
        (1.95, "attention", "attention: weights of\nthe cells (Eq. 1, 4)"),
        (1.47, "memory", "LSTM and its start\n(Eq. 3, 6–11)"),
        (0.99, "answer", "probabilities of\nall classes"),
    ):
        _box(axis, (0.28, y), (0.26, 0.18), kind)
        _text(axis, 0.48, y, text, ha="left")
    return figure


def _attention(axis: Axes, centre: tuple[float, float], text: str, weights: Sequence[Sequence[int]]) -> None:
    _box(axis, centre, (1.04, 0.5), "attention")
    _cells(axis, (centre[0] - 0.29, centre[1]), 0.36, weights)
    _text(axis, centre[0] + 0.21, centre[1], text)


@styled
def attention_schematic() -> Figure:
    """The two attentions (the paper's Fig. 2): both weigh the cells, but only (b) knows what the LSTM has seen."""
    figure, axis = _canvas(7.0, 3.9)
    scores = {  # of a cell
        r"(a) global attention, once an image": (r"\tanh(W_g a_{0} + b_g)", r"\hat{{\alpha}}_{0}", r"\hat{z}", 2.74),
        r"(b) local attention, in each step $t$": (r"g(a_{0}, h_{{t-1}})", r"\beta_{{t{0}}}", "z_t", 0.98),
    }
    for title, (score, weight, context, middle) in scores.items():
        _text(axis, 0.1, middle + 0.98, title, ha="left", size=9.0)
        lanes = {"1": middle + 0.42, "2": middle + 0.13, "L": middle - 0.44}
        _box(axis, (2.05, middle), (1.3, 1.2), "attention")
        _box(axis, (3.5, middle), (0.72, 1.2), "attention", "softmax\nover the\ncells")
        _box(axis, (5.25, middle), (1.0, 1.2), "memory")
        _text(axis, 5.25, middle + 0.16, "weighted sum")
        _text(axis, 5.25, middle - 0.08, rf"$\Sigma_i\, {weight.format('i')}\, a_i$", size=SYMBOL)
        _box(axis, (6.5, middle), (0.4, 0.36), "memory", f"${context}$", SYMBOL)
        for name, y in lanes.items():
            _box(axis, (0.5, y), (0.4, 0.22), "trunk", f"$a_{name}$", SYMBOL)
            _arrow(axis, (0.7, y), (1.4, y))
            _text(axis, 2.05, y, f"${score.format(name)}$", size=SYMBOL)
            _arrow(axis, (2.7, y), (3.14, y))
            _arrow(axis, (3.86, y), (4.75, y))
            _text(axis, 4.28, y + 0.11, f"${weight.format(name)}$", size=SYMBOL)
        for x in (0.5, 2.05, 4.28):
            _text(axis, x, middle - 0.11, "⋮", size=SYMBOL)
        _arrow(axis, (0.5, middle + 0.54), (0.5, middle + 0.75), (5.25, middle + 0.75), (5.25, middle + 0.6))
        _text(axis, 4.28, middle + 0.84, "the cells themselves")
        _arrow(axis, (5.75, middle), (6.3, middle))
    _box(axis, (2.05, 0.14), (0.5, 0.22), "memory", "$h_{t-1}$", SYMBOL)
    _arrow(axis, (2.05, 0.25), (2.05, 0.38))
    return figure
