"""Near relatives of an image: its noise, spherically mixed with another seed's in every stage."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from open_imagen.cascade.values import real_number
from open_imagen.errors import ConfigError


class Variation(NamedTuple):
    """Another seed's noise, and how much of it."""

    seed: int
    amount: float
    """0 is the image itself, 1 the image of the other seed."""


class MixedNoise:
    """Two sources of noise on the arc between them: cos(a pi / 2) n1 + sin(a pi / 2) n2.

    Independent standard normal noise stays standard normal for every amount a.
    """

    def __init__(self, first: "NoiseSource", second: "NoiseSource", amount: float) -> None:
        self.first, self.second = first, second
        angle = amount * math.pi / 2
        # At the ends exactly one of the two, without the rounding of cos(pi / 2).
        self.weights = (
            (1.0, 0.0)
            if amount == 0
            else (0.0, 1.0)
            if amount == 1
            else (math.cos(angle), math.sin(angle))
        )

    def normal(self, shape: Sequence[int]) -> Tensor:
        """Standard normal noise of this shape, mixed from both sources."""
        a, b = (standard_normal(shape, source) for source in (self.first, self.second))
        return self.weights[0] * a + self.weights[1] * b


NoiseSource = torch.Generator | MixedNoise
"""What an image takes its noise from: a seed's generator, or a mix."""


def standard_normal(shape: Sequence[int], source: NoiseSource) -> Tensor:
    """The next noise of a source, on the CPU."""
    if isinstance(source, MixedNoise):
        return source.normal(shape)
    return torch.randn(tuple(shape), generator=source, dtype=torch.float32)


def check_amount(amount: Any) -> float:
    """Raises ConfigError unless 0 <= amount <= 1."""
    found = real_number(amount, "amount")
    if not 0 <= found <= 1:
        raise ConfigError(
            f"amount = {amount} must be between 0 (the same image) and 1 (another seed's).",
            "0.1 to 0.3 are near relatives.",
        )
    return found
