"""README.md: its table comes from the stored runs, and its pictures exist."""

import re

import pytest

from mlic_core.paths import repository_root
from mlic_core.study.readme import update_readme

HOME = repository_root()


def test_results_table_is_the_one_that_the_stored_runs_give():
    assert not update_readme(HOME / "README.md", HOME / "results", check=True), "run `mlic report --readme`"


@pytest.mark.parametrize("target", re.findall(r"\]\(([^)#:]+)\)", (HOME / "README.md").read_text(encoding="utf-8")))
def test_links_and_pictures_lead_somewhere(target):
    assert (HOME / target).exists()
