"""Classifier-free guidance: how strongly the picture follows the text (section 2.2)."""

import math
from dataclasses import dataclass

from torch import Tensor

from open_imagen.errors import ConfigError


@dataclass(frozen=True)
class Guidance:
    """Guidance weight, and the noise levels where it applies (Kynkaanniemi et al. 2024)."""

    weight: float = 1.0
    """w: 1 is off, 0 ignores the text."""
    logsnr_low: float = -math.inf
    """Guide only at this log-SNR or above (below it there is almost nothing but noise)."""
    logsnr_high: float = math.inf
    """Guide only below this log-SNR (above it the picture is decided)."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.weight) and self.weight >= 0):
            raise ConfigError(
                f"guidance = {self.weight} must be a number of at least 0.",
                "1 is off; 2 to 8 is usual.",
            )

    def active(self, logsnr: float) -> bool:
        """Whether a second, unconditional prediction is needed at this level."""
        return self.weight != 1.0 and self.logsnr_low <= logsnr < self.logsnr_high


def guide(conditional: Tensor, unconditional: Tensor, weight: float) -> Tensor:
    """w c + (1 - w) u (section 2.2, eq. 2).

    The same in eps, x and v, since these are affine in each other at one noise level.
    """
    return unconditional + weight * (conditional - unconditional)
