"""What a prompt names that the model does not know, and the nearest words that it knows."""

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from functools import cached_property

import torch
from torch import Tensor

from open_imagen.errors import CheckpointError
from open_imagen.storage import cache_directory, load_tensors, save_tensors
from open_imagen.types import TextEncoder
from open_imagen.worlds.things import chinese
from open_imagen.worlds.things.english_words import ACTIONS, FUNCTION, OTHERS
from open_imagen.worlds.things.glossary import Glossary
from open_imagen.worlds.things.grammar import head, plural, plural_word

WORD = re.compile(r"[a-zA-Z\u00c0-\u024f0-9]+(?:['-][a-zA-Z0-9]+)*|[^\w\s]")
MOST_WORDS = 6
"""Of a name."""
NEAREST = 3
"""How many known words a hint names."""
BATCH = 64
ENDS = ("ly", "ing", "ed", "ous", "ful", "less", "able")
"""Of words that are mostly no nouns."""


class Hints:
    """Knows the names of things, and how near other words are to them."""

    def __init__(self, glossary: Glossary) -> None:
        self.glossary = glossary
        self._vectors: dict[str, Tensor] = {}

    @cached_property
    def names(self) -> dict[str, str]:
        """Singular and plural forms of all names -> the name."""
        names = {plural(name): name for name in self.glossary.english_names if plural(name)}
        names |= {name.replace("-", " "): name for name in self.glossary.english_names}
        return names | {name: name for name in self.glossary.english_names}

    def known_words(self, prompt: str) -> tuple[str, ...]:
        """The names of things in a prompt, the longest where several begin at one place."""
        return tuple(name for name, _, _ in self._named(_words(prompt)))

    def _named(self, words: Sequence[str]) -> Iterator[tuple[str, int, int]]:
        place = 0
        while place < len(words):
            for size in range(min(MOST_WORDS, len(words) - place), 0, -1):
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
                return f"The model knows nothing in {prompt!r}."
            if reading.unknown:
                return f"The model does not know: {', '.join(reading.unknown)}."
            return None
        plain = chinese.QUOTES.sub(" ", prompt)
        signed = plain != prompt
        if not signed and not self.known_words(plain):
            said = " ".join(w for w in _words(plain) if w not in FUNCTION | ACTIONS) or plain
            return f"The model knows nothing in {prompt!r}: nearest known words: " + self._list(
                [said], encoder
            )
        unknown = self.unknown_nouns(plain)
        if not unknown:
            return None
        words = ", ".join(map(repr, unknown))
        return f"The model does not know {words}: nearest known words: " + self._list(
            unknown, encoder
        )

    def _list(self, texts: Sequence[str], encoder: TextEncoder) -> str:
        return ", ".join(self.nearest(texts, encoder)) + "."

    def nearest(self, texts: Sequence[str], encoder: TextEncoder) -> list[str]:
        """The labels whose embeddings are nearest to those of some texts, by cosine."""
        labels = sorted(self.glossary.english)
        near = embed(texts, encoder) @ self._table(labels, encoder).T
        ranks = near.topk(min(NEAREST, len(labels))).indices.T.flatten().tolist()
        return list(dict.fromkeys(labels[k] for k in ranks))[:NEAREST]

    def _table(self, labels: Sequence[str], encoder: TextEncoder) -> Tensor:
        """Embeddings of all labels, computed once and kept in the user's cache folder."""
        if encoder.name not in self._vectors:
            key = hashlib.sha256(json.dumps([encoder.name, *labels]).encode()).hexdigest()[:16]
            path = cache_directory() / "known-words" / f"{key}.safetensors"
            try:
                table = load_tensors(path)["table"]
            except (CheckpointError, OSError, KeyError):
                table = embed(labels, encoder)
                try:
                    save_tensors(path, {"table": table})
                except OSError:
                    pass  # a machine without a cache folder computes it again
            self._vectors[encoder.name] = table
        return self._vectors[encoder.name]


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


def _words(prompt: str) -> list[str]:
    """The words and marks of a prompt without its quotes, in lower case."""
    plain = chinese.QUOTES.sub(" ", prompt).lower().replace("\u2019", "'")
    return WORD.findall(plain)
