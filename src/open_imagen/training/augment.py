"""Augmentation with conditioning: training on transformed images, sampling of plain ones.

Non-leaking augmentation (EDM: Karras et al. 2022, appendix F.2): the images of a training step are
flipped, rotated, scaled, moved and recoloured at random, and the parameters of the transforms
condition the network as a vector of labels. It is zero for an untransformed image, and sampling
always uses zero. Captions are not changed ("left" is wrong of a flipped image): the labels tell the
network.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from open_imagen.cascade.noise import example_keys, hash_counters, normal, uniform
from open_imagen.errors import ConfigError

CHOICES, STRENGTHS = 0x082EFA98, 0xEC4E6C89
"""Streams of random numbers of an example: uniform and normal ones (see cascade/noise.py)."""
TRANSFORMS = (
    *("flip", "vertical_flip", "rotate", "scale", "zoom", "translate"),
    *("brightness", "contrast", "saturation", "hue"),
)
GEOMETRIC = TRANSFORMS[:6]
NUM_LABELS = 15
"""Width of the vector: see `Transforms.labels`."""


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """Independent probabilities of the transforms of a training image, and their strengths."""

    conditional: bool = True
    """Whether the network is conditioned on the transforms (stage.network.augment_labels). If not,
    sampled images show the transforms too."""
    flip: float = 0.0
    """Mirror left and right."""
    vertical_flip: float = 0.0
    """Mirror top and bottom."""
    rotate: float = 0.0
    """Rotate by 90, 180 or 270 degrees; images that are not square by 180."""
    scale: float = 0.0
    """Make the contents larger or smaller, by a factor of 2^(scale_std n), n standard normal."""
    scale_std: float = 0.2
    zoom: float = 0.0
    """Enlarge a random part of the image to its size; nothing from outside is seen."""
    max_zoom: float = 1.5
    """The factor is at most this."""
    translate: float = 0.0
    """Move the contents right and down by whole pixels (of the low-resolution image, if there is
    one). What comes in from outside, here and where contents shrink, is a mirror image."""
    max_translate: float = 0.125
    """By at most this share of the side."""
    brightness: float = 0.0
    """Add the same to all colours; black is 0 and white 1."""
    brightness_std: float = 0.1
    contrast: float = 0.0
    """Scale the distance from middle gray by 2^(contrast_std n)."""
    contrast_std: float = 0.5
    saturation: float = 0.0
    """Scale the distance from gray by 2^(saturation_std n)."""
    saturation_std: float = 1.0
    hue: float = 0.0
    """Rotate colours about the gray axis."""
    max_hue: float = 1.0
    """By at most this share of half a turn, either way."""

    def __post_init__(self) -> None:
        for name in TRANSFORMS:
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(
                    f"augment.{name} = {getattr(self, name)} must be a probability, 0 to 1."
                )
        for name in ("scale_std", "brightness_std", "contrast_std", "saturation_std"):
            if not 0 < getattr(self, name) <= 4:
                raise ConfigError(
                    f"augment.{name} = {getattr(self, name)} must be above 0, and at most 4."
                )
        if not 1 < self.max_zoom <= 8:
            raise ConfigError(f"augment.max_zoom = {self.max_zoom} must be above 1, at most 8.")
        for name in ("max_translate", "max_hue"):
            if not 0 < getattr(self, name) <= 1:
                raise ConfigError(
                    f"augment.{name} = {getattr(self, name)} must be above 0, and at most 1."
                )

    @property
    def enabled(self) -> bool:
        """Whether anything is transformed."""
        return any(getattr(self, name) > 0 for name in TRANSFORMS)

    @property
    def labels(self) -> int:
        """Width of the network's vector of labels; 0 for none."""
        return NUM_LABELS if self.enabled and self.conditional else 0


class Transforms(NamedTuple):
    """What is done to each of B images, in this order; each is [B]."""

    flip: Tensor
    """bool."""
    vertical_flip: Tensor
    """bool."""
    turns: Tensor
    """Quarter turns counter-clockwise, 0 to 3."""
    right: Tensor
    """Translation as a share of the width."""
    down: Tensor
    """The same of the height."""
    scale: Tensor
    """Factor of size."""
    zoom: Tensor
    """Factor of the zoom."""
    zoom_x: Tensor
    """Where its window lies: -1 at the left edge, 1 at the right edge."""
    zoom_y: Tensor
    """-1 at the top, 1 at the bottom."""
    brightness: Tensor
    """Added to colours in [0, 1]."""
    contrast: Tensor
    """Factor."""
    saturation: Tensor
    """Factor."""
    hue: Tensor
    """Angle."""

    @classmethod
    def sample(
        cls,
        config: AugmentConfig,
        index: int,
        number: int,
        seed: int = 0,
        device: torch.device | str = "cpu",
        square: bool = True,
    ) -> "Transforms":
        """The transforms of the examples ``index`` .. ``index + number - 1`` of a run.

        They are a function of the run's seed and the example's index, and differ from epoch to
        epoch.

        Args:
            square: whether the images are; others only make half turns.
        """
        keys = example_keys(index, number, seed, device)
        chances, more = uniform(hash_counters(*keys, CHOICES, 20)).chunk(2, dim=1)
        strengths = normal(hash_counters(*keys, STRENGTHS, 4))
        rates = torch.tensor([getattr(config, name) for name in TRANSFORMS]).to(device)
        # Uniform numbers are above 0 and at most 1: a probability of 0 is never, of 1 always.
        done = dict(zip(TRANSFORMS, (chances <= rates).unbind(1), strict=True))
        signed = 2 * more - 1
        turns = 1 + (3 * more[:, 0]).long().clamp(max=2)
        turns = turns if square else torch.full_like(turns, 2)
        zoom = config.max_zoom ** more[:, 1]

        def where(name: str, value: Tensor, otherwise: float = 0.0) -> Tensor:
            return value.where(done[name], torch.full_like(value, otherwise))

        def factor(name: str, strength: Tensor) -> Tensor:
            return torch.exp2(where(name, strength * getattr(config, f"{name}_std")))

        return cls(
            flip=done["flip"],
            vertical_flip=done["vertical_flip"],
            turns=where("rotate", turns),
            right=where("translate", signed[:, 2] * config.max_translate),
            down=where("translate", signed[:, 3] * config.max_translate),
            scale=factor("scale", strengths[:, 0]),
            zoom=where("zoom", zoom, 1.0),
            zoom_x=where("zoom", signed[:, 4]),
            zoom_y=where("zoom", signed[:, 5]),
            brightness=where("brightness", strengths[:, 1] * config.brightness_std),
            contrast=factor("contrast", strengths[:, 2]),
            saturation=factor("saturation", strengths[:, 3]),
            hue=where("hue", math.pi * config.max_hue * signed[:, 6]),
        )

    def labels(self, config: AugmentConfig) -> Tensor:
        """The network's condition, [B, NUM_LABELS], of unit scale; zero without transforms."""
        angle = self.turns * (math.pi / 2)
        labels = [
            *(self.flip, self.vertical_flip, angle.cos().round() - 1, angle.sin().round()),
            *(self.right / config.max_translate, self.down / config.max_translate),
            self.scale.log2() / config.scale_std,
            self.zoom.log2() / math.log2(config.max_zoom),
            *(self.zoom_x, self.zoom_y, self.brightness / config.brightness_std),
            self.contrast.log2() / config.contrast_std,
            self.saturation.log2() / config.saturation_std,
            *(self.hue.cos() - 1, self.hue.sin()),
        ]
        return torch.stack([one.float() for one in labels], dim=1)

    def __call__(
        self, config: AugmentConfig, images: Tensor, lowres: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Transform images [B, C, H, W] in [-1, 1], RGB or premultiplied RGBA.

        Their low-resolution versions, if given, are transformed in the same way.
        """
        smallest = images if lowres is None else lowres
        height, width = smallest.shape[2:]
        right, down = (self.right * width).round(), (self.down * height).round()
        unit = images.shape[3] // width

        def one(image: Tensor, shift: int) -> Tensor:
            image = self._move_exactly(config, image, shift * right, shift * down)
            if config.scale or config.zoom:
                image = self._resize(image)
            if config.brightness or config.contrast or config.saturation or config.hue:
                image = self._recolor(image)
            return image.contiguous(memory_format=torch.channels_last)

        return one(images, unit), None if lowres is None else one(lowres, 1)

    def _move_exactly(
        self, config: AugmentConfig, image: Tensor, right: Tensor, down: Tensor
    ) -> Tensor:
        """Flips, quarter turns and translations by whole pixels: numbers only change places."""
        if config.flip:
            image = image.flip(3).where(_spread(self.flip), image)
        if config.vertical_flip:
            image = image.flip(2).where(_spread(self.vertical_flip), image)
        if config.rotate:
            if image.shape[2] == image.shape[3]:
                image = image.rot90(1, (2, 3)).where(_spread(self.turns % 2 == 1), image)
            image = image.rot90(2, (2, 3)).where(_spread(self.turns >= 2), image)
        if config.translate:
            rows = _reflected(image.shape[2], down)[:, None, :, None]
            image = image.gather(2, rows.expand_as(image))
            columns = _reflected(image.shape[3], right)[:, None, None, :]
            image = image.gather(3, columns.expand_as(image))
        return image

    def _resize(self, image: Tensor) -> Tensor:
        """Scale about the centre, then zoom in; bicubic."""
        factor, window = 1 / (self.scale * self.zoom), (1 - 1 / self.zoom) / self.scale
        zero = torch.zeros_like(factor)
        rows = [factor, zero, self.zoom_x * window], [zero, factor, self.zoom_y * window]
        theta = torch.stack([torch.stack(row, dim=1) for row in rows], dim=1)
        grid = F.affine_grid(theta.float(), list(image.shape), align_corners=False)
        resized = F.grid_sample(
            image, grid.to(image.dtype), "bicubic", "reflection", align_corners=False
        ).clamp(-1, 1)
        if image.shape[1] == 4:  # premultiplied colours are at most alpha
            resized = torch.cat([resized[:, :3].minimum(resized[:, 3:]), resized[:, 3:]], dim=1)
        return resized.where(_spread((self.scale != 1) | (self.zoom != 1)), image)

    def _recolor(self, image: Tensor) -> Tensor:
        """Brightness, contrast, saturation and hue: one affine map of colours in [0, 1].

        Of premultiplied colours its constant part is multiplied by alpha.
        """
        matrix, constant = self.color_map()
        colors = (image[:, :3] + 1) / 2
        alpha = (image[:, 3:] + 1) / 2 if image.shape[1] == 4 else torch.ones_like(colors[:, :1])
        mapped = torch.einsum("bij,bjhw->bihw", matrix, colors)
        mapped = mapped + constant[:, :, None, None] * alpha
        mapped = 2 * mapped.clamp(min=0).minimum(alpha) - 1
        changed = (self.brightness != 0) | (self.contrast != 1) | (self.saturation != 1)
        changed = changed | (self.hue != 0)
        return torch.cat([mapped, image[:, 3:]], dim=1).where(_spread(changed), image)

    def color_map(self) -> tuple[Tensor, Tensor]:
        """Matrix [B, 3, 3] and constant [B, 3] of colour -> colour in [0, 1]."""
        contrast, device = self.contrast[:, None], self.contrast.device
        eye = torch.eye(3, device=device)
        gray = torch.full((3, 3), 1 / 3, device=device)
        # The matrix of the cross product with the gray axis: what a rotation about it adds.
        cross = torch.tensor([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]], device=device) / math.sqrt(3)
        cos, sin = self.hue.cos()[:, None, None], self.hue.sin()[:, None, None]
        colorful = self.saturation[:, None, None] * (cos * (eye - gray) + sin * cross)
        matrix = (gray + colorful) * contrast[:, None]
        constant = self.brightness[:, None] * contrast + (1 - contrast) / 2
        # Gray is mapped to gray: saturation and hue leave the constant part as it is.
        return matrix, constant.expand(-1, 3)


def _spread(values: Tensor) -> Tensor:
    """[B] -> [B, 1, 1, 1]."""
    return values[:, None, None, None]


def _reflected(side: int, shift: Tensor) -> Tensor:
    """Indices [B, side] of pixels moved by whole ``shift`` [B], mirrored at the borders."""
    places = torch.arange(side, device=shift.device) - shift.long()[:, None]
    places = places % (2 * side)
    return torch.minimum(places, 2 * side - 1 - places)
