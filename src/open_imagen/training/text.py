"""How the captions of a run become embeddings: from a cache, from memory, or encoded per batch."""

from collections.abc import Callable, Iterable, Sequence

import torch

from open_imagen.devices import free_memory
from open_imagen.text.cache import ByLength, Packed, Remembered
from open_imagen.text.letters import with_letters
from open_imagen.text.store import Store
from open_imagen.types import Source, TextEmbedding, TextEncoder

GPU_MEMORY_DIVISOR = 8
"""All embeddings are moved to the GPU if they take no more than this part of its free memory."""
CAPTIONS_PER_CALL = (16, 512)
"""Captions encoded together where each batch is encoded by itself, on a CPU and on a GPU."""


class CaptionEncoder:
    """Captions -> embeddings on the device of training.

    An embedding cache on disk is read as it is. Otherwise every caption is encoded once and kept,
    unless the source has endless captions, which hardly ever come twice.
    """

    def __init__(
        self,
        encoder: TextEncoder,
        source: Source,
        letters: int,
        device: torch.device,
        bf16: bool,
    ) -> None:
        """
        Args:
            letters: letters of quoted text that the network reads; see text/letters.py.
            bf16: encode under bfloat16 autocast where each batch is encoded by itself.
        """
        self.letters, self.device = letters, device
        self.encoder: TextEncoder
        if isinstance(encoder, Store):
            self.encoder = encoder
        elif getattr(source, "endless_captions", False):
            self.encoder = ByLength(encoder, bf16, CAPTIONS_PER_CALL[device.type == "cuda"])
        else:
            self.encoder = Remembered(encoder, torch.float16)
        self._lookup: TextEncoder = self.encoder

    def warm(
        self, captions: Iterable[str], progress: Callable[[int, int], None] | None = None
    ) -> None:
        """Encode all captions of a run once, before the first step.

        Always all of them and in one order, so that a resumed run computes the same numbers.
        """
        if not isinstance(self.encoder, Remembered):
            return
        distinct = set(captions)
        report = None if progress is None else (lambda done: progress(done, len(distinct)))
        self.encoder.warm(distinct, 64 if self.device.type == "cpu" else 512, report)
        size = self.encoder.numbers * torch.float16.itemsize
        if self.device.type == "cuda" and size < free_memory(self.device) / GPU_MEMORY_DIVISOR:
            self._lookup = Packed(self.encoder, self.device)

    def __call__(self, captions: Sequence[str]) -> TextEmbedding:
        return with_letters(self._lookup(captions), captions, self.letters).to(self.device)
