"""MCAR: multi-class attentional regions (Gao & Zhou, IEEE TIP 2021).

A global stream scores the image; the class maps of its `topN` best classes each give one region; the same
network scores the enlarged regions; the image's scores are the maximum over both streams.
"""

import math
from typing import Literal

import torch
from jaxtyping import Float, Int, Int8, Num
from torch import Tensor, nn

from mlic_core.errors import InputError, check_choice
from mlic_core.losses import binary_cross_entropy
from mlic_core.models.pooling import ClassHead, Pooling
from mlic_core.models.prediction import Prediction

Selection = Literal["top", "random", "bottom"]
Learning = Literal["pair", "single"]
Rule = Literal["paper"]


class MCAR(nn.Module):
    """Two streams that share one network (§III).

    topN: regions an image, 0 to the number of classes; 0 is the baseline. tau: threshold of Eq. 7 in [0, 1].
    selection: which class maps give regions, by global score: "top", "bottom" or "random" (Table V).
    learning: "pair" adds the losses of both streams (Eq. 8), "single" takes that of the fused scores (Eq. 12).
    min_fraction: least side of a region, relative to the image's. Raises InputError for an impossible value.
    """

    def __init__(
        self,
        trunk: nn.Module,
        num_classes: int,
        *,
        pooling: Pooling = "gap",
        gwp_weight: float = 0.5,
        topN: int = 4,
        tau: float = 0.5,
        selection: Selection = "top",
        learning: Learning = "pair",
        min_fraction: float = 0.125,
    ):
        super().__init__()
        check_choice("selection", selection, Selection)
        check_choice("learning", learning, Learning)
        if not 0 <= topN <= num_classes:
            raise InputError(f"topN={topN}: choose 0 to {num_classes}, the number of classes")
        for name, value in (("tau", tau), ("min_fraction", min_fraction)):
            if not 0 <= value <= 1:
                raise InputError(f"{name}={value}: choose a number in [0, 1]")
        self.trunk = trunk
        self.head = ClassHead(trunk.out_channels, num_classes, pooling, gwp_weight)
        self.topN, self.tau, self.min_fraction = topN, tau, min_fraction
        self.selection, self.learning = selection, learning

    def forward(
        self, images: Float[Tensor, "batch 3 height width"], targets: Int8[Tensor, "batch classes"] | None = None
    ) -> Prediction:
        """Score normalised images; `targets` are not used. `steps` holds the global and the local scores."""
        features = self.trunk(images)
        global_logits = self.head(features)
        if self.topN == 0:
            return Prediction(global_logits, torch.stack([global_logits, global_logits], 1))
        height, width = images.shape[2:]
        sides = (width, height, width, height)
        with torch.no_grad():  # regions carry no gradient into the localisation
            classes = self.select(global_logits)
            maps = select_maps(self.head.class_maps(features), classes).sigmoid()
            boxes = localize(maps, (height, width), self.tau, min_fraction=self.min_fraction)
            crops = crop(images, boxes)
        region_logits = self.head(self.trunk(crops.flatten(0, 1))).unflatten(0, crops.shape[:2])
        local_logits = region_logits.amax(1)  # Eq. 3
        return Prediction(
            logits=torch.maximum(global_logits, local_logits),  # Eq. 11
            steps=torch.stack([global_logits, local_logits], 1),
            regions=torch.stack([edge / side for edge, side in zip(boxes.unbind(-1), sides, strict=True)], -1),
            region_labels=classes,
            maps=maps,
        )

    def select(self, global_logits: Float[Tensor, "batch classes"]) -> Int[Tensor, "batch regions"]:
        """The classes whose maps give regions (§III-B.2; Table V)."""
        if self.selection == "random":
            return torch.rand_like(global_logits).topk(self.topN, 1).indices
        return global_logits.topk(self.topN, 1, largest=self.selection == "top").indices

    def loss(self, prediction: Prediction, targets: Int8[Tensor, "batch classes"]) -> dict[str, Tensor]:
        """Eq. 8 and 9 ("pair"), or Eq. 12 on the fused scores ("single")."""
        if self.topN == 0 or self.learning == "single":
            return {"bce": binary_cross_entropy(prediction.logits, targets)}
        return {
            "global": binary_cross_entropy(prediction.steps[:, 0], targets),
            "local": binary_cross_entropy(prediction.steps[:, 1], targets),
        }

    def param_groups(self, recipe) -> list[dict]:
        """The trunk at `recipe.lr`, the new classifier at `recipe.head_lr` (§IV-A.1: 0.001 and 0.01)."""
        return [
            {"params": list(self.trunk.parameters()), "lr": recipe.lr},
            {"params": list(self.head.parameters()), "lr": recipe.head_lr},
        ]


def select_maps(
    class_maps: Float[Tensor, "batch classes rows columns"], classes: Int[Tensor, "batch regions"]
) -> Float[Tensor, "batch regions rows columns"]:
    """The maps of the given classes."""
    index = classes[:, :, None, None].expand(-1, -1, *class_maps.shape[2:])
    return class_maps.gather(1, index)


def localize(
    maps: Float[Tensor, "batch regions rows columns"],
    size: int | tuple[int, int],
    tau: float = 0.5,
    *,
    rule: Rule = "paper",
    min_fraction: float = 0.125,
) -> Int[Tensor, "batch regions 4"]:
    """One box for each class map (§III-B.3): x0, y0, x1, y1 in pixels, half-open.

    maps: after the sigmoid, at the trunk's resolution. size: side of the image, or (height, width). tau: in [0, 1];
    0 gives the whole image. min_fraction: least side of a box relative to the image's. rule: "paper" is Eq. 5 to 7.
    """
    check_choice("rule", rule, Rule)
    height, width = (size, size) if isinstance(size, int) else size
    across, down = profiles(maps, height, width)
    x0, x1 = widen(*peak_interval(normalise(across), tau), width, min_fraction)
    y0, y1 = widen(*peak_interval(normalise(down), tau), height, min_fraction)
    return torch.stack([x0, y0, x1, y1], -1)


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


def crop(
    images: Float[Tensor, "batch channels height width"], boxes: Int[Tensor, "batch regions 4"]
) -> Float[Tensor, "batch regions channels height width"]:
    """Cut the boxes out and enlarge them to the images' size: one bilinear `grid_sample`, corners aligned.

    Equal to slicing [y0:y1, x0:x1] and resizing, since a sample never leaves its box.
    """
    height, width = images.shape[2:]
    x0, y0, x1, y1 = boxes.to(images).unbind(-1)
    x = _positions(x0, x1 - 1, width)
    y = _positions(y0, y1 - 1, height)
    grid = torch.stack(torch.broadcast_tensors(x[:, :, None, :], y[:, :, :, None]), -1)
    # Regions are stacked along the height, so that the images need not be repeated.
    regions = boxes.shape[1]
    cut = nn.functional.grid_sample(images, grid.flatten(1, 2), "bilinear", "border", align_corners=True)
    return cut.unflatten(2, (regions, height)).transpose(1, 2)


def _positions(first: Tensor, last: Tensor, size: int) -> Tensor:
    """`size` equidistant samples from the first to the last pixel of each box, in grid_sample's [-1, 1]."""
    steps = torch.linspace(0, 1, size, device=first.device, dtype=first.dtype)
    pixels = first[..., None] + (last - first)[..., None] * steps
    return pixels * (2 / max(size - 1, 1)) - 1
