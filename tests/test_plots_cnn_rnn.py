"""CNN-RNN's figures show the arrays they are given."""

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_hex

from mlic_core import plots_cnn_rnn
from mlic_core.labels import Branch

matplotlib.use("agg")

NAMES = ("dog", "cat")
IMAGE = np.zeros((20, 20, 3), np.uint8)
END = 2
STEPS = [
    [Branch((0,), 0.5, -0.7, "live"), Branch((1,), 0.3, -1.2, "dropped"), Branch((END,), 0.2, -1.6, "ended")],
    [Branch((0, 1), 0.1, -3.0, "dropped"), Branch((0, END), 0.9, -0.8, "ended")],
]


def texts(axis):
    return [text.get_text() for text in axis.texts]


def test_the_tree_has_a_node_for_every_branch_and_one_for_the_start():
    axis = plots_cnn_rnn.beam_tree(IMAGE, STEPS, NAMES).axes[1]
    assert sorted(texts(axis)) == sorted(
        ["START", "dog 0.50", "cat 0.30", "END 0.20, log P -1.60", "cat 0.10", "END 0.90, log P -0.80"]
    )


def test_the_best_path_alone_is_thick_and_what_was_given_up_is_dashed():
    axis = plots_cnn_rnn.beam_tree(IMAGE, STEPS, NAMES).axes[1]
    looks = [(line.get_linewidth() > 1, line.get_linestyle()) for line in axis.lines]
    assert looks == [(True, "-"), (False, "--"), (False, "-"), (False, "--"), (True, "-")]


def test_leaves_of_the_tree_lie_in_rows_of_their_own_and_parents_between_their_children():
    axis = plots_cnn_rnn.beam_tree(IMAGE, STEPS, NAMES).axes[1]
    height = {text.get_text().split(",")[0]: text.get_position()[1] for text in axis.texts}
    assert sorted(height[name] for name in ("END 0.90", "cat 0.10", "cat 0.30", "END 0.20")) == [0, 1, 2, 3]
    assert height["dog 0.50"] == (height["END 0.90"] + height["cat 0.10"]) / 2


def test_a_group_of_labels_looks_the_same_in_every_plane():
    planes = {"a": (np.eye(2), np.array([0.5, 0.25])), "b": (np.ones((1, 2)), np.array([1.0, 0.0]))}
    names, groups = {"a": ["dog", "car"], "b": ["bus"]}, {"a": ["animal", "vehicle"], "b": ["vehicle"]}
    first, second = plots_cnn_rnn.embedding_planes(planes, names, groups).axes
    looks = [
        {line.get_label(): (to_hex(line.get_color()), line.get_marker()) for line in axis.lines}
        for axis in (first, second)
    ]
    assert looks[0] == looks[1] and len(set(looks[0].values())) == 2
    assert looks[0]["animal"][0] == "#0072b2"  # of the style, not of matplotlib
    assert texts(first) == ["dog", "car"] and texts(second) == ["bus"]
    assert first.get_xlabel() == "50 % of the variance"
    assert second.lines[0].get_xdata().size == 0


def test_classes_stand_by_falling_recall_and_undefined_ones_last():
    recall = np.array([[10.0, np.nan, 90.0], [30.0, np.nan, 70.0]])
    axis = plots_cnn_rnn.class_precision_recall(np.zeros((2, 3)), recall, ["a", "b", "c"]).axes[0]
    assert [tick.get_text() for tick in axis.get_xticklabels()] == ["c", "a", "b"]
    drawn = axis.containers[1].lines[0].get_ydata()
    assert drawn == pytest.approx([80, 20, np.nan], nan_ok=True)


def test_recall_panels_show_the_mean_of_the_runs_over_the_counts():
    panels = {"picto": (["small", "large"], [3, 7], {"ours": [[0.2, 0.8], [0.4, 1.0]]})}
    front, behind = plots_cnn_rnn.recall_panels(panels, xlabel="size").axes
    assert front.lines[0].get_ydata() == pytest.approx([0.3, 0.9])
    assert [bar.get_height() for bar in behind.patches] == [3, 7]
    assert [tick.get_text() for tick in front.get_xticklabels()] == ["small", "large"]


def test_a_point_of_the_scatter_is_a_pair_of_labels():
    truth, given = np.array([[np.nan, 0.2], [0.5, np.nan]]), np.array([[np.nan, 0.1], [0.6, np.nan]])
    figure = plots_cnn_rnn.agreement_scatter(truth, {"ours": given}, ["r = 1"], xlabel="true", ylabel="given")
    (axis,) = figure.axes
    points = np.stack(axis.lines[1].get_data(), 1)
    assert points[~np.isnan(points).any(1)].tolist() == [[0.2, 0.1], [0.5, 0.6]]
    assert axis.get_title(loc="left") == "r = 1"


def test_captions_are_wrapped_below_their_images():
    captions = [{"true": "dog", "path": ", ".join(["potted plant"] * 5)}, {"true": "cat", "path": "cat"}]
    figure = plots_cnn_rnn.captioned_images([IMAGE, IMAGE], captions, columns=3)
    images, below = figure.axes[:3], figure.axes[3:]
    assert [len(axis.images) for axis in images] == [1, 1, 0]
    first, second = (texts(axis)[0].split("\n") for axis in below[:2])
    assert first[0] == "true: dog" and first[2].startswith("    ") and len(first) > 3
    assert second == ["true: cat", "path: cat"]
    assert not any(axis.axison for axis in figure.axes)
