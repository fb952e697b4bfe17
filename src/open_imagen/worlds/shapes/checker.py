"""The checker of the shapes world: finds objects by colour and shape, without a judge model.

A picture is a background, and connected patches that differ from it. A patch's colour is the
palette's nearest to most of its pixels; its shape is that whose exact rendering, fitted to the
patch, overlaps it best.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from open_imagen.cascade.alpha import WHITE as BEHIND
from open_imagen.cascade.alpha import over
from open_imagen.worlds.shapes.render import DISTANCES
from open_imagen.worlds.shapes.scenes import BACKGROUNDS, COLORS
from open_imagen.worlds.shapes.sign_reader import WHITE, read_sign

SIDE = 128
"""Pictures are brought to this side first: enough for the smallest shapes, and quick."""
CONTRAST = 50.0
"""A pixel further than this from the background (RGB, 0 to 255) belongs to an object."""
MIN_AREA = 0.0025
"""Patches of a smaller share of the image are ignored."""
FIT = 0.72
"""Least overlap (intersection over union) with the best shape; below it the shape is unknown."""
COLOR_DISTANCE = 75.0
"""Further than this from every colour of the palette (RGB), a patch has no known colour."""


class DetectedObject(NamedTuple):
    """An object in a picture; lengths in units of its side. Unknown colours or shapes are ""."""

    color: str
    shape: str
    x: float
    y: float
    radius: float
    """Half the height."""
    fit: float
    """Overlap with the ideal shape, 0 to 1."""


class Detections(NamedTuple):
    """What is in a picture."""

    objects: tuple[DetectedObject, ...]
    background: str
    sign: str = ""
    """The word on a sign, where it was read."""


def detect(image: Tensor, read: bool = False) -> Detections:
    """What a picture uint8 [3 or 4, H, W] shows; with ``read``, also what stands on a sign in it.

    Behind what is transparent there is white.
    """
    image = on_white(image)
    pixels = reduced(image)
    ground = ground_of(pixels)
    shades = {name: torch.full((3,), float(shade)) for name, shade in BACKGROUNDS.items()}
    background = min(shades, key=lambda name: float((shades[name] - ground).norm()))
    objects = tuple(_describe(pixels, ground, patch) for patch in patches_of(pixels, ground))
    if not read:
        return Detections(objects, background)
    clear = image.float() if image.shape[-1] < SIDE else pixels  # enlarged letters are blurred
    return Detections(objects, background, read_sign(clear, components(clear.mean(0) > WHITE)))


def on_white(images: Tensor) -> Tensor:
    """Pictures uint8 [..., 3, H, W] of such, or of premultiplied RGBA."""
    return over(images, BEHIND) if images.shape[-3] == 4 else images


def reduced(image: Tensor) -> Tensor:
    """A picture uint8 [3, H, W] at the checker's side, float32 [3, SIDE, SIDE]."""
    pixels = image.float()[None]
    if image.shape[-1] > SIDE and image.shape[-1] % SIDE == 0:
        pixels = F.avg_pool2d(pixels, image.shape[-1] // SIDE)
    elif image.shape[-1] != SIDE:
        pixels = F.interpolate(pixels, (SIDE, SIDE), mode="bilinear", antialias=True)
    return pixels[0]


def ground_of(pixels: Tensor) -> Tensor:
    """The colour of the background [3]: the median of the border."""
    border = torch.cat([pixels[:, 0], pixels[:, -1], pixels[:, :, 0], pixels[:, :, -1]], dim=1)
    return border.median(dim=1).values


def patches_of(pixels: Tensor, ground: Tensor) -> list[Tensor]:
    """The connected patches that differ from the background, bool [H, W] each, but tiny ones."""
    labels = components((pixels - ground[:, None, None]).norm(dim=0) > CONTRAST)
    found = [labels == label for label in torch.unique(labels).tolist() if label]
    return [patch for patch in found if int(patch.sum()) >= MIN_AREA * labels.numel()]


def components(mask: Tensor) -> Tensor:
    """Label the connected patches of a bool [H, W]: 0 outside, one positive number per patch."""
    inside = mask.float()[None, None]
    count = torch.arange(1, mask.numel() + 1, dtype=torch.float32).view_as(inside)
    labels = inside * count
    while True:
        spread = labels
        for _ in range(16):  # the largest number of a patch flows through it
            spread = F.max_pool2d(spread, 3, stride=1, padding=1) * inside
        if torch.equal(spread, labels):
            return labels[0, 0].long()
        labels = spread


def grown(patch: Tensor, by: int) -> Tensor:
    """A patch bool [H, W] and what is nearer to it than this many pixels and a half."""
    return F.max_pool2d(patch.float()[None, None], 2 * by + 1, stride=1, padding=by)[0, 0] > 0


def _describe(pixels: Tensor, ground: Tensor, patch: Tensor) -> DetectedObject:
    color = _color(pixels, ground, patch)
    tint = pixels[:, patch].median(dim=1).values
    axis = tint - ground
    # How much of a pixel the object covers, from its place between background and tint.
    cover = torch.einsum("chw,c->hw", pixels - ground[:, None, None], axis) / axis.square().sum()
    cover = cover.clamp(0, 1) * grown(patch, 1)
    shape, x, y, radius, fit = _fit_shape(cover)
    return DetectedObject(color, shape if fit >= FIT else "", x, y, radius, fit)


def _color(pixels: Tensor, ground: Tensor, patch: Tensor) -> str:
    """The palette's colour of most inner pixels; edges, which blend, are left out if possible."""
    inner = ~grown(~patch, 1)
    chosen = pixels[:, inner if inner.any() else patch].T  # [N, 3]
    palette = torch.tensor(list(COLORS.values()), dtype=torch.float32)
    distance, nearest = torch.cdist(chosen, palette).min(dim=1)
    votes = torch.bincount(nearest[distance < COLOR_DISTANCE], minlength=len(COLORS))
    return list(COLORS)[int(votes.argmax())] if int(votes.max()) * 2 > len(chosen) else ""


def _fit_shape(cover: Tensor) -> tuple[str, float, float, float, float]:
    """The shape whose rendering overlaps a soft mask [H, W] best, its place and its overlap."""
    rows = (cover > 0.5).any(dim=1).nonzero().flatten()
    columns = (cover > 0.5).any(dim=0).nonzero().flatten()
    if not len(rows):
        return "", 0.0, 0.0, 0.0, 0.0
    top, bottom = int(rows[0]), int(rows[-1]) + 1
    left, right = int(columns[0]), int(columns[-1]) + 1
    window = cover[
        max(top - 3, 0) : bottom + 3,
        max(left - 3, 0) : right + 3,
    ]
    grid_y = torch.arange(window.shape[0]) + 0.5 + max(top - 3, 0)
    grid_x = torch.arange(window.shape[1]) + 0.5 + max(left - 3, 0)
    middle_y, middle_x, half = (top + bottom) / 2, (left + right) / 2, (bottom - top) / 2

    def fits(shape: str, scale: Tensor, dx: Tensor, dy: Tensor) -> Fits:
        radius = half * scale
        x0 = middle_x + dx - OFFSET.get(shape, 0.0) * radius
        y0 = middle_y + dy
        d = DISTANCES[shape]((grid_x - x0) / radius, (grid_y[:, None] - y0) / radius)
        ideal = (0.5 - d * radius).clamp(0, 1)
        both = torch.minimum(ideal, window).sum((1, 2))
        return Fits(both / torch.maximum(ideal, window).sum((1, 2)), x0, y0, radius)

    # The likeliest shapes first, as measured; then, as heights measured on pixels are off by up
    # to one, the best of them at a few sizes and shifts.
    as_measured = (torch.ones(1, 1, 1), torch.zeros(1, 1, 1), torch.zeros(1, 1, 1))
    likely = sorted(DISTANCES, key=lambda name: -float(fits(name, *as_measured).overlap))[:3]
    scale, dx, dy = (
        values.flatten()[:, None, None]
        for values in torch.meshgrid(
            torch.tensor([0.92, 0.96, 1.0, 1.04, 1.08]),
            torch.tensor([-0.5, 0.0, 0.5]),
            torch.tensor([-0.5, 0.0, 0.5]),
            indexing="ij",
        )
    )
    best = ("", 0.0, 0.0, 0.0, 0.0)
    for shape in likely:
        found = fits(shape, scale, dx, dy)
        k = int(found.overlap.argmax())
        if float(found.overlap[k]) > best[4]:
            x, y, radius = (float(t[k].flatten()[0]) / SIDE for t in found[1:])
            best = (shape, x, y, radius, float(found.overlap[k]))
    return best


class Fits(NamedTuple):
    """Overlap of a shape with a mask at several places, and those places in pixels."""

    overlap: Tensor
    x: Tensor
    y: Tensor
    radius: Tensor


OFFSET = {"crescent": (0.625 - 1.0) / 2}
"""How far the middle of a shape's width lies to the right of its centre, in half heights. The
horns of the crescent end at x = 0.625, where its two circles meet."""
