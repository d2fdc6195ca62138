"""RDAR: recurrently discovering attentional regions (Wang et al., ICCV 2017).

From the maps of one pass through the trunk a spatial transformer cuts one region after the other; an LSTM scores each
and says where to look next.
"""

import math
from typing import ClassVar, Literal, NamedTuple

import torch
from jaxtyping import Float, Int8
from torch import Tensor, nn

from mlic_core.errors import InputError, check_choice
from mlic_core.losses import (
    anchor_constraint,
    anchors,
    binary_cross_entropy,
    euclidean,
    positive_constraint,
    scale_constraint,
)
from mlic_core.models.frozen import FrozenTrunk
from mlic_core.models.prediction import Prediction
from mlic_core.models.proposals import BoxFile, proposal_source
from mlic_core.models.spatial import (
    IDENTITY,
    compose,
    crop,
    five_crops,
    random_crop,
    spatial_transform,
    tidy,
    to_boxes,
    to_transforms,
)

Loss = Literal["euclidean", "bce"]
Views = Literal["whole", "centre", "five", "ten"]
Start = Literal["middle", "xavier"]


class MemoryCell(nn.Module):
    """Eq. 4 after x_k: an LSTM whose output is o ⊙ c, without the usual tanh; g is the forget gate."""

    def __init__(self, inputs: int, hidden: int):
        super().__init__()
        self.from_region = nn.Linear(inputs, 4 * hidden)  # W_xi, W_xg, W_xo and W_xm with their biases
        self.from_state = nn.Linear(hidden, 4 * hidden, bias=False)  # W_hi, W_hg, W_ho and W_hm

    def forward(
        self, x: Float[Tensor, "batch inputs"], state: tuple[Float[Tensor, "batch hidden"], ...]
    ) -> tuple[Float[Tensor, "batch hidden"], Float[Tensor, "batch hidden"]]:
        """h_k and c_k, from x_k and h, c of the step before."""
        h, c = state
        i, g, o, m = (self.from_region(x) + self.from_state(h)).chunk(4, 1)
        c = g.sigmoid() * c + i.sigmoid() * m.tanh()
        return o.sigmoid() * c, c


class Walk(NamedTuple):
    """What the module saw in K steps: scores s_k and z_k of Eq. 5, and M_k as (s_x, s_y, t_x, t_y)."""

    scores: Float[Tensor, "batch regions classes"]
    hidden: Float[Tensor, "batch regions units"]
    transforms: Float[Tensor, "batch regions 4"] | None


class RDAR(FrozenTrunk):
    """The recurrent memorized-attention module (§3) and its losses (§4) on a trunk's maps.

    K: regions. hidden: units of x, h and z. sampled: places a side that the spatial transformer samples in a region;
    pooled: cells a side that are left of them by maximum.
    loss: "euclidean" (Eq. 7, 8) or "bce". anchor, scale, positive: the constraints that are on. gamma: their weight
    (Eq. 14); lambda_anchor, lambda_positive: λ₁ and λ₂ of Eq. 13; alpha, beta: bounds of the scale (Eq. 11, 12).
    crop: share of the maps' sides in the crops of training and of the views. views: what is looked at in testing, the
    "whole" image, its "centre", "five", the centre and the corners, or "ten", with their mirror images, all cut from
    the same maps; it may be changed at any time. proposals: "windows" or a box file in place of attentional regions
    (Table 3), see `models.proposals`. start: with "middle", W_zm of Eq. 5 begins at zero and so every region at
    s = .5, t = 0; with "xavier" it is drawn at random as all other weights are. fine_tune: train the trunk as well.

    Raises InputError for an impossible value.
    """

    recipe: ClassVar[dict] = {
        "optimizer": "adam",
        "epochs": 20,
        "batch_size": 64,
        "lr": 0.0001,
        "head_lr": 0.001,
        "jitter": 0.0,
        "bf16": False,
    }

    def __init__(
        self,
        trunk: nn.Module,
        num_classes: int,
        *,
        K: int = 5,
        hidden: int = 256,
        sampled: int = 8,
        pooled: int = 1,
        loss: Loss = "euclidean",
        anchor: bool = True,
        scale: bool = True,
        positive: bool = True,
        gamma: float = 0.1,
        lambda_anchor: float = 0.01,
        lambda_positive: float = 0.1,
        alpha: float = 0.5,
        beta: float = 0.1,
        crop: float = 0.875,
        views: Views = "whole",
        proposals: str = "",
        start: Start = "middle",
        fine_tune: bool = False,
    ):
        super().__init__(trunk, fine_tune=fine_tune)
        if proposals and fine_tune:
            raise InputError("fine_tune=True: proposals need a frozen trunk, on which their features are computed once")
        check_choice("loss", loss, Loss)
        check_choice("views", views, Views)
        check_choice("start", start, Start)
        for name, value in {"K": K, "hidden": hidden, "sampled": sampled, "pooled": pooled}.items():
            if value < 1:
                raise InputError(f"{name}={value}: choose 1 or more")
        weights = {"gamma": gamma, "lambda_anchor": lambda_anchor, "lambda_positive": lambda_positive}
        for name, value in (weights | {"alpha": alpha, "beta": beta}).items():
            if not (math.isfinite(value) and value >= 0):
                raise InputError(f"{name}={value}: choose a finite number, 0 or more")
        if sampled % pooled:
            raise InputError(f"pooled={pooled}: choose a divisor of sampled={sampled}")
        if not 0 < crop <= 1:
            raise InputError(f"crop={crop}: choose a share above 0 and at most 1")
        self.source = proposal_source(proposals)
        self.K, self.sampled, self.pooled, self.loss_name, self.views, self.crop = K, sampled, pooled, loss, views, crop
        self.anchor, self.scale, self.positive, self.alpha, self.beta = anchor, scale, positive, alpha, beta
        self.gamma, self.lambda_anchor, self.lambda_positive = gamma, lambda_anchor, lambda_positive
        self.region = nn.Linear(trunk.out_channels * pooled**2, hidden)  # W_fx
        self.memory = MemoryCell(hidden, hidden)
        self.reading = nn.Linear(hidden, hidden)  # W_hz
        self.classify = nn.Linear(hidden, num_classes)  # W_zs
        self.localise = nn.Linear(hidden, 4)  # W_zm
        self.register_buffer("anchors", anchors(K - 1), persistent=False)
        self._initialise(start)
        if self.source is not None:
            self.localise.requires_grad_(False)

    def _initialise(self, start: Start) -> None:
        for module in (self.region, *self.memory.children(), self.reading, self.classify, self.localise):
            gates = 4 if module in self.memory.children() else 1
            for weight in module.weight.chunk(gates):  # Xavier's rule is for each matrix of Eq. 4
                nn.init.xavier_uniform_(weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        with torch.no_grad():  # with a bias of zero, small weights would make every region a point
            self.localise.bias.copy_(torch.tensor([0.5, 0.5, 0.0, 0.0]))
            if start == "middle":  # as z grows, random weights throw regions out of the image, to where no gradient is
                self.localise.weight.zero_()

    @staticmethod
    def activation(options: dict) -> str:
        """How logits become probabilities: as exp(logits) under the Euclidean loss, by a sigmoid under the other."""
        return "softmax" if options["loss"] == "euclidean" else "sigmoid"

    @property
    def feature_kind(self) -> str:
        """As FrozenTrunk's: the maps, or what is sampled in the boxes of a file."""
        return f"{self.source.digest} {self.K} {self.sampled} {self.pooled}" if self.from_file else "maps"

    def features(
        self, images: Float[Tensor, "batch 3 height width"], boxes: Float[Tensor, "batch boxes 4"] | None = None
    ) -> Float[Tensor, "batch *parts channels rows columns"]:
        """Maps of normalised images; with a box file what is sampled in the whole image and in each of `boxes`.

        Raises InputError where a model with a box file is given no boxes.
        """
        maps = super().features(images)
        if not self.from_file:
            return maps
        if boxes is None:
            raise InputError("this model knows its regions from a box file, by the ids of a data set's images")
        given = [self._sample(maps, one) for one in to_transforms(boxes.to(maps)).unbind(1)]
        return torch.stack([self._sample(maps, self._whole(maps)), *given], 1)

    def boxes_of(self, ids: list[str]) -> Float[Tensor, "images regions 4"] | None:
        """The proposals of a box file for images by their ids; None for a model without such a file."""
        return self.source.of(ids, self.K) if self.from_file else None

    @property
    def from_file(self) -> bool:
        """Whether the regions come from a box file, so that `features` samples them once and for all."""
        return isinstance(self.source, BoxFile)

    @staticmethod
    def _whole(maps: Float[Tensor, "batch channels rows columns"]) -> Float[Tensor, "batch 4"]:
        return maps.new_tensor(IDENTITY).expand(len(maps), 4)  # M_0, Eq. 3

    def _sample(
        self, maps: Float[Tensor, "batch channels rows columns"], transform: Float[Tensor, "batch 4"]
    ) -> Float[Tensor, "batch channels pooled pooled"]:
        region = spatial_transform(maps, transform, (self.sampled, self.sampled))  # f_k, Eq. 2
        if not region.requires_grad:  # torch pools this layout several times faster, but not its gradient
            region = region.contiguous(memory_format=torch.channels_last)
        return nn.functional.max_pool2d(region, self.sampled // self.pooled)

    def walk(self, maps: Float[Tensor, "batch *parts channels rows columns"]) -> Walk:
        """K + 1 iterations, the first on the whole of the maps and without a prediction (§3.2).

        With proposals (Table 3) the regions are theirs, whatever the module would look at next; with a box file,
        `maps` are what `features` sampled in them, and there are no transforms.
        """
        state = (maps.new_zeros(len(maps), self.memory.from_state.in_features),) * 2
        given = None if self.source is None or self.from_file else to_transforms(self.source.propose(maps, self.K))
        transform, steps = None if self.from_file else self._whole(maps), []
        for k in range(self.K + 1):
            region = maps[:, k] if self.from_file else self._sample(maps, transform)
            state = self.memory(torch.relu(self.region(region.flatten(1))), state)
            z = torch.relu(self.reading(state[0]))
            if k:
                steps.append((self.classify(z), z, transform))
            if self.source is None:
                transform = self.localise(z)  # M_{k+1}
            elif given is not None and k < self.K:
                transform = given[:, k]
        scores, hidden, transforms = zip(*steps, strict=True)
        found = torch.stack(scores, 1), torch.stack(hidden, 1)
        return Walk(*found, None if self.from_file else torch.stack(transforms, 1))

    def head(
        self,
        features: Float[Tensor, "batch *parts channels rows columns"],
        targets: Int8[Tensor, "batch classes"] | None = None,
    ) -> Prediction:
        """Scores of maps, and the regions behind them.

        `logits` are s of Eq. 6, the maxima over the regions: under the Euclidean loss the log of their softmax, since
        s is trained only up to a constant for each image and AP ranks across images. `steps` (B, K, C) are those of
        each region alone. `transforms` (B, K, 4) are M_k, `regions` the same as boxes, cut at the image's edge, and
        `region_labels` the class that each scores best. With several views, probabilities are averaged over them, the
        regions are those of all views, and there are no steps.

        While the model is trained, maps are cropped at random, and transforms and regions are those of the crop. Of
        `targets` only counts that they are there: then there is one view, for the loss.
        """
        with torch.autocast(features.device.type, enabled=False):
            maps = features.float()
            if self.training and not self.from_file:
                maps = random_crop(maps, self.crop)
            return self._predict(self.look(maps) if targets is None else self._one(self.walk(maps)))

    def look(self, maps: Float[Tensor, "batch *parts channels rows columns"]) -> Walk:
        """The walk through every view: all parts (views, batch, K, …), transforms as seen from the whole of the maps.

        With a box file there is one view, the maps as they are.
        """
        if self.from_file or self.views == "whole":
            return self._one(self.walk(maps))
        places = five_crops(maps, self.crop)[: 1 if self.views == "centre" else 5]
        seen = crop(maps, places, self.crop)
        if self.views == "ten":
            seen, places = torch.cat([seen, seen.flip(3)]), places.repeat(2, 1)
        walk = Walk(*(part.unflatten(0, (-1, len(maps))) for part in self.walk(seen)))
        turned = torch.ones_like(places)
        turned[5:, 2] = -1  # a region on the left of a mirror image is on the right of the image
        return walk._replace(transforms=compose(places[:, None, None], walk.transforms * turned[:, None, None]))

    @staticmethod
    def _one(walk: Walk) -> Walk:
        """A walk as that of a single view."""
        return Walk(*(None if part is None else part[None] for part in walk))

    def representation(self, maps: Float[Tensor, "batch *parts channels rows columns"]) -> Float[Tensor, "batch units"]:
        """What the paper trains its SVM on (§5.1): z_k, the maximum over regions, the mean over views."""
        return self.look(maps).hidden.amax(2).mean(0)

    def _predict(self, walk: Walk) -> Prediction:
        kind = "softmax" if self.loss_name == "euclidean" else "sigmoid"
        logits = average_views(walk.scores.amax(2), kind)  # Eq. 6
        steps = average_views(walk.scores, kind) if len(walk.scores) == 1 else None
        if self.from_file:
            return Prediction(logits, steps)
        transforms = walk.transforms.transpose(0, 1).flatten(1, 2)
        best = walk.scores.argmax(3).transpose(0, 1).flatten(1, 2)
        return Prediction(logits, steps, tidy(to_boxes(transforms)), best, transforms=transforms)

    def loss(self, prediction: Prediction, targets: Int8[Tensor, "batch classes"]) -> dict[str, Tensor]:
        """The classification loss (Eq. 8) and γ times the constraints that are on (Eq. 13, 14)."""
        classify = euclidean if self.loss_name == "euclidean" else binary_cross_entropy
        terms = {self.loss_name: classify(prediction.logits, targets)}
        if self.source:  # boxes that are given need no constraint
            return terms
        scales, centres = prediction.transforms.split(2, 2)
        if self.scale:
            terms["scale"] = self.gamma * scale_constraint(scales, self.alpha)
        if self.anchor:
            terms["anchor"] = self.gamma * self.lambda_anchor * anchor_constraint(centres, self.anchors)
        if self.positive:
            terms["positive"] = self.gamma * self.lambda_positive * positive_constraint(scales, self.beta)
        return terms


def average_views(scores: Float[Tensor, "views *batch classes"], activation: str) -> Float[Tensor, "*batch classes"]:
    """Scores whose probabilities are the mean over views of those of `scores`, by a "softmax" or a "sigmoid".

    Log-probabilities in the first case, logits in the second; both without leaving the logarithm.
    """
    if activation == "softmax":
        return scores.log_softmax(-1).logsumexp(0) - math.log(len(scores))
    if len(scores) == 1:
        return scores[0]
    return nn.functional.logsigmoid(scores).logsumexp(0) - nn.functional.logsigmoid(-scores).logsumexp(0)
