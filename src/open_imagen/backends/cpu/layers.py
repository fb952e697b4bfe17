"""Layers of models/layers.py with the CPU kernels: same parameters, same outputs, faster.

`replace_class` gives a layer one of these classes in place of its own, `restore_class` takes it
back. Nothing else changes: the layer is the same object, with the same parameters and names.
"""

from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from open_imagen.backends.cpu import operators
from open_imagen.devices import has_bf16
from open_imagen.models.attention import TextAttention
from open_imagen.models.layers import Conv, NormAct

MIN_CHANNELS = {torch.float32: 32, torch.bfloat16: 64}
"""Channels below which a convolution gains nothing from Winograd or split-bfloat16."""
MAX_WINOGRAD_WEIGHTS = 2**23
"""Weights beyond which Winograd's, four times as large, would take too much memory."""
MIN_TILES = 16
"""Winograd tiles of a map below which a convolution gains nothing."""
MIN_TILES_TRAINING = 64
"""The same in training, where weights are transformed at every step."""


class SplitMap(NamedTuple):
    """A float32 map [B, C, H, W] in two bfloat16 parts, high + low.

    high       [B, C, H, W]
    stacked    [B, 3C, H, W]: high, low, high
    """

    high: Tensor
    stacked: Tensor


class PackedWeight:
    """Weights of a convolution, packed by oneDNN for maps of one shape, the latest."""

    def __init__(self, weight: Tensor, conv: Conv) -> None:
        self.weight = weight.contiguous(memory_format=torch.channels_last)
        self.geometry = (list(conv.padding), list(conv.stride), [1, 1], 1)
        """Padding, stride, dilation, groups."""
        self.shape: tuple[int, ...] = ()
        self.packed = weight

    def of(self, x: Tensor) -> Tensor:
        """The packed weight for inputs of this shape; packed again where the shape is new."""
        if tuple(x.shape) != self.shape:
            self.shape = tuple(x.shape)
            reorder = torch.ops.mkldnn._reorder_convolution_weight
            self.packed = reorder(self.weight, *self.geometry, list(self.shape))
        return self.packed


class PackedConv2d(Conv):
    """A convolution whose weights are not packed anew at every call."""

    state: ClassVar[tuple[str, ...]] = ("packed",)
    packed: PackedWeight

    def prepare(self) -> None:
        """Pack the weights as oneDNN wants them."""
        self.packed = PackedWeight(self.weight.detach(), self)

    def forward(self, x: Any, residual: Tensor | None = None, divisor: float = 1.0) -> Tensor:
        """Convolve [B, C, H, W]; add ``residual`` and divide by ``divisor`` if given."""
        if torch.is_grad_enabled():
            return super().forward(x, residual, divisor)
        return self.packed_forward(x, residual, divisor)

    def packed_forward(self, x: Tensor, residual: Tensor | None, divisor: float) -> Tensor:
        """The forward pass with packed weights, without gradients."""
        x = x.contiguous(memory_format=torch.channels_last)
        convolve = torch.ops.mkldnn._convolution_pointwise
        packed, geometry = self.packed.of(x), self.packed.geometry
        out: Tensor
        if residual is None:
            out = convolve(x, packed, self.bias, *geometry, "none", [], "")
        else:
            residual = residual.contiguous(memory_format=torch.channels_last)
            given = (x, residual, packed, self.bias, *geometry)
            out = convolve.binary(*given, "add", 1.0, None, [], None)
        return out if divisor == 1 else out / divisor


class WinogradConv2d(PackedConv2d):
    """A 3x3 convolution by Winograd's F(4x4, 3x3), on maps of enough tiles.

    Products are float32 also in bfloat16, where it gains nevertheless: AVX-512 multiplies bfloat16
    less than four times as fast.
    """

    state: ClassVar[tuple[str, ...]] = ("packed", "float32_bias", "transformed")
    float32_bias: Tensor
    transformed: Tensor | None

    def prepare(self) -> None:
        """Pack the weights; their Winograd transform waits for the first large input."""
        super().prepare()
        assert self.bias is not None  # a Conv always has one
        self.float32_bias, self.transformed = self.bias.detach().float(), None

    def packed_forward(self, x: Tensor, residual: Tensor | None, divisor: float) -> Tensor:
        """The forward pass by Winograd F(4x4, 3x3), or by oneDNN for images of few tiles."""
        if operators.number_of_tiles(x) < MIN_TILES:
            return super().packed_forward(x, residual, divisor)
        weight = self.weight.detach()
        if self.transformed is None:
            self.transformed = operators.winograd_transform_weights(weight, False)
        return operators.winograd_conv2d(
            x, weight, self.float32_bias, residual, 1 / divisor, self.transformed, False
        )


class SplitBfloat16Conv2d(Conv):
    """A float32 convolution by AMX, which multiplies bfloat16: split-bfloat16 (bf16x3).

    With x = h + l and w = H + L in two parts each, of 8 bits, conv(x, w) is hH and a rest,
    hH + lH + hL - hH. oneDNN sums in float32, but rounds what it puts out to bfloat16: the first hH
    loses its lower bits, and the rest, computed after it, holds them, and is small. lL is left out.
    What is lost at both is some 2^-17 of the result, against 2^-24 in float32.
    """

    state: ClassVar[tuple[str, ...]] = ("high", "stacked")
    high: PackedWeight
    stacked: PackedWeight

    def prepare(self) -> None:
        """Split the weights into a bfloat16 pair, high and low, and pack both."""
        weight = self.weight.detach()
        high = weight.bfloat16()
        low = (weight - high).bfloat16()
        self.high = PackedWeight(high, self)
        self.stacked = PackedWeight(torch.cat([high, high, low], dim=1), self)

    def forward(self, x: Any, residual: Tensor | None = None, divisor: float = 1.0) -> Tensor:
        """(residual + conv(x)) / divisor, of what a `FusedNormAct` gave or any map."""
        if torch.is_grad_enabled():
            return super().forward(x, residual, divisor)
        assert self.bias is not None  # a Conv always has one
        high, stacked = x if isinstance(x, SplitMap) else operators.bfloat16_split(x)
        convolve, geometry = torch.ops.mkldnn._convolution_pointwise, self.high.geometry
        first = convolve(high, self.high.of(high), None, *geometry, "none", [], "")
        given = (stacked, first, self.stacked.of(stacked), None, *geometry)
        rest = convolve.binary(*given, "sub", 1.0, None, [], None)
        bias = self.bias.detach()
        return operators.bfloat16_merge(first, rest, bias, residual, 1 / divisor)


class FusedNormAct(NormAct):
    """A norm, its scale and shift, and its activation in one pass over the map."""

    state: ClassVar[tuple[str, ...]] = ("float32_affine", "splits")
    float32_affine: tuple[Tensor, Tensor]
    """Weight and bias in float32."""
    splits: bool
    """Whether the output is a `SplitMap`, for a `SplitBfloat16Conv2d`."""

    def prepare(self) -> None:
        """Keep the affine parameters in float32."""
        self.float32_affine = self.weight.detach().float(), self.bias.detach().float()
        self.splits = False

    def forward(self, x: Tensor, scale_shift: Tensor | None = None) -> Any:
        """Normalise, scale, shift and activate [B, C, H, W] in one pass."""
        if torch.is_grad_enabled():
            return super().forward(x, scale_shift)
        groups = self.num_groups if self.over == "groups" else operators.PER_PIXEL
        given = (x, groups, self.eps, *self.float32_affine, self.activation, scale_shift)
        return (
            SplitMap(*operators.norm_act_split(*given))
            if self.splits
            else operators.norm_act(*given)
        )


class FusedAttention(TextAttention):
    """Attention by AMX or SIMD."""

    state: ClassVar[tuple[str, ...]] = ()

    def prepare(self) -> None:
        """Nothing to prepare: attention has no weights of its own here."""
        pass

    def attend(self, query: Tensor, keys_values: Tensor, mask: Tensor) -> Tensor:
        """Attention without a matrix of scores in memory; see `operators.attention`."""
        if torch.is_grad_enabled():
            return super().attend(query, keys_values, mask)
        return operators.attention(query, keys_values, mask, self.heads)


class TrainableWinogradConv2d(Conv):
    """The same convolution with gradients, in float32, on maps of enough tiles."""

    state: ClassVar[tuple[str, ...]] = ()

    def prepare(self) -> None:
        """Nothing to prepare: weights change at every training step."""
        pass

    def convolve(self, x: Tensor) -> Tensor:
        """Convolve by Winograd F(4x4, 3x3) where the input is large enough, float32."""
        enough = is_float32(x, self.weight) and operators.number_of_tiles(x) >= MIN_TILES_TRAINING
        if not enough:
            return super().convolve(x)
        return operators.winograd_conv2d(x, self.weight, self.bias, None, 1.0, None, False)


class TrainableFusedAttention(TextAttention):
    """Attention with gradients, in float32; scores are computed again for them."""

    state: ClassVar[tuple[str, ...]] = ()

    def prepare(self) -> None:
        """Nothing to prepare: attention has no weights of its own here."""
        pass

    def attend(self, query: Tensor, keys_values: Tensor, mask: Tensor) -> Tensor:
        """Fused attention with gradients, float32."""
        if not is_float32(query, keys_values):
            return super().attend(query, keys_values, mask)
        return operators.attention(query, keys_values, mask, self.heads)


def is_float32(*tensors: Tensor) -> bool:
    """Whether what is computed from these is float32."""
    return all(one.dtype == torch.float32 for one in tensors) and not torch.is_autocast_enabled(
        "cpu"
    )


def replace_class(layer: nn.Module, accelerated: type[Any]) -> None:
    """Give a layer a faster class of the same kind."""
    original = type(layer)
    layer.__dict__["original_class"] = original
    layer.__class__ = combined_class(accelerated, original)
    layer.prepare()  # type: ignore[operator]


def combined_class(accelerated: type[Any], original: type[Any]) -> type[Any]:
    """The faster class, joined with one that was made for this layer alone (parametrizations)."""
    if issubclass(accelerated, original):
        return accelerated
    return type(f"{accelerated.__name__}{original.__name__}", (accelerated, original), {})


def restore_class(layer: nn.Module) -> None:
    """Take back what `replace_class` did, if it did."""
    original = layer.__dict__.pop("original_class", None)
    if original is not None:
        for name in type(layer).state:  # type: ignore[attr-defined]
            layer.__dict__.pop(name, None)
        layer.__class__ = original


def can_pack(dtype: torch.dtype) -> bool:
    """Whether oneDNN packs weights of this dtype here.

    bfloat16 is packed only where the CPU computes with it.
    """
    names = ("_reorder_convolution_weight", "_convolution_pointwise")
    there = all(hasattr(torch.ops.mkldnn, name) for name in names)
    return there and (dtype != torch.bfloat16 or has_bf16(torch.device("cpu")))


def has_amx() -> bool:
    """Whether this CPU multiplies bfloat16 matrices by AMX, many times as fast as float32."""
    supported: Callable[[], bool] | None = getattr(torch.cpu, "_is_amx_tile_supported", None)
    return supported is not None and supported()


def gains_by_split(conv: Conv) -> bool:
    """Whether a convolution is faster in split-bfloat16."""
    return conv.weight.dtype == torch.float32 and is_wide(conv) and has_amx()


def gains_by_winograd(conv: Conv) -> bool:
    """Whether a convolution is faster by Winograd, on maps of enough tiles."""
    return fits_winograd(conv) and is_wide(conv) and not has_amx()


def fits_winograd(conv: Conv) -> bool:
    """Whether Winograd can compute a convolution, and memory allows it."""
    plain = conv.kernel_size == (3, 3) and conv.stride == (1, 1)
    return plain and conv.weight.numel() <= MAX_WINOGRAD_WEIGHTS


def is_wide(conv: Conv) -> bool:
    """Whether a convolution has enough channels, for one of its dtype."""
    least = MIN_CHANNELS.get(conv.weight.dtype)
    return least is not None and min(conv.in_channels, conv.out_channels) >= least


def has_attention(layer: TextAttention) -> bool:
    """Whether there is an attention kernel for this layer's dtype, and it may be used."""
    kind = operators.attention_kind(layer.query.weight.dtype)
    if kind == operators.ATTENTION_AMX:
        request: Callable[[], bool] | None = getattr(torch.cpu, "_init_amx", None)
        return has_amx() and request is not None and request()  # the system's permission
    return bool(kind)
