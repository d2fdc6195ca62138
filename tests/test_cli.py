"""`mlic` does what it says, and wrong input is one sentence with exit status 2 and nothing left behind."""

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile

import numpy as np
import pytest
from PIL import Image

from mlic_core.data.picto import PictoSpec, prepare
from mlic_core.data.voc import LABELS
from mlic_core.metrics import protocol_matrix
from mlic_core.study import experiments, provenance
from mlic_core.study.store import Store

TINY = ["trunk=pictonet-s", "trunk.weights=none", "data.size=32", "recipe.epochs=1", "recipe.batch_size=8"]
DEVKIT = "VOCdevkit/VOC2012"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "picto-voc"
    return prepare(folder, PictoSpec(train=16, val=6, test=8, side=64))


@pytest.fixture
def mlic(tmp_path, monkeypatch, call_mlic):
    """Calls `mlic` in an empty folder and returns click's result."""
    monkeypatch.chdir(tmp_path)
    return call_mlic


@pytest.fixture
def run(mlic, root):
    """`mlic run` of a one-second experiment with more settings."""
    def call(*sets, options=(), root=root):
        chosen = [f"data.root={root}", *TINY, *sets]
        return mlic("run", "--results", "results", *[x for text in chosen for x in ("--set", text)], *options)

    return call


def left(folder):
    return [path for path in folder.rglob("*") if path.is_file()]


def is_one_sentence(text):
    """The tool's name and one line, without a traceback."""
    return re.fullmatch(r"mlic: [^\n]+\n", text) and "Traceback" not in text


def test_help_is_there_for_every_command(mlic):
    for command in ([], ["run"], ["runs"], ["score"], ["submit"], ["reproduce"], ["report"], ["data"],
                    ["data", "prepare"], ["data", "check"], ["import"], ["import", "mcar"]):
        result = mlic(*command, "--help")
        assert result.exit_code == 0 and "Usage: " in result.stdout


def test_help_does_not_wait_for_torch():
    code = (
        "import sys\nfrom mlic_core.study.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit as end:\n    assert end.code == 0\n"
        "print([name for name in ('torch', 'numpy', 'pandas', 'matplotlib') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "[]"


def test_python_m_mlic_core_is_mlic(tmp_path):
    command = [sys.executable, "-m", "mlic_core", "reproduce", "--profile", "quik"]
    result = subprocess.run(command, capture_output=True, text=True, env=os.environ)
    assert result.returncode == 2
    assert is_one_sentence(result.stderr) and "did you mean 'quick'?" in result.stderr


def test_run_prints_name_numbers_and_folder(run, tmp_path):
    result = run()
    name = re.match(r"run ([0-9a-f]{12})\n", result.stdout)[1]
    stored = json.loads((tmp_path / f"results/own/runs/{name}/run.json").read_text())
    assert f"  mAP                  {stored['metrics']['mAP']:.1f}\n" in result.stdout
    assert result.stdout.endswith(f"in results/own/runs/{name}\n")


def test_the_same_run_twice_is_trained_once(run, tmp_path):
    first = run()
    before = {path: path.stat().st_mtime_ns for path in left(tmp_path)}
    assert run().stdout == first.stdout
    assert {path: path.stat().st_mtime_ns for path in left(tmp_path)} == before


def test_settings_come_from_the_profile_then_the_file_then_the_command_line(run, mlic, root, tmp_path):
    text = 'seed = 5\n[recipe]\nepochs = 3\nlr = 0.01\n[method]\nname = "mcar"\ntopN = 2\n'
    (tmp_path / "config.toml").write_text(text)
    result = run("method.topN=3", options=["config.toml"])
    assert result.exit_code == 0
    [record] = Store(tmp_path / "results/own/runs").records()
    chosen = {key: record.config[key] for key in ("seed", "recipe.lr", "recipe.epochs", "method.name", "method.topN")}
    assert chosen == {"seed": 5, "recipe.lr": 0.01, "recipe.epochs": 1, "method.name": "mcar", "method.topN": 3}


def test_a_profiles_run_lies_among_the_profiles_runs(run, tmp_path):
    sizes = ["data.picto.train=16", "data.picto.val=6", "data.picto.test=8", "data.picto.side=64"]
    result = run(*sizes, options=["--profile", "smoke"])
    assert result.exit_code == 0, result.stderr
    assert len(Store(tmp_path / "results/smoke/runs").records()) == 1


def test_eval_only_scores_a_stored_model_and_trains_none(run, tmp_path, monkeypatch):
    assert is_one_sentence(run(options=["--eval-only"]).stderr)
    trained = run()
    before = {path: path.stat().st_mtime_ns for path in left(tmp_path)}
    monkeypatch.setattr("mlic_core.study.store.fit", lambda *_, **__: pytest.fail("trained"))
    scored = run(options=["--eval-only"])
    assert (scored.stdout, scored.exit_code, scored.stderr) == (trained.stdout, 0, "")
    assert {path: path.stat().st_mtime_ns for path in left(tmp_path)} == before


def test_runs_lists_and_shows(run, mlic, monkeypatch):
    run()
    run("method=mcar", "method.topN=1", "seed=3")
    listed = mlic("runs", "--results", "results").stdout.splitlines()
    assert [line.split()[1:6] for line in listed[1:]] == [
        ["own", "classifier", "pictonet-s", "picto-voc", "0"], ["own", "mcar", "pictonet-s", "picto-voc", "3"]]
    assert mlic("runs", "--results", "results", "list").stdout.splitlines() == listed
    name = listed[2].split()[0]
    shown = mlic("runs", "--results", "results", "show", name[:6]).stdout
    assert re.search(r"^method.topN +1$", shown, re.MULTILINE) and "AP aeroplane" in shown and f"run {name}" in shown
    assert len(mlic("runs", "--results", "results", "--stale").stdout.splitlines()) == 1
    monkeypatch.setattr(provenance, "code_digest", lambda method, data: "other")
    stale = mlic("runs", "--results", "results", "--stale").stdout.splitlines()
    assert len(stale) == 3 and all(line.endswith("stale") for line in stale[1:])


@pytest.fixture
def stored(run, tmp_path, monkeypatch):
    """The record of a small MCAR run. From now on nothing can be trained or predicted."""
    run("method=mcar", "method.topN=2")
    [record] = Store(tmp_path / "results/own/runs").records()
    for name in ("fit", "predict", "new_model"):
        monkeypatch.setattr(f"mlic_core.study.store.{name}", lambda *_, **__: pytest.fail("needs the model"))
    return record


def edit(path, do):
    content = json.loads(path.read_text())
    do(content)
    content.pop("sha256", None)
    path.write_text(json.dumps(content))


def test_score_prints_what_the_scores_give_and_leaves_the_record(mlic, stored):
    shown = mlic("runs", "--results", "results", "show", stored.name).stdout
    result = mlic("score", stored.name[:6], "--results", "results")
    assert (result.exit_code, result.stderr) == (0, "")
    assert shown.endswith(result.stdout) and result.stdout.startswith(f"run {stored.name}\n")
    path = stored.folder / "run.json"
    edit(path, lambda content: content["metrics"].update(mAP=0.0))
    before = path.read_bytes()
    again = mlic("score", stored.name[:6], "--results", "results")
    assert (again.exit_code, again.stdout) == (0, result.stdout) and "differ from the stored ones" in again.stderr
    assert path.read_bytes() == before


def test_score_finds_a_run_by_its_folder_and_in_one_profile(mlic, stored, tmp_path):
    expected = mlic("score", stored.name, "--results", "results", "--profile", "own").stdout
    assert mlic("score", f"results/own/runs/{stored.name}/").stdout == expected
    elsewhere = mlic("score", stored.name, "--results", "results", "--profile", "study")
    assert elsewhere.exit_code == 2 and is_one_sentence(elsewhere.stderr)


def test_score_without_scores_is_wrong_input(mlic, stored):
    (stored.folder / "scores.npz").unlink()
    for options in ([], ["--protocols"]):
        result = mlic("score", stored.name, "--results", "results", *options)
        assert (result.exit_code, result.stdout) == (2, "")
        assert is_one_sentence(result.stderr) and "scores.npz is missing" in result.stderr


def forget_sizes(record):
    arrays = record.scores()
    del arrays["largest"]
    np.savez_compressed(record.folder / "scores.npz", **arrays)
    edit(record.folder / "run.json", lambda content: content.pop("files"))


def test_score_of_an_early_run_draws_its_picto_voc_for_the_object_sizes(mlic, stored, tmp_path, monkeypatch):
    (tmp_path / "home/data").mkdir(parents=True)
    (tmp_path / "home/data/published_results.csv").write_text("")
    monkeypatch.setenv("MLIC_HOME", str(tmp_path / "home"))
    experiments._open.cache_clear()  # another test may have opened that data set
    expected = mlic("score", stored.name, "--results", "results")
    assert "mAP small objects" in expected.stdout
    assert not (tmp_path / "home/data/cache").exists()
    forget_sizes(stored)
    again = mlic("score", stored.name, "--results", "results")
    assert (again.stdout, again.stderr) == (expected.stdout, "")
    assert len(list((tmp_path / "home/data/cache").glob("picto-voc-*/VOCdevkit"))) == 1


def test_score_of_an_early_run_elsewhere_leaves_the_object_sizes_out(voc, mlic, tmp_path):
    _, train = voc
    train()
    [record] = Store(tmp_path / "results/own/runs").records()
    forget_sizes(record)
    result = mlic("score", record.name, "--results", "results")
    assert result.exit_code == 0 and f"{record.metrics['mAP']:.1f}\n" in result.stdout
    assert "small objects" not in result.stdout and "without mAP by object size" in result.stderr


def test_score_protocols_shows_each_number_of_the_matrix(mlic, stored):
    result = mlic("score", stored.name, "--results", "results", "--protocols")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith(f"run {stored.name}: mcar, 8 images of picto-voc test\n")
    arrays = stored.scores()
    frame = protocol_matrix(arrays["logits"], arrays["targets"])
    printed = re.findall(r"(?<= )(\d+\.\d\d)(?= |$)", "\n".join(
        line for line in result.stdout.splitlines() if line.startswith("  ")), re.MULTILINE)
    assert sorted(printed) == sorted(f"{value:.2f}" for value in frame["value"]) and len(printed) > 3
    [raw] = [line for line in result.stdout.splitlines() if line.startswith("  raw:")]
    assert f" {stored.metrics['mAP']:.2f}" in raw
    [rule] = [line for line in result.stdout.splitlines() if line.startswith("  p > 0.5: harmonic")]
    assert f" {stored.metrics['C-F1']:.2f}" in rule


def test_submit_writes_the_archive_and_says_what_the_server_wants(mlic, stored, tmp_path):
    result = mlic("submit", stored.name[:6], "--results", "results")
    assert (result.exit_code, result.stderr) == (0, "")
    path, *advice = result.stdout.splitlines()
    assert path == f"results/own/submissions/{stored.name}_comp1.tar.gz"
    assert "wants VOC2012's image set test" in advice[0] and "scored on picto-voc test" in advice[0]
    with tarfile.open(path) as archive:
        assert len(archive.getnames()) == 20 and archive.getnames()[0].endswith("Main/comp1_cls_test_aeroplane.txt")
    assert len(Store(tmp_path / "results/own/runs").records()) == 1
    result = mlic("submit", f"results/own/runs/{stored.name}", "--out", "my.tar.gz", "--competition", "comp2")
    assert result.stdout.startswith("my.tar.gz\n")
    with tarfile.open("my.tar.gz") as archive:
        assert all("/comp2_cls_test_" in name for name in archive.getnames())


@pytest.mark.parametrize(("arguments", "message"), [
    (["abcdefabcdef"], "no stored runs have a name that begins with 'abcdefabcdef'"),
    (["nowhere/else"], "nowhere/else holds no finished run"),
    (["NAME", "--out", "x.zip"], "x.zip: the server takes a compressed tar file"),
    (["NAME", "--out", "results/own/runs/NAME/run.json/x.tar.gz"], "cannot write"),
])
def test_submit_names_wrong_input_and_writes_nothing(mlic, stored, tmp_path, arguments, message):
    before = sorted(left(tmp_path))
    result = mlic("submit", *(word.replace("NAME", stored.name) for word in arguments), "--results", "results")
    assert (result.exit_code, result.stdout) == (2, "")
    assert is_one_sentence(result.stderr) and message in result.stderr
    assert sorted(left(tmp_path)) == before


def test_an_unknown_competition_is_wrong_input(mlic):
    assert mlic("submit", "abc", "--competition", "comp3").exit_code == 2


def test_a_run_scored_by_other_code_is_listed_as_outdated_until_asked_for(run, mlic, tmp_path):
    first = run()
    [record] = Store(tmp_path / "results/own/runs").records()
    edit(record.folder / "run.json", lambda content: content.update(scoring="other"))
    assert mlic("runs", "--results", "results").stdout.splitlines()[1].endswith("  outdated")
    assert len(mlic("runs", "--results", "results", "--stale").stdout.splitlines()) == 1
    assert run().stdout == first.stdout
    assert "outdated" not in mlic("runs", "--results", "results").stdout


def test_the_age_of_a_run_is_its_trainings(run, mlic, tmp_path):
    run()
    [record] = Store(tmp_path / "results/own/runs").records()
    for path in record.folder.iterdir():
        os.utime(path, (path.stat().st_mtime - 5 * 3600,) * 2)
    edit(record.folder / "run.json", lambda content: content.update(scoring="other"))
    run()  # writes run.json anew
    assert "  5 h" in mlic("runs", "--results", "results").stdout


def test_runs_of_nothing_is_an_empty_list(mlic):
    result = mlic("runs", "--results", "nowhere")
    assert (result.exit_code, len(result.stdout.splitlines())) == (0, 1)
    assert is_one_sentence(mlic("runs", "--results", "nowhere", "show", "abc").stderr)


def test_data_prepare_draws_once(mlic, tmp_path):
    sizes = ["--train", 5, "--val", 2, "--test", 2, "--set", "side=64"]
    command = ["data", "prepare", "picto-voc", "--root", "drawn", *sizes]
    result = mlic(*command)
    assert result.stdout == "picto-voc: 5 train, 2 val, 2 test scenes in drawn\n"
    before = {path: path.stat().st_mtime_ns for path in left(tmp_path)}
    assert len([path for path in before if path.suffix == ".jpg"]) == 9
    assert mlic(*command).exit_code == 0
    assert {path: path.stat().st_mtime_ns for path in left(tmp_path)} == before


def test_data_prepare_and_check_of_picto_coco(mlic):
    sizes = ["--train", 4, "--val", 2, "--test", 3, "--set", "side=64"]
    result = mlic("data", "prepare", "picto-coco", "--root", "drawn", *sizes)
    assert result.stdout == "picto-coco: 4 train, 2 val, 3 test scenes in drawn\n"
    lines = mlic("data", "check", "picto-coco", "--root", "drawn").stdout.splitlines()[::2]
    assert [line.split(",")[0] for line in lines] == ["train: 4 images", "val: 2 images", "test: 3 images"]


def test_data_check_counts_what_is_there(mlic, root):
    lines = mlic("data", "check", "picto-voc", "--root", root).stdout.splitlines()[::2]
    assert [line.split(",")[0] for line in lines] == ["train: 16 images", "val: 6 images", "test: 8 images"]
    assert all(re.search(r"[1-9]\d* boxes, \d+ of them difficult$", line) for line in lines)


@pytest.mark.parametrize(("sets", "message"), [
    (["recipe.epoch=3"], "unknown setting 'recipe.epoch'; did you mean 'recipe.epochs'?"),
    (["recipe.epochs=three"], "recipe.epochs=three: expected an integer"),
    (["recipe.epochs"], "--set recipe.epochs: write it as KEY=VALUE"),
    (["method=mcra"], "method.name=mcra: no such method; did you mean 'mcar'?"),
    (["method=mcar", "method.topN=21"], "topN=21: choose 0 to 20"),
    (["trunk.weights=nowhere.safetensors"], "trunk.weights=nowhere.safetensors: no file"),
    (["data.train=trian"], "has no split 'trian'"),
])
def test_a_wrong_setting_is_one_sentence_and_leaves_nothing(run, tmp_path, sets, message):
    result = run(*sets)
    assert result.exit_code == 2 and result.stdout == ""
    assert is_one_sentence(result.stderr) and message in result.stderr
    assert left(tmp_path) == []


def test_wrong_settings_in_a_file_are_named(run, tmp_path):
    (tmp_path / "config.toml").write_text("[recipe]\nepoch = 3\n")
    assert "did you mean 'recipe.epochs'?" in run(options=["config.toml"]).stderr
    (tmp_path / "config.toml").write_text("epochs = = 3\n")
    result = run(options=["config.toml"])
    assert result.exit_code == 2 and is_one_sentence(result.stderr) and "config.toml is not TOML" in result.stderr
    assert "cannot read other.toml" in run(options=["other.toml"]).stderr


def as_voc2012(root, folder):
    """A devkit of its own that the tests may break."""
    shutil.copytree(root / "VOCdevkit", folder / "VOCdevkit")
    return folder / DEVKIT


@pytest.fixture
def voc(run, root, tmp_path):
    """The devkit and the call that trains on it; results go to the folder "results"."""
    devkit = as_voc2012(root, tmp_path / "voc")
    return devkit, lambda: run("data=voc2012", root=tmp_path / "voc")


def test_a_devkit_of_real_data_is_trained_on(voc, tmp_path):
    devkit, train = voc
    shutil.rmtree(devkit / "Annotations")  # boxes are optional
    result = train()
    assert result.exit_code == 0, result.stderr
    [record] = Store(tmp_path / "results/own/runs").records()
    assert record.config["data.eval"] == "val" and record.scores()["logits"].shape == (6, 20)
    assert "mAP small objects" not in record.metrics


def test_a_missing_devkit(run, tmp_path):
    result = run("data=voc2012", root=tmp_path / "voc")
    assert result.exit_code == 2 and is_one_sentence(result.stderr)
    assert "voc2012 is not in" in result.stderr and left(tmp_path) == []


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_truncated_image(voc, mlic, tmp_path, split):
    devkit, train = voc
    image = devkit / f"JPEGImages/{split}_000002.jpg"
    image.write_bytes(image.read_bytes()[:-200])
    result = train()
    assert result.exit_code == 2 and is_one_sentence(result.stderr) and f"{split}_000002.jpg" in result.stderr
    assert left(tmp_path / "results") == []
    assert len(mlic("runs", "--results", "results").stdout.splitlines()) == 1


def test_a_label_file_that_names_an_absent_image(voc, tmp_path):
    devkit, train = voc
    sets = devkit / "ImageSets/Main"
    for path in [sets / "train.txt", *(sets / f"{name}_train.txt" for name in LABELS)]:
        path.write_text(path.read_text() + ("2008_000001  1\n" if "_" in path.stem else "2008_000001\n"))
    result = train()
    assert result.exit_code == 2 and is_one_sentence(result.stderr) and "2008_000001" in result.stderr
    assert left(tmp_path / "results") == []


def test_a_label_file_that_names_an_image_of_another_split(voc, tmp_path):
    devkit, train = voc
    path = devkit / "ImageSets/Main/cat_train.txt"
    path.write_text(path.read_text().replace("train_000003", "train_900003"))
    result = train()
    assert result.exit_code == 2 and is_one_sentence(result.stderr)
    assert "cat_train.txt, line 4: image train_900003" in result.stderr
    assert left(tmp_path / "results") == []


def test_a_failed_attempt_does_not_stand_in_the_way_of_the_next(voc, tmp_path):
    devkit, train = voc
    image = devkit / "JPEGImages/train_000002.jpg"
    whole = image.read_bytes()
    image.write_bytes(whole[:-200])
    assert train().exit_code == 2
    image.write_bytes(whole)
    assert train().exit_code == 0
    files = {path.name for path in left(tmp_path / "results")}
    assert files == {"run.json", "history.jsonl", "scores.npz", "model.safetensors"}


@pytest.mark.parametrize(("arguments", "message"), [
    (["reproduce", "--profile", "quik"], "no profile is named 'quik'"),
    (["reproduce", "--profile", "smoke", "--only", "00", "77"], "no notebook is called '77'"),
    (["reproduce", "--profile", "smoke", "-p", "epohcs", "3"], "-p epohcs: no notebook has this parameter"),
    (["run", "--profile", "quik"], "no profile is named 'quik'"),
    (["data", "prepare", "imagenet"], "there is nothing to prepare but picto-voc, picto-coco, voc2007"),
    (["data", "prepare", "picto-voc", "--set", "sizes=3"], "unknown setting 'data.picto.sizes'"),
    (["data", "prepare", "picto-voc", "--train", "0"], "need at least one scene"),
    (["data", "prepare", "picto-coco", "--set", "labels=3"], "unknown setting 'data.picto_coco.labels'"),
    (["data", "check", "coco2014"], "data.root: coco2014 needs the folder"),
    (["data", "check", "voc2012"], "data.root: voc2012 needs the folder"),
    (["data", "check", "coco"], "data.name=coco: no such data set"),
])
def test_other_wrong_input_is_one_sentence_too(mlic, tmp_path, arguments, message, monkeypatch):
    notebook = {"cells": [{"cell_type": "code", "source": 'profile = "smoke"\nroot = ""\nresults = ""', "outputs": [],
                           "metadata": {"tags": ["parameters"]}, "execution_count": None, "id": "a"}],
                "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    home = tmp_path / "home"
    for name in ("data", "notebooks"):
        (home / name).mkdir(parents=True)
    (home / "data/published_results.csv").write_text("")
    (home / "notebooks/00_data.ipynb").write_text(json.dumps(notebook))
    monkeypatch.setenv("MLIC_HOME", str(home))
    before = left(tmp_path)
    result = mlic(*arguments)
    assert result.exit_code == 2 and result.stdout == ""
    assert is_one_sentence(result.stderr) and message in result.stderr
    assert left(tmp_path) == before


def test_a_diverging_run_is_one_sentence_and_a_failure(run, tmp_path):
    result = run("recipe.lr=1e30", "recipe.head_lr=1e30", "recipe.clip=0")
    assert result.exit_code == 1 and is_one_sentence(result.stderr) and "lower recipe.lr" in result.stderr
    assert left(tmp_path) == []


def test_report_tells_whether_the_readme_is_up_to_date(mlic, run, root, tmp_path, monkeypatch):
    run()
    shutil.copytree(tmp_path / "results/own", tmp_path / "results/study")
    for path in tmp_path.glob("results/study/runs/*/run.json"):  # as settings that the table shows
        content = json.loads(path.read_text())
        del content["sha256"]
        content["config"] |= {"trunk.name": "pictonet-m", "data.size": 112}
        path.write_text(json.dumps(content))
    (tmp_path / "data").mkdir()
    (tmp_path / "data/published_results.csv").write_text("")
    (tmp_path / "README.md").write_text("<!-- results:begin -->\n<!-- results:end -->\n")
    monkeypatch.setenv("MLIC_HOME", str(tmp_path))
    assert mlic("report", "--readme", "--check").exit_code == 1
    assert mlic("report", "--readme").exit_code == 0
    assert "| baseline, GAP |" in (tmp_path / "README.md").read_text()
    assert mlic("report", "--readme", "--check").exit_code == 0


def test_real_images_of_any_mode_and_shape_are_read(voc):
    devkit, train = voc
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (90, 40), np.uint8)).save(devkit / "JPEGImages/train_000001.jpg")
    assert train().exit_code == 0
