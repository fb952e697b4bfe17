"""The weights of a narrower network out of a wider one's: of each layer, evenly spread channels."""

from collections.abc import Sequence

import torch
from torch import Tensor


def narrowed(weight: Tensor, shape: Sequence[int]) -> Tensor:
    """A weight at this shape, no side of which is longer: entry i of n is entry i * m // n of m.

    With one ratio throughout, channels that are added, joined or split into heads stay each
    other's. Rows that add up fewer inputs are scaled to make up for them, so that a network whose
    channels were all doubled comes back exactly (Net2WiderNet of Chen et al. 2016 backwards;
    choosing them evenly is Samragh et al. 2023).
    """
    for side, (n, m) in enumerate(zip(shape, weight.shape, strict=True)):
        if n != m:
            weight = weight.index_select(side, torch.arange(n) * m // n)
            if side == 1:  # the inputs of a linear layer or a convolution
                weight = weight * (m / n)
    return weight


def fits(shape: Sequence[int], wider: Sequence[int]) -> bool:
    """Whether a weight of the second shape can be `narrowed` to the first."""
    return len(shape) == len(wider) and all(n <= m for n, m in zip(shape, wider, strict=True))
