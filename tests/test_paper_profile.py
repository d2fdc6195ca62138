"""The papers' schedules stand in a profile: as printed, estimated without data, and run through in miniature."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from mlic_core import costs
from mlic_core.data.voc import LABELS
from mlic_core.errors import InputError
from mlic_core.models import build_model, build_trunk
from mlic_core.study.estimate import LISTED, Work, estimate, extent, planned
from mlic_core.study.experiments import RUN, from_settings, open_splits, run_name
from mlic_core.study.notebook import Study
from mlic_core.study.profile import load_profile
from mlic_core.study.store import Store, new_model
from mlic_core.training import fit, predict

PAPER = load_profile("paper").experiments
COUNT = 4  # images in each split of the tiny data sets


def picture(path, shade):
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(shade).integers(256, size=(40, 60, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)


def voc(root, year, splits):
    folder = root / "VOCdevkit" / year
    (folder / "ImageSets/Main").mkdir(parents=True)
    for number, split in enumerate(splits):
        names = [f"{number}{image:05}" for image in range(COUNT)]
        for shade, name in enumerate(names):
            picture(folder / f"JPEGImages/{name}.jpg", shade)
        (folder / f"ImageSets/Main/{split}.txt").write_text("\n".join(names))
        for place, label in enumerate(LABELS):
            marks = [f"{name} {1 if place % COUNT == image else -1}" for image, name in enumerate(names)]
            (folder / f"ImageSets/Main/{label}_{split}.txt").write_text("\n".join(marks))


def coco(root):
    categories = [{"id": number + 1, "name": f"class {number}"} for number in range(80)]
    for start, split in ((0, "train"), (10, "val")):
        images, annotations = [], []
        for number in range(start, start + COUNT):
            images.append({"id": number, "file_name": f"{number}.jpg", "width": 60, "height": 40})
            annotations.append({"id": number, "image_id": number, "category_id": 1 + number % 80, "iscrowd": 0,
                                "bbox": [5, 5, 20, 20]})  # fmt: skip
            picture(root / f"{split}2014/{number}.jpg", number - start)
        (root / "annotations").mkdir(exist_ok=True)
        content = {"images": images, "annotations": annotations, "categories": categories}
        (root / f"annotations/instances_{split}2014.json").write_text(json.dumps(content))


def nuswide(root):
    """Six concepts, and forty tags in place of a thousand, as many as the longest path has."""
    concepts, tags = [f"concept{i}" for i in range(6)], [f"tag{i}" for i in range(40)]
    names = {"Train": [f"a\\{i}.jpg" for i in range(COUNT)], "Test": [f"b\\{i}.jpg" for i in range(COUNT)]}
    listed = [name for part in names.values() for name in part]
    texts = {"ImageList/Imagelist.txt": listed, "ConceptsList/Concepts81.txt": concepts,
             "NUS_WID_Tags/TagList1k.txt": tags,
             "NUS_WID_Tags/AllTags1k.txt": ["\t".join("1" if tag % 3 == i % 3 else "0" for tag in range(40)) + "\t"
                                            for i in range(len(listed))]}  # fmt: skip
    texts |= {f"ImageList/{split}Imagelist.txt": part for split, part in names.items()}
    for i, concept in enumerate(concepts):
        texts[f"Groundtruth/AllLabels/Labels_{concept}.txt"] = ["1" if (i + n) % 2 else "0" for n in range(len(listed))]
    for path, lines in texts.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text("".join(f"{line}\n" for line in lines))
    for shade, name in enumerate(listed):
        picture(root / "Flickr" / name.replace("\\", "/"), shade % 4)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """VOC 2007 and 2012, COCO 2014 and NUS-WIDE in one folder, as they are published but for their numbers."""
    root = tmp_path_factory.mktemp("data")
    voc(root, "VOC2007", ("trainval", "test"))
    voc(root, "VOC2012", ("train", "val"))
    coco(root)
    nuswide(root)
    return root


@pytest.fixture(scope="module")
def study(root):
    """The profile with two steps an experiment, on images of 64 pixels, or of 32 where there is no BatchNorm."""
    study = Study("paper", root=str(root))
    tiny, listed = {"recipe.epochs": 1, "recipe.batch_size": COUNT // 2}, {}
    for name, chosen in PAPER.items():
        listed[name] = {**chosen, **tiny, "data.size": 32 if planned(study, name).trunk.name == "vgg16" else 64}
    study.profile = dataclasses.replace(study.profile, experiments=listed)
    return study


@pytest.mark.parametrize("name", PAPER)
def test_two_steps_of_every_experiment_run_on_an_untrained_trunk(study, name, tmp_path, monkeypatch):
    monkeypatch.setattr("mlic_core.features.cache_folder", lambda: tmp_path)
    experiment, steps = planned(study, name), []
    for kind in (torch.optim.SGD, torch.optim.Adam, torch.optim.RMSprop):
        monkeypatch.setattr(kind, "step", counted(kind.step, steps))
    splits = open_splits(experiment.data)
    assert set(splits) == {"train", "eval"}  # none is scored during training
    model = new_model(experiment, len(splits["train"].labels))
    (epoch,) = fit(model, splits["train"], experiment.recipe, seed=0)
    assert len(steps) == 2 and np.isfinite(epoch["loss"])
    assert np.isfinite(predict(model, splits["eval"]).logits).all()


def counted(step, steps):
    def inner(self, *args, **kwargs):
        steps.append(1)
        return step(self, *args, **kwargs)

    return inner


@pytest.mark.parametrize("name", [name for name, chosen in PAPER.items() if "trunk.of" in chosen])
def test_rdar_s_trunk_comes_from_step_one_on_the_same_data(study, name):
    below, experiment = study.lineage(name, seed=2)
    assert experiment.trunk.weights == RUN + run_name(below) and experiment.trunk.name == below.trunk.name == "vgg16"
    assert (below.method.name, below.seed, experiment.seed) == ("classifier", 2, 2)
    assert (below.data.name, below.data.train) == (experiment.data.name, experiment.data.train)


# What the papers print


@pytest.mark.parametrize("name", PAPER)
def test_nothing_is_chosen_and_no_image_is_both_learned_and_scored(name):
    experiment = planned(Study("paper"), name)
    assert experiment.data.monitor == "" and experiment.data.train != experiment.data.eval_split
    assert experiment.data.train == ("trainval" if experiment.data.name == "voc2007" else "train")
    assert experiment.data.eval_split == ("val" if experiment.data.name in ("voc2012", "coco2014") else "test")
    assert not experiment.recipe.bf16 and experiment.recipe.flip


def test_mcar_is_trained_as_its_section_on_implementation_says():
    """§IV-A.1: momentum .9, decay 1e-4, rates .001 and .01, a tenth of them from epoch 30 and 50 of 60."""
    recipe = planned(Study("paper"), "mcar-coco2014").recipe
    assert (recipe.optimizer, recipe.momentum, recipe.weight_decay) == ("sgd", 0.9, 1e-4)
    assert (recipe.lr, recipe.head_lr, recipe.epochs) == (0.001, 0.01, 60)
    factors = {epoch: recipe.lr_factor(7 * epoch, 7) for epoch in (0, 29, 30, 49, 50, 59)}
    assert factors == pytest.approx({0: 1, 29: 1, 30: 0.1, 49: 0.1, 50: 0.01, 59: 0.01})
    options = planned(Study("paper"), "mcar-coco2014").method.options
    assert (options["topN"], options["tau"], options["pooling"]) == (4, 0.5, "gwp")
    assert planned(Study("paper"), "mcar-voc2007").method.options["pooling"] == "gap"


def test_rdar_is_trained_as_its_section_on_settings_says():
    """§5.1: Adam, batches of 16, 1e-5 and a tenth after 30 of 45 epochs, crops of N - 64 for N = 512 and 640."""
    for size in (512, 640):
        experiment = planned(Study("paper"), f"rdar-voc2007-{size}")
        recipe = experiment.recipe
        assert (recipe.optimizer, recipe.batch_size, recipe.lr, recipe.epochs) == ("adam", 16, 1e-5, 45)
        assert recipe.lr_factor(29, 1) == 1 and recipe.lr_factor(30, 1) == pytest.approx(0.1)
        assert experiment.method.options["crop"] * size == size - 64 == experiment.data.size - 64
        assert experiment.trunk.name == "vgg16" and experiment.method.options["fine_tune"]


def test_cnn_rnn_and_global_local_attention_have_their_printed_numbers():
    recipe, options = (getattr(planned(Study("paper"), "cnn_rnn-nuswide81"), key) for key in ("recipe", "method"))
    assert (recipe.optimizer, recipe.momentum, recipe.weight_decay) == ("rmsprop", 0.9, 1e-4)
    options = options.options
    assert (options["embedding"], options["hidden"], options["dropout"], options["order"]) == (
        64,
        512,
        0.5,
        "frequency",
    )
    assert options["min_length"] == 3  # k of Table 1
    assert planned(Study("paper"), "cnn_rnn-nuswide1000").method.options["min_length"] == 10
    options = planned(Study("paper"), "gla-voc2007").method.options
    assert (options["lambda_horizontal"], options["lambda_vertical"]) == (0.05, 0.05)


# What it will take


def test_work_of_a_linear_layer_is_counted_by_hand():
    """Forward 2 B I O operations, backward as many for the weights; the images need no gradient."""
    layer, images = nn.Linear(10, 3), torch.zeros(4, 10)
    with Work() as work:
        layer(images).sum().backward()
    assert work.total == 2 * (2 * 4 * 10 * 3)


def test_the_estimate_of_a_classifier_is_that_of_a_real_step():
    """Weights, momentum, images and the live tensors of a step; work is that of all steps."""
    experiment = from_settings({"data.size": 32, "recipe.batch_size": 4, "recipe.epochs": 3})
    found = estimate(experiment, 100, 20)
    model = build_model("classifier", 20, build_trunk("pictonet-m")).train()
    images, targets = torch.randn(4, 3, 32, 32), torch.zeros(4, 20, dtype=torch.int8)
    with Work() as work:
        peak = costs.peak_bytes(lambda: sum(model.loss(model(images, targets), targets).values()).backward())
    weights = 4 * sum(one.numel() for one in model.parameters())
    assert found.work == pytest.approx(work.total / 4 * 100 * 3)
    assert found.memory == pytest.approx(2 * weights + 4 * images.numel() + peak, rel=0.01)
    assert (found.images, found.cache) == (100, 0)


def test_gradients_in_two_parts_take_the_memory_of_half_the_batch_for_the_same_work():
    whole, parts, half = (
        estimate(from_settings({"data.size": 32, "recipe.batch_size": batch, "recipe.accumulate": n}), 64, 20)
        for batch, n in ((8, 1), (8, 2), (4, 1))
    )
    assert parts.memory == half.memory < whole.memory
    assert parts.work == pytest.approx(whole.work)


def test_a_frozen_trunk_works_once_for_each_view_and_its_features_lie_on_disk():
    settings = {"method": "linear", "data.size": 32, "recipe.batch_size": 8}
    one = estimate(from_settings({**settings, "recipe.epochs": 1, "recipe.flip": False}), 80, 20)
    two = estimate(from_settings({**settings, "recipe.epochs": 1, "recipe.flip": True}), 80, 20)
    three = estimate(from_settings({**settings, "recipe.epochs": 2, "recipe.flip": True}), 80, 20)
    head = 80 * 2 * (2 * 160 * 20)  # an epoch of one linear layer, forward and for its weights
    assert three.work - two.work == pytest.approx(head)
    assert two.work - head == pytest.approx(2 * (one.work - head))
    assert (one.cache, two.cache) == (80 * 160 * 4, 2 * 80 * 160 * 4)


def test_counts_are_those_published_or_of_the_data_at_hand(root):
    study = Study("paper")
    assert extent(planned(study, "mcar-voc2007").data) == (5011, 20)
    assert extent(planned(study, "mcar-coco2014").data) == (82081, 80)
    assert extent(planned(study, "cnn_rnn-nuswide1000").data) == (LISTED, 1000)
    assert extent(planned(Study("paper", root=str(root)), "mcar-voc2007").data) == (COUNT, 20)
    with pytest.raises(InputError, match=r"data\.root: voc2012 needs the folder"):
        extent(from_settings({"data.name": "voc2012", "data.train": "mine"}).data)


def test_the_command_prints_a_row_for_each_experiment(call_mlic):
    names = ["cnn_rnn-voc2007", "gla-voc2007"]
    found = call_mlic("estimate", *names, "--tflops", "20")
    head, *rows = found.output.splitlines()
    assert [row.split()[0] for row in rows] == names
    for row in rows:
        cells = dict(zip(head.replace("memory GB", "memory").replace("cache GB", "cache").split(), row.split()[1:],
                         strict=True))  # fmt: skip
        assert cells["images"] == "5011" and cells["px"] == "224"
        assert float(cells["hours"]) == pytest.approx(float(cells["PFLOP"]) / 20e-3 / 3600, abs=0.1)
    wrong = call_mlic("estimate", "mcar")
    assert wrong.exit_code == 2 and "profile paper lists no experiment 'mcar'" in wrong.output


# The commands


def test_a_named_experiment_is_trained_after_the_one_that_its_trunk_comes_from(call_mlic, root, tmp_path, monkeypatch):
    monkeypatch.setattr("mlic_core.features.cache_folder", lambda: tmp_path / "features")
    monkeypatch.setattr("mlic_core.study.notebook.load_profile", lambda name: tiny_profile())
    arguments = [
        "run",
        "--profile",
        "paper",
        "--experiment",
        "head",
        "--results",
        tmp_path,
        "--set",
        f"data.root={root}",
    ]
    done = call_mlic(*arguments, "--set", "seed=3", "--set", "method.hidden=8")
    assert done.exit_code == 0, done.output
    below, head = sorted(Store(tmp_path / "paper" / "runs").records(), key=lambda run: run.method)
    assert (below.method, head.method, head.config["trunk.weights"]) == ("classifier", "gla", RUN + below.name)
    assert (below.config["seed"], head.config["seed"], head.config["method.hidden"]) == (3, 3, 8)
    again = call_mlic(*arguments, "--set", "seed=3", "--set", "method.hidden=8", "--eval-only")
    assert again.exit_code == 0 and head.name in again.output and "differ" not in again.output


def tiny_profile():
    small = {"data.name": "voc2007", "data.train": "trainval", "data.size": 32, "recipe.epochs": 1}
    listed = {"below": {"method.name": "classifier", "trunk.name": "pictonet-s", "trunk.weights": "none", **small},
              "head": {"method.name": "gla", "trunk.of": "below", **small}}  # fmt: skip
    paper = load_profile("paper")
    return dataclasses.replace(paper, settings={"data.monitor": ""}, methods={}, experiments=listed)


def test_a_name_that_no_profile_lists_is_one_sentence(call_mlic):
    unknown = call_mlic("run", "--profile", "paper", "--experiment", "mcar-coco2041")
    assert unknown.exit_code == 2 and "did you mean 'mcar-coco2014'?" in unknown.output
    unnamed = call_mlic("run", "--profile", "smoke", "--experiment", "nothing-like-it")
    assert "it lists linear probe 112, baseline 112" in unnamed.output
    homeless = call_mlic("run", "--experiment", "mcar-coco2014")
    assert homeless.exit_code == 2 and "name the profile that lists it" in homeless.output


def test_no_notebook_is_for_the_papers_profile(call_mlic):
    refused = call_mlic("reproduce", "--profile", "paper")
    assert refused.exit_code == 2
    assert "`mlic run --profile paper --experiment NAME` trains one" in refused.output
