"""validation.jsonl: the loss on held-out examples at fixed noise levels."""

from pathlib import Path

import torch
from torch import Tensor

from open_imagen.cascade.noise import TrainingNoise
from open_imagen.storage import append_json
from open_imagen.training.loop import Trainer
from open_imagen.training.step import to_signed
from open_imagen.types import Source


class Validation:
    """The loss of the averaged weights on held-out examples, every `validate_every` images.

    Always of the same examples, noise and times: the training loss mostly tells which noise levels
    a batch happened to have, this one tells progress.
    """

    LEVELS = 8
    """Times: the centres of equal parts of [0, 1]."""

    def __init__(self, folder: Path, source: Source, images: int = 256) -> None:
        """Take the first examples of a source.

        Args:
            images: number of examples, the first of the source.
        """
        self.folder, self.source, self.images = folder, source, images

    def __call__(self, trainer: Trainer) -> None:
        """Measure the loss on held-out examples at fixed noise levels, if it is due."""
        if not trainer.is_due(trainer.config.validate_every):
            return
        times = [(k + 0.5) / self.LEVELS for k in range(self.LEVELS)]
        sums = torch.zeros(self.LEVELS)
        size = min(trainer.config.batch_size, self.images)
        number = 0
        for start in range(0, self.images - size + 1, size):
            self._add_losses(sums, trainer, times, start, size)
            number += size
        if not trainer.world.is_main_process:
            return
        losses = (sums / number).tolist()
        line = {
            "images_seen": trainer.images_seen,
            "loss": sum(losses) / len(losses),
            "by_time": dict(zip(map(str, times), losses, strict=True)),
        }
        append_json(self.folder / "validation.jsonl", line)

    def _add_losses(
        self, sums: Tensor, trainer: Trainer, times: list[float], start: int, size: int
    ) -> None:
        """Add the losses of some examples at all times to their sums."""
        batch = self.source.batch(start, size)
        images = to_signed(batch.images, trainer.device)
        lowres = None if batch.lowres is None else to_signed(batch.lowres, trainer.device)
        text = trainer.encode_text(batch.captions)
        noise = TrainingNoise.sample(
            images.shape, start, lowres=lowres is not None, device=trainer.device
        )
        with trainer.averaged() as stage, torch.no_grad():
            for k, time in enumerate(times):
                fixed = noise._replace(t=torch.full_like(noise.t, time))
                sums[k] += stage.loss(images, text, fixed, lowres).sum().cpu()
