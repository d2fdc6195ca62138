"""The files for VOC's evaluation server: its names and lines, every class and image, and the run's own ranking."""

import io
import json
import re
import tarfile

import numpy as np
import pytest

from mlic_core.data.voc import LABELS
from mlic_core.errors import InputError
from mlic_core.metrics import average_precision
from mlic_core.study.record import read_record
from mlic_core.study.submission import what_next, write_submission

IMAGES = 60


@pytest.fixture
def store(tmp_path):
    """Writes a finished run with random scores, and others where told."""
    def write(labels=LABELS, data="picto-voc", split="test", weights="pretrained", seed=0):
        rng = np.random.default_rng(seed)
        logits = rng.normal(0, 3, (IMAGES, len(labels))).astype(np.float32)
        logits[1:4] = logits[0]  # ties
        logits[4] = np.nextafter(logits[0], np.float32(np.inf))  # apart by the last bit
        logits[5] = np.float32(1e-7) * logits[0]
        targets = (rng.random(logits.shape) < 0.3).astype(np.int8)
        targets[rng.random(logits.shape) < 0.05] = -1
        folder = tmp_path / "results/own/runs/abcdef012345"
        folder.mkdir(parents=True, exist_ok=True)
        ids = np.array([f"2008_{number:06d}" for number in range(IMAGES)])
        np.savez_compressed(folder / "scores.npz", logits=logits, targets=targets, ids=ids, labels=np.array(labels))
        config = {"method.name": "classifier", "seed": 0, "data.name": data, "data.eval": split}
        config |= {"trunk.weights": weights}
        rest = dict(seconds=1.0, peak_memory=None, versions={}, commit=None, dirty=None, device="cpu", code="")
        content = {"name": folder.name, "config": config, "metrics": {}, **rest}
        (folder / "run.json").write_text(json.dumps(content))
        return read_record(folder)

    return write


def unpack(path):
    """Each file's lines as pairs of texts, by the file's name."""
    with tarfile.open(path) as archive:
        members = [tarfile.data_filter(member, "/nowhere") for member in archive]
        assert all(member.isreg() and member.mode & 0o444 == 0o444 for member in members)
        return {member.name: archive.extractfile(member.name).read().decode() for member in members}


def test_there_is_one_file_a_class_in_the_servers_place(store):
    files = unpack(write_submission(store()))
    assert list(files) == [f"results/VOC2012/Main/comp1_cls_test_{label}.txt" for label in LABELS]


def test_the_archive_can_be_extracted_safely(store, tmp_path):
    with tarfile.open(write_submission(store(), competition="comp2")) as archive:
        archive.extractall(tmp_path / "out", filter="data")
    assert len(list((tmp_path / "out/results/VOC2012/Main").glob("comp2_cls_test_*.txt"))) == 20


def test_each_line_is_an_image_and_a_number(store):
    record = store()
    for text in unpack(write_submission(record)).values():
        assert text.endswith("\n")
        lines = text.splitlines()
        assert all(re.fullmatch(r"2008_\d{6} -?\d+(\.\d+)?(e[+-]\d+)?", line) for line in lines)
        assert [line.split(" ")[0] for line in lines] == record.scores()["ids"].tolist()


def read_back(path):
    return np.array([[float(line.split()[1]) for line in text.splitlines()] for text in unpack(path).values()]).T


def test_the_confidences_are_the_fp32_logits_so_ranking_and_ap_are_the_runs(store):
    record = store()
    arrays, found = record.scores(), read_back(write_submission(record))
    assert np.array_equal(found.astype(np.float32), arrays["logits"])
    order = [np.argsort(values, axis=0, kind="stable") for values in (found, arrays["logits"])]
    assert np.array_equal(*order)
    own, theirs = (average_precision(scores, arrays["targets"]) for scores in (arrays["logits"], found))
    assert np.array_equal(own, theirs) and not np.isnan(own).any()


def test_classes_in_another_order_keep_their_own_scores(store):
    expected = {name: text for name, text in unpack(write_submission(store())).items()}
    record = store()
    arrays, turned = record.scores(), np.arange(20)[::-1]
    arrays |= {key: arrays[key][..., turned] for key in ("logits", "targets", "labels")}
    np.savez_compressed(record.folder / "scores.npz", **arrays)
    assert unpack(write_submission(record)) == expected


def test_the_same_scores_give_the_same_bytes_without_a_trace_of_time_or_user(store, tmp_path, monkeypatch):
    record = store()
    first = write_submission(record).read_bytes()
    monkeypatch.setattr("time.time", lambda: 2e9)
    assert write_submission(record, tmp_path / "other_name.tgz").read_bytes() == first
    assert first[4:8] == bytes(4) and not first[3] & 0b1000  # gzip's header: no time, no file name
    with tarfile.open(fileobj=io.BytesIO(first)) as archive:
        traces = {(entry.mtime, entry.uid, entry.gid, entry.uname, entry.gname) for entry in archive}
    assert traces == {(0, 0, 0, "", "")}


def test_it_lies_beside_the_runs_unless_told(store, tmp_path):
    record = store()
    assert write_submission(record) == tmp_path / "results/own/submissions/abcdef012345_comp1.tar.gz"
    record.folder.rename(tmp_path / "results/taken_out")
    moved = read_record(tmp_path / "results/taken_out")
    assert write_submission(moved).parent == tmp_path / "results/submissions"
    assert write_submission(moved, tmp_path / "deep/er/x.tar.gz").is_file()


@pytest.mark.parametrize("labels", [LABELS[:19], (*LABELS[:19], "zebra"), tuple(f"class{c}" for c in range(80))])
def test_other_classes_than_vocs_are_refused(store, tmp_path, labels):
    with pytest.raises(InputError, match=rf"has {len(labels)} classes .* and not the 20 of PASCAL VOC"):
        write_submission(store(labels=labels), tmp_path / "x.tar.gz")
    assert not (tmp_path / "x.tar.gz").exists()


def test_an_unknown_competition_is_refused(store, tmp_path):
    with pytest.raises(InputError, match="competition='comp3': choose one of comp1, comp2"):
        write_submission(store(), tmp_path / "x.tar.gz", "comp3")


def test_the_user_is_told_what_the_server_would_refuse(store):
    assert "wants VOC2012's image set test" in what_next(store(data="voc2012", split="val"), "comp1")
    assert "scored on voc2007 test" in what_next(store(data="voc2007"), "comp1")
    fine = what_next(store(data="voc2012", weights="none"), "comp1")
    assert fine.startswith("Upload it at http") and "comp1" in fine and "\n" not in fine


def test_a_pretrained_trunk_points_to_the_second_competition(store):
    record = store(data="voc2012")
    assert "--competition comp2" in what_next(record, "comp1") and "pretrained" not in what_next(record, "comp2")
