"""The base U-Net of the paper (ADM blocks, text in every attention), and its presets.

It predicts from a noisy image, its noise level and the text; it knows nothing of schedules,
guidance or what its prediction means.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from open_imagen.errors import ConfigError
from open_imagen.models.layers import (
    LevelEmbedding,
    PooledText,
    Positions,
    ResBlock,
    TextAttention,
    conv3x3,
    group_norm,
    zeroed,
)
from open_imagen.models.registry import NETWORKS, PRESETS, Preset
from open_imagen.types import LowRes, TextEmbedding


@dataclass(frozen=True, kw_only=True)
class UNetConfig:
    """The shape of a U-Net. Levels run from the highest resolution to the lowest."""

    channels: int = 128
    """Width of the first level."""
    multipliers: tuple[int, ...] = (1, 2, 3, 4)
    """Width of each level, in units of `channels`."""
    blocks: tuple[int, ...] = (3, 3, 3, 3)
    """Residual blocks of each level on the way down; one more on the way up."""
    attention: tuple[bool, ...] = (False, True, True, True)
    """Whether a level's residual blocks are followed by attention over pixels and text."""
    head_width: int = 64
    """Channels of one attention head."""
    text_width: int = 4096
    """Width of the text encoder's tokens."""
    text_projection: int = 0
    """Project the text to this width before attention; 0 leaves it as it is."""
    embedding_multiplier: int = 4
    """Width of the time embedding, in units of `channels`."""
    patch: int = 1
    """Fold patches of this side into channels before the first level, to save computation."""
    positions: int = 0
    """Waves per axis that tell every pixel of the first level where it lies; 0 for none, as in the
    paper, where the network knows it from the borders alone."""
    out_channels: int = 3
    """3, or 6 with learned variance."""
    lowres: bool = False
    """Whether it is a super-resolution network, with the low-resolution image as input."""
    dropout: float = 0.0
    """Dropout in the residual blocks."""

    def __post_init__(self) -> None:
        if not len(self.multipliers) == len(self.blocks) == len(self.attention):
            raise ConfigError(
                "multipliers, blocks and attention must have one entry per level, not "
                f"{len(self.multipliers)}, {len(self.blocks)} and {len(self.attention)}."
            )

    @property
    def widths(self) -> list[int]:
        return [self.channels * multiplier for multiplier in self.multipliers]

    @property
    def divisor(self) -> int:
        """The side of an image must be a multiple of this."""
        return int(self.patch * 2 ** (len(self.multipliers) - 1))


class UNet(nn.Module):
    """Saharia et al. 2022, section 2.5 and appendix F.1. [B, 3, H, W] -> [B, out, H, W]."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        depth, widths, D = len(config.widths), config.widths, config.channels
        embedding = D * config.embedding_multiplier
        text_width = config.text_projection or config.text_width

        def block(inside: int, outside: int, resample: str = "") -> ResBlock:
            return ResBlock(inside, outside, embedding, resample, config.dropout)

        def attend(level: int) -> nn.Module | None:
            if not config.attention[level]:
                return None
            return TextAttention(widths[level], text_width, config.head_width)

        self.level = LevelEmbedding(D, embedding)
        self.pooled_text = PooledText(config.text_width, embedding)
        self.project_text = (
            nn.Linear(config.text_width, text_width) if config.text_projection else nn.Identity()
        )
        inputs = (6 if config.lowres else 3) * config.patch**2
        if config.lowres:
            self.lowres_level = LevelEmbedding(D, embedding)
        self.stem = conv3x3(inputs, D)
        self.positions = Positions(config.positions, D) if config.positions else None

        skips = [D]  # the width of every skip, in the order in which they are made
        self.down = nn.ModuleList()
        for level, width in enumerate(widths):
            for _ in range(config.blocks[level]):
                self.down.append(Step(block(skips[-1], width), attend(level)))
                skips.append(width)
            if level < depth - 1:
                self.down.append(Step(block(width, width, "down")))
                skips.append(width)

        bottom = widths[-1]
        self.middle = nn.ModuleList(
            [Step(block(bottom, bottom), attend(depth - 1)), Step(block(bottom, bottom))]
        )

        self.up = nn.ModuleList()
        width = bottom
        for level in reversed(range(depth)):
            for i in range(config.blocks[level] + 1):
                step = Step(block(width + skips.pop(), widths[level]), attend(level))
                width = widths[level]
                if level and i == config.blocks[level]:
                    step.after = block(width, width, "up")
                self.up.append(step)

        self.norm = group_norm(width)
        self.head = zeroed(conv3x3(width, config.out_channels * config.patch**2))

    def forward(
        self, z: Tensor, logsnr: Tensor, text: TextEmbedding, lowres: LowRes | None = None
    ) -> Tensor:
        # Conditions.
        embedding = self.level(logsnr) + self.pooled_text(text)
        if lowres is not None:
            embedding = embedding + self.lowres_level(lowres.logsnr)
            z = torch.cat([z, lowres.image], dim=1)
        text = TextEmbedding(self.project_text(text.tokens), text.mask)

        # Down.
        h = self.stem(F.pixel_unshuffle(z, self.config.patch))
        if self.positions is not None:
            h = h + self.positions(h.shape[2], h.shape[3])
        skips = [h]
        for step in self.down:
            h = step(h, embedding, text)
            skips.append(h)

        # Middle.
        for step in self.middle:
            h = step(h, embedding, text)

        # Up.
        for step in self.up:
            h = step(torch.cat([h, skips.pop()], dim=1), embedding, text)
        h = self.head(F.silu(self.norm(h)))
        return F.pixel_shuffle(h, self.config.patch)


class Step(nn.Module):
    """A residual block, the attention that may follow it, and a last block that may resample."""

    def __init__(self, block: ResBlock, attention: nn.Module | None = None) -> None:
        super().__init__()
        self.block = block
        self.attention = attention
        self.after: ResBlock | None = None

    def forward(self, x: Tensor, embedding: Tensor, text: TextEmbedding) -> Tensor:
        x = self.block(x, embedding)
        if self.attention is not None:
            x = self.attention(x, text)
        if self.after is not None:
            x = self.after(x, embedding)
        return x


NETWORKS.register("unet")((UNetConfig, UNet))

PRESETS.register("imagen-base-64")(
    Preset(
        "unet",
        UNetConfig(channels=512),
        resolution=64,
        about="the paper's base model, text -> 64x64 (appendix F.1)",
    )
)
PRESETS.register("scenes-base-64")(
    Preset(
        "unet",
        UNetConfig(
            channels=80,
            multipliers=(1, 2),
            blocks=(1, 2),
            attention=(False, True),
            head_width=40,
            text_width=384,
            patch=4,
            positions=4,
        ),
        resolution=64,
        about="the base of the shipped model: folded to 16x16, so that two cores can train it",
    )
)
PRESETS.register("tiny-base-64")(
    Preset(
        "unet",
        UNetConfig(
            channels=32,
            multipliers=(1, 2),
            blocks=(1, 1),
            attention=(False, True),
            head_width=32,
            text_width=384,
            patch=8,
        ),
        resolution=64,
        about="for tests and first tries",
    )
)
