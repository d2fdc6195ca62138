"""Object proposals: windows and their scores by brute force, suppression beside torchvision's, and box files."""

import math

import numpy as np
import pytest
import torch
import torchvision

from mlic_core.errors import InputError
from mlic_core.models.proposals import (
    SHAPES,
    SIDES,
    BoxFile,
    Windows,
    contrast,
    coverage,
    proposal_source,
    suppress,
    windows,
)

HEADER = "id,x0,y0,x1,y1,score"


def test_windows_lie_inside_the_image():
    found = windows()
    assert found.min() >= 0 and found.max() <= 1
    assert (found[:, :2] < found[:, 2:]).all() and len(found.unique(dim=0)) == len(found)


def by_size():
    """Corners x0, y0 of the windows of each size."""
    groups = {}
    for x0, y0, x1, y1 in windows().double().tolist():
        groups.setdefault((round(x1 - x0, 4), round(y1 - y0, 4)), []).append((x0, y0))
    return groups


def test_windows_have_every_side_and_shape():
    found = {(round(math.sqrt(width * height), 2), round(width / height, 2)) for width, height in by_size()}
    assert found == {(side, shape) for side in SIDES for shape in SHAPES}


def test_windows_of_a_size_stand_on_a_grid_from_edge_to_edge():
    """A quarter of the side from one to the next, as nearly as a whole number of steps allows."""
    for (width, height), corners in by_size().items():
        step = math.sqrt(width * height) / 4
        xs, ys = (sorted({round(corner[axis], 5) for corner in corners}) for axis in (0, 1))
        assert len(corners) == len(xs) * len(ys)
        for places, length in ((xs, width), (ys, height)):
            np.testing.assert_allclose(places, np.linspace(0, 1 - length, len(places)), atol=1e-4)
            assert abs(len(places) - 1 - (1 - length) / step) <= 0.5 + 1e-3


FINE = 120  # points a side of the image; 4 rows and 5 columns of cells divide it


def counted(boxes, rows, columns):
    """Share of each cell's fine points that lie in each box."""
    points = (np.arange(FINE) + 0.5) / FINE
    shares = []
    for x0, y0, x1, y1 in boxes.double().tolist():
        inside = np.outer((y0 < points) & (points < y1), (x0 < points) & (points < x1))
        shares.append(inside.reshape(rows, FINE // rows, columns, FINE // columns).mean((1, 3)).ravel())
    return np.array(shares)


def fine_boxes(count, low=0, high=FINE, seed=0):
    """Boxes whose edges lie between fine points."""
    numbers = np.random.default_rng(seed)
    corners = [np.sort(numbers.choice(np.arange(low, high + 1), (2, 2), replace=False), 0) for _ in range(count)]
    return torch.tensor(np.array(corners).reshape(-1, 4) / FINE, dtype=torch.float32)


@pytest.mark.parametrize(("low", "high"), [(0, FINE), (-60, FINE + 60)])  # the second over the image's edge
def test_coverage_equals_counting_points(low, high):
    boxes = fine_boxes(50, low, high)
    found = coverage(boxes, 4, 5)
    np.testing.assert_allclose(found.numpy(), counted(boxes, 4, 5), rtol=0, atol=1e-5)


def test_coverage_by_hand():
    """A box of the left half and the upper quarter, on two rows of four cells."""
    found = coverage(torch.tensor([[0.0, 0.0, 0.5, 0.25]]), 2, 4)
    assert found.tolist() == [[0.5, 0.5, 0, 0, 0, 0, 0, 0]]


def test_contrast_equals_plain_loops():
    """Box and ring by counting points: the ring is half a side wide and ends at the image's edge."""
    maps = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    boxes = fine_boxes(30, seed=1)
    boxes[:, 2:] = boxes[:, :2] + torch.round((boxes[:, 2:] - boxes[:, :2]) * FINE / 2) * 2 / FINE  # even sides
    found = contrast(maps, boxes)
    norms = np.sqrt((maps.double().numpy() ** 2).sum(1)).reshape(2, -1)
    half = (boxes[:, 2:] - boxes[:, :2]) / 2
    inner = counted(boxes, 4, 5)
    rings = counted(torch.cat([boxes[:, :2] - half, boxes[:, 2:] + half], 1), 4, 5) - inner
    for image in range(2):
        for number, (box, inside, ring) in enumerate(zip(boxes.double().tolist(), inner, rings, strict=True)):
            if inside.sum() < 0.05 or ring.sum() < 0.05:  # a line, or the whole image
                continue
            difference = (norms[image] * inside).sum() / inside.sum() - (norms[image] * ring).sum() / ring.sum()
            expected = difference * math.sqrt((box[2] - box[0]) * (box[3] - box[1]))
            assert found[image, number].item() == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("square", [(4, 4, 12, 12), (0, 8, 8, 16), (10, 2, 14, 6)])
def test_the_best_window_is_a_bright_square(square):
    x0, y0, x1, y1 = square
    maps = 0.1 * torch.ones(1, 2, 16, 16)
    maps[:, 1, y0:y1, x0:x1] = -3  # brightness is the norm, whatever the sign
    (best,) = Windows().propose(maps, 1)[0].tolist()
    assert best == pytest.approx([side / 16 for side in square], abs=1e-6)


def test_an_even_map_prefers_no_window():
    assert contrast(torch.ones(1, 3, 6, 7), windows()).abs().max() < 1e-5


@pytest.mark.parametrize("seed", range(4))
def test_suppression_equals_torchvision_s(seed):
    generator = torch.Generator().manual_seed(seed)
    low = torch.rand(80, 2, generator=generator) * 0.3
    boxes = torch.cat([low, low + 0.4 + 0.3 * torch.rand(80, 2, generator=generator)], 1)
    scores = torch.randn(3, 80, generator=generator)
    found = suppress(scores, boxes, 20)
    for image in range(3):
        expected = torchvision.ops.nms(boxes, scores[image], 0.7)
        assert 20 <= len(expected) < 80
        assert torch.equal(found[image], boxes[expected[:20]])


def test_windows_are_proposed_for_each_image_alone():
    maps = torch.randn(3, 4, 7, 7, generator=torch.Generator().manual_seed(0))
    together = Windows().propose(maps, 5)
    assert together.shape == (3, 5, 4)
    for image in range(3):
        assert torch.equal(together[image], Windows().propose(maps[image : image + 1], 5)[0])
        assert torchvision.ops.box_iou(together[image], together[image]).fill_diagonal_(0).max() <= 0.7


def box_file(tmp_path, *rows, header=HEADER):
    path = tmp_path / "boxes.csv"
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return str(path)


WHOLE = [0, 0, 1, 1]


def test_a_box_file_gives_each_image_its_best_boxes_first(tmp_path):
    path = box_file(tmp_path, "a,0,0,0.5,0.5,-2", "b,0.25,0.25,1,1,7", "a,0.5,0.5,1,1,0.25", "", "a,0,0.5,0.5,1,1e-1")
    found = BoxFile(path).of(["b", "a", "b"], 2)
    first, second = [0.5, 0.5, 1, 1], [0, 0.5, 0.5, 1]
    assert found.tolist() == [[[0.25, 0.25, 1, 1], WHOLE], [first, second], [[0.25, 0.25, 1, 1], WHOLE]]


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path):
    found = BoxFile(box_file(tmp_path, "a,0,0,0.5,0.5,1", header=f"\ufeff{HEADER}")).of(["a"], 1)
    assert found.tolist() == [[[0, 0, 0.5, 0.5]]]


def test_places_without_a_box_get_the_whole_image(tmp_path):
    found = BoxFile(box_file(tmp_path, "a,0,0,0.5,0.5,1")).of(["a"], 3)
    assert found.tolist() == [[[0, 0, 0.5, 0.5], WHOLE, WHOLE]]


def test_a_box_that_overlaps_a_better_one_goes(tmp_path):
    """Two pairs: with IoU .9 the worse goes, and one with IoU .3/.45 = .67 stays."""
    path = box_file(tmp_path, "a,0,0,0.5,0.5,0.5", "a,0,0,0.5,0.45,0.9", "a,0,0,0.5,0.3,0.1")
    found = BoxFile(path).of(["a"], 3)[0]
    torch.testing.assert_close(found, torch.tensor([[0, 0, 0.5, 0.45], [0, 0, 0.5, 0.3], WHOLE]))


def test_boxes_of_one_image_do_not_suppress_another_s(tmp_path):
    found = BoxFile(box_file(tmp_path, "a,0,0,0.5,0.5,1", "b,0,0,0.5,0.5,2"))
    assert found.of(["a", "b"], 1).tolist() == [[[0, 0, 0.5, 0.5]]] * 2


def test_a_missing_image_is_named(tmp_path):
    path = box_file(tmp_path, "a,0,0,0.5,0.5,1")
    with pytest.raises(InputError, match=r"boxes\.csv has no box for image b; add its rows"):
        BoxFile(path).of(["a", "b"], 1)


@pytest.mark.parametrize(
    "row",
    ["a,0,0,0.5", "a,0,0,0.5,x,1", "a,0.5,0,0.5,1,1", "a,0.6,0,0.5,1,1", "a,0,0.6,1,0.5,1", "a,-0.1,0,1,1,1",
     "a,0,0,1,1.1,1", "a,nan,0,1,1,1", "a,0,0,1,1,", "a", "a,0,0,1,1,nan", "a,0,0,1,1,1,7"],
)  # fmt: skip
def test_a_malformed_line_is_named_with_its_file(tmp_path, row):
    path = box_file(tmp_path, "a,0,0,0.5,0.5,1", "", row, "a,0,0,1,1,1")
    with pytest.raises(InputError, match=r"boxes\.csv, line 4: no box in it; give id,x0,y0,x1,y1,score"):
        BoxFile(path)


@pytest.mark.parametrize("header", ["id,x0,y0,x1,y1", "id,x,y,w,h,score", "a,0,0,0.5,0.5,1", ""])
def test_a_wrong_first_line_is_refused_with_the_right_one(tmp_path, header):
    path = box_file(tmp_path, "a,0,0,0.5,0.5,1", header=header)
    with pytest.raises(InputError, match=rf"boxes\.csv: the first line has to be {HEADER}"):
        BoxFile(path)


def test_an_unreadable_file_is_named(tmp_path):
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    for name in ("absent.csv", "binary", "."):
        with pytest.raises(InputError, match="cannot read this file") as error:
            BoxFile(str(tmp_path / name))
        assert f"proposals={tmp_path / name}" in str(error.value)


def test_the_digest_is_the_content_s(tmp_path):
    rows = ("a,0,0,0.5,0.5,1", "b,0,0,1,1,1")
    (tmp_path / "other").mkdir()
    first, again = BoxFile(box_file(tmp_path, *rows)), BoxFile(box_file(tmp_path / "other", *rows))
    assert first.digest == again.digest != BoxFile(box_file(tmp_path, *rows[:1])).digest


def test_a_digest_stands_for_a_file_without_its_boxes(tmp_path):
    kept = BoxFile(box_file(tmp_path, "a,0,0,1,1,1"))
    known = BoxFile(f"sha256:{kept.digest}")
    assert known.digest == kept.digest
    with pytest.raises(InputError, match=f"proposals=sha256:{kept.digest} has no box for image a"):
        known.of(["a"], 1)


def test_sources_by_their_option(tmp_path):
    assert proposal_source("") is None
    assert isinstance(proposal_source("windows"), Windows)
    assert isinstance(proposal_source(box_file(tmp_path, "a,0,0,1,1,1")), BoxFile)
