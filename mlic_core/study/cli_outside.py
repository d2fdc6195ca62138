"""The commands for what comes from outside: data sets, and models that were trained elsewhere."""

import click

from mlic_core.errors import InputError, did_you_mean
from mlic_core.study.show import short

SET = dict(multiple=True, metavar="KEY=VALUE", help="A setting, such as recipe.epochs=3 or method=mcar. Repeatable.")


@click.group()
def data():
    """Prepare or check a data set."""


@data.command("prepare")
@click.argument("name")
@click.option("--root", default="", metavar="DIR", help="Folder to write to.  [default: one in data/cache]")
@click.option("--from", "archives", default="", metavar="DIR", help="Folder that has the archives: nothing is loaded.")
@click.option("--train", type=int, help="Scenes to train on, of a drawn set.")
@click.option("--val", type=int, help="Scenes to choose by, of a drawn set.")
@click.option("--test", type=int, help="Scenes to score on, of a drawn set.")
@click.option("--seed", type=int, help="Seed of the drawing.")
@click.option("--set", "sets", **SET | {"help": "Another field of what is drawn, such as noise=8. Repeatable."})
@click.pass_context
def data_prepare(ctx, name, root, archives, sets, **sizes):
    """Put the data set NAME on disk unless it is there.

    picto-voc and picto-coco are drawn. voc2007, voc2012, coco2014 and coco2017 are downloaded from their authors,
    verified by size and SHA-256 and unpacked; an interrupted download goes on where it broke off.
    """
    from mlic_core.data.download import Interrupted
    from mlic_core.study.prepare import prepare_published

    chosen = {key: str(value) for key, value in sizes.items() if value is not None} | pairs(sets)
    if not _is_published(name, archives, chosen):
        return _draw(name, root, chosen)
    try:
        folder = prepare_published(name, root, archives, click.echo)
    except Interrupted as error:
        click.echo(f"mlic: {error}", err=True)
        ctx.exit(1)
    click.echo(f"{name} is in {short(folder)}; `mlic data check {name} --root {short(folder)}` counts and decodes it")
    if (folder / "downloads").is_dir():
        click.echo(f"{short(folder / 'downloads')} is no longer needed")


def _is_published(name: str, archives: str, chosen: dict) -> bool:
    """Whether a set is downloaded, not drawn. Raises InputError for any other, and for options of the other kind."""
    from mlic_core.data.sources import ON_REQUEST, SOURCES
    from mlic_core.study.experiments import SPECS

    if name in ON_REQUEST:
        raise InputError(f"{name}: {ON_REQUEST[name].format(name=name)}")
    if name not in (*SPECS, *SOURCES):
        known = [*SPECS, *SOURCES]
        raise InputError(
            f"{name}: there is nothing to prepare but {', '.join(known)}{did_you_mean(name, known)}; of another set, "
            "give the files' folder as data.root"
        )
    if name in SOURCES and chosen:
        raise InputError(f"{next(iter(chosen))}: only {' and '.join(SPECS)} are drawn, {name} is as it was published")
    if name in SPECS and archives:
        raise InputError(f"--from: {name} is drawn here and comes from no archive")
    return name in SOURCES


def _draw(name: str, root: str, chosen: dict) -> None:
    from mlic_core.study.experiments import SPECS, from_settings, prepare

    prefix = f"data.{SPECS[name]}."
    chosen = {prefix + key.removeprefix(prefix): value for key, value in chosen.items()}
    spec = from_settings({"data.name": name, **chosen}).data.spec
    folder = prepare(name, root, spec)
    click.echo(f"{name}: {spec.train} train, {spec.val} val, {spec.test} test scenes in {root or short(folder)}")


@data.command("check")
@click.argument("name")
@click.option("--root", default="", metavar="DIR", help="The data set's folder.")
@click.option("--split", "splits", multiple=True, help="Split to check.  [default: those published, or of a run]")
@click.option("--sample", type=click.IntRange(min=0), metavar="N", help="Decode N images a split.  [default: all]")
@click.pass_context
def data_check(ctx, name, root, splits, sample):
    """Read every label, box and image of the data set NAME; csv:PATH for a CSV file.

    Sets that are published are held against their published size. A part of one is fine; the exit status is 1 for
    more than that, for as many images with other objects, and for images that can't be decoded.
    """
    from mlic_core.data.sources import PUBLISHED
    from mlic_core.study import check, subset
    from mlic_core.study.experiments import from_settings

    sound, decoded = True, set()
    for dataset in check.splits_to_check(from_settings({"data.name": name, "data.root": root}).data, splits):
        found = check.count(dataset, sample, decoded)
        click.echo(f"{check.describe(dataset.split, found)}\n  labels and ids {dataset.digest()[:12]}")
        if listed := subset.listed_as(dataset):
            click.echo(f"  the images of data/splits/{listed}")
        if published := PUBLISHED.get(name, {}).get(dataset.split):
            line, fits = check.compare(published, found)
            click.echo(f"  {line}")
            sound &= fits
        for message in found.unreadable:
            click.echo(f"mlic: {message}", err=True)
        sound &= not found.unreadable
    ctx.exit(0 if sound else 1)


@data.command("subset")
@click.argument("name")
@click.option("--root", required=True, metavar="DIR", help="Folder of VOC 2012.")
@click.option("--out", required=True, metavar="DIR", help="Where to: a folder that is not there.")
def data_subset(name, root, out):
    """Make a devkit of the images that data/splits/NAME lists; they stay where they are, under links."""
    from mlic_core.study.subset import make_subset

    sizes = make_subset(name, root, out)
    click.echo(f"{name}: {', '.join(f'{count} {split}' for split, count in sizes.items())} images in {out}")


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
