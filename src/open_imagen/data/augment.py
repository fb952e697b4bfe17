"""Random changes of a picture before it becomes a square: where it is cut out, flip, zoom, colour.

They are drawn from the example's position alone. The network is not conditioned on them.
"""

import random
import re
from dataclasses import dataclass
from typing import NamedTuple

from PIL import Image, ImageEnhance

from open_imagen.errors import ConfigError

SIDES = re.compile(r"\b(left|right|leftmost|rightmost|clockwise)\b", re.IGNORECASE)
"""Words that would be wrong in the caption of a mirrored image."""


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """Random augmentation of images."""

    random_crop: bool = False
    """Cut out anywhere along the long side rather than at the centre."""
    flip: float = 0.0
    """Share of examples that are mirrored; never those whose caption says left or right."""
    zoom: float = 1.0
    """Random crops that are smaller by up to this factor, but at least `size` pixels."""
    color: float = 0.0
    """Change brightness, contrast and saturation by up to this share."""

    @property
    def changes_images(self) -> bool:
        """Whether any setting is on."""
        return self.random_crop or self.flip > 0 or self.zoom > 1 or self.color > 0

    def check_augment(self) -> None:
        """Check the settings of augmentation.

        Raises:
            ConfigError: a setting is wrong.
        """
        for name, low, high in (("flip", 0, 1), ("zoom", 1, 16), ("color", 0, 1)):
            if not low <= getattr(self, name) <= high:
                raise ConfigError(
                    f"data.{name} = {getattr(self, name)} must be between {low} and {high}."
                )


class Drawn(NamedTuple):
    """How one example is changed."""

    box: tuple[float, float, float, float]
    """The crop: left, top, right, bottom, in pixels of the image."""
    flip: bool
    color: tuple[float, float, float]
    """Factors of brightness, contrast and saturation."""


def draw(
    config: AugmentConfig,
    size: tuple[int, int],
    target: tuple[int, int],
    caption: str,
    rng: random.Random,
) -> Drawn:
    """Draw the changes of a picture of ``size`` that becomes one of ``target``.

    The part has exactly the target's proportions, so that nothing is distorted.
    """
    # Always as many numbers, so that one setting does not change what others draw.
    x, y, zoom, flip, *factors = (rng.random() for _ in range(7))
    scale = min(size[0] / target[0], size[1] / target[1])
    if config.zoom > 1 and scale > 1:
        scale /= min(scale, config.zoom**zoom)
    width, height = scale * target[0], scale * target[1]
    left, top = (size[0] - width) * 0.5, (size[1] - height) * 0.5
    if config.random_crop or config.zoom > 1:
        left, top = (size[0] - width) * x, (size[1] - height) * y
    return Drawn(
        (max(0.0, left), max(0.0, top), min(size[0], left + width), min(size[1], top + height)),
        flip < config.flip and not SIDES.search(caption),
        (
            1 + config.color * (2 * factors[0] - 1),
            1 + config.color * (2 * factors[1] - 1),
            1 + config.color * (2 * factors[2] - 1),
        ),
    )


def apply(image: Image.Image, drawn: Drawn, target: tuple[int, int]) -> Image.Image:
    """The crop of an image, scaled to the target and augmented."""
    image = image.resize(target, Image.Resampling.LANCZOS, box=drawn.box)
    if drawn.flip:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    for enhance, factor in zip(
        (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color),
        drawn.color,
        strict=True,
    ):
        if factor != 1:
            image = enhance(image).enhance(factor)
    return image
