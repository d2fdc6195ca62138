"""The Snakefile: the command of its rule is one that `mlic` takes, and snakemake plans a job for every notebook."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from mlic_core.study.cli import main

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "workflow/Snakefile").read_text(encoding="utf-8")
NOTEBOOKS = sorted(path.stem for path in (ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))


def command(**values):
    """The words that the rule's shell gets, with `values` in its braces."""
    parts = re.findall(r'"([^"]*)"', TEXT.split("shell:\n")[1])
    return shlex.split(re.sub(r"\{([\w.]+)\}", lambda match: values[match[1].split(".")[-1]], "".join(parts)))


@pytest.mark.parametrize(("extra", "data_root"), [("", ""), ("--data-root /d", "/d")])
def test_the_rule_runs_one_notebook_by_a_command_that_mlic_takes(extra, data_root):
    one = NOTEBOOKS[5]
    threads, *words = command(profile="study", notebook=one, results="/r", threads="1", extra=extra)
    assert threads == "OMP_NUM_THREADS=1" and words[:4] == ["python", "-m", "mlic_core", "reproduce"]
    chosen = main.commands["reproduce"].make_context("reproduce", words[4:]).params
    given = {"profile": "study", "only": (one,), "jobs": 1, "results": "/r", "data_root": data_root}
    assert {key: chosen[key] for key in given} == given and not chosen["also"] and not chosen["fresh"]


def test_every_notebook_of_the_quick_batch_is_planned_after_the_baselines(tmp_path):
    """By snakemake itself, where it is installed; nothing is run."""
    snakemake = shutil.which("snakemake")
    if snakemake is None:
        pytest.skip("snakemake is not installed: pip install -e '.[cluster]'")
    plan = subprocess.run(
        [snakemake, "-n", "-p", "--nolock", "-s", "workflow/Snakefile", "--cores", "2", "--config",
         f"results={tmp_path}"],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert plan.returncode == 0, plan.stdout + plan.stderr
    planned = re.findall(r"--profile quick --only (\S+) --jobs 1", plan.stdout)
    assert sorted(planned) == NOTEBOOKS
    assert planned.index("01_baseline") <= 1  # before all but the notebook of the data
