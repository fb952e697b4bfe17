"""Recoloring of sprites towards a named color in OKLab: shading and dark outlines stay."""

from functools import lru_cache

import torch
from torch import Tensor

from open_imagen.worlds.things.scenes import COLORS

# Ottosson, "A perceptual color space for image processing" (2020).
_TO_LMS = (
    (0.4122214708, 0.5363325363, 0.0514459929),
    (0.2119034982, 0.6806995451, 0.1073969566),
    (0.0883024619, 0.2817188376, 0.6299787005),
)
_TO_LAB = (
    (0.2104542553, 0.7936177850, -0.0040720468),
    (1.9779984951, -2.4285922050, 0.4505937099),
    (0.0259040371, 0.7827717662, -0.8086757660),
)


def to_oklab(rgb: Tensor) -> Tensor:
    """[..., 3, H, W] sRGB in [0, 1] -> OKLab."""
    linear = torch.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return _mix(_TO_LAB, _mix(_TO_LMS, linear).clamp(min=0) ** (1 / 3))


def to_srgb(lab: Tensor) -> Tensor:
    """The inverse of `to_oklab`, clamped to what sRGB can show."""
    lms = _mix(torch.tensor(_TO_LAB).inverse(), lab) ** 3
    linear = _mix(torch.tensor(_TO_LMS).inverse(), lms).clamp(0, 1)
    return torch.where(
        linear <= 0.0031308, linear * 12.92, 1.055 * linear.clamp(min=1e-8) ** (1 / 2.4) - 0.055
    )


def _mix(rows: Tensor | tuple[tuple[float, ...], ...], image: Tensor) -> Tensor:
    first, second, third = image.unbind(-3)
    mixed = [float(a) * first + float(b) * second + float(c) * third for a, b, c in rows]
    return torch.stack(mixed, -3)


NAMES = tuple(COLORS)
"""A color's place here is its number in `recolor`."""


@lru_cache(maxsize=8)
def targets(device: torch.device) -> Tensor:
    """The named colors in OKLab, [n, 3]; kept on the device, so that drawing never waits for it."""
    shades = torch.tensor(list(COLORS.values())).float() / 255
    return to_oklab(shades[:, :, None, None])[..., 0, 0].to(device)


DARK, PALE = 0.25, 0.07
"""Lightness below which a pixel is an outline; chroma below which a light pixel is white."""
DARKEST = 0.27
"""The lightness of things that are made black."""
BINS = 64


def recolor(sprites: Tensor, numbers: Tensor) -> Tensor:
    """Premultiplied sprites [N, 4, S, S] in [0, 1], each with the color of its number in `NAMES`.

    The main lightness of a sprite becomes the target's; lighter and darker pixels keep their
    distance in part, black stays black. White details (eyes, teeth) stay white, unless the sprite
    is white itself.
    """
    alpha = sprites[:, 3:]
    lab = to_oklab((sprites[:, :3] / alpha.clamp(min=1 / 255)).clamp(0, 1))
    light, chroma = lab[:, :1], torch.hypot(lab[:, 1:2], lab[:, 2:])
    white = _step(light, 0.82, 0.92) * (1 - _step(chroma, 0.02, PALE))
    share = _mean(white, alpha)
    white = white * (1 - _step(share, 0.12, 0.3))
    weight = alpha * _step(light, DARK, DARK + 0.15) * (1 - white) + 1e-6 * alpha
    main = _median(light, weight).clamp(min=0.1)
    target = targets(sprites.device)[numbers]
    # In black there would be no room for outlines.
    goal = target[:, :1, None, None].clamp(min=DARKEST)
    room = (1 - goal) / (1 - main).clamp(min=0.08)
    above = (light - main).clamp(min=0) * torch.minimum(room, 0.3 + 0.6 * goal)
    # A darker goal compresses the shading below; a lighter one lifts all but the outlines.
    lifted = light + (goal - main) * _step(light, 0.35 * main, 0.85 * main)
    below = torch.where(goal < main, light * goal / main, lifted)
    shaded = torch.where(light > main, goal + above, below).clamp(0, 1)
    # Color fades towards black and towards white, as paint's does.
    fade = (shaded / goal.clamp(min=0.05)).clamp(max=1)
    fade = fade * (1 - 0.8 * ((shaded - goal) / (1.001 - goal)).clamp(0, 1))
    tint = torch.cat([shaded, target[:, 1:, None, None] * fade], 1)
    mixed = torch.lerp(tint, lab, white.expand_as(lab))
    return torch.cat([to_srgb(mixed) * alpha, alpha], 1)


def _mean(values: Tensor, weights: Tensor) -> Tensor:
    total = weights.sum((1, 2, 3), keepdim=True).clamp(min=1e-6)
    return (values * weights).sum((1, 2, 3), keepdim=True) / total


def _median(values: Tensor, weights: Tensor) -> Tensor:
    """The weighted median of each image's values in [0, 1], to one of `BINS` steps."""
    places = (values.flatten(1) * BINS).long().clamp(0, BINS - 1)
    empty = torch.zeros(len(values), BINS, device=values.device)
    filled = empty.scatter_add_(1, places, weights.flatten(1)).cumsum(1)
    middle = (filled < filled[:, -1:] / 2).sum(1, keepdim=True)
    return ((middle + 0.5) / BINS)[:, :, None, None]


def _step(values: Tensor, low: float | Tensor, high: float | Tensor) -> Tensor:
    """0 below ``low``, 1 above ``high``, smooth between."""
    x = ((values - low) / (high - low)).clamp(0, 1)
    return x * x * (3 - 2 * x)
