"""Noise conditioning augmentation for super-resolution (section 2.4, figure A.32); blur, warp."""

import math
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from open_imagen.devices import float64
from open_imagen.diffusion.parameterization import diffuse
from open_imagen.diffusion.schedules import STEPS, Schedule
from open_imagen.errors import ConfigError

WIDEST_BLUR = 8.0
"""In pixels of the low-resolution image; more is a slip of units."""
WIDEST_WARP = 3.0
"""In the same; from there on neighbours often change places."""
POINTS, SPACING = 12, 3
"""Of the random points that a warp is interpolated from: how many a side, how many pixels apart."""


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """How the low-resolution image of a stage is upsampled and noised."""

    schedule: Schedule = field(default_factory=Schedule)
    """Maps a noise level in [0, 1] to log-SNR. The paper does not say which; with the cosine, its
    advice of 0.1 to 0.3 means a little to some noise (sigma 0.17 to 0.46)."""
    highest: float = 1.0
    """Training draws noise levels from 0 to this; 0 for a stage without augmentation."""
    blur: float = 0.0
    """Training blurs the low-resolution image by a Gaussian whose sigma, in that image's pixels, is
    drawn from 0 to this. The stage below generates softer edges than downscaled photographs have,
    and a network trained on sharp inputs alone leaves them soft (Ho et al. 2021, section 4.2)."""
    warp: float = 0.0
    """Training fetches the pixels of the low-resolution image from a little beside their places, by
    a smooth random field (Simard et al. 2003) whose standard deviation, in that image's pixels, is
    drawn from 0 to this: a stage below that draws wavy lines gets straight ones of them."""
    align_corners: bool = False
    """Enlarge corner to corner (DeepFloyd IF), not with pixel centres aligned."""

    def __post_init__(self) -> None:
        if not 0 <= self.highest <= 1:
            raise ConfigError(f"augmentation.highest = {self.highest} must be between 0 and 1.")
        if not 0 <= self.blur <= WIDEST_BLUR:
            raise ConfigError(
                f"augmentation.blur = {self.blur} must be between 0 and {WIDEST_BLUR:g} pixels."
            )
        if not 0 <= self.warp <= WIDEST_WARP:
            raise ConfigError(
                f"augmentation.warp = {self.warp} must be between 0 and {WIDEST_WARP:g} pixels."
            )

    def logsnr(self, level: Tensor) -> Tensor:
        """Log-SNR of noise levels in [0, 1]; on a discrete schedule, of the nearest whole step."""
        if self.schedule.discrete:
            place = (float64(level) * STEPS).round().clamp(max=STEPS - 1) / (STEPS - 1)
            return self.schedule.logsnr(place).to(level.device, torch.float32)
        return self.schedule.logsnr(level).to(torch.float32)

    def __call__(
        self, image: Tensor, level: Tensor, noise: Tensor, size: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        """Enlarge the low-resolution image, then diffuse it to its noise level.

        Args:
            image: [B, C, h, w] in [-1, 1].
            level: [B] in [0, 1]; 0 is clean, but on a discrete schedule, whose first step is not.
            noise: standard normal, [B, C, *size].
            size: (H, W) of the stage.

        Returns:
            The condition [B, C, *size] and its log-SNR [B].
        """
        logsnr = self.logsnr(level)
        enlarged = F.interpolate(
            image, size=size, mode="bilinear", align_corners=self.align_corners
        )
        noised = diffuse(enlarged, noise, logsnr)
        if self.schedule.discrete:
            return noised, logsnr
        return torch.where((level == 0)[:, None, None, None], enlarged, noised), logsnr


def blurred(image: Tensor, sigma: Tensor) -> Tensor:
    """Each image through a Gaussian of its own, cut off at 3 of the widest; edges are repeated.

    Args:
        image: [B, C, h, w].
        sigma: standard deviations in pixels, [B]; 0 leaves an image as it is.
    """
    radius = math.ceil(3 * float(sigma.max()))
    places = torch.arange(-radius, radius + 1, device=image.device, dtype=torch.float32)
    taps = torch.exp(-((places / sigma.float().clamp(min=1e-3)[:, None]) ** 2) / 2)
    taps = (taps / taps.sum(1, keepdim=True)).to(image.dtype)
    taps = taps.repeat_interleave(image.shape[1], dim=0)
    rows = F.pad(image, (radius,) * 4, mode="replicate").flatten(0, 1)[None]  # [1, CB, H, W]
    rows = F.conv2d(rows, taps[:, None, :, None], groups=len(taps))
    return F.conv2d(rows, taps[:, None, None, :], groups=len(taps)).view_as(image)


def warped(image: Tensor, sigma: Tensor, points: Tensor) -> Tensor:
    """Each image with its pixels fetched from beside their places, bilinearly; edges are repeated.

    Args:
        image: [B, C, h, w].
        sigma: standard deviations of the way in pixels, [B].
        points: standard normal, [B, 2, POINTS, POINTS]: the ways right and down, every SPACING
            pixels and over again; between them they are interpolated bicubically.
    """
    height, width = image.shape[2:]
    down, right = (
        torch.arange(math.ceil(n / SPACING), device=image.device) % POINTS for n in (height, width)
    )
    ways = F.interpolate(points[:, :, down][..., right], scale_factor=SPACING, mode="bicubic")
    ways = ways[..., :height, :width] * sigma[:, None, None, None]
    pixel = ways.new_tensor([2 / width, 2 / height])
    still = torch.eye(2, 3, device=image.device, dtype=torch.float32).expand(len(image), 2, 3)
    places = F.affine_grid(still, list(image.shape), align_corners=False)
    places = places + ways.permute(0, 2, 3, 1) * pixel
    return F.grid_sample(
        image.float(), places, mode="bilinear", padding_mode="border", align_corners=False
    ).to(image.dtype)


def check_noise_level(level: float) -> None:
    """Raises ConfigError unless 0 <= level <= 1."""
    if not 0 <= level <= 1:
        raise ConfigError(
            f"noise_level = {level} must be between 0 and 1.", "The paper advises 0.1 to 0.3."
        )
