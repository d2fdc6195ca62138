"""The tables of README.md: of the stored runs of the study, and of the photographs."""

from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import NamedTuple

import pandas

from mlic_core.errors import InputError
from mlic_core.study.record import Record
from mlic_core.study.report import check_codes, markdown
from mlic_core.study.store import Store

PHOTOS = Path("photos/tables/photos_main.md")


def update_readme(readme: Path, results: Path, *, check: bool = False) -> bool:
    """Put the table of results/study/runs between its markers in `readme`, and that of notebook 13 on the photographs,
    where it has run, between its own; returns whether anything differed.

    check: leave the file alone. Raises InputError without markers or runs, and as `check_codes` does.
    """
    text = readme.read_text(encoding="utf-8")
    before, after = _around(readme.name, text, "results")
    new = before + results_table(Store(results / "study" / "runs").records()) + after
    if (results / PHOTOS).is_file():
        table, _, _ = (results / PHOTOS).read_text(encoding="utf-8").partition("\n\n")  # its caption is below
        before, after = _around(readme.name, new, "photos")
        new = f"{before}{table}\n{after}"
    if new != text and not check:
        readme.write_text(new, encoding="utf-8")
    return new != text


def _around(name: str, text: str, table: str) -> tuple[str, str]:
    """What stands before and after a table, its markers included."""
    begin, end = f"<!-- {table}:begin -->", f"<!-- {table}:end -->"
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
        raise InputError(f"{name} needs one {begin} and after it one {end} around its table of {table}")
    return text.split(begin)[0] + begin + "\n", end + text.split(end)[1]


class Line(NamedTuple):
    """A row of the table: its name, and the settings by which its runs are found."""

    name: str
    where: dict[str, object]


ON_BASELINE = {"trunk.weights": "run:"}  # on the trunk of a baseline's run
HEADS = {"method.pooling": "gwp", "data.size": 112} | ON_BASELINE
LARGER = {"method.pooling": "gwp", "data.size": 128} | ON_BASELINE
REGIONS = {"method.name": "rdar", "method.K": 5, "method.gamma": 0.1, "method.alpha": 0.5, "method.proposals": ""}
REGIONS |= {"method.anchor": True, "method.scale": True, "method.positive": True, "method.start": "middle"}
REGIONS |= {"data.size": 128} | ON_BASELINE
STEPS = {
    "method.name": "gla",
    "method.T": 5,
    "method.hidden": 256,
    "method.rescale": True,
    "method.labels": "predicted",
}
STEPS |= {"method.epsilon": 0.3, "method.epsilon_v": 0.3, "method.lambda_horizontal": 0.05}
STEPS |= {"method.lambda_vertical": 0.05, "data.size": 128} | ON_BASELINE
PLAIN = {"method.cell": "paper", "method.order": "frequency", "method.hidden": 128}
WHOLE = {"trunk.name": "pictonet-m", "data.size": 112}  # trained end to end
SMALLER = WHOLE | {"data.size": 64}
BASELINE = {"method.name": "classifier"}
TWO_STREAMS = {"method.name": "mcar", "method.pooling": "gwp", "method.topN": 4, "method.tau": 0.5}
MCAR = TWO_STREAMS | {"method.selection": "top", "method.learning": "pair"}
LINES = (
    Line("baseline, GAP", BASELINE | {"method.pooling": "gap"} | WHOLE),
    Line("baseline, GMP", BASELINE | {"method.pooling": "gmp"} | WHOLE),
    Line("baseline, GWP", BASELINE | {"method.pooling": "gwp"} | WHOLE),
    Line("linear BCE on the baseline's trunk", {"method.name": "linear", "method.loss": "bce"} | HEADS),
    Line("CNN-RNN without its RNN", {"method.name": "cnn_rnn"} | HEADS | PLAIN | {"method.cell": "linear"}),
    Line("CNN-RNN", {"method.name": "cnn_rnn"} | HEADS | PLAIN),
    Line("linear BCE, at 128 px", {"method.name": "linear", "method.loss": "bce"} | LARGER),
    Line("RDAR, at 128 px", REGIONS | {"method.loss": "euclidean"}),
    Line("RDAR with BCE, at 128 px", REGIONS | {"method.loss": "bce"}),
    Line("LSTM on the mean of the maps, at 128 px", STEPS | {"method.start": "zero", "method.attention": "none"}),
    Line(
        "global/local attention, at 128 px",
        STEPS | {"method.start": "global", "method.attention": "soft", "method.margin": "none"},
    ),
    Line(
        "the same with max-margin, at 128 px",
        STEPS | {"method.start": "global", "method.attention": "soft", "method.margin": "mended"},
    ),
    Line("MCAR, GWP", MCAR | WHOLE),
    Line("four corner views in its place", TWO_STREAMS | {"method.selection": "corners"} | WHOLE),
    Line("baseline, GWP, at 64 px", BASELINE | {"method.pooling": "gwp"} | SMALLER),
    Line("MCAR, GWP, at 64 px", MCAR | SMALLER),
)


def results_table(records: Sequence[Record]) -> str:
    """Markdown: one row for each of LINES that has runs, one column for each data set.

    mAP in percent, mean and sample standard deviation over seeds; minutes of training and scoring a run, the mean.
    Raises InputError if there is no run, or as `check_codes` does.
    """
    check_codes(records)
    rows = []
    for name, where in LINES:
        runs = [record for record in records if _fits(record, where)]
        if runs:
            rows.append({"Method": name} | {data: _cell(runs, data) for data in _data(records)} | _cost(runs))
    if not rows:
        raise InputError("there is no finished run of the study profile; `mlic reproduce --profile study` trains them")
    return markdown(pandas.DataFrame(rows))


def _fits(record: Record, where: dict[str, object]) -> bool:
    """Whether a run has the settings; a text that ends in ":" asks for the beginning alone."""
    for key, wanted in where.items():
        value = record.config.get(key)
        if isinstance(wanted, str) and wanted.endswith(":"):
            value = str(value)[: len(wanted)]
        if value != wanted:
            return False
    return True


def _data(records: Sequence[Record]) -> list[str]:
    names = {record.config["data.name"] for record in records}
    return sorted(names, reverse=True)  # picto-voc, the smaller set, first


def _cell(runs: Sequence[Record], data: str) -> str:
    values = [record.metrics["mAP"] for record in runs if record.config["data.name"] == data]
    spread = f" ± {stdev(values):.1f}" if len(values) > 1 else ""
    return f"{mean(values):.1f}{spread}" if values else ""


def _cost(runs: Sequence[Record]) -> dict[str, str]:
    seeds = {record.config["seed"] for record in runs}
    return {"Seeds": str(len(seeds)), "Minutes": f"{mean(record.seconds for record in runs) / 60:.1f}"}
