"""The mathematics: schedules, parameterisations, losses, guidance, thresholding, samplers."""

from open_imagen.diffusion.guidance import Guidance, guide
from open_imagen.diffusion.losses import Objective
from open_imagen.diffusion.parameterization import convert, diffuse, to_eps, to_x
from open_imagen.diffusion.samplers import SAMPLERS
from open_imagen.diffusion.schedules import Schedule, alpha_sigma
from open_imagen.diffusion.thresholding import Threshold

__all__ = [
    "SAMPLERS",
    "Guidance",
    "Objective",
    "Schedule",
    "Threshold",
    "alpha_sigma",
    "convert",
    "diffuse",
    "guide",
    "to_eps",
    "to_x",
]
