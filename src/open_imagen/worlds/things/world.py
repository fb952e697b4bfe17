"""The world "things" as models know it by name: its glossary and its hints."""

from functools import cached_property

from open_imagen.types import TextEncoder
from open_imagen.world import WORLDS, AlignmentScore, Reading
from open_imagen.worlds.things.glossary import Glossary
from open_imagen.worlds.things.hints import Hints


class ThingsWorld:
    """Reads prompts of other languages, and says what a prompt names that is not known."""

    @cached_property
    def glossary(self) -> Glossary:
        """Translates prompts; read when first needed."""
        return Glossary.open()

    @cached_property
    def hints(self) -> Hints:
        """Suggests known words for unknown ones."""
        return Hints(self.glossary)

    def read(self, prompt: str) -> Reading:
        """The prompt in the English of the captions."""
        return self.glossary.read(prompt)

    def hint(self, prompt: str, encoder: TextEncoder) -> str | None:
        """What is not known of a prompt, with the nearest known words."""
        return self.hints.hint(prompt, encoder)

    def alignment(self, count: int) -> AlignmentScore | None:
        """None: its judge needs the atlas; `imagen evaluate things` scores finished models."""
        return None


WORLDS.register("things")(ThingsWorld)
