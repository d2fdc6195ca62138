"""The operations that are disturbed, each on a miniature, and what has to be the same afterwards.

A case is a folder of its own: `home` stands for the repository, with the results and caches of the operation in it.
What an operation only reads, the drawn data and finished tables, is made once and shared.
"""

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import matplotlib
import nbformat.v4 as v4
import pandas
from matplotlib.figure import Figure

from mlic_core.data import load_dataset, picto
from mlic_core.data.picto import PictoSpec, prepare
from mlic_core.features import compute_features
from mlic_core.paths import MARKER
from mlic_core.study import provenance
from mlic_core.study.batch import reproduce
from mlic_core.study.experiments import Experiment, from_settings
from mlic_core.study.notebook import Study
from mlic_core.study.page import write_report
from mlic_core.study.store import Store, new_model
from mlic_core.study.unchanged import KEPT

matplotlib.use("Agg")
SPEC = PictoSpec(train=24, val=8, test=8, side=64)
TINY = {"trunk.name": "pictonet-s", "trunk.weights": "none", "data.size": 32, "recipe.epochs": 3}
TINY |= {"recipe.batch_size": 8, "recipe.bf16": False}
CHOSEN = TINY | {f"data.picto.{key}": value for key, value in asdict(SPEC).items() if key != "labels"}
PROFILE = "smoke"
VARYING = ("seconds", "peak_memory", "sha256")  # of run.json: its checksum is over the others too
CELLS = [
    'profile = "smoke"\nroot = ""\nresults = ""',
    "import pandas\nfrom matplotlib.figure import Figure\n\nimport mlic_core.study\n\n"
    "study = mlic_core.study.open(profile, root=root, results=results)",
    "runs = study.runs([study.experiment('classifier', **CHOSEN)])\nprint(round(runs[0].metrics['mAP'], 6))",
    "frame = pandas.DataFrame({'mAP': [run.metrics['mAP'] for run in runs]})\n"
    "study.save_table(frame, 'tiny', 'One number.', runs)",
    "figure = Figure(figsize=(2, 1))\nfigure.add_subplot().plot([row['loss'] for row in runs[0].history()])\n"
    "study.save_figure(figure, 'tiny', 'One line.', runs)",
    "study.complete()",
]


class Operation(NamedTuple):
    """set_up(folder, shared) makes the case's folder ready; act(folder, shared) is what gets disturbed."""

    act: Callable[[Path, Path], object]
    set_up: Callable[[Path, Path], object]
    what: str


def home(folder: Path) -> Path:
    """What MLIC_HOME names while an operation is at work in this folder."""
    return folder / "home"


def results(folder: Path) -> Path:
    return home(folder) / "results" / PROFILE


def make_home(folder: Path, shared: Path) -> None:
    """A repository without anything but its marker and one notebook."""
    (home(folder) / MARKER).parent.mkdir(parents=True)
    (home(folder) / MARKER).touch()
    (home(folder) / "notebooks").mkdir()
    (home(folder) / "notebooks" / "00_tiny.ipynb").write_text(v4.writes(_notebook()), encoding="utf-8")


def _notebook():
    cells = [v4.new_code_cell(text.replace("CHOSEN", repr(CHOSEN)), id=f"cell{i}") for i, text in enumerate(CELLS)]
    cells[0].metadata["tags"], cells[-1].metadata["tags"] = ["parameters"], ["completion"]
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})


def copy_tables(folder: Path, shared: Path) -> None:
    """Finished tables, figures and runs and a notebook, for the report to be written of."""
    shutil.copytree(shared / "tables", folder)
    shutil.copytree(home(folder) / "notebooks", results(folder) / "notebooks")


def experiment(shared: Path, **changed) -> Experiment:
    return from_settings({"data.root": str(shared / "data"), **TINY, **changed})


def draw(folder: Path, shared: Path) -> None:
    prepare(folder / "data", SPEC)


def cache(folder: Path, shared: Path) -> None:
    chosen = experiment(shared, method="linear", **{"recipe.epochs": 1})
    dataset = load_dataset("picto-voc", "train", root=shared / "data", size=32)
    compute_features(new_model(chosen, len(dataset.labels)).eval(), dataset, mirrored=True)


def train(folder: Path, shared: Path) -> None:
    Store(results(folder) / "runs").run(experiment(shared))


def tables(folder: Path, shared: Path) -> None:
    """What the notebook of the batch does, without a kernel."""
    study = Study(PROFILE, root=str(shared / "data"))
    runs = study.runs([study.experiment("classifier", **CHOSEN)])
    study.save_table(pandas.DataFrame({"mAP": [run.metrics["mAP"] for run in runs]}), "tiny", "One number.", runs)
    figure = Figure(figsize=(2, 1))
    figure.add_subplot().plot([row["loss"] for row in runs[0].history()])
    study.save_figure(figure, "tiny", "One line.", runs)


def batch(folder: Path, shared: Path) -> None:
    if status := reproduce(PROFILE, data_root=str(shared / "data"), jobs=1):
        raise RuntimeError(f"the batch ended with status {status}")


def page(folder: Path, shared: Path) -> None:
    write_report(PROFILE, home(folder) / "results")


OPERATIONS = {
    "data": Operation(draw, make_home, "images, annotations, label files"),
    "features": Operation(cache, make_home, "feature files"),
    "training": Operation(train, make_home, "weights, scores, history, record"),
    "tables": Operation(tables, make_home, "table, figure, manifest, run"),
    "batch": Operation(batch, make_home, "the same, and the executed notebook"),
    "report": Operation(page, copy_tables, "pages"),
}


def warm_up() -> None:
    """Load what is loaded once a process: fonts, and the digests of the code."""
    picto.render(picto.compose(SPEC, "train", 0), SPEC)
    provenance.code_digest("classifier", "picto-voc")
    provenance.scoring_digest()


def content(folder: Path) -> dict[str, str]:
    """SHA-256 of every file in a folder but lock files and the list of what is up to date, which has digests of whole
    records. Time and memory of a run are left out of its record."""
    found = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        if path.suffix == ".lock" or path.name == KEPT:
            continue
        text = path.read_bytes()
        if path.name == "run.json":
            record = json.loads(text)
            text = json.dumps({key: value for key, value in record.items() if key not in VARYING}).encode()
        found[path.relative_to(folder).as_posix()] = hashlib.sha256(text).hexdigest()
    return found
