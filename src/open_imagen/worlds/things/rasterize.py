"""One picture of the art to a trimmed sprite: premultiplied RGBA of a given size."""

import io
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from open_imagen.errors import DataError, MissingDependency, install_hint

Pixels = NDArray[np.uint8]

VISIBLE = 8
"""Alpha (of 255) above which a pixel counts as part of the picture."""
SMALLEST_RENDER = 256
"""Smaller sprites are area averages of this size, so that sizes are exact pairs."""
LOOKS = (64, 256)
"""Sizes of the renders that find the box of a drawing, each finer than the one before."""
NUDGES = (0.0, 1e-3, 2e-3, 4e-3)
"""resvg panics at a few view boxes; shares of the side by which we then widen the box."""


@dataclass(frozen=True)
class Drawing:
    """The inside of an <svg> element, and the view box that it was drawn for."""

    body: str
    width: float
    height: float
    left: float = 0.0
    top: float = 0.0
    flip: bool = False

    def svg(self, box: tuple[float, float, float, float]) -> str:
        """A document that shows one box (left, top, width, height)."""
        body = self.body
        if self.flip:
            shift = 2 * self.left + self.width
            body = f'<g transform="translate({shift} 0) scale(-1 1)">{body}</g>'
        view = " ".join(f"{value:.6g}" for value in box)
        return (
            '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
            f'viewBox="{view}" width="{box[2]:.6g}" height="{box[3]:.6g}">{body}</svg>'
        )


@dataclass(frozen=True)
class Rendered:
    """Premultiplied RGBA [size, size, 4], and its visible part as shares of the square."""

    pixels: Pixels
    width: float
    height: float


def need_resvg() -> None:
    """Check that the renderer of vector art is installed.

    Raises:
        MissingDependency: it is not.
    """
    try:
        import resvg_py  # noqa: F401
    except ImportError as error:
        raise MissingDependency(
            "Vector art is rendered by resvg-py, which is not installed.",
            install_hint("things"),
        ) from error


def render_drawing(drawing: Drawing, size: int) -> Rendered:
    """Render vector art trimmed: its visible part is centred, its longer side is the square's.

    Raises:
        DataError: resvg cannot draw it, or nothing is visible.
    """
    box = (drawing.left, drawing.top, drawing.width, drawing.height)
    for look in LOOKS:
        left, top, right, bottom = visible_box(_resvg(drawing, _square(box), look))
        x, y, side, _ = _square(box)
        unit = side / look
        box = (x + left * unit, y + top * unit, (right - left) * unit, (bottom - top) * unit)
    return _rendered(_resvg(drawing, _square(box), size))


def render_picture(data: bytes, size: int) -> Rendered:
    """Decode a picture and trim it in the same way.

    Raises:
        DataError: it cannot be decoded, or nothing is visible.
    """
    try:
        with Image.open(io.BytesIO(data)) as image:
            pixels = premultiply(np.asarray(image.convert("RGBA")))
    except (OSError, ValueError) as error:
        raise DataError(f"A picture cannot be decoded: {error}.") from error
    left, top, right, bottom = visible_box(pixels)
    side = max(right - left, bottom - top)
    square = np.zeros((side, side, 4), np.uint8)
    x, y = (side - (right - left)) // 2, (side - (bottom - top)) // 2
    square[y : y + bottom - top, x : x + right - left] = pixels[top:bottom, left:right]
    planes = [
        np.asarray(Image.fromarray(square[..., k]).resize((size, size), Image.Resampling.BICUBIC))
        for k in range(4)
    ]
    scaled = np.stack(planes, -1)
    scaled[..., :3] = np.minimum(scaled[..., :3], scaled[..., 3:])
    return _rendered(scaled)


def shrink(rendered: Rendered, size: int) -> Rendered:
    """The same sprite at a size that divides its own, each pixel the mean of a block.

    >>> shrink(Rendered(np.full((4, 4, 4), 7, np.uint8), 1.0, 1.0), 2).pixels.shape
    (2, 2, 4)
    """
    factor = len(rendered.pixels) // size
    if factor == 1:
        return rendered
    blocks = rendered.pixels.reshape(size, factor, size, factor, 4).astype(np.uint32).sum((1, 3))
    pixels = ((blocks + factor**2 // 2) // factor**2).astype(np.uint8)
    return Rendered(pixels, rendered.width, rendered.height)


def premultiply(pixels: Pixels) -> Pixels:
    """Straight RGBA to premultiplied.

    >>> premultiply(np.array([[[200, 100, 0, 128]]], np.uint8)).tolist()
    [[[100, 50, 0, 128]]]
    """
    wide = pixels.astype(np.uint16)
    wide[..., :3] = (wide[..., :3] * wide[..., 3:] + 127) // 255
    return wide.astype(np.uint8)


def straighten(pixels: Pixels) -> Pixels:
    """Premultiplied RGBA to straight.

    >>> straighten(np.array([[[100, 50, 0, 128], [0, 0, 0, 0]]], np.uint8)).tolist()
    [[[199, 100, 0, 128], [0, 0, 0, 0]]]
    """
    wide = pixels.astype(np.uint32)
    alpha = np.maximum(wide[..., 3:], 1)
    wide[..., :3] = np.minimum((wide[..., :3] * 255 + alpha // 2) // alpha, 255)
    return wide.astype(np.uint8)


def visible_box(pixels: Pixels) -> tuple[int, int, int, int]:
    """Left, top, right and bottom (exclusive) of what is visible.

    Raises:
        DataError: nothing is.
    """
    visible = pixels[..., 3] > VISIBLE
    columns, rows = np.flatnonzero(visible.any(0)), np.flatnonzero(visible.any(1))
    if not len(columns):
        raise DataError("A picture of the art is empty.")
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _square(box: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    """The square around a box, with the same centre."""
    left, top, width, height = box
    side = max(width, height)
    return left - (side - width) / 2, top - (side - height) / 2, side, side


def _resvg(drawing: Drawing, box: tuple[float, float, float, float], size: int) -> Pixels:
    import resvg_py

    for nudge in NUDGES:
        left, top, side, _ = box
        wider = (left - nudge * side / 2, top - nudge * side / 2, side * (1 + nudge))
        try:
            png = resvg_py.svg_to_bytes(
                svg_string=drawing.svg((*wider, wider[2])),
                width=size,
                height=size,
                skip_system_fonts=True,
            )
            break
        except ValueError as error:
            raise DataError(f"resvg cannot draw a picture of the art: {error}.") from error
        except BaseException as error:  # a panic is no Exception
            if type(error).__name__ != "PanicException":
                raise
    else:
        raise DataError("resvg panics at a picture of the art.")
    with Image.open(io.BytesIO(png)) as image:
        pixels = premultiply(np.asarray(image.convert("RGBA")))
    return _clipped(pixels, drawing, wider)


def _clipped(pixels: Pixels, drawing: Drawing, box: tuple[float, float, float]) -> Pixels:
    """Without what lies outside of the drawing's own view box: some art hides strokes there."""
    left, top, side = box
    unit = side / len(pixels)
    first = (drawing.left - left) / unit, (drawing.top - top) / unit
    last = first[0] + drawing.width / unit, first[1] + drawing.height / unit
    x, y = (max(0, math.floor(value + 1e-6)) for value in first)
    right, bottom = (math.ceil(value - 1e-6) for value in last)
    clipped = np.zeros_like(pixels)
    clipped[y:bottom, x:right] = pixels[y:bottom, x:right]
    return clipped


def _rendered(pixels: Pixels) -> Rendered:
    left, top, right, bottom = visible_box(pixels)
    longer = max(right - left, bottom - top)
    return Rendered(pixels, (right - left) / longer, (bottom - top) / longer)
