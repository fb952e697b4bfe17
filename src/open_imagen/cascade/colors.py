"""Colour correction of an upscaled image, towards the colours of its low-resolution input."""

import itertools
import math

import torch
import torch.nn.functional as F
from torch import Tensor

from open_imagen.cascade.augmentation import WIDEST_BLUR
from open_imagen.errors import ConfigError

LIKE = 0.25
"""How far apart, of 2 from black to white, colours of one surface may be (a standard deviation)."""
SURE = 0.4
"""How much colours may differ within one surface, as a share of that."""
FINE = 1.6
"""A Gaussian of twice this sigma is summed over every second pixel, of three times every third."""
LEAST = 1e-5
"""Where all that is near weighs less together, little is known of a surface, and little changed."""


def correct_colors(image: Tensor, lowres: Tensor, sigma: float, like: float = LIKE) -> Tensor:
    """Give the surfaces of an upscaled image the colours of its low-resolution input.

    A joint bilateral filter (Kopf et al. 2007): the difference of the two in the mean of each
    low-resolution pixel is averaged with a Gaussian over places of similar colour, and added there.
    Low-resolution pixels are weighted by how flat the upscaled image is in them, so that edges
    hardly count. A second pass leaves out pixels whose difference is an outlier among their
    neighbours: an edge that the upscaled image has moved is no wrong colour.

    Args:
        image: [B, C, H, W] in [-1, 1].
        lowres: [B, C, h, w], with sides that divide those.
        sigma: of the Gaussian, in low-resolution pixels.
        like: see `LIKE`; infinite for a plain Gaussian, whatever the colours.
    """
    means = F.interpolate(image, size=lowres.shape[-2:], mode="area")
    error, sure = lowres - means, SURE * like
    flat = (1 + (spread(image, lowres.shape[-2:]) / sure) ** 2) ** -2

    def averaged(weight: Tensor) -> Tensor:
        sums = torch.cat([error * weight, weight], dim=1)
        for width, apart in gaussians(sigma):
            radius = math.ceil(2.5 * width / apart)
            near = [[bell(offset * apart, 0.0, width)] for offset in range(-radius, radius + 1)]
            sums = gathered(means, means, sums, near, near, like, apart)
        return sums

    usual = ratio(averaged(flat))
    odd = (error - usual).square().sum(1, keepdim=True)
    sums = averaged(flat * torch.exp(-odd / (2 * sure**2)))
    down, right = (
        [[bell(offset, (k + 0.5) / n - 0.5, 0.5) for k in range(n)] for offset in (-1, 0, 1)]
        for n in (image.shape[2] // lowres.shape[2], image.shape[3] // lowres.shape[3])
    )
    sums = gathered(image, means, sums, down, right, like)
    return image + ratio(sums)


def gaussians(sigma: float) -> list[tuple[float, int]]:
    """Split a wide Gaussian into smaller ones to convolve with in turn, each with its dilation.

    Once a narrow Gaussian has filled the gaps, a dilated one is as smooth as a dense one.
    """
    apart = round(sigma / FINE)
    if apart < 2:
        return [(sigma, 1)]
    narrow = apart / 3
    return [(narrow, 1), (math.sqrt(sigma**2 - narrow**2), apart)]


def ratio(sums: Tensor) -> Tensor:
    """The mean of what was summed, [B, C, h, w], of its sums and those of the weights."""
    return sums[:, :-1] / (sums[:, -1:] + LEAST)


def gathered(
    guide: Tensor,
    means: Tensor,
    sums: Tensor,
    down: list[list[float]],
    right: list[list[float]],
    like: float,
    apart: int = 1,
) -> Tensor:
    """At each pixel of ``guide`` [B, C, H, W] the sum of what lies near and is of like colour.

    Args:
        means: the colours of what is summed, [B, C, h, w].
        sums: what is summed, [B, D, h, w].
        down, right: the weights by place: for each step from a small pixel to its neighbours, one
            for each of the H / h (W / w) pixels in it.
        apart: how many pixels a step takes.
    """
    (height, width), radius = means.shape[-2:], len(down) // 2 * apart
    padded = F.pad(torch.cat([means, sums], dim=1), (radius,) * 4, mode="replicate")
    found = sums.new_zeros(*sums.shape[:2], *guide.shape[-2:])
    for (y, rows), (x, columns) in itertools.product(enumerate(down), enumerate(right)):
        there = padded[:, :, y * apart : y * apart + height, x * apart : x * apart + width]
        there = there.repeat_interleave(len(rows), 2).repeat_interleave(len(columns), 3)
        color, value = there[:, : means.shape[1]], there[:, means.shape[1] :]
        weight = torch.exp(-(guide - color).square().sum(1, keepdim=True) / (2 * like**2))
        weight = weight * guide.new_tensor(rows).repeat(height)[:, None]
        found += weight * guide.new_tensor(columns).repeat(width) * value
    return found


def spread(image: Tensor, size: torch.Size) -> Tensor:
    """The largest range of a channel within each low-resolution pixel, [B, 1, h, w]."""
    highest, lowest = (F.adaptive_max_pool2d(x, size) for x in (image, -image))
    return (highest + lowest).amax(1, keepdim=True)


def bell(place: float, middle: float, sigma: float) -> float:
    """A Gaussian of this width, 1 in the middle."""
    return math.exp(-(((place - middle) / sigma) ** 2) / 2)


def check_color_correction(sigma: float) -> None:
    """Raises ConfigError unless it is a sigma of a useful size."""
    if not 0 <= sigma <= WIDEST_BLUR:
        raise ConfigError(
            f"color_correction = {sigma} must be between 0 (off) and {WIDEST_BLUR:g} pixels of the "
            "picture that is enlarged.",
            "Try 2.",
        )
