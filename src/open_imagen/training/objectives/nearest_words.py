"""What a frozen language model takes strange words for.

A strange word is put in the place of the known ones of a kind (colours, shapes, ...), in several
captions, and is taken for the one that makes the caption most like its own. It is the language
model that says so: nobody has to know what any of them means.
"""

from collections.abc import Callable, Iterable, Sequence
from random import Random
from re import finditer

import torch
import torch.nn.functional as F
from torch import Tensor

from open_imagen.errors import ConfigError
from open_imagen.types import TextEmbedding

FRAMES = 8
"""Captions that a word is tried in; the mean over them counts."""
SHORTEST = 0.25
"""The share of captions that they are drawn from: in long ones a single word says little."""
PART = 32
"""Words tried at once."""

Encode = Callable[[Sequence[str]], TextEmbedding]
Frame = tuple[str, str]
"""What stands before a word in a caption, and what after it."""


def kin(
    encode: Encode, kind: Sequence[str], captions: Iterable[str], strange: Sequence[str]
) -> dict[str, list[str]]:
    """For each known word of a kind, the strange words that are taken for it.

    Raises:
        ConfigError: no caption has a word of the kind.
    """
    frames = frames_for(kind, captions)
    known = _means(encode, kind, frames)
    middle = known.mean(0)
    known = F.normalize(known - middle, dim=2)
    found: dict[str, list[str]] = {word: [] for word in kind}
    for start in range(0, len(strange), PART):
        part = strange[start : start + PART]
        likeness = F.normalize(_means(encode, part, frames) - middle, dim=2)
        nearest = torch.einsum("sfc,kfc->sk", likeness, known).argmax(1)
        for word, k in zip(part, nearest.tolist(), strict=True):
            found[kind[k]].append(word)
    return found


def frames_for(kind: Sequence[str], captions: Iterable[str]) -> list[Frame]:
    """Short captions around a word of this kind, always the same ones of the same captions."""
    frames = set()
    for caption in captions:
        words = [(word, start) for word, start in words_of(caption) if word in kind]
        if len(words) == 1:
            [(word, start)] = words
            frames.add((caption[:start], caption[start + len(word) :]))
    if not frames:
        raise ConfigError(
            f"reading.kinds: no caption has one of {', '.join(kind)}.",
            "Name words that stand for one another in the captions.",
        )
    short = sorted(frames, key=lambda frame: (len(frame[0] + frame[1]), frame))
    short = short[: max(FRAMES, round(SHORTEST * len(short)))]
    return Random(f"frames {' '.join(kind)}").sample(short, min(FRAMES, len(short)))


def words_of(caption: str) -> list[tuple[str, int]]:
    """The words of a caption, and where each begins."""
    return [(found.group(), found.start()) for found in finditer(r"[^\W\d_]+", caption)]


def _means(encode: Encode, words: Sequence[str], frames: Sequence[Frame]) -> Tensor:
    """The mean token of each word's captions, [words, frames, width]."""
    text = encode([before + word + after for word in words for before, after in frames])
    return text.mean().float().view(len(words), len(frames), -1)
