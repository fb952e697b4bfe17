"""Requests to a cascade, and to one of its stages."""

from typing import Any, NamedTuple

from torch import Tensor

from open_imagen.cascade.sampling import ResolvedSampling
from open_imagen.cascade.variations import Variation


class ImageRequest(NamedTuple):
    """An image to generate."""

    prompt: str
    seed: int
    negative: str = ""
    variations: tuple[Variation, ...] = ()
    """Seeds whose noise is mixed into that of ``seed``, one after another."""
    prompt_weights: bool = False
    """Whether "(word:1.3)" weighs words of the prompts."""


class StageStart(NamedTuple):
    """The image that a stage begins with, where it does not begin with noise alone."""

    image: Tensor
    """uint8 [C, H, W]."""
    strength: float
    """The share of the steps that run; at 0 the image itself is the result."""
    mask: Tensor | None = None
    """float [1, H, W], 1 where the image is made anew and 0 elsewhere; None: all of it."""
    resample: int = 1
    known: str = "renoised"

    @property
    def together(self) -> tuple[Any, ...]:
        """The settings that images of one batch must share."""
        has_mask = self.mask is not None
        return tuple(self.image.shape), self.strength, has_mask, self.resample, self.known


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
    start: StageStart | None = None
    variations: tuple[Variation, ...] = ()
    prompt_weights: bool = False
