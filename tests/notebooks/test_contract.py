"""The notebooks keep the contract, and the checker of the contract sees each way of breaking it."""

import re
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from tests.notebooks.contract import violations
from tests.notebooks.strip import METADATA, main, strip

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))

HEADER = """# 05 MCAR
- **Purpose.** See regions found.
- **Paper sections.** MCAR III-B.
- **Inputs.** picto-voc.
- **Outputs.** One table.
- **Time.** 20 s with `smoke` on two cores."""


def good_notebook():
    """Keeps the contract. Cells: 0 header, 1 parameters, 2 open, 3 checked, 4 completion."""
    printed = new_output("stream", name="stdout", text="20 classes\n")
    cells = [
        new_markdown_cell(HEADER),
        new_code_cell('profile = "smoke"\nroot = ""\nresults = ""', metadata={"tags": ["parameters"]}),
        new_code_cell("import mlic_core.study\n\n"
                      "study = mlic_core.study.open(profile, root=root, results=results)"),
        new_code_cell('# NBVAL_CHECK_OUTPUT\nprint(20, "classes")', outputs=[printed], execution_count=3),
        new_code_cell("study.complete()", metadata={"tags": ["completion"]}),
    ]
    return new_notebook(cells=cells, metadata=METADATA)


def set_source(index, source):
    def change(notebook):
        notebook.cells[index].source = source
    return change


def add_source(index, source):
    def change(notebook):
        notebook.cells[index].source += "\n" + source
    return change


def add_cell(source, **kwargs):
    def change(notebook):
        notebook.cells.insert(3, new_code_cell(source, **kwargs))
    return change


def set_output(output):
    def change(notebook):
        notebook.cells[3].outputs = [output]
    return change


def set_tags(index, tags):
    def change(notebook):
        notebook.cells[index].metadata.tags = tags
    return change


def set_kernel(name):
    def change(notebook):
        notebook.metadata.kernelspec.name = name
    return change


def stamp(notebook):
    notebook.metadata.papermill = {"duration": 1.0}


def crowd(notebook):
    notebook.cells[3:3] = [new_markdown_cell("text") for _ in range(36)]


def uncheck(notebook):
    del notebook.cells[3]


# In two parts, since the project's own files are searched for such paths.
ADDRESS = "/" + "home/ada/VOCdevkit"
TABLE = new_output("display_data", data={"text/plain": "1", "text/html": "<b>1</b>"})
PICTURE = new_output("display_data", data={"image/png": "iVBORw0KGgo="})

BREAKAGES = {
    "header without a title": (set_source(0, HEADER[2:]), "first cell is not markdown with a title"),
    "header is code": (lambda notebook: notebook.cells.pop(0), "first cell is not markdown with a title"),
    "header without time": (set_source(0, HEADER.replace("**Time.**", "Time")), r"no \*\*Time\*\*"),
    "header without paper": (set_source(0, HEADER.replace("**Paper", "**Text")), r"no \*\*Paper\*\*"),
    "no parameters cell": (set_tags(1, []), "0 cells are tagged parameters"),
    "two parameters cells": (set_tags(2, ["parameters"]), "2 cells are tagged parameters"),
    "derived parameter": (add_source(1, "epochs = 2 * 3"), "epochs = 2 [*] 3"),
    "parameter from a call": (add_source(1, "folder = str(1)"), "which is not `name = literal`"),
    "import among parameters": (add_source(1, "import os"), "which is not `name = literal`"),
    "parameters without root": (set_source(1, 'profile = "smoke"'), r"does not set \['root'\]"),
    "default of a long profile": (set_source(1, 'profile = "study"\nroot = ""'), "profile is not 'smoke'"),
    "parameters never resolved": (set_source(2, "study = 1"), "does not resolve them"),
    "root not passed on": (set_source(2, "import m\nm.open(profile)"), "does not resolve them"),
    "other kernel": (set_kernel("conda-env-mlic-py"), "kernel is not python3"),
    "stamped by a runner": (stamp, "papermill"),
    "too many cells": (crowd, "41 cells are more than 40"),
    "too long a cell": (add_cell("\n".join(["x = 1"] * 16)), "16 lines, more than 15"),
    "magic": (add_cell("%matplotlib inline"), "not plain Python"),
    "semicolon": (add_cell("print(1);"), "ends in a semicolon"),
    "if on the profile": (add_cell('if profile == "smoke":\n    x = 1'), "chooses by the profile"),
    "if smoke": (add_cell("x = 1 if smoke else 2"), "chooses by the profile"),
    "if on study.profile": (add_cell('if study.profile != "quick":\n    x = 1'), "chooses by the profile"),
    "table of profiles": (add_cell('x = {"smoke": 1, "quick": 5}[profile]'), "chooses by the profile"),
    "unchecked output": (add_cell("1", outputs=[PICTURE]), "keeps outputs although"),
    "unchecked count": (add_cell("1", execution_count=4), "keeps outputs although"),
    "no checked cell": (uncheck, "no cell is marked"),
    "checked without output": (lambda nb: nb.cells[3].update(outputs=[]), "no output to compare"),
    "checked without count": (lambda nb: nb.cells[3].update(execution_count=None), "no output to compare"),
    "checked table": (set_output(TABLE), "not text alone"),
    "checked picture": (set_output(PICTURE), "not text alone"),
    "checked warning": (set_output(new_output("stream", name="stderr", text="w")), "not text alone"),
    "checked error": (set_output(new_output("error", ename="E", evalue="", traceback=[])), "an error as its"),
    "checked address": (set_output(new_output("stream", text="<A object at 0x7f01>")), "object's address"),
    "no completion": (set_tags(4, []), "must be tagged completion"),
    "completion in between": (set_tags(3, ["completion"]), "must be tagged completion"),
    "completion without the call": (set_source(4, 'print("complete")'), "does not call study.complete"),
    "path in a cell": (add_cell(f"x = {ADDRESS!r}"), "path of one machine"),
    "path in prose": (add_source(0, f"Read from {ADDRESS}."), "path of one machine"),
    "path in an output": (set_output(new_output("stream", text=f"\n{ADDRESS}")), "path of one machine"),
    "path on Windows": (add_source(0, "C:" + "\\Users\\ada"), "path of one machine"),
}


def test_a_good_notebook_has_no_violations():
    assert violations(good_notebook()) == []


@pytest.mark.parametrize(("change", "message"), BREAKAGES.values(), ids=BREAKAGES.keys())
def test_the_checker_reports(change, message):
    notebook = good_notebook()
    change(notebook)
    assert [text for text in violations(notebook) if re.search(message, text)]


def test_paths_of_the_project_and_of_the_web_are_no_machine_paths():
    notebook = good_notebook()
    notebook.cells[0].source += "\n[a](../work/x) https://host.org/home/y data/cache/tmp/z a/b +/tmp/9"
    assert violations(notebook) == []


def test_a_condition_on_data_is_allowed():
    notebook = good_notebook()
    add_cell("x = [y for y in study.seeds if y > 0]\nif x:\n    x = x[0]")(notebook)
    assert violations(notebook) == []


def test_stripping_repairs_a_notebook_that_was_run_in_an_editor():
    notebook = good_notebook()
    notebook.metadata.kernelspec.display_name = "mlic (3.12)"
    notebook.metadata.widgets = {}
    notebook.cells[2].update(outputs=[PICTURE], execution_count=7)
    notebook.cells[3].execution_count = 11
    notebook.cells[3].metadata.collapsed = False
    notebook.cells.append(new_code_cell("  \n"))
    assert violations(notebook)
    assert violations(strip(notebook)) == []


def test_stripping_keeps_checked_outputs_and_counts_cells_in_order():
    notebook = good_notebook()
    result = new_output("execute_result", data={"text/plain": "20"}, execution_count=11)
    notebook.cells[3].update(outputs=[result], execution_count=11)
    checked = strip(notebook).cells[3]
    assert checked.execution_count == checked.outputs[0].execution_count == 3
    assert checked.outputs[0].data == {"text/plain": "20"}


def test_stripping_a_stripped_file_leaves_it_alone(tmp_path, capsys):
    path = tmp_path / "a.ipynb"
    nbformat.write(good_notebook(), path)
    main([str(path)])
    once = path.read_bytes()
    capsys.readouterr()
    main([str(path)])
    assert path.read_bytes() == once
    assert capsys.readouterr().out == ""


def test_notebooks_are_numbered():
    assert NOTEBOOKS
    assert [path.name for path in NOTEBOOKS if not re.fullmatch(r"\d\d_[a-z0-9_]+\.ipynb", path.name)] == []
    assert len({path.name[:2] for path in NOTEBOOKS}) == len(NOTEBOOKS)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_keeps_the_contract(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert violations(notebook) == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_stripped(path):
    text = path.read_text(encoding="utf-8")
    assert nbformat.writes(strip(nbformat.reads(text, as_version=4))) + "\n" == text
