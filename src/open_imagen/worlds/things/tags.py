"""Which other names of a thing a caption may use in place of its label."""

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence

from open_imagen.worlds.things import other_names

MOST = 3
"""A name that is given to more things than this names none of them."""
TABLES = (
    other_names.ANIMALS,
    other_names.FOOD,
    other_names.TRAVEL,
    other_names.ACTIVITIES,
    other_names.OBJECTS,
    other_names.SMILEYS,
    other_names.HEARTS,
    other_names.PEOPLE,
)


def read_table(*tables: str) -> dict[str, tuple[str, ...]]:
    """Names by label, of tables of "label: name, name; label: name".

    >>> read_table("cat: feline, tomcat; dog: hound")
    {'cat': ('feline', 'tomcat'), 'dog': ('hound',)}
    """
    found: dict[str, tuple[str, ...]] = {}
    for entry in re.split(r"[;\n]", "\n".join(tables)):
        label, colon, names = entry.partition(": ")
        if colon:
            found[label.strip()] = tuple(name.strip() for name in names.split(","))
    return found


def plain(name: str) -> str:
    """A name in lower-case letters and single spaces.

    >>> plain("Bird's-nest"), plain("piñata")
    ('birds nest', 'pinata')
    """
    letters = unicodedata.normalize("NFKD", name.lower().replace("-", " "))
    return " ".join(re.sub(r"[^a-z ]", "", letters).split())


def clean_tags(
    table: Mapping[str, Sequence[str]], also: Mapping[str, Sequence[str]]
) -> dict[str, tuple[str, ...]]:
    """Tags by label.

    Args:
        table: other names by label; labels that ``also`` lacks are passed over.
        also: every label, with the CLDR labels that were merged into it or renamed.

    A name is dropped if it is another thing's label, differs from its own label by a plural only,
    or is given to more than ``MOST`` things.
    """
    names = {
        label: {name for word in table.get(label, ()) if (name := plain(word))} for label in also
    }
    counts = Counter(name for found in names.values() for name in found)
    owners = {plain(other): label for label, olds in also.items() for other in (label, *olds)}
    return {
        label: tuple(
            sorted(
                name
                for name in found
                if counts[name] <= MOST
                and owners.get(name, label) == label
                and not _plural_of(name, plain(label))
            )
        )
        for label, found in names.items()
    }


def _plural_of(one: str, other: str) -> bool:
    """Whether two names are the same, or one is the other's plural."""
    plurals = {f"{one}s", f"{one}es", one.removesuffix("y") + "ies", one}
    return other in plurals or one in {f"{other}s", f"{other}es", other.removesuffix("y") + "ies"}
