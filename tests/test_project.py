"""The files around the code agree with one another, and name nothing of the machine they were written on."""

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

from tests.notebooks.contract import MACHINE_PATH

ROOT = Path(__file__).parents[1]
# An address to install from belongs into a machine's own configuration, not into the project.
INDEX_ADDRESS = re.compile(r"index[-_]url|find[-_]links|/simple/|/whl/|file:/{3}", re.IGNORECASE)
# torch's Linux builds pin these themselves, and other builds have none of them.
PLATFORM_PACKAGES = re.compile(r"nvidia-|cuda-|triton")

in_checkout = pytest.mark.skipif(
    shutil.which("git") is None or not (ROOT / ".git").exists(), reason="needs git and a git checkout"
)


def read(name):
    return (ROOT / name).read_text(encoding="utf-8")


def git(*arguments, check=True):
    return subprocess.run(["git", *arguments], cwd=ROOT, check=check, capture_output=True, text=True).stdout


def package_name(requirement):
    """`Package_Name>=1.2` -> `package-name`, as package indexes compare names."""
    return re.sub(r"[-_.]+", "-", re.match(r"[\w.-]+", requirement)[0]).lower()


def direct_dependencies():
    project = tomllib.loads(read("pyproject.toml"))["project"]
    return project["dependencies"] + project["optional-dependencies"]["test"]


def pins():
    lines = [line for line in read("constraints.txt").splitlines() if line and not line.startswith("#")]
    return dict(line.split("==") for line in lines)


def test_environment_yml_lists_the_dependencies_of_pyproject():
    conda = yaml.safe_load(read("environment.yml"))["dependencies"]
    [pip] = [entry["pip"] for entry in conda if isinstance(entry, dict)]
    assert [entry for entry in pip if not entry.startswith("-")] == direct_dependencies()
    assert {entry for entry in pip if entry.startswith("-")} == {
        "--constraint constraints.txt", "--editable .",
    }
    requires_python = tomllib.loads(read("pyproject.toml"))["project"]["requires-python"]
    assert f"python{requires_python}" in conda


def test_constraints_pin_every_direct_dependency():
    assert {package_name(dependency) for dependency in direct_dependencies()} - set(pins()) == set()


def test_constraints_pin_what_make_installs_besides():
    extras = tomllib.loads(read("pyproject.toml"))["project"]["optional-dependencies"]
    names = set(re.findall(r"-c constraints\.txt -e '\.\[(\w+)\]'", read("Makefile")))
    assert names == {"test", "browser", "mutants"}
    assert {package_name(one) for name in names for one in extras[name]} - set(pins()) == set()


def test_constraints_name_no_package_of_one_platform():
    assert [name for name in pins() if PLATFORM_PACKAGES.match(name)] == []


def test_constraints_satisfy_the_lower_bounds_of_pyproject():
    def number(version):
        return tuple(map(int, re.findall(r"\d+", version)))

    bounds = {package_name(text): re.search(r">=([\d.]+)", text)[1] for text in direct_dependencies()}
    pinned = pins()
    assert [name for name, bound in bounds.items() if number(pinned[name]) < number(bound)] == []


def test_every_make_command_in_the_readme_is_a_target():
    targets = set(re.findall(r"^([a-z]+):", read("Makefile"), re.MULTILINE))
    commands = set(re.findall(r"^\s*\$? ?make ([a-z]+)|`make ([a-z]+)", read("README.md"), re.MULTILINE))
    commands = {first or second for first, second in commands}
    assert {"study", "test"} <= commands <= targets


def test_make_help_lists_every_target():
    makefile = read("Makefile")
    targets = set(re.findall(r"^([a-z]+):(?! export)", makefile, re.MULTILINE))
    assert targets == set(re.findall(r"^([a-z]+):.*  ## .", makefile, re.MULTILINE))
    assert {"study", "test", "lab", "bench", "clean", "help"} <= targets


def test_citation_names_the_four_papers():
    citation = yaml.safe_load(read("CITATION.cff"))
    assert citation["cff-version"] == "1.2.0"
    assert citation["license"] == tomllib.loads(read("pyproject.toml"))["project"]["license"] == "MIT"
    assert citation["version"] == tomllib.loads(read("pyproject.toml"))["project"]["version"]
    first_authors = [(paper["authors"][0]["family-names"], paper["year"]) for paper in citation["references"]]
    assert first_authors == [("Wang", 2016), ("Wang", 2017), ("Lyu", 2020), ("Gao", 2021)]
    for paper in citation["references"]:
        assert paper["title"] and ("doi" in paper or "url" in paper)


def test_openmoji_is_credited_with_its_licence():
    for name in ("README.md", "data/README.md"):
        assert re.search(r"OpenMoji[\s\S]*CC BY-SA 4\.0", read(name)), name


@in_checkout
def test_files_name_no_machine_path_and_no_index_address():
    found = []
    for name in git("ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0"):
        path = ROOT / name
        if not path.is_file():
            continue
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        patterns = [MACHINE_PATH] if path == Path(__file__) else [MACHINE_PATH, INDEX_ADDRESS]
        found += [f"{name}: {match[0]}" for pattern in patterns if (match := pattern.search(text))]
    assert found == []


@in_checkout
@pytest.mark.parametrize("name", [
    ".venv/pyvenv.cfg", "data/cache/picto-voc/x.jpg", "results/quick/tables/t.csv", "results/smoke/x.json",
    "mutants/mlic_core/costs.py", ".coverage.host.1",
    "results/study/runs/0123456789ab/model.safetensors", "results/study/runs/0123456789ab/checkpoint.pt",
    "results/photos/runs/0123456789ab.lock",
])
def test_git_ignores(name):
    assert git("check-ignore", name, check=False).strip() == name


@in_checkout
@pytest.mark.parametrize("name", [
    "results/study/runs/0123456789ab/run.json", "results/study/runs/0123456789ab/scores.npz",
    "results/photos/tables/t.csv", "results/bench.json", "results/reliability.md", "results/tests.md",
    "data/weights/pictonet-m.safetensors",
])
def test_git_keeps(name):
    assert git("check-ignore", name, check=False) == ""


def test_the_hook_lints_with_the_pinned_ruff():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    (rev,) = (repo["rev"] for repo in hooks if repo["repo"].endswith("ruff-pre-commit"))
    assert f"ruff=={rev.removeprefix('v')}" in (ROOT / "constraints.txt").read_text().splitlines()


@pytest.mark.parametrize("path", sorted(ROOT.glob(".github/**/*.yml")), ids=lambda path: path.stem)
def test_what_github_reads_is_valid_yaml(path):
    found = yaml.safe_load(path.read_text())
    assert ("jobs" in found and "run: .ci/run" in path.read_text()) if "workflows" in path.parts else found["body"]
