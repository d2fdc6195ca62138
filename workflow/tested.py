"""How much of the code the tests see: lines that they run, and small faults that they notice, into results/tests.md.

    python workflow/tested.py coverage              the lines, from what `coverage run` and `coverage combine` left
    python workflow/tested.py mutants [PATTERN ...] the faults: mutmut changes the code in one place at a time

`make coverage` and `make mutants` call both. A run of mutants that was stopped goes on where it was, and one after a
change of the tests asks again for what no test had noticed; `rm -r mutants` starts afresh. PATTERN names mutants, as in
'mlic_core.losses.*'. What no test notices has its reason in tests/survivors.toml.
"""

import argparse
import hashlib
import json
import re
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "results" / "tests.md"
REASONS = ROOT / "tests" / "survivors.toml"
NOT_LOOKED_AT = "Not looked at."
LEAST = 90  # percent of a module's lines
KILLED = {1: "killed", -24: "time", 24: "time", 36: "time", 152: "time"}  # by exit status: a failed test, SIGXCPU
HEADER = """# What the tests see

Made by `make coverage` and `make mutants`, each of which writes its section.
"""


class Mutant(NamedTuple):
    """One change of a function; `outcome`: killed, time (it ran into the limit), survived, or not run."""

    module: str
    name: str
    outcome: str
    change: str = ""  # of a survivor, "function: old => new"


def shorten(diff: str) -> str:
    """The lines that a diff takes out and puts in, "old => new", without comments and the spaces around them."""
    lines = [line.partition("  # ")[0] for line in diff.splitlines() if not line.startswith(("---", "+++"))]
    old, new = (" ".join(line[1:].strip() for line in lines if line[:1] == sign) for sign in "-+")
    return f"{old} => {new}"


def outcome(status: int | None) -> str:
    """What a mutant's exit status says."""
    return "not run" if status is None else KILLED.get(status, "survived")


def function_of(name: str) -> str:
    """mlic_core.metrics.protocols.xǁRuleǁ__str____mutmut_2 -> metrics.protocols.Rule.__str__"""
    module, _, mangled = name.partition("__mutmut_")[0].removeprefix("mlic_core.").rpartition(".")
    return f"{module}.{mangled.removeprefix('x_').removeprefix('xǁ').replace('ǁ', '.')}"


def found() -> Iterator[Mutant]:
    """Every mutant of the last run, by module. Has to be called in the folder that it ran in."""
    from mutmut.mutation.data import SourceFileMutationData
    from mutmut.mutation.diff_apply import get_diff_for_mutant
    from mutmut.utils.file_utils import walk_mutatable_files

    for path in sorted(walk_mutatable_files()):
        data = SourceFileMutationData(path=path)
        data.load()
        for name, status in data.exit_code_by_key.items():
            mutant = Mutant(path.as_posix(), name, outcome(status))
            if mutant.outcome == "survived":
                mutant = mutant._replace(change=f"{function_of(name)}: {shorten(get_diff_for_mutant(name, path=path))}")
            yield mutant


def read_reasons(text: str) -> dict[str, str]:
    """The reason of each change, from [[reason]] tables with `why` and `changes`."""
    return {change: one["why"] for one in tomllib.loads(text)["reason"] for change in one["changes"]}


def counts_table(mutants: list[Mutant]) -> list[str]:
    """A row for each module, and one for all."""
    lines = ["| Module | Mutants | Killed | by the time limit | Survived | Killed, % |", "| --- |" + " ---: |" * 5]
    counts = {one.module: Counter() for one in mutants} | {"all": Counter()}
    for one in mutants:
        counts[one.module][one.outcome] += 1
        counts["all"][one.outcome] += 1
    for module, of in counts.items():
        killed, run = of["killed"] + of["time"], of.total() - of["not run"]
        share = f"{100 * killed / run:.1f}" if run else "–"
        lines.append(f"| {module} | {run} | {killed} | {of['time']} | {of['survived']} | {share} |")
    if left := counts["all"]["not run"]:
        lines += ["", f"{left} more were not run yet."]
    return lines


def mutants_section(mutants: list[Mutant], reasons: dict[str, str]) -> str:
    """The table of the modules, then the survivors under their reasons, those without one first."""
    lines = counts_table(mutants)
    groups: dict[str, list[str]] = {}
    for one in mutants:
        if one.outcome == "survived":
            groups.setdefault(reasons.get(one.change, NOT_LOOKED_AT), []).append(one.change)
    for why in sorted(groups, key=lambda why: why != NOT_LOOKED_AT):
        lines += ["", f"{why} ({len(groups[why])})", "", *(f"- `{change}`" for change in groups[why])]
    return "\n".join(lines)


def coverage_section(files: dict[str, tuple[int, int]]) -> str:
    """files: of each its statements, and how many of them no test ran."""
    statements, missing = (sum(column) for column in zip(*files.values(), strict=True))
    lines = [
        f"{100 * (1 - missing / statements):.1f} % of the {statements:,} statements of `mlic_core` are run by a test, "
        "in whatever process it starts.",
        "",
        f"| Below {LEAST} % | Statements | Not run | Share run, % |",
        "| --- | ---: | ---: | ---: |",
    ]
    for name, (all_of_it, left) in sorted(files.items()):
        if 100 * (all_of_it - left) < LEAST * all_of_it:
            lines.append(f"| {name} | {all_of_it} | {left} | {100 * (1 - left / all_of_it):.1f} |")
    return "\n".join(lines if len(lines) > 4 else [*lines[:2], f"No module is below {LEAST} %."])


def measured() -> dict[str, tuple[int, int]]:
    """Statements of every file, and those that were not run, from the data of coverage."""
    from coverage import Coverage

    data = Coverage()
    data.load()
    found = {}
    for path in sorted((ROOT / "mlic_core").rglob("*.py")):
        _, statements, _, missing, _ = data.analysis2(str(path))
        found[path.relative_to(ROOT).as_posix()] = len(statements), len(missing)
    return found


def with_section(text: str, heading: str, body: str) -> str:
    """`text` with this section in the place of the one it had; sections stand in the order of their headings."""
    sections = dict(re.findall(r"^## (.+)\n\n([\s\S]*?)\n*(?=^## |\Z)", text, re.MULTILINE)) | {heading: body}
    return HEADER + "".join(f"\n## {name}\n\n{sections[name]}\n" for name in sorted(sections))


def forget_survivors(folder: Path, tests: Path) -> None:
    """If the tests have changed since: have mutmut ask again which test runs what, and for what they had not killed."""
    files = sorted(tests.rglob("*.py"))
    state = hashlib.sha256(b"\0".join(path.read_bytes() for path in files)).hexdigest()
    seen = folder / "tests.sha256"
    if not seen.exists() or seen.read_text() != state:
        for path in folder.rglob("*.meta"):
            data = json.loads(path.read_text())
            codes = data["exit_code_by_key"]
            data["exit_code_by_key"] = {key: code if outcome(code) == "killed" else None for key, code in codes.items()}
            path.write_text(json.dumps(data))
        (folder / "mutmut-stats.json").unlink(missing_ok=True)
    folder.mkdir(exist_ok=True)
    seen.write_text(state)


def serve_mutants() -> None:
    """Make mutmut's server collect the tests once, and a mutant a fork of it that runs those of its function.

    mutmut would start pytest anew for each mutant, which takes longer than most of them live, and the slow tests among
    the first. Where they run, nothing may fail without a change either, or each mutant would count as killed.
    """
    import pytest
    from mutmut.configuration import config
    from mutmut.runners.harness import PytestRunner
    from mutmut.state import state
    from mutmut.utils.file_utils import change_cwd
    from mutmut.workers.isolation import ForkServerRunner as Server

    serve, startup = Server._forkserver_main, Server.startup

    def first_failure(session: pytest.Session, names: list[str]) -> int:
        items = {item.nodeid: item for item in session.items}
        chosen = [items[name] for name in sorted(names, key=state().duration_by_test.__getitem__)]
        for item, following in zip(chosen, [*chosen[1:], None], strict=True):
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            if session.testsfailed:
                return 1
        return 0

    def inside_pytest(self, *pipes: int) -> None:
        class Loop:
            def pytest_runtestloop(self, session: pytest.Session) -> bool:
                PytestRunner.warm_up = lambda self: None
                PytestRunner.run_tests = lambda self, *, mutant_name, tests: first_failure(session, tests)
                serve(server, *pipes)
                return True

        server, selection = self, config().pytest_add_cli_args_test_selection
        with change_cwd("mutants"):
            PytestRunner().execute_pytest(["-q", "--capture=no", *selection], plugins=[Loop()])

    def control(self) -> None:
        startup(self)
        quick = [test for test, seconds in state().duration_by_test.items() if seconds < 0.5]
        self.submit("mlic_core.none.x_none__mutmut_0", quick, 3600, 720)
        if self.wait_for_result().exit_code != 0:
            sys.exit("Without any change some test fails where the mutants run; nothing was counted.")
        print(f"    {len(quick)} tests pass there without a change", flush=True)

    Server._forkserver_main, Server.startup = inside_pytest, control
    # All tests once more, and one made to fail, each in a process of its own: the control takes their place.
    Server.run_clean_tests, Server.run_forced_fail = (lambda self, tests: 0), (lambda self: 1)


def run_mutants(patterns: list[str]) -> None:
    """Run mutmut, one mutant at a time, with shapes and types checked as in every test."""
    from jaxtyping import install_import_hook

    install_import_hook("mlic_core", "beartype.beartype")
    from mutmut.__main__ import cli

    serve_mutants()
    cli.main(["run", "--max-children", "1", *patterns], standalone_mode=False)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["coverage", "mutants", "table"])
    parser.add_argument("patterns", nargs="*", metavar="PATTERN")
    chosen = parser.parse_args(arguments)
    if chosen.what == "coverage":
        heading, body = "Coverage", coverage_section(measured())
    else:
        if chosen.what == "mutants":
            forget_survivors(ROOT / "mutants", ROOT / "tests")
            run_mutants(chosen.patterns)
        reasons, mutants = read_reasons(REASONS.read_text(encoding="utf-8")), list(found())
        for change in sorted(set(reasons) - {one.change for one in mutants}):
            print(f"tests/survivors.toml: no survivor is {change}", file=sys.stderr)
        heading, body = "Mutants", mutants_section(mutants, reasons)
    text = OUT.read_text(encoding="utf-8") if OUT.exists() else ""
    OUT.write_text(with_section(text, heading, body), encoding="utf-8")


if __name__ == "__main__":
    main()
