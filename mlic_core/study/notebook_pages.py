"""Executed notebooks for the report: what each of them saved, where, and its cells as HTML."""

import ast
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

import nbformat
from bs4 import BeautifulSoup

from mlic_core.errors import InputError

SAVERS = {"save_figure": "figures", "save_table": "tables"}


class Place(NamedTuple):
    """Where an entry of the manifest was saved: numbers of the notebook, its cell and the line in it."""

    notebook: int
    cell: int
    line: int


@dataclass(frozen=True)
class Executed:
    """An executed notebook: its file's name without the ending, and its content."""

    name: str
    content: nbformat.NotebookNode

    @property
    def title(self) -> str:
        """Its first heading, or its name."""
        found = [heading for cell in self.content.cells for heading in _headings(cell, "#")]
        return found[0] if found else self.name

    def section(self, cell: int) -> str:
        """The last heading below the title that stands before a cell, or ""."""
        found = [heading for before in self.content.cells[:cell] for heading in _headings(before, "#{2,6}")]
        return found[-1] if found else ""


def _headings(cell: nbformat.NotebookNode, marks: str) -> list[str]:
    if cell.cell_type != "markdown":
        return []
    return [re.sub(r"[*`]", "", heading) for heading in re.findall(rf"(?m)^{marks} +(.+?)\s*$", cell.source)]


def read_notebooks(folder: Path) -> list[Executed]:
    """The executed notebooks of a profile by name. Raises InputError for a file that is no notebook."""
    found = []
    for path in sorted(folder.glob("*.ipynb")):
        try:
            content = nbformat.read(path, as_version=4)
            nbformat.validate(content)
            found.append(Executed(path.stem, content))
        except Exception as error:  # nbformat raises a dozen kinds for JSON of another kind
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise InputError(f"{path} is not a notebook ({reason}); run it again: `mlic reproduce`") from error
    return found


class Saver(NamedTuple):
    """A call that saves figures or tables: `names` is a pattern, `rank` 0 where it is one literal name."""

    rank: int
    place: Place
    kind: str
    names: str


def find_places(notebooks: Sequence[Executed], entries: Iterable[str]) -> dict[str, Place]:
    """Where each entry, such as "tables/main", was saved, by the calls of save_figure and save_table.

    A literal name goes before an f-string that fits, and that before a call with a name from elsewhere, which may be
    any string of the same notebook. Entries that no call fits are left out.
    """
    savers = sorted(saver for number, notebook in enumerate(notebooks) for saver in _savers(number, notebook))
    places = {}
    for entry in entries:
        kind, name = entry.split("/")
        fitting = (saver.place for saver in savers if saver.kind == kind and re.fullmatch(saver.names, name))
        if place := next(fitting, None):
            places[entry] = place
    return places


def _savers(number: int, notebook: Executed) -> Iterator[Saver]:
    trees = dict(_trees(notebook))
    strings = {
        node.value
        for tree in trees.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    for cell, tree in trees.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and (kind := SAVERS.get(getattr(node.func, "attr", ""))):
                given = [*node.args[1:2], *(word.value for word in node.keywords if word.arg == "name")]
                for rank, names in (_pattern(name, strings) for name in given):
                    yield Saver(rank, Place(number, cell, node.lineno), kind, names)


def _pattern(name: ast.expr, strings: Iterable[str]) -> tuple[int, str]:
    """Rank and pattern of the names that a call's argument may stand for."""
    if isinstance(name, ast.Constant):
        return 0, re.escape(str(name.value))
    if isinstance(name, ast.JoinedStr):
        parts = (re.escape(part.value) if isinstance(part, ast.Constant) else ".+" for part in name.values)
        return 1, "".join(parts)
    return 2, "|".join(map(re.escape, sorted(strings)))


def _trees(notebook: Executed) -> Iterator[tuple[int, ast.Module]]:
    for number, cell in enumerate(notebook.content.cells):
        if cell.cell_type == "code":
            try:
                yield number, ast.parse(cell.source)
            except SyntaxError:  # a magic command
                continue


def to_html(notebook: Executed, alternatives: Mapping[int, Sequence[str]]) -> str:
    """The cells of a notebook as HTML without scripts, for the body of a page.

    alternatives: by cell, what its figures show, in order. A cell's `id` is `cell-id=ID`, as nbconvert makes it.
    """
    content = nbformat.from_dict(notebook.content)
    for number, cell in enumerate(content.cells):
        _describe_figures(cell, alternatives.get(number, ()))
    return _readable(_exporter().from_notebook_node(content)[0])


@cache
def _exporter():
    from nbconvert import HTMLExporter

    from mlic_core.study.formulas import markdown_to_html

    exporter = HTMLExporter(template_name="basic", exclude_input_prompt=True, exclude_output_prompt=True)
    exporter.register_filter("markdown2html", markdown_to_html)
    exporter.register_filter("clean_html", lambda html: html)  # slow, and Pygments escapes code
    return exporter


def _describe_figures(cell: nbformat.NotebookNode, texts: Sequence[str]) -> None:
    figures = [output for output in cell.get("outputs", []) if "image/png" in output.get("data", {})]
    for number, output in enumerate(figures):
        text = texts[number] if number < len(texts) else "Figure drawn by the code above"
        output.metadata["image/png"] = {"alt": text}


def _readable(html: str) -> str:
    """Without what runs or leads nowhere; tables with scope, and in a frame that scrolls by itself, like code."""
    soup = BeautifulSoup(html, "html.parser")
    for tag in soup(["script", "style", "iframe"]):
        tag.decompose()
    for tag in soup(True):
        for event in [name for name in tag.attrs if name.startswith("on")]:
            del tag[event]
    for link in soup("a", href=True):
        if not re.match(r"https?:|#", link["href"]):
            link.unwrap()  # a file of the repository, which need not lie near a copy of the report
    for head in soup("th"):
        head["scope"] = "col" if head.find_parent("thead") else "row"
        if not head.get_text(strip=True):
            head.name = "td"
            del head["scope"]
    for number, table in enumerate(soup("table"), start=1):
        del table["border"]
        frame = {"class": "scroll", "role": "region", "aria-label": f"Table {number}", "tabindex": "0"}
        table.wrap(soup.new_tag("div", attrs=frame))
    for code in soup("pre"):
        code["tabindex"] = "0"  # may be wider than the page: keys must reach it to scroll
    return str(soup)
