"""What is asked of a cascade, and of one of its stages."""

from typing import NamedTuple

from torch import Tensor

from open_imagen.cascade.sampling import ResolvedSampling


class ImageRequest(NamedTuple):
    """An image to generate."""

    prompt: str
    seed: int
    negative: str = ""


class StageRequest(NamedTuple):
    """An image that one stage is to make."""

    prompt: str
    seed: int
    settings: ResolvedSampling
    negative: str = ""
    below: Tensor | None = None
    """The image to upscale, uint8 [C, h, w]."""
    size: tuple[int, int] | None = None
    """Width and height of a base's image; what it was trained for if None."""
