"""The world "shapes" as models and training runs know it by name."""

from open_imagen.types import TextEncoder
from open_imagen.world import WORLDS, AlignmentScore, Reading
from open_imagen.worlds.shapes.evaluate import alignment
from open_imagen.worlds.shapes.suite import WORLD


class ShapesWorld:
    """A World: prompts are taken as they are, and its judge scores training runs."""

    def read(self, prompt: str) -> Reading:
        """The prompt itself."""
        return Reading(prompt)

    def hint(self, prompt: str, encoder: TextEncoder) -> str | None:
        """None."""
        return None

    def alignment(self, count: int) -> AlignmentScore | None:
        """The share right of single objects, pairs, groups and relations."""
        return alignment(count)


WORLDS.register(WORLD)(ShapesWorld)
