"""Figures and tables on disk, each with its caption and the runs behind it in manifest.json."""

import io
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlic_core.errors import InputError
from mlic_core.study.files import exclusive, sha256, with_checksum, without_checksum, write_atomically, write_json
from mlic_core.study.unchanged import note

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

    from mlic_core.study.record import Record

MANIFEST = "manifest.json"
DPI = 120


def save_figure(folder: Path, figure: "Figure", name: str, caption: str, runs: Iterable["Record"] = ()) -> None:
    """Write figures/NAME.png (120 dpi) and NAME.svg: the same bytes for the same figure.

    Raises InputError for a name that is no plain file name, and as `check_codes` does.
    """
    import matplotlib

    contents = {}
    with matplotlib.rc_context({"svg.hashsalt": name}):
        for suffix, metadata in (("png", {"Software": None}), ("svg", {"Date": None, "Creator": None})):
            buffer = io.BytesIO()
            figure.savefig(buffer, format=suffix, dpi=DPI, bbox_inches="tight", metadata=metadata)
            contents[f"figures/{name}.{suffix}"] = buffer.getvalue()
    _save(folder, f"figures/{name}", contents, caption, runs)


def save_table(folder: Path, frame: "pandas.DataFrame", name: str, caption: str, runs: Iterable["Record"] = ()) -> None:
    """Write tables/NAME.csv with every digit and NAME.md with four, and the caption below. Raises as `save_figure`."""
    if frame.index.name is not None or frame.index.nlevels > 1:
        frame = frame.reset_index()
    contents = {
        f"tables/{name}.csv": frame.to_csv(index=False, lineterminator="\n").encode(),
        f"tables/{name}.md": f"{markdown(frame)}\n{caption}\n".encode(),
    }
    _save(folder, f"tables/{name}", contents, caption, runs)


def markdown(frame: "pandas.DataFrame") -> str:
    """A frame as a Markdown table without its index; numbers to four digits on the right, missing ones empty."""
    numeric = [frame[column].dtype.kind in "iuf" for column in frame.columns]
    lines = [[str(column) for column in frame.columns], ["--:" if right else "---" for right in numeric]]
    lines += [[_cell(value) for value in row] for row in frame.itertuples(index=False)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _cell(value: Any) -> str:
    if value is None or value != value:  # NaN
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value).replace("|", "\\|")


def _save(folder: Path, entry: str, contents: Mapping[str, bytes], caption: str, runs: Iterable["Record"]) -> None:
    if not re.fullmatch(r"(figures|tables)/[A-Za-z0-9][A-Za-z0-9_-]*", entry):
        raise InputError(f"{entry!r}: name a figure or table with letters, digits, _ and -")
    runs = list(runs)
    check_codes(runs)
    with exclusive(folder / f".{MANIFEST}.lock"):  # notebooks run side by side, and the same one in two batches
        for name, content in contents.items():
            write_atomically(folder / name, content)
            note(folder / name)
        described = {
            "caption": caption,
            "runs": sorted({record.name for record in runs}),
            "files": {name: f"sha256:{sha256(folder / name)}" for name in contents},
        }
        entries = read_entries(folder) | {entry: described}
        write_json(folder / MANIFEST, {key: with_checksum(entries[key]) for key in sorted(entries)})


def read_entries(folder: Path) -> dict[str, dict[str, Any]]:
    """What a folder's manifest.json says of each table and figure: `caption`, `runs` and `files`, with their digests.

    None where there is no such file. Raises InputError if it is broken.
    """
    path = folder / MANIFEST
    try:
        entries = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        return {key: _entry(without_checksum(entry)) for key, entry in entries.items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        remedy = f"remove it and run `mlic reproduce --profile {folder.name}`"
        raise InputError(f"{path} is no manifest of tables and figures ({error}); {remedy}") from error


def _entry(found: Mapping[str, Any]) -> dict[str, Any]:
    return {"caption": str(found["caption"]), "runs": list(found["runs"]), "files": dict(found["files"])}


def check_codes(runs: Iterable["Record"]) -> None:
    """Raise InputError if runs of one method on one data set were made, or any runs scored, by different code."""
    made_by: dict[tuple[str, str], dict[str, str]] = defaultdict(dict)
    scored_by: dict[str, str] = {}
    for record in runs:
        codes = made_by[record.config["method.name"], record.config["data.name"]]
        codes.setdefault(record.code, record.name)
        if len(codes) > 1:
            raise InputError(
                f"runs {' and '.join(codes.values())} of {record.config['method.name']} were made by different code "
                "and can't share a table; `mlic runs --stale` lists what to remove and train again"
            )
        scored_by.setdefault(record.scoring, record.name)
        if len(scored_by) > 1:
            raise InputError(
                f"the metrics of runs {' and '.join(scored_by.values())} were computed by different code and can't "
                "share a table; `mlic reproduce` asks for each run of its notebooks and so computes them again from "
                "the stored scores"
            )
