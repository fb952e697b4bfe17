"""Prompts of other languages by names alone: numbers, colors and names, in their own order."""

import re
import unicodedata
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from open_imagen.worlds.things.chinese_phrases import QUOTED
from open_imagen.worlds.things.language_words import INFLECTED, UNSPACED, SmallWords, small_words
from open_imagen.worlds.things.phrases import Phrase, say

TOKEN = re.compile(r"\d+|[^\W\d_]+(?:[\u0300-\u036f\u0900-\u0dff\u0e00-\u0e7f]|[^\W\d_])*|[^\w\s]")
MOST_WORDS = 7
"""Of a name."""


class Part(NamedTuple):
    """A piece of a prompt and what it is."""

    text: str
    sort: str
    """ "name", "color", "number", "small", "mark", or "" for what nothing is known of."""
    english: str = ""
    number: int = 1
    exact: bool = True
    color: str = ""
    """What a name says as a color: "rosa"."""


class Language:
    """One language's names and small words."""

    def __init__(self, code: str, names: Mapping[str, str], tags: Mapping[str, str]) -> None:
        """Read the tables.

        Args:
            tags: further names, which small words override.
        """
        self.code = code
        self.words: SmallWords = small_words(code)
        self.names = {
            **{tag: name for tag, name in tags.items() if self._small(tag) is None},
            **names,
            **self.words.names,
        }
        self._by_start: dict[str, list[str]] = {}
        for name in self.names:
            if " " not in name:
                self._by_start.setdefault(bare(name)[:3], []).append(name)

    def parts(self, text: str) -> list[Part]:
        """The pieces of a text in lower case."""
        return list(self._by_letter(text) if self.code in UNSPACED else self._by_word(text))

    def _by_letter(self, text: str) -> Iterator[Part]:
        place, unknown = 0, ""
        while place < len(text):
            found = next(
                (
                    part
                    for size in range(min(30, len(text) - place), 0, -1)
                    if (part := self._exact(text[place : place + size]))
                ),
                None,
            )
            # One letter alone is a name or a small word only between known parts.
            if found is None:
                if text[place].isspace() and unknown:
                    yield Part(unknown, "")
                    unknown = ""
                unknown += text[place].strip()
                place += 1
                continue
            if unknown:
                yield Part(unknown, "")
                unknown = ""
            yield found
            place += len(found.text)
        if unknown:
            yield Part(unknown, "")

    def _by_word(self, text: str) -> Iterator[Part]:
        tokens = list(TOKEN.finditer(text))
        place = 0
        while place < len(tokens):
            for size in range(min(MOST_WORDS, len(tokens) - place), 0, -1):
                piece = text[tokens[place].start() : tokens[place + size - 1].end()]
                if part := self._exact(piece):
                    break
            else:
                size, piece = 1, tokens[place][0]
                part = self._bent(piece) or Part(piece, "" if is_word(piece) else "mark")
            yield part
            place += size

    def _exact(self, piece: str) -> Part | None:
        if piece in self.names:
            return Part(piece, "name", self.names[piece], color=self._color(piece))
        return self._small(piece)

    def _small(self, piece: str) -> Part | None:
        if piece in self.words.numbers:
            return Part(piece, "number", number=self.words.numbers[piece])
        if piece.isdigit() and 0 < int(piece) <= 10:
            return Part(piece, "number", number=int(piece))
        if piece in self.words.small:
            return Part(piece, "small", self.words.small[piece])
        if color := self._color(piece):
            return Part(piece, "color", color)
        return None

    def _color(self, word: str) -> str:
        """The English of a color, whatever its end; "" if it is none."""
        if word in self.words.colors:
            return self.words.colors[word]
        if self.code in UNSPACED or " " in word:
            return ""
        stems = self.words.colors.items()
        return next(
            (c for stem, c in stems if word.startswith(stem) and len(word) <= len(stem) + 3), ""
        )

    def _bent(self, word: str) -> Part | None:
        """A name with another end."""
        plain, best = bare(word), (99, "")
        inflected = self.code in INFLECTED
        for name in self._by_start.get(plain[:3], ()):
            known = bare(name)
            same = _alike(plain, known)
            left = len(plain) - same, len(known) - same
            most = 3 if inflected and len(known) > 3 else 2 if len(known) > 3 else 1
            fits = left[0] <= most and left[1] <= min(most, len(known) - 3, 2)
            if fits and len(plain) >= len(known) - 1:
                best = min(best, (sum(left), name))
        return Part(word, "name", self.names[best[1]], exact=False) if best[1] else None


def _alike(one: str, other: str) -> int:
    """How many letters two words begin with alike."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((k for k, (a, b) in pairs if a != b), min(len(one), len(other)))


def bare(text: str) -> str:
    """Letters without accents.

    >>> bare("äpfel")
    'apfel'
    """
    return "".join(
        one for one in unicodedata.normalize("NFD", text) if unicodedata.category(one) != "Mn"
    )


def is_word(token: str) -> bool:
    """Whether a token is a word or a number."""
    return token[0].isalnum()


def covered(parts: list[Part]) -> float:
    """How many letters of a text a language knows; of names with another end, half of them."""
    return sum(
        len("".join(part.text.split())) / (1 if part.exact else 2)
        for part in parts
        if part.sort not in ("", "mark")
    )


def _beside_name(parts: list[Part], place: int) -> bool:
    """Whether a name stands beside another one, which it may be the color of."""
    around = parts[max(place - 1, 0) : place] + parts[place + 1 : place + 2]
    return any(part.sort == "name" and not part.color for part in around)


def english(parts: list[Part], keeps: frozenset[str]) -> tuple[str, tuple[str, ...]]:
    """The English of parts, and the words that nothing is known of.

    Args:
        keeps: English words that stay where they stand.
    """
    pieces: list[str] = []
    unknown: list[str] = []
    waiting = Phrase("")  # the number and color that were said before their thing
    last: Phrase | None = None  # the thing that was said just now
    for place, part in enumerate(parts):
        sort, color = part.sort, part.english
        if sort == "name" and part.color and _beside_name(parts, place):
            sort, color = "color", part.color
        if sort == "number":
            waiting = waiting._replace(number=part.number)
        elif sort == "color" and last and not last.color and not waiting.color:
            last = last._replace(color=color)  # "gato rojo"
            pieces[-1] = say(last)
        elif sort == "color":
            waiting = waiting._replace(color=color)
        elif sort == "name":
            last, waiting = waiting._replace(name=part.english), Phrase("")
            pieces.append(say(last))
        elif sort == "small" and not part.english:
            continue
        else:
            last = None
            if sort == "small":
                pieces.append(part.english)
            elif sort == "mark":
                pieces += [part.text] if part.text == "," or part.text >= chr(QUOTED) else []
            elif part.text in keeps:
                pieces.append(part.text)
            else:
                unknown.append(part.text)
    text = re.sub(r"\s+,", ",", " ".join(pieces)).strip(", ")
    text = re.sub(r"^(?:and|with|on|above|below|next to)\s+(?=a)", "", text)
    text = re.sub(r", an? (\w+ background)", r", \1", text)
    return re.sub(r"\s+(?:and|with|on|above|below|next to)$", "", text), tuple(unknown)
