"""Both rules of localisation against plain loops, on profiles of every length, and the crops."""

import math
from functools import cache

import numpy as np
import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from benchmarks.mcar import official_interval, paper_interval, paper_least, published_interval
from mlic_core.errors import InputError
from mlic_core.models import localization, mcar

LENGTHS = range(8, 449)
TAUS = (0.5, 0.25, 0.375, 0.75, 0.3, 0.9, 0.5, 0.0, 0.125, 1.0)


@cache
def profiles_of(length: int) -> tuple[torch.Tensor, float]:
    """Random profiles after Eq. 6, fewer of a longer one, and tau; over all lengths 100,000."""
    generator = torch.Generator().manual_seed(length)
    dtype = torch.float32 if length % 3 == 0 else torch.float64
    n = round(24480 / length)

    def random(*shape):
        return torch.rand(*shape, generator=generator, dtype=torch.float64)

    def smooth(cells):
        return nn.functional.interpolate(random(1, n, cells), length, mode="linear", align_corners=True)[0]

    noise, few, several = random(n, length), smooth(4), smooth(14)
    kinds = [
        noise,
        few,
        several,
        (8 * noise).round(),  # ties, and scores equal to tau
        (8 * few).round(),  # plateaus, at tau too
        (8 * several).round(),
        (random(n, length) < 3 / length).double(),  # single positions
        (smooth(3) > 0.5).double(),  # one or two wide plateaus; at times constant
        (noise < 0.5) * 0.25 + (random(n, length) < 2 / length) * random(n, 1).round(),  # low peaks between low runs
        random(n, 1).expand(n, length),
        torch.cat([several[:, : length // 2], several[:, : length - length // 2].flip(1)], 1),  # the same piece twice
    ]
    kind = torch.randint(len(kinds), (n,), generator=generator)
    drawn = torch.stack(kinds)[kind, torch.arange(n)].to(dtype)
    tau = TAUS[length % len(TAUS)]
    return localization.normalise(drawn[None])[0], tau if dtype == torch.float64 else float(np.float32(tau))


def each_profile():
    for length in LENGTHS:
        profiles, tau = profiles_of(length)
        yield length, profiles, tau


def equal(found, expected) -> None:
    np.testing.assert_array_equal(torch.stack(found, -1).reshape(-1, 2).numpy(), expected)


def test_the_profiles_are_of_every_kind():
    count = ties = at_tau = flat = 0
    for _, profiles, tau in each_profile():
        count += len(profiles)
        ties += ((profiles == 1).sum(1) > 1).sum().item()
        at_tau += ((profiles == tau).any(1) & (tau < 1)).sum().item()
        flat += (profiles == 1).all(1).sum().item()
    assert count >= 100_000 and min(ties, at_tau, flat) > 5_000


def test_paper_rule_equals_a_plain_loop():
    for _, profiles, tau in each_profile():
        equal(localization.peak_interval(profiles[None], tau), [paper_interval(one, tau) for one in profiles.tolist()])


def test_official_rule_equals_a_plain_loop():
    for _, profiles, tau in each_profile():
        found = localization.official_interval(profiles, tau)
        equal(found, [official_interval(one, tau) for one in profiles.tolist()])


@pytest.mark.parametrize("rule", [localization.peak_interval, localization.official_interval])
def test_a_profile_beside_a_higher_one_has_its_own_maximum(rule):
    """As they are before Eq. 6 scales each: one reaches 1, the other one half."""
    profiles = torch.tensor([[0, 1, 0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0.5, 0.5, 0]])
    starts, ends = rule(profiles[None], 0.25)
    for row, start, end in zip(profiles, starts[0], ends[0], strict=True):
        assert [(start, end)] == [(s, e) for s, e in zip(*rule(row[None, None], 0.25), strict=True)]
    assert starts[0, 1] >= 4


def test_least_side_of_the_paper_rule_equals_growing_by_a_pixel_at_a_time():
    for length, profiles, tau in each_profile():
        if length % 7 == 0:
            intervals = localization.peak_interval(profiles[None], tau)
            for fraction in (0.0, 0.125, 0.3, 1.0):
                expected = [paper_least(*one, length, fraction) for one in torch.stack(intervals, -1)[0].tolist()]
                equal(localization.widen(*intervals, length, fraction), expected)


@pytest.mark.parametrize("rule", ["paper", "official"])
def test_intervals_lie_inside_and_have_the_rule_s_least_side(rule):
    for length, profiles, tau in each_profile():
        start, end = localization.interval(profiles[None], tau, rule, 0.125)
        assert (start >= 0).all() and (end <= length).all()
        assert (end - start).min() >= (math.ceil(length / 8) if rule == "paper" else 1)


@pytest.mark.parametrize("length", range(1, 10))
def test_an_empty_official_interval_is_given_a_pixel(length):
    """Every profile of levels 0, 2 and 3 at tau 0.5: the words give empty intervals up to 8 pixels, and none above."""
    levels = torch.tensor([0.0, 2.0, 3.0], dtype=torch.float64)
    profiles = localization.normalise(torch.cartesian_prod(*[levels] * length).reshape(1, -1, length))
    words = torch.tensor([official_interval(one, 0.5) for one in profiles[0].tolist()])
    empty = words[:, 0] == words[:, 1]
    start, end = (edge[0] for edge in localization.interval(profiles, 0.5, "official", 0.125))
    assert empty.any() == (length in (1, 4, 5, 6, 7, 8)) and (words[:, 0] <= words[:, 1]).all()
    equal((start[~empty], end[~empty]), words[~empty])
    assert (end - start)[empty].eq(1).all() and start.min() >= 0 and end.max() <= length


@pytest.mark.parametrize(
    ("values", "tau", "expected"),
    [
        ([0, 0, 1, 0.8, 0, 0, 0, 0], 0.5, (1, 3)),  # a piece begins and ends a position before the change
        ([0, 0, 0.8, 1, 0, 0, 0, 0, 0], 0.5, (3, 9)),  # a peak that is the last above: the valley that begins with it
        ([0.6, 0.5, 0.4, 1, 0.8, 0.4, 0.5, 0.6], 0.5, (2, 4)),  # a score equal to tau hides a change
        ([1, 1, 1, 1, 0.6, 0, 0, 1, 1, 1], 0.5, (0, 4)),  # equal: the first piece before the last
        ([1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0], 0.5, (6, 11)),  # the last before a pair
        ([0, 1, 0.8, 0, 1, 0.8, 0, 0], 0.5, (0, 2)),  # and pairs from the left
        ([0, 1, 0, 1, 0, 1, 0, 1], 0.5, (6, 8)),  # the longest
        ([0, 0, 1, 1, 1, 1, 1, 0, 0], 0.5, (1, 6)),  # a wide peak
        ([0.0, 0.3, 1.0, 0.0, 0, 0, 0, 0], 0.0, (1, 7)),  # no crossing: the middle three quarters
        ([1.0] * 16, 0.5, (2, 14)),
        ([0.0] * 16, 0.5, (2, 14)),
    ],
)
def test_official_rule_by_hand(values, tau, expected):
    start, end = localization.official_interval(torch.tensor(values, dtype=torch.float64), tau)
    assert (start.item(), end.item()) == expected == official_interval(values, tau)


@pytest.mark.parametrize(
    ("interval", "expected"),
    [
        ((40, 55), (40, 55)),  # above an eighth of 112
        ((40, 54), (41, 54)),  # an eighth to the pixel loses one
        ((40, 53), (40, 54)),  # lacks 1
        ((40, 50), (39, 52)),  # lacks 4, gets 3
        ((3, 5), (0, 14)),
        ((6, 8), (6, 8)),  # lacks 12: too near for the first statement, not enough for the second
        ((107, 110), (99, 112)),
        ((104, 105), (104, 105)),
        ((8, 10), (0, 14)),  # the second statement reads what the first left
    ],
)
def test_official_least_side_by_hand(interval, expected):
    start, end = localization.official_widen(*torch.tensor(interval), 112)
    assert (start.item(), end.item()) == expected


@pytest.mark.parametrize("cells", [(7, 7), (4, 6), (1, 5), (14, 14), (20, 3), (2, 2)])
@pytest.mark.parametrize("size", [(112, 112), (50, 61), (14, 14), (9, 8), (1, 2), (2, 1)])
def test_profiles_equal_the_maxima_of_the_enlarged_map(cells, size):
    maps = torch.rand(3, 4, *cells, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    enlarged = nn.functional.interpolate(maps, size, mode="bilinear", align_corners=True)
    across, down = localization.profiles(maps, *size)
    torch.testing.assert_close(across, enlarged.amax(2), rtol=0, atol=1e-12)
    torch.testing.assert_close(down, enlarged.amax(3), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("spread", "flat"), [(32, True), (34, False)])
def test_a_spread_of_eight_roundings_is_no_profile(spread, flat):
    """Eight eps of the maximum 4 are 32 eps; between 2 and 4 doubles are 2 eps apart."""
    low = 4 - spread * torch.finfo(torch.float64).eps
    profile = torch.tensor([[[4.0, low, 4.0]]], dtype=torch.float64)
    assert localization.normalise(profile).tolist() == [[[1, 1 if flat else 0, 1]]]


def test_profiles_run_from_0_to_1():
    profiles = [[[0.25, 0.5, 0.75], [0.5, 0.5, 0.5]], [[0.0, 1.0, 0.5], [3.0, 1.0, 5.0]]]
    found = localization.normalise(torch.tensor(profiles))
    assert found.tolist() == [[[0, 0.5, 1], [1, 1, 1]], [[0, 1, 0.5], [0.5, 0, 1]]]


def class_maps(dtype=torch.float64):
    """After the sigmoid; one is constant, one has two equal peaks."""
    maps = torch.randn(20, 3, 6, 7, dtype=dtype, generator=torch.Generator().manual_seed(1)).mul(2).sigmoid()
    maps[0, 0] = 0.25
    maps[0, 1] = 0.125
    maps[0, 1, 1:5:3, 1:6:4] = 0.75
    return maps


@pytest.mark.parametrize("tau", [0.0, 0.31, 0.53, 0.89, 1.0])
@pytest.mark.parametrize("rule", ["paper", "official"])
def test_boxes_equal_the_published_way_step_by_step(rule, tau):
    """No tau of a few tenths: with the peak and the least value a few pixels apart, rounding decides who reaches it."""
    maps, (height, width) = class_maps(), (60, 90)
    enlarged = nn.functional.interpolate(maps, (height, width), mode="bilinear", align_corners=True).numpy()
    enlarged[0, 0] = 0.25
    boxes = localization.localize(maps, (height, width), tau, rule=rule)
    for image, regions in enumerate(boxes.tolist()):
        for one, box in zip(enlarged[image], regions, strict=True):
            x0, x1 = published_interval(one.max(0), tau, rule)
            y0, y1 = published_interval(one.max(1), tau, rule)
            assert box == [x0, y0, x1, y1]


def test_boxes_of_a_flat_map():
    for value in (0.3, 0.0, 1.0):
        maps = torch.full((1, 1, 7, 7), value)
        assert localization.localize(maps, 112).tolist() == [[[0, 0, 112, 112]]]
        assert localization.localize(maps, (56, 112), rule="official").tolist() == [[[14, 7, 98, 49]]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_paper_rule_is_what_mcar_uses_to_the_bit(dtype):
    theirs = getattr(mcar, "localize", localization.localize)
    for tau in (0.0, 0.3, 0.5, 1.0):
        for size, fraction in ((448, 0.125), ((50, 61), 0.4), (112, 0.0)):
            boxes = localization.localize(class_maps(dtype), size, tau, rule="paper", min_fraction=fraction)
            assert torch.equal(boxes, theirs(class_maps(dtype), size, tau, min_fraction=fraction))


def test_tau_is_one_half_unless_told_otherwise():
    maps = class_maps()
    found, expected, other = (localization.localize(maps, (60, 90), *tau) for tau in ((), (0.5,), (0.55,)))
    assert torch.equal(found, expected) and not torch.equal(found, other)


def test_least_side_is_relative_to_each_side():
    maps = torch.zeros(1, 1, 9, 9)
    maps[0, 0, 4, 4] = 1
    x0, y0, x1, y1 = localization.localize(maps, (90, 45), 1.0, min_fraction=0.3)[0, 0].tolist()
    assert (x1 - x0, y1 - y0) == (14, 27)


def test_selected_maps_are_those_of_the_classes():
    maps = torch.rand(2, 5, 3, 4, generator=torch.Generator().manual_seed(0))
    classes = torch.tensor([[4, 0, 4], [1, 2, 3]])
    expected = torch.stack([maps[0, [4, 0, 4]], maps[1, [1, 2, 3]]])
    assert torch.equal(localization.select_maps(maps, classes), expected)


def test_crops_equal_slice_and_bilinear_resize():
    images = torch.rand(3, 3, 40, 56, generator=torch.Generator().manual_seed(2))
    by_hand = torch.tensor([[0, 0, 56, 40], [55, 39, 56, 40], [20, 0, 21, 40], [3, 5, 10, 35]]).expand(3, 4, 4)
    found = [localization.localize(class_maps()[3 * i : 3 * i + 3], (40, 56), rule="official") for i in range(6)]
    boxes = torch.cat([by_hand, *found], 1)
    crops = localization.crop(images, boxes)
    assert crops.shape == (3, 22, 3, 40, 56)
    for image, regions in enumerate(boxes.tolist()):
        for region, (x0, y0, x1, y1) in enumerate(regions):
            cut = images[image : image + 1, :, y0:y1, x0:x1]
            expected = nn.functional.interpolate(cut, (40, 56), mode="bilinear", align_corners=True)[0]
            torch.testing.assert_close(crops[image, region], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("images", [(6, 9), (2, 2), (1, 3)])
@pytest.mark.parametrize("size", [(5, 4), (1, 2), (12, 12)])
def test_crops_of_another_size_equal_slice_and_resize_in_double_precision(images, size):
    height, width = images
    pictures = torch.rand(2, 3, height, width, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    boxes = torch.tensor([[0, 0, width, height], [width - 1, 0, width, height], [0, height // 2, width, height]])
    crops = localization.crop(pictures, boxes.expand(2, 3, 4), size)
    for region, (x0, y0, x1, y1) in enumerate(boxes.tolist()):
        expected = nn.functional.interpolate(pictures[..., y0:y1, x0:x1], size, mode="bilinear", align_corners=True)
        torch.testing.assert_close(crops[:, region], expected, rtol=0, atol=1e-12)


def test_corner_boxes_by_hand():
    """Five eighths of 8 and 16 are 5 and 10; of 9 and 7, 5.6 and 4.4."""
    even, odd = (localization.corners(size, torch.device("cpu")).tolist() for size in ((8, 16), (9, 7)))
    assert even == [[0, 0, 10, 5], [6, 0, 16, 5], [0, 3, 10, 8], [6, 3, 16, 8]]
    assert odd == [[0, 0, 4, 6], [3, 0, 7, 6], [0, 3, 4, 9], [3, 3, 7, 9]]


def test_random_boxes_are_drawn_by_their_side_and_then_their_place():
    torch.manual_seed(0)
    boxes = localization.random_boxes((40, 3), (30, 60), torch.device("cpu"))
    torch.manual_seed(0)
    for axis, length in ((0, 60), (1, 30)):
        sides, places = torch.rand(120).tolist(), torch.rand(120).tolist()
        for drawn, place, box in zip(sides, places, boxes.flatten(0, 1), strict=True):
            side = round(length * (0.25 + drawn / 2))
            start = math.floor(place * (length - side + 1))
            assert box[axis::2].tolist() == [start, start + side]


@pytest.mark.parametrize("rule", ["paper", "official"])
def test_boxes_and_crops_stay_on_a_gpu(rule):
    """On fake CUDA tensors, mixing devices or asking for a value raises; no GPU is needed."""
    gpu = torch.device("cuda")
    with FakeTensorMode(allow_non_fake_inputs=False):
        boxes = localization.localize(torch.empty(2, 4, 7, 7, device=gpu), 64, rule=rule)
        crops = localization.crop(torch.empty(2, 3, 64, 64, device=gpu), boxes)
        others = localization.corners((64, 64), gpu), localization.random_boxes((2, 3), (64, 64), gpu)
    assert {one.device.type for one in (boxes, crops, *others)} == {"cuda"} and crops.shape == (2, 4, 3, 64, 64)


@pytest.mark.parametrize("rule", ["paper", "official"])
def test_localisation_compiles_without_a_graph_break(untyped, rule):
    torch._dynamo.reset()

    def cut(maps, images):
        return localization.crop(images, localization.localize(maps, (60, 90), rule=rule))

    maps, images = class_maps(torch.float32), torch.rand(20, 3, 60, 90, generator=torch.Generator().manual_seed(0))
    compiled = torch.compile(cut, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(maps, images), cut(maps, images))


def test_impossible_rules_are_refused_by_name(untyped):
    with pytest.raises(InputError, match=r"^rule='offical': choose one of paper, official; did you mean 'official'\?$"):
        localization.localize(torch.rand(1, 1, 7, 7), 56, rule="offical")
    with pytest.raises(InputError, match=r"^min_fraction=0\.2: rule 'official' has 0\.125; leave it out$"):
        localization.localize(torch.rand(1, 1, 7, 7), 56, rule="official", min_fraction=0.2)
