"""The glossary: turns prompts of other languages into the English that the model has learned."""

import gzip
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from open_imagen.errors import DataError
from open_imagen.worlds.things import chinese
from open_imagen.worlds.things.chinese_phrases import Lexicon

FILE = Path(__file__).parent / "data" / "glossary.json.gz"


@dataclass(frozen=True)
class Reading:
    """What a prompt became."""

    prompt: str
    """English; the prompt itself where there is nothing to translate."""
    language: str = "en"
    unknown: tuple[str, ...] = ()
    """Words of the other language that the glossary does not know."""


class Glossary:
    """Names of things in many languages."""

    def __init__(self, values: dict[str, Any]) -> None:
        """
        Args:
            values: of the data file; see glossary_data.py.
        """
        self.english: dict[str, list[str]] = values["english"]
        self.names: dict[str, dict[str, str]] = values["names"]
        self.tags: dict[str, dict[str, str]] = values["tags"]

    @classmethod
    def open(cls, path: Path = FILE) -> "Glossary":
        """Read the data file of the package.

        Raises:
            DataError: it is missing or damaged.
        """
        try:
            return cls(json.loads(gzip.decompress(path.read_bytes())))
        except (OSError, EOFError, ValueError, KeyError) as error:
            raise DataError(f"The glossary {path} is damaged: {error!r}.") from error

    @cached_property
    def english_names(self) -> frozenset[str]:
        """Labels and other names of things."""
        return frozenset(
            name for label, names in self.english.items() for name in (label, *names)
        )

    @cached_property
    def chinese(self) -> Lexicon:
        tables = [
            *(self.names.get(language, {}) for language in ("zh", "zh-hant")),
            *(self.tags.get(language, {}) for language in ("zh", "zh-hant")),
        ]
        found = {label for table in self.names.values() for label in table.values()}
        people = {
            label.removeprefix(f"{gender} ")
            for label in found - set(self.english)
            for gender in ("man", "woman")
            if label.startswith(f"{gender} ")
        }
        return Lexicon(tables, self.english_names, people)

    def read(self, prompt: str) -> Reading:
        """The English of a prompt."""
        if chinese.is_chinese(prompt):
            found = chinese.read(prompt, self.chinese)
            return Reading(found.prompt or prompt, "zh", found.unknown)
        return Reading(prompt)
