"""`mlic`: run experiments, score them, run the batch. Bodies import what they need, so that --help is quick."""

import errno
import sys
from pathlib import Path

import click

from mlic_core.errors import InputError
from mlic_core.study.cli_outside import SET, data, import_, pairs
from mlic_core.study.cli_stored import PLUGIN, RESULTS, export, predict, results_folder, runs, score, submit, verify
from mlic_core.study.show import print_record, short

SYSTEM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENAMETOOLONG)
OWN = "own"  # the "profile" of runs made by hand
TFLOPS = "Speed to reckon hours with: what the machine sustains in training, in 10^12 operations a second."
PROFILE = dict(default=OWN, metavar="NAME", help="Runs of this profile.", show_default=True)


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
        except OSError as error:  # a full disk, a folder that can't be written, a name that is too long
            if error.errno not in SYSTEM:
                raise
            where = f"{error.filename}: " if error.filename else ""
            click.echo(f"mlic: {where}{error.strerror}; make room there or choose another place", err=True)
            ctx.exit(1)


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="mlic", message="%(version)s")
def main():
    """Four multi-label image recognition papers, as a study that runs.

    Exit status: 0 done, 1 something failed, 2 the input was wrong.
    """


for command in (data, import_, runs, score, submit, predict, export, verify):
    main.add_command(command)


@main.command()
@click.argument("config", required=False, metavar="[CONFIG.toml|FOLDER]")
@click.option("--set", "sets", **SET)
@click.option("--profile", **PROFILE | {"help": "Start from a profile's settings and keep the run among its runs."})
@click.option("--experiment", "named", default="", metavar="NAME", help="One of the profile's list; its trunk first.")
@click.option("--results", **RESULTS)
@click.option("--eval-only", is_flag=True, help="Score the stored run's model again.")
@click.option("--plugin", **PLUGIN)
def run(config, sets, profile, named, results, eval_only):
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

    *before, experiment = _lineage(profile, named, flatten(read_toml(Path(config)) if config else {}) | pairs(sets))
    store = Store(results_folder(results) / profile / "runs")
    if not eval_only:
        return _train(store, [*before, experiment])
    if store.get(experiment) is None:
        raise InputError("--eval-only: no run with these settings is stored; leave --eval-only away to train it")
    record, dataset = store.run(experiment), open_splits(experiment.data)["eval"]
    kind = activation(experiment.method.name, experiment.method.options)
    _, metrics = score(store.model(experiment), dataset, experiment.data.difficult_eval, kind)
    print_record(record.name, metrics, record.folder)
    if metrics != record.metrics:
        click.echo("these numbers differ from the stored ones, which stay as they are", err=True)


def _train(store, experiments) -> None:
    from mlic_core import distributed

    with distributed.processes():
        for experiment in experiments:
            record = store.run(experiment)
            if distributed.rank() == 0:
                print_record(record.name, record.metrics, record.folder)


def _score_folder(folder: Path, chosen: dict) -> None:
    from mlic_core.study.checkpoints import score_folder
    from mlic_core.study.record import read_record

    print_record(read_record(folder).name, score_folder(folder, chosen), folder)


@main.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--profile", default="paper", show_default=True, help="Of this profile's experiments.")
@click.option("--data-root", default="", metavar="DIR", help="Folder of the data.  [default: counts as published]")
@click.option("--tflops", type=click.FloatRange(min=0, min_open=True), default=10.0, show_default=True, help=TFLOPS)
@click.option("--plugin", **PLUGIN)
def estimate(names, profile, data_root, tflops):
    """What experiments that a profile lists will take: work, time, memory and disk. Trains nothing.

    Memory is that of a training step in fp32; under bf16 it is about half, and recipe.accumulate divides it. Reading
    and decoding images is not in the time.
    """
    from mlic_core.study.estimate import estimate, extent, planned
    from mlic_core.study.notebook import Study

    study = Study(profile, root=data_root)
    experiments = {name: planned(study, name) for name in names or study.profile.experiments}
    width = max(map(len, experiments), default=0)
    click.echo(f"{'':{width}}   px  epochs  batch  images    PFLOP    hours  memory GB  cache GB")
    for name, one in experiments.items():
        found = estimate(one, *extent(one.data))
        how = f"{one.data.size:4} {one.recipe.epochs:7} {one.recipe.batch_size:6} {found.images:7}"
        takes = f"{found.work / 1e15:8.1f} {found.work / tflops / 3.6e15:8.1f}"
        click.echo(f"{name:{width}} {how} {takes} {found.memory / 1e9:10.1f} {found.cache / 1e9:9.1f}")


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


@main.command()
@click.argument("also", nargs=-1, metavar="[NN]...")
@click.option("--profile", default="quick", show_default=True, help="smoke, quick, study or photos.")
@click.option("--only", multiple=True, metavar="NN ...", help="Only these notebooks, by number or name.")
@click.option("--jobs", type=click.IntRange(min=1), help="Notebooks at work at a time.  [default: 2]")
@click.option("--results", **RESULTS)
@click.option("--data-root", default="", metavar="DIR", help="Folder of the data.")
@click.option("--fresh", is_flag=True, help="Remove the profile's stored runs first.")
@click.option("--force", is_flag=True, help="Run notebooks whose results are up to date, too.")
@click.option("--plugin", **PLUGIN)
@click.option("-p", "parameters", **SET | {"nargs": 2, "metavar": "NAME VALUE", "help": "A notebook's parameter."})
def reproduce(also, profile, only, jobs, results, data_root, fresh, force, parameters):
    """Run the notebooks with a profile: figures, tables and runs into results/PROFILE."""
    import signal

    from mlic_core.study.batch import reproduce

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # an exception ends the notebooks too
    chosen = dict(only=(*only, *also), jobs=jobs, results=results, data_root=data_root, fresh=fresh, force=force)
    sys.exit(reproduce(profile, **chosen, parameters=dict(parameters)))


@main.command()
@click.option("--profile", default="", metavar="NAME", help="Write the report of this profile's results.")
@click.option("--readme", is_flag=True, help="Renew the tables of README.md from results/study and photos.")
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

        return click.echo(short(write_report(profile, results_folder(results))))
    from mlic_core.paths import repository_root
    from mlic_core.study.readme import update_readme

    differed = update_readme(repository_root() / "README.md", results_folder(results), check=check)
    click.echo("README.md " + ("is out of date" if differed and check else "renewed" if differed else "is up to date"))
    sys.exit(1 if differed and check else 0)


def _lineage(profile: str, named: str, chosen: dict) -> list:
    """The experiment that is asked for, the last, after those that its trunk needs."""
    from mlic_core.study.experiments import from_settings
    from mlic_core.study.notebook import Study
    from mlic_core.study.values import convert

    if profile == OWN:
        if named:
            raise InputError(f"--experiment {named}: name the profile that lists it, as in --profile paper")
        return [from_settings(chosen)]
    study = Study(profile, root=str(chosen.get("data.root", "")))
    if named:
        seed = chosen.pop("seed", None)
        return study.lineage(named, seed=None if seed is None else convert("seed", seed, int), **chosen)
    method = chosen.pop("method", None) or chosen.pop("method.name", "classifier")
    return [study.experiment(method, **chosen)]
