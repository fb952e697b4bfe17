"""Layouts of sprites -> premultiplied RGBA, as batched matrix products on any device.

Every pixel is the exact area average of what lies behind it, so that a picture averaged down is
the smaller picture and a crop is the crop of the whole. Both directions are separable: a sprite
becomes A_y . sprite . A_x^T with box weights.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple, Protocol

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from open_imagen.devices import free_memory, sent
from open_imagen.worlds.shapes.render import DISTANCES
from open_imagen.worlds.shapes.signs import (
    BOARD,
    CAPITAL,
    CAPITAL_OF_FONT,
    CELL,
    FRAME,
    INK,
    font_of,
    half_width,
)
from open_imagen.worlds.things.colors import NAMES, recolor
from open_imagen.worlds.things.layout import SHAPE_WIDTHS, Layout, Placed
from open_imagen.worlds.things.scenes import COLORS, SHAPE, SIGN

SIZES = (64, 256, 1024)
"""Sides of the atlas's sprites; the last are read one by one."""
SHAPE_NAMES = tuple(DISTANCES)
Window = tuple[float, float]


class Pixels(Protocol):
    """The atlas, as far as pixels are concerned."""

    def pixels(self, size: int) -> np.ndarray:
        """Sprites of one size, uint8 [N, S, S, 4]."""

    def large(self, number: int) -> np.ndarray:
        """One sprite at the largest size, uint8 [S, S, 4]."""


class Drawing(NamedTuple):
    """Layouts as plain numbers: quick to send to another process or device, and to draw there.

    Objects come in three sections: things, shapes, signs.
    """

    sections: tuple[int, int, int]
    sprites: np.ndarray
    """Number in the atlas, in `SHAPE_NAMES`, or in ``signs``, [N]."""
    owners: np.ndarray
    """Which picture each belongs to, [N]."""
    ranks: np.ndarray
    """Which of its picture's objects it is, from below, [N]."""
    boxes: np.ndarray
    """[N, 4] left, top and side in units of the picture's side, and whether flipped."""
    colors: np.ndarray
    """Number in `colors.NAMES`; -1 as drawn, [N]."""
    signs: np.ndarray
    """Signs as `board` draws them, [n, 2, S, S]."""
    grounds: np.ndarray
    """Two premultiplied colors each, [B, 2, 4]."""
    stacked: np.ndarray
    """Whether the two colors lie over each other, [B]."""


def sketch(layouts: Sequence[Layout], size: int) -> Drawing:
    """The part of drawing that is Python's; ``size`` is the side of the sprites to use."""
    placed = [
        (row, rank, one)
        for row, layout in enumerate(layouts)
        for rank, one in enumerate(layout.objects)
    ]
    placed.sort(key=lambda entry: -entry[2].item.thing if entry[2].item.thing < 0 else 0)
    signs = [one for _, _, one in placed if one.item.thing == SIGN]
    shapes = sum(one.item.thing == SHAPE for _, _, one in placed)
    boards = [board(one.item.label, min(3 * size, 768)) for one in signs]
    numbers = [_number(one) for _, _, one in placed[: len(placed) - len(signs)]]
    return Drawing(
        (len(placed) - len(signs) - shapes, shapes, len(signs)),
        np.array([*numbers, *range(len(signs))], np.int64),
        np.array([row for row, _, _ in placed], np.int64),
        np.array([rank for _, rank, _ in placed], np.int64),
        np.array([_box(one) for _, _, one in placed], np.float64).reshape(-1, 4),
        np.array([_color(one) for _, _, one in placed], np.int64),
        np.stack(boards) if boards else np.zeros((0, 2, 1, 1), np.uint8),
        np.array([_ground(layout) for layout in layouts], np.float32),
        np.array([layout.ground.stacked for layout in layouts], bool),
    )


def _number(one: Placed) -> int:
    return SHAPE_NAMES.index(one.item.label) if one.item.thing == SHAPE else one.sprite


def _box(one: Placed) -> tuple[float, float, float, float]:
    return one.x - one.radius, one.y - one.radius, 2 * one.radius, float(one.flip)


def _color(one: Placed) -> int:
    return NAMES.index(one.item.color) if one.item.color else -1


def _ground(layout: Layout) -> list[tuple[float, ...]]:
    rows = [(*(shade / 255 for shade in COLORS[name]), 1.0) for name in layout.ground.colors]
    rows = rows or [(0.0, 0.0, 0.0, 0.0)]
    return [rows[0], rows[-1]]


class Composer:
    """Draws with the sprites of an atlas on one device."""

    def __init__(self, atlas: Pixels, size: int, device: torch.device | str) -> None:
        """Load the sprites of one size.

        Args:
            size: side of the sprites to use, one of `SIZES`.
        """
        self.atlas, self.size, self.device = atlas, size, torch.device(device)
        self._bank: np.ndarray | None = None
        self._resident: Tensor | None = None
        if size < SIZES[-1]:
            self._bank = atlas.pixels(size)
            if self.device.type == "cuda" and self._bank.nbytes * 8 < free_memory(self.device):
                self._resident = torch.from_numpy(np.ascontiguousarray(self._bank)).to(self.device)
        self._large = lru_cache(maxsize=64)(atlas.large)
        self._shapes = shape_masks(min(size, 256)).to(self.device)
        self._paints = _paints().to(self.device)

    def draw(
        self,
        drawing: Drawing,
        size: int,
        corners: np.ndarray | None = None,
        extent: float = 1.0,
        objects: tuple[Tensor, ...] | None = None,
    ) -> Tensor:
        """Premultiplied RGBA in [0, 1], float [B, 4, size, size].

        Args:
            corners: upper left corner of the part to draw, [B, 2], in units of the picture's side;
                with ``extent``, its side. Without them the whole picture is drawn.
            objects: what `load` gave for this drawing, where it is drawn more than once.
        """
        objects = self.load(drawing) if objects is None else objects
        batch = len(drawing.grounds)
        where = np.zeros((batch, 2)) if corners is None else corners
        boxes = drawing.boxes.copy()
        boxes[:, :2] -= where[drawing.owners]
        canvas = self._ground(drawing, size, where, extent)
        if not len(boxes):
            return canvas
        steps = sent(torch.from_numpy(_affine(boxes, size, extent)), self.device)
        layers = [
            resample(pixels, part, size)
            for pixels, part in zip(
                objects, torch.split(steps, list(drawing.sections)), strict=True
            )
            if len(pixels)
        ]
        if drawing.sections[2]:  # a sign's gray stands for three channels
            layers[-1] = layers[-1][:, [0, 0, 0, 1]]
        layer = torch.cat(layers)
        for rank in range(int(drawing.ranks.max()) + 1):
            chosen = np.flatnonzero(drawing.ranks == rank)
            top = layer[sent(torch.from_numpy(chosen), self.device)]
            rows = sent(torch.from_numpy(drawing.owners[chosen]), self.device)
            canvas[rows] = canvas[rows].mul_(1 - top[:, 3:]).add_(top)
        return canvas

    def load(self, drawing: Drawing) -> tuple[Tensor, ...]:
        """The sprites of a drawing in their colors, by section.

        float [n, 4, S, S]; of signs gray and alpha, [n, 2, S, S].
        """
        things, shapes, _ = drawing.sections
        sprites = self._things(drawing.sprites[:things])
        marked = np.flatnonzero(drawing.colors[:things] >= 0)
        if len(marked):
            rows, numbers = (
                sent(torch.from_numpy(part), self.device)
                for part in (marked, drawing.colors[marked])
            )
            sprites[rows] = recolor(sprites[rows], numbers)
        part = slice(things, things + shapes)
        kinds, numbers = (
            sent(torch.from_numpy(part), self.device)
            for part in (drawing.sprites[part], drawing.colors[part])
        )
        paints = self._paints[numbers][:, :, None, None]
        boards = sent(torch.from_numpy(drawing.signs), self.device).float() / 255
        return sprites, self._shapes[kinds] * paints, boards

    def _things(self, numbers: np.ndarray) -> Tensor:
        if self._resident is not None:
            chosen = self._resident[sent(torch.from_numpy(numbers), self.device)]
        elif self._bank is not None:
            picked = np.ascontiguousarray(self._bank[numbers])
            chosen = sent(torch.from_numpy(picked), self.device)
        else:
            pictures = [self._large(int(number)) for number in numbers]
            empty = np.zeros((0, self.size, self.size, 4), np.uint8)
            chosen = sent(torch.from_numpy(np.stack(pictures) if pictures else empty), self.device)
        return chosen.permute(0, 3, 1, 2).float().contiguous() / 255

    def _ground(self, drawing: Drawing, size: int, corners: np.ndarray, extent: float) -> Tensor:
        """The ground of each picture, [B, 4, size, size]; the edge of two colors is exact."""
        colors = sent(torch.from_numpy(drawing.grounds), self.device)
        halves = sent(torch.from_numpy(_halves(drawing, size, corners, extent)), self.device)
        first, second = (colors[:, k, :, None, None] for k in (0, 1))
        return first + (second - first) * halves


def _halves(drawing: Drawing, size: int, corners: np.ndarray, extent: float) -> np.ndarray:
    """How much of each pixel lies in the second half, [B, 1, size, size]."""
    halves = np.zeros((len(drawing.grounds), 1, size, size), np.float32)
    pixel = extent / size
    for row in np.flatnonzero((drawing.grounds[:, 0] != drawing.grounds[:, 1]).any(1)):
        stacked = bool(drawing.stacked[row])
        begins = corners[row, 1 if stacked else 0] + np.arange(size) * pixel
        share = np.clip((begins + pixel - 0.5) / pixel, 0, 1).astype(np.float32)
        halves[row, 0] = share[:, None] if stacked else share[None, :]
    return halves


def _affine(boxes: np.ndarray, size: int, extent: float) -> np.ndarray:
    """Affine maps of objects, [N, 4]: x and y of pixel 0, and the step from pixel to pixel.

    In units of the sprite's side; flipped sprites run backwards.
    """
    left, top, side, flip = boxes.T
    step = extent / size / side
    return np.stack(
        [
            np.where(flip > 0, 1 + left / side, -left / side),
            np.where(flip > 0, -step, step),
            -top / side,
            step,
        ],
        1,
    ).astype(np.float32)


def resample(sprites: Tensor, steps: Tensor, size: int) -> Tensor:
    """Sprites [n, C, S, S] seen through a grid of pixels, by exact area: [n, C, size, size]."""
    side = sprites.shape[-1]
    across = area_weights(steps[:, 0], steps[:, 1], size, side)
    down = area_weights(steps[:, 2], steps[:, 3], size, side)
    rows = sprites.flatten(1, 2) @ across.transpose(1, 2)
    rows = rows.view(*sprites.shape[:3], size)
    return torch.matmul(down[:, None], rows)


def area_weights(start: Tensor, step: Tensor, size: int, side: int) -> Tensor:
    """[n, size, side]: how much of each pixel each row of a sprite covers.

    Pixel i spans [start + i step, start + (i + 1) step] in units of the sprite's side; what lies
    outside of the sprite is empty.
    """
    edges = torch.arange(size + 1, device=start.device, dtype=start.dtype)
    edges = (start[:, None] + edges * step[:, None]) * side
    places = torch.arange(side, device=start.device, dtype=start.dtype)
    covered = (edges[:, :, None] - places).clamp(0, 1)
    return (covered[:, 1:] - covered[:, :-1]) / (step[:, None, None] * side)


def to_uint8(images: Tensor) -> Tensor:
    """Premultiplied [B, 4, H, W] in [0, 1] -> uint8; no color exceeds its alpha."""
    whole = images.mul(255).add_(0.5).clamp_(0, 255).to(torch.uint8)
    whole[:, :3] = torch.minimum(whole[:, :3], whole[:, 3:])
    return whole


@lru_cache(maxsize=4)
def shape_masks(side: int) -> Tensor:
    """The shapes of the shapes world in white, premultiplied, [10, 4, side, side]."""
    fine = 4
    grid = ((torch.arange(side * fine) + 0.5) / (side * fine) * 2 - 1).float()
    masks = []
    for name, distance in DISTANCES.items():
        at = grid * max(1.0, SHAPE_WIDTHS.get(name, 1.0))
        inside = (distance(at[None, :], at[:, None]) < 0).float()
        masks.append(torch.nn.functional.avg_pool2d(inside[None, None], fine)[0])
    return torch.stack(masks).expand(-1, 4, -1, -1).contiguous()


def _paints() -> Tensor:
    """Of each color in `NAMES`, RGB and an alpha of 1."""
    return torch.tensor([(*(shade / 255 for shade in COLORS[name]), 1.0) for name in NAMES])


@lru_cache(maxsize=1024)
def board(word: str, side: int) -> np.ndarray:
    """A sign with this word, its longer side as long as the square's.

    Gray (premultiplied) and alpha, uint8 [2, side, side].
    """
    wide = half_width(word)
    height = side / (2 * max(wide, 1.0))
    canvas = Image.new("L", (side, side))
    draw = ImageDraw.Draw(canvas)
    font = font_of(round(CAPITAL * height / CAPITAL_OF_FONT, 2))
    for place, letter in enumerate(word):
        x = side / 2 + (place - (len(word) - 1) / 2) * CELL * height
        draw.text((x, (side + height * CAPITAL) / 2), letter, 255, font, anchor="ms")
    ink = np.asarray(canvas, np.float32) / 255
    alpha = np.outer(_span(height, side), _span(wide * height, side))
    inner = np.outer(_span(height * (1 - FRAME), side), _span(height * (wide - FRAME), side))
    shade = INK * alpha + (BOARD - INK) * inner * (1 - ink)
    return np.stack([shade, 255 * alpha]).round().astype(np.uint8)


def _span(half: float, side: int) -> np.ndarray:
    """How much of each pixel of a row lies within ``half`` pixels of its middle."""
    edges = np.clip(np.arange(side + 1) - side / 2, -half, half)
    span: np.ndarray = np.diff(edges).astype(np.float32)
    return span
