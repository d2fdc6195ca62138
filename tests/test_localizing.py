"""Measures of regions and maps: on drawn examples by hand, and by brute force over pixels and loops."""

import itertools
import math

import numpy as np
import pytest
from scipy.stats import spearmanr

from mlic_core import localizing
from mlic_core.attention import coverage, iou
from mlic_core.errors import InputError

WHOLE, LEFT, RIGHT, TOP = [0, 0, 1, 1], [0, 0, 0.5, 1], [0.5, 0, 1, 1], [0, 0, 1, 0.5]


def boxes(*rows):
    return np.array(rows, dtype=np.float64).reshape(-1, 4)


def drawn_boxes(rng, *shape):
    low = rng.uniform(0, 0.7, (*shape, 2))
    return np.concatenate([low, low + rng.uniform(0.05, 0.3, (*shape, 2))], -1)


def scene(seed=0, images=7, regions=5, objects=23):
    rng = np.random.default_rng(seed)
    image = rng.integers(images - 1, size=objects)  # the last image has no object
    return drawn_boxes(rng, images, regions), image, drawn_boxes(rng, objects), rng.integers(3, size=objects)


def test_pairs_are_the_classes_of_each_image_and_know_their_objects():
    pairs = localizing.pairs_of(np.array([2, 0, 2, 2, 0]), np.array([1, 5, 0, 1, 5]))
    assert list(zip(pairs.image.tolist(), pairs.label.tolist(), strict=True)) == [(0, 5), (2, 0), (2, 1)]
    assert pairs.of.tolist() == [2, 0, 1, 2, 0]
    assert [len(part) for part in localizing.pairs_of(np.array([], int), np.array([], int))] == [0, 0, 0]


def test_the_size_of_a_box_is_the_root_of_its_area_and_zero_where_it_is_turned_round():
    assert localizing.side(boxes([0.1, 0.2, 0.5, 0.3], [0.5, 0, 0.2, 1])).tolist() == pytest.approx([0.2, 0])


@pytest.mark.parametrize("overlap", [iou, coverage])
def test_overlaps_equal_a_loop(overlap):
    regions, image, objects, _ = scene()
    found = localizing.overlaps(overlap, regions, image, objects)
    for (o, i), r in itertools.product(enumerate(image), range(5)):
        assert found[o, r] == overlap(regions[i, r][None], objects[o][None])[0]


def test_recall_by_hand_with_and_without_the_class():
    regions, image = np.array([[LEFT, TOP]]), np.zeros(2, int)
    objects = boxes([0, 0, 0.5, 0.5], RIGHT)
    ious = localizing.overlaps(iou, regions, image, objects)
    assert ious.tolist() == pytest.approx(np.array([[0.5, 0.5], [0, 1 / 3]]))
    assert localizing.best_overlap(ious).tolist() == pytest.approx([0.5, 1 / 3])
    labels, classes = np.array([[4, 7]]), np.array([4, 4])
    own = labels[image] == classes[:, None]
    assert localizing.best_overlap(ious, own).tolist() == pytest.approx([0.5, 0])
    held = localizing.best_overlap(localizing.overlaps(coverage, regions, image, objects))
    assert held.tolist() == [1, 0.5]


def test_perfect_regions_recall_everything_and_no_region_or_one_without_area_nothing():
    _, image, objects, _ = scene()
    perfect = objects[None].repeat(7, 0)  # every object's box in every image
    empty = [np.zeros((7, 0, 4)), np.full((7, 2, 4), 0.4)]
    for overlap in (iou, coverage):
        assert localizing.best_overlap(localizing.overlaps(overlap, perfect, image, objects)) == pytest.approx(1)
        for regions in empty:
            assert (localizing.best_overlap(localizing.overlaps(overlap, regions, image, objects)) == 0).all()
    assert localizing.overlaps(iou, empty[0], image[:0], objects[:0]).shape == (0, 0)


def test_regions_needed_by_hand():
    regions = np.array([[LEFT, TOP, RIGHT], [RIGHT, WHOLE, TOP], [LEFT, LEFT, LEFT], [WHOLE] * 3])
    image = np.array([0, 0, 1, 2])  # image 3 has no object
    objects = boxes([0.1, 0.1, 0.4, 0.4], [0.6, 0.1, 0.9, 0.9], [0.1, 0.1, 0.4, 0.9], [0.6, 0.1, 0.9, 0.9])
    held = localizing.overlaps(coverage, regions, image, objects)
    needed = localizing.regions_needed(held, image, 4)
    assert needed[:3].tolist() == [3, 2, math.inf] and math.isnan(needed[3])
    assert localizing.covered_by(needed, [1, 2, 3, 9]) == pytest.approx([0, 1 / 3, 2 / 3, 2 / 3])
    assert np.isnan(localizing.covered_by(needed[3:], [1])).all()
    half = localizing.regions_needed(held, image, 4, 0.5)  # the second object is half in TOP
    assert half[0] == 2
    assert localizing.regions_needed(held[:, :0], image, 4)[:3].tolist() == [math.inf] * 3


def test_an_object_is_held_from_the_share_itself_on():
    held = np.array([[0.69, 0.7]])
    assert localizing.regions_needed(held, np.array([0]), 1).tolist() == [2]


def test_regions_needed_equal_a_walk_through_the_regions():
    regions, image, objects, _ = scene(3, regions=20, objects=9)
    held = localizing.overlaps(coverage, regions, image, objects)
    needed = localizing.regions_needed(held, image, 7, 0.3)
    for i in range(7):
        own = [o for o in range(9) if image[o] == i]
        steps = [
            n for n in range(1, 21)
            if all(any(coverage(regions[i, [r]], objects[[o]])[0] >= 0.3 for r in range(n)) for o in own)
        ]  # fmt: skip
        if own:
            assert needed[i] == (steps[0] if steps else math.inf)
        else:
            assert math.isnan(needed[i])
    assert 1 < needed[np.isfinite(needed)].max() < 20


def test_diversity_is_over_the_regions_that_have_an_area():
    point = [0.3, 0.3, 0.3, 0.3]
    regions = np.array([[LEFT, LEFT, RIGHT], [LEFT, point, TOP], [LEFT, point, point]])
    found = localizing.diversity(regions)
    assert found[:2].tolist() == pytest.approx([1 / 3, 1 / 3]) and math.isnan(found[2])
    assert np.isnan(localizing.diversity(regions[:, :1])).all()


def test_a_point_hits_within_the_tolerance_of_any_box_of_its_pair():
    pair, objects = np.array([0, 0, 1, 2]), boxes([0, 0, 0.2, 0.2], [0.5, 0.5, 0.7, 0.7], *[[0.4, 0.4, 0.6, 0.6]] * 2)
    points = np.array([[0.6, 0.6], [0.6299, 0.5], [0.621, 0.621]])
    assert localizing.points_hit(points, pair, objects).tolist() == [True, True, True]
    assert localizing.points_hit(points, pair, objects, 0.0).tolist() == [True, False, False]
    assert localizing.points_hit(points, pair, objects, 0.029).tolist() == [True, False, False]
    # beyond a corner the distance is to the corner: .0297 for (.621, .621)
    assert localizing.points_hit(points, pair, objects, 0.0298).tolist() == [True, False, True]


def test_pointing_by_hand_with_rows_going_down():
    maps = np.zeros((3, 2, 4))
    maps[0, 1, 0], maps[1, 0, 3], maps[2, 0, 1] = 1, 1, 1  # centres (.125, .75), (.875, .25), (.375, .25)
    objects = boxes([0.1, 0.7, 0.2, 0.8], [0.8, 0.2, 0.9, 0.3], [0.8, 0.2, 0.9, 0.3])
    assert localizing.pointing(maps, np.arange(3), objects, 0.0).tolist() == [1, 1, 0]
    assert localizing.pointing(maps, np.arange(3), objects, 0.43).tolist() == [1, 1, 1]


def test_a_map_that_is_everywhere_alike_points_like_a_cell_at_random_and_an_empty_one_nowhere():
    maps = np.stack([np.full((4, 4), 0.2), np.zeros((4, 4))])
    assert localizing.pointing(maps, np.array([0, 1]), boxes(LEFT, WHOLE), 0.0).tolist() == [0.5, 0]


def test_pointing_equals_a_loop_over_pairs_cells_and_boxes():
    rng = np.random.default_rng(5)
    maps, pair, objects = rng.random((6, 5, 3)), rng.integers(6, size=14), drawn_boxes(rng, 14)
    found = localizing.pointing(maps, pair, objects, 0.1)
    for p in range(6):
        row, column = divmod(int(maps[p].argmax()), 3)
        x, y = (column + 0.5) / 3, (row + 0.5) / 5
        near = [
            math.hypot(max(x0 - x, 0, x - x1), max(y0 - y, 0, y - y1)) <= 0.1 for x0, y0, x1, y1 in objects[pair == p]
        ]
        assert found[p] == any(near)
    assert 0 < found.mean() < 1


def test_energy_by_hand():
    maps = np.array([[[1.0, 3.0], [0.0, 4.0]]])
    inside = {"left": LEFT, "top": TOP, "middle": [0.25, 0.25, 0.75, 0.75], "whole": WHOLE}
    found = {name: localizing.energy_inside(maps, np.array([0]), boxes(box))[0] for name, box in inside.items()}
    assert found == pytest.approx({"left": 1 / 8, "top": 0.5, "middle": 0.25, "whole": 1})


def test_boxes_of_a_pair_that_overlap_hold_their_energy_once():
    uniform = np.ones((1, 7, 7))
    twice = boxes([0.1, 0.1, 0.5, 0.5], [0.3, 0.3, 0.7, 0.7])
    assert localizing.energy_inside(uniform, np.array([0, 0]), twice) == pytest.approx([0.16 + 0.16 - 0.04])
    assert localizing.energy_inside(uniform, np.array([0, 0]), boxes(LEFT, LEFT)) == pytest.approx([0.5])


def test_energy_equals_counting_on_a_fine_grid():
    rng = np.random.default_rng(1)
    maps, pair = rng.random((5, 3, 4)), np.array([0, 3, 1, 1, 3, 3, 2])  # pair 4 has no box
    low, high = rng.integers(0, 30, (7, 2)), rng.integers(30, 61, (7, 2))
    found = localizing.energy_inside(maps, pair, np.concatenate([low, high], 1) / 60)
    for p in range(5):
        fine, mask = maps[p].repeat(20, 0).repeat(15, 1), np.zeros((60, 60), bool)
        for (x0, y0), (x1, y1) in zip(low[pair == p], high[pair == p], strict=True):
            mask[y0:y1, x0:x1] = True
        assert found[p] == pytest.approx(fine[mask].sum() / fine.sum())
    assert found[4] == 0 < found[:4].min()


def test_perfect_maps_have_all_and_maps_elsewhere_or_empty_ones_none_of_their_energy_inside():
    maps, box = np.zeros((3, 4, 4)), boxes(*[[0.25, 0.5, 0.75, 1]] * 3)
    maps[0, 2:, 1:3], maps[1, :2] = 0.3, 1
    assert localizing.energy_inside(maps, np.arange(3), box).tolist() == pytest.approx([1, 0, 0])
    assert localizing.pointing(maps, np.arange(3), box, 0.0).tolist() == [1, 0, 0]


@pytest.mark.parametrize("wrong", [-0.1, math.nan])
def test_maps_of_negative_or_undefined_values_are_refused(wrong):
    maps = np.ones((1, 2, 2))
    maps[0, 1, 1] = wrong
    for measure in (localizing.pointing, localizing.energy_inside):
        with pytest.raises(InputError, match="below 0 or NaN"):
            measure(maps, np.array([0]), boxes(WHOLE))


def test_a_pairs_iou_is_that_of_its_best_box():
    pair = np.array([1, 0, 1])
    found = localizing.pair_iou(boxes(LEFT, LEFT), pair, boxes(TOP, WHOLE, [0, 0, 0.5, 0.5]))
    assert found.tolist() == pytest.approx([0.5, 0.5])
    assert localizing.pair_iou(boxes(LEFT, TOP), np.array([1]), boxes(TOP)).tolist() == [0, 1]


def test_the_mean_over_objects_weighs_objects_and_its_interval_draws_whole_images():
    values, image = np.array([1.0, 1, 1, 0, np.nan]), np.array([0, 0, 0, 2, 2])
    found = localizing.mean_over(values, image, 3, n=4000)
    assert found.value == 0.75
    # By enumeration: of the 27 draws of three images those with one of the two that have numbers.
    means = []
    for draw in itertools.product(range(3), repeat=3):
        count = 3 * draw.count(0) + draw.count(2)
        means += [3 * draw.count(0) / count] if count else []
    assert (found.low, found.high) == tuple(np.quantile(means, [0.025, 0.975]))
    one = localizing.mean_over(np.array([True, False]), np.array([1, 1]), 2)
    assert (one.value, one.low, one.high) == (0.5, 0.5, 0.5)
    assert np.isnan(localizing.mean_over(np.array([np.nan]), np.array([0]), 2)).all()


def test_an_interval_over_images_has_the_width_of_the_normal_approximation():
    rng = np.random.default_rng(0)
    values = rng.random(400)
    found = localizing.mean_over(values, np.arange(400), 400)
    assert found.high - found.low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.1)


def test_rank_correlation_is_scipys_with_ties_and_gaps():
    rng = np.random.default_rng(2)
    x, y = rng.integers(6, size=30).astype(float), rng.normal(size=30)
    y += 0.4 * x
    found = localizing.rank_correlation(x, y, n=100)
    assert found.value == pytest.approx(spearmanr(x, y).statistic) and found.low < found.value < found.high
    index = np.random.default_rng(0).integers(30, size=(100, 30))
    draws = [spearmanr(x[one], y[one]).statistic for one in index]
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(draws, [0.025, 0.975])))
    x[3], y[7] = np.nan, np.nan
    kept = ~np.isnan(x) & ~np.isnan(y)
    assert localizing.rank_correlation(x, y).value == pytest.approx(spearmanr(x[kept], y[kept]).statistic)


def test_rank_correlation_by_hand_and_where_there_is_none():
    x = np.array([1.0, 2, 3, 4])
    assert localizing.rank_correlation(x, x**3).value == pytest.approx(1)
    assert localizing.rank_correlation(x, -x).value == pytest.approx(-1)
    assert np.isnan(localizing.rank_correlation(x, np.ones(4)).value)
    assert np.isnan(localizing.rank_correlation(x[:2], x[:2])).all()
    assert localizing.rank_correlation(x[:3], x[:3]).value == pytest.approx(1)
