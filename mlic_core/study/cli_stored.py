"""The commands for stored runs: list and score them, train them again, and have them name what is in images."""

import sys
from pathlib import Path

import click

from mlic_core.errors import InputError
from mlic_core.study.show import list_runs, metrics_at_hand, print_protocols, print_record, short

RESULTS = dict(default="", metavar="DIR", help="Folder of all results.  [default: results/ of the repository]")
AMONG = dict(default="", metavar="NAME", help="Look among this profile's runs.", show_default="all")


def _use_plugin(context: click.Context, parameter: click.Parameter, value: str | None) -> None:
    if value:
        from mlic_core.study.plugins import use_plugin

        use_plugin(value)


PLUGIN = dict(metavar="FILE", callback=_use_plugin, expose_value=False, is_eager=True)
PLUGIN |= dict(help="Import this Python file first, which may register a trunk of yours.")


@click.group(invoke_without_command=True)
@click.option("--profile", **AMONG | {"help": "Only this profile's runs."})
@click.option("--results", **RESULTS)
@click.option("--stale", is_flag=True, help="Only runs that were made by other code than the present.")
@click.pass_context
def runs(ctx, profile, results, stale):
    """List the stored runs, or show one.

    stale: made by other code than the present; outdated: its metrics will be computed again, from the stored scores,
    when it is asked for.
    """
    ctx.obj = stores_in(results_folder(results), profile)
    if ctx.invoked_subcommand in (None, "list"):
        list_runs(ctx.obj, stale)


@runs.command("list")
def runs_list():
    """List the stored runs, as `mlic runs` does."""


@runs.command("show")
@click.argument("name")
@click.pass_obj
def runs_show(stores, name):
    """Settings and numbers of the run whose name begins with NAME."""
    record = find(stores, name)
    for key, value in record.config.items():
        click.echo(f"{key:<24} {value}")
    commit = f"{record.commit}{' and changes' if record.dirty else ''}"
    click.echo(f"\n{record.device}, {record.seconds:.0f} s, commit {commit}\n")
    print_record(record.name, record.metrics, record.folder, classes=True)


@click.command()
@click.argument("name", metavar="RUN")
@click.option("--protocols", is_flag=True, help="Under every convention that papers score by, side by side.")
@click.option("--profile", **AMONG)
@click.option("--results", **RESULTS)
def score(name, protocols, profile, results):
    """Numbers of a stored run from its stored scores, by the present code: nothing is trained or predicted.

    RUN is the beginning of its name, or its folder. The record stays as it is.

    With --protocols: mAP by kind of average precision (raw, voc10, voc07), C-F1 and O-F1 by the rule that chooses an
    image's labels (top-3, p > 0.5, ...) and by definition, each for every way to count difficult objects, and how far
    the lowest and the highest of these numbers lie apart.
    """
    from mlic_core.study.record import equal

    record = find(stores_in(results_folder(results), profile), name)
    if protocols:
        return print_protocols(record)
    metrics = metrics_at_hand(record)
    print_record(record.name, metrics, record.folder, classes=True)
    if not equal({key: record.metrics.get(key) for key in metrics}, metrics):
        click.echo("these numbers differ from the stored ones, which are renewed when the run is asked for", err=True)


@click.command()
@click.argument("name", metavar="RUN")
@click.option("--out", default="", metavar="FILE", help="Where to.  [default: submissions/ beside the profile's runs]")
@click.option(
    "--competition",
    type=click.Choice(["comp1", "comp2"]),
    default="comp1",
    show_default=True,
    help="comp1: trained on VOC's data alone; comp2: on other data too, such as ImageNet.",
)
@click.option("--profile", **AMONG)
@click.option("--results", **RESULTS)
def submit(name, out, competition, profile, results):
    """Write the scores of a stored run as the PASCAL VOC evaluation server takes them.

    RUN is the beginning of its name, or its folder. The archive holds results/VOC2012/Main/COMP_cls_test_CLASS.txt
    for each of the 20 classes, with one line an image: its id and the logit.
    """
    from mlic_core.study.submission import what_next, write_submission

    record = find(stores_in(results_folder(results), profile), name)
    path = write_submission(record, Path(out).expanduser() if out else None, competition)
    click.echo(f"{short(path)}\n{what_next(record, competition)}")


@click.command()
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
@click.option("--run", "name", required=True, metavar="RUN", help="Beginning of a stored run's name, or its folder.")
@click.option("--out", default="", metavar="DIR", help="Write the scores and annotated pictures there too.")
@click.option("--plugin", **PLUGIN)
@click.option("--profile", **AMONG)
@click.option("--results", **RESULTS)
def predict(images, name, out, profile, results):
    """Name what is in your own images, by the model of a stored run.

    IMAGE is a file of any size, or a folder of such files. Each is turned upright, made RGB and squashed to the size
    that the run was trained at.

    \b
    cnn_rnn prints the best paths, with the probability of each label given those before it:
      photo.jpg
        person 0.91 -> dog 0.43 -> END 0.80, path 0.31
    Other methods print the labels with p > 0.5, or the best three where there are none or where a softmax
    shares 1 among all labels.

    \b
    --out DIR gets
      predictions.csv    image,label,score: a line for every class of every image
      predictions.jsonl  a line an image: image, width, height, labels (with p > 0.5, of the best path, or under a
                         softmax the best three), top (the best three), scores (of every class), pictures, and where
                         the method has them
                         regions (box: x0, y0, x1, y1 in whole pixels of the upright image, half-open; label; score)
                         and paths (labels, their probabilities, their product)
      NAME_regions.png   the image with its regions (mcar, rdar), each with its class and score
      NAME_maps.png      its class maps (classifier, linear, mcar), the weights of each step (gla), or the evidence
                         for each label of the best path (cnn_rnn)

    `mlic runs` lists the runs; of one that is stored without its model, as in a fresh clone, the command that trains it
    is printed.
    """
    from mlic_core.study.predict import describe, find_images, predict_images
    from mlic_core.study.predicted_files import CSV, JSON, write_predictions

    record = find(stores_in(results_folder(results), profile), name)
    labels, predictions = predict_images(record, find_images(images), maps=bool(out))
    written = write_predictions(predictions, labels, record.activation, Path(out).expanduser()) if out else []
    pictures = sum(path.suffix == ".png" for path in written)
    click.echo("\n".join(describe(one, labels, record.activation) for one in predictions))
    if written:
        count = f"{pictures} picture{'s' * (pictures != 1)}"
        click.echo(f"wrote {CSV}, {JSON} and {count} into {short(written[-1].parent)}", err=True)


@click.command()
@click.argument("file", metavar="FILE.onnx")
@click.option("--run", "name", required=True, metavar="RUN", help="Beginning of a stored run's name, or its folder.")
@click.option("--batch", default="dynamic", show_default=True, metavar="N|dynamic", help="Images at a time.")
@click.option("--plugin", **PLUGIN)
@click.option("--profile", **AMONG)
@click.option("--results", **RESULTS)
def export(file, name, batch, profile, results):
    """Write the model of a stored run of classifier or mcar as an ONNX file.

    \b
    Input  images         float32 (batch, 3, size, size): RGB in [0, 1], squashed to size x size; the graph normalises
    Output logits         (batch, classes); a sigmoid makes probabilities of them
           regions        (batch, topN, 4), of mcar: x0, y0, x1, y1 in [0, 1]
           region_labels  (batch, topN), of mcar: the class that each region was proposed for

    The file's metadata hold the labels (as JSON), size, run and method. It is written only if onnxruntime gives
    PyTorch's outputs on two photographs, their quarters and noise, to 1e-4; a region that rounding moves by a pixel is
    reported.

    \b
    Once: pip install -c constraints.txt -e '.[export]'
    """
    from mlic_core.study.export import export

    record = find(stores_in(results_folder(results), profile), name)
    if batch != "dynamic" and not (batch.isdecimal() and int(batch)):
        raise InputError(f"--batch {batch}: give a number of images, or dynamic")
    path = Path(file).expanduser()
    found = export(record, path, None if batch == "dynamic" else int(batch))
    moved = f"; in {found.moved} of {found.images} images rounding moves a region by a pixel" if found.moved else ""
    click.echo(f"wrote {short(path)}: largest difference from PyTorch {found.difference:.1e}{moved}")


@click.command()
@click.option("--sample", default=3, show_default=True, metavar="K", help="How many runs, drawn at random.")
@click.option("--run", "names", multiple=True, metavar="NAME", help="These runs instead; several times.")
@click.option("--seed", default=0, show_default=True, help="Of the draw.")
@click.option("--plugin", **PLUGIN)
@click.option("--profile", default="study", show_default=True, metavar="NAME", help="Among this profile's runs.")
@click.option("--results", **RESULTS)
@click.option("--data-root", default="", metavar="DIR", help="Folder of the data.")
def verify(sample, names, seed, profile, results, data_root):
    """Train stored runs again, in a temporary folder, and compare them with their records.

    The same machine has to give every score to the bit. Elsewhere mAP may differ by 0.3 points; exit status 1 if one
    differs by more. The records stay as they are.
    """
    from mlic_core.study import verify as check

    store = stores_in(results_folder(results), profile)[profile]
    records = [store.find(name) for name in names] if names else check.choose(store.records(), sample, seed)
    check.announce(records)
    agree = []
    for found in check.verify(records, root=data_root):
        click.echo(check.report(found))
        agree.append(found.agrees)
    sys.exit(0 if all(agree) else 1)


def results_folder(results: str) -> Path:
    from mlic_core.paths import repository_root

    return Path(results).expanduser() if results else repository_root() / "results"


def stores_in(results: Path, profile: str) -> dict:
    from mlic_core.study.store import Store

    folders = [results / profile] if profile else sorted(path.parent for path in results.glob("*/runs"))
    return {folder.name: Store(folder / "runs") for folder in folders}


def find(stores: dict, name: str):
    """The one stored run of a folder, or whose name begins with `name`."""
    from mlic_core.study.record import read_record

    folder = Path(name).expanduser()
    if len(folder.parts) > 1 or (folder / "run.json").is_file():
        return read_record(folder)
    found = [record for store in stores.values() for record in store.records() if record.name.startswith(name)]
    if len(found) != 1:
        known = ", ".join(str(record.folder) for record in found)
        count = len(found) or "no"
        raise InputError(f"{count} stored runs have a name that begins with {name!r}{known and f': {known}'}")
    return found[0]
