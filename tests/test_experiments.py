"""Settings are strict, and an experiment's name changes with all that matters and with nothing else."""

import json
from typing import Literal

import pytest

from mlic_core.data import picto_coco
from mlic_core.data.picto import PictoSpec, prepare
from mlic_core.data.picto_coco import PictoCocoSpec
from mlic_core.errors import InputError
from mlic_core.study import experiments
from mlic_core.study.experiments import Experiment, config, from_settings, open_splits, run_name, settings
from mlic_core.study.values import convert

SIZES = {"data.picto.train": 6, "data.picto.val": 3, "data.picto.test": 3, "data.picto.side": 64}
NO_WEIGHTS = {"trunk.weights": "none"}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "picto-voc"
    prepare(folder, PictoSpec(train=6, val=3, test=3, side=64))
    return str(folder)


@pytest.fixture
def name(root):
    """The run name of an experiment on the small data set, changed by settings."""
    return lambda **changed: run_name(from_settings({"data.root": root, **NO_WEIGHTS, **changed}))


@pytest.mark.parametrize(("text", "kind", "value"), [
    ("3", int, 3), ("1e-4", float, 1e-4), ("1", float, 1.0), ("true", bool, True), ("False", bool, False),
    ("[30, 50]", tuple[int, ...], (30, 50)), ("30, 50", tuple[int, ...], (30, 50)), ("[]", tuple[int, ...], ()),
    ("1e-4", str, "1e-4"), ("mcar", str, "mcar"), ("none", int | None, None), ("4", int | None, 4),
    ("none", str, "none"), ("gmp", Literal["gap", "gmp"], "gmp"), ("2", Literal[1, 2], 2),
    ([0.5, 0.5], tuple[float, ...], (0.5, 0.5)), (7, float, 7.0), ("[1, 2]", tuple[float, float], (1.0, 2.0)),
])
def test_a_value_is_read_as_its_type(text, kind, value):
    found = convert("key", text, kind)
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(("text", "kind", "wanted"), [
    ("3.5", int, "an integer"), ("three", int, "an integer"), ("true", int, "an integer"), (True, int, "an integer"),
    ("", int, "an integer"), ("1", bool, "true or false"), ("fast", float, "a number"), ("nan", float, "a number"),
    (float("inf"), float, "a number"), ("[1, 2.5]", tuple[int, ...], "a list of integers"),
    ("5", tuple[int, ...], "a list of integers"), ("[1]", tuple[float, float], "a list of 2 numbers"),
    ("max", Literal["gap", "gmp"], "one of 'gap', 'gmp'"), ("x", int | None, "an integer or none"), (3, str, "text"),
    ("__import__('os')", int, "an integer"),
])
def test_a_value_of_another_type_is_refused_in_words(text, kind, wanted):
    with pytest.raises(InputError) as error:
        convert("recipe.key", text, kind)
    assert str(error.value) == f"recipe.key={text}: expected {wanted}"


@pytest.mark.parametrize(("key", "message"), [
    ("recipe.epoch", "unknown setting 'recipe.epoch'; did you mean 'recipe.epochs'?"),
    ("epochs", "unknown setting 'epochs'; did you mean 'recipe.epochs'?"),
    ("recipe.seed", "unknown setting 'recipe.seed'; did you mean 'data.picto.seed'?"),
    ("method.poolign", "unknown setting 'method.poolign'; did you mean 'method.pooling'?"),
    ("method.topN", "unknown setting 'method.topN': it is an option of mcar; add method=mcar"),
    ("method.options", "unknown setting 'method.options'"),
    ("data.picto", "unknown setting 'data.picto'"),
])
def test_an_unknown_key_is_refused_with_the_nearest_one(key, message):
    with pytest.raises(InputError) as error:
        from_settings({key: "3"})
    assert str(error.value).startswith(message)


@pytest.mark.parametrize(("chosen", "message"), [
    ({"method": "mcra"}, "method.name=mcra: no such method; did you mean 'mcar'?"),
    ({"trunk": "picto-net"}, "trunk.name=picto-net: no such trunk; did you mean 'pictonet'?"),
    ({"data": "voc2011"}, "data.name=voc2011: no such data set; did you mean 'voc2012'?"),
    ({"data.size": "4"}, "data.size=4: an input needs at least 16 pixels a side"),
    ({"recipe.epochs": "0"}, "recipe.epochs=0: choose 1 or more"),
    ({"data.difficult_eval": "drop"}, "data.difficult_eval=drop: expected one of 'ignore', 'positive', 'negative'"),
])
def test_an_impossible_value_names_its_key(chosen, message):
    with pytest.raises(InputError) as error:
        from_settings(chosen)
    assert str(error.value) == message


def test_settings_from_text_and_from_toml_are_the_same_experiment():
    text = {"method": "mcar", "method.topN": "2", "recipe.milestones": "[3, 5]", "recipe.lr": "1e-3", "seed": "4"}
    typed = {"method.name": "mcar", "method.topN": 2, "recipe.milestones": [3, 5], "recipe.lr": 1e-3, "seed": 4}
    assert from_settings(text) == from_settings(typed)


def test_settings_list_every_choice_and_lead_back_to_the_experiment():
    experiment = from_settings({"method": "mcar", "method.tau": "0.3", "data.picto.noise": "2"})
    listed = settings(experiment)
    some = {"data.name": "picto-voc", "method.tau": 0.3, "method.topN": 4, "data.picto.noise": 2.0}
    assert some.items() <= listed.items()
    assert set(listed) == set(experiments.setting_types("mcar"))
    assert from_settings(json.loads(json.dumps(listed))) == experiment


def test_an_experiment_made_in_python_has_its_method_options_filled_in():
    assert Experiment() == from_settings({})
    assert Experiment().method.options["pooling"] == "gap"


@pytest.mark.parametrize(("dataset", "split"), [
    ("picto-voc", "test"), ("picto-coco", "test"), ("voc2007", "test"), ("voc2012", "val"), ("coco2014", "val"),
])
def test_each_data_set_is_scored_on_its_usual_split(dataset, split):
    assert config(from_settings({"data": dataset, **NO_WEIGHTS}))["data.eval"] == split


def test_a_name_is_twelve_hexadecimal_characters_and_stays(name):
    assert name() == name()
    assert len(name()) == 12 and int(name(), 16) >= 0


def test_a_name_changes_with_every_setting_that_matters(name):
    changes = [{}, {"seed": 1}, {"method": "mcar"}, {"method": "mcar", "method.topN": 2}, {"recipe.lr": 0.5},
               {"trunk": "pictonet-s"}, {"data.size": 64}, {"data.eval": "val"}, {"data.difficult_train": "positive"}]
    assert len({name(**change) for change in changes}) == len(changes)


def test_draft_mode_is_part_of_a_name_and_reaches_the_images(name, root):
    assert name(**{"data.draft": "false"}) == name() != name(**{"data.draft": "true"})
    for draft in (False, True):
        splits = open_splits(from_settings({"data.root": root, **NO_WEIGHTS, "data.draft": draft}).data)
        assert {split.draft for split in splits.values()} == {draft}


def test_a_name_does_not_change_with_a_default_written_out_or_an_alias(name):
    assert name(**{"recipe.lr": 0.02, "trunk": "pictonet", "data.eval": "test"}) == name()


def test_a_name_does_not_change_with_the_folder_of_the_data(name, tmp_path):
    other = tmp_path / "elsewhere"
    prepare(other, PictoSpec(train=6, val=3, test=3, side=64))
    assert run_name(from_settings({"data.root": str(other), **NO_WEIGHTS})) == name()


def test_a_name_does_not_change_when_a_method_learns_a_new_option(name, monkeypatch):
    before = name()
    known = experiments.method_options("classifier")
    monkeypatch.setattr(experiments, "method_options", lambda method: {**known, "new": 1})
    assert "method.new" in settings(Experiment())
    assert name() == before


def test_a_name_changes_with_the_labels(root, name, monkeypatch):
    before = name()
    sets = experiments.open_splits(from_settings({"data.root": root}).data)
    changed = sets["train"].subset([0, 1, 2])
    monkeypatch.setattr(experiments, "open_splits", lambda data: sets | {"train": changed})
    assert name() != before


def test_a_name_follows_the_content_of_a_weights_file_and_not_its_place(root, tmp_path):
    def weights(path, content):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        return run_name(from_settings({"data.root": root, "trunk.weights": str(path)}))

    first = weights(tmp_path / "a.safetensors", b"one")
    assert weights(tmp_path / "b" / "c.safetensors", b"one") == first
    assert weights(tmp_path / "a.safetensors", b"other") != first


def test_missing_weights_are_named_before_anything_else_happens(root):
    with pytest.raises(InputError, match=r"trunk.weights=nowhere: no file nowhere; give a safetensors file"):
        run_name(from_settings({"data.root": root, "trunk.weights": "nowhere"}))


def test_a_config_names_no_folder(root, tmp_path):
    path = tmp_path / "weights.safetensors"
    path.write_bytes(b"weights")
    text = json.dumps(config(from_settings({"data.root": root, "trunk.weights": str(path)})))
    assert str(tmp_path) not in text and root not in text


def test_a_prepared_folder_tells_what_was_drawn(root):
    assert from_settings({"data.root": root}).data.picto == PictoSpec(train=6, val=3, test=3, side=64)


def test_a_prepared_picto_coco_tells_what_was_drawn_too(root, tmp_path):
    spec = PictoCocoSpec(train=3, val=2, test=2, side=64)
    picto_coco.prepare(tmp_path / "set", spec)
    data = from_settings({"data": "picto-coco", "data.root": str(tmp_path / "set")}).data
    assert data.spec == data.picto_coco == spec and data.picto == PictoSpec()
    with pytest.raises(InputError, match="already holds something else than this picto-coco"):
        experiments.open_splits(from_settings({"data": "picto-coco", "data.root": root}).data)


def test_a_prepared_folder_of_other_scenes_is_refused(root):
    with pytest.raises(InputError, match="already holds something else"):
        run_name(from_settings({"data.root": root, "data.picto.train": "5", **NO_WEIGHTS}))


def test_real_data_needs_a_folder():
    with pytest.raises(InputError, match=r"data.root: voc2012 needs the folder .* data.root=FOLDER"):
        run_name(from_settings({"data": "voc2012", **NO_WEIGHTS}))


@pytest.mark.parametrize(("dataset", "drawn"), [("picto-voc", "picto"), ("picto-coco", "picto_coco"), ("voc2012", "")])
def test_what_is_drawn_for_another_set_has_no_say_and_no_place_in_the_record(dataset, drawn):
    chosen = {"data": dataset, "data.root": "x", **NO_WEIGHTS}
    changes = [{}, {"data.picto.train": "5"}, {"data.picto_coco.train": "5"}]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(experiments, "open_splits", lambda data: {})
        names = [run_name(from_settings(chosen | change)) for change in changes]
    assert [name != names[0] for name in names] == [False, drawn == "picto", drawn == "picto_coco"]
    kept = [key.split(".")[1] for key in config(from_settings(chosen)) if key.startswith("data.picto")]
    assert set(kept) == ({drawn} if drawn else set())
