"""The base U-Net of the paper (ADM blocks, text in every attention), and its presets.

By its config alone it is also DeepFloyd IF's, and the plain super-resolution U-Net that the paper
compares the Efficient one with. It predicts from a noisy image, its noise level and the text; it
knows nothing of schedules, guidance or what its prediction means.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from open_imagen.errors import ConfigError, UnknownName
from open_imagen.models.attention import TextAttention, number_attentions
from open_imagen.models.layers import (
    ACTIVATIONS,
    LevelEmbedding,
    NormAct,
    Positions,
    ResBlock,
    ResBlockConfig,
    augment_embedding,
    check_image_channels,
    conv3x3,
    cropped,
    zeroed,
)
from open_imagen.models.registry import NETWORKS, PRESETS, Preset
from open_imagen.models.text_layers import PooledText, TextDenoiser, TextLayer, letter_tokens
from open_imagen.types import CachedText, LowRes, TextEmbedding

LEVELS = {"logsnr": 50.0, "step": 1.0}
"""How the network is conditioned on the noise level, and the factor to the range 0 to 1000."""
CHOICES = {
    "activation": tuple(ACTIVATIONS),
    "level": tuple(LEVELS),
    "attends": ("both", "text", "pixels"),
    "text_norm": ("layer", "group"),
    "pooling": ("attention", "class", "mean"),
}


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
    attends: str = "both"
    """What attention sees: both pixels and text, text, or pixels."""
    head_width: int = 64
    """Channels of one attention head."""
    text_width: int = 4096
    """Width of the text encoder's tokens."""
    text_projection: int = 0
    """Project the text to this width before attention; 0 leaves it as it is."""
    text_layers: int = 0
    """Trainable transformer layers over the frozen text, before all other uses of it; 0 for none,
    as in the paper."""
    text_denoiser: int = 0
    """Layers before those, which denoise embeddings of out-of-vocabulary words; they are trained
    without images (training/objectives/text_denoising.py). 0 for none, as in the paper."""
    text_denoiser_threshold: float = 0.0
    """Minimum relative change (mean squared) below which the denoised embedding is ignored."""
    text_norm: str = "layer"
    """Norm of the text in attention: layer (the paper) or group (DeepFloyd IF)."""
    pooling: str = "attention"
    """How the text becomes one vector: attention, class (DeepFloyd IF) or mean."""
    pooling_head_width: int = 64
    """Channels of one head of that pooling."""
    embedding_multiplier: int = 4
    """Width of the time embedding, in units of `channels`."""
    level: str = "logsnr"
    """The condition on the noise level: logsnr, or the timestep of a discrete schedule (DeepFloyd
    IF)."""
    activation: str = "silu"
    """silu, or gelu (DeepFloyd IF)."""
    residual_divisor: float = 1.0
    """What the sum of a residual block and its shortcut is divided by."""
    patch: int = 1
    """Fold patches of this side into channels before the first level, to save computation."""
    positions: int = 0
    """Frequencies per axis of position embeddings at the first level; 0 for none, as in the paper,
    where the network infers positions from the borders."""
    letters: int = 0
    """Letters of quoted text that the network reads, one token each (text/letters.py); 0 for none,
    as in the paper."""
    image_channels: int = 3
    """3, RGB, or 4, RGBA with premultiplied alpha."""
    out_channels: int = 0
    """0 for `image_channels`; twice as many with learned variance."""
    lowres: bool = False
    """Whether it is a super-resolution network, with the low-resolution image as input."""
    augment_labels: int = 0
    """Width of the labels of augmentation (training/augment.py), zero in sampling; 0 for networks
    without them."""
    dropout: float = 0.0
    """Dropout in the residual blocks."""

    def __post_init__(self) -> None:
        if not len(self.multipliers) == len(self.blocks) == len(self.attention):
            raise ConfigError(
                "multipliers, blocks and attention must have one entry per level, not "
                f"{len(self.multipliers)}, {len(self.blocks)} and {len(self.attention)}."
            )
        for setting, known in CHOICES.items():
            if getattr(self, setting) not in known:
                raise UnknownName(setting, getattr(self, setting), known)
        check_image_channels(self.image_channels)
        if self.out_channels not in (0, self.image_channels, 2 * self.image_channels):
            raise ConfigError(
                f"out_channels = {self.out_channels} must be {self.image_channels}, or "
                f"{2 * self.image_channels} with learned variance: image_channels = "
                f"{self.image_channels}."
            )

    @property
    def learned_variance(self) -> bool:
        """Whether the network also predicts the variance of each pixel."""
        return self.out_channels == 2 * self.image_channels

    @property
    def widths(self) -> list[int]:
        """Channels at each resolution."""
        return [self.channels * multiplier for multiplier in self.multipliers]

    @property
    def divisor(self) -> int:
        """The side of an image must be a multiple of this."""
        return int(self.patch * 2 ** (len(self.multipliers) - 1))


class UNet(nn.Module):
    """Saharia et al. 2022, section 2.5 and appendix F.1. [B, C, H, W] -> [B, out, H, W]."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        D, parts = config.channels, UNetParts(config)
        embedding = D * config.embedding_multiplier
        self.act = ACTIVATIONS[config.activation]
        self.level = parts.level_embedding()
        self.letters = letter_tokens(config.letters, config.text_width)
        denoiser, layers = (
            [TextLayer(config.text_width) for _ in range(number)]
            for number in (config.text_denoiser, config.text_layers)
        )
        self.text_denoiser = TextDenoiser(denoiser, config.text_denoiser_threshold)
        self.text_layers = nn.ModuleList(layers)
        self.pooled_text = PooledText(
            config.text_width, embedding, config.pooling, config.pooling_head_width
        )
        self.project_text = parts.text_projection()
        inputs = config.image_channels * (2 if config.lowres else 1) * config.patch**2
        if config.lowres:
            self.lowres_level = parts.level_embedding()
        self.augment = augment_embedding(config.augment_labels, embedding)
        self.stem = conv3x3(inputs, D)
        self.positions = Positions(config.positions, D) if config.positions else None
        self.down, skips = parts.down()
        self.middle = parts.middle()
        self.up, width = parts.up(skips)
        outputs = config.out_channels or config.image_channels
        self.norm = NormAct(width, config.activation)
        self.head = zeroed(conv3x3(width, outputs * config.patch**2))
        number_attentions(self)

    def _conditions(self, text: TextEmbedding) -> tuple[TextEmbedding, Tensor]:
        """The text as attention sees it, and as one vector."""
        text = self.letters(self.text_denoiser(text))
        for layer in self.text_layers:
            text = layer(text)
        pooled = self.pooled_text(text)
        return TextEmbedding(self.project_text(text.tokens), text.mask), pooled

    def encode_text(self, text: TextEmbedding) -> CachedText:
        """The parts that depend on the text alone, computed once for all steps."""
        text, pooled = self._conditions(text)
        seen = tuple(one.encode_text(text) for one in number_attentions(self))
        return CachedText(pooled, text.mask, seen)

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
            text, pooled = self._conditions(text)
        embedding = self.level(level) + pooled
        if lowres is not None:
            embedding = embedding + self.lowres_level(lowres.level)
            z = torch.cat([z, lowres.image], dim=1)
        if self.augment is not None and augment_labels is not None:
            embedding = embedding + self.augment(augment_labels)
        embedding = self.act(embedding)

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
            skip = skips.pop()
            h = step(torch.cat([cropped(h, skip), skip], dim=1), embedding, text)
        h = self.head(self.norm(h))
        return F.pixel_shuffle(h, self.config.patch)


class Step(nn.Module):
    """A residual block, the attention that may follow it, and a last block that may resample."""

    def __init__(self, block: ResBlock, attention: nn.Module | None = None) -> None:
        super().__init__()
        self.block = block
        self.attention = attention
        self.after: ResBlock | None = None

    def forward(self, x: Tensor, embedding: Tensor, text: TextEmbedding | CachedText) -> Tensor:
        """Residual block, then attention over pixels and text, where the level has them."""
        x = self.block(x, embedding)
        if self.attention is not None:
            x = self.attention(x, text)
        if self.after is not None:
            x = self.after(x, embedding)
        return x


class UNetParts:
    """Builds the levels of a U-Net of one config."""

    def __init__(self, config: UNetConfig) -> None:
        self.config, self.widths = config, config.widths
        self.embedding = config.channels * config.embedding_multiplier
        self.shared = ResBlockConfig(
            embedding=self.embedding,
            dropout=config.dropout,
            activation=config.activation,
            divide=config.residual_divisor,
        )

    def level_embedding(self) -> LevelEmbedding:
        """Of the image's noise level, or of the low-resolution image's."""
        config = self.config
        scale = LEVELS[config.level]
        return LevelEmbedding(config.channels, self.embedding, scale, config.activation)

    def text_projection(self) -> nn.Module:
        """From the encoder's width to that of attention."""
        config = self.config
        if not config.text_projection:
            return nn.Identity()
        return nn.Linear(config.text_width, config.text_projection)

    def attention(self, level: int) -> nn.Module | None:
        """What follows a level's residual blocks, if anything does."""
        config = self.config
        if not config.attention[level]:
            return None
        text_width = config.text_projection or config.text_width
        return TextAttention(
            *(self.widths[level], text_width, config.head_width, config.attends, config.text_norm)
        )

    def down(self) -> tuple[nn.ModuleList, list[int]]:
        """The way down, and the width of every skip, in the order in which they are made."""
        skips = [self.config.channels]
        steps = nn.ModuleList()
        for level, width in enumerate(self.widths):
            for _ in range(self.config.blocks[level]):
                block = ResBlock(skips[-1], width, self.shared)
                steps.append(Step(block, self.attention(level)))
                skips.append(width)
            if level < len(self.widths) - 1:
                steps.append(Step(ResBlock(width, width, self.shared, "down")))
                skips.append(width)
        return steps, skips

    def middle(self) -> nn.ModuleList:
        """Two blocks at the lowest resolution, attention between them."""
        width, last = self.widths[-1], len(self.widths) - 1
        first = Step(ResBlock(width, width, self.shared), self.attention(last))
        return nn.ModuleList([first, Step(ResBlock(width, width, self.shared))])

    def up(self, skips: list[int]) -> tuple[nn.ModuleList, int]:
        """The way up, which takes the skips from the last to the first, and its final width."""
        steps, width = nn.ModuleList(), self.widths[-1]
        for level in reversed(range(len(self.widths))):
            for i in range(self.config.blocks[level] + 1):
                block = ResBlock(width + skips.pop(), self.widths[level], self.shared)
                step = Step(block, self.attention(level))
                width = self.widths[level]
                if level and i == self.config.blocks[level]:
                    step.after = ResBlock(width, width, self.shared, "up")
                steps.append(step)
        return steps, width


NETWORKS.register("unet")((UNetConfig, UNet))

PRESETS.register("imagen-base-64")(
    Preset(
        "unet",
        UNetConfig(channels=512),
        resolution=64,
        about="the paper's base model, text -> 64x64 (appendix F.1)",
    )
)
for _size, _channels, _blocks in (
    ("300m", 128, (4, 4, 4, 4)),
    ("500m", 192, (3, 3, 3, 4)),
    ("1b", 320, (3, 3, 3, 3)),
):
    PRESETS.register(f"imagen-base-64-{_size}")(
        Preset(
            "unet",
            UNetConfig(channels=_channels, blocks=_blocks),
            resolution=64,
            about="a smaller base for the paper's comparison of sizes (appendix D.3); it gives no "
            "widths, these come near its size with heads of 64 channels",
        )
    )
PRESETS.register("imagen-sr-256-unet")(
    Preset(
        "unet",
        UNetConfig(
            channels=128,
            multipliers=(1, 2, 4, 8),
            attention=(False, False, False, True),
            lowres=True,
        ),
        resolution=256,
        about="a plain U-Net of about imagen-sr-256's size, to compare the Efficient one with "
        "(appendix B.1)",
    )
)
PRESETS.register("small-base-64")(
    Preset(
        "unet",
        UNetConfig(
            channels=80,
            multipliers=(1, 2),
            blocks=(1, 2),
            attention=(False, True),
            head_width=40,
            text_width=384,
            text_layers=1,
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
