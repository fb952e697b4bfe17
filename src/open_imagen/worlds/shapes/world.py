"""The world "shapes" as models and training runs know it by name."""

import re

from open_imagen.types import TextEncoder
from open_imagen.world import WORLDS, AlignmentScore, Reading
from open_imagen.worlds.shapes.captions import IRREGULAR
from open_imagen.worlds.shapes.evaluate import alignment
from open_imagen.worlds.shapes.scenes import SHAPE_SYNONYMS, SHAPES
from open_imagen.worlds.shapes.suite import WORLD

QUOTES = '"\u201c\u201d'
LONGEST = 80
"""Characters of a prompt that a hint repeats."""
SINGLE = {*SHAPES, *SHAPE_SYNONYMS}
KNOWN = {*SINGLE, *(f"{word}s" for word in SINGLE), *IRREGULAR.values(), "shape", "shapes", "sign"}
"""Words that say what there is in an image."""


class ShapesWorld:
    """A World: prompts are taken as they are, and its judge scores training runs."""

    def read(self, prompt: str) -> Reading:
        """The prompt itself."""
        return Reading(prompt)

    def hint(self, prompt: str, encoder: TextEncoder) -> str | None:
        """That a prompt names neither a shape nor a word to write, and what the model can draw."""
        words = set(re.findall(r"[^\W\d_]+", prompt.lower()))
        if words & KNOWN or any(mark in prompt for mark in QUOTES):
            return None
        text = " ".join(prompt.split())
        text = text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."
        return (
            f"The model knows nothing in {text!r}: it draws coloured shapes "
            f"({', '.join(SHAPES)}) and signs with a short word in quotes."
        )

    def alignment(self, count: int) -> AlignmentScore | None:
        """The share right of single objects, pairs, groups and relations."""
        return alignment(count)


WORLDS.register(WORLD)(ShapesWorld)
