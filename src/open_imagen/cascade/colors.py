"""Colours of an enlarged picture, brought back to those of the small one."""

import torch
import torch.nn.functional as F
from torch import Tensor

from open_imagen.cascade.augmentation import WIDEST_BLUR, blurred
from open_imagen.errors import ConfigError


def recolored(image: Tensor, lowres: Tensor, sigma: float) -> Tensor:
    """An enlarged picture with the coarse colours of the one it was made of.

    What the two differ by in the mean of each small pixel goes through a Gaussian, is enlarged and
    added: surfaces get their colours back, and edges keep what is finer than the Gaussian. Wang et
    al. 2023 (StableSR) do it with wavelets.

    Args:
        image: [B, 3, H, W].
        lowres: [B, 3, h, w], with sides that divide those.
        sigma: of the Gaussian, in pixels of the small picture.
    """
    apart = lowres - F.interpolate(image, size=lowres.shape[-2:], mode="area")
    apart = blurred(apart, torch.full((len(image),), sigma, device=image.device))
    return image + F.interpolate(apart, size=image.shape[-2:], mode="bilinear")


def check_color_fix(sigma: float) -> None:
    """Raises ConfigError unless it is a width that pictures have."""
    if not 0 <= sigma <= WIDEST_BLUR:
        raise ConfigError(
            f"color_fix = {sigma} must be between 0 (off) and {WIDEST_BLUR:g} pixels of the "
            "picture that is enlarged.",
            "Try 2.",
        )
