"""The commands for what comes from outside: data sets, and models that were trained elsewhere."""

import click

from mlic_core.errors import InputError
from mlic_core.study.show import short

SET = dict(multiple=True, metavar="KEY=VALUE", help="A setting, such as recipe.epochs=3 or method=mcar. Repeatable.")


@click.group()
def data():
    """Prepare or check a data set."""


@data.command("prepare")
@click.argument("name")
@click.option("--root", default="", metavar="DIR", help="Folder to write to.  [default: one in data/cache]")
@click.option("--train", type=int, help="Scenes to train on.")
@click.option("--val", type=int, help="Scenes to choose by.")
@click.option("--test", type=int, help="Scenes to score on.")
@click.option("--seed", type=int, help="Seed of the drawing.")
@click.option("--set", "sets", **SET | {"help": "Another field of what is drawn, such as noise=8. Repeatable."})
def data_prepare(name, root, sets, **sizes):
    """Draw the data set NAME (picto-voc or picto-coco) unless it is there."""
    from mlic_core.study.experiments import SPECS, from_settings, prepare

    if name not in SPECS:
        only = " and ".join(SPECS)
        raise InputError(f"{name}: only {only} are drawn here; of another set, give the files' folder as data.root")
    chosen = {key: str(value) for key, value in sizes.items() if value is not None} | pairs(sets)
    prefix = f"data.{SPECS[name]}."
    chosen = {prefix + key.removeprefix(prefix): value for key, value in chosen.items()}
    spec = from_settings({"data.name": name, **chosen}).data.spec
    folder = prepare(name, root, spec)
    click.echo(f"{name}: {spec.train} train, {spec.val} val, {spec.test} test scenes in {root or short(folder)}")


@data.command("check")
@click.argument("name")
@click.option("--root", default="", metavar="DIR", help="The data set's folder.")
@click.option("--split", "splits", multiple=True, help="Split to check.  [default: those that a run uses]")
def data_check(name, root, splits):
    """Read every label, image and box of the data set NAME."""
    from mlic_core.progress import track
    from mlic_core.study.experiments import from_settings, open_split, open_splits

    chosen = from_settings({"data.name": name, "data.root": root}).data
    opened = [open_split(chosen, split) for split in splits] or open_splits(chosen).values()
    for dataset in opened:
        boxes = 0
        for index in track(range(len(dataset)), label=f"checking {dataset.split}"):
            dataset.original(index)
            boxes += len(dataset.boxes(index)[0]) if dataset.has_boxes else 0
        present, ignored = (dataset.targets == 1).sum(), (dataset.targets == -1).sum()
        click.echo(
            f"{dataset.split}: {len(dataset)} images, {present / len(dataset):.2f} labels an image, "
            f"{ignored} ignored entries, {boxes if boxes else 'no'} boxes"
        )


@click.group("import")
def import_():
    """Take over a model that was trained elsewhere."""


@import_.command("mcar")
@click.argument("file")
@click.option("--out", required=True, metavar="DIR", help="Where to: a folder that is empty or isn't there.")
@click.option(
    "--pooling",
    type=click.Choice(["gap", "gmp", "gwp"]),
    default="gap",
    show_default=True,
    help="How the model pools, which FILE doesn't say: the authors' best is gap on VOC 2007, gwp on COCO.",
)
@click.option("--size", default=448, show_default=True, help="Side of its input in pixels.")
def import_mcar(file, out, pooling, size):
    """Convert FILE, a checkpoint that MCAR's authors released, into a folder for predict and run --eval-only.

    Nothing in FILE is run.
    """
    from mlic_core.study.checkpoints import import_mcar
    from mlic_core.study.record import read_record

    settings = read_record(import_mcar(file, out, pooling=pooling, size=size)).config
    click.echo(
        f"MCAR on {settings['trunk.name']}, classes as in {settings['data.name']}, {pooling} at {size} pixels: in {out}"
    )


def pairs(texts) -> dict[str, str]:
    """Dotted settings from KEY=VALUE texts. Raises InputError for a text without "="."""
    chosen = {}
    for text in texts:
        key, sign, value = text.partition("=")
        if not sign:
            raise InputError(f"--set {text}: write it as KEY=VALUE")
        chosen[key.strip()] = value.strip()
    return chosen
