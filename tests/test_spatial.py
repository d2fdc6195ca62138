"""The spatial transformer beside plain loops, and crops beside slices."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mlic_core.errors import InputError
from mlic_core.models.spatial import (
    IDENTITY,
    compose,
    crop,
    crop_size,
    five_crops,
    random_crop,
    spatial_transform,
    tidy,
    to_boxes,
    to_transforms,
)


def bilinear(maps, transform, side):
    """One image's region (Eq. 1, 2), place by place: a value stands at its cell's centre, and 0 outside the map."""
    channels, rows, columns = maps.shape
    s_x, s_y, t_x, t_y = transform
    out = np.zeros((channels, *side))
    for i, j in np.ndindex(*side):
        x = s_x * ((2 * j + 1) / side[1] - 1) + t_x
        y = s_y * ((2 * i + 1) / side[0] - 1) + t_y
        column, row = ((x + 1) * columns - 1) / 2, ((y + 1) * rows - 1) / 2
        for r in (math.floor(row), math.floor(row) + 1):
            for c in (math.floor(column), math.floor(column) + 1):
                if 0 <= r < rows and 0 <= c < columns:
                    out[:, i, j] += (1 - abs(row - r)) * (1 - abs(column - c)) * maps[:, r, c]
    return out


def drawn(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def counting(batch, rows, columns):
    """Maps whose every cell has another value, image by image."""
    return torch.arange(batch * 2.0 * rows * columns).reshape(batch, 2, rows, columns)


TRANSFORMS = {
    "inside": (0.4, 0.3, 0.2, -0.5),
    "identity": IDENTITY,
    "left to right": (-1.0, 1.0, 0.0, 0.0),
    "mirrored both ways": (-0.7, -0.4, 0.1, 0.3),
    "over the edge": (0.6, 0.9, 0.8, -0.7),
    "larger than the image": (1.9, 2.4, 0.0, 0.3),
    "outside": (0.2, 0.2, 3.0, 0.0),
    "a point": (0.0, 0.0, 0.13, -0.21),
}


@pytest.mark.parametrize("name", TRANSFORMS)
@pytest.mark.parametrize(("cells", "side"), [((7, 7), (7, 7)), ((5, 8), (4, 4)), ((6, 3), (2, 9)), ((1, 4), (3, 5))])
def test_sampling_equals_plain_loops(name, cells, side):
    maps = drawn(2, 3, *cells)
    transforms = torch.tensor([TRANSFORMS[name], (0.5, -0.8, -0.3, 0.4)], dtype=torch.float64)
    found = spatial_transform(maps, transforms, side)
    for image in range(2):
        expected = bilinear(maps[image].numpy(), transforms[image].tolist(), side)
        np.testing.assert_allclose(found[image].numpy(), expected, rtol=0, atol=1e-12)
    assert name != "outside" or found[0].abs().max() == 0


@settings(max_examples=150, deadline=None)
@given(
    st.tuples(st.integers(1, 6), st.integers(1, 6)),
    st.tuples(st.integers(1, 5), st.integers(1, 5)),
    st.lists(st.floats(-2, 2), min_size=4, max_size=4),
)
def test_sampling_equals_plain_loops_whatever_the_transform(cells, side, transform):
    maps = drawn(1, 2, *cells, seed=cells[0])
    found = spatial_transform(maps, torch.tensor([transform], dtype=torch.float64), side)
    expected = bilinear(maps[0].numpy(), transform, side)
    np.testing.assert_allclose(found[0].numpy(), expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("cells", [(8, 8), (5, 9), (1, 1)])
def test_identity_at_the_input_s_own_size_returns_the_input(cells):
    maps = drawn(2, 3, *cells)
    whole = torch.tensor([IDENTITY], dtype=torch.float64).expand(2, 4)
    torch.testing.assert_close(spatial_transform(maps, whole, cells), maps, rtol=0, atol=1e-12)


def test_a_negative_scale_mirrors_its_own_axis():
    maps = drawn(1, 3, 4, 6)
    for transform, axis in (((-1.0, 1.0, 0.0, 0.0), 3), ((1.0, -1.0, 0.0, 0.0), 2)):
        found = spatial_transform(maps, torch.tensor([transform], dtype=torch.float64), (4, 6))
        torch.testing.assert_close(found, maps.flip(axis), rtol=0, atol=1e-12)


def test_gradients_of_maps_and_transforms_equal_finite_differences():
    cells, side = (4, 5), (3, 2)
    transforms = torch.tensor([[0.41, -0.53, 0.12, 0.07], [0.83, 1.21, -0.35, 0.23]], dtype=torch.float64)
    for s_x, s_y, t_x, t_y in transforms.tolist():  # bilinear sampling has no derivative at a cell's centre
        columns = [((s_x * ((2 * j + 1) / side[1] - 1) + t_x + 1) * cells[1] - 1) / 2 for j in range(side[1])]
        rows = [((s_y * ((2 * i + 1) / side[0] - 1) + t_y + 1) * cells[0] - 1) / 2 for i in range(side[0])]
        assert all(abs(place - round(place)) > 0.01 for place in columns + rows)
    inputs = drawn(2, 2, *cells).requires_grad_(), transforms.requires_grad_()
    assert torch.autograd.gradcheck(lambda maps, ts: spatial_transform(maps, ts, side), inputs)


def homogeneous(transform):
    s_x, s_y, t_x, t_y = transform
    return np.array([[s_x, 0, t_x], [0, s_y, t_y], [0, 0, 1]])


def test_composed_transforms_multiply_their_matrices():
    outer, inner = drawn(20, 4), drawn(20, 4, seed=1)
    for one, two, both in zip(outer.tolist(), inner.tolist(), compose(outer, inner).tolist(), strict=True):
        np.testing.assert_allclose(homogeneous(both), homogeneous(one) @ homogeneous(two), rtol=0, atol=1e-12)


def test_a_region_of_a_region_lies_in_the_same_share_of_its_box():
    outer, inner = drawn(20, 4), drawn(20, 4, seed=1)
    boxes = zip(to_boxes(outer).tolist(), to_boxes(inner).tolist(), strict=True)
    expected = [
        [x0 + u0 * (x1 - x0), y0 + v0 * (y1 - y0), x0 + u1 * (x1 - x0), y0 + v1 * (y1 - y0)]
        for (x0, y0, x1, y1), (u0, v0, u1, v1) in boxes
    ]
    np.testing.assert_allclose(to_boxes(compose(outer, inner)).numpy(), expected, rtol=0, atol=1e-12)


def test_one_outer_region_serves_many_inner_ones():
    outer, inner = drawn(2, 1, 4), drawn(2, 3, 4, seed=1)
    torch.testing.assert_close(compose(outer, inner)[1, 2], compose(outer[1, 0], inner[1, 2]))


def test_boxes_by_hand():
    transforms = torch.tensor([IDENTITY, (0.5, 0.25, 0.0, 0.5), (-0.5, 1.0, 0.5, 1.0)])
    expected = [[0, 0, 1, 1], [0.25, 0.625, 0.75, 0.875], [1, 0.5, 0.5, 1.5]]  # the last is mirrored, and over the edge
    assert to_boxes(transforms).tolist() == expected


def test_boxes_and_transforms_are_inverses():
    values = drawn(3, 7, 4)
    torch.testing.assert_close(to_transforms(to_boxes(values)), values, rtol=0, atol=1e-12)
    torch.testing.assert_close(to_boxes(to_transforms(values)), values, rtol=0, atol=1e-12)


def test_tidy_sorts_corners_and_cuts_at_the_edge():
    boxes = torch.tensor([[0.75, 0.125, 0.25, 0.5], [-0.5, 0.75, 0.5, 1.5], [0.25, 0.875, 0.5, 0.375], [2, 0, 3, 1]])
    expected = [[0.25, 0.125, 0.75, 0.5], [0, 0.75, 0.5, 1], [0.25, 0.375, 0.5, 0.875], [1, 0, 1, 1]]
    assert tidy(boxes).tolist() == expected


@pytest.mark.parametrize(("cells", "kept"), [((8, 8), (7, 7)), ((10, 10), (9, 9)), ((8, 10), (7, 9))])
def test_a_corner_crop_is_a_slice(cells, kept):
    maps = counting(3, *cells)
    assert crop_size(maps, 0.875) == kept
    corners = crop(maps, five_crops(maps, 0.875), 0.875).unflatten(0, (5, 3))[1:]
    low, high = slice(0, -1), slice(1, None)
    for found, rows, columns in zip(corners, (low, low, high, high), (low, high, low, high), strict=True):
        torch.testing.assert_close(found, maps[:, :, rows, columns], rtol=0, atol=1e-3)  # neighbours differ by 1


def test_the_centre_crop_from_8_to_7_cells_is_the_mean_of_four_neighbours():
    maps = drawn(2, 3, 8, 8, dtype=torch.float32)
    centre = crop(maps, five_crops(maps, 0.875)[:1], 0.875)
    expected = (maps[:, :, :-1, :-1] + maps[:, :, :-1, 1:] + maps[:, :, 1:, :-1] + maps[:, :, 1:, 1:]) / 4
    torch.testing.assert_close(centre, expected, rtol=0, atol=1e-5)


def test_the_centre_crop_is_a_slice_where_the_room_is_even():
    maps = counting(1, 10, 5)
    centre = crop(maps, five_crops(maps, 0.6)[:1], 0.6)
    torch.testing.assert_close(centre, maps[:, :, 2:8, 1:4], rtol=0, atol=1e-3)


def test_crops_come_as_the_first_of_every_image_then_the_second():
    maps = counting(3, 10, 10)
    places = five_crops(maps, 0.8)
    together = crop(maps, places, 0.8)
    assert together.shape == (15, 2, 8, 8)
    for number in range(5):
        for image in range(3):
            alone = crop(maps[image : image + 1], places[number : number + 1], 0.8)[0]
            torch.testing.assert_close(together[3 * number + image], alone, rtol=0, atol=1e-3)


def test_random_crops_lie_at_whole_cells_and_each_occurs():
    """3 x 2 places on a map of 8 x 5 cells, of which each image draws its own."""
    torch.manual_seed(0)
    maps = counting(1, 8, 5).expand(200, -1, -1, -1)
    places = {(y, x): maps[0, :, y : y + 6, x : x + 4] for y in range(3) for x in range(2)}
    drawn_places = []
    for image in random_crop(maps, 0.75):
        assert image.shape == (2, 6, 4)
        fitting = [place for place, part in places.items() if (image - part).abs().max() < 1e-3]
        assert len(fitting) == 1
        drawn_places += fitting
    assert set(drawn_places) == set(places)


def test_random_crops_follow_the_seed():
    maps = counting(8, 8, 8)
    crops = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        crops.append(random_crop(maps, 0.5))
    assert torch.equal(crops[0], crops[1]) and not torch.equal(crops[0], crops[2])


def test_a_crop_of_everything_returns_the_very_maps():
    maps = counting(2, 8, 8)
    assert random_crop(maps, 1.0) is maps
    assert random_crop(maps, 0.95) is maps  # 7.6 cells are 8


@pytest.mark.parametrize("cells", [(3, 8), (8, 3)])
def test_a_crop_that_leaves_nothing_is_refused_with_the_map_s_size(cells):
    with pytest.raises(InputError, match=rf"crop=0.125 leaves nothing of a map of {cells[0]} x {cells[1]} cells"):
        random_crop(counting(1, *cells), 0.125)
