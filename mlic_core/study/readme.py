"""The results table of README.md, made from the stored runs."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev

import pandas

from mlic_core.errors import InputError
from mlic_core.study.record import Record
from mlic_core.study.report import check_codes, markdown
from mlic_core.study.store import Store

BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"
OWN_COLUMNS = ("seed", "method.name", "method.pooling", "data.name")  # settings that have a column or are averaged


def update_readme(readme: Path, results: Path, *, check: bool = False) -> bool:
    """Put the table of results/study/runs between the markers of `readme`; returns whether it differed.

    check: leave the file alone. Raises InputError without markers or runs, and as `check_codes` does.
    """
    text = readme.read_text(encoding="utf-8")
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise InputError(f"{readme.name} needs one {BEGIN} and after it one {END} around its results table")
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    new = f"{before}{BEGIN}\n{results_table(Store(results / 'study' / 'runs').records())}{END}{after}"
    if new != text and not check:
        readme.write_text(new, encoding="utf-8")
    return new != text


def results_table(records: Sequence[Record]) -> str:
    """Markdown: one row for runs that differ in their seed alone, best mAP first.

    mAP in percent, mean and sample standard deviation over seeds; minutes of training and scoring a run.
    Raises InputError if there is no run, or as `check_codes` does.
    """
    if not records:
        raise InputError("there is no finished run of the study profile; `mlic reproduce --profile study` trains them")
    check_codes(records)
    varied = _varied(records)
    groups = defaultdict(list)
    for record in records:
        groups[tuple((key, repr(value)) for key, value in record.config.items() if key != "seed")].append(record)
    rows = [_row(group, varied) for group in groups.values()]
    frame = pandas.DataFrame(sorted(rows, key=lambda row: row["mAP"], reverse=True))
    return markdown(frame.drop(columns=[] if varied else ["Settings"]))


def _varied(records: Sequence[Record]) -> list[str]:
    """Settings without a column of their own in which two runs of one method differ."""
    values = defaultdict(set)
    for record in records:
        for key, value in record.config.items():
            values[record.method, key].add(repr(value))
    keys = {key for (_, key), seen in values.items() if len(seen) > 1 and key not in OWN_COLUMNS}
    return [key for key in dict.fromkeys(key for record in records for key in record.config) if key in keys]


def _row(group: Sequence[Record], varied: Sequence[str]) -> dict[str, str]:
    first = group[0].config
    values = [record.metrics["mAP"] for record in group]
    spread = f" ± {stdev(values):.1f}" if len(values) > 1 else ""
    return {
        "Method": group[0].method,
        "Pooling": first.get("method.pooling", "").upper(),
        "Data": first["data.name"],
        "Settings": ", ".join(f"{key.split('.')[-1]} {first[key]}" for key in varied if key in first),
        "mAP": f"{mean(values):.1f}{spread}",
        "Seeds": str(len(group)),
        "Minutes": f"{mean(record.seconds for record in group) / 60:.1f}",
    }
