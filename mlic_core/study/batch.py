"""The batch: every notebook through papermill, each in a process of its own, with one line each and a summary."""

import ast
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat

from mlic_core.errors import InputError, did_you_mean
from mlic_core.paths import repository_root
from mlic_core.progress import duration
from mlic_core.study import unchanged
from mlic_core.study.files import WAITING, exclusive, sha256, write_atomically
from mlic_core.study.profile import load_profile
from mlic_core.study.values import convert

POLL = 0.2  # seconds
OWN = ("profile", "root", "results")  # parameters that the batch sets in every notebook


@dataclass
class Job:
    """A notebook of the batch.

    came_in: digest of what it depends on. work: its temporary folder. shown: bytes of its progress already shown.
    """

    notebook: Path
    parameters: Mapping[str, Any]
    came_in: str | None = None
    work: Path | None = None
    process: subprocess.Popen | None = None
    begun: float = 0.0
    shown: int = 0
    last: str = ""
    outcome: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.notebook.stem

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.begun


def reproduce(
    profile: str,
    *,
    only: Sequence[str] = (),
    jobs: int | None = None,
    results: str = "",
    data_root: str = "",
    fresh: bool = False,
    force: bool = False,
    parameters: Mapping[str, str] | None = None,
) -> int:
    """Run the notebooks with a profile; returns the exit status.

    jobs: notebooks at a time, which share the cores. None: two, since heads on frozen maps are too small to keep two
    cores busy one at a time; of notebooks that want the same run one waits for the other.
    force: run those, too, whose results are up to date (see `unchanged`).

    0: all completed; 2: every failure was wrong input; 1: another failure. Everything that can be checked is checked
    before the first notebook starts. Raises InputError for an unknown profile, notebook or parameter.
    """
    chosen = load_profile(profile)
    if chosen.notebooks == () and not only:
        raise InputError(
            f"no notebook is for profile {profile}: `mlic estimate --profile {profile}` lists its experiments, "
            f"`mlic run --profile {profile} --experiment NAME` trains one"
        )
    home = repository_root()
    common = {
        "profile": profile,
        "root": str(Path(data_root).expanduser().resolve()) if data_root else "",
        "results": str(Path(results).expanduser().resolve()) if results else "",
    }
    waiting = plan(find_notebooks(home / "notebooks", only or chosen.notebooks or ()), common, parameters or {})
    folder = Path(common["results"] or home / "results") / profile
    print(f"{profile}: {chosen.about}\n{len(waiting)} notebooks into {_shown(folder)}", flush=True)
    if fresh:
        _remove_runs(folder / "runs")
    begun = time.monotonic()
    cores = os.cpu_count() or 1
    jobs = min(jobs or min(2, cores), max(1, len(waiting)))
    threads = max(1, cores // jobs) if jobs > 1 else None  # one alone has torch's own number
    done = _run_all(waiting, folder, home, jobs, threads, force)
    return _summary(done, folder, time.monotonic() - begun)


def find_notebooks(folder: Path, only: Sequence[str] = ()) -> list[Path]:
    """The numbered notebooks in order; with `only`, those of these numbers or names.

    Raises InputError for a number that no notebook has, and if there are no notebooks.
    """
    found = sorted(folder.glob("[0-9][0-9]_*.ipynb"))
    if not found:
        raise InputError(f"there are no numbered notebooks in {folder}")
    chosen = set()
    for word in only:
        matching = [path for path in found if word.removesuffix(".ipynb") in (path.stem, path.stem[:2])]
        if not matching:
            names = [path.stem for path in found]
            raise InputError(f"no notebook is called {word!r}; there are {', '.join(names)}{did_you_mean(word, names)}")
        chosen.update(matching)
    return [path for path in found if path in chosen or not only]


def read_parameters(notebook: Path) -> dict[str, Any]:
    """Names and defaults in the cell tagged `parameters`.

    papermill only warns about a name that is not there, so the batch has to look. Raises InputError without the cell,
    or if it holds anything but `name = literal`.
    """
    cells = nbformat.read(notebook, as_version=4).cells
    tagged = [cell for cell in cells if "parameters" in cell.metadata.get("tags", [])]
    if len(tagged) != 1:
        raise InputError(f"{notebook.name} has {len(tagged)} cells tagged parameters; it needs one")
    defaults = {}
    for statement in ast.parse(tagged[0].source).body:
        try:
            [target] = statement.targets
            defaults[target.id] = ast.literal_eval(statement.value)
        except (AttributeError, ValueError):
            line = ast.unparse(statement)
            raise InputError(f"{notebook.name}: the parameters cell holds {line!r}, not `name = literal`") from None
    return defaults


def plan(notebooks: Sequence[Path], common: Mapping[str, Any], extra: Mapping[str, str]) -> list[Job]:
    """A job for each notebook: the `common` parameters, which it must have, and those of `extra` that it has.

    `extra` is text, read as the type of the notebook's own default. Raises InputError for a parameter that no notebook
    has, one that the batch sets itself, and a value of another type.
    """
    for name in extra:
        if name in OWN:
            option = {"profile": "--profile", "root": "--data-root", "results": "--results"}[name]
            raise InputError(f"-p {name}: use {option}")
    jobs, known = [], set()
    for notebook in notebooks:
        defaults = read_parameters(notebook)
        known |= set(defaults)
        if missing := [name for name in common if name not in defaults]:
            raise InputError(f"{notebook.name}: the parameters cell lacks {', '.join(missing)}")
        own = {key: convert(f"-p {key}", value, type(defaults[key])) for key, value in extra.items() if key in defaults}
        jobs.append(Job(notebook, {**common, **own}))
    for name in extra:
        if name not in known:
            raise InputError(f"-p {name}: no notebook has this parameter{did_you_mean(name, known - set(OWN))}")
    return jobs


def _remove_runs(runs: Path) -> None:
    count = sum(1 for _ in runs.glob("*/run.json"))
    print(f"--fresh: removing {count} stored runs in {_shown(runs)}", flush=True)
    shutil.rmtree(runs, ignore_errors=True)


def _run_all(waiting: list[Job], folder: Path, home: Path, jobs: int, threads: int | None, force: bool) -> list[Job]:
    """At most `jobs` at work at a time, of `threads` each; many more kernels than cores fail to start."""
    running: list[Job] = []
    done: list[Job] = []
    screen = Screen()
    with tempfile.TemporaryDirectory(prefix="mlic-") as work:
        try:
            while waiting or running:
                while waiting and _at_work(running) < jobs and len(running) < 2 * jobs:
                    job = waiting.pop(0)
                    job.came_in = unchanged.inputs(job.notebook, job.parameters)
                    if not force and unchanged.is_unchanged(folder, job.notebook, job.came_in):
                        job.outcome = {"error": None, "ran": False}
                        screen.print(f"{job.name:<{screen.width}}  up to date")
                        done.append(job)
                        continue
                    _start(job, Path(work), home, threads)
                    running.append(job)
                time.sleep(POLL if running else 0)
                for job in [job for job in running if job.process.poll() is not None]:
                    running.remove(job)
                    done.append(job)
                    _collect(job, folder, screen)
                screen.update(running, len(done), len(done) + len(running) + len(waiting))
        finally:
            for job in running:
                job.process.terminate()
                job.process.wait()
    return done


def _at_work(running: Sequence[Job]) -> int:
    """How many don't wait for a run that another one trains: such a notebook leaves its core to the next."""
    return sum(not job.last.endswith(WAITING) for job in running)


def _start(job: Job, work: Path, home: Path, threads: int | None) -> None:
    job.work = work / job.name
    job.work.mkdir()
    request = {
        "notebook": str(job.notebook),
        "output": str(job.work / job.notebook.name),
        "outcome": str(job.work / "outcome.json"),
        "parameters": job.parameters,
        "cwd": str(job.notebook.parent),
        "replace": _replacements(job.parameters, home),
        "stamp": {
            "profile": job.parameters["profile"],
            "source": f"sha256:{sha256(job.notebook)}",
        },
    }
    (job.work / "request.json").write_text(json.dumps(request), encoding="utf-8")
    package = str(Path(__file__).parents[2])  # for the kernel, which starts in notebooks/
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")])),
        "MLIC_PROGRESS": "line",
        "MLIC_PROGRESS_FILE": str(job.work / "progress"),
        unchanged.NOTED: str(job.work / "noted"),
        # The kernel python3 is this interpreter's, whatever kernels the user has registered.
        "JUPYTER_PREFER_ENV_PATH": "1",
    }
    if threads:
        environment.setdefault("OMP_NUM_THREADS", str(threads))
    command = [sys.executable, "-m", "mlic_core.study.execute", str(job.work / "request.json")]
    job.begun = time.monotonic()
    with open(job.work / "log", "wb") as log:
        job.process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL)


def _replacements(parameters: Mapping[str, Any], home: Path) -> dict[str, str]:
    """Folders of this machine, and what an executed notebook says instead."""
    folders = {str(Path.home()): "~", tempfile.gettempdir(): "TMP", sys.base_prefix: "PYTHON", sys.prefix: "PYTHON"}
    folders[str(home)] = "."
    folders |= {parameters["root"]: "DATA", parameters["results"]: "RESULTS"}
    return {folder: word for folder, word in folders.items() if folder not in ("", "/", "/usr")}


def _collect(job: Job, folder: Path, screen: "Screen") -> None:
    """Keep the executed notebook and say how it went. A failed one goes beside the last good one, not over it."""
    outcome, executed = job.work / "outcome.json", job.work / job.notebook.name
    if outcome.is_file():
        job.outcome = json.loads(outcome.read_text(encoding="utf-8"))
    else:
        lines = (job.work / "log").read_text(errors="replace").strip().splitlines() or [""]
        status = job.process.returncode
        kind = f"killed by signal {-status}" if status < 0 else f"exit status {status}"
        job.outcome = {"error": kind, "message": lines[-1], "cell": None}
    target = folder / "notebooks" / job.notebook.name
    failed = target.with_suffix(".failed.ipynb")
    took = f"{job.name:<{screen.width}}  {{}}  {duration(job.seconds):>7}"
    if job.outcome["error"] is None:
        _keep(executed, target)
        failed.unlink(missing_ok=True)
        noted = job.work / "noted"
        files = noted.read_text(encoding="utf-8").splitlines() if noted.is_file() else []
        unchanged.keep(folder, job.notebook, job.came_in, [target, *map(Path, files)])
        screen.print(took.format("ok    "))
        return
    kind = job.outcome["error"]
    message = " ".join(job.outcome["message"].split())
    screen.print(f"{took.format('FAILED')}  {message if kind == 'InputError' else f'{kind}: {message}'}")
    if executed.is_file():
        _keep(executed, failed)
        where = f", cell [{job.outcome['cell']}]" if job.outcome["cell"] else ""
        screen.print(f"{'':<{screen.width}}  traceback in {_shown(failed)}{where}")


def _keep(executed: Path, target: Path) -> None:
    with exclusive(target.with_name(f".{target.name}.lock")):  # another batch may end the same notebook
        write_atomically(target, executed.read_bytes())


def _summary(done: Sequence[Job], folder: Path, seconds: float) -> int:
    failed = [job for job in done if job.outcome["error"] is not None]
    print(f"{len(done) - len(failed)} of {len(done)} notebooks in {duration(seconds)}", end="; ")
    if done and not any(job.outcome.get("ran", True) for job in done):
        print(f"nothing has changed in {_shown(folder)}; --force runs them again")
        return 0
    if not failed:
        print(f"figures, tables and executed notebooks in {_shown(folder)}")
        return 0
    print("failed: " + ", ".join(sorted(job.name for job in failed)))
    return 2 if all(job.outcome["error"] == "InputError" for job in failed) else 1


def _shown(path: Path) -> str:
    """A path as a user would type it here."""
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)


class Screen:
    """Finished notebooks on stdout; what the running ones do on stderr: one changing line in a terminal, else lines."""

    width = 16

    def __init__(self):
        self.live = sys.stderr.isatty()

    def print(self, text: str) -> None:
        """A line that stays."""
        self._clear()
        print(text, flush=True)

    def update(self, running: Sequence[Job], done: int, total: int) -> None:
        """Show what the running notebooks have said since the last time."""
        for job in running:
            for line in _new_progress(job):
                job.last = line
                if not self.live:
                    print(f"  {job.name}  {line}", file=sys.stderr, flush=True)
        if self.live and running:
            at_work = "   ".join(f"{job.name} {duration(job.seconds)}  {job.last}" for job in running)
            text = f"[{done}/{total}] {at_work}"[: shutil.get_terminal_size().columns - 1]
            print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)

    def _clear(self) -> None:
        if self.live:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def _new_progress(job: Job) -> list[str]:
    path = job.work / "progress"
    if not path.is_file():
        return []
    content = path.read_bytes()
    complete = content[: content.rfind(b"\n") + 1]
    lines = complete[job.shown :].decode("utf-8", "replace").splitlines()
    job.shown = len(complete)
    return lines
