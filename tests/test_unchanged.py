"""A notebook is taken for up to date only while everything that it depends on is as it was."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mlic_core.paths import repository_root
from mlic_core.study import unchanged

PARAMETERS = {"profile": "smoke", "root": "", "results": "/elsewhere", "epochs": 3}


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A repository with a notebook, its results and a package of one module."""
    home = tmp_path / "home"
    for path in ("package/a.py", "data/cache/x.npy", "data/weights/w.bin", "notebooks/07_x.ipynb", "out/tables/t.csv",
                 "out/runs/0123/run.json"):  # fmt: skip
        (home / path).parent.mkdir(parents=True, exist_ok=True)
        (home / path).write_text(path)
    shutil.copy(repository_root() / "data/published_results.csv", home / "data")
    monkeypatch.setenv("MLIC_HOME", str(home))
    monkeypatch.delenv("MLIC_PLUGIN", raising=False)
    monkeypatch.setattr(unchanged, "PACKAGE", home / "package")
    yield home
    unchanged._surroundings.cache_clear()


def came_in(home, **parameters):
    unchanged._surroundings.cache_clear()
    return unchanged.inputs(home / "notebooks/07_x.ipynb", PARAMETERS | parameters)


@pytest.fixture
def run_once(home):
    """The state after a run that wrote a table, read a record and missed the table of another notebook."""
    noted = [home / "out" / name for name in ("tables/t.csv", "runs/0123/run.json", "tables/absent.csv")]
    unchanged.keep(home / "out", home / "notebooks/07_x.ipynb", came_in(home), [*noted, home / "data/weights/w.bin"])
    return home


def unchanged_since(home):
    return unchanged.is_unchanged(home / "out", home / "notebooks/07_x.ipynb", came_in(home))


def test_what_never_ran_is_not_up_to_date(home):
    assert not unchanged_since(home)


@pytest.mark.parametrize("name", ["data/cache/x.npy", "out/tables/another.csv", "package/__pycache__/a.pyc"])
def test_what_a_notebook_does_not_depend_on_may_change(run_once, name):
    assert unchanged_since(run_once)
    (run_once / name).parent.mkdir(exist_ok=True)
    (run_once / name).write_text("new")
    assert unchanged_since(run_once)


@pytest.mark.parametrize("name", [
    "package/a.py", "package/new.toml", "data/weights/w.bin", "data/published_results.csv", "data/new.csv",
    "notebooks/07_x.ipynb", "out/tables/t.csv", "out/runs/0123/run.json", "out/tables/absent.csv",
])  # fmt: skip
def test_what_it_depends_on_may_not(run_once, name):
    (run_once / name).write_text("new")
    assert not unchanged_since(run_once)


@pytest.mark.parametrize("name", ["out/tables/t.csv", "out/runs/0123/run.json", "package/a.py", "out/.unchanged.json"])
def test_nor_be_gone(run_once, name):
    (run_once / name).unlink()
    assert not unchanged_since(run_once)


def test_damaged_notes_count_as_none(run_once):
    (run_once / "out/.unchanged.json").write_text('{"07_x": ')
    assert not unchanged_since(run_once)


def test_an_update_of_a_library_counts(run_once, monkeypatch):
    class Library:
        name, version = "torch", "99"

    monkeypatch.setattr(unchanged, "distributions", lambda: [Library])
    assert not unchanged_since(run_once)


def test_parameters_count_but_not_the_place_of_the_results(home):
    assert came_in(home) == came_in(home, results="") != came_in(home, epochs=4)


def test_data_and_plugins_from_elsewhere_are_never_up_to_date(run_once, monkeypatch):
    assert came_in(run_once, root="/data") is None
    monkeypatch.setenv("MLIC_PLUGIN", "trunk.py")
    assert came_in(run_once) is None
    unchanged.keep(run_once / "out", run_once / "notebooks/07_x.ipynb", None, [])
    assert not unchanged_since(run_once)


def test_notebooks_are_kept_side_by_side(run_once):
    other = run_once / "notebooks/08_y.ipynb"
    other.write_text("other")
    unchanged.keep(run_once / "out", other, unchanged.inputs(other, PARAMETERS), [])
    assert unchanged_since(run_once) and not (run_once / "out/.unchanged.json.lock").exists()


def test_a_kernel_notes_what_it_saves_reads_and_misses(tmp_path, monkeypatch):
    import pandas

    from mlic_core.study.notebook import Study

    monkeypatch.setenv(unchanged.NOTED, str(tmp_path / "noted"))
    study = Study("smoke", results=str(tmp_path))
    frame = pandas.DataFrame({"a": ["null", ""], "b": [1.5, 2.0]})
    study.save_table(frame, "kept", "A table.")
    assert study.saved_table("absent") is None
    assert study.saved_table("kept").fillna("").to_dict("list") == frame.to_dict("list")
    noted = map(Path, (tmp_path / "noted").read_text().splitlines())
    names = [path.relative_to(tmp_path / "smoke/tables").name for path in noted]
    assert names == ["kept.csv", "kept.md", "absent.csv", "kept.csv"]


def test_telling_needs_no_torch():
    """A second `make study` is over before torch is imported."""
    code = "import sys, mlic_core.study.batch; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
