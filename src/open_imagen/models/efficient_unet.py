"""The Efficient U-Net of the paper for super-resolution, and its presets (appendix B).

Blocks are shifted to low resolutions, each level resamples before its convolutions on the way
down and after them on the way up, and skips are scaled by 1 / sqrt(2).
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from open_imagen.errors import ConfigError, UnknownName
from open_imagen.models.attention import TextAttention, number_attentions
from open_imagen.models.layers import (
    LevelEmbedding,
    NormAct,
    ResBlock,
    ResBlockConfig,
    augment_embedding,
    check_image_channels,
    conv3x3,
    cropped,
    resampled,
    zeroed,
)
from open_imagen.models.registry import NETWORKS, PRESETS, Preset
from open_imagen.models.text_layers import PooledText, letter_tokens
from open_imagen.types import CachedText, LowRes, TextEmbedding

ATTENTION = ("both", "none", "text")
NORMS = ("groups", "pixel")


@dataclass(frozen=True, kw_only=True)
class EfficientUNetConfig:
    """The shape of an Efficient U-Net. Levels run from the highest resolution to the lowest."""

    stem: int = 128
    """Width at full resolution, where only the first and last convolution work."""
    channels: tuple[int, ...] = (128, 256, 512, 1024)
    """Width of each level; each halves the side of the one before."""
    blocks: tuple[int, ...] = (2, 4, 8, 8)
    """Residual blocks of each level, on the way down and again on the way up."""
    attention: tuple[str, ...] = ("none", "none", "none", "both")
    """After a level's blocks: none, text (cross-attention alone), or both pixels and text."""
    heads: int = 8
    """Attention heads."""
    attention_multiplier: int = 1
    """Width of attention's queries, keys and values, in units of the level's; 2 in the paper
    (figure A.28: hidden size 2 x channels)."""
    conv_shortcut: bool = False
    """Whether every residual block has a 1x1 convolution on its shortcut, as in the paper (figure
    A.27); without it the shortcut is the input itself."""
    text_width: int = 4096
    """Width of the text encoder's tokens."""
    embedding: int = 512
    """Width of the time embedding."""
    patch: int = 1
    """Fold patches of this side into channels before the stem, to save computation."""
    norm: str = "groups"
    """What norms average over: groups of channels over the whole map, or the channels of each
    pixel. With pixel, and without attention over pixels, a network trained on crops works on whole
    images."""
    letters: int = 0
    """Letters of quoted text that the network reads, one token each (text/letters.py); 0 for none,
    as in the paper."""
    image_channels: int = 3
    """3, RGB, or 4, RGBA with premultiplied alpha."""
    lowres: bool = True
    """Whether the low-resolution image is an input; always, but for ablations."""
    augment_labels: int = 0
    """Width of the labels of augmentation (training/augment.py), zero in sampling; 0 for networks
    without them."""
    dropout: float = 0.0
    """Dropout in the residual blocks."""

    def __post_init__(self) -> None:
        if not len(self.channels) == len(self.blocks) == len(self.attention):
            raise ConfigError(
                "channels, blocks and attention must have one entry per level, not "
                f"{len(self.channels)}, {len(self.blocks)} and {len(self.attention)}."
            )
        for kind in self.attention:
            if kind not in ATTENTION:
                raise UnknownName("attention", kind, ATTENTION)
        if self.norm not in NORMS:
            raise UnknownName("norm", self.norm, NORMS)
        check_image_channels(self.image_channels)
        if self.attention_multiplier < 1:
            raise ConfigError(
                f"attention_multiplier = {self.attention_multiplier} must be at least 1."
            )

    @property
    def divisor(self) -> int:
        """The side of an image must be a multiple of this."""
        return int(self.patch * 2 ** len(self.channels))


class EfficientUNet(nn.Module):
    """Saharia et al. 2022, appendix B and figures A.27 to A.30. [B, C, H, W] -> the same."""

    def __init__(self, config: EfficientUNetConfig) -> None:
        super().__init__()
        self.config = config
        D = config.embedding
        self.level = LevelEmbedding(config.channels[0], D, scale=50.0)
        self.letters = letter_tokens(config.letters, config.text_width)
        self.pooled_text = PooledText(config.text_width, D)
        if config.lowres:
            self.lowres_level = LevelEmbedding(config.channels[0], D, scale=50.0)
        inputs = config.image_channels * (2 if config.lowres else 1) * config.patch**2
        self.augment = augment_embedding(config.augment_labels, D)
        self.stem = conv3x3(inputs, config.stem)

        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        above = config.stem
        for level, width in enumerate(config.channels):
            self.down.append(DBlock(config, level, above))
            self.up.insert(0, UBlock(config, level, above))
            above = width

        self.norm = NormAct(config.stem, "silu", config.norm)
        self.head = zeroed(conv3x3(config.stem, config.image_channels * config.patch**2))
        number_attentions(self)

    def encode_text(self, text: TextEmbedding) -> CachedText:
        """The parts that depend on the text alone, computed once for all steps."""
        text = self.letters(text)
        seen = tuple(one.encode_text(text) for one in number_attentions(self))
        return CachedText(self.pooled_text(text), text.mask, seen)

    def forward(
        self,
        z: Tensor,
        level: Tensor,
        text: TextEmbedding | CachedText,
        lowres: LowRes | None = None,
        augment_labels: Tensor | None = None,
    ) -> Tensor:
        """The prediction for z [B, C, H, W]; see `open_imagen.types.Network`."""
        # Conditions. Every block wants the embedding through the activation: once is enough.
        if isinstance(text, CachedText):
            pooled = text.pooled
        else:
            text = self.letters(text)
            pooled = self.pooled_text(text)
        embedding = self.level(level) + pooled
        if lowres is not None:
            embedding = embedding + self.lowres_level(lowres.level)
            z = torch.cat([z, lowres.image], dim=1)
        if self.augment is not None and augment_labels is not None:
            embedding = embedding + self.augment(augment_labels)
        embedding = F.silu(embedding)

        # Down: every level's output, and the stem's, is kept for the way up.
        h = self.stem(F.pixel_unshuffle(z, self.config.patch))
        skips = []
        for block in self.down:
            skips.append(h)
            h = block(h, embedding, text)

        # Up.
        for block in self.up:
            skip = skips.pop()
            h = (cropped(block(h, embedding, text), skip) + skip) / math.sqrt(2)
        h = self.head(self.norm(h))
        return F.pixel_shuffle(h, self.config.patch)


class Blocks(nn.Module):
    """The residual blocks of one level, and one attention after them all."""

    def __init__(self, config: EfficientUNetConfig, level: int) -> None:
        super().__init__()
        width = config.channels[level]
        shared = ResBlockConfig(
            embedding=config.embedding,
            dropout=config.dropout,
            norm=config.norm,
            conv_shortcut=config.conv_shortcut,
        )
        self.blocks = nn.ModuleList(
            ResBlock(width, width, shared) for _ in range(config.blocks[level])
        )
        kind, inner = config.attention[level], width * config.attention_multiplier
        self.attention = (
            TextAttention(
                *(width, config.text_width, inner // config.heads, kind),
                norm=config.norm,
                inner=inner,
            )
            if kind != "none"
            else None
        )

    def forward(self, h: Tensor, embedding: Tensor, text: TextEmbedding | CachedText) -> Tensor:
        """[B, C, H, W] -> the same shape."""
        for block in self.blocks:
            h = block(h, embedding)
        return h if self.attention is None else self.attention(h, text)


class DBlock(nn.Module):
    """Strided convolution first, then the level's blocks (figure A.28)."""

    def __init__(self, config: EfficientUNetConfig, level: int, above: int) -> None:
        super().__init__()
        self.resample = conv3x3(above, config.channels[level], stride=2)
        self.level = Blocks(config, level)

    def forward(self, h: Tensor, embedding: Tensor, text: TextEmbedding | CachedText) -> Tensor:
        """Halve the resolution, then apply the blocks."""
        out: Tensor = self.level(self.resample(h), embedding, text)
        return out


class UBlock(nn.Module):
    """The level's blocks first, then upsampling (figure A.29)."""

    def __init__(self, config: EfficientUNetConfig, level: int, above: int) -> None:
        super().__init__()
        self.level = Blocks(config, level)
        self.resample = conv3x3(config.channels[level], above)

    def forward(self, h: Tensor, embedding: Tensor, text: TextEmbedding | CachedText) -> Tensor:
        """Apply the blocks, then double the resolution."""
        out: Tensor = self.resample(resampled(self.level(h, embedding, text), "up"))
        return out


PAPER: dict[str, Any] = {"conv_shortcut": True, "attention_multiplier": 2}
"""What the paper's own networks have beyond the defaults (figures A.27 and A.28)."""

NETWORKS.register("efficient_unet")((EfficientUNetConfig, EfficientUNet))

PRESETS.register("imagen-sr-256")(
    Preset(
        "efficient_unet",
        EfficientUNetConfig(**PAPER),
        resolution=256,
        about="the paper's first super-resolution model, 64x64 -> 256x256 (appendix F.2)",
    )
)
PRESETS.register("imagen-sr-1024")(
    Preset(
        "efficient_unet",
        EfficientUNetConfig(**PAPER, attention=("none", "none", "none", "text")),
        resolution=1024,
        about="the paper's second super-resolution model, 256x256 -> 1024x1024 (appendix F.3)",
    )
)
PRESETS.register("small-sr-256")(
    Preset(
        "efficient_unet",
        EfficientUNetConfig(
            stem=24,
            channels=(48, 64, 128),
            blocks=(2, 2, 2),
            attention=("none", "none", "text"),
            heads=4,
            text_width=384,
            embedding=256,
            patch=2,
            norm="pixel",
        ),
        resolution=256,
        about="the super-resolution of the shipped model, folded to 128x128",
    )
)
PRESETS.register("small-sr-1024")(
    Preset(
        "efficient_unet",
        EfficientUNetConfig(
            stem=24,
            channels=(48, 64),
            blocks=(2, 3),
            attention=("none", "text"),
            heads=4,
            text_width=384,
            embedding=256,
            patch=2,
            norm="pixel",
        ),
        resolution=1024,
        about="the second super-resolution of the shipped model, folded to 512x512",
    )
)
PRESETS.register("tiny-sr-1024")(
    Preset(
        "efficient_unet",
        EfficientUNetConfig(
            stem=16,
            channels=(16, 16, 32),
            blocks=(1, 1, 1),
            attention=("none", "none", "text"),
            heads=2,
            text_width=384,
            embedding=64,
            patch=8,
        ),
        resolution=1024,
        about="for tests and first tries",
    )
)
PRESETS.register("tiny-sr-256")(
    Preset(
        "efficient_unet",
        EfficientUNetConfig(
            stem=16,
            channels=(16, 32),
            blocks=(1, 1),
            attention=("none", "text"),
            heads=2,
            text_width=384,
            embedding=64,
            patch=8,
        ),
        resolution=256,
        about="for tests and first tries",
    )
)
