"""Makes the glossary's data file from emojibase-data: `python -m ...glossary_data FOLDER`."""

import gzip
import json
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from open_imagen.errors import DataError
from open_imagen.storage import atomic
from open_imagen.text.encoders import load_encoder
from open_imagen.types import TextEncoder
from open_imagen.worlds.things import hints
from open_imagen.worlds.things.captions import with_gender
from open_imagen.worlds.things.glossary import Glossary
from open_imagen.worlds.things.hints import embed
from open_imagen.worlds.things.more_names import MORE_NAMES
from open_imagen.worlds.things.names import Thing, Variant, normal_code, read_names

FORMAT = 1
FILE = Path(__file__).parent / "data" / "glossary.json.gz"
SOURCE = "emojibase-data 17.0.0 (MIT), names of Unicode CLDR"
LANGUAGES = (
    *("bn", "da", "de", "es", "es-mx", "et", "fi", "fr", "hi", "hu", "it", "ja", "ko", "lt", "ms"),
    *("nb", "nl", "pl", "pt", "ru", "sv", "th", "uk", "vi", "zh", "zh-hant"),
)
MOST_BYTES = 1_500_000


def make(art: Path) -> dict[str, Any]:
    """The values of the data file.

    Args:
        art: unpacked emojibase-data.
    """
    things, variants, _ = read_names((art / "en" / "data.json").read_bytes())
    plain = {one.code: one for one in variants if not one.tone}
    found: dict[str, Any] = {
        "format": FORMAT,
        "source": SOURCE,
        "english": english(things),
        "names": {},
        "tags": {},
    }
    for language in LANGUAGES:
        entries = json.loads((art / language / "data.json").read_bytes())
        by_code = {normal_code(entry["hexcode"]): entry for entry in entries}
        named = [(plain[code], entry) for code, entry in by_code.items() if code in plain]
        found["names"][language] = names(named)
        found["tags"][language] = tags(
            named, found["names"][language], letters=language.startswith("zh")
        )
    return found


def english(things: Sequence[Thing]) -> dict[str, list[str]]:
    """Every label with its other names."""
    return {
        one.label: list(dict.fromkeys((*one.tags, *MORE_NAMES.get(one.label, ()))))
        for one in things
    }


def names(named: Iterable[tuple[Variant, Mapping[str, Any]]]) -> dict[str, str]:
    """Name -> what training captions call it; the first thing of a name has it."""
    found: dict[str, str] = {}
    for variant, entry in named:
        name = entry["label"].lower().split("(")[0].strip()
        found.setdefault(name, with_gender(variant.label, variant.gender))
    return found


def tags(
    named: Sequence[tuple[Variant, Mapping[str, Any]]], known: Mapping[str, str], letters: bool
) -> dict[str, str]:
    """Tags that are a part of the name of one thing, or of two, of which the first has it.

    The other tags say what a picture is used for.

    Args:
        letters: one letter in common makes a part, of one thing alone; otherwise a word.
    """
    owners: dict[str, dict[str, None]] = defaultdict(dict)
    for variant, entry in named:
        if variant.gender:
            continue
        name = entry["label"].lower()
        parts = set(name) if letters else set(name.split())
        for tag in map(str.lower, entry.get("tags", ())):
            if (
                len(tag) > 1
                and tag not in known
                and (set(tag) & parts if letters else tag in parts)
            ):
                owners[tag][variant.label] = None
    most = 1 if letters else 2
    return {tag: next(iter(labels)) for tag, labels in owners.items() if len(labels) <= most}


def write(art: Path, path: Path = FILE) -> int:
    """Write the data file and return its size in bytes.

    Raises:
        DataError: the folder is not emojibase-data.
    """
    try:
        values = make(art)
    except (OSError, ValueError, KeyError) as error:
        raise DataError(
            f"{art} is not emojibase-data: {error!r}.", "Run: npm pack emojibase-data@17.0.0"
        ) from error
    text = json.dumps(values, ensure_ascii=False, separators=(",", ":")).encode()
    data = gzip.compress(text, 9, mtime=0)
    if len(data) > MOST_BYTES:
        raise DataError(f"The glossary has {len(data)} bytes, more than {MOST_BYTES}.")
    with atomic(path) as temporary:
        temporary.write_bytes(data)
    return len(data)


def write_known_words(encoder: TextEncoder) -> None:
    """Write the embeddings of all labels, by which hints find the nearest."""
    labels = sorted(Glossary.open().english)
    hints.write_table(hints.FILE, hints.table_key(encoder.name, labels), embed(labels, encoder))


if __name__ == "__main__":
    print(write(Path(sys.argv[1])), "bytes")
    write_known_words(load_encoder("minilm-l6", torch.device("cpu")))
