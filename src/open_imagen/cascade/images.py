"""Images at the edge of a cascade."""

import torch
from torch import Tensor


def to_uint8(x: Tensor) -> Tensor:
    """[-1, 1] -> 0..255, rounded."""
    return x.add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8)
