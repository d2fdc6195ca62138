"""MCAR's regions: one box from each class map (Gao & Zhou, IEEE TIP 2021, §III-B.3), and the crops it gives.

A map's column and row maxima are two profiles; an interval of each makes a box. Two rules choose the interval: that of
the paper, and that of the authors' code, which their released weights were trained with (FIDELITY). Everything is
batched over images and regions and stays on the maps' device.
"""

import math
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int, Num
from torch import Tensor, nn

from mlic_core.errors import InputError, check_choice

Rule = Literal["paper", "official"]
CORNER = 0.625  # side of a corner box, as a share of the image's
SIDES = 0.25, 0.75  # least and greatest side of a random box
OFFICIAL_FRACTION = 0.125  # least side of a box in the authors' code, where it can't be chosen


def localize(
    maps: Float[Tensor, "batch regions rows columns"],
    size: int | tuple[int, int],
    tau: float = 0.5,
    *,
    rule: Rule = "paper",
    min_fraction: float = 0.125,
) -> Int[Tensor, "batch regions 4"]:
    """One box for each class map (§III-B.3): x0, y0, x1, y1 in pixels, half-open, inside the image and not empty.

    maps: after the sigmoid, at the trunk's resolution. size: side of the image, or (height, width). tau: in [0, 1].
    rule: "paper" is Eq. 5 to 7, where tau 0 gives the whole image; "official" is `official_interval` in place of Eq. 7.
    min_fraction: least side of a box relative to the image's; the official rule has its own and takes no other.
    """
    check_rule(rule, min_fraction)
    height, width = (size, size) if isinstance(size, int) else size
    across, down = profiles(maps, height, width)
    x0, x1 = interval(across, tau, rule, min_fraction)
    y0, y1 = interval(down, tau, rule, min_fraction)
    return torch.stack([x0, y0, x1, y1], -1)


def check_rule(rule: str, min_fraction: float) -> None:
    """Raises InputError for an unknown rule, or a least side that the official rule does not have."""
    check_choice("rule", rule, Rule)
    if rule == "official" and min_fraction != OFFICIAL_FRACTION:
        raise InputError(f"min_fraction={min_fraction}: rule 'official' has {OFFICIAL_FRACTION}; leave it out")


def interval(
    profile: Float[Tensor, "batch regions length"], tau: float, rule: Rule, min_fraction: float
) -> tuple[Int[Tensor, "batch regions"], Int[Tensor, "batch regions"]]:
    """Start and end (half-open) of the side of a box, from a profile as it comes."""
    length = profile.shape[-1]
    if rule == "paper":
        return widen(*peak_interval(normalise(profile), tau), length, min_fraction)
    start, end = official_interval(normalise(profile), tau)
    # On a side of up to 8 pixels it can be empty, where the authors' code would fail; it's given a pixel.
    start = start.clamp(max=length - 1)
    return start, torch.maximum(end, start + 1)


def profiles(
    maps: Float[Tensor, "batch regions rows columns"], height: int, width: int
) -> tuple[Float[Tensor, "batch regions width"], Float[Tensor, "batch regions height"]]:
    """Column and row maxima of the maps, enlarged bilinearly to height x width with aligned corners (Eq. 5).

    Between two neighbouring map rows the enlarged map is linear, so its maximum lies on one of the pixel rows next to
    a map row: only these are evaluated, and the enlarged map itself is never made.
    """
    rows, columns = maps.shape[2:]
    all_rows, all_columns = (torch.arange(size, device=maps.device) for size in (height, width))
    to_rows, to_columns = interpolation(all_rows, rows, height), interpolation(all_columns, columns, width)
    next_rows = interpolation(beside_grid(rows, height, maps.device), rows, height)
    next_columns = interpolation(beside_grid(columns, width, maps.device), columns, width)
    across = (next_rows.to(maps.dtype) @ maps @ to_columns.to(maps.dtype).T).amax(2)
    down = (to_rows.to(maps.dtype) @ maps @ next_columns.to(maps.dtype).T).amax(3)
    return across, down


def interpolation(at: Num[Tensor, " points"], cells: int, pixels: int) -> Float[Tensor, "points cells"]:
    """Weights of the map's cells at the given pixels, when `cells` are spread over `pixels` with aligned corners."""
    position = at.double() * (cells - 1) / max(pixels - 1, 1)
    return (1 - (position[:, None] - torch.arange(cells, device=at.device)).abs()).clamp(min=0)


def beside_grid(cells: int, pixels: int, device: torch.device) -> Float[Tensor, " points"]:
    """Pixels on or next to the centre of a map cell, where a piecewise linear profile can have its maximum."""
    centre = torch.arange(cells, device=device, dtype=torch.float64) * (pixels - 1) / max(cells - 1, 1)
    return torch.cat([centre.floor(), centre.ceil()])


def normalise(profile: Float[Tensor, "batch regions length"]) -> Float[Tensor, "batch regions length"]:
    """Min-max normalisation (Eq. 6); a flat profile becomes all ones, so that its interval is the whole side."""
    low, high = profile.amin(-1, keepdim=True), profile.amax(-1, keepdim=True)
    spread = high - low
    flat = spread <= 8 * torch.finfo(profile.dtype).eps * high.abs()  # rounding in the interpolation is no profile
    # The maximum must become 1 to the bit: peaks are found by equality.
    return torch.where(flat | (profile == high), 1.0, (profile - low) / torch.where(flat, 1.0, spread))


def peak_interval(
    profile: Float[Tensor, "batch regions length"], tau: float
) -> tuple[Int[Tensor, "batch regions"], Int[Tensor, "batch regions"]]:
    """Start and end (half-open) of the run of values >= tau that holds the maximum (Eq. 7).

    Among several maxima the widest run is taken (Fig. 3c), among equally wide ones the leftmost.
    """
    length = profile.shape[-1]
    inside = profile >= tau
    position = torch.arange(length, device=profile.device).expand_as(profile)
    # Every position learns the last position outside its run on the left, and the first one on the right.
    before = torch.where(inside, -1, position).cummax(-1).values
    after = torch.where(inside, length, position).flip(-1).cummin(-1).values.flip(-1)
    is_peak = profile == profile.amax(-1, keepdim=True)
    widest = torch.where(is_peak, after - before, -1).argmax(-1, keepdim=True)  # the first of equals
    return before.gather(-1, widest)[..., 0] + 1, after.gather(-1, widest)[..., 0]


def widen(
    start: Int[Tensor, "batch regions"], end: Int[Tensor, "batch regions"], length: int, min_fraction: float
) -> tuple[Int[Tensor, "batch regions"], Int[Tensor, "batch regions"]]:
    """Grow intervals shorter than `min_fraction` of the side, evenly to both sides, and keep them inside."""
    least = math.ceil(min_fraction * length)
    size = (end - start).clamp(min=least)
    start = (start - (size - (end - start)) // 2).clamp(min=0)
    start = torch.minimum(start, length - size)
    end = start + size
    return start, end


def official_interval(
    profile: Float[Tensor, "*regions length"], tau: float
) -> tuple[Int[Tensor, "*regions"], Int[Tensor, "*regions"]]:
    """Start and end (half-open) by the authors' code (FIDELITY), for a profile with a maximum above 0.

    The profile is cut where its values change sides of tau, one position before the change; of these pieces, whether
    above tau or below, the one with the largest value is taken, among equals the longest, then the first of the order
    below. Other than in Eq. 7, a piece can begin with the last value of the one before and so be the valley next to
    the peak; a value equal to tau hides a change; and a profile without a change gives the middle three quarters,
    which is what tau 0, tau 1 and a flat profile come to.
    """
    length = profile.shape[-1]
    crossed = crossings(profile, tau)
    position = torch.arange(length, device=profile.device).expand_as(profile)
    # Every position learns the last crossing up to itself, where its piece starts, and the next one, where it ends.
    begin = torch.where(crossed, position, 0).cummax(-1).values
    following = nn.functional.pad(torch.where(crossed, position, length)[..., 1:], (0, 1), value=length)
    end = following.flip(-1).cummin(-1).values.flip(-1)
    # Among equally long pieces: [0, z0) unless it is empty, then [z_last, length), then from the left.
    is_first, is_last = (begin == 0) & ~crossed[..., :1], end == length
    order = 3 * (end - begin) + 2 * is_first + 1 * is_last
    is_peak = profile == profile.amax(-1, keepdim=True)
    best = torch.where(is_peak, order, -1).argmax(-1, keepdim=True)  # the first of equals
    start, end = official_widen(begin.gather(-1, best)[..., 0], end.gather(-1, best)[..., 0], length)
    cut, eighth = crossed.any(-1), length // 8
    return torch.where(cut, start, -(-length // 8)), torch.where(cut, end, length - eighth)


def crossings(profile: Float[Tensor, "*regions length"], tau: float) -> Bool[Tensor, "*regions length"]:
    """Positions after which the profile changes sides of tau; a value equal to tau is on neither side."""
    above, below = profile > tau, profile < tau
    changes = (above[..., :-1] & below[..., 1:]) | (below[..., :-1] & above[..., 1:])
    return nn.functional.pad(changes, (0, 1))


def official_widen(
    start: Int[Tensor, "*regions"], end: Int[Tensor, "*regions"], length: int
) -> tuple[Int[Tensor, "*regions"], Int[Tensor, "*regions"]]:
    """Grow intervals of up to an eighth of the side as the authors' code does: three statements in turn (FIDELITY).

    The result lies in [0, length] but isn't always an eighth long: where an even number of pixels is lacking, it's one
    shorter (one of just an eighth loses a pixel), and where no statement applies, near an end, it stays as it was.
    Of up to 8 positions it can be empty, and `interval` then gives it one.
    """
    least = -(-length // 8)  # ceil(.125 length)
    lacking = least - (end - start)
    half, short = (lacking + 1) // 2, lacking >= 0
    inner = short & (start > half) & (length - end > lacking)
    start, end = torch.where(inner, start - half + 1, start), torch.where(inner, end + half, end)
    left = short & (start < half)
    start, end = torch.where(left, 0, start), torch.where(left, least, end)
    right = short & (length - end < half)
    return torch.where(right, length - least + 1, start), torch.where(right, length, end)


def select_maps(
    class_maps: Float[Tensor, "batch classes rows columns"], classes: Int[Tensor, "batch regions"]
) -> Float[Tensor, "batch regions rows columns"]:
    """The maps of the given classes."""
    index = classes[:, :, None, None].expand(-1, -1, *class_maps.shape[2:])
    return class_maps.gather(1, index)


def corners(size: tuple[int, int], device: torch.device) -> Int[Tensor, "4 4"]:
    """Boxes at the four corners of an image of (height, width), each with five eighths of its sides."""
    height, width = size
    h, w = round(CORNER * height), round(CORNER * width)
    places = [(x, y, x + w, y + h) for y in (0, height - h) for x in (0, width - w)]
    return torch.tensor(places, device=device)


def random_boxes(
    shape: tuple[int, int], size: tuple[int, int], device: torch.device
) -> Int[Tensor, "batch regions 4"]:
    """Boxes at random places of images of (height, width), each side a quarter to three quarters of the image's.

    shape: number of images, and of boxes in each.
    """
    edges = []
    for length in size[::-1]:
        low, high = SIDES
        side = ((low + (high - low) * torch.rand(shape, device=device)) * length).round().long()
        start = (torch.rand(shape, device=device) * (length - side + 1)).long()  # rand is below 1
        edges.append((start, start + side))
    (x0, x1), (y0, y1) = edges
    return torch.stack([x0, y0, x1, y1], -1)


def crop(
    images: Float[Tensor, "batch channels height width"],
    boxes: Int[Tensor, "batch regions 4"],
    size: tuple[int, int] | None = None,
) -> Float[Tensor, "batch regions channels cut_height cut_width"]:
    """Cut the boxes out and resize them to `size`, by default the images': one bilinear `grid_sample`, corners aligned.

    Equal to slicing [y0:y1, x0:x1] and resizing, since a sample never leaves its box.
    """
    height, width = size or images.shape[2:]
    x0, y0, x1, y1 = boxes.to(images).unbind(-1)
    x = _positions(x0, x1 - 1, width, images.shape[3])
    y = _positions(y0, y1 - 1, height, images.shape[2])
    grid = torch.stack(torch.broadcast_tensors(x[:, :, None, :], y[:, :, :, None]), -1)
    # Regions are stacked along the height, so that the images need not be repeated.
    regions = boxes.shape[1]
    cut = nn.functional.grid_sample(images, grid.flatten(1, 2), "bilinear", "border", align_corners=True)
    return cut.unflatten(2, (regions, height)).transpose(1, 2)


def _positions(first: Tensor, last: Tensor, count: int, size: int) -> Tensor:
    """`count` equidistant samples from the first to the last pixel of each box, in grid_sample's [-1, 1]."""
    steps = torch.linspace(0, 1, count, device=first.device, dtype=first.dtype)
    pixels = first[..., None] + (last - first)[..., None] * steps
    return pixels * (2 / max(size - 1, 1)) - 1
