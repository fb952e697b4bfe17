"""What a prompt names that the model does not know, and the nearest words that it knows."""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from open_imagen.errors import CheckpointError, OutputError
from open_imagen.storage import cache_directory, load_tensors, save_tensors
from open_imagen.types import TextEncoder
from open_imagen.worlds.things import chinese
from open_imagen.worlds.things.captions import with_gender
from open_imagen.worlds.things.english_words import ACTIONS, FUNCTION, OTHERS
from open_imagen.worlds.things.glossary import Glossary
from open_imagen.worlds.things.grammar import head, plural, plural_word

WORD = re.compile(r"[a-zA-Z\u00c0-\u024f0-9]+(?:['-][a-zA-Z0-9]+)*|[^\w\s]")
MOST_REPEATED = 80
"""Letters of a prompt that a hint repeats."""
NEAREST = 3
"""How many known words a hint names."""
MOST_UNKNOWN = 5
BATCH = 64
FILE = Path(__file__).parent / "data" / "known-words.safetensors"
"""Embeddings of all labels by the encoder of the shipped model."""

ENDS = ("ly", "ing", "ed", "ous", "ful", "less", "able")
"""Of words that are mostly no nouns."""


class Hints:
    """Knows the names of things, and how near other words are to them."""

    def __init__(self, glossary: Glossary) -> None:
        self.glossary = glossary
        self._vectors: dict[str, Tensor] = {}

    @cached_property
    def names(self) -> dict[str, str]:
        """Singular and plural forms of all names, in the words of a prompt -> the name."""
        every = self.glossary.english_names
        names = {plural(name): name for name in every if plural(name)}
        names |= {name.replace("-", " "): name for name in every}
        for gender in ("man", "woman"):
            names |= {with_gender(k, gender): n for k, n in names.items() if k.startswith("pe")}
        names |= {name: name for name in every}
        return {" ".join(_words(form)): name for form, name in names.items()}

    @cached_property
    def most_words(self) -> int:
        """Words of the longest name."""
        return max(len(name.split()) for name in self.names)

    def known_words(self, prompt: str) -> tuple[str, ...]:
        """The names of things in a prompt, the longest where several begin at one place."""
        return tuple(name for name, _, _ in self._named(_words(prompt)))

    def _named(self, words: Sequence[str]) -> Iterator[tuple[str, int, int]]:
        place = 0
        while place < len(words):
            for size in range(min(self.most_words, len(words) - place), 0, -1):
                text = " ".join(words[place : place + size])
                if text in self.names:
                    yield self.names[text], place, place + size
                    place += size
                    break
            else:
                place += 1

    def unknown_nouns(self, prompt: str) -> tuple[str, ...]:
        """What is probably a noun in a prompt, and no word of any known name.

        A word before a known name is an adjective; so are words with certain ends.
        """
        words = _words(prompt)
        known = {k for _, start, end in self._named(words) for k in range(start, end)}
        strange = [
            k not in known and word[0].isalpha() and len(word) > 2 and not self._has(word)
            for k, word in enumerate(words)
        ]
        found, place = [], 0
        while place < len(words):
            end = place
            while end < len(words) and strange[end]:
                end += 1
            if end > place and end not in known and self._begins(words, place):
                phrase = words[place:end]
                if not phrase[-1].endswith(ENDS):
                    found.append(" ".join(phrase))
            place = max(end, place + 1)
        return tuple(dict.fromkeys(found))

    @cached_property
    def heads(self) -> frozenset[str]:
        """Words that say what a thing is, and all that name nothing."""
        single = {head(name) for name in self.glossary.english_names}
        return frozenset(single | {plural_word(word) for word in single} | OTHERS)

    def _has(self, word: str) -> bool:
        """Whether a word, or what it is made of, says what a thing is or names nothing."""
        everything = self.heads
        parts = word.removesuffix("'s").split("-")
        return all(part in everything or part.isdigit() for part in parts)

    def _begins(self, words: Sequence[str], place: int) -> bool:
        """Whether a noun may begin at a place: not right after another known noun."""
        before = words[place - 1] if place else ""
        return not before or not before[0].isalpha() or before in OTHERS or not self._has(before)

    def hint(self, prompt: str, encoder: TextEncoder) -> str | None:
        """One sentence on what is not known of a prompt; None if there is nothing to say.

        Args:
            encoder: whose distances tell which known words are nearest.
        """
        reading = self.glossary.read(prompt)
        if reading.language != "en":
            if not self.known_words(reading.prompt):
                return f"The model knows nothing in {shortened(prompt)!r}."
            if reading.unknown:
                return f"The model does not know: {', '.join(reading.unknown)}."
            return None
        plain = chinese.QUOTES.sub(" ", prompt)
        signed = plain != prompt
        if not signed and not self.known_words(plain):
            said = " ".join(w for w in _words(plain) if w not in FUNCTION | ACTIONS) or plain
            near = self._list([said], encoder)
            return f"The model knows nothing in {shortened(prompt)!r}: nearest known words: {near}."
        unknown = self.unknown_nouns(plain)[:MOST_UNKNOWN]
        if not unknown:
            return None
        words, near = ", ".join(map(repr, unknown)), self._list(unknown, encoder)
        return f"The model does not know {words}: nearest known words: {near}."

    def _list(self, texts: Sequence[str], encoder: TextEncoder) -> str:
        return ", ".join(self.nearest(texts, encoder))

    def nearest(self, texts: Sequence[str], encoder: TextEncoder) -> list[str]:
        """The labels whose embeddings are nearest to those of some texts, by cosine."""
        labels = sorted(self.glossary.english)
        near = embed(texts, encoder) @ self._table(labels, encoder).T
        ranks = near.topk(min(NEAREST, len(labels))).indices.T.flatten().tolist()
        return list(dict.fromkeys(labels[k] for k in ranks))[:NEAREST]

    def _table(self, labels: Sequence[str], encoder: TextEncoder) -> Tensor:
        """Embeddings of all labels: those of the package, or computed once and kept on disk."""
        if encoder.name not in self._vectors:
            key = table_key(encoder.name, labels)
            kept = cache_directory() / "known-words" / f"{key}.safetensors"
            table = read_table(FILE, key)
            if table is None:
                table = read_table(kept, key)
            if table is None:
                table = unpacked(packed(embed(labels, encoder)))  # as it is read back
                with suppress(OutputError):  # without a cache folder it is computed again
                    write_table(kept, key, table)
            self._vectors[encoder.name] = table
        return self._vectors[encoder.name]


def table_key(encoder: str, labels: Sequence[str]) -> str:
    """What a table of embeddings is known by."""
    return hashlib.sha256(json.dumps([encoder, *labels]).encode()).hexdigest()[:16]


def packed(table: Tensor) -> dict[str, Tensor]:
    """Embeddings in 8 bits, and what they are multiplied by."""
    scale = table.abs().max() / 127
    return {"table": (table / scale).round().to(torch.int8), "scale": scale[None]}


def unpacked(kept: Mapping[str, Tensor]) -> Tensor:
    """Embeddings from 8 bits."""
    return kept["table"].float() * kept["scale"]


def write_table(path: Path, key: str, table: Tensor) -> None:
    """Write embeddings with the key of what they are of.

    Raises:
        OutputError: the place cannot be written.
    """
    save_tensors(path, {f"{key}.{name}": part for name, part in packed(table).items()})


def read_table(path: Path, key: str) -> Tensor | None:
    """The embeddings that a file keeps under a key; None if it is not there or has others."""
    try:
        kept = load_tensors(path)
        return unpacked({name: kept[f"{key}.{name}"] for name in ("table", "scale")})
    except (CheckpointError, OSError, KeyError):
        return None


def embed(texts: Sequence[str], encoder: TextEncoder) -> Tensor:
    """Sentence embeddings: the mean of the tokens, of length one, [N, width]."""
    rows = []
    order = sorted(range(len(texts)), key=lambda k: len(texts[k]))
    with torch.no_grad():
        for start in range(0, len(order), BATCH):
            text = encoder([texts[k] for k in order[start : start + BATCH]])
            mask = text.mask[..., None].float()
            mean = (text.tokens.float() * mask).sum(1) / mask.sum(1)
            rows.append(torch.nn.functional.normalize(mean, dim=-1).cpu())
    table = torch.cat(rows)
    return table[torch.tensor(order).argsort()]


def shortened(prompt: str) -> str:
    """A prompt as messages repeat it.

    >>> shortened("a cat")
    'a cat'
    """
    text = " ".join(prompt.split())
    return text if len(text) <= MOST_REPEATED else f"{text[: MOST_REPEATED - 3]}..."


def _words(prompt: str) -> list[str]:
    """The words and marks of a prompt without its quotes, in lower case."""
    plain = chinese.QUOTES.sub(" ", prompt).lower().replace("\u2019", "'")
    return WORD.findall(plain)
