"""Training objectives by name: the diffusion loss, distillation, text-embedding denoising."""

from open_imagen.training.objectives.base import OBJECTIVES, Objective, ObjectiveContext
from open_imagen.training.objectives.diffusion import build_diffusion
from open_imagen.training.objectives.distillation import Distillation, DistillConfig
from open_imagen.training.objectives.text_denoising import TextDenoising, TextDenoisingConfig

__all__ = [
    "OBJECTIVES",
    "DistillConfig",
    "Distillation",
    "Objective",
    "ObjectiveContext",
    "TextDenoising",
    "TextDenoisingConfig",
    "build_diffusion",
]
