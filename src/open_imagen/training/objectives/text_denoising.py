"""Learning to read: layers that undo what an unknown word does to a frozen language model's text.

Of a word that was never shown the language model says something near to a word that was, and much
else besides, which misleads a network that has never seen the like. A denoising autoencoder takes
it off (Vincent et al. 2008): in captions, one word gives way by degrees to another of the
vocabulary, noise is put on all tokens, and the layers learn to give back the caption's own. That
takes neither pictures nor the meaning of a single new word: which known one is meant is for the
language model to say (training/kin.py).
"""

import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from open_imagen.cascade.draws import Draws
from open_imagen.errors import ConfigError
from open_imagen.training.kin import kin, words_of
from open_imagen.types import TextEmbedding, TextEncoder

TWO = 0.4
"""Share of the strange words that are two in one: mostly unknown as a whole, and several tokens."""


@dataclass(frozen=True, kw_only=True)
class ReadingConfig:
    """What is put in front of a network that can draw, and how it learns."""

    layers: int = 0
    """New layers over the text, before all others; 0: learn from pictures, not to read."""
    least: float = 0.0
    """Share of a caption, in squares of its tokens, of which they must change more to be heeded
    when pictures are made: a caption of known words stays as it is."""
    share: float = 0.7
    """Of captions that are disturbed; the others shall stay as they are."""
    words: float = 0.9
    """Share of the disturbed in which a word gives way to another."""
    whole: float = 0.4
    """Share of these in which it gives way altogether, not by degrees."""
    noisy: float = 0.75
    """Share of the disturbed whose tokens get noise."""
    noise: float = 1.0
    """Largest standard deviation of the noise on single tokens, in root mean squares of all."""
    common: float = 0.5
    """The same of the noise that all tokens of a caption have in common."""
    kinds: tuple[tuple[str, ...], ...] = ()
    """Words that stand for one another (colours, shapes, ...): one of them gives way to a strange
    word that the language model takes for it. Where none are named any word gives way, the rare
    ones more often, to any other."""
    strange: int = 6000
    """How many strange words the language model is asked about, for each kind."""
    never: tuple[str, ...] = ()
    """Words that no word gives way to, nor to others that begin with them, besides all words of
    the captions themselves."""

    def __post_init__(self) -> None:
        for name in ("share", "words", "whole", "noisy"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(
                    f"reading.{name} = {getattr(self, name)} is a share: between 0 and 1."
                )
        for name in ("layers", "least", "noise", "common"):
            if getattr(self, name) < 0:
                raise ConfigError(f"reading.{name} = {getattr(self, name)} must not be negative.")
        if self.strange < 1:
            raise ConfigError(f"reading.strange = {self.strange} must be at least 1.")
        for word, times in Counter(word for kind in self.kinds for word in kind).items():
            if times > 1:
                raise ConfigError(f"reading.kinds: {word!r} stands there {times} times.")
        for kind in self.kinds:
            if len(kind) < 2:
                raise ConfigError(
                    f"reading.kinds: {list(kind)} is no kind.",
                    "Name two words or more that stand for one another.",
                )


class Vocabulary(TextEncoder, Protocol):
    """A text encoder that knows words: FrozenEncoder."""

    def words(self) -> list[str]: ...

    def places(self, caption: str, start: int, end: int) -> tuple[int, int]: ...


class Change(NamedTuple):
    """A caption in which a word has given way."""

    text: str
    places: Sequence[int] = ()
    """For each of its tokens the place of the one before; none if nothing has changed."""


class Disturbed:
    """A TextEncoder of twice the width: each caption's tokens, and beside them what they are when
    one word has given way to a strange one.

    Rare words give way more often than those that many captions share; where there are kinds, only
    theirs do, to words that are taken for them. Where the strange word has more tokens or fewer,
    those of the word itself are repeated or left out, so that each stands beside its own. Which
    words these are hangs on the captions alone.
    """

    def __init__(self, encoder: Vocabulary, captions: Iterable[str], config: ReadingConfig) -> None:
        """
        Args:
            captions: all that may be asked for: they tell which words are rare, and which known.
        """
        self.encoder = encoder
        self.name, self.max_length = encoder.name, encoder.max_length
        self.width = 2 * encoder.width
        self.config, self.captions = config, sorted(set(captions))
        self.counts = Counter(word for one in self.captions for word, _ in words_of(one))
        known = {word.lower() for word in self.counts}
        never = tuple(word.lower() for word in config.never)
        self.vocabulary = [
            word for word in encoder.words() if word not in known and not word.startswith(never)
        ]

    @cached_property
    def kin(self) -> dict[str, list[str]]:
        """For each word of the kinds the strange ones that the language model takes for it."""
        rng = random.Random("strange words")
        asked = [self.strange_word(rng) for _ in range(self.config.strange)]
        found: dict[str, list[str]] = {}
        for kind in self.config.kinds:
            found |= kin(self.encoder, kind, self.captions, asked)
        return found

    def strange_word(self, rng: random.Random) -> str:
        """A strange word, or two in one."""
        return "".join(rng.choice(self.vocabulary) for _ in range(1 + (rng.random() < TWO)))

    def num_tokens(self, caption: str) -> int:
        return self.encoder.num_tokens(caption)

    def __call__(self, captions: Sequence[str]) -> TextEmbedding:
        """[B, L, 2 C] and mask: the caption's own tokens, then the disturbed ones, by channels."""
        changes = [self.changed(caption) for caption in captions]
        own, strange = self.encoder(captions), self.encoder([one.text for one in changes])
        rows = []
        for k, change in enumerate(changes):
            there = strange.tokens[k, strange.mask[k]]
            here = own.tokens[k, change.places] if change.places else there
            rows.append(torch.cat([here, there], dim=1))
        return TextEmbedding.of(rows)

    def changed(self, caption: str) -> Change:
        """The caption with a strange word; as it is, if it has no word or no room for that."""
        rng = random.Random(f"reading {caption}")
        words = words_of(caption) if self.vocabulary else []
        if self.config.kinds:
            words = [one for one in words if self.kin.get(one[0])]
        if not words:
            return Change(caption)
        rarity = [1 / max(1, self.counts[word]) for word, _ in words]
        [(word, start)] = rng.choices(words, rarity)
        strange = rng.choice(self.kin[word]) if self.config.kinds else self.strange_word(rng)
        text = caption[:start] + strange + caption[start + len(word) :]
        first, last = self.encoder.places(caption, start, start + len(word))
        begin, end = self.encoder.places(text, start, start + len(strange))
        old, new = last - first, end - begin
        inside = [first + k * old // new for k in range(new)]
        after = range(last, self.encoder.num_tokens(caption))
        places = [*range(first), *inside, *after]
        if max(len(places), after.stop) > self.max_length:
            return Change(caption)
        return Change(text, places)


class Reading:
    """The objective that replaces `Stage.loss`, called with the same arguments: its text is what
    `Disturbed` says, its images are not looked at."""

    def __init__(self, config: ReadingConfig, layers: nn.ModuleList) -> None:
        self.config, self.layers = config, layers

    def __call__(
        self, images: Tensor, text: TextEmbedding, draws: Draws, lowres: Tensor | None = None
    ) -> Tensor:
        """Squared error of the tokens of each caption, [B], in mean squares of them. Text that is
        dropped is zero, and shall stay so: guidance asks for it."""
        own, strange = text.tokens.chunk(2, dim=2)
        square = TextEmbedding(own, text.mask).mean_square()
        disturbed = self.disturbed(own, strange, square.sqrt(), draws)
        clean = TextEmbedding(own, text.mask).dropped(draws.drop)
        found = TextEmbedding(disturbed, text.mask).dropped(draws.drop)
        for layer in self.layers:
            found = layer(found)
        error = TextEmbedding(found.tokens.float() - clean.tokens, clean.mask)
        return error.mean_square() / square

    def disturbed(self, own: Tensor, strange: Tensor, size: Tensor, draws: Draws) -> Tensor:
        """Tokens [B, L, C] on their way to the strange ones, with noise; or as they are.

        Args:
            size: [B] root mean square of each caption's own tokens.
        """
        length, width = own.shape[1:]
        generators = draws.generators()
        chances = torch.stack([torch.rand(6, generator=g) for g in generators])
        noise = torch.stack([torch.randn(length + 1, width, generator=g) for g in generators])
        disturb = chances[:, 0] < self.config.share
        there = chances[:, 1] < self.config.words
        noisy = chances[:, 2] < self.config.noisy
        # Most of the way, mostly: of a strange word little is like the word that is meant.
        way = 1 - (1 - chances[:, 3]) ** 1.5
        way = (disturb & there) * way.masked_fill(chances[:, 5] < self.config.whole, 1.0)
        amounts = (disturb * noisy * chances[:, 4]).to(own.device) * size
        noise = noise.to(own.device)
        noise = self.config.noise * noise[:, 1:] + self.config.common * noise[:, :1]
        towards = way.to(own.device)[:, None, None] * (strange - own)
        return own + towards + amounts[:, None, None] * noise
