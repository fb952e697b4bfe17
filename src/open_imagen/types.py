"""The nouns that rooms hand to each other, and the contracts they meet.

Images are [B, C, H, W] float in [-1, 1] inside, uint8 at the edges. C is 3, RGB, or 4, RGBA whose
colours are premultiplied by alpha.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

NUM_LETTERS = 96
"""Letter indices of `TextEmbedding.letters`: 0 is none, 1 to 95 are printable ASCII in order."""


class TextEmbedding(NamedTuple):
    """What a text encoder says of B captions.

    tokens  [B, L, C] float, zero where padded
    mask    [B, L] bool, True where there is a token
    letters [B, K] int64, the letters of quoted text (text/letters.py), 0 where there is none; None
            where no network reads letters
    """

    tokens: Tensor
    mask: Tensor
    letters: Tensor | None = None

    @classmethod
    def of(cls, rows: Sequence[Tensor]) -> "TextEmbedding":
        """The tokens [L, C] of captions, as many as each has, padded with masked zeros."""
        tokens = torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True)
        lengths = torch.tensor([len(row) for row in rows], device=tokens.device)
        return cls(tokens, torch.arange(tokens.shape[1], device=tokens.device) < lengths[:, None])

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> "TextEmbedding":
        """On a device, the tokens in this dtype."""
        letters = None if self.letters is None else self.letters.to(device)
        return TextEmbedding(self.tokens.to(device, dtype), self.mask.to(device), letters)

    def select(self, rows: Tensor | slice | list[int]) -> "TextEmbedding":
        """The embeddings of some of the captions."""
        letters = None if self.letters is None else self.letters[rows]
        return TextEmbedding(self.tokens[rows], self.mask[rows], letters)

    def mean(self) -> Tensor:
        """The mean of each caption's tokens that are there, [B, C]."""
        visible = self.mask[..., None].to(self.tokens.dtype)
        return (self.tokens * visible).sum(1) / visible.sum(1).clamp(min=1)

    def mean_square(self) -> Tensor:
        """The mean square of each caption's tokens that are there, over their channels, [B]."""
        return (self.tokens.float().square().mean(2) * self.mask).sum(1) / self.mask.sum(1)

    def padded(self, multiple: int) -> "TextEmbedding":
        """The same, L made a multiple of ``multiple`` with masked zeros."""
        more = -self.tokens.shape[1] % multiple
        pad = torch.nn.functional.pad
        return self._replace(
            tokens=pad(self.tokens, (0, 0, 0, more)), mask=pad(self.mask, (0, more))
        )

    def null(self) -> "TextEmbedding":
        """Zeroed text, the condition of the unconditional branch (Saharia et al. 2022, 4.1).

        One (zero) token stays visible, so that the result does not depend on how long the
        other captions of a batch are.
        """
        mask = torch.zeros_like(self.mask)
        mask[:, 0] = True
        letters = None if self.letters is None else torch.zeros_like(self.letters)
        return TextEmbedding(torch.zeros_like(self.tokens), mask, letters)

    def dropped(self, drop: Tensor) -> "TextEmbedding":
        """The same captions, with zeroed text where ``drop`` [B] is True."""
        null = self.null()
        letters = None if self.letters is None else self.letters.masked_fill(drop[:, None], 0)
        return TextEmbedding(
            torch.where(drop[:, None, None], null.tokens, self.tokens),
            torch.where(drop[:, None], null.mask, self.mask),
            letters,
        )


class CachedText(NamedTuple):
    """What a network makes of captions before it sees any picture: the same at every step.

    pooled        [B, D] the text as one vector
    mask          [B, L] bool, True where there is a token
    keys_values   [B, L, 2C] of each attention over the text, in the network's order
    """

    pooled: Tensor
    mask: Tensor
    keys_values: tuple[Tensor, ...]

    def select(self, rows: Tensor | slice) -> "CachedText":
        """The cached text of some of the captions."""
        return CachedText(
            self.pooled[rows], self.mask[rows], tuple(seen[rows] for seen in self.keys_values)
        )


def stack_texts(texts: Sequence[TextEmbedding]) -> TextEmbedding:
    """Join embeddings along the batch, padding to the longest with masked zeros."""
    length = max(text.tokens.shape[1] for text in texts)
    pad = torch.nn.functional.pad
    return TextEmbedding(
        torch.cat([pad(t.tokens, (0, 0, 0, length - t.tokens.shape[1])) for t in texts]),
        torch.cat([pad(t.mask, (0, length - t.mask.shape[1])) for t in texts]),
        _stack_letters(texts),
    )


def _stack_letters(texts: Sequence[TextEmbedding]) -> Tensor | None:
    """Letters along the batch, none where an embedding has none; None if no embedding has any."""
    if all(text.letters is None for text in texts):
        return None
    found = [
        text.mask.new_zeros((len(text.mask), 0), dtype=torch.int64)
        if text.letters is None
        else text.letters
        for text in texts
    ]
    length = max(one.shape[1] for one in found)
    return torch.cat([torch.nn.functional.pad(one, (0, length - one.shape[1])) for one in found])


class LowRes(NamedTuple):
    """The condition of a super-resolution stage.

    image   [B, C, H, W] in [-1, 1] at the *target* resolution, noised by augmentation
    level   [B] that noise's level, as the network wants it told (log-SNR, or a step's number)
    """

    image: Tensor
    level: Tensor


@dataclass(frozen=True)
class Batch:
    """What the trainer learns from: images [B, C, H, W] uint8 and their captions.

    C is 3, RGB, or 4, premultiplied RGBA. ``lowres`` [B, C, h, w] uint8 is given for
    super-resolution stages only.
    ``index`` is the position of the first image in the endless stream of examples.
    """

    images: Tensor
    captions: list[str]
    index: int
    lowres: Tensor | None = None
    weights: Tensor | None = None
    """How much each example's loss counts, [B]; all alike if None."""
    is_bucketed: bool = False
    """Whether other batches have images of other shapes."""

    @property
    def size(self) -> int:
        """Number of examples."""
        return len(self.captions)


class Network(Protocol):
    """What a U-Net is: it predicts, and knows nothing of schedules or guidance."""

    def __call__(
        self,
        z: Tensor,
        logsnr: Tensor,
        text: TextEmbedding | CachedText,
        lowres: LowRes | None = None,
        augment_labels: Tensor | None = None,
    ) -> Tensor:
        """The prediction for z [B, C, H, W], of the same shape."""

    def encode_text(self, text: TextEmbedding) -> CachedText:
        """The parts of the network that depend on the text alone, computed once for all steps."""


class TextEncoder(Protocol):
    """What a text encoder is: frozen; captions in, tokens and mask out."""

    name: str
    width: int
    max_length: int

    def __call__(self, captions: Sequence[str]) -> TextEmbedding:
        """Encode captions."""

    def num_tokens(self, caption: str) -> int:
        """The number of tokens of a caption."""


class Source(Protocol):
    """What a dataset is: example k is a function of k alone, so a position is one integer."""

    def __len__(self) -> int: ...

    def batch(self, index: int, size: int) -> Batch:
        """The examples ``index`` .. ``index + size - 1``."""

    def captions(self) -> Iterator[str]:
        """All captions, each at least once."""

    def describe(self) -> dict[str, Any]:
        """The settings in plain values, for records and checkpoints."""


@runtime_checkable
class PlannedSource(Source, Protocol):
    """A source whose batches are planned in Python and drawn on a device.

    A plan is small, can be pickled, and can be made by another process.
    """

    def plan(self, start: int, size: int) -> Any:
        """The plan of the examples ``start`` .. ``start + size - 1``."""

    def draw(self, plan: Any) -> Batch:
        """Draw a planned batch."""
