"""Noise conditioning augmentation for super-resolution stages (section 2.4, figure A.32)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from open_imagen.diffusion.parameterization import diffuse
from open_imagen.diffusion.schedules import Schedule
from open_imagen.errors import ConfigError
from open_imagen.types import LowRes

SCHEDULE = Schedule(name="cosine")
"""Maps a noise level in [0, 1] to log-SNR. The paper does not say which; with the cosine, its
advice of 0.1 to 0.3 means a little to some noise (sigma 0.17 to 0.46)."""


def check_noise_level(level: float) -> None:
    """Raises ConfigError unless 0 <= level <= 1."""
    if not 0 <= level <= 1:
        raise ConfigError(
            f"noise_level = {level} must be between 0 and 1.", "The paper advises 0.1 to 0.3."
        )


def enlarge(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear resize of [B, 3, h, w] to (H, W), pixel centres aligned."""
    return F.interpolate(image, size=size, mode="bilinear", align_corners=False)


def augment(image: Tensor, level: Tensor, noise: Tensor, size: tuple[int, int]) -> LowRes:
    """Enlarge the low-resolution image, then diffuse it to its noise level.

    Args:
        image: [B, 3, h, w] in [-1, 1].
        level: [B] in [0, 1]; 0 is clean.
        noise: standard normal, [B, 3, *size].
        size: (H, W) of the stage.
    """
    logsnr = SCHEDULE.logsnr(level)
    clean = (level == 0)[:, None, None, None]
    enlarged = enlarge(image, size)
    return LowRes(torch.where(clean, enlarged, diffuse(enlarged, noise, logsnr)), logsnr)
