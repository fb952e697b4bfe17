"""Things and their names: CLDR's labels, groups from emojibase-data, and other names."""

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from open_imagen.errors import DataError
from open_imagen.worlds.things.near_doubles import MERGED, RENAMED, why_left_out
from open_imagen.worlds.things.tags import TABLES, clean_tags, read_table

GROUPS = {
    0: "smileys",
    1: "people",
    3: "animals",
    4: "food",
    5: "travel",
    6: "activities",
    7: "objects",
}
"""By emojibase's numbers. Components, symbols and flags are left out."""
HEARTS = 14
"""emojibase's subgroup of the smileys that becomes the group "hearts"."""
TONES = ("light", "medium-light", "medium", "medium-dark", "dark")
GENDERED = {
    "merman": ("merperson", "man"),
    "mermaid": ("merperson", "woman"),
    "deaf man": ("deaf person", "man"),
    "deaf woman": ("deaf person", "woman"),
    "pregnant man": ("pregnant person", "man"),
    "pregnant woman": ("pregnant person", "woman"),
    "old man": ("older person", "man"),
    "old woman": ("older person", "woman"),
}
"""Labels that name a gender of another label and that no rule finds."""


@dataclass(frozen=True)
class Thing:
    """Something that can be named in a caption.

    Attributes:
        label: CLDR's short name in lower case, or what near_doubles.py makes of it.
        tags: other names of this thing, which name at most three things.
        hexcodes: Unicode sequences of its pictures, without gender and skin tone variants.
        also: CLDR's labels that were merged into it or renamed.
    """

    label: str
    group: str
    tags: tuple[str, ...] = ()
    hexcodes: tuple[str, ...] = ()
    also: tuple[str, ...] = ()


@dataclass(frozen=True)
class Variant:
    """One Unicode sequence: which thing its pictures show, with which gender and skin tone."""

    code: str
    label: str
    gender: str = ""
    tone: str = ""


def normal_code(hexcode: str) -> str:
    """A Unicode sequence as we compare it: lower case, without variation selectors.

    >>> normal_code("1F441-FE0F")
    '1f441'
    """
    return "-".join(part for part in hexcode.lower().split("-") if part != "fe0f")


def normal_label(label: str) -> str:
    """A CLDR label in lower case with plain quotes."""
    return label.lower().replace("\u2019", "'").replace("\u201c", "").replace("\u201d", "")


def read_names(data: bytes) -> tuple[list[Thing], list[Variant], dict[str, str]]:
    """Things sorted by label, Unicode sequences that show them, and codes by CLDR's labels.

    Raises:
        DataError: this is not emojibase's data.json.
    """
    try:
        entries = [entry for entry in json.loads(data) if entry.get("group") in GROUPS]
        codes = {normal_label(e["label"]): normal_code(e["hexcode"]) for e in entries}
        return *_read(entries), codes
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"emojibase's data.json cannot be read: {error!r}.") from error


def _read(entries: list[dict[str, Any]]) -> tuple[list[Thing], list[Variant]]:
    merged = {old: new for new, (labels, _) in MERGED.items() for old in labels}
    known = {normal_label(entry["label"]) for entry in entries}
    codes: dict[str, list[str]] = defaultdict(list)
    also: dict[str, list[str]] = defaultdict(list)
    groups: dict[str, str] = {}
    variants: list[Variant] = []
    for entry in entries:
        cldr, code = normal_label(entry["label"]), normal_code(entry["hexcode"])
        if why_left_out(cldr, code):
            continue
        base, gender = _ungendered(cldr, known) if entry["group"] == 1 else (cldr, "")
        label = merged.get(base) or RENAMED.get(base) or base
        variants += _with_tones(entry, Variant(code, label, gender))
        if gender:
            continue
        groups[label] = "hearts" if entry.get("subgroup") == HEARTS else GROUPS[entry["group"]]
        codes[label].append(entry["hexcode"])
        also[label] += [cldr] if cldr != label else []
    tags = clean_tags(read_table(*TABLES), {label: also[label] for label in groups})
    things = [
        Thing(label, groups[label], tags[label], tuple(codes[label]), tuple(also[label]))
        for label in sorted(groups)
    ]
    return things, variants


def _with_tones(entry: dict[str, Any], plain: Variant) -> Iterator[Variant]:
    """A sequence and its skin tones; pairs of two tones are left out."""
    yield plain
    for skin in entry.get("skins", []):
        if isinstance(skin["tone"], int):
            tone = TONES[skin["tone"] - 1]
            yield Variant(normal_code(skin["hexcode"]), plain.label, plain.gender, tone)


def _ungendered(label: str, known: Iterable[str]) -> tuple[str, str]:
    """A label of a person without its gender, and the gender.

    >>> _ungendered("woman health worker", {"health worker", "woman"})
    ('health worker', 'woman')
    >>> _ungendered("woman: beard", {"person: beard"})
    ('person: beard', 'woman')
    >>> _ungendered("woman with headscarf", {"person"})
    ('woman with headscarf', '')
    """
    if label in GENDERED:
        return GENDERED[label]
    match = re.match(r"(wom[ae]n|m[ae]n)(:?) (.+)", label)
    if match:
        word, colon, rest = match.groups()
        gender = "woman" if word.startswith("w") else "man"
        for base in (rest, f"person{colon} {rest}", f"people {rest}"):
            if base in known:
                return base, gender
    return label, ""
