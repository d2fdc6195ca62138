"""The diagnosis, by hand: a trunk whose maps are the image itself, in cells of 4x4 pixels."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from mlic_core import diagnosis
from mlic_core.data.base import MultiLabelDataset
from mlic_core.errors import InputError
from mlic_core.models import build_model, build_trunk
from mlic_core.study.evaluate import SIZES

SIDE = 32



def coverage_of(model, dataset, taus, **options):
    return diagnosis.region_coverage(diagnosis.class_maps(model, dataset), dataset, taus, **options)


class Cells(nn.Module):
    """Maps: the three colours averaged over cells of 4x4 pixels."""

    out_channels, stride, mean, std = 3, 4, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)

    def forward(self, images):
        return nn.functional.avg_pool2d(images, 4)


class Blocks(MultiLabelDataset):
    """Blocks of pure colour: one list of (class, x0, y0, x1, y1) in pixels for each image."""

    def __init__(self, blocks, targets):
        super().__init__(
            name="blocks",
            split="val",
            labels=("red", "green", "blue"),
            targets=np.array(targets, np.int8),
            ids=[str(i) for i in range(len(blocks))],
            size=SIDE,
        )
        self.blocks = blocks

    has_boxes = True

    def read(self, index):
        image = torch.zeros(3, SIDE, SIDE, dtype=torch.uint8)
        for label, x0, y0, x1, y1 in self.blocks[index]:
            image[:, y0:y1, x0:x1] = 0
            image[label, y0:y1, x0:x1] = 255
        return image

    def boxes(self, index):
        rows = np.array(self.blocks[index], np.float32).reshape(-1, 5)
        return rows[:, 1:] / np.float32(SIDE), rows[:, 0].astype(np.int64)


@pytest.fixture
def model():
    """Class c answers to colour c: logit 8 x mean - 4."""
    model = build_model("classifier", 3, Cells())
    with torch.no_grad():
        model.head.linear.weight.copy_(8 * torch.eye(3))
        model.head.linear.bias.fill_(-4)
    return model


def scene():
    """A small red block, a large green one, and a blue one beside the red one that counts as difficult."""
    return Blocks([[(0, 0, 0, 4, 4), (1, 12, 16, 32, 32), (2, 0, 4, 16, 16)]], [[1, 1, -1]])


def test_objects_of_ignored_and_absent_labels_are_left_out():
    found = diagnosis.counted_objects(scene())
    assert (found.images.tolist(), found.classes.tolist()) == ([0, 0], [0, 1])
    assert found.small.tolist() == [True, False]  # sides 4/32 and sqrt(20 x 16)/32
    np.testing.assert_allclose(found.boxes * SIDE, [[0, 0, 4, 4], [12, 16, 32, 32]])


def test_an_ignored_class_takes_its_place_in_the_ranking(model):
    # Shares of the image: green 5/16, blue 3/16, red 1/64. Only red is small.
    one, two, three = diagnosis.recall_at(model, scene(), (1, 2, 3))
    assert one == {"n": 1, "all": 0.5, "small": 0.0}
    assert two == {"n": 2, "all": 0.5, "small": 0.0}
    assert three == {"n": 3, "all": 1.0, "small": 1.0}


def test_without_boxes_the_recall_of_small_objects_is_undefined(model):
    class Bare(Blocks):
        has_boxes = False

    [row] = diagnosis.recall_at(model, Bare([[(1, 0, 0, 32, 32)]], [[0, 1, 0]]), [1])
    assert row["all"] == 1.0 and math.isnan(row["small"])


def test_class_maps_are_the_sigmoid_of_each_cell(model):
    maps = diagnosis.class_maps(model, scene())
    assert maps.shape == (1, 3, 8, 8)
    high, low = 1 / (1 + math.exp(-4)), 1 / (1 + math.exp(4))
    expected = torch.full((8, 8), low)
    expected[4:, 3:] = high
    torch.testing.assert_close(maps[0, 1], expected)


def test_at_threshold_zero_every_region_is_the_image(model):
    [row] = coverage_of(model, scene(), [0.0])
    assert row == {"tau": 0.0, "all": 1.0, "small": 1.0, "area": 1.0}


@pytest.mark.parametrize(("least", "held"), [(0.78, 1.0), (0.79, 0.5)])
def test_coverage_near_the_peak_by_hand(model, least, held):
    # Cell j lies at pixel 31 j / 7. Green's cells 3 to 7 and 4 to 7 reach from pixel 14 and from pixel 18 to the
    # border: 18 x 14 of its 20 x 16 pixels, 0.7875. Red's one cell is widened to 4 x 4 pixels, all of it.
    [row] = coverage_of(model, scene(), [0.999], least=least)
    assert row == {"tau": 0.999, "all": held, "small": 1.0, "area": pytest.approx((4 * 4 + 18 * 14) / 2 / SIDE**2)}


def test_a_tight_crop_shows_the_object_and_a_wide_one_its_neighbour(model):
    # Padded three times, red's crop is the upper left 16 x 16 pixels, of which three quarters are blue.
    tight, wide = diagnosis.crop_accuracy(model, scene(), [0.0, 3.0])
    assert tight == {"padding": 0.0, "all": 1.0, "small": 1.0}
    assert wide == {"padding": 3.0, "all": 0.5, "small": 0.0}


def test_crops_come_from_their_own_image(model, monkeypatch):
    monkeypatch.setattr(diagnosis, "BATCH", 2)
    data = Blocks([[(label, 8, 8, 24, 24)] for label in (2, 0, 1, 1, 0)], np.eye(3, dtype=np.int8)[[2, 0, 1, 1, 0]])
    assert diagnosis.crop_accuracy(model, data, [0.0])[0]["all"] == 1.0


def test_true_regions_name_their_objects_and_the_largest_come_first(model, monkeypatch):
    monkeypatch.setattr(diagnosis, "BATCH", 2)
    small, middle, large = (1, 0, 0, 4, 4), (0, 20, 20, 28, 28), (2, 4, 4, 20, 20)
    data = Blocks([[small, middle, large], [], [middle]], [[1, 1, 1], [0, 0, 0], [1, 0, 0]])
    everything = diagnosis.true_region_scores(model, data, padding=0.0)
    assert everything.tolist() == [[4, 4, 4], [-math.inf] * 3, [4, -4, -4]]
    two = diagnosis.true_region_scores(model, data, most=2, padding=0.0)
    assert two[0].tolist() == [4, -4, 4]
    assert (diagnosis.true_region_scores(model, data, padding=0.5)[2] < [4, -3.9, -3.9]).all()


def test_an_object_of_one_pixel_in_the_corner_is_still_a_crop(model):
    data = Blocks([[(2, 0, 0, 28, 32), (1, 31, 31, 32, 32)]], [[0, 1, 0]])
    assert diagnosis.crop_accuracy(model, data, [0.0])[0] == {"padding": 0.0, "all": 1.0, "small": 1.0}


def test_shares_without_objects_are_undefined_not_an_error(model):
    only_large = Blocks([[(1, 0, 0, 32, 32)]], [[0, 1, 0]])
    assert math.isnan(coverage_of(model, only_large, [0.5])[0]["small"])
    nothing = Blocks([[]], [[0, 0, 0]])
    assert math.isnan(diagnosis.crop_accuracy(model, nothing, [0.0])[0]["all"])
    assert math.isnan(coverage_of(model, nothing, [0.5])[0]["all"])


def test_a_source_without_boxes_is_refused(model):
    class Bare(Blocks):
        boxes = MultiLabelDataset.boxes

    with pytest.raises(InputError, match="no boxes"):
        coverage_of(model, Bare([[]], [[0, 0, 0]]), [0.5])


@pytest.mark.parametrize(
    ("name", "field"),
    [("pictonet-s", 153), ("pictonet-m", 217), ("vgg16", 196), ("resnet50", 483 - 56), ("resnet101", 1027 - 56)],
)
def test_receptive_fields_are_those_of_the_literature(name, field):
    """VGG-16 and the ResNets as in Araujo et al., Distill 2019; PictoNet counted by hand.

    Their ResNets halve in a block's first convolution, torchvision's in the second: 2 x (4 + 8 + 16) pixels less.
    """
    with torch.device("meta"):
        assert diagnosis.receptive_field(build_trunk(name)) == field


def test_a_map_cell_depends_on_its_receptive_field_alone():
    trunk = build_trunk("pictonet-s").double().eval()
    for parameter in trunk.parameters():
        parameter.data.abs_()  # without signs nothing cancels, and no ReLU closes
    image = torch.rand(1, 3, 320, 320, dtype=torch.float64, requires_grad=True)
    trunk(image)[0, :, 10, 10].sum().backward()
    rows = (image.grad.abs().sum((0, 1, 3)) > 0).nonzero()
    assert (rows.max() - rows.min() + 1).item() == diagnosis.receptive_field(trunk) == 153


def test_small_means_the_same_here_and_in_the_scores_of_a_run():
    assert diagnosis.SMALL == SIZES["small"][1] == SIZES["medium"][0]
