"""How near generated images come to the sprites that a model has learned from.

An image's objects are cut out of their ground together, brought to the form of a sprite
(premultiplied RGBA whose longer side fills a square) and compared with every sprite as it is and
mirrored. The distance is the root mean square of the difference over all pixels and channels,
0 to 1, at `SIDE` x `SIDE`. Place, size and mirroring do not count; a recoloring does.
"""

from collections.abc import Sequence
from functools import reduce
from itertools import combinations
from typing import NamedTuple, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from open_imagen.worlds.things.segment import CROP, Patch, sampling, split

SIDE = 32
COARSE = 16
"""Side at which the candidates are found."""
CANDIDATES = 24
"""Sprites whose distance is then taken at `SIDE`."""
THRESHOLDS = (0.04, 0.06, 0.08, 0.12)
"""Distances below which the share of near-copies is given."""
PART = 64
"""Images compared together."""


class Pixels(Protocol):
    """The atlas, as far as its small sprites are concerned."""

    def pixels(self, size: int) -> np.ndarray:
        """Sprites of one size, uint8 [N, S, S, 4]."""


class Nearest(NamedTuple):
    """The sprite that an image is nearest to."""

    sprite: int
    """Its number in the atlas; -1 where the image shows nothing."""
    distance: float
    mirrored: bool


NOTHING = Nearest(-1, 1.0, False)


class Likeness:
    """Finds the nearest sprite of an atlas."""

    def __init__(self, atlas: Pixels) -> None:
        self._sprites = atlas.pixels(64)
        rows = [
            F.avg_pool2d(self._part(range(start, min(start + 512, len(self._sprites)))), 4)
            for start in range(0, len(self._sprites), 512)
        ]
        self._coarse = torch.cat(rows)

    def _part(self, numbers: Sequence[int]) -> Tensor:
        """Some sprites, float [n, 4, 64, 64] in [0, 1]."""
        pixels = torch.from_numpy(np.ascontiguousarray(self._sprites[list(numbers)]))
        return pixels.permute(0, 3, 1, 2).float() / 255

    def nearest(self, images: Tensor) -> list[Nearest]:
        """The nearest sprite of each image uint8 [N, 3 or 4, S, S]."""
        return [one for part in torch.split(images, PART) for one in self._nearest(part)]

    def _nearest(self, images: Tensor) -> list[Nearest]:
        shown, objects = cut_out(images)
        found = [NOTHING] * len(images)
        for row, one in zip(shown, self._nearest_of(objects), strict=True):
            found[row] = one
        return found

    def of_sprite(self, number: int, others: np.ndarray) -> Nearest:
        """The nearest of some other sprites to a sprite."""
        one = F.avg_pool2d(self._part([number]), 64 // SIDE)
        return self._nearest_of(one, torch.from_numpy(others))[0]

    def _nearest_of(self, objects: Tensor, among: Tensor | None = None) -> list[Nearest]:
        """The nearest sprites to float [n, 4, SIDE, SIDE]: of all, or of some numbers."""
        if not len(objects):
            return []
        bank = self._coarse if among is None else self._coarse[among]
        coarse = F.avg_pool2d(objects, SIDE // COARSE).flatten(1)
        straight = torch.cdist(coarse, bank.flatten(1))
        mirrored = torch.cdist(coarse, bank.flip(3).flatten(1))
        count = min(CANDIDATES, straight.shape[1])
        candidates = torch.minimum(straight, mirrored).topk(count, largest=False).indices
        if among is not None:
            candidates = among[candidates]
        found = []
        for numbers, one in zip(candidates.tolist(), objects, strict=True):
            sprites = F.avg_pool2d(self._part(numbers), 64 // SIDE)
            both = torch.stack([rms(sprites - one), rms(sprites.flip(3) - one)])
            best = int(both.argmin())
            distance = float(both.flatten()[best])
            found.append(Nearest(numbers[best % count], distance, best >= count))
        return found


def cut_out(images: Tensor) -> tuple[list[int], Tensor]:
    """The objects of images in the form of sprites.

    Returns:
        The numbers of the images that show something, and of these, float [n, 4, SIDE, SIDE].
    """
    parts = split(images)
    shown = [k for k, patches in enumerate(parts.patches) if patches]
    if not shown:
        return [], torch.zeros(0, 4, SIDE, SIDE)
    boxes = [reduce(Patch.joined, parts.patches[k]) for k in shown]
    side = parts.image.shape[-1]
    middle = torch.tensor([box.center for box in boxes])
    reach = torch.tensor([box.side / 2 for box in boxes])
    down, across = (sampling(middle[:, k], reach, side) for k in (1, 0))
    rows = torch.einsum("nih,nchw->nciw", down, parts.image[shown].cpu())
    squares = torch.einsum("njw,nciw->ncij", across, rows)
    return shown, F.avg_pool2d(squares, CROP // SIDE)


def rms(differences: Tensor) -> Tensor:
    """The root mean square of each row."""
    return differences.flatten(1).square().mean(1).sqrt()


def near_copies(found: Sequence[Nearest]) -> dict[str, float]:
    """The share of images whose distance is below each threshold; of those that show something."""
    distances = [one.distance for one in found if one.sprite >= 0]
    return {
        f"{threshold:.2f}": sum(d < threshold for d in distances) / max(1, len(distances))
        for threshold in THRESHOLDS
    }


class Diversity(NamedTuple):
    """How much images of one prompt differ over seeds."""

    distance: float
    """Mean distance of two images of a prompt, after each was cut out."""
    sprites: float
    """Mean number of different nearest sprites among the images of a prompt."""


def diversity(images: Sequence[Tensor], likeness: Likeness) -> Diversity:
    """Of several images of each of some prompts, uint8 [seeds, C, S, S] each."""
    distances, numbers = [], []
    for group in images:
        _, objects = cut_out(group)
        pairs = combinations(range(len(objects)), 2)
        distances += [float(rms((objects[a] - objects[b])[None])) for a, b in pairs]
        nearest = likeness.nearest(group)
        numbers.append(len({one.sprite for one in nearest if one.sprite >= 0}))
    return Diversity(float(np.mean(distances or [0.0])), float(np.mean(numbers or [0])))
