"""alignment.jsonl: how often sampled images show what their prompts ask for."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from open_imagen.cascade.images import to_uint8
from open_imagen.storage import append_json
from open_imagen.training.loop import Trainer

SampleImages = Callable[[Sequence[str]], Tensor]
"""Prompts -> images, uint8 [N, C, H, W]."""
Score = Callable[[SampleImages], Mapping[str, float]]


class Alignment:
    """Prompt alignment of the averaged weights, every `align_every` images.

    ``score`` samples images of its prompts with the function that it is given, judges them, and
    returns the share that is right by category; whoever sets up a run injects it.
    """

    def __init__(self, folder: Path, score: Score) -> None:
        self.folder, self.score = folder, score

    def __call__(self, trainer: Trainer) -> None:
        """Score samples by the judge of the world, if it is due."""
        if not trainer.is_due(trainer.config.align_every):
            return

        def sample(prompts: Sequence[str]) -> Tensor:
            generators = [torch.Generator().manual_seed(k) for k in range(len(prompts))]
            images = stage.sample(trainer.encode_text(prompts), generators)
            return to_uint8(images).cpu()

        with trainer.averaged() as stage:
            shares = self.score(sample)
        if trainer.world.is_main_process:
            line = {"images_seen": trainer.images_seen, **shares}
            append_json(self.folder / "alignment.jsonl", line)
