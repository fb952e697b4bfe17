"""A small atlas made by hand, with the reading interface of the real one."""

from typing import NamedTuple

import numpy as np


class Thing(NamedTuple):
    label: str
    group: str
    tags: tuple[str, ...] = ()


class Sprite(NamedTuple):
    thing: int
    style: str
    vector: bool = True
    gender: str = ""
    tone: str = ""
    width: float = 1.0
    height: float = 1.0


THINGS = (
    Thing("banana", "food"),
    Thing("cat", "animals", ("kitten", "kitty")),
    Thing("cooked rice", "food"),
    Thing("dog", "animals", ("puppy", "pet")),
    Thing("firefighter", "people"),
    Thing("glasses", "objects", ("spectacles",)),
    Thing("hourglass", "travel", ("timer",)),
    Thing("mouse", "animals", ("rodent",)),
    Thing("person in tuxedo", "people", ("groom",)),
    Thing("red apple", "food", ("apple",)),
    Thing("slice of pizza", "food"),
    Thing("star", "travel"),
    Thing("teddy bear", "activities", ("plush toy",)),
    Thing("umbrella", "travel", ("parasol",)),
    Thing("winking face", "smileys", ("wink",)),
)
STYLES = ("3d", "drawn", "flat")


class FakeAtlas:
    """Every thing in three styles; people in two genders and tones."""

    def __init__(self) -> None:
        self.things = list(THINGS)
        self.sprites = [
            Sprite(
                k, style, style != "3d", gender, tone, *((1.0, 0.5) if k % 3 == 0 else (0.75, 1.0))
            )
            for k, thing in enumerate(THINGS)
            for style in STYLES
            for gender in (("man", "woman") if thing.group == "people" else ("",))
            for tone in (("light", "dark") if thing.group == "people" else ("",))
        ]

    def pixels(self, size: int) -> np.ndarray:
        """Shaded boxes with a dark border that fill their extents."""
        return np.stack([self._draw(number, size) for number in range(len(self.sprites))])

    def large(self, number: int) -> np.ndarray:
        return self._draw(number, 1024)

    def _draw(self, number: int, size: int) -> np.ndarray:
        rng = np.random.default_rng(number)
        sprite = self.sprites[number]
        image = np.zeros((size, size, 4))
        left, top = (round(size * (1 - share) / 2) for share in (sprite.width, sprite.height))
        inside = image[top : size - top, left : size - left]
        ramp = np.linspace(0.6, 1.0, inside.shape[0])[:, None, None]
        inside[..., :3] = ramp * rng.uniform(0.3, 1.0, 3)
        edge = size // 32
        inside[:edge, :, :3] = inside[-edge:, :, :3] = 0.1
        inside[..., 3] = 1
        image[size // 2 :, size // 2 :] *= 0.5  # a half-transparent quarter
        return (image * 255).round().astype(np.uint8)

    def large_numbers(self) -> frozenset[int]:
        return frozenset(n for n, sprite in enumerate(self.sprites) if sprite.vector)

    def label_of(self, label: str) -> int:
        return [thing.label for thing in self.things].index(label)

    def first_sprite(self, thing: int) -> int:
        return [sprite.thing for sprite in self.sprites].index(thing)
