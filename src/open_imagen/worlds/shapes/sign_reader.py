"""Reads the word on a sign of the shapes world: each letter is the best fit of exact drawings."""

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from open_imagen.worlds.shapes.signs import ALPHABET, BOARD, CELL, FRAME, INK, MARGIN, Sign, letters

WHITE = 200.0
"""Pixels lighter than this (0 to 255) may be board."""
MIN_AREA = 0.01
"""A board takes at least this share of the picture."""
FIT = 0.6
"""Least correlation with the best letter; below it the letter is unknown."""
LONGEST = 4
SAMPLES = 24
"""Points across a letter's cell at which ink and drawings are compared."""
FINE = 192
"""Pixels across a cell in which letters are drawn first."""
SCALES = (0.9, 0.95, 1.0, 1.05, 1.1)
SHIFTS = (-1.0, -0.5, 0.0, 0.5, 1.0)
"""A board measured on pixels is off by up to one of them in size and place: those are tried."""


def read_sign(pixels: Tensor, patches: Tensor) -> str:
    """The word on the largest board of a picture [3, S, S], 0 to 255; "" if there is none.

    Args:
        patches: labels [S, S] of the connected patches lighter than WHITE, 0 elsewhere.

    Unknown letters are "?".
    """
    side = pixels.shape[-1]
    edge = torch.cat([patches[0], patches[-1], patches[:, 0], patches[:, -1]])
    boards = []
    for label in torch.unique(patches).tolist():
        patch = patches == label
        if label and label not in edge and int(patch.sum()) >= MIN_AREA * side**2:
            rows, columns = patch.any(1).nonzero().flatten(), patch.any(0).nonzero().flatten()
            box = [int(v) for v in (rows[0], rows[-1] + 1, columns[0], columns[-1] + 1)]
            boards.append(((box[1] - box[0]) * (box[3] - box[2]), box))
    if not boards:
        return ""
    top, bottom, left, right = max(boards)[1]
    height = (bottom - top) / 2 / (1 - FRAME)  # what is seen of the board lies within its frame
    wide = (right - left) / 2 / height + FRAME
    number = round((wide - MARGIN) * 2 / CELL)
    if not 1 <= number <= LONGEST:
        return ""
    ink = ((BOARD - pixels.mean(0)) / (BOARD - INK)).clamp(0, 1)
    middle_x, middle_y = (left + right) / 2, (top + bottom) / 2
    drawings = drawn_at(min(FINE, max(1, round(CELL * height))))
    word = ""
    for position in range(number):
        x = middle_x + (position - (number - 1) / 2) * CELL * height
        fit, letter = (cells(ink, x, middle_y, height) @ drawings.T).max(0).values.max(0)
        word += ALPHABET[int(letter)] if float(fit) >= FIT else "?"
    return word


def cells(ink: Tensor, x: float, y: float, height: float) -> Tensor:
    """The ink of a letter's cell at all scales and shifts, normed, [N, SAMPLES^2]; in pixels."""
    scale, dx, dy = torch.meshgrid(*map(torch.tensor, (SCALES, SHIFTS, SHIFTS)), indexing="ij")
    half = (scale * (CELL / 2 * height)).flatten()[:, None, None]
    along = (torch.arange(SAMPLES) + 0.5) / SAMPLES * 2 - 1
    square = (len(half), SAMPLES, SAMPLES)
    at_x = (x + dx.flatten()[:, None, None] + half * along[None, None, :]).expand(square)
    at_y = (y + dy.flatten()[:, None, None] + half * along[None, :, None]).expand(square)
    grid = torch.stack([at_x, at_y], -1) / ink.shape[-1] * 2 - 1
    many = ink[None, None].expand(len(grid), 1, *ink.shape)
    return normed(F.grid_sample(many, grid, align_corners=False, padding_mode="border"))


@cache
def drawn_at(pixels: int) -> Tensor:
    """Every letter as an image shows it with this many pixels across the cell.

    Normalised, [26, SAMPLES^2].
    """
    signs = [Sign(letter, 0.5, 0.5, 1 / CELL) for letter in ALPHABET]
    fine = torch.stack([letters(sign, FINE) for sign in signs])[:, None]
    shown = F.adaptive_avg_pool2d(fine, pixels)
    return normed(F.interpolate(shown, (SAMPLES, SAMPLES), mode="bilinear", align_corners=False))


def normed(ink: Tensor) -> Tensor:
    """[N, 1, H, W] -> [N, H W] of mean 0 and length 1, so that products are correlations."""
    flat = ink.flatten(1)
    return F.normalize(flat - flat.mean(1, keepdim=True), dim=1)
