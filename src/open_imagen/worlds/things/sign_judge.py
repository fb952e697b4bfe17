"""A strict reader of signs: does a picture show a board with exactly this word?

A letter counts only if it fits the letter asked for better than every other one, by a margin. What
is compared are drawings of all letters (`data.signs`), at the size they have in the picture.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from open_imagen.worlds.shapes.sign_reader import FINE, SAMPLES, drawn_at, normed
from open_imagen.worlds.shapes.signs import ALPHABET, CELL, FRAME, MARGIN, half_width
from open_imagen.worlds.things.compose import board, resample
from open_imagen.worlds.things.segment import find_patches

SCALES = (0.92, 1.0, 1.08)
SHIFTS = (-0.08, -0.04, 0.0, 0.04, 0.08)
"""A cell is tried at a few sizes, and at places that differ by these shares of its side, and at
least by half a pixel: boards are measured to a pixel."""
SMALL = 16.0
"""Cells narrower than this many pixels are compared with drawings on the picture's own pixels."""
SMALL_STEPS = ((0.6, 0.05), (0.15, 0.0125))
"""Shifts in pixels and changes of size that are tried for the whole board, first and then."""
BOARD_SIDE = 192
WHITE = 0.7
"""Pixels lighter than this may be board."""


@dataclass(frozen=True, kw_only=True)
class Strictness:
    """When a letter is read."""

    fit: float = 0.65
    """Least correlation with the drawing of the letter asked for."""
    margin: float = 0.15
    """The letter asked for is at least this share closer than every other one, where distance is
    1 less the correlation; and by ``least``."""
    least: float = 0.004
    size: float = 0.0012
    """Least share of the picture that a board takes."""


class Reading(NamedTuple):
    """What stands on a sign."""

    right: bool
    word: str
    """The letter that fits each cell best; "?" where none fits."""
    letters: tuple[bool, ...]
    """Which letters of the word asked for are there."""


def read_word(image: Tensor, asked: str, strict: Strictness | None = None) -> Reading:
    """Read the largest board of a picture uint8 [3 or 4, S, S] as the word asked for.

    Letters other than A to Z have no drawings: such a word is never right.
    """
    strict = strict or Strictness()
    asked = asked.upper()
    gray = image[:3].float().mean(0) / 255
    box = find_board(gray, strict.size)
    if box is None or not asked or set(asked) - set(ALPHABET):
        return Reading(False, "", (False,) * len(asked))
    left, top, right, bottom = box
    height = (bottom - top) / 2 / (1 - FRAME)  # what is light lies within the frame
    wide = (right - left) / 2 / height + FRAME
    number = (wide - MARGIN) * 2 / CELL
    if abs(number - len(asked)) > 0.6:
        return Reading(False, "", (False,) * len(asked))
    # The board's own width says where cells are: its sides may be out of proportion a little.
    pitch = (right - left) / (len(asked) * CELL + 2 * (MARGIN - FRAME)) * CELL
    middle = (left + right) / 2, (top + bottom) / 2
    if pitch < SMALL:
        cells = _small_fits(gray, middle, pitch / CELL, asked)
    else:
        places = [middle[0] + (k - (len(asked) - 1) / 2) * pitch for k in range(len(asked))]
        cells = [_fits(gray, x, middle[1], pitch, CELL * height) for x in places]
    word, hits = "", []
    for fits, letter in zip(cells, asked, strict=True):
        best = int(fits.argmax())
        word += ALPHABET[best] if float(fits[best]) >= strict.fit else "?"
        hits.append(is_letter(fits, letter, strict))
    return Reading(all(hits), word, tuple(hits))


def is_letter(fits: Tensor, letter: str, strict: Strictness) -> bool:
    """Whether correlations with A to Z say that a cell holds this letter."""
    place = ALPHABET.index(letter)
    own = float(fits[place])
    other = float(torch.cat([fits[:place], fits[place + 1 :]]).max())
    apart = own - other
    return own >= strict.fit and apart >= max(strict.margin * (1 - other), strict.least)


def find_board(gray: Tensor, least: float) -> tuple[float, float, float, float] | None:
    """The box of the largest light patch that does not touch the picture's border, in pixels."""
    side = gray.shape[-1]
    light = (gray > WHITE).cpu().numpy()[None]
    _, [patches] = find_patches(light, merge=False)
    inner = [
        patch
        for patch in patches
        if min(patch.left, patch.top) > 0 and max(patch.right, patch.bottom) < 1
    ]
    large = [patch for patch in inner if patch.area >= least]
    if not large:
        return None
    one = max(large, key=lambda patch: (patch.right - patch.left) * (patch.bottom - patch.top))
    # Where the light ends between two pixels: half way from frame to board.
    rows, columns = (
        gray[round(one.top * side) : round(one.bottom * side)],
        gray[:, round(one.left * side) : round(one.right * side)],
    )
    return (
        _edge(columns_mean(rows), one.left * side, -1),
        _edge(columns_mean(columns.T), one.top * side, -1),
        _edge(columns_mean(rows), one.right * side, 1),
        _edge(columns_mean(columns.T), one.bottom * side, 1),
    )


def columns_mean(band: Tensor) -> Tensor:
    """The upper quartile of each column: the board's shade, letters or not."""
    return band.quantile(0.75, dim=0)


def _edge(profile: Tensor, at: float, direction: int) -> float:
    """A board's edge to a part of a pixel, by how light the pixel beyond the edge still is."""
    pixel = round(at) if direction > 0 else round(at) - 1
    inside = float(profile.max())
    if not 0 <= pixel < len(profile):
        return at
    beyond = float(profile[max(pixel + direction, 0) : pixel + direction + 1].mean())
    dark = min(beyond, 0.3) if beyond == beyond else 0.0
    last = float(profile[pixel - direction])
    share = (float(profile[pixel]) - dark) / max(inside - dark, 0.1)
    short = (inside - last) / max(inside - dark, 0.1)
    return at + direction * (min(max(share, 0.0), 1.0) - min(max(short, 0.0), 0.5))


def _fits(gray: Tensor, x: float, y: float, width: float, height: float) -> Tensor:
    """Of each letter, the best correlation with a cell's ink at all sizes and shifts, [26]."""
    shifts = torch.tensor(SHIFTS)
    scale, dx, dy = torch.meshgrid(torch.tensor(SCALES), shifts, shifts, indexing="ij")
    step_x, step_y = max(width, 0.5 / SHIFTS[-1]), max(height, 0.5 / SHIFTS[-1])
    along = (torch.arange(SAMPLES) + 0.5) / SAMPLES - 0.5
    scale, dx, dy = (part.flatten()[:, None, None] for part in (scale, dx, dy))
    square = (len(scale), SAMPLES, SAMPLES)
    at_x = (x + dx * step_x + scale * width * along[None, None, :]).expand(square)
    at_y = (y + dy * step_y + scale * height * along[None, :, None]).expand(square)
    grid = torch.stack([at_x, at_y], -1) / gray.shape[-1] * 2 - 1
    ink = (1 - gray)[None, None].expand(len(grid), 1, *gray.shape)
    cells = normed(F.grid_sample(ink, grid, align_corners=False, padding_mode="border"))
    drawings = drawn_at(min(FINE, max(2, round(min(width, height)))))
    return (cells @ drawings.T).max(0).values


def _small_fits(
    gray: Tensor, middle: tuple[float, float], height: float, asked: str
) -> list[Tensor]:
    """As `_fits`, for all cells of a sign at once.

    A board with the expected word is aligned with the image first; then every letter is drawn where
    it would be in each cell. ``height`` is half the board's.
    """
    # A square window around the board, so that this is quick at any size of the picture.
    reach = int(half_width(asked) * height * 1.1) + 2
    left, top = (round(at) - reach for at in middle)
    window = F.pad(gray[None, None], (reach, reach, reach, reach), mode="replicate")[0, 0]
    window = window[top + reach : top + 3 * reach, left + reach : left + 3 * reach]
    rows, columns = (
        slice(max(round(reach - half), 0), round(reach + half))
        for half in (height * (1 - FRAME / 2), height * (half_width(asked) - FRAME / 2))
    )
    wanted = normed(window[None, None, rows, columns])
    at = torch.tensor([middle[0] - left, middle[1] - top, 1.0])
    for spans in SMALL_STEPS:
        shifts, scales = (torch.tensor([-1.0, -0.5, 0.0, 0.5, 1.0]) * span for span in spans)
        tried = at + torch.cartesian_prod(shifts, shifts, scales)
        shown = _boards([asked] * len(tried), tried, height, 2 * reach)
        fits = normed(shown[:, None, rows, columns]) @ wanted.T
        at = tried[int(fits[:, 0].argmax())]
    words = [letter * len(asked) for letter in ALPHABET]
    drawn = _boards(words, at.expand(len(words), 3), height, 2 * reach)
    cell, inner = CELL * height * float(at[2]), 0.7 * height
    rows = slice(round(float(at[1]) - inner), round(float(at[1]) + inner) + 1)
    found = []
    for place in range(len(asked)):
        x = float(at[0]) + (place - (len(asked) - 1) / 2) * cell
        columns = slice(max(round(x - cell / 2), 0), max(round(x + cell / 2), 1))
        here = normed(window[None, None, rows, columns])
        found.append((normed(drawn[:, None, rows, columns]) @ here.T)[:, 0])
    return found


def _boards(words: Sequence[str], at: Tensor, height: float, side: int) -> Tensor:
    """Boards as the world draws them in a square of so many pixels, gray [N, side, side].

    Args:
        at: centre in pixels and scale of each, [N, 3].
    """
    radius = height * at[:, 2] * max(half_width(words[0]), 1.0)
    steps = torch.stack(
        [
            -(at[:, 0] - radius) / (2 * radius),
            1 / (2 * radius),
            -(at[:, 1] - radius) / (2 * radius),
            1 / (2 * radius),
        ],
        1,
    )
    shades = torch.stack([torch.from_numpy(board(word, BOARD_SIDE)[:1]) for word in words])
    return resample(shades.float() / 255, steps, side)[:, 0]
