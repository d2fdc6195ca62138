"""One notebook in a process of its own: `python -m mlic_core.study.execute REQUEST.json`, called by the batch.

Runs it through papermill, checks that its completion cell was reached, and takes this machine's folders out of the
executed notebook. Writes what happened to the request's `outcome` file.
"""

import json
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import nbformat
import papermill
from papermill.exceptions import PapermillExecutionError

ATTEMPTS = 2  # the second one if the kernel did not start, as happens when two take the same port
INJECTED = "injected-parameters"  # papermill's tag of the cell that it adds


def main(request: dict[str, Any]) -> None:
    """Execute as the batch asks; see `mlic_core.study.batch`."""
    output = Path(request["output"])
    outcome = run_notebook(request["notebook"], output, request["parameters"], request["cwd"])
    if output.is_file():
        notebook = nbformat.read(output, as_version=4)
        if outcome["error"] is None and not is_complete(notebook):
            outcome = {"error": "Incomplete", "message": "the completion cell was not reached", "cell": None}
        nbformat.write(clean(notebook, request["replace"], request["stamp"]), output)
    Path(request["outcome"]).write_text(json.dumps(outcome), encoding="utf-8")


def run_notebook(notebook: str, output: Path, parameters: dict[str, Any], cwd: str) -> dict[str, Any]:
    """Outcome: `error` (an exception's name, or None), its `message`, and the number of the `cell`, if it was one."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            papermill.execute_notebook(
                notebook, str(output), parameters, kernel_name="python3", cwd=cwd, progress_bar=False
            )
            return {"error": None, "message": "", "cell": None}
        except PapermillExecutionError as error:
            return {"error": error.ename, "message": error.evalue, "cell": error.exec_count}
        except Exception as error:
            if attempt == ATTEMPTS or any_cell_started(output):
                return {"error": type(error).__name__, "message": str(error), "cell": None}


def any_cell_started(output: Path) -> bool:
    """Whether the kernel came far enough to be sent a cell."""
    if not output.is_file():
        return False
    cells = nbformat.read(output, as_version=4).cells
    return any(cell.metadata.get("papermill", {}).get("start_time") for cell in cells)


def is_complete(notebook: nbformat.NotebookNode) -> bool:
    """Whether the cell tagged `completion` printed "complete". `sys.exit(0)` in a cell ends a notebook before it."""
    cells = [cell for cell in notebook.cells if "completion" in cell.metadata.get("tags", [])]
    outputs = [output.get("text", "") for cell in cells for output in cell.get("outputs", [])]
    return any("complete" in text.split("\n") for text in outputs)


def clean(notebook: nbformat.NotebookNode, replace: dict[str, str], stamp: dict[str, Any]) -> nbformat.NotebookNode:
    """Without papermill's metadata, which holds folders and times, and with folders replaced in all text.

    `stamp` goes into the metadata instead: the profile and the digest of the notebook that was executed.
    """
    notebook.metadata.pop("papermill", None)
    notebook.metadata["mlic"] = stamp
    for cell in notebook.cells:
        cell.metadata.pop("papermill", None)
        cell.metadata.pop("execution", None)
        if INJECTED in cell.metadata.get("tags", []):
            cell.id = INJECTED  # papermill draws another one each time
        cell.source = scrub(cell.source, replace)
        for output in cell.get("outputs", []):
            _clean_output(output, replace)
    return notebook


def _clean_output(output: nbformat.NotebookNode, replace: dict[str, str]) -> None:
    for key in {"text", "evalue"} & set(output):
        output[key] = scrub(output[key], replace)
    if "traceback" in output:
        output.traceback = [scrub(line, replace) for line in output.traceback]
    for kind, data in output.get("data", {}).items():
        if isinstance(data, str) and kind.startswith("text/"):
            output.data[kind] = scrub(data, replace)


def scrub(text: str, replace: dict[str, str]) -> str:
    """Replace each folder of `replace`, the longest first, and the kernel's temporary file names."""
    temporary = re.escape(tempfile.gettempdir())
    text = re.sub(rf"{temporary}/ipykernel_\d+/\d+\.py", "cell", text)
    for folder in sorted(replace, key=len, reverse=True):
        text = re.sub(rf"{re.escape(folder)}(?![\w.-])", replace[folder], text)
    return text


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
