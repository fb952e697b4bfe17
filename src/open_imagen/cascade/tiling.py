"""Large images in overlapping tiles: a super-resolution network looks at one after another."""

import math
from collections.abc import Callable
from itertools import product

import torch
from torch import Tensor

from open_imagen.types import LowRes

LARGE = 4
"""Tiles are used above this many times the pixels that a stage was trained on."""
OVERLAP = 8
"""Tiles overlap by this part of their side, over which one fades into the next."""


def starts(length: int, side: int, overlap: int, grid: int) -> list[int]:
    """Where tiles of a side begin along a length, multiples of ``grid``; one if all fits in it."""
    if length <= side:
        return [0]
    number = math.ceil((length - overlap) / (side - overlap))
    last = length - side
    return sorted({last * k // (number - 1) // grid * grid for k in range(number - 1)} | {last})


def fade(side: int, overlap: int) -> Tensor:
    """The weight of a tile along its side: rising over the overlap, then 1, then falling."""
    place = torch.arange(side, dtype=torch.float32) + 0.5
    return (torch.minimum(place, side - place) / overlap).clamp(max=1)


def predict_in_tiles(
    predict: Callable[[Tensor, LowRes], Tensor],
    z: Tensor,
    condition: LowRes,
    side: int,
    grid: int,
) -> Tensor:
    """A network's prediction for a large image, mixed from those for its tiles.

    Args:
        z: [B, C, H, W].
        side: of the tiles.
        grid: what the sides of images must be multiples of.
    """
    overlap = max(side // OVERLAP, 1)
    height, width = min(side, z.shape[2]), min(side, z.shape[3])
    weight = fade(height, overlap)[:, None] * fade(width, overlap)[None]
    weight = weight.to(z.device)
    found, total = None, z.new_zeros(z.shape[2:], dtype=torch.float32)
    places = product(*(starts(n, side, overlap, grid) for n in z.shape[2:]))
    for top, left in places:
        here = (..., slice(top, top + height), slice(left, left + width))
        part = predict(z[here], LowRes(condition.image[here], condition.level)).float()
        if found is None:
            found = part.new_zeros(*part.shape[:2], *z.shape[2:])
        found[here] += weight * part
        total[here] += weight
    assert found is not None
    return found / total
