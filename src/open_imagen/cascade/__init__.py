"""The only place where the parts meet: stages, and cascades of them."""

from open_imagen.cascade.cascade import Cascade
from open_imagen.cascade.io import load
from open_imagen.cascade.joining import join
from open_imagen.cascade.noise import TrainingNoise
from open_imagen.cascade.output import GenerationOutput
from open_imagen.cascade.sampling import Sampling
from open_imagen.cascade.stage import Stage
from open_imagen.cascade.stage_config import StageConfig

__all__ = [
    "Cascade",
    "GenerationOutput",
    "Sampling",
    "Stage",
    "StageConfig",
    "join",
    "load",
    "TrainingNoise",
]
