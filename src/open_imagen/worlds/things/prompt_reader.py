"""What a prompt of another suite asks for, where it names things that this world has."""

import csv
import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from open_imagen.errors import DataError
from open_imagen.worlds.shapes.scenes import SHAPES
from open_imagen.worlds.things.catalog import Catalog
from open_imagen.worlds.things.grammar import plural, plural_word
from open_imagen.worlds.things.scenes import COLORS
from open_imagen.worlds.things.suite import ExpectedScene, Prompt, Truth
from open_imagen.worlds.things.wordings import NUMBERS, SIZE_WORDS, STYLE_ADJECTIVES

DRAWBENCH = ("Colors", "Counting", "Positional", "Text")
"""The categories of DrawBench that ask for what the judge can see."""
RELATION_WORDS = {
    "left of": ("to the left of", "on the left of", "on the left side of", "left of"),
    "right of": ("to the right of", "on the right of", "on the right side of", "right of"),
    "above": ("on top of", "above", "over"),
    "below": ("underneath", "below", "beneath", "under"),
}
SCENERY = frozenset({"on", "in", "at", "sitting", "standing", "lying", "near"})
"""Words with which a place begins that has no part in what is asked for."""
COUNTS = {
    **{"a": 1, "an": 1, "the": 1},
    **{word: number + 1 for number, word in enumerate(NUMBERS)},
    **{str(number): number for number in range(1, 6)},
}
SIGN = re.compile(
    r"""^(?:a|the)\ sign\ (?:that\ says|that\ reads|saying|reading|with(?:\ the\ (?:word|text))?)
    \ ["'](?P<word>[^"]+?)["'](?:\ on\ it)?$""",
    re.VERBOSE | re.IGNORECASE,
)
STRAIGHT = {0x2018: "'", 0x2019: "'", 0x201C: '"', 0x201D: '"'}
"""Curly quotes as straight ones."""
GROUND = re.compile(r"^(?P<text>.+?),? (?:on|against|with) an? (?P<ground>[a-z]+) background$")


class Read(NamedTuple):
    """What a prompt asks for."""

    truth: Truth
    ignored: str = ""
    """Words that are not judged: the scenery."""


class Vocabulary:
    """Every name of a thing or shape, and which of them it means."""

    def __init__(self, catalog: Catalog) -> None:
        names: dict[str, list[str]] = defaultdict(list)
        labels = {catalog.label(k) for k in range(len(catalog.things))}
        for k, thing in enumerate(catalog.things):
            names[thing.label].append(thing.label)
            for tag in (*thing.tags, *catalog.all_tags[k]):
                if tag not in labels:
                    names[tag].append(thing.label)
        for name in list(names):
            # A cat's face will do for a cat.
            if f"{name} face" in labels:
                names[name].append(f"{name} face")
        for shape in SHAPES:
            names[shape].append(f"shape {shape}")
        self.names = {name: tuple(dict.fromkeys(means)) for name, means in names.items()}
        self.plurals = {
            several: means
            for name, means in self.names.items()
            if (several := plural(name) or _plain_plural(name)) not in self.names
        }
        self.longest = max(len(name.split()) for name in (*self.names, *self.plurals))

    def find(self, words: Sequence[str], several: bool) -> tuple[tuple[str, ...], int]:
        """What the longest name at the beginning of some words means, and how many words it has."""
        table = self.plurals if several else self.names
        for number in range(min(self.longest, len(words)), 0, -1):
            name = " ".join(words[:number])
            means = table.get(name) or (self.names.get(name) if several else None)
            if means:
                return means, number
        return (), 0


def _plain_plural(name: str) -> str:
    *before, last = name.split()
    return " ".join((*before, plural_word(last)))


def read_prompt(text: str, vocabulary: Vocabulary) -> Read | None:
    """What a prompt asks for; None where it names something else too.

    >>> read_prompt("A sign that says 'HELP'.", None).truth.word
    'HELP'
    """
    text = re.sub(r"\s+", " ", text.translate(STRAIGHT)).strip().rstrip(".")
    if found := SIGN.match(text):
        word = found["word"].rstrip(".")
        if not (word.isascii() and word.isalpha()):
            return None
        return Read(Truth((ExpectedScene(("sign",)),), word=word.upper()))
    if re.search("\"|(?<!\\w)'", text):
        return None
    text, ground = text.lower(), None
    if behind := GROUND.match(text):
        if behind["ground"] not in COLORS:
            return None
        text, ground = behind["text"], behind["ground"]
    relation, parts = _related(text)
    wanted, ignored = [], ""
    for place, part in enumerate(parts):
        one, rest = _noun(part, vocabulary)
        last = place == len(parts) - 1
        if one is None or (rest and not (last and rest.split()[0] in SCENERY)):
            return None
        wanted.append(one)
        ignored = rest
    if len(wanted) > 3 or (relation and any(one.number > 1 for one in wanted)):
        return None
    return Read(Truth(tuple(wanted), relation, ground), ignored)


def _related(text: str) -> tuple[str, list[str]]:
    """The relation of a sentence and what stands before and after it."""
    for relation, phrases in RELATION_WORDS.items():
        for phrase in phrases:
            before, found, after = text.partition(f" {phrase} ")
            if found:
                return relation, [re.sub(r" (?:is|sits|sitting)$", "", before), after]
    return "", re.split(r",? and |, ", text)


def _noun(text: str, vocabulary: Vocabulary) -> tuple[ExpectedScene | None, str]:
    """An object with its number and adjectives, and what follows."""
    words = text.replace("-colored", " colored").split()
    kind = ExpectedScene(())
    if words and words[0] in COUNTS:
        kind = kind._replace(number=COUNTS[words.pop(0)])
    while words:
        # A label may begin with a color: "red apple".
        names, length = vocabulary.find(words, kind.number > 1)
        if names:
            return kind._replace(names=names), " ".join(words[length:])
        word = words.pop(0)
        color = "gray" if word == "grey" else word
        size = next((s for s, several in SIZE_WORDS.items() if word in several), "")
        style = next((s for s, several in STYLE_ADJECTIVES.items() if word in several), "")
        if color in COLORS and not kind.color:
            kind = kind._replace(color=color)
        elif size:
            kind = kind._replace(size=size)
        elif style:
            kind = kind._replace(style=style)
        elif word != "colored":
            return None, ""
    return None, ""


class Selection(NamedTuple):
    """The prompts of a file that can be judged."""

    prompts: list[Prompt]
    of: dict[str, int]
    """How many the file has, by category."""


def read_drawbench(file: Path, catalog: Catalog) -> Selection:
    """The prompts that can be judged of a CSV with the columns Prompt and Category.

    Raises:
        DataError: it cannot be read, has other columns, or no prompt that can be judged.
    """
    vocabulary, prompts = Vocabulary(catalog), []
    of: dict[str, int] = dict.fromkeys(DRAWBENCH, 0)
    for row in _rows(file):
        category = (row["Category"] or "").strip()
        if category not in of:
            continue
        of[category] += 1
        text = (row["Prompt"] or "").strip()
        if (found := read_prompt(text, vocabulary)) is not None:
            parts = {"ignored": "yes" if found.ignored else "no"}
            prompts.append(Prompt(category, text, found.truth, parts))
    if not prompts:
        raise DataError(
            f"{file} has no prompt whose things this world knows.",
            f"Its categories {', '.join(DRAWBENCH)} are looked at.",
        )
    return Selection(prompts, of)


def _rows(file: Path) -> list[dict[str, str]]:
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream)
            missing = {"Prompt", "Category"} - set(reader.fieldnames or ())
            if missing:
                raise DataError(
                    f"{file} has no column {' and no '.join(sorted(missing))}.",
                    "DrawBench's CSV has the columns Prompt and Category.",
                )
            return list(reader)
    except OSError as error:
        raise DataError(f"Cannot read {file}: {error.strerror}.") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{file} is not a CSV file in UTF-8.") from error
