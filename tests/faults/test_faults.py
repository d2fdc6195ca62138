"""A short version of `make soak`: every fault once or a few times, and a few broken inputs for every reader."""

import argparse
import io
import json
import os
import random
import zipfile
from collections import Counter

import nbformat.v4 as v4
import numpy as np
import pandas
import pytest
import torch

from mlic_core.errors import InputError
from mlic_core.study import batch, cli, page, report
from mlic_core.study.execute import clean
from mlic_core.study.experiments import from_settings
from mlic_core.study.files import exclusive, without_checksum, write_atomically
from mlic_core.study.notebook_pages import read_notebooks
from mlic_core.study.profile import read_toml
from mlic_core.study.record import Record, read_record, write_record
from mlic_core.study.store import load_model, new_model, save_model, stored_labels
from tests.faults import disturbances as faults
from tests.faults import fuzz as fuzzing
from tests.faults.__main__ import _options
from tests.faults.children import Fault, run
from tests.faults.damage import KEPT, damaged
from tests.faults.fuzz import fuzz, mutate
from tests.faults.lab import Lab, Row
from tests.faults.operations import TINY
from tests.faults.summary import summary
from tests.faults.targets import TARGETS, Target

QUICK = ("data", "features", "training", "tables", "report")


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    return Lab(tmp_path_factory.mktemp("faults"), seed=7)


# Faults


@pytest.mark.parametrize("operation", QUICK)
def test_a_killed_operation_ends_in_the_same_bytes_when_it_is_run_again(lab, operation):
    for row in (faults.kills(lab, operation, 1), faults.crash_points(lab, operation, 1)):
        assert row.failures == () and row.tried > 0, row


def test_training_that_is_killed_before_its_last_steps_leaves_nothing_over(lab):
    last = lab.undisturbed("training")[1].changes
    with lab.case("training") as folder:
        assert run("training", folder, lab.shared, Fault("kill", last - 1)).signal == 9
        assert list(folder.rglob("checkpoint.*")) and list(folder.rglob("run.json"))
        assert lab.rerun("training", folder) == ""


@pytest.mark.parametrize("operation", ["features", "training", "tables"])
def test_an_operation_without_room_fails_and_then_ends_in_the_same_bytes(lab, operation):
    assert faults.full_disk(lab, operation, 1).failures == ()


def test_a_write_that_breaks_off_is_an_error_of_the_system_and_does_no_harm(lab):
    row = faults.file_limit(lab, "training", 1)
    assert row.failures == () and row.note == "1 OSError"


def test_a_full_disk_does_no_harm(lab):
    if not faults.may_mount(lab.folder / "mount"):
        pytest.skip("needs the right to mount a file system")
    assert faults.small_disk(lab, "training", 1).failures == ()


def test_a_read_only_folder_is_an_error_and_stays_as_it_is(lab):
    assert faults.read_only(lab, "training").failures == ()
    with lab.case("data") as folder:
        assert run("data", folder, lab.shared, Fault("read-only")).kind == "OSError"
        assert lab.rerun("data", folder) == ""


def test_four_processes_on_one_run_with_its_tables_end_in_the_same_bytes(lab):
    assert faults.at_once(lab, "tables", 4).failures == ()


def test_a_wrong_clock_changes_nothing(lab):
    assert faults.clocks(lab, "training", (faults.YEARS,)).failures == ()


@pytest.mark.parametrize("kind", ["checkpoint", "scores.npz", "model.safetensors", "tables and figures"])
def test_a_flipped_bit_is_refused_or_made_good(lab, kind):
    row = damaged(lab, kind, "a bit flipped", 1 if kind == "checkpoint" else 4)
    assert row.failures == (), row.note


@pytest.mark.parametrize("kind", [kind for kind in KEPT if KEPT[kind].operation in ("training", "tables")])
@pytest.mark.parametrize("damage", ["cut short", "emptied"])
def test_a_file_that_lacks_something_is_refused_or_made_good(lab, kind, damage):
    row = damaged(lab, kind, damage, 2)
    assert row.failures == (), row.note


def test_a_flipped_bit_in_the_feature_cache_is_made_good(lab):
    assert damaged(lab, "feature cache", "a bit flipped", 3).failures == ()


@pytest.mark.parametrize("damage", ["a bit flipped", "cut short"])
def test_a_drawn_image_that_changed_is_refused(lab, damage):
    row = damaged(lab, "drawn images", damage, 3)
    assert row.failures == () and row.note == "3 refused"


def test_an_image_that_is_cut_short_while_drawn_is_an_error(lab):
    with lab.case("data") as folder:
        assert run("data", folder, lab.shared, Fault("file limit", 1512)).kind == "OSError"


@pytest.mark.parametrize("name", ["s\0ky", "s/ky", "s" * 5000])
def test_a_concept_of_nuswide_that_is_no_name_of_a_file_is_refused(tmp_path, name):
    target = TARGETS["NUS-WIDE"](tmp_path)
    with pytest.raises(InputError, match="expected one word of at most 100 printed characters"):
        target.read(f"{name}\nsea\n".encode())


# What the harness would see


@pytest.mark.parametrize(("change", "seen"), [
    (lambda file: file.write_bytes(b"x"), "differs"),
    (lambda file: file.unlink(), "is missing"),
    (lambda file: file.with_name("more").touch(), "is left over"),
    (lambda file: file.with_name("a.lock").touch(), ""),
])  # fmt: skip
def test_a_changed_a_missing_and_another_file_are_differences(lab, change, seen):
    with lab.case("data") as folder:
        assert lab.rerun("data", folder) == ""
        change(folder / "data/VOCdevkit/VOC2012/Annotations/val_000003.xml")
        assert lab.difference("data", folder).endswith(seen) and bool(lab.difference("data", folder)) == bool(seen)


def test_time_and_memory_of_a_run_do_not_count_but_its_metrics_do(lab):
    with lab.case("training") as folder:
        assert lab.rerun("training", folder) == ""
        [path] = folder.rglob("run.json")
        record = json.loads(path.read_text())
        path.write_text(json.dumps(record | {"seconds": 1e9, "peak_memory": 3}))
        assert lab.difference("training", folder) == ""
        path.write_text(json.dumps(record | {"metrics": {}}))
        assert "run.json differs" in lab.difference("training", folder)


def test_a_reader_with_a_defect_is_found_out(monkeypatch):
    def read(content):
        if content == b"12345":
            return
        if len(content) < 3:
            raise KeyError("short")
        raise InputError("file.txt is wrong" if len(content) < 10 else "wrong")

    monkeypatch.setitem(TARGETS, "bad", lambda folder: Target([b"12345"], read, ["file.txt"]))
    outcome = fuzz("bad", 300)
    assert set(outcome.answers) == {"read", "refused", "KeyError", "InputError that names nothing"}
    assert outcome.defects == outcome.answers["KeyError"] + outcome.answers["InputError that names nothing"]
    assert "short" in outcome.examples["KeyError"]
    assert fuzz("bad", 300).answers == outcome.answers != fuzz("bad", 300, seed=1).answers


def test_a_reader_that_takes_too_long_is_found_out(monkeypatch):
    monkeypatch.setattr(fuzzing, "SLOWEST", -1.0)
    monkeypatch.setitem(TARGETS, "slow", lambda folder: Target([b"x"], len, ["x"]))
    assert fuzz("slow", 2).answers == {"slow": 2}


def test_mutation_flips_cuts_moves_and_adds():
    valid = bytes(range(100))
    found = {mutate(valid, random.Random(seed)) for seed in range(300)}
    assert any(len(one) < 90 for one in found) and any(len(one) > 150 for one in found)
    assert any(len(one) == 100 and sum(a != b for a, b in zip(one, valid, strict=True)) == 1 for one in found)
    assert any(b"/etc/passwd" in one for one in found)
    assert mutate(b"", random.Random(0)) is not None


def test_the_summary_counts_kills_and_lists_what_was_not_survived():
    rows = [Row("killed at a random moment", "data", 5, ()), Row("killed before a change", "training", 3, ("a | b",)),
            Row("scores.npz: cut short", "training", 2, (), "2 refused")]  # fmt: skip
    outcomes = [fuzzing.Outcome("CSV", Counter(read=1, refused=2, KeyError=1), {"KeyError": "input 3: x"})]
    text = summary(rows, outcomes, _options(["--seed", "3"]), 61.0)
    assert "Killed 8 times in all." in text and "| killed before a change | training | 3 | 2 |" in text
    assert "| scores.npz | cut short | 2 | 2 | 2 refused |" in text and "| CSV | 4 | 1 | 2 | 1 |" in text
    assert "- training, killed before a change: a | b\n" in text and "- CSV, KeyError: input 3: x\n" in text
    assert "--seed 3" in text and "1:01" in text
    assert "Nothing." in summary(rows[:1], [], argparse.Namespace(**vars(_options([]))), 0.0)


# Broken input


@pytest.mark.parametrize("name", TARGETS)
def test_broken_input_is_read_or_refused_by_name(name):
    outcome = fuzz(name, 60, seed=5)
    assert outcome.defects == 0, outcome.examples
    assert outcome.answers["refused"] > 10


@pytest.mark.parametrize("text", [
    "recipe.lr=1" + "0" * 400, "recipe.lr=" + "-" * 20_000 + "1", "recipe.lr=" + "[" * 150, "seed=" + "9" * 5000,
    "data.size=1000000", "recipe.milestones=" + "[" * 5000,
])  # fmt: skip
def test_absurd_values_are_refused_in_a_short_sentence(text):
    with pytest.raises(InputError) as refusal:
        from_settings(dict([text.split("=")]))
    assert len(str(refusal.value)) < 400 and str(refusal.value).startswith(text.split("=")[0])


@pytest.mark.parametrize("text", ["a = " + "9" * 5000, "a = " + "[" * 5000])
def test_absurd_toml_is_refused_by_name(tmp_path, text):
    (tmp_path / "own.toml").write_text(text)
    with pytest.raises(InputError, match=r"own\.toml is not TOML"):
        read_toml(tmp_path / "own.toml")


@pytest.fixture
def stored(tmp_path):
    """A stored run with a model of random weights."""
    config = {**TINY, "method.name": "classifier", "data.name": "picto-voc", "seed": 0}
    folder = tmp_path / "aaaa"
    folder.mkdir()
    record = Record(folder, "aaaa", config, {}, 1.0, None, {}, None, None, "cpu", "code")
    write_record(record)
    save_model(folder, new_model(from_settings(TINY), 3), ("a", "b", "c"))
    return record


def test_a_model_keeps_its_labels_and_a_checksum(stored):
    assert stored_labels(stored) == ("a", "b", "c")
    expected = new_model(from_settings(TINY), 3).state_dict()
    found = load_model(stored.folder).state_dict()
    assert found.keys() == expected.keys() and all(torch.equal(found[key], expected[key]) for key in expected)


def test_a_model_of_before_there_were_checksums_is_read(stored):
    import safetensors.torch

    state = safetensors.torch.load_file(stored.folder / "model.safetensors")
    old = safetensors.torch.save(state, {"labels": '["x", "y", "z"]'})
    (stored.folder / "model.safetensors").write_bytes(old)
    assert stored_labels(stored) == ("x", "y", "z")
    load_model(stored.folder)


def test_a_model_with_a_flipped_bit_is_refused_with_the_remedy(stored):
    path = stored.folder / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"model\.safetensors is damaged; remove it, and `mlic run --eval-only`"):
        load_model(stored.folder)


@pytest.mark.parametrize(("content", "message"), [
    (b'{"name": "\xff"}', "is not a run's record"),
    (b"[" * 100_000, "is not a run's record"),
    (b'{"name": "a", "config": {"seed": 0}}', "is not a run's record"),
])  # fmt: skip
def test_an_unreadable_record_is_refused_by_name(stored, content, message):
    (stored.folder / "run.json").write_bytes(content)
    with pytest.raises(InputError, match=rf"aaaa/run\.json {message}"):
        read_record(stored.folder)


@pytest.mark.parametrize(("key", "value"), [
    ("config", {"seed": 0, "data.name": "x"}), ("metrics", None), ("files", ["scores.npz"]),
])  # fmt: skip
def test_a_record_without_what_lists_need_is_refused(stored, key, value, untyped):
    path = stored.folder / "run.json"
    content = without_checksum(json.loads(path.read_text()))
    path.write_text(json.dumps(content | {key: value}))
    with pytest.raises(InputError, match="lacks method.name" if key == "config" else "no config and metrics"):
        read_record(stored.folder)


@pytest.mark.parametrize("content", [None, b"", b"{", b"\xff"])
def test_a_missing_empty_or_broken_history_is_refused_by_name(stored, content):
    if content is not None:
        (stored.folder / "history.jsonl").write_bytes(content)
    with pytest.raises(InputError, match=r"cannot read .*aaaa/history\.jsonl"):
        stored.history()


def test_scores_in_an_unknown_compression_are_refused_by_name(stored):
    buffer = io.BytesIO()
    np.savez(buffer, logits=np.ones(3))
    content = bytearray(buffer.getvalue())
    for signature, place in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):  # the method, in both headers
        content[content.find(signature) + place] = 77
    with pytest.raises(NotImplementedError):
        zipfile.ZipFile(io.BytesIO(content)).read("logits.npy")
    (stored.folder / "scores.npz").write_bytes(content)
    with pytest.raises(InputError, match=r"cannot read .*scores\.npz"):
        stored.scores()


class Trap:
    """An object that makes a folder when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_code_in_scores_is_refused_and_does_not_run(stored, tmp_path):
    np.savez(stored.folder / "scores.npz", logits=np.array([Trap(tmp_path / "trap")], dtype=object))
    with pytest.raises(InputError, match=r"cannot read .*scores\.npz"):
        stored.scores()
    assert not (tmp_path / "trap").exists()


@pytest.mark.parametrize("content", [
    '{"nbformat": 4, "nbformat_minor": 5}', '{"nbformat": 3, "worksheets": [{}]}',
    '{"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [{}]}',
    '{"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [{"cell_type": "raw", "id": "a", "metadata": {}}]}',
])  # fmt: skip
def test_what_is_no_notebook_is_refused_by_name(tmp_path, content):
    (tmp_path / "00_a.ipynb").write_text(content)
    with pytest.raises(InputError, match=r"00_a\.ipynb is not a notebook"):
        read_notebooks(tmp_path)


# What had to be mended


def test_an_executed_notebook_has_the_same_bytes_each_time():
    def executed():
        added = v4.new_code_cell("profile = 'quick'", metadata={"tags": ["injected-parameters"]})
        return v4.writes(clean(v4.new_notebook(cells=[added]), {}, {}))

    assert executed() == executed()


def test_tables_are_written_while_no_other_process_writes_them(tmp_path, monkeypatch):
    locks = []

    def write(path, content):
        locks.append((tmp_path / ".manifest.json.lock").exists())
        write_atomically(path, content)

    monkeypatch.setattr(report, "write_atomically", write)
    report.save_table(tmp_path, pandas.DataFrame({"a": [1]}), "one", "A table.")
    assert locks == [True, True]


def test_executed_notebooks_are_written_while_no_other_process_writes_them(tmp_path, monkeypatch):
    (tmp_path / "executed.ipynb").write_text("{}")
    target = tmp_path / "notebooks" / "00_a.ipynb"
    locked = []
    monkeypatch.setattr(batch, "write_atomically", lambda path, content: locked.append(list(target.parent.glob(".*"))))
    batch._keep(tmp_path / "executed.ipynb", target)
    assert locked == [[target.with_name(".00_a.ipynb.lock")]]


def test_a_page_that_is_no_text_any_more_is_written_again(tmp_path):
    (tmp_path / "index.html").write_bytes(b"<p>\xff")
    page._replace(tmp_path, {"index.html": "<p>–"})
    assert (tmp_path / "index.html").read_text(encoding="utf-8") == "<p>–"


def test_a_lock_that_a_killed_process_left_is_free(tmp_path):
    (tmp_path / "a.lock").touch()
    with exclusive(tmp_path / "a.lock"):
        assert (tmp_path / "a.lock").exists()
    assert not (tmp_path / "a.lock").exists()


@pytest.mark.parametrize(("error", "status", "said"), [
    (OSError(28, "No space left on device", "out/x"), 1, "mlic: out/x: No space left on device; make room there"),
    (OSError(36, "File name too long", "x"), 1, "mlic: x: File name too long; make room there or choose another place"),
    (OSError(30, "Read-only file system"), 1, "mlic: Read-only file system; make room"),
])  # fmt: skip
def test_the_command_line_says_in_a_sentence_that_there_is_no_room(call_mlic, monkeypatch, error, status, said):
    def fail(*given):
        raise error

    monkeypatch.setattr(cli, "_lineage", fail)
    result = call_mlic("run")
    assert result.exit_code == status and result.stderr.startswith(said) and result.stderr.count("\n") == 1


def test_another_error_of_the_system_shows_where_it_came_from(call_mlic, monkeypatch):
    def fail(*given):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(cli, "_lineage", fail)
    with pytest.raises(OSError, match="Input/output"):
        call_mlic("run")
