"""The glossary: turns prompts of other languages into the English that the model has learned."""

import gzip
import json
import re
import unicodedata
from functools import cached_property
from pathlib import Path
from typing import Any

from open_imagen.errors import DataError
from open_imagen.world import Reading
from open_imagen.worlds.things import chinese
from open_imagen.worlds.things.chinese_phrases import QUOTED, Lexicon
from open_imagen.worlds.things.english_words import OTHERS
from open_imagen.worlds.things.grammar import plural, plural_word, words
from open_imagen.worlds.things.language_words import ORDER, SCRIPTS
from open_imagen.worlds.things.other_languages import (
    TOKEN,
    Language,
    Part,
    covered,
    english,
    is_word,
)

MOST_LETTERS = 600
"""Of a prompt that is translated: encoders read about a hundred words."""
PRIVATE = re.compile("[\ue000-\uf8ff]")
"""Characters that stand for quotes and phrases while a prompt is read."""
FILE = Path(__file__).parent / "data" / "glossary.json.gz"
SHAPES = words("circle square triangle star ring cross heart diamond hexagon crescent")


class Glossary:
    """Names of things in many languages."""

    def __init__(self, values: dict[str, Any]) -> None:
        """Read the tables of the data file.

        Args:
            values: of the data file; see glossary_data.py.
        """
        self.english: dict[str, list[str]] = values["english"]
        self.names: dict[str, dict[str, str]] = values["names"]
        self.tags: dict[str, dict[str, str]] = values["tags"]
        self._languages: dict[str, Language] = {}

    @classmethod
    def open(cls, path: Path = FILE) -> "Glossary":
        """Read the data file of the package.

        Raises:
            DataError: it is missing or damaged.
        """
        try:
            return cls(json.loads(gzip.decompress(path.read_bytes())))
        except (OSError, EOFError, ValueError, KeyError) as error:
            raise DataError(
                f"The glossary {path} is missing or damaged: {error!r}.",
                "Install open-imagen again.",
            ) from error

    @cached_property
    def english_names(self) -> frozenset[str]:
        """Labels and other names of things, and the shapes."""
        found = {name for label, names in self.english.items() for name in (label, *names)}
        return frozenset(found | SHAPES)

    @cached_property
    def english_words(self) -> frozenset[str]:
        """All words of English names, their plurals, and what else prompts are made of."""
        tokens = (word for name in self.english_names for word in TOKEN.findall(name.lower()))
        single = {word for word in tokens if is_word(word)}
        several = {word for name in self.english_names for word in plural(name).split()}
        return frozenset(single | several | {plural_word(word) for word in single} | OTHERS)

    @cached_property
    def chinese(self) -> Lexicon:
        """The names of Chinese prompts."""
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
        """The English of a prompt. Text in quotes is never translated; nor is a whole essay."""
        if len(prompt) > MOST_LETTERS:
            return Reading(prompt)
        plain = PRIVATE.sub("", prompt)
        if chinese.is_chinese(plain):
            found = chinese.read(plain, self.chinese)
            return Reading(found.prompt or prompt, "zh", found.unknown)
        quotes: list[str] = []

        def hide(match: re.Match[str]) -> str:
            quotes.append(match[0])
            return f" {chr(QUOTED + len(quotes) - 1)} "

        text = chinese.QUOTES.sub(hide, plain).lower().replace("\u2019", "'")
        reading = self._in_other_language(text)
        if reading is None:
            return Reading(prompt)
        said = reading.prompt
        for number, quote in enumerate(quotes):
            said = said.replace(chr(QUOTED + number), quote)
        return Reading(said, reading.language, reading.unknown)

    def _in_other_language(self, text: str) -> Reading | None:
        """The reading in the language that knows most words of a text; None for English."""
        tokens = [one for one in TOKEN.findall(text) if is_word(one)]
        known = [one for one in tokens if one in self.english_words or one.isdigit()]
        if len(known) == len(tokens):
            return None
        most: float = sum(map(len, known))
        best = None
        scripts = {
            (unicodedata.name(one, "") or "?").split()[0] for one in set(text) if one.isalpha()
        }
        for code in ORDER:
            if code not in self.names or not scripts & set(SCRIPTS.get(code, "LATIN").split()):
                continue
            language = self.language(code)
            parts = language.parts(text)
            named = [one for one in parts if one.sort == "name"]
            foreign = any(self._is_foreign(one) for one in named)
            exact = any(one.exact and self._is_foreign(one) for one in parts)
            if foreign and exact and (number := covered(parts)) > most:
                best, most = (code, parts), number
        if best is None:
            return None
        prompt, unknown = english(best[1], self.english_words)
        return Reading(prompt, best[0], unknown)

    def _is_foreign(self, part: Part) -> bool:
        """Whether a known part holds a word that is not English."""
        known = part.sort not in ("", "mark")
        return known and bool(set(TOKEN.findall(part.text)) - self.english_words)

    def language(self, code: str) -> Language:
        """The names of one language."""
        if code not in self._languages:
            names, tags = dict(self.names[code]), dict(self.tags.get(code, {}))
            if code == "es":
                names = self.names.get("es-mx", {}) | names
                tags = self.tags.get("es-mx", {}) | tags
            self._languages[code] = Language(code, names, tags)
        return self._languages[code]
