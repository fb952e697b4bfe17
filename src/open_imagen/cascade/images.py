"""Images at the edge of a cascade: what callers pass, and what networks return."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from open_imagen.cascade.records import open_image
from open_imagen.data.images import upright
from open_imagen.errors import ConfigError

CHANNELS = (1, 3, 4)


def to_uint8(x: Tensor) -> Tensor:
    """[-1, 1] -> 0..255, rounded."""
    return x.add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8)


def as_image(image: Any) -> Image.Image:
    """A PIL image from what callers have.

    Args:
        image: a PIL image; the path of a file, which is turned as its EXIF says; or an array or
            tensor [H, W], [H, W, C] or [C, H, W] with 1, 3 or 4 channels, whole numbers 0 to 255
            or fractions 0 to 1.

    Raises:
        DataError: there is no such file, or it is no image.
        ConfigError: it is none of these.
    """
    if isinstance(image, Image.Image):
        return image
    if isinstance(image, str | os.PathLike):
        return upright(open_image(Path(image)))
    if isinstance(image, Tensor):
        image = image.detach().cpu().numpy()
    if not isinstance(image, np.ndarray):
        raise ConfigError(
            f"image = {image!r} is no image.", "Pass a PIL image, a file, an array or a tensor."
        )
    return Image.fromarray(_bytes(_channels_last(image)))


def _channels_last(array: Any) -> Any:
    """[H, W], or [H, W, C] of 3 or 4 channels."""
    shape = array.shape
    if array.ndim == 4 and shape[0] == 1:
        return _channels_last(array[0])
    if array.ndim == 3 and shape[2] not in CHANNELS and shape[0] in CHANNELS:
        array = array.transpose(1, 2, 0)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    if array.ndim == 2 or (array.ndim == 3 and array.shape[2] in CHANNELS):
        return array
    raise ConfigError(
        f"An array of shape {list(shape)} is no image.",
        "It must be [H, W], [H, W, C] or [C, H, W], with 1, 3 or 4 channels.",
    )


def _bytes(array: Any) -> Any:
    """Whole numbers 0 to 255, or fractions 0 to 1, as uint8."""
    kind, highest = array.dtype.kind, 1 if array.dtype.kind == "f" else 255
    if kind not in "uif" or not array.size:
        raise ConfigError(f"An array of {array.dtype} is no image.", "Use uint8, or fractions.")
    if not (array.min() >= 0 and array.max() <= highest):
        raise ConfigError(
            f"An image of {array.dtype} must have values from 0 to {highest}, not "
            f"{array.min()} to {array.max()}."
        )
    if kind == "f":
        array = np.round(array.astype(np.float64) * 255)
    return np.ascontiguousarray(array.astype(np.uint8))
