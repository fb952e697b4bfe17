"""Which stages run, and the sizes of their images."""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from open_imagen.cascade.stage import Stage
from open_imagen.errors import ConfigError


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


def upscaling_stages(
    stages: Sequence[Stage], image_size: tuple[int, int], usual: int, model: str
) -> list[Stage]:
    """The super-resolution stages for an image of this width and height.

    They begin with the largest that the image can feed, and end where the model's images usually
    end, but make the image a stage larger at least.

    Args:
        usual: how many super-resolution stages run by default.

    Raises:
        ConfigError: there is no such stage, or the image is too small.
    """
    upscaling = [stage for stage in stages if stage.config.lowres]
    if not upscaling:
        raise ConfigError(f"The model {model!r} has no super-resolution stage.")
    fitting = [i for i, stage in enumerate(upscaling) if stage.config.lowres <= min(image_size)]
    if not fitting:
        smallest = upscaling[0].config
        raise ConfigError(
            f"The image is {image_size[0]}x{image_size[1]}; {smallest.name} needs "
            f"at least {smallest.lowres}x{smallest.lowres}."
        )
    return upscaling[fitting[-1] : max(usual, fitting[-1] + 1)]


def lowres_input(image: Image.Image, stage: Stage) -> Tensor:
    """The centre square of an image at the input resolution of a stage, uint8 [1, C, h, w]."""
    # "RGBa" is premultiplied: hidden colours leave no fringe when the image is scaled.
    has_alpha = stage.channels == 4
    image = image.convert("RGBA").convert("RGBa") if has_alpha else image.convert("RGB")
    small = ImageOps.fit(image, (stage.config.lowres,) * 2, Image.Resampling.BOX)
    return torch.from_numpy(np.array(small)).permute(2, 0, 1)[None]
