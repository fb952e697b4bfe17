"""The canvas of an edit: an image with its extension, and the part of it that is edited.

The model's pixels are pasted back so that every pixel outside the mask keeps its value.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from open_imagen.cascade.alpha import over, premultiplied, straight
from open_imagen.cascade.masks import Box, Mask, at_size, bounding_box, feather
from open_imagen.cascade.values import whole_numbers
from open_imagen.data.original import Original
from open_imagen.errors import ConfigError

CONTEXT = 2.0
"""A crop is at least this many times as long and wide as what it shall make anew."""
WHOLE = 4
"""And at least this many times the side of the last stage's images: up to there a prompt that
describes the whole image is worth more than sharpness."""
FEATHER = 1 / 32
"""Width of the feather inside a mask, as a share of the crop's longer side."""
MAX_FEATHER = 24
"""In pixels; a wider one would mix in much of what was to go."""
MIN_CROP = 16
"""Side of a crop at least, in pixels."""
Extension = tuple[int, int, int, int]
"""Pixels to add left, above, right and below."""
Pixels = np.ndarray[Any, np.dtype[np.uint8]]


@dataclass(frozen=True)
class Canvas:
    """An image and what of it is made anew."""

    original: Original
    """As large as the result; what an extension added holds repeated edge pixels."""
    mask: Mask | None
    """None: the whole image is regenerated (image to image)."""
    extended: bool = False

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.original.image.size


def make_canvas(original: Original, mask: Mask | None, extend: Extension = (0, 0, 0, 0)) -> Canvas:
    """The canvas of an edit. What is added around the image is made anew too.

    Raises:
        ConfigError: a negative extension.
    """
    if any(extend):
        image = original.image
        around = ((extend[1], extend[3]), (extend[0], extend[2]))
        inside = np.zeros((image.height, image.width), bool) if mask is None else mask
        mask = np.pad(inside, around, constant_values=True)
        pixels = np.pad(np.asarray(image), (*around, (0, 0)), mode="edge")
        original = Original(Image.fromarray(pixels), original.profile)
    return Canvas(original, mask, any(extend))


def check_extension(
    extend: Sequence[int] | None, size: tuple[int, int], max_pixels: int
) -> Extension:
    """Left, top, right, bottom.

    Raises:
        ConfigError: not four whole numbers of at least 0, or more pixels than allowed.
    """
    numbers = (0, 0, 0, 0) if extend is None else whole_numbers(extend, "extend")
    if len(numbers) != 4 or min(numbers) < 0:
        raise ConfigError(
            f"extend = {','.join(map(str, numbers))} must be four numbers of at least 0: "
            "pixels to add left, above, right and below.",
            "Try 64,0,64,0.",
        )
    left, top, right, bottom = numbers
    width, height = size[0] + left + right, size[1] + top + bottom
    if width * height > max_pixels:
        raise ConfigError(
            f"extend = {left},{top},{right},{bottom} makes {width}x{height} pixels; the limit is "
            f"{max_pixels:,}."
        )
    return left, top, right, bottom


def crop_box(canvas: Canvas, side: int, context: int | None = None) -> Box:
    """The part of a canvas that is edited.

    All of it without a mask; otherwise a square around the mask, cut to the canvas.

    Args:
        side: of the last stage's images.
        context: pixels around the mask's box; None: see `CONTEXT` and `WHOLE`.
    """
    width, height = canvas.size
    if canvas.mask is None:
        return 0, 0, width, height
    left, top, right, bottom = bounding_box(canvas.mask)
    longest = max(right - left, bottom - top)
    wanted = max(WHOLE * side, math.ceil(CONTEXT * longest))
    if context is not None:
        wanted = max(longest + 2 * context, MIN_CROP)

    def around(low: int, high: int, limit: int) -> tuple[int, int]:
        length = min(wanted, limit)
        start = min(max((low + high - length) // 2, 0), limit - length)
        return start, start + length

    (left, right), (top, bottom) = around(left, right, width), around(top, bottom, height)
    return left, top, right, bottom


def base_size(width: int, height: int, resolution: int, unit: int) -> tuple[int, int]:
    """The size of the first stage's images for a crop.

    It has the crop's aspect ratio and about as many pixels as the stage was trained on; both sides
    are multiples of ``unit``.
    """

    def side(length: float) -> int:
        return max(unit, min(round(length / unit), 4 * resolution // unit) * unit)

    ratio = math.sqrt(width / height)
    return side(resolution * ratio), side(resolution / ratio)


@dataclass(frozen=True)
class Crop:
    """The part of a canvas that a model works on."""

    canvas: Canvas
    box: Box

    def _image(self, channels: int) -> Image.Image:
        """The crop for a model with this many channels: RGB, or premultiplied RGBA ("RGBa")."""
        part = Original(self.canvas.original.image.crop(self.box), self.canvas.original.profile)
        if channels == 4:
            return part.srgb.convert("RGBA").convert("RGBa")
        if part.image.mode == "RGBA":
            white = (255, 255, 255)
            return _from_tensor(over(premultiplied(part.srgb), white))
        return part.srgb

    def image_at(self, size: tuple[int, int], channels: int) -> Tensor:
        """The part at a stage's size (width, height), uint8 [C, H, W]."""
        scaled = resized(self._image(channels), size)
        return torch.from_numpy(np.array(scaled)).permute(2, 0, 1).contiguous()

    @property
    def mask(self) -> Mask | None:
        """The mask within the crop; None without one."""
        left, top, right, bottom = self.box
        mask = self.canvas.mask
        return None if mask is None else mask[top:bottom, left:right]

    def mask_at(self, size: tuple[int, int]) -> Tensor | None:
        """The mask at a stage's size, float [1, H, W]; None without one."""
        return None if self.mask is None else at_size(self.mask, size)

    def pasted(
        self,
        made: Tensor,
        background: tuple[int, int, int] | None,
        keep_alpha: bool,
        feather_width: int | None = None,
    ) -> Image.Image:
        """The canvas with a model's pixels, uint8 [C, H, W], in the mask.

        They are scaled to the crop and blended by the feather. Outside the mask every value is the
        original's.

        Args:
            background: behind what a model with alpha leaves transparent, where alpha is not kept.
            keep_alpha: the result is RGBA, with the model's own alpha in the mask.
            feather_width: in pixels; None for one that goes with the crop's size.
        """
        left, top, right, bottom = self.box
        original = self.canvas.original
        new = self._scaled(made, background, keep_alpha)
        with_alpha = keep_alpha or original.image.mode == "RGBA"
        pixels = np.array(original.image.convert("RGBA" if with_alpha else "RGB"))
        part = pixels[top:bottom, left:right]
        if self.mask is None:
            part[:] = np.asarray(new.convert("RGBA" if with_alpha else "RGB"))
            return Image.fromarray(pixels)
        width = feather_width
        if width is None:
            width = min(round(FEATHER * max(right - left, bottom - top)), MAX_FEATHER)
        weight = feather(self.mask, width)
        mixed = mix(part, np.asarray(new.convert("RGBA" if with_alpha else "RGB")), weight)
        part[self.mask] = mixed[self.mask]
        return Image.fromarray(pixels)

    def _scaled(
        self, made: Tensor, background: tuple[int, int, int] | None, keep_alpha: bool
    ) -> Image.Image:
        """The model's pixels at the crop's size, in the original's colours."""
        size = (self.box[2] - self.box[0], self.box[3] - self.box[1])
        if made.shape[0] == 3:
            new = resized(_from_tensor(made), size)
        else:
            stored = Image.fromarray(straight(made).permute(1, 2, 0).contiguous().numpy(), "RGBA")
            new = resized(stored.convert("RGBa"), size).convert("RGBA")
            if not keep_alpha:
                new = _from_tensor(over(premultiplied(new), background or (255, 255, 255)))
        return self.canvas.original.from_srgb(new)


def _from_tensor(pixels: Tensor) -> Image.Image:
    return Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())


def resized(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Resize by means of pixels for whole-number reductions, bicubic otherwise.

    Training data is made with means of pixels too.
    """
    if image.size == size:
        return image
    whole = all(now % then == 0 and now >= then for now, then in zip(image.size, size, strict=True))
    return image.resize(size, Image.Resampling.BOX if whole else Image.Resampling.BICUBIC)


def mix(old: Pixels, new: Pixels, weight: np.ndarray[Any, np.dtype[np.float32]]) -> Pixels:
    """Blend old and new pixels [H, W, C] by the weight [H, W] of the new.

    RGBA is weighted by alpha, so that hidden colours do not show.
    """
    share = weight[..., None]
    before, after = old.astype(np.float32), new.astype(np.float32)
    if old.shape[2] == 3:
        return (before + share * (after - before)).round().astype(np.uint8)
    alphas = (1 - share) * before[..., 3:], share * after[..., 3:]
    alpha = alphas[0] + alphas[1]
    colors = alphas[0] * before[..., :3] + alphas[1] * after[..., :3]
    colors = colors / np.maximum(alpha, 1e-6)
    return np.concatenate([colors, alpha], axis=-1).round().clip(0, 255).astype(np.uint8)
