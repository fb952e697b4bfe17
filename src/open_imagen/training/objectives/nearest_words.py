"""Which known word a frozen text encoder takes an out-of-vocabulary word for.

The word is put in place of the known words of a class (colours, shapes, ...) in several captions,
and is assigned to the known word whose captions have the most similar mean token. The text encoder
decides; nobody has to know what any of the words means.
"""

from collections.abc import Callable, Iterable, Sequence
from random import Random
from re import finditer

import torch
import torch.nn.functional as F
from torch import Tensor

from open_imagen.errors import ConfigError
from open_imagen.types import TextEmbedding

TEMPLATES = 8
"""Caption templates that a word is tried in; similarities are averaged over them."""
SHORTEST = 0.25
"""Templates are drawn from this share of the captions, the shortest: in long captions a single
word changes little."""
WORDS_PER_BATCH = 32

Encode = Callable[[Sequence[str]], TextEmbedding]
Template = tuple[str, str]
"""The text of a caption before a word, and after it."""


def nearest_words(
    encode: Encode, word_class: Sequence[str], captions: Iterable[str], oov_words: Sequence[str]
) -> dict[str, list[str]]:
    """For each known word of a class, the out-of-vocabulary words that are nearest to it.

    Raises:
        ConfigError: no caption has a word of the class.
    """
    templates = templates_for(word_class, captions)
    known = _mean_tokens(encode, word_class, templates)
    center = known.mean(0)
    known = F.normalize(known - center, dim=2)
    nearest: dict[str, list[str]] = {word: [] for word in word_class}
    for start in range(0, len(oov_words), WORDS_PER_BATCH):
        words = oov_words[start : start + WORDS_PER_BATCH]
        unknown = F.normalize(_mean_tokens(encode, words, templates) - center, dim=2)
        indices = torch.einsum("sfc,kfc->sk", unknown, known).argmax(1)
        for word, k in zip(words, indices.tolist(), strict=True):
            nearest[word_class[k]].append(word)
    return nearest


def templates_for(word_class: Sequence[str], captions: Iterable[str]) -> list[Template]:
    """Short captions around a word of this class; they depend on the set of captions alone."""
    templates = set()
    for caption in captions:
        words = [(word, start) for word, start in split_words(caption) if word in word_class]
        if len(words) == 1:
            [(word, start)] = words
            templates.add((caption[:start], caption[start + len(word) :]))
    if not templates:
        raise ConfigError(
            f"text_denoising.word_classes: no caption has one of {', '.join(word_class)}.",
            "Name words that replace each other in the captions.",
        )
    short = sorted(templates, key=lambda template: (len(template[0] + template[1]), template))
    short = short[: max(TEMPLATES, round(SHORTEST * len(short)))]
    # The seed is part of the shipped model's recipe.
    return Random(f"frames {' '.join(word_class)}").sample(short, min(TEMPLATES, len(short)))


def split_words(caption: str) -> list[tuple[str, int]]:
    """The words of a caption, and where each begins."""
    return [(found.group(), found.start()) for found in finditer(r"[^\W\d_]+", caption)]


def _mean_tokens(encode: Encode, words: Sequence[str], templates: Sequence[Template]) -> Tensor:
    """The mean token of each word's captions, [words, templates, width]."""
    text = encode([before + word + after for word in words for before, after in templates])
    return text.mean().float().view(len(words), len(templates), -1)
