"""Bring notebooks to the form in which they are committed.

    python -m tests.notebooks.strip notebooks/*.ipynb

Outputs go, except those that nbval checks; so do execution counts and what editors leave in the metadata.
To renew the checked outputs, run the notebook first, in JupyterLab or with
`jupyter nbconvert --to notebook --execute --inplace`.
"""

import sys
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from tests.notebooks.contract import is_checked

METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def strip(notebook: NotebookNode) -> NotebookNode:
    """Strip `notebook` in place and return it. Cells without text go too."""
    notebook.metadata = nbformat.from_dict(METADATA)
    notebook.cells = [cell for cell in notebook.cells if cell.source.strip()]
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for cell in notebook.cells:
        cell.metadata = nbformat.from_dict({k: v for k, v in cell.metadata.items() if k == "tags" and v})
    for position, cell in enumerate(code, start=1):
        if is_checked(cell):
            # nbval refuses outputs without a count; the count of an uninterrupted run changes least.
            cell.execution_count = position if cell.outputs else None
            for output in cell.outputs:
                if output.output_type == "execute_result":
                    output.execution_count = position
        else:
            cell.outputs, cell.execution_count = [], None
    return notebook


def main(paths: list[str]) -> None:
    for path in map(Path, paths):
        before = path.read_text(encoding="utf-8")
        after = nbformat.writes(strip(nbformat.reads(before, as_version=4))) + "\n"
        if after != before:
            path.write_text(after, encoding="utf-8")
            print(f"stripped {path}")


if __name__ == "__main__":
    main(sys.argv[1:])
