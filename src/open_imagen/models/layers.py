"""Blocks shared by two or more U-Nets, and nothing else.

Feature maps are [B, C, H, W]; the embedding of noise level and pooled text is [B, D].
"""

import math
from collections.abc import Callable, Iterable
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from open_imagen.errors import ConfigError
from open_imagen.types import NUM_LETTERS, CachedText, TextEmbedding

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
        """[B, C, H, W] -> the same. ``scale_shift``: [B, 2C], in this order."""
        if self.over == "pixel":
            last = x.permute(0, 2, 3, 1)
            normed = F.layer_norm(last, last.shape[-1:], self.weight, self.bias, self.eps)
            x = normed.permute(0, 3, 1, 2)
        else:
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
    """The same 1x1 convolution, whose result is at first its input: torch's own random weights
    would weaken by a thousand what goes through a dozen of them."""
    width = conv.weight.shape[0]
    conv.weight.copy_(torch.eye(width).view(width, width, 1, 1))
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return conv


def conv3x3(inside: int, outside: int, stride: int = 1) -> Conv:
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
        half = self.width // 2
        exponents = torch.arange(half, device=level.device, dtype=torch.float32) / half
        angles = self.scale * level.float()[:, None] * torch.exp(-math.log(10_000) * exponents)
        first, last = self.mlp["0"], self.mlp["2"]
        waves = torch.cat([angles.cos(), angles.sin()], dim=1).to(next(self.parameters()).dtype)
        out: Tensor = last(self.act(first(waves)))
        return out


def augment_embedding(labels: int, out: int) -> nn.Linear | None:
    """The transforms of a training image, [B, labels] -> [B, out]; without any it adds nothing,
    and at first it never does. None for networks that are not told."""
    return zeroed(nn.Linear(labels, out, bias=False)) if labels else None


class PooledText(nn.Module):
    """The text as one vector, added to the time embedding (section 2.5). [B, L, C] -> [B, D].

    ``how`` it is pooled, with LayerNorm before and after:
    attention   over the tokens; the query is the mean token plus a learned offset
    class       the same, with that mean token among the keys (DeepFloyd IF)
    mean        the mean token itself (the paper's ablation, appendix D.3.1)
    """

    def __init__(self, width: int, out: int, how: str = "attention", head_width: int = 64) -> None:
        super().__init__()
        self.how = how
        self.heads = max(1, width // head_width)
        self.norm_in = nn.LayerNorm(width)
        if how != "mean":
            self.offset = nn.Parameter(torch.zeros(width))
            self.query = nn.Linear(width, width)
            self.keys_values = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, out)
        self.norm_out = nn.LayerNorm(out)

    def forward(self, text: TextEmbedding) -> Tensor:
        tokens, mask = self.norm_in(text.tokens), text.mask
        pooled = TextEmbedding(tokens, mask).mean()
        if self.how != "mean":
            asking = (pooled + self.offset)[:, None]
            if self.how == "class":
                tokens, mask = torch.cat([asking, tokens], dim=1), F.pad(mask, (1, 0), value=True)
            query = split_heads(self.query(asking), self.heads)
            keys, values = split_heads(self.keys_values(tokens), 2 * self.heads).chunk(2, dim=1)
            found = attention(query, keys, values, mask[:, None, None])
            pooled = found.transpose(1, 2).flatten(1)
        out: Tensor = self.norm_out(self.out(pooled))
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
    out: Tensor = scores.softmax(dim=-1).to(values.dtype) @ values
    return out


def multi_head_attention(query: Tensor, keys_values: Tensor, mask: Tensor, heads: int) -> Tensor:
    """The same of heads side by side: query [B, N, C], keys and values [B, M, 2C], mask [B, M]."""
    keys, values = split_heads(keys_values, 2 * heads).chunk(2, dim=1)
    found = attention(split_heads(query, heads), keys, values, mask[:, None, None])
    return found.transpose(1, 2).flatten(2)


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


class TokenGroupNorm(nn.GroupNorm):
    """GroupNorm over the channels of tokens [B, L, C] and all L of them, as DeepFloyd IF has it."""

    def __init__(self, channels: int) -> None:
        super().__init__(math.gcd(32, channels), channels)

    def forward(self, tokens: Tensor) -> Tensor:
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
        self.number = 0
        """Which of the network's attentions over the text this is."""

    def encode_text(self, text: TextEmbedding) -> Tensor:
        """Keys and values of the text, [B, L, 2 * inner]."""
        seen: Tensor = self.text_keys_values(self.norm_text(text.tokens))
        return seen

    def forward(self, x: Tensor, text: TextEmbedding | CachedText) -> Tensor:
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
    """The attentions of a network that look at the text, each told its number."""
    found = [m for m in network.modules() if isinstance(m, TextAttention) and m.over != "pixels"]
    for number, one in enumerate(found):
        one.number = number
    return found


class TextLayer(nn.Module):
    """One layer of a transformer over the text: attention among its tokens, then an MLP.

    Starts as nothing. [B, L, C] and mask -> the same; what is masked stays unseen.
    """

    def __init__(self, width: int, head_width: int = 64) -> None:
        super().__init__()
        self.heads = max(1, width // head_width)
        self.norm = nn.LayerNorm(width)
        self.query_keys_values = nn.Linear(width, 3 * width)
        self.out = zeroed(nn.Linear(width, width))
        self.norm_mlp = nn.LayerNorm(width)
        self.mlp = nn.ModuleDict({"in": nn.Linear(width, 4 * width)})
        self.mlp["out"] = zeroed(nn.Linear(4 * width, width))

    def forward(self, text: TextEmbedding) -> TextEmbedding:
        tokens, mask = text.tokens, text.mask
        joined = split_heads(self.query_keys_values(self.norm(tokens)), 3 * self.heads)
        query, keys, values = joined.chunk(3, dim=1)
        found = attention(query, keys, values, mask[:, None, None])
        tokens = tokens + self.out(found.transpose(1, 2).flatten(2))
        tokens = tokens + self.mlp["out"](F.gelu(self.mlp["in"](self.norm_mlp(tokens))))
        return TextEmbedding(tokens, mask)


class LetterTokens(nn.Module):
    """One token a letter of quoted text, after the encoder's tokens (text/letters.py).

    A token is a learned vector of the letter plus one of its position. [B, L, C] and letters
    [B, K] -> [B, L + length, C]; positions without a letter are masked.
    """

    def __init__(self, length: int, width: int) -> None:
        super().__init__()
        self.length = length
        self.letter = nn.Embedding(NUM_LETTERS, width)
        self.position = nn.Embedding(length, width)

    def forward(self, text: TextEmbedding) -> TextEmbedding:
        tokens, mask, letters = text
        if letters is None:
            letters = mask.new_zeros((len(mask), self.length), dtype=torch.int64)
        letters = letters[:, : self.length]
        letters = F.pad(letters, (0, self.length - letters.shape[1]))
        found = (self.letter(letters) + self.position.weight).to(tokens.dtype)
        there = letters > 0
        tokens = torch.cat([tokens, found * there[..., None]], dim=1)
        return TextEmbedding(tokens, torch.cat([mask, there], dim=1))


def letter_tokens(length: int, width: int) -> nn.Module:
    """Letter tokens, or nothing for a network that reads no letters."""
    return LetterTokens(length, width) if length else nn.Identity()


def check_image_channels(channels: int) -> None:
    """Raises ConfigError unless images have 3 channels, or 4 with alpha."""
    if channels not in (3, 4):
        raise ConfigError(
            f"image_channels = {channels} must be 3 (RGB) or 4 (RGBA, premultiplied)."
        )


class TextDenoiser(nn.ModuleList):
    """Layers that denoise embeddings of captions with out-of-vocabulary words.

    Where the relative change of a caption (mean squared) is below ``threshold``, it has no such
    word, and its embedding is left as it is.
    """

    def __init__(self, layers: Iterable[TextLayer], threshold: float = 0.0) -> None:
        super().__init__(layers)
        self.threshold = threshold

    def forward(self, text: TextEmbedding) -> TextEmbedding:
        if not len(self):
            return text
        found = text
        for layer in self:
            found = layer(found)
        change = TextEmbedding(found.tokens - text.tokens, text.mask)
        changed = (change.mean_square() > self.threshold * text.mean_square())[:, None, None]
        return text._replace(tokens=torch.where(changed, found.tokens, text.tokens))


class ResBlock(nn.Module):
    """BigGAN residual block with scale-shift norm; ``resample`` doubles or halves the side.

    norm, act, [resample], conv, norm * (1 + scale) + shift, act, conv; plus the shortcut, and the
    sum divided by ``divide``. The shortcut is a 1x1 convolution where the width changes, or always.
    The embedding comes with its activation already applied.
    """

    def __init__(
        self,
        inside: int,
        outside: int,
        embedding: int,
        resample: str = "",
        dropout: float = 0.0,
        activation: str = "silu",
        divide: float = 1.0,
        norm: str = "groups",
        conv_shortcut: bool = False,
    ) -> None:
        super().__init__()
        self.resample, self.divide = resample, divide
        self.norm_in = NormAct(inside, activation, norm)
        self.conv_in = conv3x3(inside, outside)
        self.scale_shift = nn.Linear(embedding, 2 * outside)
        self.norm_out = NormAct(outside, activation, norm)
        self.dropout = nn.Dropout(dropout)
        self.conv_out = zeroed(conv3x3(outside, outside))
        self.shortcut: nn.Module = nn.Identity()
        if inside != outside:
            self.shortcut = Conv(inside, outside, 1)
        elif conv_shortcut:
            self.shortcut = identity(Conv(inside, outside, 1))

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
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
    """x without the row or column that doubling a side added to an odd one."""
    return x[..., : like.shape[2], : like.shape[3]] if x.shape[2:] != like.shape[2:] else x


def resampled(x: Tensor, how: str) -> Tensor:
    """Halve the side by averaging ("down") or double it by repeating ("up").

    An odd side is halved upwards, the last row or column an average of what there is.
    """
    if how == "down":
        return F.avg_pool2d(x, 2, ceil_mode=True, count_include_pad=False)
    return F.interpolate(x, scale_factor=2.0, mode="nearest")
