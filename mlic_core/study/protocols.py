"""`protocol_matrix` of a run as text: one table a metric, each with the spread between conventions."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas

MEANINGS = {
    "raw": "mean of the precision at each positive (scikit-learn)",
    "voc10": "area under the monotone envelope (VOC since 2010)",
    "voc07": "mean of the envelope at 11 recalls (VOC until 2009)",
    "harmonic": "harmonic mean of C-P and C-R",
    "mean of classes": "mean of the classes' own F1",
}
OVERALL = "all image-class pairs together"
HANDLINGS = {"ignore": "ignored", "positive": "present", "negative": "absent"}
COLUMN = 10


def protocol_text(frame: "pandas.DataFrame") -> str:
    """Tables of mAP, C-F1 and O-F1 in percent: a line for each convention, a column for each way to count an image
    that shows only difficult objects of a class. `frame` is `protocol_matrix`'s."""
    columns = list(dict.fromkeys(frame["difficult"]))
    counts = sorted(set(frame["classes"]))
    classes = f"{counts[0]} to {counts[-1]}" if len(counts) > 1 else f"{counts[0]}"
    if len(columns) == 1:
        about = "no entry shows only difficult objects, so that every handling of these agrees"
    else:
        about = "columns: an entry that shows only difficult objects is ignored, counts as present, or as absent"
    tables = [_table(metric, rows, columns) for metric, rows in frame.groupby("metric", sort=False)]
    return "\n\n".join([f"percent, over {classes} classes; {about}", *tables])


def _table(metric: str, rows: "pandas.DataFrame", columns: list[str]) -> str:
    heads = [HANDLINGS[handling] for handling in columns] if len(columns) > 1 else [""]
    lines: dict[str, dict[str, float]] = {}
    for row in rows.itertuples():
        lines.setdefault(_label(row), {})[row.difficult] = row.value
    width = max(map(len, [*lines, metric]))
    text = [f"{metric:<{width}}" + "".join(f"{head:>{COLUMN}}" for head in heads)]
    for label, values in lines.items():
        text.append(f"{label:<{width}}" + "".join(f"{_number(values[handling]):>{COLUMN}}" for handling in columns))
    return "\n".join([line.rstrip() for line in text] + [_spread(metric, rows, len(columns) > 1)])


def _label(row) -> str:
    """What the numbers of a line follow: "raw: mean of ...", or "top-3, O-F1 over all ..."."""
    meaning = MEANINGS.get(row.definition, row.definition) or OVERALL
    return f"  {row.rule or row.definition}: {meaning}"


def _spread(metric: str, rows: "pandas.DataFrame", several: bool) -> str:
    known = rows.dropna(subset="value").sort_values("value", kind="stable")
    if known.empty:
        return f"{metric} is not defined: there is no positive"
    ends = [known.iloc[0], known.iloc[-1]]
    low, high = (f"{end.value:.2f} ({_name(end, several)})" for end in ends)
    return f"from {low} to {high}: a range of {ends[1].value - ends[0].value:.2f} points"


def _name(row, several: bool) -> str:
    parts = [row.rule, row.definition, f"difficult {HANDLINGS[row.difficult]}" if several else ""]
    return ", ".join(part for part in parts if part)


def _number(value: float) -> str:
    return "-" if value != value else f"{value:.2f}"
