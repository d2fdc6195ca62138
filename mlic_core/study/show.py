"""What `mlic` prints of stored runs."""

import time
from pathlib import Path

import click

from mlic_core.errors import InputError


def metrics_at_hand(record) -> dict:
    """As the record's `present_metrics`, but without those by object size where these can't be had."""
    from mlic_core.study.evaluate import evaluate_scores
    from mlic_core.study.record import present_metrics

    arrays = record.scores()
    try:
        return present_metrics(record)
    except InputError as error:
        click.echo(f"without mAP by object size, since the sizes aren't stored with the run: {error}", err=True)
        return evaluate_scores(arrays, record.config["data.difficult_eval"], record.activation)


def print_protocols(record) -> None:
    """A run's stored scores under every convention; thresholds only where the method has probabilities."""
    import numpy as np

    from mlic_core.metrics import protocol_matrix
    from mlic_core.metrics.protocols import RULES
    from mlic_core.study.evaluate import probabilities
    from mlic_core.study.protocols import protocol_text

    arrays, where = record.scores(), f"{record.config['data.name']} {record.config['data.eval']}"
    logits = arrays["logits"]
    given = probabilities(logits) if record.activation == "sigmoid" else np.exp(logits.astype(np.float64))
    rules = RULES
    if record.activation == "none":
        given, rules = logits, [rule for rule in RULES if rule.threshold is None]
    click.echo(f"run {record.name}: {record.method}, {len(logits)} images of {where}")
    click.echo(protocol_text(protocol_matrix(logits, arrays["targets"], probabilities=given, rules=rules)))
    difficult, rule = record.config["data.difficult_eval"], metrics_at_hand(record)["rule"]
    click.echo(f"\nThe record itself follows: raw, difficult={difficult}, {rule}, harmonic C-F1")


def list_runs(stores: dict, stale: bool) -> None:
    """A line for each stored run."""
    row = "{:<12}  {:<8}  {:<11}  {:<11}  {:<10}  {:>4}  {:>5}  {:>7}  {:>6}  {}"
    click.echo(row.format("name", "profile", "method", "trunk", "data", "seed", "mAP", "time", "age", "").rstrip())
    for profile, store in stores.items():
        for record in (record for record in store.records() if record.stale or not stale):
            click.echo(row.format(record.name, profile, *_columns(record)).rstrip())
        for name in () if stale else store.unfinished():
            click.echo(row.format(name, profile, "", "", "", "", "", "", "", "unfinished"))


def _columns(record) -> tuple:
    from mlic_core.progress import duration

    trained = min(path.stat().st_mtime for path in record.folder.iterdir())  # run.json is younger when it was renewed
    hours = (time.time() - trained) / 3600
    age = f"{hours:.0f} h" if hours < 48 else f"{hours / 24:.0f} d"
    chosen = [record.config[key] for key in ("method.name", "trunk.name", "data.name", "seed")]
    state = "imported" if record.imported else ""
    state = state or " ".join(word for word in ("stale", "outdated") if getattr(record, word))
    return (*chosen, _number(record.metrics.get("mAP")), duration(record.seconds), age, state)


def print_record(name: str, metrics: dict, folder: Path, classes: bool = False) -> None:
    """The numbers of a run, one a line."""
    click.echo(f"run {name}")
    for key, value in metrics.items():
        if key != "AP":
            click.echo(f"  {key:<20} {_number(value)}")
    for label, value in metrics.get("AP", {}).items() if classes else ():
        click.echo(f"  AP {label:<17} {_number(value)}")
    click.echo(f"in {short(folder)}")


def _number(value) -> str:
    if isinstance(value, list):
        return "  ".join(map(_number, value))
    return "-" if value is None else f"{value:.1f}" if isinstance(value, float) else str(value)


def short(folder: Path) -> str:
    """A folder relative to the current one where it lies in it."""
    return str(folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder)
