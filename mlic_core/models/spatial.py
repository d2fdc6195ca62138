"""The spatial transformer (RDAR §3.1), and the views of an image that are cut from its maps with it.

A transform (s_x, s_y, t_x, t_y) stands for the matrix M of Eq. 1. It takes the square [-1, 1]², which the output spans,
to the region with centre t and half sides s in the input, whose edges are at -1 and 1.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mlic_core.errors import InputError

IDENTITY = (1.0, 1.0, 0.0, 0.0)
FIVE = ((0.0, 0.0), (-1.0, -1.0), (1.0, -1.0), (-1.0, 1.0), (1.0, 1.0))  # x, y of the centre and the four corners


def spatial_transform(
    maps: Float[Tensor, "batch channels rows columns"], transforms: Float[Tensor, "batch 4"], side: tuple[int, int]
) -> Float[Tensor, "batch channels sampled_rows sampled_columns"]:
    """st(f, M): each image's region, sampled bilinearly at `side` (rows, columns) places (Eq. 2); 0 outside the input.

    Places are the centres of cells, so that the identity at the input's own size returns the input.
    """
    s, t = transforms[:, :2], transforms[:, 2:]
    matrices = torch.cat([torch.diag_embed(s), t[..., None]], 2)  # Eq. 1
    grid = nn.functional.affine_grid(matrices, [len(maps), maps.shape[1], *side], align_corners=False)
    return nn.functional.grid_sample(maps, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def compose(outer: Float[Tensor, "*#batch 4"], inner: Float[Tensor, "*#batch 4"]) -> Float[Tensor, "*#batch 4"]:
    """The transform of a region `inner` of a region `outer`, seen from the whole."""
    scale, centre = outer[..., :2], outer[..., 2:]
    return torch.cat([scale * inner[..., :2], centre + scale * inner[..., 2:]], -1)


def to_boxes(transforms: Float[Tensor, "*batch 4"]) -> Float[Tensor, "*batch 4"]:
    """Regions as x0, y0, x1, y1 in units of the image's sides.

    Neither sorted nor cut at the image's edge: x0 > x1 tells of a region that is mirrored.
    """
    s, t = transforms[..., :2], transforms[..., 2:]
    return torch.cat([t - s + 1, t + s + 1], -1) / 2


def to_transforms(boxes: Float[Tensor, "*batch 4"]) -> Float[Tensor, "*batch 4"]:
    """The inverse of `to_boxes`."""
    low, high = boxes[..., :2], boxes[..., 2:]
    return torch.cat([high - low, high + low - 1], -1)


def tidy(boxes: Float[Tensor, "*batch 4"]) -> Float[Tensor, "*batch 4"]:
    """Boxes with x0 <= x1 and y0 <= y1, cut at the image's edge."""
    low = torch.minimum(boxes[..., :2], boxes[..., 2:])
    high = torch.maximum(boxes[..., :2], boxes[..., 2:])
    return torch.cat([low, high], -1).clamp(0, 1)


def crop_size(maps: Float[Tensor, "batch channels rows columns"], share: float) -> tuple[int, int]:
    """Rows and columns, in whole cells, of a crop of `share` of each side. Raises InputError if none is left."""
    rows, columns = (round(cells * share) for cells in maps.shape[2:])
    if not (rows and columns):
        raise InputError(f"crop={share} leaves nothing of a map of {maps.shape[2]} x {maps.shape[3]} cells")
    return rows, columns


def random_crop(
    maps: Float[Tensor, "batch channels rows columns"], share: float
) -> Float[Tensor, "batch channels kept_rows kept_columns"]:
    """A crop of `share` of each side, at a place drawn for each image among whole cells."""
    rows, columns = crop_size(maps, share)
    room = maps.shape[3] - columns, maps.shape[2] - rows
    if room == (0, 0):
        return maps
    drawn = [torch.randint(steps + 1, (len(maps),), device=maps.device) / max(steps, 1) for steps in room]
    places = 2 * torch.stack(drawn, 1) - 1
    return spatial_transform(maps, _at(maps, (rows, columns), places), (rows, columns))


def five_crops(maps: Float[Tensor, "batch channels rows columns"], share: float) -> Float[Tensor, "5 4"]:
    """Transforms of the centre and the four corners. The centre may fall between two cells."""
    return _at(maps, crop_size(maps, share), torch.tensor(FIVE, device=maps.device))


def _at(maps: Tensor, side: tuple[int, int], places: Float[Tensor, "crops 2"]) -> Float[Tensor, "crops 4"]:
    """Transforms of crops whose places (x, y) go from -1, at the left or top edge, to 1."""
    scale = torch.tensor([side[1] / maps.shape[3], side[0] / maps.shape[2]], device=maps.device)
    return torch.cat([scale.expand(len(places), 2), places * (1 - scale)], 1)


def crop(
    maps: Float[Tensor, "batch channels rows columns"], transforms: Float[Tensor, "crops 4"], share: float
) -> Float[Tensor, "crops*batch channels kept_rows kept_columns"]:
    """All crops of all images: the first crop of every image, then the second ones."""
    repeated = maps.repeat(len(transforms), 1, 1, 1)
    return spatial_transform(repeated, transforms.repeat_interleave(len(maps), 0), crop_size(maps, share))
