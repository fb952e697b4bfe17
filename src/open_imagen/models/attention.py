"""Attention over pixels and text."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from open_imagen.models.layers import NormAct, zeroed
from open_imagen.types import CachedText, TextEmbedding


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
    out: Tensor = scores.softmax(dim=-1).to(values.dtype) @ values
    return out


def multi_head_attention(query: Tensor, keys_values: Tensor, mask: Tensor, heads: int) -> Tensor:
    """The same of heads side by side: query [B, N, C], keys and values [B, M, 2C], mask [B, M]."""
    keys, values = split_heads(keys_values, 2 * heads).chunk(2, dim=1)
    found = attention(split_heads(query, heads), keys, values, mask[:, None, None])
    return found.transpose(1, 2).flatten(2)


class TokenGroupNorm(nn.GroupNorm):
    """GroupNorm over the channels of tokens [B, L, C] and all L of them, as DeepFloyd IF has it."""

    def __init__(self, channels: int) -> None:
        super().__init__(math.gcd(32, channels), channels)

    def forward(self, tokens: Tensor) -> Tensor:
        """Normalise tokens [B, L, C]."""
        return super().forward(tokens.transpose(1, 2)).transpose(1, 2)


class TextAttention(nn.Module):
    """Attention of every pixel over pixels and text together, over the text, or over pixels.

    Keys and values of the text join those of the image in one softmax (section 2.5). The text is
    normalised before its keys and values: by LayerNorm, as the paper found to help, or by groups.
    """

    def __init__(
        self,
        channels: int,
        text_width: int,
        head_width: int,
        over: str = "both",
        text_norm: str = "layer",
        norm: str = "groups",
        inner: int = 0,
    ) -> None:
        super().__init__()
        inner = inner or channels  # the width of queries, keys and values
        self.heads = max(1, inner // head_width)
        self.over = over
        self.norm = NormAct(channels, over=norm)
        self.query = nn.Linear(channels, inner)
        if over != "text":
            self.keys_values = nn.Linear(channels, 2 * inner)
        if over != "pixels":
            self.norm_text = (nn.LayerNorm if text_norm == "layer" else TokenGroupNorm)(text_width)
            self.text_keys_values = nn.Linear(text_width, 2 * inner)
        self.out = zeroed(nn.Linear(inner, channels))
        self.reads_text = over != "pixels"
        self.number = 0
        """Which of the network's attentions over the text this is."""

    def encode_text(self, text: TextEmbedding) -> Tensor:
        """Keys and values of the text, [B, L, 2 * inner]."""
        seen: Tensor = self.text_keys_values(self.norm_text(text.tokens))
        return seen

    def forward(self, x: Tensor, text: TextEmbedding | CachedText) -> Tensor:
        """Attend from the pixels of x [B, C, H, W] to pixels, text tokens, or both."""
        pixels = self.norm(x).flatten(2).transpose(1, 2)  # [B, HW, C]
        query = self.query(pixels)
        seen, masks = [], []
        if self.over != "pixels":
            seen.append(
                text.keys_values[self.number]
                if isinstance(text, CachedText)
                else self.encode_text(text)
            )
            masks.append(text.mask)
        if self.over != "text":
            seen.append(self.keys_values(pixels))
            masks.append(text.mask.new_ones(1, 1).expand(pixels.shape[:2]))
        keys_values, mask = torch.cat(seen, dim=1), torch.cat(masks, dim=1)
        update = self.out(self.attend(query, keys_values, mask))  # [B, HW, C]
        out: Tensor = x + update.transpose(1, 2).reshape(x.shape)
        return out

    def attend(self, query: Tensor, keys_values: Tensor, mask: Tensor) -> Tensor:
        """[B, N, C], [B, M, 2C] and [B, M] -> [B, N, C]."""
        return multi_head_attention(query, keys_values, mask, self.heads)


def number_attentions(network: nn.Module) -> list[TextAttention]:
    """Number the text attentions of a network, in the order of its modules.

    They are not found by their class: diffusers imports the module of an exported network again for
    each network that it loads, which makes another class each time.
    """
    modules: list[Any] = [m for m in network.modules() if getattr(m, "reads_text", False)]
    found: list[TextAttention] = modules
    for number, one in enumerate(found):
        one.number = number
    return found
