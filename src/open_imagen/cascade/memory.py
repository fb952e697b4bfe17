"""Whether images of an unusual size fit the memory that is free, before any is sampled."""

import math
import warnings
from collections.abc import Mapping, Sequence

import torch

from open_imagen.cascade.sampling import ResolvedSampling
from open_imagen.cascade.stage import Stage
from open_imagen.cascade.tiling import LARGE
from open_imagen.devices import free_memory
from open_imagen.errors import ConfigError, OpenImagenWarning
from open_imagen.models.profile import count
from open_imagen.models.registry import resolve

IMAGES = 10
"""Float32 tensors of the image's size that a sampler and its denoiser hold at once."""
MAPS = 5
"""Feature maps of the largest size that a block holds at once, beside the skips."""
CERTAIN = 2.0
"""Estimates are up to twice too high: only what needs more than so much of the free memory is
refused."""
GIB = 2**30


def check_memory(
    stages: Sequence[Stage],
    first: tuple[int, int],
    number: int,
    settings: Mapping[str, ResolvedSampling],
    device: torch.device,
) -> None:
    """Warn of images that may not fit the free memory of a device.

    Args:
        first: height and width of the first stage's images.
        number: images in a batch.

    Raises:
        ConfigError: they cannot fit.
    """
    bottom = stages[0].config.resolution
    pixels = {one: math.prod(first) * (one.config.resolution // bottom) ** 2 for one in stages}
    if all(pixels[one] <= one.config.resolution**2 for one in stages):
        return
    each = {one: estimate(one, pixels[one], settings[one.config.name]) for one in stages}
    stage = max(each, key=lambda one: each[one])
    needed, free = number * each[stage], free_memory(device)
    if needed <= free:
        return
    scale = stage.config.resolution // bottom
    size = f"{first[1] * scale}x{first[0] * scale}"
    several = f"{number} images" if number > 1 else "An image"
    told = (
        f"{several} of {size} in the stage {stage.config.name} take about {needed / GIB:,.1f} GiB; "
        f"{free / GIB:,.1f} are free on {device}."
    )
    hint = "Ask for a smaller size" + (", or for fewer at once." if number > 1 else ".")
    if needed > CERTAIN * free:
        raise ConfigError(told, hint)
    warnings.warn(f"{told} {hint}", OpenImagenWarning, stacklevel=4)


def estimate(stage: Stage, pixels: int, settings: ResolvedSampling) -> int:
    """Bytes that sampling an image of so many pixels takes beside the weights; a rough estimate."""
    own = stage.config.resolution**2
    at_once = min(pixels, LARGE * own) if stage.config.lowres else pixels
    found = count(*resolve(stage.saved_network), stage.config.resolution)
    sizes = [math.prod(row.output) for row in found.rows]
    network = sum(sizes) / 2 + MAPS * max(sizes)
    guided = 1 if settings.guidance == 1 else 2
    images = 4 * IMAGES * stage.channels * pixels
    return round(images + guided * stage.dtype.itemsize * network * at_once / own)
