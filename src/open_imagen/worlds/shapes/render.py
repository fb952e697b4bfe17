"""Pictures of layouts: signed distance functions, anti-aliased at any resolution.

Distances are in half heights of the shape, negative inside, y down, on any device; a picture
needs no loop over pixels, and a batch one pass per shape.
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from open_imagen.devices import sent
from open_imagen.worlds.shapes.scenes import BACKGROUNDS, COLORS, Layout, Placed
from open_imagen.worlds.shapes.signs import BOARD, FRAME, INK, half_width, letters

Distance = Callable[[Tensor, Tensor], Tensor]


class Drawing(NamedTuple):
    """Layouts as plain numbers: quick to send to another process or device, and to paint there."""

    shades: np.ndarray
    """Of the backgrounds, [B]."""
    shapes: np.ndarray
    """Which of `DISTANCES`, in their order, [N]."""
    owners: np.ndarray
    """Which picture each belongs to, [N]."""
    objects: np.ndarray
    """[N, 6]: centre and half height in units of the side, and colour."""
    carriers: np.ndarray
    """Which pictures have a sign, [S]."""
    signs: np.ndarray
    """[S, 4]: centre, half height and, in these, half width."""
    letters: np.ndarray
    """How much they cover of each pixel, [S, size, size]."""


def render(
    layouts: Sequence[Layout],
    size: int,
    device: torch.device | str = "cpu",
    window: Sequence[tuple[float, float]] | None = None,
    extent: float = 1.0,
) -> Tensor:
    """Draw layouts as uint8 [B, 3, size, size].

    Args:
        window: the upper left corner of the part to draw, per picture, in units of the side;
            with ``extent``, its side. Without it the whole picture is drawn.
    """
    return paint(sketch(layouts, size, window, extent), size, device, extent)


def sketch(
    layouts: Sequence[Layout],
    size: int,
    window: Sequence[tuple[float, float]] | None = None,
    extent: float = 1.0,
) -> Drawing:
    """The part of `render` that is Python's."""
    corners = window or [(0.0, 0.0)] * len(layouts)
    order = {shape: number for number, shape in enumerate(DISTANCES)}
    placed = [(row, thing) for row, layout in enumerate(layouts) for thing in layout.objects]
    placed.sort(key=lambda one: order[one[1].kind.shape])
    carriers = [row for row, layout in enumerate(layouts) if layout.sign is not None]
    signs, covers = [], []
    for row in carriers:
        sign, (left, top) = layouts[row].sign, corners[row]
        assert sign is not None
        signs.append((sign.x - left, sign.y - top, sign.height, half_width(sign.word)))
        covers.append(letters(sign, size, (left, top), extent).numpy())
    return Drawing(
        np.array([BACKGROUNDS[layout.background] for layout in layouts], np.float32),
        np.array([order[thing.kind.shape] for _, thing in placed], np.int64),
        np.array([row for row, _ in placed], np.int64),
        np.array([_numbers(thing, corners[row]) for row, thing in placed], np.float32),
        np.array(carriers, np.int64),
        np.array(signs, np.float32),
        np.stack(covers) if covers else np.zeros((0, size, size), np.float32),
    )


def paint(
    drawing: Drawing, size: int, device: torch.device | str = "cpu", extent: float = 1.0
) -> Tensor:
    """The part of `render` that is the device's, which never waits for it."""

    def there(array: np.ndarray) -> Tensor:
        return sent(torch.from_numpy(array), device)

    canvas = there(drawing.shades)[:, None, None, None].repeat(1, 3, size, size)
    grid = (torch.arange(size, device=device, dtype=torch.float32) + 0.5) * (extent / size)
    scale = size / extent

    objects, covers, paints = there(drawing.objects), [], []
    bounds = np.searchsorted(drawing.shapes, np.arange(len(DISTANCES) + 1)).tolist()
    for (first, last), distance in zip(pairwise(bounds), DISTANCES.values(), strict=True):
        if first == last:
            continue
        numbers = objects[first:last]
        left, top, radius = (column[:, None, None] for column in numbers[:, :3].unbind(1))
        d = distance((grid[None, None, :] - left) / radius, (grid[None, :, None] - top) / radius)
        # One pixel of blending across the edge: the share of the pixel that is covered.
        cover = (0.5 - d * radius * scale).clamp(0, 1)[:, None]
        covers.append(cover)
        paints.append(cover * numbers[:, 3:, None, None])
    if covers:
        owners = there(drawing.owners)
        # Objects do not overlap, so what they cover and paint can be summed per picture.
        covered = torch.zeros_like(canvas[:, :1]).index_add_(0, owners, torch.cat(covers))
        canvas.mul_(1 - covered.clamp_(max=1)).index_add_(0, owners, torch.cat(paints))
    if len(drawing.carriers):
        carriers, signs, text = map(there, (drawing.carriers, drawing.signs, drawing.letters))
        x, y, height, width = (column[:, None, None] for column in signs.unbind(1))
        d = _box((grid - x) / height, (grid[:, None] - y) / height, width, 1.0)
        outer, inner = ((0.5 - (d + f) * height * scale).clamp(0, 1) for f in (0.0, FRAME))
        board = canvas[carriers]
        for cover, shade in ((outer, INK), (inner, BOARD), (text, INK)):
            board.lerp_(torch.full_like(board, shade), cover[:, None].expand_as(board))
        canvas[carriers] = board
    return canvas.add_(0.5).clamp_(0, 255).to(torch.uint8)


def _numbers(thing: Placed, corner: tuple[float, float]) -> list[float]:
    return [thing.x - corner[0], thing.y - corner[1], thing.radius, *COLORS[thing.kind.color]]


def circle(x: Tensor, y: Tensor) -> Tensor:
    """Distance to a circle of radius 1."""
    return torch.hypot(x, y) - 1


def square(x: Tensor, y: Tensor) -> Tensor:
    """Distance to a square of half side 1."""
    return _box(x, y, 1.0, 1.0)


def ring(x: Tensor, y: Tensor) -> Tensor:
    """Between radius 1 and 0.5."""
    return (torch.hypot(x, y) - 0.75).abs() - 0.25


def cross(x: Tensor, y: Tensor) -> Tensor:
    """Two bars, 0.6 wide."""
    return torch.minimum(_box(x, y, 1.0, 0.3), _box(x, y, 0.3, 1.0))


def crescent(x: Tensor, y: Tensor) -> Tensor:
    """A disc less a disc of radius 0.8 moved right by 0.45."""
    return torch.maximum(torch.hypot(x, y) - 1, 0.8 - torch.hypot(x - 0.45, y))


def heart(x: Tensor, y: Tensor) -> Tensor:
    """Two half discs over a point, from -1 to 1 in height.

    The classic heart of a unit square on its corner with two half discs (Quilez), scaled so that
    its height is 2 and its centre is at 0.
    """
    scale = 2 / HEART_HEIGHT
    u, v = x.abs() / scale, HEART_HEIGHT / 2 - y / scale  # v up, point at the origin
    above = torch.hypot(u - 0.25, v - 0.75) - math.sqrt(2) / 4
    to_top = u**2 + (v - 1) ** 2
    along = 0.5 * (u + v).clamp(min=0)
    to_side = (u - along) ** 2 + (v - along) ** 2
    below = torch.minimum(to_top, to_side).sqrt() * torch.sign(u - v)
    return torch.where(u + v > 1, above, below) * scale


HEART_HEIGHT = 0.75 + math.sqrt(2) / 4


def _box(x: Tensor, y: Tensor, width: Tensor | float, height: float) -> Tensor:
    dx, dy = x.abs() - width, y.abs() - height
    outside = torch.hypot(dx.clamp(min=0), dy.clamp(min=0))
    return outside + torch.maximum(dx, dy).clamp(max=0)


def polygon(corners: Sequence[tuple[float, float]]) -> Distance:
    """The exact signed distance to a closed polygon, by its nearest edge and winding."""

    def distance(x: Tensor, y: Tensor) -> Tensor:
        nearest = torch.full_like(x + y, math.inf)
        inside = torch.zeros_like(nearest, dtype=torch.bool)
        for (ax, ay), (bx, by) in zip(corners, [*corners[1:], corners[0]], strict=True):
            ex, ey = bx - ax, by - ay
            wx, wy = x - ax, y - ay
            along = ((wx * ex + wy * ey) / (ex * ex + ey * ey)).clamp(0, 1)
            nearest = torch.minimum(nearest, (wx - ex * along) ** 2 + (wy - ey * along) ** 2)
            if ey:  # a ray to the right crosses this edge
                crosses = ((ay > y) != (by > y)) & (wx < ex * wy / ey)
                inside = inside ^ crosses
        return torch.where(inside, -nearest.sqrt(), nearest.sqrt())

    return distance


def _regular(points: int, turn: float, inner: float = 0.0) -> list[tuple[float, float]]:
    """Corners on the unit circle from angle ``turn``, with inner ones between if asked for."""
    number = points * (2 if inner else 1)
    radius = [1.0 if not inner or i % 2 == 0 else inner for i in range(number)]
    angle = [turn + 2 * math.pi * i / number for i in range(number)]
    return [(r * math.cos(a), r * math.sin(a)) for r, a in zip(radius, angle, strict=True)]


def _upright(corners: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Scaled and moved so that the height runs from -1 to 1 and the width is centred."""
    xs, ys = zip(*corners, strict=True)
    scale = 2 / (max(ys) - min(ys))
    middle_x, middle_y = (max(xs) + min(xs)) / 2, (max(ys) + min(ys)) / 2
    return [((x - middle_x) * scale, (y - middle_y) * scale) for x, y in corners]


DISTANCES: dict[str, Distance] = {
    "circle": circle,
    "square": square,
    "triangle": polygon(_upright(_regular(3, -math.pi / 2))),
    "star": polygon(_upright(_regular(5, -math.pi / 2, inner=0.42))),
    "ring": ring,
    "cross": cross,
    "heart": heart,
    "diamond": polygon([(0.0, -1.0), (0.7, 0.0), (0.0, 1.0), (-0.7, 0.0)]),
    "hexagon": polygon(_upright(_regular(6, 0.0))),
    "crescent": crescent,
}
