"""Images with transparency: premultiplied RGBA inside, PIL images on a background outside."""

import re

import numpy as np
import torch
from PIL import Image, ImageColor
from torch import Tensor

from open_imagen.errors import ConfigError

TRANSPARENT = "transparent"
WHITE = (255, 255, 255)


def parse_background(background: str | None) -> tuple[int, int, int] | None:
    """The colour behind images with alpha; None keeps them transparent.

    Args:
        background: None for white, "transparent", "#rrggbb", or a CSS colour name.

    Raises:
        ConfigError: it is none of these.
    """
    if background is None:
        return WHITE
    if background == TRANSPARENT:
        return None
    try:
        if not re.fullmatch(r"#[0-9a-fA-F]{6}|[a-zA-Z]+", background):
            raise ValueError
        red, green, blue = ImageColor.getrgb(background)[:3]
    except ValueError as error:
        raise ConfigError(
            f"background = {background!r} is not a colour.",
            'Use "transparent", a colour as "#rrggbb", or leave it out for white.',
        ) from error
    return red, green, blue


def over(pixels: Tensor, color: tuple[int, int, int]) -> Tensor:
    """Premultiplied RGBA on an opaque background. uint8 [..., 4, H, W] -> uint8 [..., 3, H, W].

    The "over" operator (Porter and Duff 1984): c + (1 - alpha) * background, rounded.
    """
    colors, alpha = pixels[..., :3, :, :].float(), pixels[..., 3:, :, :].float() / 255
    behind = torch.tensor(color, dtype=torch.float32, device=pixels.device)[:, None, None]
    return (colors + (1 - alpha) * behind).add(0.5).clamp(0, 255).to(torch.uint8)


def straight(pixels: Tensor) -> Tensor:
    """Premultiplied RGBA -> straight RGBA, as PNG and WebP hold it. uint8 [..., 4, H, W]."""
    colors, alpha = pixels[..., :3, :, :].float(), pixels[..., 3:, :, :]
    full = colors * 255 / alpha.float().clamp(min=1)
    full = full.add(0.5).clamp(0, 255).to(torch.uint8)
    return torch.cat([full, alpha], dim=-3)


def premultiplied(image: Image.Image) -> Tensor:
    """A PIL image of any mode -> premultiplied RGBA, uint8 [4, H, W]."""
    pixels = torch.from_numpy(np.array(image.convert("RGBA"))).permute(2, 0, 1).float()
    colors = (pixels[:3] * pixels[3:] / 255).add(0.5)
    return torch.cat([colors, pixels[3:]]).to(torch.uint8)


def to_image(pixels: Tensor, background: tuple[int, int, int] | None = WHITE) -> Image.Image:
    """A PIL image of uint8 [C, H, W]: RGB as it is, premultiplied RGBA on ``background``.

    Args:
        background: None keeps the transparency: an RGBA image.
    """
    if pixels.shape[0] == 4:
        pixels = straight(pixels) if background is None else over(pixels, background)
    return Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())
