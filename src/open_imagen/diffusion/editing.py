"""Sampling that begins from an image: image to image, inpainting, and RePaint's resampling.

Image to image (SDEdit, Meng et al. 2022) noises an image to one of the sampler's levels and walks
down from there. Inpainting (RePaint, Lugmayr et al. 2022) lets the network see, where an image is
known, that image with the noise of the level. Both work with every sampler, since a sampler knows
its image through `denoise` alone.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from open_imagen.diffusion.samplers import Denoise, Estimate, Noise, Sampler, image_of, scales

KNOWN = ("renoised", "clean")
"""How a network sees known pixels: with the level's noise, or without any (DeepFloyd IF)."""


def levels_from(levels: Sequence[float], strength: float) -> list[float]:
    """The noise levels that are left to walk: the last ``strength`` of the steps, at least one.

    >>> levels_from([-8.0, -4.0, 0.0, 4.0, math.inf], 0.5)
    [0.0, 4.0, inf]

    Args:
        levels: noisiest first, the clean image last.
        strength: above 0, at most 1, which is all of them.
    """
    steps = len(levels) - 1
    kept = min(max(int(steps * strength), 1), steps)
    return list(levels[steps - kept :])


def diffuse_to(image: Tensor, noise: Tensor, logsnr: float) -> Tensor:
    """The image with the noise of a level, which may be pure noise."""
    alpha, sigma = scales(logsnr)
    return alpha * image + sigma * noise


def forward_step(z: Tensor, now: float, then: float, noise: Tensor) -> Tensor:
    """From z at the level ``now`` to a noisier one, by the forward process q(z_then | z_now)."""
    (alpha, sigma), (alpha_then, sigma_then) = scales(now), scales(then)
    ratio = alpha_then / alpha
    return ratio * z + math.sqrt(max(sigma_then**2 - (ratio * sigma) ** 2, 0.0)) * noise


def with_known_pixels(
    denoise: Denoise, image: Tensor, mask: Tensor, noise: Noise, known: str = "renoised"
) -> Denoise:
    """The same, for an image that is known where the mask is 0.

    There the network sees the image at the level of z with fresh noise, and the estimate is the
    image itself: whatever the sampler, its result is the image there.

    Args:
        image: [B, C, H, W].
        mask: [B, 1, H, W] of 0 and 1; 1 where the image is made anew.
        noise: draws fresh noise of the shape of z.
        known: renoised, or clean: the network sees the image without noise at all levels.
    """
    kept = 1 - mask

    def denoise_unknown(z: Tensor, logsnr: float) -> Estimate:
        seen = diffuse_to(image, noise(), logsnr) if known == "renoised" else image
        estimate = denoise(mask * z + kept * seen, logsnr)
        x = mask * image_of(estimate) + kept * image
        return x if isinstance(estimate, Tensor) else (x, estimate[1])

    return denoise_unknown


def with_resampling(sampler: Sampler, times: int) -> Sampler:
    """A sampler that repeats every step but the last ``times`` times (RePaint, algorithm 1).

    Each step goes down, back up by the forward process, and down again, which harmonises generated
    and known pixels. Jumps are one step long.

    Each step is a walk of its own, so that samplers of many steps become those of a single one.
    """
    if times == 1:
        return sampler

    def resampling(denoise: Denoise, z: Tensor, logsnrs: Sequence[float], noise: Noise) -> Tensor:
        for now, then in pairwise(map(float, logsnrs)):
            repeats = times if then < math.inf else 1
            for k in range(repeats):
                z = sampler(denoise, z, [now, then], noise)
                if k < repeats - 1:
                    z = forward_step(z, then, now, noise())
        return z

    return resampling


@dataclass(frozen=True)
class StartImage:
    """What a run of a sampler begins from, where that is not noise alone."""

    image: Tensor
    """[B, C, H, W] in [-1, 1]."""
    strength: float
    """The share of the steps that is walked, above 0 and at most 1."""
    mask: Tensor | None = None
    """[B, 1, H, W] of 0 and 1, 1 where the image is made anew; None: everywhere."""
    resample: int = 1
    """How often each step is walked; see `with_resampling`."""
    known: str = "renoised"
    """How the network sees known pixels; see `with_known_pixels`."""

    def sample(
        self,
        sampler: Sampler,
        denoise: Denoise,
        noise: Noise,
        levels: Sequence[float],
        first: Tensor,
    ) -> Tensor:
        """Walk down from the image.

        Args:
            levels: those that are walked, as `levels_from` leaves them.
            first: the noise that the image begins with.
        """
        z = diffuse_to(self.image, first, levels[0])
        if self.mask is None:
            return with_resampling(sampler, self.resample)(denoise, z, levels, noise)
        denoise = with_known_pixels(denoise, self.image, self.mask, noise, self.known)
        made = with_resampling(sampler, self.resample)(denoise, z, levels, noise)
        return torch.where(self.mask > 0, made, self.image)
