"""CNN-RNN: a unified framework for multi-label image classification (Wang et al., CVPR 2016).

The labels of an image are a path that ends in END: P(l1, l2, … | I) = P(l1 | I) P(l2 | I, l1) … (Eq. 6). A recurrent
layer reads the labels so far, meets the image in the space of the label embedding, and scores the next label there.
"""

import math
from functools import partial
from typing import ClassVar, Literal

import torch
from jaxtyping import Float, Int, Int8
from torch import Tensor, nn

from mlic_core.errors import InputError, check_choice
from mlic_core.models.beam import State, Step, beam_search, can_look, check_search
from mlic_core.models.frozen import FrozenTrunk
from mlic_core.models.orders import Order, easiest_first, frequency_rank, random_rank, ranked_sequences
from mlic_core.models.pooling import Pooling
from mlic_core.models.prediction import Prediction

CellKind = Literal["paper", "lstm", "linear"]


class PaperCell(nn.Module):
    """Eq. 1: one state r, and no biases.

    δ is the sigmoid in the gates i, f and o, and the ReLU in the candidate x: a gate that is a ReLU would not gate.
    The last line prints o(t) on both sides; the output is o_t ⊙ r(t).

    In every cell here `project` is the part that depends on the label alone: it is computed once for each label and
    looked up. `states` is the number of tensors in the state, all 0 at the start.
    """

    states = 1

    def __init__(self, embedding: int, hidden: int):
        super().__init__()
        self.from_label = nn.Linear(embedding, 4 * hidden, bias=False)  # U_iw, U_fw, U_ow and U_w, one above the other
        self.from_state = nn.Linear(hidden, 4 * hidden, bias=False)  # U_ir, U_fr, U_or and U_r

    def project(self, embeddings: Float[Tensor, "tokens embedding"]) -> Float[Tensor, "tokens gates"]:
        """U w of each gate and of the candidate."""
        return self.from_label(embeddings)

    def forward(self, label: Float[Tensor, "rows gates"], state: State) -> tuple[Float[Tensor, "rows hidden"], State]:
        """o(t) and the new state, from a projected label and the state before it."""
        (r,) = state
        i, f, o, x = torch.addmm(label, r, self.from_state.weight.T).chunk(4, 1)
        r = f.sigmoid() * r + i.sigmoid() * x.relu()
        return o.sigmoid() * r, (r,)


class LSTMCell(nn.LSTMCell):
    """The usual LSTM, torch's `nn.LSTMCell`, with the label's part looked up."""

    states = 2

    def project(self, embeddings: Float[Tensor, "tokens embedding"]) -> Float[Tensor, "tokens gates"]:
        """W w + b, both biases."""
        return nn.functional.linear(embeddings, self.weight_ih, self.bias_ih + self.bias_hh)

    def forward(self, label: Float[Tensor, "rows gates"], state: State) -> tuple[Float[Tensor, "rows hidden"], State]:
        """As PaperCell's; the state is the hidden and the cell state."""
        h, c = state
        i, f, g, o = torch.addmm(label, h, self.weight_hh.T).chunk(4, 1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        return h, (h, c)


class LinearCell(nn.Module):
    """The "No RNN" of Table 3: a linear layer of the previous label's embedding, which remembers nothing before it."""

    states = 0

    def __init__(self, embedding: int, hidden: int):
        super().__init__()
        self.from_label = nn.Linear(embedding, hidden, bias=False)

    def project(self, embeddings: Float[Tensor, "tokens embedding"]) -> Float[Tensor, "tokens hidden"]:
        """The output for each label."""
        return self.from_label(embeddings)

    def forward(self, label: Float[Tensor, "rows hidden"], state: State) -> tuple[Float[Tensor, "rows hidden"], State]:
        """As PaperCell's, without a state."""
        return label, state


CELLS = {"paper": PaperCell, "lstm": LSTMCell, "linear": LinearCell}


class CNNRNN(FrozenTrunk):
    """§3.2 on a frozen trunk.

    cell: "paper" (Eq. 1), "lstm" or "linear" ("No RNN" of Table 3). embedding, hidden: sizes of the label embedding and
    of the recurrent layer. dropout: rate on both projections of Eq. 4. pooling: of the trunk's maps into I.
    order: how an image's labels are sorted for training (§3.4); order_seed: of "random-fixed"; "random-batch" draws an
    order for each mini-batch. length: most labels of a path, and at most the number of classes.
    beam, min_length: paths followed at a time, and least labels of a path (k on NUS-WIDE); attributes of the same names
    may be changed at any time, and beam = 1 is the greedy search.

    Raises InputError for an impossible value.
    """

    recipe: ClassVar[dict] = {
        "optimizer": "rmsprop",
        "epochs": 40,
        "batch_size": 64,
        "head_lr": 0.0003,
        "jitter": 0.0,
        "bf16": False,
    }

    def __init__(
        self,
        trunk: nn.Module,
        num_classes: int,
        *,
        cell: CellKind = "paper",
        embedding: int = 64,
        hidden: int = 512,
        dropout: float = 0.5,
        pooling: Pooling = "gwp",
        order: Order = "frequency",
        order_seed: int = 0,
        length: int = 10,
        beam: int = 4,
        min_length: int = 0,
    ):
        super().__init__(trunk, pooling)
        check_choice("cell", cell, CellKind)
        check_choice("order", order, Order)
        for name, value in {"embedding": embedding, "hidden": hidden, "length": length}.items():
            if value < 1:
                raise InputError(f"{name}={value}: choose 1 or more")
        if not 0 <= dropout < 1:
            raise InputError(f"dropout={dropout}: choose a rate from 0 to below 1")
        self.num_classes, self.hidden, self.length = num_classes, hidden, min(length, num_classes)
        check_search(num_classes, beam, self.length, min_length)
        self.beam, self.min_length, self.dropout, self.order = beam, min_length, dropout, order
        # U_l of Eq. 2 and 5, one for the labels that are read and those that are scored; its last row is END.
        self.labels = nn.Parameter(torch.randn(num_classes + 1, embedding) / math.sqrt(embedding))
        self.cell = CELLS[cell](embedding, hidden)
        self.project_output = nn.Linear(hidden, embedding, bias=False)  # U_o of Eq. 4
        self.project_image = nn.Linear(trunk.out_channels, embedding, bias=False)  # U_I of Eq. 4
        rank = random_rank(num_classes, order_seed) if order == "random-fixed" else torch.arange(num_classes)
        self.register_buffer("rank", rank)  # place of each class in the order

    @staticmethod
    def activation(options: dict) -> str:
        """Probabilities are exp(logits)."""
        return "softmax"

    def observe(self, targets: Int8[Tensor, "images classes"]) -> None:
        """Take the order of the classes from the training set. Raises InputError if an image has too many labels."""
        most = int((targets == 1).sum(1).max()) if len(targets) else 0
        if most > self.length:
            raise InputError(f"length={self.length}: an image has {most} labels; set method.length={most} or more")
        if self.order in ("frequency", "rare-first"):
            rank = frequency_rank(targets)
            self.rank.copy_(rank if self.order == "frequency" else self.num_classes - 1 - rank)

    def head(
        self, features: Float[Tensor, "batch channels"], targets: Int8[Tensor, "batch classes"] | None = None
    ) -> Prediction:
        """Find the best paths, or with `targets` follow the path of the image's labels.

        Without targets: `paths` (B, beam, length) are label sequences, best first, padded by -1, `path_log_probs` their
        log P; `logits` are the greatest log P(label | labels before it) on the way of the best path, and `steps` holds
        those of the first step and `logits`.

        With targets, for `loss`: `paths` (B, 1, length + 1) are the tokens of the sequences (END is the number of
        classes, -1 is nothing), `path_log_probs` (B, 1) their log P, and `logits` those of the first step.
        """
        with torch.autocast(features.device.type, enabled=False):
            image = self.project_image(features.float())
            return self._search(image) if targets is None else self._learn(image, targets)

    def _learn(self, image: Float[Tensor, "batch embedding"], targets: Int8[Tensor, "batch classes"]) -> Prediction:
        tokens = self._sequences(image, targets)
        ignored = nn.functional.pad(targets == -1, (0, 1))
        # No step beyond the longest path of the batch, where finding it out costs nothing.
        used = tokens[:, : int((tokens >= 0).sum(1).max())] if can_look(tokens) else tokens
        log_p = self._scores(image, used).masked_fill(ignored[:, None], -torch.inf).log_softmax(2)
        taken = log_p.gather(2, used.clamp(min=0)[..., None])[..., 0]
        path = torch.where(used >= 0, taken, 0).sum(1)
        return Prediction(log_p[:, 0, : self.num_classes], paths=tokens[:, None], path_log_probs=path[:, None])

    def _sequences(
        self, image: Float[Tensor, "batch embedding"], targets: Int8[Tensor, "batch classes"]
    ) -> Int[Tensor, "batch tokens"]:
        """The labels in the order of §3.4, then END."""
        if self.order == "easiest-first":
            with torch.no_grad():  # by the present model without its dropout; no gradient through the choice
                return easiest_first(*self.stepper(image), targets, self.length)
        rank = self.rank
        if self.order == "random-batch":
            rank = torch.randperm(self.num_classes, device=targets.device)
        return ranked_sequences(targets, rank, self.length)

    def follow(
        self, features: Float[Tensor, "batch channels"], tokens: Int[Tensor, "batch tokens"]
    ) -> Float[Tensor, "batch tokens scored"]:
        """Scores s(t) of the labels and END (Eq. 5) before each token of a given path."""
        return self._scores(self.project_image(features), tokens)

    def _scores(
        self, image: Float[Tensor, "batch embedding"], tokens: Int[Tensor, "batch tokens"]
    ) -> Float[Tensor, "batch tokens scored"]:
        dropout = self.dropout if self.training else 0.0
        step, (image, place) = self.stepper(nn.functional.dropout(image, dropout), dropout)
        last, scores = torch.full_like(place, self.num_classes + 1), []
        for token in tokens.unbind(1):
            now, (image, place) = step((image, place), last)
            scores.append(now)
            going = token >= 0
            last, place = token.where(going, 0), place.where(going, 0)  # paths that have ended go on as one
        return torch.stack(scores, 1)

    def input_table(self) -> Float[Tensor, "tokens gates"]:
        """What the cell takes from each token: the labels, END and START, whose embedding is the zero vector."""
        return self.cell.project(nn.functional.pad(self.labels, (0, 0, 0, 1)))

    def start(self, like: Tensor) -> State:
        """r(0) = 0, in one row: the state before START."""
        return tuple(like.new_zeros(1, self.hidden) for _ in range(self.cell.states))

    def stepper(self, image: Float[Tensor, "batch embedding"], dropout: float = 0.0) -> tuple[Step, State]:
        """One step of the model, and the state before the first: what a search asks for, and training.

        image: U_I I of each image. dropout: of U_o o(t). The pair is good for one walk along the paths.
        """
        before_any = torch.zeros(len(image), dtype=torch.int64, device=image.device)
        return partial(self._step, self.input_table(), [self.start(image)], dropout), (image, before_any)

    def _step(
        self,
        table: Float[Tensor, "tokens gates"],
        prefixes: list[State],
        dropout: float,
        state: State,
        last: Int[Tensor, " rows"],
    ) -> tuple[Float[Tensor, "rows scored"], State]:
        """A row's state is its image and the place of its labels in `prefixes[0]`, which each step replaces.

        Since the recurrent layer never sees the image, paths with the same labels share one recurrent state.
        """
        image, place = state
        longer = place * len(table) + last
        if can_look(longer):
            longer, place = longer.unique(return_inverse=True)
        else:
            place = torch.arange(len(longer), device=longer.device)
        before, label = longer // len(table), longer % len(table)
        look_up = nn.functional.embedding
        output, prefixes[0] = self.cell(look_up(label, table), tuple(look_up(before, part) for part in prefixes[0]))
        output = nn.functional.dropout(look_up(place, self.project_output(output)), dropout)
        return torch.relu(output + image) @ self.labels.T, (image, place)  # Eq. 4, where alone the image enters, and 5

    @torch.no_grad()
    def _search(self, image: Float[Tensor, "batch embedding"]) -> Prediction:
        found = beam_search(
            *self.stepper(image),
            len(image),
            self.num_classes,
            beam=self.beam,
            length=self.length,
            min_length=self.min_length,
            device=image.device,
        )
        steps = torch.stack([found.first, found.peak], 1)
        return Prediction(found.peak, steps, paths=found.paths, path_log_probs=found.path_log_probs)

    def loss(self, prediction: Prediction, targets: Int8[Tensor, "batch classes"]) -> dict[str, Tensor]:
        """Cross-entropy of the labels and the END of every image, the mean over these tokens (§3.4).

        Raises InputError for a prediction that was made without targets.
        """
        if prediction.paths.shape[1:] != (1, self.length + 1):
            raise InputError("the loss of cnn_rnn needs a prediction made with the targets")
        tokens = (prediction.paths >= 0).sum()
        return {"path": -prediction.path_log_probs.sum() / tokens}
