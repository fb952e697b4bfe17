"""Which stages run, and the sizes of their images."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from open_imagen.cascade.alpha import WHITE, over, premultiplied
from open_imagen.cascade.stage import Stage
from open_imagen.errors import ConfigError

MIN_SIDE = 8
"""Of an image to upscale, in pixels."""
MAX_UPSCALED = 2**26
"""Pixels of an upscaled image at most: 8192x8192."""


def choose_stages(
    stages: Sequence[Stage], number: int | None, default: int | None, model: str
) -> list[Stage]:
    """The first ``number`` stages; if None, as many as the model runs by default.

    Raises:
        ConfigError: the model has fewer.
    """
    if number is not None and not 1 <= number <= len(stages):
        raise ConfigError(
            f"stages = {number}, but the model {model!r} has {len(stages)}: "
            f"{', '.join(stage.config.name for stage in stages)}."
        )
    return list(stages[: default if number is None else number])


def stages_up_to(size: tuple[int, int], stages: Sequence[Stage]) -> int | None:
    """How many stages end with square images of this size; None if no stage does."""
    sides = [stage.config.resolution for stage in stages]
    return sides.index(size[0]) + 1 if size[0] == size[1] and size[0] in sides else None


def first_size(size: tuple[int, int], chosen: Sequence[Stage]) -> tuple[int, int]:
    """Width and height of the first stage's images for final ones of this size.

    Raises:
        ConfigError: no such size can be made; the message names the nearest that can.
    """
    unit = 64 if len(chosen) > 1 else 8
    smallest = unit if len(chosen) > 1 else 2 * unit
    if any(side % unit or side < smallest for side in size):
        near = "x".join(str(max(smallest, round(side / unit) * unit)) for side in size)
        raise ConfigError(
            f"size = {size[0]}x{size[1]}: both sides must be multiples of {unit}, at least "
            f"{smallest}.",
            f"The nearest is {near}.",
        )
    scale = chosen[-1].config.resolution // chosen[0].config.resolution
    return size[0] // scale, size[1] // scale


def size_unit(stages: Sequence[Stage]) -> int:
    """The sides of the first stage's images must be multiples of this, at least 8.

    Then every network can process the images of its stage.
    """
    first, unit = stages[0].config.resolution, 8
    for stage in stages:
        scale, divisor = stage.config.resolution // first, stage.network_config.divisor
        unit = math.lcm(unit, divisor // math.gcd(divisor, scale))
    return unit


def upscaling_stages(
    stages: Sequence[Stage], image_size: tuple[int, int], usual: int, model: str
) -> list[Stage]:
    """The super-resolution stages for an image of this width and height.

    They begin with the one whose input is nearest to the image in size, and end where the model's
    images usually end, but make the image a stage larger at least.

    Args:
        usual: how many super-resolution stages run by default.

    Raises:
        ConfigError: there is no such stage, or the image is too small or too large.
    """
    upscaling = [stage for stage in stages if stage.config.lowres]
    if not upscaling:
        raise ConfigError(f"The model {model!r} has no super-resolution stage.")
    width, height = image_size
    if min(image_size) < MIN_SIDE:
        raise ConfigError(
            f"The image is {width}x{height}; both sides must be at least {MIN_SIDE} pixels."
        )
    side = math.log(math.sqrt(width * height))
    distances = [abs(side - math.log(stage.config.lowres)) for stage in upscaling]
    first = distances.index(min(distances))
    chosen = upscaling[first : max(usual, first + 1)]
    scale = chosen[-1].config.resolution // chosen[0].config.lowres
    if width * height * scale**2 > MAX_UPSCALED:
        raise ConfigError(
            f"The image is {width}x{height}; {scale} times as large it would have more than "
            f"{MAX_UPSCALED:,} pixels.",
            "Upscale parts of it.",
        )
    return chosen


def lowres_input(image: Image.Image, stage: Stage) -> Tensor:
    """An image as the low-resolution input of a stage, uint8 [1, C, h, w], at its own size.

    Transparent places are white where the stage has no alpha.
    """
    if stage.channels == 4:
        pixels = premultiplied(image)
    elif image.mode == "RGBA":
        pixels = over(premultiplied(image), WHITE)
    else:
        pixels = torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)
    return pixels[None].contiguous()
