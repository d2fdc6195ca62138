"""The report of a profile: static pages of its tables and figures, its runs and its executed notebooks.

Everything lies in results/PROFILE/report and links with relative addresses to the files beside it, so that the folder
of the profile can be moved, and opened without a network or a server.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from itertools import groupby
from pathlib import Path
from typing import Any

from mlic_core.errors import InputError, did_you_mean
from mlic_core.progress import duration, say
from mlic_core.study.files import exclusive, sha256, write_atomically
from mlic_core.study.notebook_pages import Executed, Place, find_places, read_notebooks, to_html
from mlic_core.study.profile import load_profile, profile_names
from mlic_core.study.record import Record
from mlic_core.study.report import DPI, MANIFEST, read_entries
from mlic_core.study.store import Store

REPORT = "report"
ENTRY = re.compile(r"(figures|tables)/[A-Za-z0-9][A-Za-z0-9_-]*")
SUFFIXES = {"figures": (".png", ".svg"), "tables": (".csv", ".md")}
SENTENCE = re.compile(r"(?<=[.!?]) (?=[A-Z(])")
CSS_PIXELS = 96  # an inch
# A cell that reads as a number: 80.1, −0.6 to +0.2, 85.0 (83.4, 86.8), 57.2*, 12 %
NUMBER = re.compile(r"[\d\s.,+\-−–±()*%]*\d[\d\s.,+\-−–±()*%]*")


@dataclass(frozen=True)
class Entry:
    """A table or figure of the manifest, and where a notebook saved it."""

    key: str
    caption: str
    runs: tuple[str, ...]
    place: Place | None = None

    @property
    def anchor(self) -> str:
        """Its `id` in the page: "table-NAME" or "figure-NAME"."""
        kind, name = self.key.split("/")
        return f"{kind.removesuffix('s')}-{name}"

    @property
    def alt(self) -> str:
        """The caption's first sentence."""
        return SENTENCE.split(self.caption)[0]


def write_report(profile: str, results: Path) -> Path:
    """Write results/PROFILE/report and return its index.html: the same bytes for the same results.

    Pages are replaced one by one, the index last, and those that it no longer links to are removed after that: whoever
    opens the report meanwhile, or after a killed writer, finds pages that are whole and links that lead somewhere.

    Raises InputError for a profile without results, for a manifest that is no manifest or names a file or run that is
    missing or another one, and for a run or notebook that can't be read.
    """
    folder = _find_folder(profile, results)
    entries, notebooks = read_manifest(folder), read_notebooks(folder / "notebooks")
    places = find_places(notebooks, [entry.key for entry in entries])
    entries = [Entry(one.key, one.caption, one.runs, places.get(one.key)) for one in entries]
    records = {record.name: record for record in Store(folder / "runs").records()}
    for entry in entries:
        if missing := sorted(set(entry.runs) - set(records)):
            remedy = f"`mlic reproduce --profile {profile}` trains it again"
            raise InputError(
                f"{entry.key} of {folder / MANIFEST} rests on run {missing[0]}, which is not stored; {remedy}"
            )
    pages = _pages(profile, folder, entries, notebooks, records)
    with exclusive(folder / f".{REPORT}.lock", "another process writes this report"):
        _replace(folder / REPORT, pages)
    return folder / REPORT / "index.html"


def _find_folder(profile: str, results: Path) -> Path:
    known = sorted(path.parent.name for path in results.glob(f"*/{MANIFEST}"))
    if profile in known:
        return results / profile
    if profile in profile_names():
        remedy = f"`mlic reproduce --profile {profile}` makes them"
        raise InputError(f"there are no tables and figures of profile {profile} in {results}; {remedy}")
    choices = (
        f"choose from {', '.join(known)}{did_you_mean(profile, known)}" if known else "`mlic reproduce` makes some"
    )
    raise InputError(f"{results} holds no tables and figures of a profile {profile!r}; {choices}")


def read_manifest(folder: Path) -> list[Entry]:
    """The tables and figures of a profile's folder.

    Raises InputError if manifest.json is broken, or a file that it names is missing or not the one that was described.
    """
    entries = read_entries(folder)
    for key, entry in entries.items():
        _check_files(folder, key, entry["files"])
    return [Entry(key, entry["caption"], tuple(entry["runs"])) for key, entry in entries.items()]


def _check_files(folder: Path, key: str, digests: Mapping[str, str]) -> None:
    if not ENTRY.fullmatch(key) or set(digests) != {key + suffix for suffix in SUFFIXES[key.split("/")[0]]}:
        raise InputError(f"{folder / MANIFEST}: {key!r} is neither a table nor a figure with the two files of one")
    for name, digest in digests.items():
        remedy = f"`mlic reproduce --profile {folder.name}` makes it again"
        if not (folder / name).is_file():
            raise InputError(f"{folder / MANIFEST} names {name}, which is missing; {remedy}")
        if digest != f"sha256:{sha256(folder / name)}":
            raise InputError(f"{folder / name} is not the file that {MANIFEST} describes; {remedy}")


def read_table(text: str) -> tuple[list[dict[str, Any]], list[list[str]]]:
    """Header and rows of a table that `report.markdown` wrote: its columns, and the cells as they are shown.

    A column is a dict: `name`, and `right` if its cells are numbers, perhaps with an interval or a mark.
    Raises InputError for another text.
    """
    lines = [line for line in text.split("\n\n")[0].splitlines() if line.startswith("| ") and line.endswith(" |")]
    cells = [[cell.strip().replace("\\|", "|") for cell in re.split(r" \| ", line[1:-1])] for line in lines]
    if len(cells) < 2 or len({len(line) for line in cells}) != 1:
        raise InputError("no Markdown table of equal rows")
    names, marks, *rows = cells
    right = [mark == "--:" or _are_numbers(row[i] for row in rows) for i, mark in enumerate(marks)]
    return [{"name": name, "right": at_right} for name, at_right in zip(names, right, strict=True)], rows


def _are_numbers(cells: Iterable[str]) -> bool:
    """Whether a column of text shows numbers, and is not all empty."""
    filled = [cell.replace(" to ", " ") for cell in cells if cell]
    return bool(filled) and all(map(NUMBER.fullmatch, filled))


def _pages(
    profile: str, folder: Path, entries: Sequence[Entry], notebooks: Sequence[Executed], records: Mapping[str, Record]
) -> dict[str, str]:
    """Contents of all pages by their names in the report's folder, the index last."""
    pages = {"style.css": (files("mlic_core.study") / "pages" / "style.css").read_text(encoding="utf-8")}
    render = _renderer(profile)
    for number, notebook in enumerate(notebooks):
        saved = [entry for entry in entries if entry.place and entry.place.notebook == number]
        body = to_html(notebook, _alternatives(saved))
        pages[f"notebooks/{notebook.name}.html"] = render("notebook", "../", notebook=notebook, body=body)
        say(f"{notebook.name}  {number + 1}/{len(notebooks)}")
    used = defaultdict(list)
    for entry in _in_order(entries):
        for run in entry.runs:
            used[run].append(entry)
    for record in records.values():
        details = _details(record, records)
        pages[f"runs/{record.name}.html"] = render("run", "../", run=record, used=used[record.name], **details)
    pages["runs.html"] = render("runs", "", groups=_overview(list(records.values())))
    about = load_profile(profile).about if profile in profile_names() else ""
    chapters = _chapters(folder, entries, notebooks, records)
    pages["index.html"] = render("index", "", about=about, chapters=chapters, entries=entries, runs=records)
    return pages


def _renderer(profile: str):
    from jinja2 import Environment, PackageLoader, StrictUndefined

    loader = PackageLoader("mlic_core.study", "pages")
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    environment.lstrip_blocks = True

    def render(template: str, root: str, **values: Any) -> str:
        return environment.get_template(f"{template}.html.j2").render(profile=profile, root=root, **values) + "\n"

    return render


def _in_order(entries: Iterable[Entry]) -> list[Entry]:
    """As the notebooks save them; those of no notebook at the end."""
    last = Place(10**6, 0, 0)
    return sorted(entries, key=lambda entry: (entry.place or last, entry.key))


def _alternatives(entries: Sequence[Entry]) -> dict[int, list[str]]:
    """By cell, what the figures that it saved show."""
    texts = defaultdict(list)
    for entry in _in_order(entries):
        if entry.key.startswith("figures/"):
            texts[entry.place.cell].append(entry.alt)
    return texts


def _chapters(
    folder: Path, entries: Sequence[Entry], notebooks: Sequence[Executed], records: Mapping[str, Record]
) -> list[dict[str, Any]]:
    """One chapter for each notebook that saved something, with its sections and what they show."""
    chapters = []
    for number, group in groupby(_in_order(entries), key=lambda entry: entry.place and entry.place.notebook):
        notebook = None if number is None else notebooks[number]
        sections = []
        for title, members in groupby(group, key=lambda one: notebook.section(one.place.cell) if notebook else ""):
            sections.append({"title": title, "items": [_item(folder, one, notebook, records) for one in members]})
        name = notebook.name if notebook else "others"
        title = notebook.title if notebook else "Saved by none of these notebooks"
        chapters.append({"id": name, "title": title, "notebook": notebook, "sections": sections})
    return chapters


def _item(folder: Path, entry: Entry, notebook: Executed | None, records: Mapping[str, Record]) -> dict[str, Any]:
    """What the index shows of a table or figure."""
    by_group = defaultdict(list)
    for name in entry.runs:
        by_group[records[name].method, records[name].config["data.name"]].append(name)
    shown: dict[str, Any] = {"entry": entry, "runs": sorted(by_group.items()), "cell": None, "size": None}
    if notebook:
        shown["cell"] = notebook.content.cells[entry.place.cell].get("id")
    if entry.key.startswith("figures/"):
        return shown | {"size": _size(folder / f"{entry.key}.png")}
    try:
        columns, rows = read_table((folder / f"{entry.key}.md").read_text(encoding="utf-8"))
    except InputError as error:
        raise InputError(f"{folder / entry.key}.md: {error}; run its notebook again") from error
    return shown | {"columns": columns, "rows": rows}


def _size(picture: Path) -> tuple[int, int]:
    """Width and height in CSS pixels, at which its text has the size it was drawn at."""
    from PIL import Image

    with Image.open(picture) as image:
        return tuple(round(side * CSS_PIXELS / DPI) for side in image.size)


def _details(record: Record, records: Mapping[str, Record]) -> dict[str, Any]:
    """What a run's page shows of its record, as text."""
    commit = f"{record.commit or 'not known'}{' and changes' if record.dirty else ''}"
    memory = f"{record.peak_memory / 2**30:.2f} GiB" if record.peak_memory else "not known"
    made = {"Time": duration(record.seconds), "Peak memory": memory, "Device": record.device, "Commit": commit}
    made |= {"Code": record.code, "Code of the metrics": record.scoring or "not known"}
    made |= {name: str(version) for name, version in record.versions.items()}
    trunk = str(record.config.get("trunk.weights", "")).removeprefix("run:")
    return {
        "settings": {key: setting(value) for key, value in record.config.items()},
        "metrics": {key: metric(value) for key, value in record.metrics.items() if key != "AP"},
        "classes": {label: metric(value) for label, value in record.metrics.get("AP", {}).items()},
        "made": made,
        "trunk": trunk if trunk in records else None,
    }


def setting(value: Any) -> str:
    """A setting as a page shows it: in full, lists with commas, what is empty as a dash."""
    if isinstance(value, list | tuple):
        return ", ".join(map(setting, value))
    return "–" if value is None or value == "" else str(value)


def metric(value: Any) -> str:
    """A metric as a page shows it: percentages to two decimals, lists with commas, what is undefined as a dash."""
    if isinstance(value, list | tuple):
        return ", ".join(map(metric, value))
    return f"{value:.2f}" if isinstance(value, float) else setting(value)


def _overview(records: Sequence[Record]) -> list[dict[str, Any]]:
    """Runs by method and data. Each with the settings in which it differs from most runs of its method."""
    groups = []
    for method, runs in groupby(records, key=lambda record: record.method):
        runs = list(runs)
        usual = _usual(runs)
        for data, members in groupby(runs, key=lambda record: record.config["data.name"]):
            rows = [
                {
                    "run": run,
                    "mAP": metric(run.metrics.get("mAP")),
                    "time": duration(run.seconds),
                    "other": _settings(run).items() - usual.items(),
                }
                for run in members
            ]
            for row in rows:
                row["other"] = ", ".join(f"{key} {value}" for key, value in sorted(row["other"]))
            groups.append({"title": f"{method}, {data}", "rows": rows})
    return groups


def _usual(runs: Sequence[Record]) -> dict[str, str]:
    """The most frequent value of each setting."""
    values = defaultdict(Counter)
    for run in runs:
        for key, value in _settings(run).items():
            values[key][value] += 1
    return {key: min(counted, key=lambda value: (-counted[value], value)) for key, counted in values.items()}


def _settings(record: Record) -> dict[str, str]:
    """Settings of the method, its trunk and its training, and the input's size, as text."""
    chosen = {key: setting(value) for key, value in record.config.items() if re.match(r"(method|trunk|recipe)\.", key)}
    chosen["data.size"] = setting(record.config["data.size"])
    if chosen.get("trunk.weights", "").startswith("run:"):
        chosen["trunk.weights"] = "of a run"
    return chosen


def _replace(folder: Path, pages: Mapping[str, str]) -> None:
    for name, content in pages.items():
        path = folder / name
        if not path.is_file() or path.read_bytes() != content.encode():
            write_atomically(path, content)
    for path in (*folder.glob("runs/*.html"), *folder.glob("notebooks/*.html")):
        if path.relative_to(folder).as_posix() not in pages:
            path.unlink()
