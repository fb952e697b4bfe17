"""Pairs of things whose sprites of one style look alike, by the distance of their pixels."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from open_imagen.worlds.things.atlas import Atlas

SIDE = 32
"""Sprites are compared at this size, which forgives a pixel's shift."""
ALIKE = 0.08
"""Root mean square of the difference of premultiplied RGBA (0 to 1) below which two look alike."""


@dataclass(frozen=True)
class Pair:
    """Two things that look alike in a style."""

    distance: float
    style: str
    first: str
    second: str


def look_alikes(atlas: Atlas, threshold: float = ALIKE) -> list[Pair]:
    """Pairs below the threshold as they are or mirrored, the nearest first.

    Faces are passed over, which differ by small details by nature, and so are the sprites of people
    with a gender or skin tone.

    Raises:
        DataError: the atlas has neither 64 nor 256 pixels.
    """
    things, sprites = atlas.things, atlas.sprites
    pixels = atlas.pixels(256 if (atlas.folder / "sprites-256.npy").is_file() else 64)
    found: dict[tuple[str, int, int], float] = {}
    plain = [
        n
        for n, sprite in enumerate(sprites)
        if not sprite.gender and not sprite.tone and things[sprite.thing].group != "smileys"
    ]
    for style in dict.fromkeys(sprites[n].style for n in plain):
        numbers = [n for n in plain if sprites[n].style == style]
        straight, mirrored = _vectors(pixels, numbers)
        owners = np.array([sprites[n].thing for n in numbers])
        for other in (straight, mirrored):
            distances = _distances(straight, other)
            near = np.argwhere((distances < threshold) & (owners[:, None] < owners[None, :]))
            for i, j in near:
                key = (style, int(owners[i]), int(owners[j]))
                found[key] = min(found.get(key, 1.0), float(distances[i, j]))
    pairs = [
        Pair(round(distance, 4), style, things[i].label, things[j].label)
        for (style, i, j), distance in found.items()
    ]
    return sorted(pairs, key=lambda pair: pair.distance)


def _vectors(
    pixels: NDArray[np.uint8], numbers: list[int]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Sprites at SIDE as rows, straight and mirrored."""
    size = pixels.shape[1]
    factor = size // SIDE
    rows = []
    for number in numbers:
        blocks = pixels[number].reshape(SIDE, factor, SIDE, factor, 4)
        rows.append(blocks.mean((1, 3), dtype=np.float32) / 255)
    stacked = np.stack(rows)
    count = len(numbers)
    return stacked.reshape(count, -1), stacked[:, :, ::-1].reshape(count, -1)


def _distances(one: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float32]:
    """Root mean square differences of all rows to all rows."""
    squares = (one**2).sum(1)[:, None] + (other**2).sum(1)[None, :] - 2 * one @ other.T
    result: NDArray[np.float32] = np.sqrt(np.maximum(squares, 0) / one.shape[1])
    return result
