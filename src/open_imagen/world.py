"""What a model's world knows of prompts and images.

A world is found by the name in the model's folder, which is the kind of data that the model was
trained on.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Protocol

from torch import Tensor

from open_imagen.registry import Registry
from open_imagen.types import TextEncoder

PLACE = "open_imagen.worlds"
Generate = Callable[[Sequence[str]], Tensor]
"""Prompts -> images uint8 [B, C, H, W]."""
AlignmentScore = Callable[[Generate], dict[str, float]]
"""The share of right images by category, of images that the given function makes of prompts."""


@dataclass(frozen=True)
class Reading:
    """What a prompt became."""

    prompt: str
    """English; the prompt itself where there is nothing to translate."""
    language: str = "en"
    unknown: tuple[str, ...] = ()
    """Words of the other language that nothing is known of."""


class World(Protocol):
    """Data whose truth is known, as far as models and training runs need to know it."""

    def read(self, prompt: str) -> Reading:
        """The prompt in the English that models of this world have learned."""
        ...

    def hint(self, prompt: str, encoder: TextEncoder) -> str | None:
        """What models of this world do not know of a prompt; None if there is nothing to say."""
        ...

    def alignment(self, count: int) -> AlignmentScore | None:
        """A quick score for training runs by the world's judge; None without a judge.

        It uses ``count`` prompts of each category.
        """
        ...


WORLDS: Registry[Callable[[], World]] = Registry("world")
"""Filled by the module ``world`` of each world's package when it is asked for."""


def is_world(name: str) -> bool:
    """Whether this version has a world of that name."""
    if not name.isidentifier() or find_spec(PLACE) is None:
        return False
    try:
        return find_spec(f"{PLACE}.{name}.world") is not None
    except ModuleNotFoundError:
        return False


@cache
def open_world(name: str) -> World:
    """A world by name.

    Raises:
        UnknownName: this version has no such world.
    """
    if is_world(name):
        import_module(f"{PLACE}.{name}.world")
    return WORLDS[name]()
