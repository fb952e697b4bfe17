"""The nearest-sprite baseline: the one sprite whose label is nearest to the whole prompt.

It reads a prompt with the text encoder of the models and draws nothing new: no colors, numbers,
places or signs. What a model has over it is more than looking pictures up.
"""

import random
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from open_imagen.evaluation.metrics.records import digest
from open_imagen.types import TextEncoder
from open_imagen.worlds.things.atlas import Atlas
from open_imagen.worlds.things.compose import Composer, sketch, to_uint8
from open_imagen.worlds.things.hints import embed
from open_imagen.worlds.things.layout import Ground, Layout, Placed
from open_imagen.worlds.things.scenes import Item

RADIUS = 0.36
"""Half the longer side of a sprite, in units of the image's side: as scenes draw single things."""


class NearestSprite:
    """A `System` that looks sprites up."""

    def __init__(self, atlas: Atlas, encoder: TextEncoder, size: int = 256) -> None:
        """Draw with the sprites of an atlas.

        Args:
            size: side of its images; the atlas has sprites of that size.
        """
        self.atlas, self.encoder, self.size = atlas, encoder, size
        self._composer = Composer(atlas, size, "cpu")
        self._labels = embed([thing.label for thing in atlas.things], encoder)
        self._sprites: dict[int, list[int]] = {}
        for number, sprite in enumerate(atlas.sprites):
            self._sprites.setdefault(sprite.thing, []).append(number)

    @property
    def facts(self) -> dict[str, Any]:
        """The encoder and the atlas."""
        drawn = [[thing.label for thing in self.atlas.things], len(self.atlas.sprites)]
        return {
            "model": "nearest-sprite",
            "model_hash": digest(drawn)[:12],
            "encoder": self.encoder.name,
            "size": self.size,
        }

    def things(self, prompts: Sequence[str]) -> list[int]:
        """The thing whose label is nearest to each prompt, by cosine of sentence embeddings."""
        near: list[int] = (embed(prompts, self.encoder) @ self._labels.T).argmax(1).tolist()
        return near

    def draw(self, prompts: Sequence[str], seeds: Sequence[int]) -> Tensor:
        """Premultiplied RGBA of one sprite each, in a style that the seed chooses."""
        layouts = []
        for thing, seed in zip(self.things(prompts), seeds, strict=True):
            sprite = random.Random(f"nearest sprite {seed}").choice(self._sprites[thing])
            item = Item(thing, self.atlas.things[thing].label)
            layouts.append(Layout((Placed(item, sprite, 0.5, 0.5, RADIUS),), Ground(())))
        parts = [
            to_uint8(self._composer.draw(sketch(layouts[k : k + 32], self.size), self.size))
            for k in range(0, len(layouts), 32)
        ]
        return torch.cat(parts)
