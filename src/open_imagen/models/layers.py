"""Blocks shared by two or more U-Nets, and nothing else.

Feature maps are [B, C, H, W]; the embedding of noise level and pooled text is [B, D].
"""

import math
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from open_imagen.types import TextEmbedding

M = TypeVar("M", bound=nn.Module)


def group_norm(channels: int) -> nn.GroupNorm:
    """GroupNorm with the usual 32 groups, or with as many as divide the width."""
    return nn.GroupNorm(math.gcd(32, channels), channels)


def zeroed(layer: M) -> M:
    """The same layer with zero weights, so that its branch starts as nothing."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


def conv3x3(inside: int, outside: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inside, outside, 3, stride=stride, padding=1)


class LevelEmbedding(nn.Module):
    """Noise level (log-SNR) -> vector: sinusoids, then two linear layers. [B] -> [B, D]."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.width = width
        self.mlp = nn.Sequential(nn.Linear(width, out), nn.SiLU(), nn.Linear(out, out))

    def forward(self, logsnr: Tensor) -> Tensor:
        # Log-SNR lives in about [-15, 15]; times 50 it spans what step numbers 0..1000 span,
        # for which these frequencies were made.
        half = self.width // 2
        exponents = torch.arange(half, device=logsnr.device, dtype=torch.float32) / half
        angles = 50 * logsnr.float()[:, None] * torch.exp(-math.log(10_000) * exponents)
        out: Tensor = self.mlp(torch.cat([angles.cos(), angles.sin()], dim=1))
        return out


class PooledText(nn.Module):
    """Attention-pooled text as one vector, added to the time embedding (section 2.5).

    The query is the mean token plus a learned offset; LayerNorm before and after.
    [B, L, C], [B, L] -> [B, D].
    """

    def __init__(self, width: int, out: int, head_width: int = 64) -> None:
        super().__init__()
        self.heads = max(1, width // head_width)
        self.norm_in = nn.LayerNorm(width)
        self.offset = nn.Parameter(torch.zeros(width))
        self.query = nn.Linear(width, width)
        self.keys_values = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, out)
        self.norm_out = nn.LayerNorm(out)

    def forward(self, text: TextEmbedding) -> Tensor:
        tokens = self.norm_in(text.tokens)
        visible = text.mask[..., None].to(tokens.dtype)
        mean = (tokens * visible).sum(1) / visible.sum(1).clamp(min=1)
        query = split_heads(self.query(mean + self.offset)[:, None], self.heads)
        keys, values = split_heads(self.keys_values(tokens), 2 * self.heads).chunk(2, dim=1)
        pooled = attention(query, keys, values, text.mask[:, None, None])
        out: Tensor = self.norm_out(self.out(pooled.transpose(1, 2).flatten(1)))
        return out


def split_heads(x: Tensor, heads: int) -> Tensor:
    """[B, N, C] -> [B, heads, N, C / heads]."""
    return x.reshape(x.shape[0], x.shape[1], heads, -1).transpose(1, 2)


def attention(query: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
    """softmax(q k / sqrt d) v over the keys that are not masked. [B, heads, N, d] -> the same.

    Written out for small maps on a CPU, where the gradient of torch's fused form is several times
    slower than this.
    """
    if query.device.type != "cpu" or query.shape[2] * keys.shape[2] > 2**14:
        return F.scaled_dot_product_attention(query, keys, values, mask)
    scores = (query * query.shape[-1] ** -0.5) @ keys.transpose(2, 3)
    scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    return scores.softmax(dim=-1).to(values.dtype) @ values


class Positions(nn.Module):
    """Where a pixel lies: sines and cosines of its place, times learned weights, [1, D, H, W].

    Sides run from 0 to 1 whatever their length. Starts as nothing.
    """

    def __init__(self, bands: int, out: int) -> None:
        super().__init__()
        self.bands = bands
        self.out = zeroed(nn.Conv2d(4 * bands, out, 1))

    def forward(self, height: int, width: int) -> Tensor:
        waves = math.pi * torch.arange(1, self.bands + 1, device=self.out.weight.device)

        def along(side: int) -> Tensor:
            angles = waves[:, None] * (torch.arange(side, device=waves.device) + 0.5) / side
            return torch.cat([angles.sin(), angles.cos()])  # [2 bands, side]

        down, across = along(height)[:, :, None], along(width)[:, None, :]
        features = torch.cat([down.expand(-1, -1, width), across.expand(-1, height, -1)])
        out: Tensor = self.out(features[None].to(self.out.weight.dtype))
        return out


class TextAttention(nn.Module):
    """Attention of every pixel over the text, and over all pixels unless ``only_text``.

    Keys and values of the text join those of the image in one softmax (section 2.5). LayerNorm
    on the text comes before its keys and values.
    """

    def __init__(
        self, channels: int, text_width: int, head_width: int, only_text: bool = False
    ) -> None:
        super().__init__()
        self.heads = max(1, channels // head_width)
        self.norm = group_norm(channels)
        self.only_text = only_text
        self.query = nn.Linear(channels, channels)
        if not only_text:
            self.keys_values = nn.Linear(channels, 2 * channels)
        self.norm_text = nn.LayerNorm(text_width)
        self.text_keys_values = nn.Linear(text_width, 2 * channels)
        self.out = zeroed(nn.Linear(channels, channels))

    def forward(self, x: Tensor, text: TextEmbedding) -> Tensor:
        pixels = self.norm(x).flatten(2).transpose(1, 2)  # [B, HW, C]
        query = split_heads(self.query(pixels), self.heads)
        joined = split_heads(self.text_keys_values(self.norm_text(text.tokens)), 2 * self.heads)
        mask = text.mask
        if not self.only_text:
            own = split_heads(self.keys_values(pixels), 2 * self.heads)
            joined = torch.cat([joined, own], dim=2)
            mask = F.pad(mask, (0, pixels.shape[1]), value=True)
        keys, values = joined.chunk(2, dim=1)
        found = attention(query, keys, values, mask[:, None, None])
        update = self.out(found.transpose(1, 2).flatten(2))  # [B, HW, C]
        out: Tensor = x + update.transpose(1, 2).reshape(x.shape)
        return out


class ResBlock(nn.Module):
    """BigGAN residual block with scale-shift norm; ``resample`` doubles or halves the side.

    norm, SiLU, [resample], conv, norm * (1 + scale) + shift, SiLU, conv; plus the shortcut.
    """

    def __init__(
        self,
        inside: int,
        outside: int,
        embedding: int,
        resample: str = "",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.resample = resample
        self.norm_in = group_norm(inside)
        self.conv_in = conv3x3(inside, outside)
        self.scale_shift = nn.Linear(embedding, 2 * outside)
        self.norm_out = group_norm(outside)
        self.dropout = nn.Dropout(dropout)
        self.conv_out = zeroed(conv3x3(outside, outside))
        self.shortcut = nn.Conv2d(inside, outside, 1) if inside != outside else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        h = F.silu(self.norm_in(x))
        if self.resample:
            h, x = resampled(h, self.resample), resampled(x, self.resample)
        h = self.conv_in(h)
        scale, shift = self.scale_shift(F.silu(embedding))[..., None, None].chunk(2, dim=1)
        h = self.norm_out(h) * (1 + scale) + shift
        h = self.conv_out(self.dropout(F.silu(h)))
        out: Tensor = self.shortcut(x) + h
        return out


def resampled(x: Tensor, how: str) -> Tensor:
    """Halve the side by averaging ("down") or double it by repeating ("up")."""
    if how == "down":
        return F.avg_pool2d(x, 2)
    return F.interpolate(x, scale_factor=2.0, mode="nearest")
