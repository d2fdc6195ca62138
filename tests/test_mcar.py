"""MCAR's localisation, crops and streams, against hand-made profiles and plain loops."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mlic_core.errors import InputError
from mlic_core.models import build_model, localization
from mlic_core.training import Recipe


def intervals(values, tau):
    """Eq. 7 by a plain loop: the run of values >= tau that holds the maximum, widest, then leftmost."""
    runs, start = [], None
    for i, value in enumerate([*values, -1]):
        if value >= tau and start is None:
            start = i
        elif value < tau and start is not None:
            runs.append((start, i))
            start = None
    holding = [run for run in runs if max(values[slice(*run)]) == max(values)]
    return max(holding, key=lambda run: (run[1] - run[0], -run[0]))


def peak(values, tau):
    start, end = localization.peak_interval(torch.tensor([[values]], dtype=torch.float64), tau)
    return start.item(), end.item()


def test_interval_holds_the_global_maximum_not_the_widest_run():
    assert peak([0.6, 0.7, 0.8, 0.1, 1.0, 0.2], 0.5) == (4, 5)


def test_peak_interval_is_widest_among_equal_peaks():
    assert peak([1.0, 0.2, 0.9, 1.0, 0.9, 0.0], 0.5) == (2, 5)


def test_peak_interval_is_leftmost_among_equally_wide_ones():
    assert peak([0.0, 1.0, 0.8, 0.0, 1.0, 0.8], 0.5) == (1, 3)


def test_threshold_zero_takes_the_whole_side():
    assert peak([0.0, 0.3, 1.0, 0.0], 0.0) == (0, 4)


def test_value_equal_to_the_threshold_is_inside():
    assert peak([0.0, 0.5, 1.0, 0.5, 0.49], 0.5) == (1, 4)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.integers(0, 8), min_size=1, max_size=40), st.integers(0, 8))
def test_interval_equals_a_plain_search(levels, tau):
    values = torch.tensor([[levels]], dtype=torch.float64)
    profile = localization.normalise(values)
    start, end = localization.peak_interval(profile, tau / 8)
    assert (start.item(), end.item()) == intervals(profile.flatten().tolist(), tau / 8)


def test_min_max_normalisation_by_hand():
    profile = localization.normalise(torch.tensor([[[0.2, 0.6, 0.4]]], dtype=torch.float64))
    torch.testing.assert_close(profile, torch.tensor([[[0.0, 1.0, 0.5]]], dtype=torch.float64))


def test_flat_map_gives_the_whole_image():
    boxes = localization.localize(torch.full((1, 1, 7, 7), 0.3), 112, 0.5)
    assert boxes.tolist() == [[[0, 0, 112, 112]]]


@pytest.mark.parametrize(
    ("cells", "size"), [((7, 7), (112, 112)), ((4, 6), (50, 61)), ((1, 5), (9, 30)), ((14, 14), (14, 14))]
)
def test_profiles_equal_the_maxima_of_the_enlarged_map(cells, size):
    maps = torch.rand(3, 4, *cells, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    enlarged = nn.functional.interpolate(maps, size, mode="bilinear", align_corners=True)
    across, down = localization.profiles(maps, *size)
    torch.testing.assert_close(across, enlarged.amax(2), rtol=0, atol=1e-12)
    torch.testing.assert_close(down, enlarged.amax(3), rtol=0, atol=1e-12)


@pytest.mark.parametrize("tau", [0.0, 0.3, 0.5, 0.9, 1.0])
def test_boxes_equal_the_published_way_step_by_step(tau):
    height, width = 60, 90
    maps = torch.rand(5, 3, 6, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    boxes = localization.localize(maps, (height, width), tau)
    enlarged = nn.functional.interpolate(maps, (height, width), mode="bilinear", align_corners=True)
    for image in range(5):
        for region in range(3):
            expected = []
            for profile, length in (
                (enlarged[image, region].amax(0), width),
                (enlarged[image, region].amax(1), height),
            ):
                values = ((profile - profile.min()) / (profile.max() - profile.min())).tolist()
                expected.append(grown(*intervals(values, tau), length))
            (x0, x1), (y0, y1) = expected
            assert boxes[image, region].tolist() == [x0, y0, x1, y1]


def grown(start, end, length):
    """At least an eighth of the side, one pixel at a time to the left and right in turn, shifted inside."""
    least = math.ceil(length / 8)
    left_turn = False
    while end - start < least:
        start, end = (start - 1, end) if left_turn else (start, end + 1)
        left_turn = not left_turn
    shift = max(0, -start) - max(0, end - length)
    return start + shift, end + shift


def test_smallest_box_is_grown_evenly_and_kept_inside():
    for start, end, expected in [(50, 52, (44, 58)), (0, 2, (0, 14)), (110, 112, (98, 112)), (10, 40, (10, 40))]:
        got = localization.widen(torch.tensor([[start]]), torch.tensor([[end]]), 112, 0.125)
        assert tuple(value.item() for value in got) == expected == grown(start, end, 112)


def test_crops_equal_slice_and_bilinear_resize():
    generator = torch.Generator().manual_seed(2)
    images = torch.rand(3, 3, 40, 56, generator=generator)
    boxes = torch.tensor(
        [[[0, 0, 56, 40], [3, 5, 10, 35]], [[50, 39, 56, 40], [20, 0, 21, 40]], [[1, 1, 55, 39], [7, 7, 14, 12]]]
    )
    crops = localization.crop(images, boxes)
    for image in range(3):
        for region in range(2):
            x0, y0, x1, y1 = boxes[image, region].tolist()
            cut = images[image : image + 1, :, y0:y1, x0:x1]
            expected = nn.functional.interpolate(cut, (40, 56), mode="bilinear", align_corners=True)[0]
            torch.testing.assert_close(crops[image, region], expected, rtol=0, atol=1e-5)


def test_box_of_the_whole_image_returns_the_image():
    images = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(3))
    crops = localization.crop(images, torch.tensor([[[0, 0, 16, 16]]]).expand(2, 1, 4))
    torch.testing.assert_close(crops[:, 0], images, rtol=0, atol=1e-5)


class Colours(nn.Module):
    """A trunk whose maps are the image averaged over 4x4 cells."""

    out_channels, stride, mean, std = 3, 4, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, images):
        return nn.functional.avg_pool2d(images, 4) * self.scale


def colour_model(**options):
    """Class c answers to channel c: logit 8 x mean - 4."""
    model = build_model("mcar", 3, Colours(), **options)
    with torch.no_grad():
        model.head.linear.weight.copy_(8 * torch.eye(3))
        model.head.linear.bias.fill_(-4)
    return model


def spot():
    """Red in one corner, green over a wider part elsewhere."""
    image = torch.zeros(1, 3, 32, 32)
    image[:, 0, :8, :8] = 1
    image[:, 1, 16:, 12:] = 1
    return image


def test_regions_lie_on_the_objects_of_the_best_classes():
    prediction = colour_model(topN=2).eval()(spot())
    assert prediction.region_labels.tolist() == [[1, 0]]
    green, red = (prediction.regions[0] * 32).tolist()
    assert green[0] < 14 and green[1] < 18 and green[2:] == [32, 32]
    assert red[:2] == [0, 0] and 7 <= red[2] <= 11 and 7 <= red[3] <= 11


def test_local_stream_sees_a_small_object_better_and_the_fusion_is_the_maximum():
    prediction = colour_model(topN=2).eval()(spot())
    scores = prediction.steps[0]
    assert scores[1, 0] > scores[0, 0] + 3  # red fills its region but a sixteenth of the image
    torch.testing.assert_close(prediction.logits, prediction.steps.amax(1))


def test_no_regions_is_the_baseline():
    torch.manual_seed(0)
    images = torch.rand(4, 3, 32, 32)
    model = colour_model(topN=0)
    baseline = build_model("classifier", 3, Colours())
    baseline.load_state_dict(model.state_dict())
    targets = torch.tensor([[1, 0, -1]], dtype=torch.int8).expand(4, 3)
    torch.testing.assert_close(model(images).logits, baseline(images).logits)
    torch.testing.assert_close(
        sum(model.loss(model(images), targets).values()), sum(baseline.loss(baseline(images), targets).values())
    )


def test_selection_ranks_by_the_global_score():
    scores = torch.tensor([[0.1, 2.0, -1.0], [3.0, 1.0, 2.0]])
    assert colour_model(topN=2).select(scores).tolist() == [[1, 0], [0, 2]]
    assert colour_model(topN=2, selection="bottom").select(scores).tolist() == [[2, 0], [1, 2]]
    torch.manual_seed(0)
    drawn = [tuple(colour_model(topN=1, selection="random").select(scores).flatten().tolist()) for _ in range(50)]
    assert len(set(drawn)) == 9


def test_source_crops_keep_the_detail_that_the_first_look_lacks():
    torch.manual_seed(0)
    large = torch.rand(3, 3, 64, 48)
    small = nn.functional.avg_pool2d(large, 2)
    plain, source = colour_model(topN=2).eval(), colour_model(topN=2, crop_from="source").eval()
    one, other = plain(small), source(large)
    torch.testing.assert_close(one.steps[:, 0], other.steps[:, 0])
    assert torch.equal(one.region_labels, other.region_labels)
    boxes = localization.localize(other.maps, (64, 48))
    crops = localization.crop(large, boxes, (32, 24))
    expected = source.head(source.trunk(crops.flatten(0, 1))).unflatten(0, (3, 2)).amax(1)
    torch.testing.assert_close(other.steps[:, 1], expected)
    torch.testing.assert_close(other.regions * torch.tensor([48, 64, 48, 64]), boxes.float())
    with pytest.raises(InputError, match="even sides, not 33 x 32"):
        source(torch.rand(1, 3, 33, 32))


@pytest.mark.parametrize("threshold", [0.05, 0.5, 0.99])
def test_adaptive_regions_skip_improbable_classes_in_testing_alone(threshold):
    torch.manual_seed(0)
    images = torch.cat([spot(), torch.rand(5, 3, 32, 32)])
    plain, adaptive = colour_model(topN=3).eval(), colour_model(topN=3, adaptive=threshold).eval()
    all_of_them, some = plain(images), adaptive(images)
    assert torch.equal(all_of_them.steps[:, 0], some.steps[:, 0])
    crops = localization.crop(images, localization.localize(all_of_them.maps, 32))
    scores = plain.head(plain.trunk(crops.flatten(0, 1))).unflatten(0, (6, 3))
    looked = all_of_them.steps[:, 0].sigmoid().gather(1, all_of_them.region_labels) >= threshold
    for image in range(6):
        seen = scores[image, looked[image]]
        expected = seen.amax(0) if len(seen) else some.steps[image, 0]
        torch.testing.assert_close(some.steps[image, 1], expected)
    torch.testing.assert_close(some.logits, some.steps.amax(1))
    assert torch.equal(adaptive.train()(images).logits, plain.train()(images).logits)


@pytest.mark.parametrize("topN", [1, 3, 4])
def test_corner_views_do_not_look_at_a_map(topN):
    prediction = build_model("mcar", 5, Colours(), topN=topN, selection="corners").eval()(torch.rand(2, 3, 32, 64))
    expected = torch.tensor([[0, 0, 0.625, 0.625], [0.375, 0, 1, 0.625], [0, 0.375, 0.625, 1], [0.375, 0.375, 1, 1]])
    torch.testing.assert_close(prediction.regions, expected[:topN].expand(2, topN, 4))
    assert prediction.region_labels.shape == (2, topN) and prediction.maps is None
    with pytest.raises(InputError, match=r"adaptive=0\.1: regions of selection 'corners' have no class"):
        build_model("mcar", 5, Colours(), topN=topN, selection="corners", adaptive=0.1)
    with pytest.raises(InputError, match="topN=4: choose 0 to 3, the number of classes"):
        build_model("mcar", 3, Colours(), topN=4, selection="corners")
    with pytest.raises(InputError, match="topN=5: choose 0 to 4, the number of corners"):
        build_model("mcar", 5, Colours(), topN=5, selection="corners")


def test_random_boxes_stay_inside_and_have_the_sides_they_should():
    torch.manual_seed(0)
    boxes = localization.random_boxes((400, 3), (40, 60), torch.device("cpu"))
    x0, y0, x1, y1 = boxes.unbind(-1)
    assert (x0 >= 0).all() and (y0 >= 0).all() and (x1 <= 60).all() and (y1 <= 40).all()
    assert (x1 - x0).min() == 15 and (x1 - x0).max() == 45 and (y1 - y0).min() == 10 and (y1 - y0).max() == 30
    assert x0.min() == 0 and x1.max() == 60  # they reach both edges
    model = build_model("mcar", 5, Colours(), topN=4, selection="boxes")
    images = torch.rand(2, 3, 32, 32)
    first, second = (model(images).regions for _ in range(2))
    assert not torch.equal(first, second)


def test_the_official_rule_is_the_localisation_s(untyped):
    images = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    prediction = colour_model(topN=3, rule="official").eval()(images)
    expected = localization.localize(prediction.maps, 32, rule="official")
    torch.testing.assert_close(prediction.regions * 32, expected.float())
    with pytest.raises(InputError, match=r"min_fraction=0\.25: rule 'official' has 0\.125"):
        colour_model(topN=3, rule="official", min_fraction=0.25)


def test_pair_loss_adds_both_streams_and_single_loss_takes_the_fused_scores():
    images, targets = spot(), torch.tensor([[1, 1, 0]], dtype=torch.int8)
    pair, single = colour_model(topN=2), colour_model(topN=2, learning="single")
    prediction = pair(images)
    p = prediction.steps.double().sigmoid()[0]
    by_hand = [-(p[s, 0].log() + p[s, 1].log() + (1 - p[s, 2]).log()) / 3 for s in (0, 1)]
    terms = pair.loss(prediction, targets)
    assert terms["global"].item() == pytest.approx(by_hand[0].item(), rel=1e-5)
    assert terms["local"].item() == pytest.approx(by_hand[1].item(), rel=1e-5)
    fused = prediction.logits.double().sigmoid()[0]
    expected = -(fused[0].log() + fused[1].log() + (1 - fused[2]).log()) / 3
    assert single.loss(single(images), targets)["bce"].item() == pytest.approx(expected.item(), rel=1e-5)


def test_regions_carry_no_gradient_into_the_localisation():
    model = colour_model(topN=2)
    images = spot().requires_grad_()
    model(images).steps[:, 1].sum().backward()
    assert images.grad is None or images.grad.abs().sum() == 0  # crops are cut under no_grad
    assert model.trunk.scale.grad is not None and model.trunk.scale.grad.abs() > 0


def test_the_streams_share_every_weight():
    names = {name for name, _ in colour_model(topN=4 - 1).named_parameters()}
    assert names == {"trunk.scale", "head.linear.weight", "head.linear.bias"}


@pytest.mark.parametrize(("option", "value"), [("topN", 4), ("topN", -1), ("tau", 1.5), ("min_fraction", -0.1),
                                               ("adaptive", 1.5)])  # fmt: skip
def test_impossible_options_are_refused_by_name(option, value):
    with pytest.raises(InputError, match=f"{option}={value}: choose"):
        colour_model(**{"topN": 2, option: value})


@pytest.mark.parametrize(("option", "value", "meant"), [("selection", "botom", "bottom"), ("pooling", "gwq", "gwp")])
def test_misspelt_choices_are_refused_with_the_nearest_one(untyped, option, value, meant):
    with pytest.raises(InputError, match=f"did you mean '{meant}'"):
        colour_model(**{"topN": 2, option: value})


def test_parameter_groups_give_the_classifier_its_own_rate():
    trunk, head = colour_model(topN=2).param_groups(Recipe(lr=0.001, head_lr=0.01))
    assert (trunk["lr"], len(trunk["params"]), head["lr"], len(head["params"])) == (0.001, 1, 0.01, 2)
