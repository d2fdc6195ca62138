"""What a label counts as when all its objects are difficult."""

import torch
from jaxtyping import Int8
from torch import Tensor


def restrict_difficult(targets: Int8[Tensor, "batch classes"], rule: str) -> Int8[Tensor, "batch classes"]:
    """Count entries whose objects are all difficult as "positive" or "negative", or leave them out ("ignore").

    Raises ValueError for another rule.
    """
    values = {"ignore": -1, "positive": 1, "negative": 0}
    if rule not in values:
        raise ValueError(f"difficult={rule!r} is none of {', '.join(values)}")
    return torch.where(targets == -1, torch.full_like(targets, values[rule]), targets)
