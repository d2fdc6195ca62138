"""Joint max-margin terms on the probabilities of several steps (Lyu et al., §III-D).

Eq. 14 and 16 print the hinge with its signs the wrong way round: it grows with the margin that Eq. 13 and 15 ask for.
Here max(0, ε + max₋ - min₊) is minimised, which is 0 where the margin holds; literal=True gives the printed form.
"""

import torch
from jaxtyping import Bool, Float, Int, Int8
from torch import Tensor


def horizontal_margin(
    p: Float[Tensor, "batch classes"],
    targets: Int8[Tensor, "batch classes"],
    epsilon: float,
    *,
    literal: bool = False,
) -> Float[Tensor, ""]:
    """R₁ (Eq. 14): an image's least positive against its greatest negative, mean over the batch.

    p: probabilities. Ignored entries are neither. 0 for an image without a positive or without a negative.
    """
    return _hinge(p, targets == 1, targets == 0, epsilon, literal).mean()


def vertical_margin(
    p: Float[Tensor, "batch steps classes"],
    targets: Int8[Tensor, "batch classes"],
    own: Bool[Tensor, "batch steps classes"],
    epsilon: float,
    *,
    literal: bool = False,
) -> Float[Tensor, ""]:
    """R₂ (Eq. 16): each present class at its own step against all other steps.

    p: probabilities. own: the step that each present class belongs to, see `own_steps`. The mean over an image's
    present classes, of which one without a step, or without another step, counts as 0; then the mean over the batch.
    """
    hinges = _hinge(p.transpose(1, 2), own.transpose(1, 2), ~own.transpose(1, 2), epsilon, literal)
    return (hinges.sum(1) / (targets == 1).sum(1).clamp(min=1)).mean()


def own_steps(
    targets: Int8[Tensor, "batch classes"], rank: Int[Tensor, " classes"], steps: int
) -> Bool[Tensor, "batch {steps} classes"]:
    """Whether a class is the label of a step: the t-th present class by `rank` is step t's. No step has two.

    The paper doesn't say which positive a step has.
    """
    present = targets == 1
    before = (present[:, None] & (rank < rank[:, None])).sum(2)  # present classes that come first
    return present[:, None] & (before[:, None] == torch.arange(steps, device=targets.device)[:, None])


def _hinge(
    p: Float[Tensor, "*rows entries"],
    positive: Bool[Tensor, "*rows entries"],
    negative: Bool[Tensor, "*rows entries"],
    epsilon: float,
    literal: bool,
) -> Float[Tensor, "*rows"]:
    least = p.masked_fill(~positive, torch.inf).amin(-1)
    greatest = p.masked_fill(~negative, -torch.inf).amax(-1)
    gap = least - greatest if literal else greatest - least
    both = positive.any(-1) & negative.any(-1)
    return torch.where(both, (gap + epsilon).clamp(min=0), 0)
