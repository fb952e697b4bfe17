"""Masks of edits: which pixels are made anew, at an image's size and at the stages' sizes."""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from open_imagen.data.images import as_rgb
from open_imagen.data.original import WITH_ALPHA, ImageSource, read_original
from open_imagen.errors import ConfigError

Mask = np.ndarray[Any, np.dtype[np.bool_]]
"""bool [H, W]: True where an image is made anew."""
Weights = np.ndarray[Any, np.dtype[np.float32]]
"""float32 [H, W]."""
Box = tuple[int, int, int, int]
"""Left, top, right and bottom edge in pixels; the last two are outside."""
HALF = 128
OWN_ALPHA = "alpha"


def read_mask(source: ImageSource, size: tuple[int, int], what: str = "mask") -> Mask:
    """The mask of an image of this size (width, height).

    A mask with transparent pixels is made anew where it is transparent (as the OpenAI Images API
    has it), any other where it is white.

    Raises:
        DataError: it cannot be read.
        ConfigError: its size is another, or it marks nothing or everything.
    """
    original = read_original(source, what)
    image = original.image
    if image.size != size:
        raise ConfigError(
            f"The mask is {image.width}x{image.height}, the image {size[0]}x{size[1]}.",
            "A mask has the size of the image it belongs to (turned as its EXIF says).",
        )
    return checked(from_alpha(image) if has_transparency(image) else from_gray(image), what)


def own_alpha(image: Image.Image) -> Mask:
    """The mask of an image that is itself transparent where it shall be made anew.

    Raises:
        ConfigError: it has no transparent pixel, or no other.
    """
    if not has_transparency(image):
        raise ConfigError(
            "mask = 'alpha', but the image has no transparent pixels.",
            "Erase what shall be made anew, or give a mask.",
        )
    return checked(from_alpha(image), "mask")


def has_transparency(image: Image.Image) -> bool:
    """Whether any pixel is less than opaque."""
    if image.mode not in WITH_ALPHA:
        return False
    return int(np.asarray(image.getchannel("A")).min()) < 255


def from_alpha(image: Image.Image) -> Mask:
    """The mask of an image with alpha: where it is more transparent than opaque."""
    return np.asarray(image.getchannel("A")) < HALF


def from_gray(image: Image.Image) -> Mask:
    """The mask of an image without alpha: where it is lighter than middle gray."""
    return np.asarray(as_rgb(image).convert("L")) >= HALF


def checked(mask: Mask, what: str) -> Mask:
    """The mask, if it marks some pixels and leaves some.

    Raises:
        ConfigError: otherwise.
    """
    if not mask.any():
        raise ConfigError(
            f"The {what} is empty: it marks no pixel to make anew.",
            "Paint white (or erase to transparency) what shall change.",
        )
    if mask.all():
        raise ConfigError(
            f"The {what} covers the whole image: nothing would be kept.",
            "Leave it out to change the whole image, or invert it.",
        )
    return mask


def bounding_box(mask: Mask) -> Box:
    """The smallest box that holds all marked pixels."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def distance_inside(mask: Mask, limit: int) -> Weights:
    """How far each marked pixel is from the nearest unmarked one, up to ``limit``; 0 outside.

    Euclidean, between the centres of pixels. Beyond the image's edge nothing is unmarked: a mask
    that reaches the edge goes on there.
    """
    far = limit + 1
    height, width = mask.shape
    place = np.broadcast_to(np.arange(width), mask.shape)
    before = np.maximum.accumulate(np.where(mask, -far, place), axis=1)
    after = np.minimum.accumulate(np.where(mask, width + far, place)[:, ::-1], axis=1)[:, ::-1]
    across = np.minimum(np.minimum(place - before, after - place), far).astype(np.float32) ** 2
    nearest = across.copy()
    for step in range(1, min(limit, height - 1) + 1):
        np.minimum(nearest[step:], across[:-step] + step**2, out=nearest[step:])
        np.minimum(nearest[:-step], across[step:] + step**2, out=nearest[:-step])
    found: Weights = np.sqrt(np.minimum(nearest, limit**2)).astype(np.float32)
    return found


def feather(mask: Mask, width: int) -> Weights:
    """The weight of the new image at each pixel: 0 outside the mask, rising to 1 inside it.

    It rises over ``width`` pixels. A mask that is nowhere so deep gets a steeper rise, so that 1 is
    reached.
    """
    if width < 1:
        return mask.astype(np.float32)
    distance = distance_inside(mask, 2 * (width + 1))
    deepest = float(distance.max())
    share: Weights = np.clip(distance / max(1.0, min(width + 1.0, deepest / 2)), 0, 1)
    # Flat at both ends: a straight rise would begin with a crease along the border.
    return share * share * (3 - 2 * share)


def at_size(mask: Mask, size: tuple[int, int]) -> Tensor:
    """The mask at a stage's size (width, height), float [1, H, W] of 0 and 1.

    A pixel is made anew if any of what it covers is: nothing that was to go is taken for known.
    """
    width, height = size
    marked = torch.from_numpy(mask)[None, None].float()
    # Enlarged to at least the stage's size first: pooling alone could skip thin masks.
    grow = max(1, -(-height // mask.shape[0]), -(-width // mask.shape[1]))
    if grow > 1:
        marked = F.interpolate(marked, scale_factor=grow, mode="nearest")
    return F.adaptive_max_pool2d(marked, (height, width))[0]
