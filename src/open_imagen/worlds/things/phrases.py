"""English noun phrases as training captions write them, for prompts of other languages."""

from collections.abc import Sequence
from typing import NamedTuple

from open_imagen.worlds.things.catalog import COLOR_WORDS
from open_imagen.worlds.things.grammar import NAMES, WITH_THE, article, plural, takes_article
from open_imagen.worlds.things.wordings import NUMBERS

SEVERAL = -1
"""A number that is not said."""
STYLE_WORDS = {"drawn": "drawn", "old": "old-style", "flat": "flat", "shiny": "shiny", "3d": "3d"}
STYLE_FRAMES = {style: f"{style} style" for style in STYLE_WORDS}
MORE_NUMBERS = (*NUMBERS, "six", "seven", "eight", "nine", "ten")


class Phrase(NamedTuple):
    """A thing and what is said of it."""

    name: str
    """A label or another name of a thing, in English; empty for a sign."""
    number: int = 1
    color: str = ""
    size: str = ""
    style: str = ""
    person: str = ""
    """Words before the name that tell gender or skin tone."""
    text: str = ""
    """What a sign says, with its quotes."""


def say(one: Phrase, with_style: bool = True) -> str:
    """A noun phrase with its article or number.

    >>> say(Phrase("cat", 2, "red", "small")), say(Phrase("red apple", color="blue"))
    ('two small red cats', 'a blue apple')
    >>> say(Phrase("", text='"STOP"')), say(Phrase("socks", 2))
    ('a sign that says "STOP"', 'socks')
    """
    name = one.name
    first, _, rest = name.partition(" ")
    if one.color and rest and first in COLOR_WORDS:
        name = rest
    style = STYLE_WORDS[one.style] if with_style and one.style else ""
    before = " ".join(w for w in (one.size, style, one.color, one.person) if w)
    if not name:
        return _sign(one, before)
    if one.number != 1:
        return _several(one.number, before, name)
    phrase = f"{before} {name}".strip()
    if name in WITH_THE:
        return f"the {phrase}"
    if name in NAMES or not takes_article(name):
        return phrase
    return f"{article(phrase)} {phrase}"


def _several(count: int, before: str, name: str) -> str:
    names = plural(name) or name
    phrase = f"{before} {names}".strip()
    paired = names.endswith("s") and names == name and count == 2
    if count == SEVERAL or paired:
        return phrase
    number = MORE_NUMBERS[count - 1] if count <= len(MORE_NUMBERS) else str(count)
    return f"{number} {phrase}"


def _sign(one: Phrase, before: str) -> str:
    if one.number != 1:
        return f"{_several(one.number, before, 'sign')} that say {one.text}"
    phrase = f"{before} sign".strip()
    return f"{article(phrase)} {phrase} that says {one.text}"


def listed(names: Sequence[str]) -> str:
    """Names in a row.

    >>> listed(["a cat", "a dog", "a cow"])
    'a cat, a dog and a cow'
    """
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def framed(objects: str, style: str, grounds: Sequence[str]) -> str:
    """Objects with a style for all of them and a ground.

    Args:
        grounds: none, "transparent", a color, or two colors.
    """
    text = f"{objects}, {STYLE_FRAMES[style]}" if style else objects
    if not grounds:
        return text
    ground = f"{' and '.join(grounds)} background"
    return f"{text}, {ground}" if style else f"{text} on {article(ground)} {ground}"
