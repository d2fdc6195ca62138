"""What every notebook in notebooks/ keeps to, checked on the file alone: nothing is executed here.

The rules are those that make one file serve three readers: a person in JupyterLab, papermill with other
parameters, and nbval, which compares the outputs of the cells marked with CHECKED and of no other.
"""

import ast
import re
from collections.abc import Iterator

from nbformat import NotebookNode

HEADER_LABELS = ("Purpose", "Paper", "Inputs", "Outputs", "Time")
MAX_CELLS = 40
MAX_LINES = 15
CHECKED = "# NBVAL_CHECK_OUTPUT"
# An absolute path into somebody's disk; also after the two characters \n of a string inside JSON.
MACHINE_PATH = re.compile(
    r"(?:(?<=\\n)|(?<![\w./+-]))"
    r"(?:/(?:home|root|Users|tmp|work|mnt|opt|private|scratch)/|[A-Z]:\\\\?Users)\S*"
)


def is_checked(cell: NotebookNode) -> bool:
    """Whether nbval compares the outputs of this code cell."""
    return any(line.strip() == CHECKED for line in cell.source.splitlines())


def violations(notebook: NotebookNode) -> list[str]:
    """One sentence for each rule that `notebook` breaks; an empty list means that it keeps them all."""
    code = [(i, cell) for i, cell in enumerate(notebook.cells) if cell.cell_type == "code"]
    trees = {}
    found = []
    for i, cell in code:
        try:
            trees[i] = ast.parse(cell.source)
        except SyntaxError:
            found.append(f"cell {i} is not plain Python")
    if not any(is_checked(cell) for _, cell in code):
        found.append(f"no cell is marked {CHECKED}, so the test would compare nothing")
    found += [*_form(notebook, code), *_header(notebook), *_parameters(notebook, trees)]
    for i, tree in trees.items():
        found += _branches(i, tree)
    for i, cell in code:
        found += _outputs(i, cell)
    return [*found, *_completion(code, trees), *_paths(notebook)]


def _form(notebook, code) -> Iterator[str]:
    if notebook.metadata.get("kernelspec", {}).get("name") != "python3":
        yield "the kernel is not python3"
    if extra := set(notebook.metadata) - {"kernelspec", "language_info"}:
        yield f"notebook metadata {sorted(extra)} is not needed"
    if len(notebook.cells) > MAX_CELLS:
        yield f"{len(notebook.cells)} cells are more than {MAX_CELLS}"
    for i, cell in code:
        if (lines := len(cell.source.splitlines())) > MAX_LINES:
            yield f"cell {i} has {lines} lines, more than {MAX_LINES}"
        if cell.source.rstrip().endswith(";"):
            yield f"cell {i} ends in a semicolon, which nbval does not hide behind: write `_ = …`"


def _header(notebook) -> Iterator[str]:
    header = notebook.cells[0] if notebook.cells else None
    if header is None or header.cell_type != "markdown" or not header.source.startswith("# "):
        yield "the first cell is not markdown with a title"
        return
    for label in HEADER_LABELS:
        if not re.search(rf"\*\*{label}\b[^*\n]*\*\*", header.source):
            yield f"the header has no **{label}**"


def _parameters(notebook, trees) -> Iterator[str]:
    tagged = [i for i, cell in enumerate(notebook.cells) if "parameters" in cell.metadata.get("tags", ())]
    if len(tagged) != 1 or tagged[0] not in trees:
        yield f"{len(tagged)} cells are tagged parameters; it must be one code cell"
        return
    values = {}
    for statement in trees[tagged[0]].body:
        try:
            [target] = statement.targets
            values[target.id] = ast.literal_eval(statement.value)
        except (AttributeError, ValueError):
            yield f"the parameters cell holds {ast.unparse(statement)!r}, which is not `name = literal`"
    if missing := {"profile", "root"} - set(values):
        yield f"the parameters cell does not set {sorted(missing)}"
    elif values["profile"] != "smoke":
        yield "the parameter profile is not 'smoke', which the tests run"
    following = [i for i in trees if i > tagged[0]][:1]
    if not following or not _opens_study(trees[following[0]]):
        yield "the cell after the parameters does not resolve them with study.open(profile, root=root, …)"


def _opens_study(tree: ast.AST) -> bool:
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    opened = [call for call in calls if isinstance(call.func, ast.Attribute) and call.func.attr == "open"]
    return any({"profile", "root"} <= _names(call) for call in opened)


def _names(tree: ast.AST) -> set[str]:
    """Names and attributes that are read in `tree`."""
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    return names | {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}


def _branches(i: int, tree: ast.AST) -> Iterator[str]:
    """A profile changes parameters, never the way through a notebook."""
    for node in ast.walk(tree):
        conditions = []
        match node:
            case ast.If() | ast.IfExp() | ast.While():
                conditions = [node.test]
            case ast.Match():
                conditions = [node.subject]
            case ast.Subscript():
                conditions = [node.slice]
            case ast.comprehension():
                conditions = node.ifs
        if any({"profile", "smoke"} & _names(condition) for condition in conditions):
            yield f"cell {i} chooses by the profile: {ast.unparse(node).splitlines()[0]!r}"


def _outputs(i: int, cell: NotebookNode) -> Iterator[str]:
    if not is_checked(cell):
        if cell.outputs or cell.execution_count is not None:
            yield f"cell {i} keeps outputs although it is not checked: run tests.notebooks.strip"
        return
    if not cell.outputs or cell.execution_count is None:
        yield f"cell {i} is checked but has no output to compare: run it, then tests.notebooks.strip"
    for output in cell.outputs:
        if set(output.get("data", {"text/plain": ""})) != {"text/plain"} or output.get("name") == "stderr":
            yield f"cell {i} is checked, but its output is not text alone: print it"
        elif output.output_type == "error":
            yield f"cell {i} keeps an error as its output"
        elif re.search(r"\bat 0x[0-9a-f]+", _text(output)):
            yield f"cell {i} is checked, but its output holds an object's address"


def _text(output: NotebookNode) -> str:
    """All text of an output."""
    return "\n".join([output.get("text", ""), *map(str, output.get("data", {}).values())])


def _completion(code, trees) -> Iterator[str]:
    tagged = [i for i, cell in code if "completion" in cell.metadata.get("tags", ())]
    if not code or tagged != [code[-1][0]]:
        yield "the last code cell, and no other, must be tagged completion"
    elif "study.complete()" not in map(ast.unparse, ast.walk(trees.get(tagged[0], ast.Module([], [])))):
        yield "the completion cell does not call study.complete()"


def _paths(notebook) -> Iterator[str]:
    for i, cell in enumerate(notebook.cells):
        for text in [cell.source, *map(_text, cell.get("outputs", ()))]:
            if found := MACHINE_PATH.search(text):
                yield f"cell {i} holds a path of one machine: {found[0]!r}"
