"""The report of what the tests see: how a mutant is named, what counts as killed, and which section goes where."""

import importlib.util
import json
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
spec = importlib.util.spec_from_file_location("tested", ROOT / "workflow" / "tested.py")
tested = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tested)
Mutant = tested.Mutant

DIFF = """--- mlic_core/a.py
+++ mlic_core/a.py
@@ -1,4 +1,4 @@
 def f(x):
-    y = x
-    return y + 1  # the next
+    y = x
+    return y - 1  # the next
"""


def test_a_diff_becomes_the_lines_before_and_after():
    assert tested.shorten(DIFF) == "y = x return y + 1 => y = x return y - 1"


@pytest.mark.parametrize(("name", "expected"), [
    ("mlic_core.metrics.ap.x_area__mutmut_12", "metrics.ap.area"),
    ("mlic_core.metrics.ap.x__envelope__mutmut_1", "metrics.ap._envelope"),
    ("mlic_core.metrics.protocols.xǁRuleǁ__str____mutmut_2", "metrics.protocols.Rule.__str__"),
])  # fmt: skip
def test_a_mutant_is_named_after_its_function(name, expected):
    assert tested.function_of(name) == expected


@pytest.mark.parametrize(("status", "expected"), [
    (1, "killed"), (-24, "time"), (36, "time"), (None, "not run"), (0, "survived"), (33, "survived"),
    (2, "survived"), (3, "survived"), (5, "survived"), (255, "survived"), (-11, "survived"), (-9, "survived"),
])  # fmt: skip
def test_only_a_failed_test_or_the_time_limit_kills(status, expected):
    assert tested.outcome(status) == expected


MUTANTS = [
    Mutant("a.py", "a.x_f__mutmut_1", "killed"),
    Mutant("a.py", "a.x_f__mutmut_2", "time"),
    Mutant("a.py", "a.x_f__mutmut_3", "survived", "a.f: x + 1 => x - 1"),
    Mutant("b.py", "b.x_f__mutmut_1", "survived", "b.f: y => None"),
    Mutant("b.py", "b.x_f__mutmut_2", "not run"),
    Mutant("c.py", "c.x_f__mutmut_1", "not run"),
]


def test_the_table_counts_each_module_and_all_without_what_was_not_run():
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in tested.counts_table(MUTANTS)[2:6]]
    assert rows == [
        ["a.py", "3", "2", "1", "1", "66.7"],
        ["b.py", "1", "0", "0", "1", "0.0"],
        ["c.py", "0", "0", "0", "0", "–"],
        ["all", "4", "2", "1", "2", "50.0"],
    ]
    assert tested.counts_table(MUTANTS)[-1] == "2 more were not run yet."
    assert "not run yet" not in tested.counts_table(MUTANTS[:4])[-1]


def test_survivors_stand_under_their_reasons_and_first_those_without_one():
    text = tested.mutants_section(MUTANTS, {"a.f: x + 1 => x - 1": "Because.", "old: x => y": "Gone."})
    assert text.endswith("Not looked at. (1)\n\n- `b.f: y => None`\n\nBecause. (1)\n\n- `a.f: x + 1 => x - 1`")


def test_reasons_are_found_by_the_change():
    text = """
    [[reason]]
    why = 'A.'
    changes = ['f: x => y', 'f: y => x']
    [[reason]]
    why = 'B.'
    changes = ['g: 1 => 2']
    """
    assert tested.read_reasons(text) == {"f: x => y": "A.", "f: y => x": "A.", "g: 1 => 2": "B."}


def test_each_committed_reason_is_a_sentence_and_no_change_has_two():
    reasons = tomllib.loads(tested.REASONS.read_text(encoding="utf-8"))["reason"]
    changes = [change for one in reasons for change in one["changes"]]
    assert len(changes) == len(set(changes)) and all(": " in change and " => " in change for change in changes)
    assert all(one["why"].endswith(".") and one["changes"] for one in reasons)


def test_coverage_lists_the_modules_below_90_percent():
    text = tested.coverage_section({"b.py": (100, 11), "a.py": (1000, 100), "c.py": (0, 0)})
    assert text.startswith("89.9 % of the 1,100 statements")
    assert text.splitlines()[4:] == ["| b.py | 100 | 11 | 89.0 |"]
    assert tested.coverage_section({"a.py": (10, 1)}).endswith("No module is below 90 %.")


def test_a_section_is_written_in_its_place_and_leaves_the_other_alone():
    first = tested.with_section("", "Mutants", "| a |\n\n- `x`")
    assert first == tested.HEADER + "\n## Mutants\n\n| a |\n\n- `x`\n"
    both = tested.with_section(first, "Coverage", "90 %")
    assert both == tested.HEADER + "\n## Coverage\n\n90 %\n\n## Mutants\n\n| a |\n\n- `x`\n"
    assert tested.with_section(both, "Coverage", "90 %") == both
    assert tested.with_section(both, "Mutants", "none").endswith("90 %\n\n## Mutants\n\nnone\n")


def test_a_change_of_the_tests_asks_again_for_all_but_the_killed(tmp_path):
    folder, tests = tmp_path / "mutants", tmp_path / "tests"
    tests.mkdir()
    (tests / "test_a.py").write_text("1")
    tested.forget_survivors(folder, tests)  # nothing was run yet
    meta = folder / "mlic_core" / "a.py.meta"
    meta.parent.mkdir()
    codes = {"killed": 1, "survived": 0, "time": 36, "new": None}
    meta.write_text(json.dumps({"exit_code_by_key": codes, "durations_by_key": {"killed": 1.5}}))
    tested.forget_survivors(folder, tests)
    assert json.loads(meta.read_text())["exit_code_by_key"] == codes
    (folder / "mutmut-stats.json").write_text("which test runs what")
    (tests / "test_a.py").write_text("2")
    tested.forget_survivors(folder, tests)
    found = json.loads(meta.read_text())
    assert found["exit_code_by_key"] == {"killed": 1, "survived": None, "time": None, "new": None}
    assert found["durations_by_key"] == {"killed": 1.5} and not (folder / "mutmut-stats.json").exists()


def test_every_file_and_test_that_mutmut_is_given_exists():
    config = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["mutmut"]
    for pattern in config["only_mutate"] + config["pytest_add_cli_args_test_selection"] + config["also_copy"]:
        assert list(ROOT.glob(pattern)), pattern
    for argument in config["pytest_add_cli_args"]:
        if argument.startswith("--deselect="):
            path, test = argument.removeprefix("--deselect=").split("::")
            assert f"def {test}(" in (ROOT / path).read_text(encoding="utf-8")
