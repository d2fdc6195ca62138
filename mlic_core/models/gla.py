"""GLA: coarse to fine with global and local attention (Lyu et al.).

The cells of a trunk's map are weighed once for the whole image, which starts an LSTM, and again in each of its steps,
of which every one scores all classes.
"""

import math
from typing import ClassVar, Literal

import torch
from jaxtyping import Float, Int8
from torch import Tensor, nn

from mlic_core.errors import InputError, check_choice
from mlic_core.losses import binary_cross_entropy, horizontal_margin, own_steps, vertical_margin
from mlic_core.models.frozen import FrozenTrunk
from mlic_core.models.orders import frequency_rank
from mlic_core.models.prediction import Prediction

Start = Literal["zero", "mean", "global"]
Attention = Literal["none", "soft", "gated"]
Labels = Literal["predicted", "true"]
Margin = Literal["none", "mended", "literal"]


class GlobalAttention(nn.Module):
    """Eq. 1: softmax over the cells of tanh(W_g a_i + b_g), one number a cell."""

    def __init__(self, channels: int):
        super().__init__()
        self.score = nn.Linear(channels, 1)

    def forward(self, cells: Float[Tensor, "batch cells channels"]) -> Float[Tensor, "batch cells"]:
        """Weights that sum to 1. Since tanh lies in [-1, 1], none is more than e² = 7.4 times another."""
        return self.score(cells).tanh().squeeze(2).softmax(1)


class LocalAttention(nn.Module):
    """Eq. 4: softmax over the cells of g(a_i, h_{t-1}), an MLP with one hidden layer: wᵀ tanh(W_a a_i + W_h h + b)."""

    def __init__(self, channels: int, hidden: int, units: int):
        super().__init__()
        self.from_cell = nn.Linear(channels, units)
        self.from_state = nn.Linear(hidden, units, bias=False)
        self.score = nn.Linear(units, 1, bias=False)

    def project(self, cells: Float[Tensor, "batch cells channels"]) -> Float[Tensor, "batch cells units"]:
        """W_a a_i + b: the same in every step."""
        return self.from_cell(cells)

    def forward(
        self, projected: Float[Tensor, "batch cells units"], h: Float[Tensor, "batch hidden"]
    ) -> Float[Tensor, "batch cells"]:
        """Weights that sum to 1, from projected cells and the state before the step."""
        return self.score((projected + self.from_state(h)[:, None]).tanh()).squeeze(2).softmax(1)


class GLA(FrozenTrunk):
    """§III on a trunk's maps. The rows of Tables I and II by their options:

    | row | start | attention | margin |
    |---|---|---|---|
    | VGG+LSTM | zero | none | none |
    | +L | zero | soft | none |
    | +L/G | global | soft | none |
    | +L/G+MM | global | soft | mended |

    T: steps. hidden: units of the LSTM; units: of the hidden layer of g (Eq. 4).
    start: of the LSTM, from 0, from the attended context ẑ ("global", Eq. 3), or from the plain mean of the cells,
    undivided, in place of f_fc, which trunks here don't have. rescale: Eq. 3 as printed divides ẑ, though it is a mean
    already, by the number of cells L.
    attention: "none", where z_t is the mean of the cells, "soft" (Eq. 4, 5), or "gated": z_t times σ(W h_{t-1}), in
    place of Eq. 5's undefined factor β_t (Xu et al., 2015).
    labels: y_t of Eq. 6 to 9, the "predicted" probabilities of the step before, or in training its "true" label.
    margin: "mended", "literal" (as Eq. 14 and 16 are printed) or "none". epsilon, epsilon_v: ε of Eq. 13 and ε_v of
    Eq. 15, in probability; lambda_horizontal, lambda_vertical: λ₁ and λ₂ of Eq. 17. fine_tune: train the trunk too.

    Raises InputError for an impossible value.
    """

    recipe: ClassVar[dict] = {
        "optimizer": "adam",
        "epochs": 20,
        "batch_size": 64,
        "lr": 0.0001,
        "head_lr": 0.003,
        "jitter": 0.0,
        "bf16": False,
    }

    def __init__(
        self,
        trunk: nn.Module,
        num_classes: int,
        *,
        T: int = 5,
        hidden: int = 256,
        units: int = 128,
        start: Start = "global",
        rescale: bool = True,
        attention: Attention = "soft",
        labels: Labels = "predicted",
        margin: Margin = "mended",
        epsilon: float = 0.3,
        epsilon_v: float = 0.3,
        lambda_horizontal: float = 0.05,
        lambda_vertical: float = 0.05,
        fine_tune: bool = False,
    ):
        super().__init__(trunk, fine_tune=fine_tune)
        for name, choice, choices in (("start", start, Start), ("attention", attention, Attention),
                                      ("labels", labels, Labels), ("margin", margin, Margin)):  # fmt: skip
            check_choice(name, choice, choices)
        for name, value in {"T": T, "hidden": hidden, "units": units}.items():
            if value < 1:
                raise InputError(f"{name}={value}: choose 1 or more")
        weights = {"lambda_horizontal": lambda_horizontal, "lambda_vertical": lambda_vertical}
        for name, value in (weights | {"epsilon": epsilon, "epsilon_v": epsilon_v}).items():
            if not (math.isfinite(value) and value >= 0):
                raise InputError(f"{name}={value}: choose a finite number, 0 or more")
        self.T, self.rescale, self.labels, self.margin = T, rescale, labels, margin
        self.epsilon, self.epsilon_v = epsilon, epsilon_v
        self.lambda_horizontal, self.lambda_vertical = lambda_horizontal, lambda_vertical
        channels = trunk.out_channels
        self.overview = GlobalAttention(channels) if start == "global" else None
        self.start = None if start == "zero" else nn.Linear(channels, 2 * hidden)  # I_c and I_h of Eq. 3
        self.focus = None if attention == "none" else LocalAttention(channels, hidden, units)
        self.gate = nn.Linear(hidden, 1) if attention == "gated" else None
        self.lstm = nn.LSTMCell(num_classes + channels, hidden)  # Eq. 6 to 11, its input y_t and z_t
        self.classify = nn.Linear(hidden, num_classes)
        self.register_buffer("rank", torch.arange(num_classes))  # place of each class by frequency

    def observe(self, targets: Int8[Tensor, "images classes"]) -> None:
        """Take the order of the classes, most frequent first, from the training set."""
        self.rank.copy_(frequency_rank(targets))

    def head(
        self,
        features: Float[Tensor, "batch channels rows columns"],
        targets: Int8[Tensor, "batch classes"] | None = None,
    ) -> Prediction:
        """Scores of maps, and where the attention was.

        `logits` are the maximum over the steps (Eq. 12, whose sigmoid is p), `steps` (B, T, C) each step's, and `maps`
        the weights of the cells: the global ones first, then those of each step, as far as the model has them. They
        sum to 1 over an image. `targets` count only in training with labels="true", and there they feed the steps.
        """
        with torch.autocast(features.device.type, enabled=False):
            cells = features.float().flatten(2).transpose(1, 2)
            true = None
            if self.labels == "true" and self.training and targets is not None:
                true = own_steps(targets, self.rank, self.T).to(cells)
            steps, maps = self._walk(cells, true)
        maps = [weights.unflatten(1, features.shape[2:]) for weights in maps]
        return Prediction(steps.amax(1), steps, maps=torch.stack(maps, 1) if maps else None)

    def _walk(
        self, cells: Float[Tensor, "batch cells channels"], true: Float[Tensor, "batch steps classes"] | None
    ) -> tuple[Float[Tensor, "batch steps classes"], list[Float[Tensor, "batch cells"]]]:
        h, c, maps = self._begin(cells)
        projected = None if self.focus is None else self.focus.project(cells)
        y, z, scores = cells.new_zeros(len(cells), self.classify.out_features), cells.mean(1), []
        for t in range(self.T):
            if self.focus is not None:
                maps.append(self.focus(projected, h))
                z = attend(maps[-1], cells)  # Eq. 5
            if self.gate is not None:
                z = self.gate(h).sigmoid() * z
            h, c = self.lstm(torch.cat([y, z], 1), (h, c))
            scores.append(self.classify(h))
            y = scores[-1].sigmoid() if true is None else true[:, t]
        return torch.stack(scores, 1), maps

    def _begin(
        self, cells: Float[Tensor, "batch cells channels"]
    ) -> tuple[Float[Tensor, "batch hidden"], Float[Tensor, "batch hidden"], list[Float[Tensor, "batch cells"]]]:
        """h_0 and c_0 (Eq. 3), and the global weights behind them."""
        if self.start is None:
            zeros = cells.new_zeros(len(cells), self.lstm.hidden_size)
            return zeros, zeros, []
        weights = [] if self.overview is None else [self.overview(cells)]
        context = attend(weights[0], cells) if weights else cells.mean(1)  # Eq. 2
        if weights and self.rescale:
            context = context / cells.shape[1]
        c, h = self.start(context).chunk(2, 1)
        return h, c, weights

    def loss(self, prediction: Prediction, targets: Int8[Tensor, "batch classes"]) -> dict[str, Tensor]:
        """Eq. 17: the cross-entropy summed over classes, and the margins times λ; means over the images."""
        steps = prediction.steps
        terms = {"bce": steps.shape[2] * binary_cross_entropy(prediction.logits, targets)}
        if self.margin != "none":
            p, literal = steps.sigmoid(), self.margin == "literal"
            own = own_steps(targets, self.rank, self.T)
            horizontal = horizontal_margin(p.amax(1), targets, self.epsilon, literal=literal)
            vertical = vertical_margin(p, targets, own, self.epsilon_v, literal=literal)
            terms |= {"horizontal": self.lambda_horizontal * horizontal, "vertical": self.lambda_vertical * vertical}
        return terms


def attend(
    weights: Float[Tensor, "batch cells"], cells: Float[Tensor, "batch cells channels"]
) -> Float[Tensor, "batch channels"]:
    """Σ_i w_i a_i (Eq. 2 and 5)."""
    return torch.einsum("bl,bld->bd", weights, cells)
