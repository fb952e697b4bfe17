"""Blocks shared by two or more U-Nets, and nothing else.

Feature maps are [B, C, H, W]; the embedding of noise level and pooled text is [B, D].
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from open_imagen.errors import ConfigError

M = TypeVar("M", bound=nn.Module)

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"silu": F.silu, "gelu": F.gelu}


class NormAct(nn.GroupNorm):
    """act(norm(x) * (1 + scale) + shift).

    ``over`` what mean and variance are taken:
    groups  32 groups of channels, or as many as divide the width, over the whole map
    pixel   the channels of each pixel alone, so that a place looks the same in any surroundings
    """

    def __init__(self, channels: int, activation: str = "", over: str = "groups") -> None:
        super().__init__(math.gcd(32, channels), channels)
        self.activation, self.over = activation, over

    def forward(self, x: Tensor, scale_shift: Tensor | None = None) -> Tensor:
        """[B, C, H, W] -> the same. ``scale_shift``: [B, 2C], in this order.

        Raises:
            ConfigError: groups of a single number, of which nothing would be left.
        """
        if self.over == "pixel":
            last = x.permute(0, 2, 3, 1)
            normed = F.layer_norm(last, last.shape[-1:], self.weight, self.bias, self.eps)
            x = normed.permute(0, 3, 1, 2)
        else:
            if x.shape[1:].numel() == self.num_groups:
                raise ConfigError(
                    "The image is too small for this network: its lowest level would be a single "
                    f"pixel of {self.num_groups} channels, too few for group normalisation.",
                    "Take larger images (stage.resolution, size), or a network with fewer levels.",
                )
            x = super().forward(x)
        if scale_shift is not None:
            scale, shift = scale_shift[..., None, None].chunk(2, dim=1)
            x = x * (1 + scale) + shift
        return ACTIVATIONS[self.activation](x) if self.activation else x


class Conv(nn.Conv2d):
    """A convolution that keeps the side, or halves it, and what its result is added to."""

    def __init__(self, inside: int, outside: int, side: int = 3, stride: int = 1) -> None:
        super().__init__(inside, outside, side, stride=stride, padding=side // 2)

    def forward(self, x: Tensor, residual: Tensor | None = None, divisor: float = 1.0) -> Tensor:
        """(residual + conv(x)) / divisor. [B, C, H, W]."""
        h = self.convolve(x)
        h = h if residual is None else residual + h
        return h if divisor == 1 else h / divisor

    def convolve(self, x: Tensor) -> Tensor:
        """The convolution alone."""
        return super().forward(x)


def zeroed(layer: M) -> M:
    """The same layer with zero weights, so that its branch starts as nothing."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


@torch.no_grad()
def identity(conv: Conv) -> Conv:
    """The 1x1 convolution, initialised as the identity.

    Torch's random weights would scale down what passes through a dozen of them by a thousand.
    """
    width = conv.weight.shape[0]
    conv.weight.copy_(torch.eye(width).view(width, width, 1, 1))
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return conv


def conv3x3(inside: int, outside: int, stride: int = 1) -> Conv:
    """A 3x3 convolution with padding 1."""
    return Conv(inside, outside, 3, stride)


class LevelEmbedding(nn.Module):
    """Noise level -> vector: sinusoids, then two linear layers. [B] -> [B, D].

    ``scale`` brings a level to the range of step numbers, 0 to 1000, for which the frequencies
    were made (Vaswani et al. 2017).
    """

    def __init__(self, width: int, out: int, scale: float, activation: str = "silu") -> None:
        super().__init__()
        self.width, self.scale = width, scale
        self.act = ACTIVATIONS[activation]
        self.mlp = nn.ModuleDict({"0": nn.Linear(width, out), "2": nn.Linear(out, out)})

    def forward(self, level: Tensor) -> Tensor:
        """Log-SNR or timesteps [B] -> embeddings [B, width]."""
        half = self.width // 2
        exponents = torch.arange(half, device=level.device, dtype=torch.float32) / half
        angles = self.scale * level.float()[:, None] * torch.exp(-math.log(10_000) * exponents)
        first, last = self.mlp["0"], self.mlp["2"]
        waves = torch.cat([angles.cos(), angles.sin()], dim=1).to(next(self.parameters()).dtype)
        out: Tensor = last(self.act(first(waves)))
        return out


def augment_embedding(labels: int, out: int) -> nn.Linear | None:
    """The embedding of the transforms of a training image, [B, labels] -> [B, out].

    It is zero at initialisation and for zero labels. None for networks without labels.
    """
    return zeroed(nn.Linear(labels, out, bias=False)) if labels else None


class Positions(nn.Module):
    """Position embeddings [1, D, H, W]: learned mixtures of sines and cosines of the coordinates.

    Coordinates run from 0 to 1 whatever the size. Zero at initialisation.
    """

    def __init__(self, bands: int, out: int) -> None:
        super().__init__()
        self.bands = bands
        self.out = zeroed(nn.Conv2d(4 * bands, out, 1))

    def forward(self, height: int, width: int) -> Tensor:
        """Embeddings of the pixel positions, [1, C, height, width]."""
        device, real = self.out.weight.device, torch.float32
        waves = math.pi * torch.arange(1, self.bands + 1, device=device, dtype=real)

        def along(side: int) -> Tensor:
            angles = waves[:, None] * (torch.arange(side, device=device, dtype=real) + 0.5) / side
            return torch.cat([angles.sin(), angles.cos()])  # [2 bands, side]

        down, across = along(height)[:, :, None], along(width)[:, None, :]
        features = torch.cat([down.expand(-1, -1, width), across.expand(-1, height, -1)])
        out: Tensor = self.out(features[None].to(self.out.weight.dtype))
        return out


def check_image_channels(channels: int) -> None:
    """Raises ConfigError unless images have 3 channels, or 4 with alpha."""
    if channels not in (3, 4):
        raise ConfigError(
            f"image_channels = {channels} must be 3 (RGB) or 4 (RGBA, premultiplied)."
        )


@dataclass(frozen=True, kw_only=True)
class ResBlockConfig:
    """What all residual blocks of a network have in common."""

    embedding: int
    """Width of the embedding of noise level and text."""
    dropout: float = 0.0
    activation: str = "silu"
    """silu or gelu."""
    divide: float = 1.0
    """What the sum of block and shortcut is divided by."""
    norm: str = "groups"
    """Over what norms are taken; see NormAct."""
    conv_shortcut: bool = False
    """Whether the shortcut is a 1x1 convolution even where the width stays."""


class ResBlock(nn.Module):
    """BigGAN residual block with scale-shift norm; ``resample`` doubles or halves the side.

    norm, act, [resample], conv, norm * (1 + scale) + shift, act, conv; plus the shortcut, and the
    sum divided by ``divide``. The shortcut is a 1x1 convolution where the width changes, or always.
    The embedding comes with its activation already applied.
    """

    def __init__(
        self, inside: int, outside: int, config: ResBlockConfig, resample: str = ""
    ) -> None:
        super().__init__()
        self.resample, self.divide = resample, config.divide
        self.norm_in = NormAct(inside, config.activation, config.norm)
        self.conv_in = conv3x3(inside, outside)
        self.scale_shift = nn.Linear(config.embedding, 2 * outside)
        self.norm_out = NormAct(outside, config.activation, config.norm)
        self.dropout = nn.Dropout(config.dropout)
        self.conv_out = zeroed(conv3x3(outside, outside))
        self.shortcut: nn.Module = nn.Identity()
        if inside != outside:
            self.shortcut = Conv(inside, outside, 1)
        elif config.conv_shortcut:
            self.shortcut = identity(Conv(inside, outside, 1))

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """[B, C, H, W] with the embedding [B, E] -> [B, C', H', W']."""
        h = self.norm_in(x)
        if self.resample:
            h, x = resampled(h, self.resample), resampled(x, self.resample)
        h = self.conv_in(h)
        h = self.norm_out(h, self.scale_shift(embedding))
        if self.training:
            h = self.dropout(h)
        out: Tensor = self.conv_out(h, residual=self.shortcut(x), divisor=self.divide)
        return out


def cropped(x: Tensor, like: Tensor) -> Tensor:
    """Drop the row or column that doubling the size added to an odd side."""
    return x[..., : like.shape[2], : like.shape[3]] if x.shape[2:] != like.shape[2:] else x


def resampled(x: Tensor, how: str) -> Tensor:
    """Halve the side by averaging ("down") or double it by repeating ("up").

    An odd side is halved upwards, the last row or column an average of what there is.
    """
    if how == "down":
        return F.avg_pool2d(x, 2, ceil_mode=True, count_include_pad=False)
    return F.interpolate(x, scale_factor=2.0, mode="nearest")
