"""Words on a plain sign, at any resolution: a white board, a dark frame, capitals in cells."""

from functools import lru_cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

BOARD, INK = 250.0, 15.0
"""Shades of the board, and of its frame and letters."""
CELL, CAPITAL, MARGIN, FRAME = 1.3, 0.95, 0.25, 0.14
"""Width of a letter's cell, height of a capital, space beside the word and width of the frame, in
half heights of the board."""
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
FINER = 4
"""Letters are drawn this much larger, then averaged: their edges are as soft as all others."""
CAPITAL_OF_FONT = 0.70
"""Height of a capital in Pillow's bundled font, in units of its size."""


class Sign(NamedTuple):
    """A sign in a picture: its word, centre and half height in units of the side."""

    word: str
    x: float
    y: float
    height: float


def half_width(word: str) -> float:
    """Of the board that carries a word, in half heights."""
    return len(word) * CELL / 2 + MARGIN


def letters(
    sign: Sign, size: int, corner: tuple[float, float] = (0.0, 0.0), extent: float = 1.0
) -> Tensor:
    """The coverage of each pixel by letters, [size, size] in 0 to 1.

    For a part of the image, see `render`.
    """
    scale = size / extent * FINER
    canvas = Image.new("L", (size * FINER, size * FINER))
    draw = ImageDraw.Draw(canvas)
    font = font_of(round(CAPITAL * sign.height * scale / CAPITAL_OF_FONT, 2))
    baseline = (sign.y + sign.height * CAPITAL / 2 - corner[1]) * scale
    for position, letter in enumerate(sign.word):
        middle = sign.x + (position - (len(sign.word) - 1) / 2) * CELL * sign.height
        draw.text(((middle - corner[0]) * scale, baseline), letter, 255, font, anchor="ms")
    drawn = torch.frombuffer(bytearray(canvas.tobytes()), dtype=torch.uint8)
    fine = drawn.view(1, 1, size * FINER, size * FINER).float() / 255
    return F.avg_pool2d(fine, FINER)[0, 0]


@lru_cache(maxsize=256)
def font_of(size: float) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's bundled font."""
    return ImageFont.load_default(size)
