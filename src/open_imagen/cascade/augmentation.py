"""Noise conditioning augmentation for super-resolution stages (section 2.4, figure A.32)."""

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from open_imagen.diffusion.parameterization import diffuse
from open_imagen.diffusion.schedules import STEPS, Schedule
from open_imagen.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """How the low-resolution image of a stage is enlarged and noised."""

    schedule: Schedule = field(default_factory=Schedule)
    """Maps a noise level in [0, 1] to log-SNR. The paper does not say which; with the cosine, its
    advice of 0.1 to 0.3 means a little to some noise (sigma 0.17 to 0.46)."""
    highest: float = 1.0
    """Training draws noise levels from 0 to this; 0 for a stage without augmentation."""
    align_corners: bool = False
    """Enlarge corner to corner (DeepFloyd IF), not with pixel centres aligned."""

    def __post_init__(self) -> None:
        if not 0 <= self.highest <= 1:
            raise ConfigError(f"augmentation.highest = {self.highest} must be between 0 and 1.")

    def logsnr(self, level: Tensor) -> Tensor:
        """Log-SNR of noise levels in [0, 1]; on a discrete schedule, of the nearest whole step."""
        if self.schedule.discrete:
            level = (level.double() * STEPS).round().clamp(max=STEPS - 1) / (STEPS - 1)
        return self.schedule.logsnr(level).to(torch.float32)

    def __call__(
        self, image: Tensor, level: Tensor, noise: Tensor, size: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        """Enlarge the low-resolution image, then diffuse it to its noise level.

        Args:
            image: [B, 3, h, w] in [-1, 1].
            level: [B] in [0, 1]; 0 is clean, but on a discrete schedule, whose first step is not.
            noise: standard normal, [B, 3, *size].
            size: (H, W) of the stage.

        Returns:
            The condition [B, 3, *size] and its log-SNR [B].
        """
        logsnr = self.logsnr(level)
        enlarged = F.interpolate(
            image, size=size, mode="bilinear", align_corners=self.align_corners
        )
        noised = diffuse(enlarged, noise, logsnr)
        if self.schedule.discrete:
            return noised, logsnr
        return torch.where((level == 0)[:, None, None, None], enlarged, noised), logsnr


def check_noise_level(level: float) -> None:
    """Raises ConfigError unless 0 <= level <= 1."""
    if not 0 <= level <= 1:
        raise ConfigError(
            f"noise_level = {level} must be between 0 and 1.", "The paper advises 0.1 to 0.3."
        )
