"""A run is trained once, to the same bytes each time, and a record is complete or not there."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import zipfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas
import pytest
import torch
from PIL import Image
from sklearn.metrics import average_precision_score

from mlic_core import study, training
from mlic_core.data.picto import PictoSpec, prepare
from mlic_core.errors import InputError
from mlic_core.models import build_trunk
from mlic_core.study import provenance, report, store, unfinished
from mlic_core.study.evaluate import evaluate, evaluate_scores, only_of_size, probabilities
from mlic_core.study.experiments import config, from_settings, run_name
from mlic_core.study.files import exclusive, without_checksum, write_atomically, write_json
from mlic_core.study.readme import results_table, update_readme
from mlic_core.study.record import Record, read_record
from mlic_core.study.store import Store

TINY = {"trunk": "pictonet-s", "trunk.weights": "none", "data.size": 32, "recipe.batch_size": 8, "recipe.epochs": 2}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "picto-voc"
    return str(prepare(folder, PictoSpec(train=24, val=8, test=12, side=64)))


@pytest.fixture
def tiny(root):
    """An experiment of half a second, changed by settings."""
    return lambda **changed: from_settings({"data.root": root, **TINY, **changed})


@pytest.fixture(scope="module")
def finished(root, tmp_path_factory):
    """A store with one MCAR run; not to be changed."""
    runs = Store(tmp_path_factory.mktemp("runs"))
    return runs, runs.run(from_settings({"data.root": root, **TINY, "method": "mcar", "method.topN": 2}))


@pytest.fixture
def copied(finished, tmp_path):
    """The same store, free to be changed."""
    shutil.copytree(finished[0].folder, tmp_path / "runs")
    runs = Store(tmp_path / "runs")
    return runs, runs.records()[0]


def written(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def forbid(*args, **kwargs):
    raise AssertionError("trained although the run is stored")


def test_a_record_holds_exactly_what_the_format_promises(finished):
    runs, record = finished
    assert written(runs.folder) == [f"{record.name}/{file}" for file in
                                    ("history.jsonl", "model.safetensors", "run.json", "scores.npz")]
    assert list(json.loads((record.folder / "run.json").read_text())) == [
        "name", "config", "metrics", "seconds", "peak_memory", "versions", "commit", "dirty", "device", "code",
        "scoring", "files", "sha256"]
    arrays = record.scores()
    assert {key: (array.shape, array.dtype.kind) for key, array in arrays.items()} == {
        "logits": ((12, 20), "f"), "targets": ((12, 20), "i"), "ids": ((12,), "U"), "labels": ((20,), "U"),
        "steps": ((12, 2, 20), "f"), "largest": ((12, 20), "f")}
    assert {arrays[key].dtype for key in ("logits", "steps", "largest")} == {np.dtype(np.float32)}
    assert arrays["targets"].dtype == np.int8
    assert [row["epoch"] for row in record.history()] == [1, 2]


def test_a_record_names_no_folder_of_the_machine(finished, root):
    text = (finished[1].folder / "run.json").read_text()
    assert root not in text and str(Path.home()) not in text


def test_any_metric_can_be_computed_again_from_the_scores(finished):
    arrays = finished[1].scores()
    kept = [c for c in range(20) if (arrays["targets"][:, c] == 1).any()]
    ap = {arrays["labels"][c]: 100 * average_precision_score(arrays["targets"][known, c], arrays["logits"][known, c])
          for c in kept if (known := arrays["targets"][:, c] >= 0).any()}
    stored = {label: value for label, value in finished[1].metrics["AP"].items() if value is not None}
    assert stored == pytest.approx(ap)
    assert finished[1].metrics["mAP"] == pytest.approx(np.mean(list(ap.values())))


def test_the_same_experiment_gives_the_same_bytes(finished, tiny, tmp_path):
    record = finished[1]
    again = Store(tmp_path).run(tiny(method="mcar", **{"method.topN": 2}))
    assert again.name == record.name
    for file in ("scores.npz", "model.safetensors"):
        assert (again.folder / file).read_bytes() == (record.folder / file).read_bytes()
    assert json.dumps(again.metrics) == json.dumps(record.metrics)


def test_a_stored_run_is_not_trained_again(finished, tiny, monkeypatch):
    monkeypatch.setattr(store, "fit", forbid)
    assert finished[0].run(tiny(method="mcar", **{"method.topN": 2})) == finished[1]


KILLED = """
import sys
from mlic_core.study.experiments import from_settings
from mlic_core.study.store import Store
import json
Store(sys.argv[1]).run(from_settings(json.loads(sys.argv[2])))
"""


def test_a_killed_run_goes_on_to_the_same_bytes(root, tiny, tmp_path):
    long = {"recipe.epochs": 40, "method": "mcar", "method.topN": 2}
    name = run_name(tiny(**long))
    folder = tmp_path / "killed" / name
    arguments = [str(folder.parent), json.dumps({"data.root": root, **TINY, **long})]
    process = subprocess.Popen([sys.executable, "-c", KILLED, *arguments], env=os.environ | {"OMP_NUM_THREADS": "1"})
    limit = time.monotonic() + 120
    while not (folder / "checkpoint.pt").is_file() and process.poll() is None and time.monotonic() < limit:
        time.sleep(0.01)
    time.sleep(np.random.default_rng().uniform(0, 0.2))  # anywhere in an epoch, or in the writing of a checkpoint
    process.send_signal(signal.SIGKILL)
    process.wait()
    runs = Store(folder.parent)
    assert runs.records() == [] and runs.unfinished() == [name]
    done = len(torch.load(folder / "checkpoint.pt", weights_only=True)["history"])
    assert 0 < done < 40
    resumed, whole = runs.run(tiny(**long)), Store(tmp_path / "whole").run(tiny(**long))
    assert (resumed.folder / "scores.npz").read_bytes() == (whole.folder / "scores.npz").read_bytes()
    assert json.dumps(resumed.metrics) == json.dumps(whole.metrics)
    assert written(folder) == ["history.jsonl", "model.safetensors", "run.json", "scores.npz"]
    assert runs.unfinished() == []


def test_other_code_does_not_go_on_from_a_checkpoint(tiny, tmp_path):
    experiment = tiny()
    folder = tmp_path / run_name(experiment)
    folder.mkdir()
    (folder / "checkpoint.pt").write_bytes(b"made by other code, and not even readable")
    (folder / unfinished.STAMP).write_text('{"code": "another digest", "seconds": 5.0, "begun": 0.0}')
    record = Store(tmp_path).run(experiment)
    assert [row["epoch"] for row in record.history()] == [1, 2]


def test_seconds_add_up_over_a_kill(tmp_path):
    with zipfile.ZipFile(tmp_path / "checkpoint.pt", "w") as archive:
        archive.writestr("data", b"weights")
    unfinished.write_stamp(tmp_path, "c", 47.0)  # as it stood after the last epoch
    assert unfinished.begin(tmp_path, "c") == 47.0
    assert unfinished.begin(tmp_path, "c") == 47.0  # the third attempt: the second reached no checkpoint


@pytest.mark.parametrize("far", [-(10**9), 10**9])
def test_seconds_of_a_resumed_run_do_not_depend_on_the_clock(tmp_path, tiny, monkeypatch, far):
    def stop(epoch, model):
        raise KeyboardInterrupt

    keep = unfinished.write_stamp
    monkeypatch.setattr(unfinished, "write_stamp", lambda *given: keep(*given) or (given[2] > 0 and stop(*given[:2])))
    with pytest.raises(KeyboardInterrupt):
        Store(tmp_path).run(tiny())
    monkeypatch.undo()
    clock = time.time
    monkeypatch.setattr(time, "time", lambda: clock() + far)
    for path in tmp_path.rglob("*"):
        os.utime(path, (clock() + far,) * 2)
    assert 0 < Store(tmp_path).run(tiny()).seconds < 600


@pytest.mark.parametrize("damage", ["flipped", "cut", "not a zip"])
def test_a_broken_checkpoint_is_dropped_and_the_run_starts_over(tiny, tmp_path, damage):
    experiment = tiny()
    folder = tmp_path / run_name(experiment)
    folder.mkdir()
    model = store.new_model(experiment, 20)
    torch.save({"model": model.state_dict(), "optimizer": {}, "history": []}, folder / "checkpoint.pt")
    content = bytearray((folder / "checkpoint.pt").read_bytes())
    content[len(content) // 2] ^= damage == "flipped"
    kept = {"flipped": content, "cut": content[:-100], "not a zip": b"zero"}[damage]
    (folder / "checkpoint.pt").write_bytes(kept)
    unfinished.write_stamp(folder, provenance.code_digest("classifier", "picto-voc"), 5.0)
    record, whole = Store(tmp_path).run(experiment), Store(tmp_path / "whole").run(experiment)
    assert record.seconds < 5
    for name in ("scores.npz", "model.safetensors", "history.jsonl"):
        assert (record.folder / name).read_bytes() == (whole.folder / name).read_bytes()


def test_what_a_kill_at_the_very_end_leaves_is_removed_by_the_next_call(copied, tiny):
    runs, record = copied
    for name in ("checkpoint.pt", unfinished.STAMP):
        (record.folder / name).write_bytes(b"{}")
    assert runs.run(tiny(method="mcar", **{"method.topN": 2})) == record
    assert written(record.folder) == ["history.jsonl", "model.safetensors", "run.json", "scores.npz"]


def test_the_checkpoint_of_a_model_that_is_trained_again_stays_for_it(copied, tiny):
    runs, record = copied
    (record.folder / "model.safetensors").unlink()
    (record.folder / "checkpoint.pt").write_bytes(b"half of it")
    runs.run(tiny(method="mcar", **{"method.topN": 2}))
    assert (record.folder / "checkpoint.pt").is_file()


def test_a_second_process_finds_the_run_that_it_waited_for(copied, tiny, tmp_path, monkeypatch):
    record = copied[1]
    late = Store(tmp_path / "late")

    @contextmanager
    def wait_for_the_first(name):
        shutil.copytree(record.folder, late.folder / name)
        yield

    monkeypatch.setattr(late, "_exclusive", wait_for_the_first)
    monkeypatch.setattr(store, "fit", forbid)
    assert late.run(tiny(method="mcar", **{"method.topN": 2})).metrics == record.metrics


def test_the_lock_lets_one_in_at_a_time_and_leaves_no_file(tmp_path):
    inside, most, path = [], [], tmp_path / "x.lock"

    def enter():
        for _ in range(20):
            with exclusive(path):
                inside.append(1)
                most.append(len(inside))
                time.sleep(0.001)
                inside.pop()

    threads = [threading.Thread(target=enter) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 80
    assert not path.exists()


def test_who_has_to_wait_is_told(tmp_path, monkeypatch):
    said, path = [], tmp_path / "x.lock"
    monkeypatch.setattr("mlic_core.progress.say", said.append)
    held, release = threading.Event(), threading.Event()

    def hold():
        with exclusive(path):
            held.set()
            release.wait(10)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(10)
    threading.Timer(1.5, release.set).start()
    with exclusive(path, "another process is at it"):
        assert said == ["another process is at it: waiting for it"]
    thread.join()


def test_a_failed_write_leaves_the_old_content(tmp_path):
    path = tmp_path / "run.json"
    write_json(path, {"mAP": 1.0})
    with pytest.raises(ValueError):
        write_json(path, {"mAP": float("nan")})
    assert json.loads(path.read_text()) == {"mAP": 1.0}
    write_atomically(path, b"{}")
    assert written(tmp_path) == ["run.json"]


def test_a_write_that_finds_no_room_leaves_nothing(tmp_path, monkeypatch):
    def full(number):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(tmp_path / "new.json", b"{}")
    assert written(tmp_path) == []


def test_a_record_that_contradicts_its_settings_is_an_error(copied, edit, tiny):
    runs, _ = copied
    edit(lambda content: content["config"].update({"recipe.clip": 1.0}))
    with pytest.raises(InputError, match=r"was made with recipe.clip=1.0, not 5.0: a default has changed since"):
        runs.run(tiny(method="mcar", **{"method.topN": 2}))


def test_a_record_without_a_later_setting_still_counts(copied, edit, tiny, monkeypatch):
    runs, record = copied
    edit(lambda content: content["config"].pop("recipe.clip"))
    monkeypatch.setattr(store, "fit", forbid)
    assert runs.run(tiny(method="mcar", **{"method.topN": 2})).name == record.name


def test_a_broken_record_is_named(copied):
    runs, record = copied
    (record.folder / "run.json").write_text('{"name": ')
    with pytest.raises(InputError, match=r"run.json is not a run's record"):
        runs.records()


def test_freed_memory_is_kept_from_the_first_model_on(monkeypatch, tiny):
    order = []
    monkeypatch.setattr(store, "keep_freed_memory", lambda: order.append("kept"))
    monkeypatch.setattr(store, "build_trunk", lambda *args: order.append("trunk") or build_trunk(*args))
    store.new_model(tiny(), num_classes=3)
    assert order == ["kept", "trunk"]


def test_a_loaded_model_gives_the_stored_scores(finished, tiny):
    record = finished[1]
    model = study.load_model(record.folder)
    assert not model.training
    splits = store.open_splits(tiny().data)
    arrays, metrics = store.score(model, splits["eval"], "ignore")
    assert np.array_equal(arrays["logits"], record.scores()["logits"])
    assert metrics == record.metrics


def test_a_watched_training_ends_as_the_stored_one_and_stores_nothing(finished, tiny):
    runs, record = finished
    before, epochs, seen = sorted(runs.folder.iterdir()), [], []
    test = store.open_splits(tiny().data)["eval"]

    def look(epoch, model):
        epochs.append(epoch)
        seen.append(store.predict(model, test).logits)

    runs.watch(tiny(method="mcar", **{"method.topN": 2}), look)
    assert epochs == [1, 2] and sorted(runs.folder.iterdir()) == before
    assert np.array_equal(seen[1], record.scores()["logits"]) and not np.array_equal(seen[0], seen[1])


def test_a_record_without_its_model_is_trained_again_and_agrees(copied, tiny):
    runs, record = copied
    before = (record.folder / "run.json").read_bytes()
    model = (record.folder / "model.safetensors").read_bytes()
    (record.folder / "model.safetensors").unlink()
    with pytest.raises(InputError, match="stored without its model"):
        study.load_model(record.folder)
    runs.model(tiny(method="mcar", **{"method.topN": 2}))
    assert (record.folder / "model.safetensors").read_bytes() == model
    assert (record.folder / "run.json").read_bytes() == before
    assert not (record.folder / "checkpoint.pt").exists()


def test_a_retrained_model_that_disagrees_is_refused_and_the_record_stays(copied, edit, tiny):
    runs, record = copied
    stored = record.metrics["mAP"] + 5
    edit(lambda content: content["metrics"].update(mAP=stored))
    (record.folder / "model.safetensors").unlink()
    with pytest.raises(RuntimeError, match="trained again"):
        runs.model(tiny(method="mcar", **{"method.topN": 2}))
    assert read_record(record.folder).metrics["mAP"] == stored
    assert not (record.folder / "model.safetensors").exists()


@pytest.fixture
def edit(copied):
    """Changes the run.json of the copied run, as other code might have written it."""
    path = copied[1].folder / "run.json"

    def change(do):
        content = json.loads(path.read_text())
        do(content)
        content.pop("sha256", None)
        write_json(path, content)

    return change


@pytest.fixture
def said(monkeypatch):
    lines = []
    monkeypatch.setattr("mlic_core.study.record.say", lines.append)
    return lines


MCAR2 = {"method": "mcar", "method.topN": 2}


def test_metrics_of_other_code_are_computed_again_from_the_scores(copied, edit, said, tiny, monkeypatch):
    runs, record = copied
    files = {path.name: path.read_bytes() for path in record.folder.iterdir()}
    edit(lambda content: content.update(scoring="other", metrics=content["metrics"] | {"mAP": 12.345, "C-F1": 99.0}))
    monkeypatch.setattr(store, "fit", forbid)
    monkeypatch.setattr(store, "predict", forbid)
    assert read_record(record.folder).outdated
    assert runs.run(tiny(**MCAR2)) == record
    assert {path.name: path.read_bytes() for path in record.folder.iterdir()} == files
    [line] = said
    assert f"run {record.name} " in line and f"mAP 12.35 before, {record.metrics['mAP']:.2f} now" in line
    assert runs.run(tiny(**MCAR2)) == record and len(said) == 1


def test_a_record_from_before_the_digest_is_outdated_and_gets_it(copied, edit, said, tiny):
    runs, record = copied
    before = (record.folder / "run.json").read_bytes()
    edit(lambda content: content.pop("scoring"))
    assert read_record(record.folder).outdated and not read_record(record.folder).stale
    assert not runs.run(tiny(**MCAR2)).outdated
    assert (record.folder / "run.json").read_bytes() == before and said == []


def test_numbers_that_differ_in_rounding_alone_stay(copied, edit, said, tiny):
    runs, record = copied
    near = record.metrics["mAP"] + 1e-12
    edit(lambda content: content.update(scoring="other", metrics=content["metrics"] | {"mAP": near}))
    new = runs.run(tiny(**MCAR2))
    assert (new.metrics["mAP"], new.scoring, said) == (near, provenance.scoring_digest(), [])


def test_a_metric_that_is_new_or_gone_is_a_change(copied, edit, said, tiny):
    runs, record = copied
    edit(lambda content: content.update(scoring="other", metrics={"old": 1.0, **content["metrics"]}))
    edit(lambda content: content["metrics"].pop("O-F1"))
    assert runs.run(tiny(**MCAR2)).metrics == record.metrics and len(said) == 1


def without_sizes(record, edit):
    """Make it one of the early records, whose scores.npz held no object sizes, and which had no digests of files."""
    arrays = record.scores()
    del arrays["largest"]
    np.savez_compressed(record.folder / "scores.npz", **arrays)
    edit(lambda content: content.pop("files"))
    return (record.folder / "scores.npz").read_bytes()


def test_an_early_record_takes_object_sizes_from_its_data_and_its_scores_stay(copied, edit, tiny):
    runs, record = copied
    scores = without_sizes(record, edit)
    edit(lambda content: content.update(scoring="", metrics=content["metrics"] | {"mAP large objects": 1.0}))
    assert runs.run(tiny(**MCAR2)).metrics == record.metrics
    assert (record.folder / "scores.npz").read_bytes() == scores


def test_an_early_record_without_the_boxes_it_had_is_left_alone(copied, edit, devkit):
    runs, record = copied
    without_sizes(record, edit)
    edit(lambda content: content.pop("scoring"))
    before = (record.folder / "run.json").read_bytes()
    shutil.rmtree(devkit / "VOCdevkit/VOC2012/Annotations")
    with pytest.raises(InputError, match="picto-voc has lost its annotations; put them back"):
        runs.run(from_settings({"data.root": str(devkit), **TINY, **MCAR2}))
    assert (record.folder / "run.json").read_bytes() == before


def test_metrics_are_renewed_by_one_process(copied, edit, tiny, monkeypatch):
    runs, record = copied
    new = (record.folder / "run.json").read_bytes()
    edit(lambda content: content.update(scoring="other"))

    @contextmanager
    def wait_for_the_first(name):
        write_atomically(record.folder / "run.json", new)
        yield

    monkeypatch.setattr(runs, "_exclusive", wait_for_the_first)
    monkeypatch.setattr(store, "renewed", forbid)
    assert runs.run(tiny(**MCAR2)) == record


@pytest.mark.parametrize(("before", "after"), [
    ('"mAP": ', '"mAP": 1'), ('"recipe.clip": 5.0', '"recipe.clip": 5.5'), ('"device": "cpu', '"device": "gpu'),
    ('"sha256": "', '"sha256": "0'),
])  # fmt: skip
def test_a_record_changed_by_one_character_is_refused(copied, before, after):
    runs, record = copied
    path = record.folder / "run.json"
    path.write_text(path.read_text().replace(before, after))
    with pytest.raises(InputError, match=r"run.json is not a run's record \(it was changed after it was written\)"):
        runs.records()


@pytest.mark.parametrize(("name", "read"), [("scores.npz", Record.scores), ("history.jsonl", Record.history)])
def test_the_files_of_another_run_are_refused(copied, name, read):
    """Whole and readable, but not what this run's record describes."""
    _, record = copied
    path = record.folder / name
    if name == "scores.npz":
        np.savez(path, **(record.scores() | {"logits": record.scores()["logits"] + np.float32(1)}))
    else:
        path.write_text(path.read_text().replace('"epoch": 2', '"epoch": 3'))
    with pytest.raises(InputError, match=rf"{name} \(it is not the file that run.json describes\); put it back"):
        read(read_record(record.folder))


@pytest.mark.parametrize("content", [None, b"", b"PK\x03\x04 cut off", b"text"])
def test_missing_or_broken_scores_are_named(copied, edit, tiny, content):
    runs, record = copied
    edit(lambda content: content.pop("scoring"))
    path = record.folder / "scores.npz"
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(InputError, match=r"scores\.npz.*put it back, or remove .* to train the run again"):
        runs.run(tiny(**MCAR2))


def test_find_takes_the_beginning_of_a_name(finished):
    runs, record = finished
    assert runs.find(record.name[:5]) == record
    with pytest.raises(InputError, match=r"no runs in .* are named xyz"):
        runs.find("xyz")


@pytest.fixture
def devkit(root, tmp_path):
    """A copy of the small data set, to break."""
    shutil.copytree(root, tmp_path / "data")
    return tmp_path / "data"


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_a_truncated_image_leaves_nothing_behind(devkit, tmp_path, split):
    image = devkit / f"VOCdevkit/VOC2012/JPEGImages/{split}_000003.jpg"
    image.write_bytes(image.read_bytes()[:400])
    with pytest.raises(InputError, match=rf"{split}_000003.jpg"):
        Store(tmp_path / "runs").run(from_settings({"data.root": str(devkit), **TINY}))
    assert written(tmp_path / "runs") == []


def test_large_sets_are_checked_image_by_image(devkit, tmp_path, monkeypatch):
    monkeypatch.setattr(store, "IN_MEMORY", 0)
    (devkit / "checksums.json").unlink()
    image = devkit / "VOCdevkit/VOC2012/JPEGImages/test_000011.jpg"
    Image.new("RGB", (64, 64)).save(image, "PNG")  # readable, whatever its name says
    store.check_images(store.open_splits(from_settings({"data.root": str(devkit), **TINY}).data)["eval"])
    image.write_bytes(b"no image")
    with pytest.raises(InputError, match=r"test_000011\.jpg"):
        store.check_images(store.open_splits(from_settings({"data.root": str(devkit), **TINY}).data)["eval"])


def test_a_diverged_run_leaves_nothing_behind(tiny, tmp_path):
    with pytest.raises(FloatingPointError, match=r"lower recipe\.lr"):
        Store(tmp_path).run(tiny(**{"recipe.lr": 1e30, "recipe.head_lr": 1e30, "recipe.clip": 0.0}))
    assert written(tmp_path) == []


def test_a_run_that_diverges_after_a_good_epoch_keeps_its_checkpoint(tiny, tmp_path, monkeypatch):
    def check(model, epoch):
        if epoch == 2:
            raise FloatingPointError("a weight is not finite")

    monkeypatch.setattr(training, "check_weights", check)
    with pytest.raises(FloatingPointError):
        Store(tmp_path).run(tiny(**{"recipe.epochs": 3}))
    assert sorted(Path(name).name for name in written(tmp_path)) == ["checkpoint.json", "checkpoint.pt"]
    monkeypatch.undo()
    [left] = Store(tmp_path).unfinished()
    assert Store(tmp_path).run(tiny(**{"recipe.epochs": 3})).name == left


def test_an_impossible_option_leaves_nothing_behind(tiny, tmp_path):
    with pytest.raises(InputError, match=r"topN=30: choose 0 to 20"):
        Store(tmp_path / "runs").run(tiny(method="mcar", **{"method.topN": 30}))
    assert not (tmp_path / "runs").exists()


SCORES = np.array([[2.0, -1.0], [1.0, -3.0], [-2.0, 4.0], [-1.0, 1.0]], np.float32)
TARGETS = np.array([[1, 0], [0, 1], [1, 0], [-1, -1]], np.int8)


def test_metrics_by_hand():
    metrics = evaluate(SCORES, TARGETS, ("a", "b"))
    # Class a ranks + - + (the difficult one apart): (1/1 + 2/3) / 2; class b ranks - - +: 1/3.
    assert metrics["AP"] == {"a": pytest.approx(100 * 5 / 6), "b": pytest.approx(100 / 3)}
    assert metrics["mAP"] == pytest.approx(100 * 7 / 12) and metrics["classes"] == 2
    # Positive logits: a for images 0 and 1, b for 2: one right of three, of three positives.
    assert (metrics["O-P"], metrics["O-R"]) == (pytest.approx(100 / 3), pytest.approx(100 / 3))
    assert "mAP steps" not in metrics and "mAP small objects" not in metrics


def test_difficult_objects_can_count_as_present_or_absent():
    # As a positive the difficult image ranks third of four in class a: (1 + 2/3 + 3/4) / 3 with image 2 last.
    positive = evaluate(SCORES, TARGETS, ("a", "b"), difficult="positive")["AP"]["a"]
    negative = evaluate(SCORES, TARGETS, ("a", "b"), difficult="negative")["AP"]["a"]
    assert positive == pytest.approx(100 * (1 + 2 / 3 + 3 / 4) / 3)
    assert negative == pytest.approx(100 * (1 + 2 / 4) / 2)


def test_objects_of_another_size_count_neither_way():
    largest = np.array([[0.1, np.nan], [np.nan, 0.5], [0.9, np.nan], [0.3, 0.3]], np.float32)
    assert only_of_size(TARGETS, largest, "small").tolist() == [[1, 0], [0, -1], [-1, 0], [-1, -1]]
    assert only_of_size(TARGETS, largest, "large").tolist() == [[-1, 0], [0, 1], [1, 0], [-1, -1]]
    metrics = evaluate(SCORES, TARGETS, ("a", "b"), largest=largest)
    assert metrics["mAP small objects"] == pytest.approx(100)  # class a's image 0 is first; b has no small one
    assert metrics["mAP medium objects"] is None


def test_an_object_of_the_whole_image_is_large():
    ones = np.ones((1, 1), np.int8)
    assert only_of_size(ones, np.ones((1, 1), np.float32), "large").tolist() == [[1]]


def test_each_step_has_its_own_map():
    steps = np.stack([SCORES, -SCORES], 1)
    first, second = evaluate(SCORES, TARGETS, ("a", "b"), steps=steps)["mAP steps"]
    assert first == pytest.approx(100 * 7 / 12)
    # Reversed: class a ranks + - +, class b + - -.
    assert second == pytest.approx(100 * (5 / 6 + 1) / 2)


def test_probabilities_do_not_overflow():
    logits = np.array([[-1000.0, 0.0, 1000.0]], np.float32)
    assert probabilities(logits).tolist() == [[0.0, 0.5, 1.0]]


@pytest.fixture
def code_changes(monkeypatch):
    """Whether the code digest of an MCAR run changes with the text of one module."""
    read, digest = provenance._source, provenance.code_digest.__wrapped__  # around its cache
    before = digest("mcar", "picto-voc")

    def changes(module, edit):
        monkeypatch.setattr(provenance, "_source", lambda name: edit(read(name)) if name == module else read(name))
        return digest("mcar", "picto-voc") != before

    return changes


@pytest.mark.parametrize("module", ["models.mcar", "models.pooling", "losses.binary", "training", "data.glyphs"])
def test_the_code_of_a_run_is_what_it_executes(code_changes, module):
    assert code_changes(f"mlic_core.{module}", lambda text: text + "\nx = 1\n")


@pytest.mark.parametrize("module", ["models.classifier", "models", "study.store", "progress", "published",
                                    "metrics.ap", "metrics.labels", "study.evaluate"])
def test_what_makes_no_weight_and_no_score_is_not_its_code(code_changes, module):
    assert not code_changes(f"mlic_core.{module}", lambda text: f"{text}\nx = 1\n")


@pytest.mark.parametrize(("module", "counts"), [
    ("study.evaluate", True), ("metrics.ap", True), ("metrics.labels", True), ("metrics.resampling", False),
    ("metrics.protocols", False), ("training", False), ("models.mcar", False), ("study.store", False),
])
def test_the_scoring_of_a_run_is_what_computes_its_metrics(monkeypatch, module, counts):
    read, digest = provenance._source, provenance.scoring_digest.__wrapped__
    before = digest()
    monkeypatch.setattr(provenance, "_source", lambda name: (read(name) or "") + "\nx = 1\n"
                        if name == f"mlic_core.{module}" else read(name))
    assert (digest() != before) == counts


def test_no_function_that_computes_metrics_escapes_the_digest(finished):
    files, package = set(), str(provenance.PACKAGE)

    def note(frame, event, argument):
        if frame.f_code.co_filename.startswith(package):
            files.add(frame.f_code.co_filename)

    arrays = finished[1].scores()
    sys.setprofile(note)
    try:
        evaluate_scores(arrays, "ignore")
    finally:
        sys.setprofile(None)
    ran = {".".join(("mlic_core", *Path(file).relative_to(package).with_suffix("").parts)) for file in files}
    known = set(provenance.modules(provenance.SCORING, without=provenance.WITHOUT_EFFECT))
    assert "mlic_core.metrics.ap" in ran and ran - {*known, *provenance.WITHOUT_EFFECT} == set()


def test_a_name_that_a_package_passes_on_leads_to_its_module():
    assert provenance._origin("mlic_core.metrics.average_precision") == "mlic_core.metrics.ap"
    assert provenance._origin("mlic_core.metrics.nothing") is None and provenance._origin("mlic_core.nowhere.x") is None


def test_comments_and_docstrings_are_no_code(code_changes):
    def reword(text):
        assert '"""MCAR:' in text
        return "# A comment.\n" + text.replace('"""MCAR:', '"""Other words for MCAR:')

    assert not code_changes("mlic_core.models.mcar", reword)


def test_a_run_of_other_code_is_stale(finished, monkeypatch):
    record = finished[1]
    assert not record.stale
    monkeypatch.setattr(provenance, "code_digest", lambda method, data: "other")
    assert record.stale


def record(method="mcar", seed=0, mAP=80.0, code="a", data="picto-voc", scoring="s", **options):
    usual = {"trunk.name": "pictonet-m", "data.size": 112}
    if method == "mcar":
        usual |= {"method.topN": 4, "method.tau": 0.5, "method.selection": "top", "method.learning": "pair"}
    chosen = {"data.name": data, "method.name": method, "method.pooling": "gap", "seed": seed, **usual, **options}
    return Record(folder=Path(), name=f"{method}{seed}{mAP}", config=chosen, metrics={"mAP": mAP}, seconds=90.0,
                  peak_memory=1, versions={}, commit=None, dirty=None, device="cpu", code=code,
                  scoring=scoring)


def test_a_table_never_mixes_two_codes_of_one_method(tmp_path):
    frame = pandas.DataFrame({"mAP": [80.0]})
    fine = [record(), record("classifier", code="b"), record(data="x", code="c")]
    report.save_table(tmp_path, frame, "fine", "c", fine)
    with pytest.raises(InputError, match="of mcar were made by different code"):
        report.save_table(tmp_path, frame, "mixed", "c", [record(), record(seed=1, code="b")])
    assert written(tmp_path) == ["manifest.json", "tables/fine.csv", "tables/fine.md"]


def test_a_table_never_mixes_two_codes_of_the_metrics(tmp_path):
    frame = pandas.DataFrame({"mAP": [80.0]})
    with pytest.raises(InputError, match=r"mcar080\.0 and classifier080\.0 were computed by different.*`mlic repro"):
        report.save_table(tmp_path, frame, "mixed", "c", [record(), record("classifier", scoring="t")])
    assert written(tmp_path) == []


def test_a_table_is_written_for_people_and_for_machines(tmp_path):
    frame = pandas.DataFrame({"method": ["a|b", "c"], "mAP": [79.123456, float("nan")], "n": [3, 4]})
    report.save_table(tmp_path, frame, "main", "What to see.", [record()])
    assert (tmp_path / "tables/main.csv").read_text() == "method,mAP,n\na|b,79.123456,3\nc,,4\n"
    assert (tmp_path / "tables/main.md").read_text() == (
        "| method | mAP | n |\n| --- | --: | --: |\n| a\\|b | 79.12 | 3 |\n| c |  | 4 |\n\nWhat to see.\n")


def test_a_named_index_becomes_a_column():
    frame = pandas.DataFrame({"mAP": [1.5]}, index=pandas.Index(["gap"], name="pooling")).reset_index()
    assert report.markdown(frame).splitlines()[0] == "| pooling | mAP |"


def test_the_manifest_says_what_is_behind_each_file(tmp_path):
    report.save_table(tmp_path, pandas.DataFrame({"x": [1]}), "b", "A table.", [record(seed=1), record()])
    report.save_table(tmp_path, pandas.DataFrame({"x": [1]}), "a", "Another.")
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert list(manifest) == ["tables/a", "tables/b"]
    assert manifest["tables/b"]["caption"] == "A table."
    assert manifest["tables/b"]["runs"] == ["mcar080.0", "mcar180.0"]
    assert set(manifest["tables/b"]["files"]) == {"tables/b.csv", "tables/b.md"}


@pytest.mark.parametrize("text", ["", '{"tables/a": ', "[1]"])
def test_a_damaged_manifest_is_named_and_stays(tmp_path, text):
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(InputError, match=r"manifest.json is no manifest of tables and figures .*; remove it and run"):
        report.save_table(tmp_path, pandas.DataFrame({"x": [1]}), "b", "A table.")
    assert (tmp_path / "manifest.json").read_text() == text


def test_the_manifest_survives_notebooks_side_by_side(tmp_path):
    def save(number):
        report.save_table(tmp_path, pandas.DataFrame({"x": [number]}), f"t{number}", "c")

    threads = [threading.Thread(target=save, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(json.loads((tmp_path / "manifest.json").read_text())) == [f"tables/t{number}" for number in range(8)]


def test_a_figure_has_the_same_bytes_each_time(tmp_path):
    from matplotlib.figure import Figure

    def draw(folder):
        figure = Figure(figsize=(2, 2))
        axes = figure.subplots()
        axes.plot([0, 1], [1, 0])
        axes.fill_between([0, 1], [0, 0], [1, 1], hatch="//")  # hatches and clip paths get identifiers
        report.save_figure(folder, figure, "lines", "Two lines.")
        return {path.suffix: path.read_bytes() for path in (folder / "figures").iterdir()}

    first = draw(tmp_path / "a")
    assert first == draw(tmp_path / "b") and set(first) == {".png", ".svg"}
    assert b"<dc:date>" not in first[".svg"]


@pytest.mark.parametrize("name", ["../up", "a b", "", "a/b"])
def test_a_figure_or_table_has_a_plain_name(tmp_path, name):
    with pytest.raises(InputError, match="letters, digits"):
        report.save_table(tmp_path / "results", pandas.DataFrame({"x": [1]}), name, "c")
    assert written(tmp_path) == []


def test_the_readme_table_averages_over_seeds():
    gwp = {"method.pooling": "gwp"}
    runs = [record(seed=0, mAP=79.0, **gwp), record(seed=1, mAP=81.0, **gwp), record("classifier", mAP=85.0)]
    assert results_table(runs) == (
        "| Method | picto-voc | Seeds | Minutes |\n"
        "| --- | --- | --- | --- |\n"
        "| baseline, GAP | 85.0 | 1 | 1.5 |\n"
        "| MCAR, GWP | 80.0 ± 1.4 | 2 | 1.5 |\n"
    )


def test_the_readme_table_keeps_trunks_and_sizes_apart():
    runs = [record("classifier", mAP=85.0), record("classifier", mAP=60.0, **{"data.size": 64})]
    runs += [record("classifier", mAP=50.0, **{"trunk.name": "pictonet-s"})]
    assert results_table(runs).count("\n") == 3 and "| baseline, GAP | 85.0 | 1 | 1.5 |" in results_table(runs)


def test_the_readme_table_leaves_out_ablations():
    heads = {"method.pooling": "gwp", "trunk.weights": "run:0123456789ab", "method.hidden": 128}
    heads |= {"method.cell": "paper", "method.order": "frequency", "data.size": 112}
    runs = [record("cnn_rnn", mAP=80.0, **heads), record("cnn_rnn", mAP=70.0, **heads | {"method.order": "rare-first"})]
    runs += [record("cnn_rnn", mAP=60.0, **heads | {"trunk.weights": "none"})]
    assert results_table(runs).count("\n") == 3 and "| CNN-RNN | 80.0 | 1 | 1.5 |" in results_table(runs)


def test_the_readme_table_has_a_column_for_each_data_set():
    runs = [record("classifier", mAP=85.0), record("classifier", mAP=65.0, **{"data.name": "picto-coco"})]
    assert "| baseline, GAP | 85.0 | 65.0 |" in results_table(runs)


def test_the_readme_table_needs_runs():
    with pytest.raises(InputError, match="mlic reproduce --profile study"):
        results_table([])


BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"


def test_the_readme_is_renewed_between_its_markers_only(tmp_path, copied, monkeypatch):
    runs, _ = copied
    shutil.copytree(runs.folder, tmp_path / "results/study/runs")
    shown = {"method.pooling": "gwp", "method.topN": 4, "trunk.name": "pictonet-m", "data.size": 112}
    for path in tmp_path.glob("results/study/runs/*/run.json"):  # as settings that the table shows
        content = json.loads(path.read_text())
        path.write_text(json.dumps(without_checksum(content) | {"config": content["config"] | shown}))
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    assert update_readme(readme, tmp_path / "results", check=True)
    assert "old" in readme.read_text()
    assert update_readme(readme, tmp_path / "results")
    text = readme.read_text()
    assert text.startswith(f"before\n{BEGIN}\n| Method") and text.endswith(f"|\n{END}\nafter\n") and "old" not in text
    assert not update_readme(readme, tmp_path / "results", check=True)
    photos = tmp_path / "results/photos/tables/photos_main.md"
    photos.parent.mkdir(parents=True)
    photos.write_text("| a |\n| --- |\n| 1 |\n\nWhat it shows.\n")
    with pytest.raises(InputError, match="photos:begin"):
        update_readme(readme, tmp_path / "results")
    readme.write_text(f"{text}<!-- photos:begin -->old<!-- photos:end -->\n")
    assert update_readme(readme, tmp_path / "results")
    assert readme.read_text() == f"{text}<!-- photos:begin -->\n| a |\n| --- |\n| 1 |\n<!-- photos:end -->\n"


def test_a_readme_without_markers_is_left_alone(tmp_path):
    (tmp_path / "README.md").write_text("text")
    with pytest.raises(InputError, match="results:begin"):
        update_readme(tmp_path / "README.md", tmp_path)


def test_a_config_in_a_record_is_the_experiments(finished, tiny):
    assert finished[1].config == config(tiny(method="mcar", **{"method.topN": 2}))
