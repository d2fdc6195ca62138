"""What the environment is made of, and that nothing of ours runs while it is installed."""

import importlib.util
import json
import re
from email.message import Message
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
spec = importlib.util.spec_from_file_location("supply", ROOT / "workflow" / "supply.py")
supply = importlib.util.module_from_spec(spec)
spec.loader.exec_module(supply)


class Installed:
    """A distribution with some metadata."""

    def __init__(self, name, version="1.0", **fields):
        self.version, self.metadata = version, Message()
        self.metadata["Name"] = name
        for key, value in fields.items():
            for one in [value] if isinstance(value, str) else value:
                self.metadata[key.replace("_", "-")] = one


@pytest.mark.parametrize(("fields", "expected"), [
    ({"License_Expression": "MIT", "License": "something else"}, "MIT"),
    ({"Classifier": ["License :: OSI Approved :: BSD License", "Topic :: Text"], "License": "x"}, "BSD License"),
    ({"Classifier": ["License :: OSI Approved", "License :: Other/Proprietary License"]}, "Other/Proprietary License"),
    ({"Classifier": ["License :: OSI Approved"], "License": "Apache 2.0"}, "Apache 2.0"),
    ({"License": "Copyright (c) by somebody\nAll the text of a licence"}, "Copyright (c) by somebody"),
    ({"License": "x" * 60}, ""),
    ({}, ""),
])  # fmt: skip
def test_a_licence_is_what_the_package_states(fields, expected):
    assert supply.licence(Installed("a", **fields)) == expected


def test_packages_come_once_by_their_normal_names_and_without_this_one():
    found = supply.installed([Installed("Zope.Event"), Installed("a_b", "2"), Installed("mlic"), Installed("A-B", "2")])
    assert [(one.name, one.version) for one in found] == [("a-b", "2"), ("zope-event", "1.0")]


def test_pins_are_read_without_comments():
    assert supply.pinned("# x==1\n\nnumpy==2.0  # why\nA_b==3\n-e .\n") == {"numpy", "a-b"}


def test_the_table_has_a_line_for_each_package():
    rows = supply.licences([supply.Package("a", "1", "MIT | BSD"), supply.Package("b", "2", "")]).splitlines()[-2:]
    assert rows == ["| a | 1 | MIT / BSD |", "| b | 2 | not stated |"]


def test_the_committed_table_is_of_the_pinned_versions_and_states_every_licence():
    table = (ROOT / "results" / "licences.md").read_text(encoding="utf-8")
    rows = [tuple(cell.strip() for cell in line.split("|")[1:-1]) for line in table.splitlines()[7:]]
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    expected = {tuple(line.split("==")) for line in pins.splitlines() if "==" in line and not line.startswith("#")}
    assert {row[:2] for row in rows} == {(supply.normal(name), version) for name, version in expected}
    assert {row[0] for row in rows if row[2] in ("", "not stated")} <= {"axe-playwright-python"}  # MIT, in its files


def test_the_bill_of_materials_names_each_package_once(tmp_path):
    supply.main(["sbom", str(tmp_path / "bom.json")])
    first = (tmp_path / "bom.json").read_text()
    supply.main(["sbom", str(tmp_path / "bom.json")])
    assert (tmp_path / "bom.json").read_text() == first
    bill = json.loads(first)
    assert (bill["bomFormat"], bill["specVersion"], bill["version"]) == ("CycloneDX", "1.6", 1)
    references = [one["bom-ref"] for one in bill["components"]]
    assert len(references) == len(set(references)) > 50
    assert all(re.fullmatch(r"pkg:pypi/[a-z0-9-]+@\S+", one["purl"]) for one in bill["components"])
    assert bill["dependencies"] == [{"ref": "mlic", "dependsOn": references}]
    assert {"torch", "numpy", "pillow"} <= {one["name"] for one in bill["components"]}


def test_nothing_of_ours_runs_while_it_is_installed():
    assert not (ROOT / "setup.py").exists() and not (ROOT / "setup.cfg").exists()
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert 'build-backend = "setuptools.build_meta"' in project
    assert not {"backend-path", "cmdclass", "setuptools.dynamic"} & set(re.findall(r"[a-z.-]+", project))


def test_the_notebooks_are_served_to_this_machine_alone_and_with_a_token():
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    [line] = [line for line in text.splitlines() if "jupyter lab" in line]
    assert not re.search(r"--ip|token|password|allow.root|0\.0\.0\.0|allow_origin", line, re.IGNORECASE)
