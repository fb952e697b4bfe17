"""The stage's own loss: denoise the images of the data."""

from torch import Tensor

from open_imagen.cascade.noise import TrainingNoise
from open_imagen.training.objectives.base import (
    OBJECTIVES,
    Objective,
    ObjectiveContext,
    ObjectiveSpec,
)
from open_imagen.types import TextEmbedding


def build_diffusion(config: None, context: ObjectiveContext) -> Objective:
    """The stage's own loss."""
    stage = context.stage

    def loss(
        images: Tensor, text: TextEmbedding, noise: TrainingNoise, lowres: Tensor | None = None
    ) -> Tensor:
        return stage.loss(images, text, noise, lowres)

    return loss


OBJECTIVES.register("diffusion")(ObjectiveSpec(build_diffusion))
