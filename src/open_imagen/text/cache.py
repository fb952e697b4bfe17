"""Encoders around encoders: cached, on a device, grouped by length, or loaded late."""

import itertools
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from open_imagen.devices import sent
from open_imagen.types import TextEmbedding, TextEncoder


class Remembered:
    """A TextEncoder around another that keeps captions' tokens, unpadded, in ``dtype``."""

    def __init__(
        self,
        encoder: TextEncoder,
        dtype: torch.dtype = torch.float32,
        limit: int | None = None,
    ) -> None:
        """Wrap an encoder.

        Args:
            limit: how many captions are kept, the latest; None: all.
        """
        self.encoder, self.limit = encoder, limit
        self.name, self.width, self.max_length = encoder.name, encoder.width, encoder.max_length
        self.dtype = dtype
        self._kept: dict[str, torch.Tensor] = {}

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def numbers(self) -> int:
        """Tokens in the cache."""
        return sum(tokens.numel() for tokens in self._kept.values())

    def knows(self, captions: Iterable[str]) -> bool:
        """Whether all of these have been encoded."""
        return all(caption in self._kept for caption in captions)

    def length(self, caption: str) -> int:
        """Tokens of a cached caption; 0 if it is not cached."""
        kept = self._kept.get(caption)
        return 0 if kept is None else len(kept)

    def num_tokens(self, caption: str) -> int:
        """The number of tokens of a caption."""
        return self.encoder.num_tokens(caption)

    def __call__(self, captions: Sequence[str]) -> TextEmbedding:
        """[B, L, width] float32 and mask, as the encoder's but for rounding to ``dtype``."""
        rows = self.rows(captions)
        return TextEmbedding.of([rows[caption] for caption in captions]).to("cpu", torch.float32)

    def rows(self, captions: Sequence[str]) -> dict[str, torch.Tensor]:
        """The tokens [L, width] of each caption, in ``dtype``."""
        self.warm([caption for caption in captions if caption not in self._kept])
        rows = {caption: self._kept[caption] for caption in captions}
        while self.limit is not None and len(self._kept) > self.limit:
            del self._kept[next(iter(self._kept))]
        return rows

    def warm(
        self,
        captions: Iterable[str],
        batch_size: int = 64,
        progress: Callable[[int], None] | None = None,
    ) -> None:
        """Encode captions before they are needed.

        ``progress`` is called with the number done. Batches hold captions of similar length to save
        padding.
        """
        missing = {caption for caption in captions if caption not in self._kept}
        new = sorted(missing, key=lambda caption: (len(caption), caption))
        for start in range(0, len(new), batch_size):
            chunk = new[start : start + batch_size]
            text = self.encoder(chunk).to("cpu", self.dtype)
            for caption, tokens, mask in zip(chunk, text.tokens, text.mask, strict=True):
                self._kept[caption] = tokens[mask]
            if progress is not None:
                progress(min(start + batch_size, len(new)))


class Packed:
    """A TextEncoder of remembered captions, in one table on a device.

    A batch is one look-up there. Captions that are not in the table are encoded as before.
    """

    def __init__(self, remembered: Remembered, device: torch.device) -> None:
        self.remembered = remembered
        self.name, self.width = remembered.name, remembered.width
        self.max_length = remembered.max_length
        kept = remembered._kept
        lengths = [len(tokens) for tokens in kept.values()]
        starts = [0, *itertools.accumulate(lengths)]
        self._places = dict(zip(kept, zip(starts, lengths, strict=False), strict=True))
        self._table = torch.cat(list(kept.values())).to(device)

    def num_tokens(self, caption: str) -> int:
        """The number of tokens of a caption."""
        return self.remembered.num_tokens(caption)

    def __call__(self, captions: Sequence[str]) -> TextEmbedding:
        """[B, L, width] float32 and mask, on the table's device."""
        device = self._table.device
        found = [self._places[caption] for caption in captions if caption in self._places]
        if len(found) < len(captions):
            return self.remembered(captions).to(device)
        starts, lengths = sent(torch.tensor(found), device).T[:, :, None]
        longest = max(length for _, length in found)
        return rows_of(self._table, starts, lengths, longest)


def rows_of(table: Tensor, starts: Tensor, lengths: Tensor, longest: int) -> TextEmbedding:
    """Captions whose tokens lie one after another in a table [T, C], float32.

    Args:
        starts, lengths: [B, 1], on the table's device.
        longest: of the lengths.
    """
    steps = torch.arange(longest, device=table.device)
    mask = steps < lengths
    tokens = table[(starts + steps).clamp(max=len(table) - 1)]
    return TextEmbedding(tokens.float() * mask[..., None], mask)


class ByLength:
    """A TextEncoder for captions that hardly ever repeat: nothing is cached.

    Each distinct caption of a batch is encoded once, in groups of similar length to save padding;
    under bfloat16 autocast if ``bf16``.

    Each distinct caption of a batch is encoded once, in groups of like length, so that little is
    spent on padding; under bfloat16 autocast if asked for.
    """

    def __init__(self, encoder: TextEncoder, bf16: bool = False, group: int = 16) -> None:
        self.encoder, self.bf16, self.group = encoder, bf16, group
        self.name, self.width, self.max_length = encoder.name, encoder.width, encoder.max_length

    def num_tokens(self, caption: str) -> int:
        """The number of tokens of a caption."""
        return self.encoder.num_tokens(caption)

    def __call__(self, captions: Sequence[str]) -> TextEmbedding:
        """[B, L, width] float32 and mask, on the encoder's device; L is the longest's."""
        order = sorted(set(captions), key=lambda caption: (len(caption), caption))
        rows: dict[str, torch.Tensor] = {}
        for start in range(0, len(order), self.group):
            chunk = order[start : start + self.group]
            with torch.autocast(self._device_type, torch.bfloat16, enabled=self.bf16):
                text = self.encoder(chunk)
            lengths = text.mask.sum(1).tolist()
            for caption, tokens, length in zip(chunk, text.tokens, lengths, strict=True):
                rows[caption] = tokens[:length].float()
        return TextEmbedding.of([rows[caption] for caption in captions])

    @property
    def _device_type(self) -> str:
        return torch.device(getattr(self.encoder, "device", "cpu")).type


class OnDemand:
    """A TextEncoder that is loaded when it is first needed, and can be let go again."""

    def __init__(
        self, name: str, width: int, max_length: int, make: Callable[[], TextEncoder]
    ) -> None:
        self.name, self.width, self.max_length = name, width, max_length
        self._make = make
        self._encoder: TextEncoder | None = None

    @property
    def loaded(self) -> bool:
        """Whether the encoder is in memory."""
        return self._encoder is not None

    def _here(self) -> TextEncoder:
        if self._encoder is None:
            self._encoder = self._make()
        return self._encoder

    def __call__(self, captions: Sequence[str]) -> TextEmbedding:
        """Encode captions; the encoder is loaded at the first call."""
        return self._here()(captions)

    def num_tokens(self, caption: str) -> int:
        """The number of tokens of a caption."""
        return self._here().num_tokens(caption)

    def places(self, caption: str, start: int, end: int) -> tuple[int, int]:
        """The first token of these characters of a caption, and the first one after them."""
        found: tuple[int, int] = self._here().places(caption, start, end)  # type: ignore[attr-defined]
        return found

    def release(self) -> None:
        """Give its memory back; the next call loads it again."""
        self._encoder = None
