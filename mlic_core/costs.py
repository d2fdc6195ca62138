"""What a model costs: multiply-adds."""

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


@torch.inference_mode()
def multiply_adds(model: nn.Module, size: int) -> int:
    """Multiply-adds of one pass of one image of size x size pixels, of convolutions and matrix products alone."""
    with FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, 3, size, size))
    return counter.get_total_flops() // 2
