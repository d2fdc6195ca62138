"""`mlic`: run experiments, score them, run the batch. Bodies import what they need, so that --help is quick."""

import sys
from pathlib import Path

import click

from mlic_core.errors import InputError
from mlic_core.study.cli_outside import SET, data, import_, pairs
from mlic_core.study.show import list_runs, metrics_at_hand, print_protocols, print_record, short

OWN = "own"  # the "profile" of runs made by hand
RESULTS = dict(default="", metavar="DIR", help="Folder of all results.  [default: results/ of the repository]")
PROFILE = dict(default=OWN, metavar="NAME", help="Runs of this profile.", show_default=True)
AMONG = dict(default="", metavar="NAME", help="Look among this profile's runs.", show_default="all")


def _use_plugin(context: click.Context, parameter: click.Parameter, value: str | None) -> None:
    if value:
        from mlic_core.study.plugins import use_plugin

        use_plugin(value)


PLUGIN = dict(metavar="FILE", callback=_use_plugin, expose_value=False, is_eager=True)
PLUGIN |= dict(help="Import this Python file first, which may register a trunk of yours.")


class Group(click.Group):
    """Wrong input is one sentence on stderr and exit status 2, wherever in a command it is found."""

    def invoke(self, ctx: click.Context):
        try:
            return super().invoke(ctx)
        except InputError as error:
            click.echo(f"mlic: {error}", err=True)
            ctx.exit(2)
        except FloatingPointError as error:
            click.echo(f"mlic: {error}", err=True)
            ctx.exit(1)


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="mlic", message="%(version)s")
def main():
    """Four multi-label image recognition papers, as a study that runs.

    Exit status: 0 done, 1 something failed, 2 the input was wrong.
    """


main.add_command(data)
main.add_command(import_)


@main.command()
@click.argument("config", required=False, metavar="[CONFIG.toml|FOLDER]")
@click.option("--set", "sets", **SET)
@click.option("--profile", **PROFILE | {"help": "Start from a profile's settings and keep the run among its runs."})
@click.option("--results", **RESULTS)
@click.option("--eval-only", is_flag=True, help="Score the stored run's model again.")
@click.option("--plugin", **PLUGIN)
def run(config, sets, profile, results, eval_only):
    """Train and score one experiment, or find its stored run.

    With --eval-only the model is trained again only if it is not beside its record, as in a fresh clone.
    Settings come from the profile, then from CONFIG.toml, then from --set.
    `torchrun --nproc-per-node 2 -m mlic_core run ...` shares every batch among two processes, one for each GPU.

    With --eval-only and the FOLDER of a run or an imported checkpoint, the model in it is scored on the data that --set
    names. The folder stays as it is.
    """
    if config and Path(config).is_dir():
        if not eval_only or profile != OWN:
            raise InputError(f"{config} is a folder: give --eval-only, to score its model, and no --profile")
        return _score_folder(Path(config), pairs(sets))
    from mlic_core.models import activation
    from mlic_core.study.experiments import open_splits
    from mlic_core.study.profile import flatten, read_toml
    from mlic_core.study.store import Store, score

    experiment = _experiment(profile, flatten(read_toml(Path(config)) if config else {}) | pairs(sets))
    store = Store(_results(results) / profile / "runs")
    if not eval_only:
        return _train(store, experiment)
    if store.get(experiment) is None:
        raise InputError("--eval-only: no run with these settings is stored; leave --eval-only away to train it")
    record, dataset = store.run(experiment), open_splits(experiment.data)["eval"]
    kind = activation(experiment.method.name, experiment.method.options)
    _, metrics = score(store.model(experiment), dataset, experiment.data.difficult_eval, kind)
    print_record(record.name, metrics, record.folder)
    if metrics != record.metrics:
        click.echo("these numbers differ from the stored ones, which stay as they are", err=True)


def _train(store, experiment) -> None:
    from mlic_core import distributed

    with distributed.processes():
        record = store.run(experiment)
        if distributed.rank() == 0:
            print_record(record.name, record.metrics, record.folder)


def _score_folder(folder: Path, chosen: dict) -> None:
    from mlic_core.study.checkpoints import score_folder
    from mlic_core.study.record import read_record

    print_record(read_record(folder).name, score_folder(folder, chosen), folder)


@main.command()
@click.argument("name", metavar="pictonet-s|-m|-l")
@click.option("--out", default="", metavar="FILE", help="Where to.  [default: the trunk's place in data/weights]")
@click.option("--pictures", default=24_000, show_default=True, help="Pictures to draw and train on.")
@click.option("--epochs", default=10, show_default=True, help="Passes over them.")
def pretrain(name, out, pictures, epochs):
    """Make the weights of a PictoNet again: classify 400 pictograms that are in no data set here.

    With the defaults about 5, 7 and 15 minutes for -s, -m and -l on two cores.
    """
    from mlic_core.pretraining import pretrain

    accuracy = pretrain(name, pictures=pictures, epochs=epochs, out=Path(out) if out else None)
    click.echo(f"{name}: {100 * accuracy:.1f} % of other pictures of the same pictograms are named right")


@main.group(invoke_without_command=True)
@click.option("--profile", **AMONG | {"help": "Only this profile's runs."})
@click.option("--results", **RESULTS)
@click.option("--stale", is_flag=True, help="Only runs that were made by other code than the present.")
@click.pass_context
def runs(ctx, profile, results, stale):
    """List the stored runs, or show one.

    stale: made by other code than the present; outdated: its metrics will be computed again, from the stored scores,
    when it is asked for.
    """
    ctx.obj = _stores(_results(results), profile)
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
    record = _find(stores, name)
    for key, value in record.config.items():
        click.echo(f"{key:<24} {value}")
    commit = f"{record.commit}{' and changes' if record.dirty else ''}"
    click.echo(f"\n{record.device}, {record.seconds:.0f} s, commit {commit}\n")
    print_record(record.name, record.metrics, record.folder, classes=True)


@main.command()
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

    record = _find(_stores(_results(results), profile), name)
    if protocols:
        return print_protocols(record)
    metrics = metrics_at_hand(record)
    print_record(record.name, metrics, record.folder, classes=True)
    if not equal({key: record.metrics.get(key) for key in metrics}, metrics):
        click.echo("these numbers differ from the stored ones, which are renewed when the run is asked for", err=True)


@main.command()
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

    record = _find(_stores(_results(results), profile), name)
    path = write_submission(record, Path(out).expanduser() if out else None, competition)
    click.echo(f"{short(path)}\n{what_next(record, competition)}")


@main.command()
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
@click.option("--run", "name", required=True, metavar="RUN", help="Beginning of a stored run's name, or its folder.")
@click.option("--out", default="", metavar="DIR", help="Write predictions.csv and pictures of the regions there too.")
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

    predictions.csv has a line for every class of every image: image,label,score. `mlic runs` lists the runs; of one
    that is stored without its model, as in a fresh clone, the command that trains it is printed.
    """
    from mlic_core.study.predict import describe, find_images, predict_images, write_predictions

    record = _find(_stores(_results(results), profile), name)
    labels, predictions = predict_images(record, find_images(images))
    written = write_predictions(predictions, labels, Path(out).expanduser()) if out else []
    click.echo("\n".join(describe(one, labels, record.activation) for one in predictions))
    for path in written:
        click.echo(f"wrote {short(path)}", err=True)


@main.command()
@click.argument("also", nargs=-1, metavar="[NN]...")
@click.option("--profile", default="quick", show_default=True, help="smoke, quick or study.")
@click.option("--only", multiple=True, metavar="NN ...", help="Only these notebooks, by number or name.")
@click.option("--jobs", type=click.IntRange(min=1), help="Notebooks at a time.  [default: 2]")
@click.option("--results", **RESULTS)
@click.option("--data-root", default="", metavar="DIR", help="Folder of the data.")
@click.option("--fresh", is_flag=True, help="Remove the profile's stored runs first.")
@click.option("--plugin", **PLUGIN)
@click.option("-p", "parameters", **SET | {"nargs": 2, "metavar": "NAME VALUE", "help": "A notebook's parameter."})
def reproduce(also, profile, only, jobs, results, data_root, fresh, parameters):
    """Run the notebooks with a profile: figures, tables and runs into results/PROFILE."""
    import signal

    from mlic_core.study.batch import reproduce

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # an exception ends the notebooks too
    chosen = dict(only=(*only, *also), jobs=jobs, results=results, data_root=data_root, fresh=fresh)
    sys.exit(reproduce(profile, **chosen, parameters=dict(parameters)))


@main.command()
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

    store = _stores(_results(results), profile)[profile]
    records = [store.find(name) for name in names] if names else check.choose(store.records(), sample, seed)
    check.announce(records)
    agree = []
    for found in check.verify(records, root=data_root):
        click.echo(check.report(found))
        agree.append(found.agrees)
    sys.exit(0 if all(agree) else 1)


@main.command()
@click.option("--profile", default="", metavar="NAME", help="Write the report of this profile's results.")
@click.option("--readme", is_flag=True, help="Renew the results table of README.md from results/study.")
@click.option("--check", is_flag=True, help="With --readme: change nothing; exit with 1 if the table is out of date.")
@click.option("--results", **RESULTS)
def report(profile, readme, check, results):
    """Renew what is generated from stored results: give --profile NAME or --readme.

    The report is results/NAME/report/index.html, with the profile's tables and figures, its runs and its executed
    notebooks. It needs no network, and moves with the folder results/NAME.
    """
    if bool(profile) == readme or (profile and check):
        raise InputError("give either --profile NAME, or --readme with or without --check")
    if profile:
        from mlic_core.study.page import write_report

        return click.echo(short(write_report(profile, _results(results))))
    from mlic_core.paths import repository_root
    from mlic_core.study.readme import update_readme

    differed = update_readme(repository_root() / "README.md", _results(results), check=check)
    click.echo("README.md " + ("is out of date" if differed and check else "renewed" if differed else "is up to date"))
    sys.exit(1 if differed and check else 0)


def _experiment(profile: str, chosen: dict):
    from mlic_core.study.experiments import from_settings
    from mlic_core.study.notebook import Study

    if profile == OWN:
        return from_settings(chosen)
    method = chosen.pop("method", None) or chosen.pop("method.name", "classifier")
    return Study(profile).experiment(method, **chosen)


def _results(results: str) -> Path:
    from mlic_core.paths import repository_root

    return Path(results).expanduser() if results else repository_root() / "results"


def _stores(results: Path, profile: str) -> dict:
    from mlic_core.study.store import Store

    folders = [results / profile] if profile else sorted(path.parent for path in results.glob("*/runs"))
    return {folder.name: Store(folder / "runs") for folder in folders}


def _find(stores: dict, name: str):
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
