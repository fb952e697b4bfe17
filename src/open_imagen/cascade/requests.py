"""What is asked of a cascade and what comes back."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from PIL import Image
from torch import Tensor

from open_imagen.cascade.sampling import ResolvedSampling

Progress = Callable[[str, int, int, Tensor], None]


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


@dataclass(frozen=True)
class GenerationOutput:
    """What generate() and upscale() return. Everything is prompt-major.

    images    PIL images of the last stage; RGBA only if a transparent background was asked for
    stages    stage name -> uint8 [N, C, H, W]: RGB, or premultiplied RGBA of a model with alpha
    records   per image: prompt, seed, settings, model hash, version
    """

    images: list[Image.Image]
    stages: dict[str, Tensor]
    records: list[dict[str, Any]]
