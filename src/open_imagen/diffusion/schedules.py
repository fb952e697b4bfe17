"""Noise schedules: time t in [0, 1] -> log-SNR -> (alpha, sigma).

Variance preserving: z = alpha x + sigma eps, alpha^2 + sigma^2 = 1, logsnr = log(alpha^2 / sigma^2)
(Saharia et al. 2022, appendix A). t = 0 is clean, t = 1 is noise.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from open_imagen.errors import ConfigError
from open_imagen.registry import Registry

Curve = Callable[["Schedule", Tensor], Tensor]
CURVES: Registry[Curve] = Registry("schedule")


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Which noise level belongs to which time."""

    name: str = "cosine"
    """cosine, linear or shifted."""
    resolution: int = 64
    """Side of the images in pixels; `shifted` alone uses it."""
    reference: int = 64
    """The resolution at which `shifted` is the plain truncated cosine."""
    logsnr_min: float = -15.0
    """Lower bound of the log-SNR, reached at t = 1."""
    logsnr_max: float = 15.0
    """Upper bound of the log-SNR, reached at t = 0."""

    def __post_init__(self) -> None:
        CURVES[self.name]
        if not self.logsnr_min < self.logsnr_max:
            raise ConfigError(
                f"schedule.logsnr_min = {self.logsnr_min} must be below "
                f"schedule.logsnr_max = {self.logsnr_max}."
            )

    def logsnr(self, t: Tensor) -> Tensor:
        """Log-SNR at times t in [0, 1], any shape; falls as t grows."""
        return CURVES[self.name](self, t).clamp(self.logsnr_min, self.logsnr_max)

    def levels(self, steps: int) -> Tensor:
        """Noise levels for sampling, noisiest first, float64 on the CPU, shape [steps + 1].

        Times are spaced evenly from 1 to 0 (appendix A); the last level is +inf, which is the
        clean image itself, so that no residue of noise stays in it.

        Raises:
            ConfigError: steps is below 1.
        """
        if steps < 1:
            raise ConfigError(f"steps = {steps} must be at least 1.", "Try 50.")
        t = torch.linspace(1, 0, steps + 1, dtype=torch.float64)
        return torch.cat([self.logsnr(t[:-1]), t.new_full((1,), math.inf)])


def alpha_sigma(logsnr: Tensor) -> tuple[Tensor, Tensor]:
    """Signal and noise scale: alpha^2 = sigmoid(logsnr), sigma^2 = sigmoid(-logsnr)."""
    return logsnr.sigmoid().sqrt(), (-logsnr).sigmoid().sqrt()


@CURVES.register("cosine")
def cosine(schedule: Schedule, t: Tensor) -> Tensor:
    """alpha^2 = cos^2(pi/2 (t + s) / (1 + s)), s = 0.008 (Nichol and Dhariwal 2021, eq. 17)."""
    s = 0.008
    return -2 * torch.log(torch.tan(math.pi / 2 * (t + s) / (1 + s)).clamp(min=1e-12, max=1e12))


@CURVES.register("linear")
def linear(schedule: Schedule, t: Tensor) -> Tensor:
    """The 1,000-step linear schedule (beta 1e-4 to 0.02) in continuous time.

    alpha^2 = exp(-(1e-4 + 10 t^2)), hence logsnr = -log(expm1(1e-4 + 10 t^2)).
    """
    return -torch.log(torch.expm1(1e-4 + 10 * t**2))


@CURVES.register("shifted")
def shifted(schedule: Schedule, t: Tensor) -> Tensor:
    """Cosine, moved towards noise as images grow (Hoogeboom et al. 2023, simple diffusion).

    logsnr = -2 log tan(a + t (b - a)) + 2 log(reference / resolution), where a and b give
    the two bounds at t = 0 and 1.
    """
    a = math.atan(math.exp(-schedule.logsnr_max / 2))
    b = math.atan(math.exp(-schedule.logsnr_min / 2))
    shift = 2 * math.log(schedule.reference / schedule.resolution)
    return -2 * torch.log(torch.tan(a + t * (b - a))) + shift
