"""held_out.jsonl: the distance between sampled and held-out images of the same captions."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from open_imagen.cascade.alpha import WHITE, over
from open_imagen.cascade.images import to_uint8
from open_imagen.storage import append_json
from open_imagen.training.loop import Trainer
from open_imagen.training.step import to_signed
from open_imagen.types import Source

Distance = Callable[[Tensor, Tensor], dict[str, float]]
"""(sampled, real), both uint8 [N, 3, H, W] -> numbers by name."""


class HeldOut:
    """A distance such as CMMD or KID on held-out captions, every `distance_every` images.

    Images of the first `distance_images` captions of the validation source are sampled with the
    averaged weights, always with the same seeds, and compared with the real ones. ``distance`` is
    injected by whoever sets up the run.
    """

    BATCH = 32
    """Images sampled together."""

    def __init__(self, folder: Path, source: Source, distance: Distance, images: int) -> None:
        self.folder, self.source, self.distance, self.images = folder, source, distance, images

    def __call__(self, trainer: Trainer) -> None:
        if not trainer.is_due(trainer.config.distance_every):
            return
        sampled, real = [], []
        for start in range(0, self.images, self.BATCH):
            pair = self._sample(trainer, start, min(self.BATCH, self.images - start))
            sampled.append(pair[0])
            real.append(pair[1])
        if trainer.world.is_main_process:
            found = self.distance(torch.cat(sampled), torch.cat(real))
            append_json(
                self.folder / "held_out.jsonl", {"images_seen": trainer.images_seen, **found}
            )

    def _sample(self, trainer: Trainer, start: int, size: int) -> tuple[Tensor, Tensor]:
        batch = self.source.batch(start, size)
        lowres = None if batch.lowres is None else to_signed(batch.lowres, trainer.device)
        generators = [torch.Generator().manual_seed(start + k) for k in range(size)]
        text = trainer.encode_text(batch.captions)
        with trainer.averaged() as stage:
            images = stage.sample(text, generators, lowres=lowres)
        return _opaque(to_uint8(images).cpu()), _opaque(batch.images)


def _opaque(images: Tensor) -> Tensor:
    """RGB; transparency is shown on white."""
    if images.shape[1] == 3:
        return images
    return over(images, WHITE)
