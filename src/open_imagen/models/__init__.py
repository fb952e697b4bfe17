"""The networks: the paper's U-Net and Efficient U-Net, and their presets by name."""

from open_imagen.models import efficient_unet, unet
from open_imagen.models.registry import NETWORKS, PRESETS, build, construct, names, resolve

__all__ = [
    "NETWORKS",
    "PRESETS",
    "build",
    "construct",
    "efficient_unet",
    "names",
    "resolve",
    "unet",
]
