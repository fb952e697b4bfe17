"""The gradients of one training step."""

from typing import NamedTuple

import torch
from torch import Tensor

from open_imagen.cascade.noise import TrainingNoise
from open_imagen.training.augment import Transforms
from open_imagen.training.config import TrainConfig
from open_imagen.training.parallel import no_sync
from open_imagen.training.setup import TrainingSetup
from open_imagen.types import Batch

COMPILED_TEXT_MULTIPLE = 24
"""Texts of a compiled network are padded to a multiple of this length: few shapes to compile."""


class StepLoss(NamedTuple):
    """The loss of a step in this process."""

    mean: Tensor
    by_example: Tensor
    """[B]; empty where an objective has no loss of each example at its own noise level."""
    logsnr: Tensor
    """The noise level of each example, [B]; empty likewise."""


def compute_gradients(parts: TrainingSetup, config: TrainConfig, batch: Batch) -> StepLoss:
    """Backpropagate the objective of a batch, in micro-batches; its loss in this process."""
    images = to_signed(batch.images, parts.device)
    lowres = None if batch.lowres is None else to_signed(batch.lowres, parts.device)
    noise = TrainingNoise.sample(
        images.shape, batch.index, config.seed, config.text_drop, lowres is not None, parts.device
    )
    if parts.augment.enabled:
        square = images.shape[2] == images.shape[3]
        transforms = Transforms.sample(
            parts.augment, batch.index, batch.size, config.seed, parts.device, square
        )
        images, lowres = transforms(parts.augment, images, lowres)
        if parts.augment.conditional:
            noise = noise._replace(augment_labels=transforms.labels(parts.augment))
    text = parts.encode_text(batch.captions)
    if config.compile:
        text = text.padded(COMPILED_TEXT_MULTIPLE)
    loss, by_example = torch.zeros((), device=parts.device), []
    slices = micro_batches(batch.size, config.accumulate)
    for rows in slices:
        accumulating = no_sync(parts.parallel_network, enabled=rows is not slices[-1])
        with accumulating, parts.autocast():
            losses = parts.objective(
                images[rows],
                text.select(rows),
                noise.select(rows),
                None if lowres is None else lowres[rows],
            )
            if batch.weights is not None:
                losses = losses * batch.weights[rows].to(parts.device)
            # Processes average their gradients, which is the mean over all of their images.
            part = losses.sum() / batch.size
            part.backward()  # type: ignore[no-untyped-call]
        loss += part.detach()
        by_example.append(losses.detach())
    all_losses = torch.cat(by_example)
    if not parts.objective_is_by_level or len(all_losses) != batch.size:
        return StepLoss(loss, all_losses[:0], all_losses[:0])
    return StepLoss(loss, all_losses, parts.stage.config.schedule.logsnr(noise.t))


def to_signed(images: Tensor, device: torch.device) -> Tensor:
    """uint8 [B, C, H, W] -> float in [-1, 1], channels last."""
    signed = images.to(device, torch.float32).div(127.5).sub(1)
    return signed.contiguous(memory_format=torch.channels_last)


def micro_batches(size: int, number: int) -> list[slice]:
    """The rows of a batch in equal slices, fewer if it is smaller."""
    step = -(-size // number)
    return [slice(start, start + step) for start in range(0, size, step)]
