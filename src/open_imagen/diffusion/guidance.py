"""Classifier-free guidance: how strongly the picture follows the text (section 2.2)."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from open_imagen.errors import ConfigError


@dataclass(frozen=True)
class Guidance:
    """Guidance weight, and where and how it applies."""

    weight: float = 1.0
    """w: 1 is off, 0 ignores the text."""
    logsnr_low: float = -math.inf
    """Guide only at this log-SNR or above (Kynkaanniemi et al. 2024; below it there is almost
    nothing but noise)."""
    logsnr_high: float = math.inf
    """Guide only below this log-SNR (above it the picture is decided)."""
    constant_steps: float = math.inf
    """After so many steps every second one is not guided: oscillating guidance (Ho et al. 2022,
    Imagen Video, section 3.5)."""
    rescale: float = 0.0
    """How far, 0 to 1, the guided prediction is brought back to the spread of the unguided one
    (Lin et al. 2023, 3.4)."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.weight) and self.weight >= 0):
            raise ConfigError(
                f"guidance = {self.weight} must be a number of at least 0.",
                "1 is off; 2 to 8 is usual.",
            )
        if not 0 <= self.rescale <= 1:
            raise ConfigError(f"guidance_rescale = {self.rescale} must be between 0 and 1.")
        if not self.constant_steps >= 0:
            raise ConfigError(f"guidance_steps = {self.constant_steps} must be at least 0.")

    def at(self, logsnr: float, step: int = 0) -> float:
        """The weight at this level and step, counted from 0; 1 where only one prediction is needed.

        >>> [Guidance(9.0, constant_steps=2).at(0.0, step) for step in range(6)]
        [9.0, 9.0, 1.0, 9.0, 1.0, 9.0]
        """
        resting = step >= self.constant_steps and (step - self.constant_steps) % 2 == 0
        within = self.logsnr_low <= logsnr < self.logsnr_high
        return self.weight if within and not resting else 1.0


def guide(conditional: Tensor, unconditional: Tensor, weight: float | Tensor) -> Tensor:
    """w c + (1 - w) u (section 2.2, eq. 2).

    The same in eps, x and v, since these are affine in each other at one noise level.
    """
    return unconditional + weight * (conditional - unconditional)


def guide_on(
    conditional: Tensor,
    unconditional: Tensor,
    weight: float | Tensor,
    guided: float = 1.0,
    negative: Tensor | None = None,
) -> Tensor:
    """Guidance of a network whose predictions are guided already, by the weight ``guided``.

    Its c' and n' are u + g (c - u) and u + g (n - u), of which w c + (1 - w) n is
    u + (w / g) (c' - u) - ((w - 1) / g) (n' - u); without a negative prompt n is u.
    """
    found = guide(conditional, unconditional, weight / guided)
    if negative is not None:
        found = found - (weight - 1) / guided * (negative - unconditional)
    return found


def rescaled(guided: Tensor, conditional: Tensor, amount: float) -> Tensor:
    """Guided predictions [B, ...] with part of their excess spread taken back (Lin et al. 2023).

    amount * guided * std(conditional) / std(guided) + (1 - amount) * guided, image by image.
    """
    spread = [torch.std(x.flatten(1), dim=1) for x in (conditional, guided)]
    ratio = (spread[0] / spread[1]).reshape(-1, *[1] * (guided.ndim - 1))
    return guided * (1 + amount * (ratio - 1))
