"""Formulas of notebooks as drawings in the page: no script, no font and no network is needed to read them."""

import re
from functools import cache
from html import escape

from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

EM = 1000  # units of a drawing; whole numbers of them are finer than any screen
COMMANDS = {1: "M", 2: "L", 3: "Q", 4: "C", 79: "Z"}  # matplotlib.path.Path's codes in SVG's letters
POINTS = {"M": 1, "L": 1, "Q": 2, "C": 3, "Z": 1}  # the point of a Z says nothing


def _two_rows(matrix: re.Match) -> str:
    """A matrix of two rows, for which mathtext has no word: a fraction without a bar for each column."""
    above, below = (row.split("&") for row in matrix.groups())
    columns = (rf"\genfrac{{}}{{}}{{0}}{{0}}{{{one}}}{{{other}}}" for one, other in zip(above, below, strict=True))
    return r"\left(" + r"\;\;".join(columns) + r"\right)"


# TeX that matplotlib's mathtext does not read, in words that it does.
SPELLINGS = (
    (r"\\begin{pmatrix}(.+?)\\\\(.+?)\\end{pmatrix}", _two_rows),
    (r"\\(mathcal|mathbf|mathbb|mathrm)\s+(\\[A-Za-z]+|\w)", r"\\\1{\2}"),
    (r"\\tfrac\s*(\d)(\d)", r"\\frac{\1}{\2}"),
    (r"\\([lr])vert(?![A-Za-z])", "|"),
    (r"\\([lr])Vert(?![A-Za-z])", r"\\Vert "),
    (r"\\([lg])e(?![A-Za-z])", r"\\\1eq"),
    (r"\\([a-z]+)\\nolimits\s*", r"\\mathrm{\1}"),
)


class Drawn(IPythonRenderer):
    """Markdown to HTML with formulas as SVG drawings, or as TeX where they can't be drawn."""

    def inline_math(self, body: str) -> str:
        return formula(body)

    def block_math(self, body: str) -> str:
        large = formula(body.replace(r"\frac", r"\dfrac"))
        return f'<span class="display" role="group" aria-label="Formula" tabindex="0">{large}</span>'


def markdown_to_html(source: str) -> str:
    """Markdown with formulas between dollars as HTML."""
    return MarkdownWithMath(renderer=Drawn(escape=False, exclude_anchor_links=True)).render(source)


def formula(tex: str) -> str:
    """A formula as inline SVG in the colour and size of the text around it; its TeX is what a screen reader says.

    A formula that matplotlib's mathtext can't set, such as a matrix of three rows, stays TeX in a `code` element.
    """
    tex = " ".join(tex.split())
    drawn = _outline(tex)
    if drawn is None:
        return f'<code class="tex">{escape(tex)}</code>'
    path, left, bottom, width, height = drawn
    return (
        f'<svg class="formula" role="img" aria-label="{escape(tex)}" '
        f'style="width:{width / EM:.2f}em;height:{height / EM:.2f}em;vertical-align:{bottom / EM:.2f}em" '
        f'viewBox="{left} {-bottom - height} {width} {height}"><path d="{path}"/></svg>'
    )


@cache
def _outline(tex: str) -> tuple[str, int, int, int, int] | None:
    """Outline as SVG path data with y downwards; left, bottom, width and height in units, y upwards."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextPath

    try:
        for pattern, spelling in SPELLINGS:
            tex = re.sub(pattern, spelling, tex)
        outline = TextPath((0, 0), f"${tex}$", size=EM, prop=FontProperties(math_fontfamily="stix"))
    except ValueError:
        return None
    (left, bottom), (right, top) = outline.get_extents().get_points().round().astype(int).tolist()
    return (
        _path_data(outline.vertices.round().astype(int).tolist(), outline.codes),
        left,
        bottom,
        right - left,
        top - bottom,
    )


def _path_data(vertices: list[list[int]], codes) -> str:
    parts, at = [], 0
    while at < len(codes):
        command = COMMANDS[int(codes[at])]
        points = vertices[at : at + POINTS[command]]
        parts.append(command if command == "Z" else command + " ".join(f"{x} {-y}" for x, y in points))
        at += POINTS[command]
    return "".join(parts)
