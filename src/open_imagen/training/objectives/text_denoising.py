"""Text-embedding denoising: layers that undo what an out-of-vocabulary word does to an embedding.

The frozen text encoder places a word that no caption has near to a word that captions have, but
with much noise, which misleads a network that has never seen the like. A denoising autoencoder
removes it (Vincent et al. 2008): in captions one word is replaced, partly or fully, by an
out-of-vocabulary word, noise is added to all tokens, and the layers are trained to give back the
embedding of the caption itself. This needs no images and no meaning of any new word: which known
word a new one stands for is the text encoder's choice (nearest_words.py).
"""

import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, Protocol, cast

import torch
from torch import Tensor, nn

from open_imagen.cascade.noise import TrainingNoise
from open_imagen.errors import ConfigError
from open_imagen.training.objectives.base import (
    OBJECTIVES,
    Objective,
    ObjectiveContext,
    ObjectiveSpec,
)
from open_imagen.training.objectives.nearest_words import nearest_words, split_words
from open_imagen.types import Source, TextEmbedding, TextEncoder

COMPOUNDS = 0.4
"""Share of out-of-vocabulary words that are two words in one: mostly unknown as a whole, and
several tokens long."""


@dataclass(frozen=True, kw_only=True)
class TextDenoisingConfig:
    """The layers in front of a trained network, and how their input is corrupted."""

    layers: int = 0
    """New layers over the text, before all others; 0: train on images instead."""
    threshold: float = 0.0
    """Minimum relative change (mean squared) of a caption's embedding below which its denoised
    embedding is ignored when images are sampled."""
    corruption_rate: float = 0.7
    """Share of the captions that are corrupted; the others shall stay as they are."""
    replace_rate: float = 0.9
    """Share of the corrupted captions in which a word is replaced."""
    full_replace_rate: float = 0.4
    """Share of these in which it is replaced fully, not interpolated."""
    noise_rate: float = 0.75
    """Share of the corrupted captions whose tokens get noise."""
    token_noise: float = 1.0
    """Maximum standard deviation of the noise of each token, in units of the caption's root mean
    square."""
    caption_noise: float = 0.5
    """The same of the noise that all tokens of a caption share."""
    word_classes: tuple[tuple[str, ...], ...] = ()
    """Classes of words (colours, shapes, ...): a word of a class is replaced by out-of-vocabulary
    words that are nearest to it within the class. Without classes any word is replaced, rare words
    more often, by any other."""
    oov_words: int = 6000
    """Number of out-of-vocabulary words that are assigned to the words of each class."""
    excluded: tuple[str, ...] = ()
    """Words that never replace another, with all words that begin with them; words of the captions
    never do."""

    def __post_init__(self) -> None:
        for name in ("corruption_rate", "replace_rate", "full_replace_rate", "noise_rate"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(
                    f"text_denoising.{name} = {getattr(self, name)} must be between 0 and 1."
                )
        for name in ("layers", "threshold", "token_noise", "caption_noise"):
            if getattr(self, name) < 0:
                raise ConfigError(
                    f"text_denoising.{name} = {getattr(self, name)} must not be negative."
                )
        if self.oov_words < 1:
            raise ConfigError(f"text_denoising.oov_words = {self.oov_words} must be at least 1.")
        words = Counter(word for words in self.word_classes for word in words)
        for word, count in words.items():
            if count > 1:
                raise ConfigError(f"text_denoising.word_classes has {word!r} {count} times.")
        for word_class in self.word_classes:
            if len(word_class) < 2:
                raise ConfigError(
                    f"text_denoising.word_classes: {list(word_class)} is no class.",
                    "Name two words or more that replace each other.",
                )


class VocabularyEncoder(TextEncoder, Protocol):
    """A text encoder with a vocabulary of words: FrozenEncoder."""

    def words(self) -> list[str]:
        """All words of the vocabulary."""

    def places(self, caption: str, start: int, end: int) -> tuple[int, int]:
        """The first token of characters start..end of a caption, and the one after the last."""


class Replacement(NamedTuple):
    """A caption in which a word has been replaced."""

    text: str
    indices: Sequence[int] = ()
    """For each of its tokens the index of the original token; empty if nothing has changed."""


class CorruptedEncoder:
    """A TextEncoder of twice the width, which pairs original and corrupted tokens.

    In the corrupted caption one word is replaced by an out-of-vocabulary word.

    Rare words are replaced more often than frequent ones; with word classes, only words of these,
    by words nearest to them. Where the new word has more tokens or fewer, the tokens of the
    original word are repeated or skipped, so that each stands beside its counterpart. The
    replacement depends on the set of captions alone.
    """

    def __init__(
        self, encoder: VocabularyEncoder, captions: Iterable[str], config: TextDenoisingConfig
    ) -> None:
        """Count the words of the captions.

        Args:
            captions: all that may be asked for: they tell which words are rare, and which known.
        """
        self.encoder = encoder
        self.name, self.max_length = encoder.name, encoder.max_length
        self.width = 2 * encoder.width
        self.config, self.captions = config, sorted(set(captions))
        self.counts = Counter(word for one in self.captions for word, _ in split_words(one))
        known = {word.lower() for word in self.counts}
        excluded = tuple(word.lower() for word in config.excluded)
        self.oov_words = [
            word for word in encoder.words() if word not in known and not word.startswith(excluded)
        ]

    @cached_property
    def nearest(self) -> dict[str, list[str]]:
        """For each word of the classes the out-of-vocabulary words that are nearest to it."""
        rng = random.Random("strange words")  # this seed, too, belongs to the shipped model
        words = [self.oov_word(rng) for _ in range(self.config.oov_words)]
        nearest: dict[str, list[str]] = {}
        for word_class in self.config.word_classes:
            nearest |= nearest_words(self.encoder, word_class, self.captions, words)
        return nearest

    def oov_word(self, rng: random.Random) -> str:
        """An out-of-vocabulary word, or two in one."""
        return "".join(rng.choice(self.oov_words) for _ in range(1 + (rng.random() < COMPOUNDS)))

    def num_tokens(self, caption: str) -> int:
        """The number of tokens of a caption."""
        return self.encoder.num_tokens(caption)

    def __call__(self, captions: Sequence[str]) -> TextEmbedding:
        """[B, L, 2 C] and mask: the original tokens, then the replaced ones, by channels."""
        replaced = [self.replace_word(caption) for caption in captions]
        original, corrupted = self.encoder(captions), self.encoder([one.text for one in replaced])
        rows = []
        for k, replacement in enumerate(replaced):
            new = corrupted.tokens[k, corrupted.mask[k]]
            old = original.tokens[k, replacement.indices] if replacement.indices else new
            rows.append(torch.cat([old, new], dim=1))
        return TextEmbedding.of(rows)

    def replace_word(self, caption: str) -> Replacement:
        """Replace a word of the caption by an out-of-vocabulary word.

        The caption stays as it is if it has no word to replace, or would be too long.
        """
        rng = random.Random(f"reading {caption}")  # the seed of the shipped model
        words = split_words(caption) if self.oov_words else []
        if self.config.word_classes:
            words = [one for one in words if self.nearest.get(one[0])]
        if not words:
            return Replacement(caption)
        rarity = [1 / max(1, self.counts[word]) for word, _ in words]
        [(word, start)] = rng.choices(words, rarity)
        by_class = bool(self.config.word_classes)
        new_word = rng.choice(self.nearest[word]) if by_class else self.oov_word(rng)
        text = caption[:start] + new_word + caption[start + len(word) :]
        first, last = self.encoder.places(caption, start, start + len(word))
        begin, end = self.encoder.places(text, start, start + len(new_word))
        old, new = last - first, end - begin
        inside = [first + k * old // new for k in range(new)]
        after = range(last, self.encoder.num_tokens(caption))
        indices = [*range(first), *inside, *after]
        if max(len(indices), after.stop) > self.max_length:
            return Replacement(caption)
        return Replacement(text, indices)


class TextDenoising:
    """The objective: its text is that of `CorruptedEncoder`, its images are ignored."""

    def __init__(self, config: TextDenoisingConfig, layers: nn.ModuleList) -> None:
        self.config, self.layers = config, layers

    def __call__(
        self,
        images: Tensor,
        text: TextEmbedding,
        noise: TrainingNoise,
        lowres: Tensor | None = None,
    ) -> Tensor:
        """Squared error of each caption's tokens relative to their mean square, [B].

        Dropped text is zero and has to remain zero: guidance needs it.
        """
        original, replaced = text.tokens.chunk(2, dim=2)
        mean_square = TextEmbedding(original, text.mask).mean_square()
        corrupted = self.corrupt(original, replaced, mean_square.sqrt(), noise)
        clean = TextEmbedding(original, text.mask).dropped(noise.drop)
        denoised = TextEmbedding(corrupted, text.mask).dropped(noise.drop)
        for layer in self.layers:
            denoised = layer(denoised)
        error = TextEmbedding(denoised.tokens.float() - clean.tokens, clean.mask)
        return error.mean_square() / mean_square

    def corrupt(
        self, original: Tensor, replaced: Tensor, rms: Tensor, noise: TrainingNoise
    ) -> Tensor:
        """Tokens [B, L, C] interpolated towards the replaced ones, with noise; or unchanged.

        Args:
            rms: [B] root mean square of each caption's original tokens.
        """
        length, width = original.shape[1:]
        generators = noise.generators()
        chances = torch.stack([torch.rand(6, generator=g) for g in generators])
        added = torch.stack([torch.randn(length + 1, width, generator=g) for g in generators])
        is_corrupted = chances[:, 0] < self.config.corruption_rate
        is_replaced = chances[:, 1] < self.config.replace_rate
        is_noisy = chances[:, 2] < self.config.noise_rate
        # Most of the way, mostly: little of a new word is like the word that it stands for.
        mix = 1 - (1 - chances[:, 3]) ** 1.5
        is_full = chances[:, 5] < self.config.full_replace_rate
        mix = (is_corrupted & is_replaced) * mix.masked_fill(is_full, 1.0)
        scale = (is_corrupted * is_noisy * chances[:, 4]).to(original.device) * rms
        added = added.to(original.device)
        added = self.config.token_noise * added[:, 1:] + self.config.caption_noise * added[:, :1]
        towards = mix.to(original.device)[:, None, None] * (replaced - original)
        return original + towards + scale[:, None, None] * added


def build_text_denoising(config: TextDenoisingConfig, context: ObjectiveContext) -> Objective:
    """Denoising of text embeddings by the network's layers for it."""
    layers = context.stage.network.get_submodule("text_denoiser")
    return TextDenoising(config, cast(nn.ModuleList, layers))


def corrupt_encoder(
    encoder: TextEncoder, source: Source, config: TextDenoisingConfig
) -> TextEncoder:
    """The encoder that this objective needs."""
    return CorruptedEncoder(cast(VocabularyEncoder, encoder), source.captions(), config)


OBJECTIVES.register("text_denoising")(
    ObjectiveSpec(
        build_text_denoising,
        corrupt_encoder,
        trainable="text_denoiser",
        single_process=True,
        is_by_level=False,
    )
)
