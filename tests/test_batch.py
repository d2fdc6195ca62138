"""The batch checks everything it can before it starts, goes on after a failure, and cleans what it keeps."""

import io
import json
import re
import shutil
import sys
from contextlib import redirect_stderr, redirect_stdout
from itertools import count
from types import SimpleNamespace

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output

from mlic_core.errors import InputError
from mlic_core.paths import repository_root
from mlic_core.study import batch, execute
from mlic_core.study.batch import find_notebooks, plan, read_parameters, reproduce
from mlic_core.study.profile import load_profile, profile_names
from tests.notebooks.contract import MACHINE_PATH

PARAMETERS = 'profile = "smoke"\nroot = ""\nresults = ""'
COMPLETION = 'print("complete")'


def write_notebook(path, *sources, parameters=PARAMETERS):
    cells = [
        new_code_cell(parameters, metadata={"tags": ["parameters"]}),
        *map(new_code_cell, sources),
        new_code_cell(COMPLETION, metadata={"tags": ["completion"]}),
    ]
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    nbformat.write(new_notebook(cells=cells, metadata={"kernelspec": kernel}), path)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A repository with four notebooks: one that works and three that fail, each in its way."""
    home = tmp_path_factory.mktemp("home")
    (home / "data").mkdir()
    shutil.copy(repository_root() / "data/published_results.csv", home / "data")
    notebooks = home / "notebooks"
    notebooks.mkdir()
    write_notebook(
        notebooks / "00_good.ipynb",
        'import os, sys\nfrom mlic_core.progress import say\nsay("mcar 4/10, about 2:20 left")',
        'print(epochs, profile, os.path.basename(os.getcwd()))',
        'print(os.getcwd() + "/x", results, sys.prefix, os.path.expanduser("~"))\nlen([]) // 1',
        parameters=PARAMETERS + "\nepochs = 1",
    )
    write_notebook(notebooks / "01_crash.ipynb", "1 / 0", 'print("never")')
    write_notebook(notebooks / "02_exit.ipynb", "import sys\nsys.exit(0)")
    write_notebook(
        notebooks / "03_input.ipynb",
        'from mlic_core.errors import InputError\nraise InputError("voc2012 is not there; say where it is")',
    )
    return home


@pytest.fixture
def at_home(home, monkeypatch):
    monkeypatch.setenv("MLIC_HOME", str(home))
    monkeypatch.chdir(home)
    return home


@pytest.fixture(scope="module")
def ran(home):
    """The four notebooks, run once, with what was printed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLIC_HOME", str(home))
        patch.chdir(home)
        patch.setenv("IPYTHONDIR", str(home / "ipython"))  # not the user's history
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            status = reproduce("smoke", jobs=2, results=str(home / "elsewhere"), parameters={"epochs": "7"})
    return SimpleNamespace(status=status, out=out.getvalue(), err=err.getvalue(), folder=home / "elsewhere/smoke")


def outputs(path):
    cells = nbformat.read(path, as_version=4).cells
    return "".join(output.get("text", "") for cell in cells for output in cell.get("outputs", []))


def test_each_notebook_gets_one_line_with_its_time(ran):
    assert re.search(r"^00_good +ok +\d+:\d\d$", ran.out, re.MULTILINE)
    assert re.search(r"^01_crash +FAILED +\d+:\d\d  ZeroDivisionError: division by zero$", ran.out, re.MULTILINE)
    reason = "Incomplete: the completion cell was not reached"
    assert re.search(rf"^02_exit +FAILED +\d+:\d\d  {reason}$", ran.out, re.MULTILINE)


def test_wrong_input_in_a_notebook_is_reported_by_its_sentence(ran):
    assert re.search(r"^03_input +FAILED +\d+:\d\d  voc2012 is not there; say where it is$", ran.out, re.MULTILINE)


def test_a_failure_says_where_its_traceback_lies(ran):
    where = "elsewhere/smoke/notebooks/01_crash.failed.ipynb"
    assert f"traceback in {where}, cell [3]" in ran.out
    assert "ZeroDivisionError" in (ran.folder.parents[1] / where).read_text()


def test_the_batch_goes_on_after_a_failure_and_ends_with_a_summary(ran):
    assert ran.status == 1
    assert re.search(r"^1 of 4 notebooks in \d+:\d\d; failed: 01_crash, 02_exit, 03_input$", ran.out, re.MULTILINE)


@pytest.mark.parametrize(("cores", "asked", "only", "jobs", "threads"), [
    (2, None, (), 2, 1), (1, None, (), 1, None), (8, None, (), 2, 4), (8, 3, (), 3, 2), (2, 4, (), 4, 1),
    (8, None, ("00",), 1, None), (8, 9, (), 4, 2),
])  # fmt: skip
def test_notebooks_at_a_time_share_the_cores(at_home, monkeypatch, cores, asked, only, jobs, threads):
    chosen = []
    monkeypatch.setattr(batch.os, "cpu_count", lambda: cores)
    monkeypatch.setattr(batch, "_run_all", lambda waiting, folder, home, *how: chosen.append(how) or [])
    reproduce("smoke", jobs=asked, only=only, results=str(at_home / "none"), parameters={"epochs": "3"})
    assert chosen == [(jobs, threads, False)]


@pytest.mark.parametrize(("waits", "jobs", "beside"), [
    ([], 2, [0, 1, 1, 1]),
    (["01_crash"], 2, [0, 1, 2, 2]),  # 02 takes the core of 01, 03 that of a notebook that has ended
    (["00_good", "01_crash", "02_exit"], 2, [0, 1, 2, 3]),
    (["00_good", "01_crash", "02_exit"], 1, [0, 1, 1, 1]),  # twice as many kernels at most
])  # fmt: skip
def test_a_notebook_that_waits_leaves_its_core_to_the_next(at_home, monkeypatch, tmp_path, waits, jobs, beside):
    common = {"profile": "smoke", "root": "", "results": ""}
    given, running, found = plan(find_notebooks(at_home / "notebooks"), common, {}), [], []

    def start(job, *_):
        found.append(len(running))
        running.append(job)
        job.work, turns = tmp_path / job.name, count()
        job.work.mkdir()
        said = "run 0123: waiting for it" if job.name in waits else "training"
        (job.work / "progress").write_text(f"{said}\n")
        job.process = SimpleNamespace(poll=lambda: None if next(turns) < 4 or job is not running[0] else 0)

    monkeypatch.setattr(batch, "_start", start)
    monkeypatch.setattr(batch, "_collect", lambda job, *_: running.remove(job))
    monkeypatch.setattr(batch, "POLL", 0)
    jobs_done = batch._run_all(given, tmp_path, at_home, jobs, 1, True)
    assert len(jobs_done) == 4 and found == beside


def test_progress_of_a_notebook_is_shown_but_not_kept(ran):
    assert "00_good  mcar 4/10, about 2:20 left\n" in ran.err
    assert "about 2:20 left" not in outputs(ran.folder / "notebooks/00_good.ipynb")


def test_parameters_reach_the_notebook_which_runs_in_its_folder(ran):
    assert "7 smoke notebooks\n" in outputs(ran.folder / "notebooks/00_good.ipynb")


def test_an_executed_notebook_names_no_folder_of_the_machine(ran, home):
    for path in (ran.folder / "notebooks").iterdir():
        text = path.read_text()
        assert not MACHINE_PATH.search(text), path.name
        assert str(home) not in text and sys.prefix not in text, path.name
    assert "./notebooks/x RESULTS PYTHON ~\n" in outputs(ran.folder / "notebooks/00_good.ipynb")


def test_an_executed_notebook_is_stamped_and_free_of_times(ran):
    notebook = nbformat.read(ran.folder / "notebooks/00_good.ipynb", as_version=4)
    nbformat.validate(notebook)
    assert set(notebook.metadata) == {"kernelspec", "language_info", "mlic"}
    assert notebook.metadata.mlic.profile == "smoke" and notebook.metadata.mlic.source.startswith("sha256:")
    assert all(set(cell.metadata) <= {"tags"} for cell in notebook.cells)


def test_a_second_batch_runs_only_what_failed(ran, at_home, monkeypatch, capsys):
    started = []
    monkeypatch.setattr(batch, "_start", lambda job, *_: started.append(job.name) or pytest.fail("kernel"))
    again = dict(results=str(at_home / "elsewhere"), parameters={"epochs": "7"}, only=["00"])
    assert reproduce("smoke", **again) == 0 and not started
    said = capsys.readouterr().out
    assert re.search(r"^00_good +up to date$", said, re.MULTILINE)
    assert re.search(r"^1 of 1 notebooks in 0:0\d; nothing has changed in elsewhere/smoke; --force", said, re.MULTILINE)
    for changed in ({"force": True}, {"parameters": {"epochs": "8"}}, {"only": ["01"], "parameters": {}}):
        with pytest.raises(pytest.fail.Exception, match="kernel"):
            reproduce("smoke", **(again | changed))
    assert started == ["00_good", "00_good", "01_crash"]


def test_nothing_else_is_left_in_the_results(ran):
    kept = sorted(str(path.relative_to(ran.folder)) for path in ran.folder.rglob("*") if path.is_file())
    failed = [f"notebooks/{name}.failed.ipynb" for name in ("01_crash", "02_exit", "03_input")]
    assert kept == [".unchanged.json", "notebooks/00_good.ipynb", *failed]


def test_only_wrong_input_ends_with_status_2(at_home, monkeypatch, capsys):
    def finish(job, *_):
        job.process = SimpleNamespace(poll=lambda: 0)
        job.work = at_home
        job.outcome = {"error": "InputError", "message": "m", "cell": 2}

    monkeypatch.setattr(batch, "_start", finish)
    monkeypatch.setattr(batch, "_collect", lambda *_: None)
    assert reproduce("smoke", only=["03"], results=str(at_home / "none")) == 2
    assert "failed: 03_input" in capsys.readouterr().out


def test_a_failed_notebook_does_not_replace_the_last_good_one(at_home, tmp_path, capsys):
    def collect(error):
        work = tmp_path / "work"
        work.mkdir(exist_ok=True)
        job = batch.Job(at_home / "notebooks/00_good.ipynb", {}, work=work)
        write_notebook(work / "00_good.ipynb", f"print({error!r})")
        (work / "outcome.json").write_text(json.dumps({"error": error, "message": "", "cell": 1}))
        batch._collect(job, tmp_path / "smoke", batch.Screen())

    good, failed = (tmp_path / "smoke/notebooks" / name for name in ("00_good.ipynb", "00_good.failed.ipynb"))
    collect(None)
    collect("ValueError")
    assert "None" in good.read_text() and "ValueError" in failed.read_text()
    collect(None)
    assert good.exists() and not failed.exists()


def test_a_process_that_dies_without_a_word_is_a_failure(at_home, tmp_path, capsys):
    (tmp_path / "log").write_text("starting\nout of memory\n")
    job = batch.Job(at_home / "notebooks/00_good.ipynb", {}, work=tmp_path)
    job.process = SimpleNamespace(returncode=-9)
    batch._collect(job, tmp_path / "smoke", batch.Screen())
    assert "FAILED" in capsys.readouterr().out
    assert job.outcome == {"error": "killed by signal 9", "message": "out of memory", "cell": None}


@pytest.mark.parametrize(("arguments", "message"), [
    ({"profile": "quik"}, r"no profile is named 'quik'; choose from .*; did you mean 'quick'\?"),
    ({"only": ["07"]}, "no notebook is called '07'; there are 00_good, 01_crash, 02_exit, 03_input"),
    ({"parameters": {"epoch": "3"}}, r"-p epoch: no notebook has this parameter; did you mean 'epochs'\?"),
    ({"parameters": {"epochs": "many"}}, "-p epochs=many: expected an integer"),
    ({"parameters": {"profile": "quick"}}, "-p profile: use --profile"),
])
def test_what_can_be_checked_is_checked_before_the_start(at_home, monkeypatch, arguments, message):
    monkeypatch.setattr(batch, "_run_all", lambda *_: pytest.fail("started"))
    with pytest.raises(InputError, match=message):
        reproduce(**{"profile": "smoke", "results": str(at_home / "never"), "fresh": True, **arguments})
    assert not (at_home / "never").exists()


def test_only_takes_numbers_and_names_and_keeps_the_order(at_home):
    chosen = find_notebooks(at_home / "notebooks", ["02", "00_good", "00"])
    assert [path.stem for path in chosen] == ["00_good", "02_exit"]
    assert len(find_notebooks(at_home / "notebooks")) == 4


def test_a_parameter_goes_to_the_notebooks_that_have_it(at_home):
    jobs = plan(find_notebooks(at_home / "notebooks"), {"profile": "smoke"}, {"epochs": "3"})
    assert [job.parameters.get("epochs") for job in jobs] == [3, None, None, None]


@pytest.mark.parametrize(("source", "message"), [
    ("epochs = 2 * 3", "holds 'epochs = 2 \\* 3'"), ("import os", "holds 'import os'"), ("a, b = 1, 2", "holds 'a, b"),
])
def test_a_parameters_cell_holds_plain_literals(tmp_path, source, message):
    write_notebook(tmp_path / "00_x.ipynb", parameters=source)
    with pytest.raises(InputError, match=message):
        read_parameters(tmp_path / "00_x.ipynb")


def test_a_notebook_without_the_common_parameters_is_refused(tmp_path):
    write_notebook(tmp_path / "00_x.ipynb", parameters='profile = "smoke"')
    with pytest.raises(InputError, match=r"00_x\.ipynb: the parameters cell lacks root, results"):
        plan([tmp_path / "00_x.ipynb"], {"profile": "smoke", "root": "", "results": ""}, {})


def test_fresh_removes_the_profiles_runs_and_says_so(at_home, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(batch, "_run_all", lambda *_: [])
    for profile in ("smoke", "quick"):
        (tmp_path / profile / "runs/0123").mkdir(parents=True)
        (tmp_path / profile / "runs/0123/run.json").write_text("{}")
    reproduce("smoke", results=str(tmp_path), fresh=True)
    assert "--fresh: removing 1 stored runs in" in capsys.readouterr().out
    assert [path.parts[-3] for path in tmp_path.rglob("0123")] == ["quick"]


def fake_papermill(monkeypatch, *errors):
    """`execute_notebook` raises these in turn, then returns; gives the list of its calls."""
    calls, remaining = [], list(errors)

    def run(*arguments, **options):
        calls.append(options)
        if remaining:
            raise remaining.pop(0)

    monkeypatch.setattr(execute.papermill, "execute_notebook", run)
    return calls


def test_a_kernel_that_does_not_start_gets_one_more_chance(monkeypatch, tmp_path):
    calls = fake_papermill(monkeypatch, RuntimeError("Kernel died before replying to kernel_info"))
    assert execute.run_notebook("in", tmp_path / "out.ipynb", {}, "cwd")["error"] is None
    assert len(calls) == 2 and calls[0]["kernel_name"] == "python3" and calls[0]["cwd"] == "cwd"


def test_but_no_third_one(monkeypatch, tmp_path):
    calls = fake_papermill(monkeypatch, *[RuntimeError("Address already in use")] * 3)
    outcome = execute.run_notebook("in", tmp_path / "out.ipynb", {}, "cwd")
    assert (outcome["error"], outcome["message"], len(calls)) == ("RuntimeError", "Address already in use", 2)


def test_a_kernel_that_dies_at_work_is_not_started_again(monkeypatch, tmp_path):
    cell = new_code_cell("x", metadata={"papermill": {"start_time": "2020-01-01"}})
    nbformat.write(new_notebook(cells=[cell]), tmp_path / "out.ipynb")
    calls = fake_papermill(monkeypatch, RuntimeError("Kernel died"))
    assert execute.run_notebook("in", tmp_path / "out.ipynb", {}, "cwd")["error"] == "RuntimeError"
    assert len(calls) == 1


@pytest.mark.parametrize(("text", "complete"), [
    ("complete\n", True), ("saved\ncomplete\n", True), ("incomplete\n", False), ("", False),
])
def test_completion_is_a_line_of_its_own(text, complete):
    output = [new_output("stream", name="stdout", text=text)] if text else []
    notebook = new_notebook(cells=[new_code_cell(outputs=output, metadata={"tags": ["completion"]})])
    assert execute.is_complete(notebook) is complete


def test_folders_are_replaced_as_wholes_and_the_longest_first():
    replace = {"/a/b": ".", "/a": "~"}
    assert execute.scrub("/a/b/c /a/x '/a/b' /a/bc /a", replace) == "./c ~/x '.' ~/bc ~"


def test_every_profile_is_complete():
    assert {"smoke", "quick", "study"} <= set(profile_names())
    sweeps = {name: set(load_profile(name).sweeps) for name in ("smoke", "quick", "study")}
    assert sweeps["smoke"] == sweeps["quick"] == sweeps["study"]  # what one notebook asks of one it asks of all
    for name in profile_names():
        profile = load_profile(name)
        assert profile.about and profile.seeds


@pytest.mark.parametrize("name", profile_names())
def test_the_settings_of_a_profile_exist(name, monkeypatch):
    from mlic_core.models import METHODS
    from mlic_core.models.backbones import TRUNKS
    from mlic_core.study.notebook import Study

    monkeypatch.setitem(TRUNKS, "mobilenet_v2_imagenet", TRUNKS["mobilenet_v2"])  # as the plugin of photos does

    study = Study(name)
    for method in METHODS:
        assert study.experiment(method).seed == study.seeds[0]
    assert set(study.profile.methods) <= set(METHODS)


def test_the_study_profile_repeats_the_quick_one_with_three_seeds():
    quick, study = load_profile("quick"), load_profile("study")
    assert study.seeds == (0, 1, 2) and quick.seeds == (0,)
    sizes = ("data.picto.train", "data.picto.val", "data.picto.test")
    assert [quick.settings[key] for key in sizes] == [study.settings[key] for key in sizes]
