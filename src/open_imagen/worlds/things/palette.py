"""Which named colors a sprite would vanish on."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch

from open_imagen.errors import DataError
from open_imagen.worlds.things.colors import targets, to_oklab
from open_imagen.worlds.things.scenes import COLORS

NEAR = 0.13
"""Distance in OKLab below which a sprite does not stand out from its ground."""


class Pixels(Protocol):
    """The atlas, as far as pixels are concerned."""

    def pixels(self, size: int) -> np.ndarray:
        """Sprites of one size, uint8 [N, S, S, 4]."""


class Palette:
    """The mean color of each sprite, looked up once."""

    def __init__(self, atlas: Pixels, sizes: Sequence[int]) -> None:
        """Measure the colors of the sprites.

        Args:
            sizes: of the sprites, the first that has been rendered is looked at.
        """
        self._pixels: np.ndarray | None = None
        for size in sizes:
            try:
                self._pixels = atlas.pixels(size)
                break
            except DataError:
                continue
        self._near: dict[int, frozenset[str]] = {}

    def near(self, sprite: int) -> frozenset[str]:
        """The named colors that a sprite as drawn does not stand out from."""
        if self._pixels is None:
            return frozenset()
        if (known := self._near.get(sprite)) is None:
            total = self._pixels[sprite].reshape(-1, 4).sum(0, dtype=np.float64)
            mean = torch.from_numpy(total[:3] / max(total[3], 1.0)).float().clamp(0, 1)
            away = (
                targets(torch.device("cpu")) - to_oklab(mean[None, :, None, None])[..., 0, 0]
            ).norm(dim=1)
            pairs = zip(COLORS, away.tolist(), strict=True)
            known = self._near[sprite] = frozenset(name for name, d in pairs if d < NEAR)
        return known
