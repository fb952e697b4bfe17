"""What a training step minimises: objectives by name."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from open_imagen.cascade.noise import TrainingNoise
from open_imagen.cascade.stage import Stage
from open_imagen.registry import Registry
from open_imagen.types import Source, TextEmbedding, TextEncoder


class Objective(Protocol):
    """The loss of a training step."""

    def __call__(
        self,
        images: Tensor,
        text: TextEmbedding,
        noise: TrainingNoise,
        lowres: Tensor | None = None,
    ) -> Tensor:
        """Weighted error of each example, [B]."""


@dataclass(frozen=True)
class ObjectiveContext:
    """What an objective is built from."""

    stage: Stage
    """The stage that is trained."""
    device: torch.device
    accelerate: Callable[[nn.Module], None]
    """Compiles or accelerates another network of the objective, as the recipe says."""


def _same_encoder(encoder: TextEncoder, source: Source, config: Any) -> TextEncoder:
    return encoder


@dataclass(frozen=True)
class ObjectiveSpec:
    """How an objective is built from its settings, and what it changes about the set-up."""

    build: Callable[[Any, ObjectiveContext], Objective]
    """(its section of the recipe, context) -> objective."""
    wrap_encoder: Callable[[TextEncoder, Source, Any], TextEncoder] = _same_encoder
    """(text encoder, training data, its section of the recipe) -> the encoder of its text."""
    trainable: str = ""
    """The submodule of the network that is trained; all of it if empty."""
    single_process: bool = False
    """Whether it cannot be distributed over processes."""
    is_by_level: bool = True
    """Whether the loss of an example is that at the noise level of its `TrainingNoise`."""


OBJECTIVES: Registry[ObjectiveSpec] = Registry("training objective")
