"""MCAR: multi-class attentional regions (Gao & Zhou, IEEE TIP 2021).

A global stream scores the image; the class maps of its `topN` best classes each give one region; the same
network scores the enlarged regions; the image's scores are the maximum over both streams.
"""

from typing import Literal

import torch
from jaxtyping import Bool, Float, Int, Int8
from torch import Tensor, nn

from mlic_core.errors import InputError, check_choice
from mlic_core.losses import binary_cross_entropy
from mlic_core.models.localization import Rule, check_rule, corners, crop, localize, random_boxes, select_maps
from mlic_core.models.pooling import ClassHead, Pooling
from mlic_core.models.prediction import Prediction

Selection = Literal["top", "random", "bottom", "corners", "boxes"]
Learning = Literal["pair", "single"]
Source = Literal["input", "source"]
CONTROLS = ("corners", "boxes")  # selections that look at no map


class MCAR(nn.Module):
    """Two streams that share one network (§III).

    topN: regions an image, 0 to the number of classes; 0 is the baseline. tau: threshold of Eq. 7 in [0, 1].
    selection: which class maps give regions, by global score: "top", "bottom" or "random" (Table V). Two controls of
    equal compute look without a map: at four "corners" of the image, or at "boxes" drawn at random.
    learning: "pair" adds the losses of both streams (Eq. 8), "single" takes that of the fused scores (Eq. 12).
    rule: of localisation, see `localize`. min_fraction: least side of a region, relative to the image's.
    crop_from: with "source" the images are twice as large as what the trunk is shown: the global stream sees them
    reduced, and regions are cut from them as they are; data.size is then the source's.
    adaptive: in testing, a region is skipped whose class the global stream gives a lower probability; 0 skips none. It
    stays in `regions`, though its class can't gain from it.

    Raises InputError for an impossible value.
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
        rule: Rule = "paper",
        min_fraction: float = 0.125,
        crop_from: Source = "input",
        adaptive: float = 0.0,
    ):
        super().__init__()
        check_choice("selection", selection, Selection)
        check_choice("learning", learning, Learning)
        check_choice("crop_from", crop_from, Source)
        most, of_what = num_classes, "classes"
        if selection == "corners" and num_classes > 4:
            most, of_what = 4, "corners"
        if not 0 <= topN <= most:
            raise InputError(f"topN={topN}: choose 0 to {most}, the number of {of_what}")
        for name, value in (("tau", tau), ("min_fraction", min_fraction), ("adaptive", adaptive)):
            if not 0 <= value <= 1:
                raise InputError(f"{name}={value}: choose a number in [0, 1]")
        if adaptive and selection in CONTROLS:
            raise InputError(f"adaptive={adaptive}: regions of selection '{selection}' have no class; choose 0")
        check_rule(rule, min_fraction)
        self.trunk = trunk
        self.head = ClassHead(trunk.out_channels, num_classes, pooling, gwp_weight)
        self.topN, self.tau, self.rule, self.min_fraction = topN, tau, rule, min_fraction
        self.selection, self.learning = selection, learning
        self.crop_from, self.adaptive = crop_from, adaptive

    def forward(
        self, images: Float[Tensor, "batch 3 height width"], targets: Int8[Tensor, "batch classes"] | None = None
    ) -> Prediction:
        """Score normalised images; `targets` are not used. `steps` holds the global and the local scores."""
        seen = images if self.crop_from == "input" else halve(images)
        features = self.trunk(seen)
        global_logits = self.head(features)
        if self.topN == 0:
            return Prediction(global_logits, torch.stack([global_logits, global_logits], 1))
        height, width = images.shape[2:]
        with torch.no_grad():  # regions carry no gradient into the localisation
            classes = self.select(global_logits)
            maps = select_maps(self.head.class_maps(features), classes).sigmoid()
            boxes = self.boxes(maps, (height, width))
            crops = crop(images, boxes, seen.shape[2:])
            looked = self._looked_at(global_logits, classes)
        region_logits = self._score(crops, looked)
        local_logits = region_logits.amax(1)  # Eq. 3
        if looked is not None:  # where no region was looked at, the first look stands
            local_logits = torch.where(looked.any(1, keepdim=True), local_logits, global_logits)
        sides = (width, height, width, height)
        return Prediction(
            logits=torch.maximum(global_logits, local_logits),  # Eq. 11
            steps=torch.stack([global_logits, local_logits], 1),
            regions=torch.stack([edge / side for edge, side in zip(boxes.unbind(-1), sides, strict=True)], -1),
            region_labels=region_logits.argmax(2) if self.selection in CONTROLS else classes,
            maps=None if self.selection in CONTROLS else maps,
        )

    def select(self, global_logits: Float[Tensor, "batch classes"]) -> Int[Tensor, "batch regions"]:
        """The classes whose maps give regions (§III-B.2; Table V)."""
        if self.selection == "random":
            return torch.rand_like(global_logits).topk(self.topN, 1).indices
        return global_logits.topk(self.topN, 1, largest=self.selection != "bottom").indices

    def boxes(
        self, maps: Float[Tensor, "batch regions rows columns"], size: tuple[int, int]
    ) -> Int[Tensor, "batch regions 4"]:
        """Regions in pixels, half-open: of the maps, or those of a control, which doesn't look at them."""
        if self.selection == "corners":
            return corners(size, maps.device)[: self.topN].expand(len(maps), -1, -1)
        if self.selection == "boxes":
            return random_boxes(maps.shape[:2], size, maps.device)
        return localize(maps, size, self.tau, rule=self.rule, min_fraction=self.min_fraction)

    def _looked_at(
        self, global_logits: Float[Tensor, "batch classes"], classes: Int[Tensor, "batch regions"]
    ) -> Bool[Tensor, "batch regions"] | None:
        if self.training or self.adaptive == 0:
            return None
        return global_logits.gather(1, classes).sigmoid() >= self.adaptive

    def _score(
        self,
        crops: Float[Tensor, "batch regions 3 height width"],
        looked: Bool[Tensor, "batch regions"] | None,
    ) -> Float[Tensor, "batch regions classes"]:
        """Scores of the regions, -inf for those that are not looked at."""
        if looked is None:
            return self.score_regions(crops.flatten(0, 1), len(crops)).unflatten(0, crops.shape[:2])
        scores = crops.new_full((*looked.shape, self.head.linear.out_features), -torch.inf)
        if looked.any():
            scores[looked] = self.score_regions(crops[looked], len(crops))
        return scores

    def score_regions(
        self, regions: Float[Tensor, "regions 3 height width"], images: int
    ) -> Float[Tensor, "regions classes"]:
        """Logits of the regions: on a CPU in batches no larger than the images', which is a fifth faster there.

        In training BatchNorm has to see them all at once.
        """
        size = len(regions) if self.training or regions.is_cuda else images
        return torch.cat([self.head(self.trunk(part)) for part in regions.split(size)])

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


def halve(images: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch 3 half_height half_width"]:
    """Images of half the size: the mean of each 2 x 2 pixels. Raises InputError for a side of odd length."""
    if images.shape[2] % 2 or images.shape[3] % 2:
        raise InputError(f"crop_from=source needs images with even sides, not {images.shape[2]} x {images.shape[3]}")
    return nn.functional.avg_pool2d(images, 2)
