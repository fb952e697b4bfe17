"""A network made quicker where it runs or learns, its weights and its meaning unchanged.

On a CPU: norms in one pass each (kernels.py), and convolutions with packed weights; those in
float32, and attention, on bfloat16 matrix units, if it has them; if not, those of 3x3 in tiles, and
attention on vectors. On a GPU: compiled, and its calls recorded (CUDA graphs). Learning on a CPU in
float32: convolutions of 3x3 in tiles and attention, with their gradients.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
import torch.utils._pytree as pytree
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from open_imagen.devices import has_bf16
from open_imagen.models import kernels
from open_imagen.models.experts import Experts
from open_imagen.models.kernels import Split
from open_imagen.models.layers import Conv, NormAct, ResBlock, TextAttention, attended
from open_imagen.recording import Recording

MOST_RECORDINGS = 8
"""Shapes of calls whose recordings are kept on a GPU."""
NARROWEST = 32
"""Channels below which a float32 convolution gains nothing in two parts or in tiles."""
NARROWEST_HALVES = 64
"""The same of a bfloat16 convolution in tiles."""
LARGEST = 2**23
"""Weights beyond which a convolution is not put into tiles, where they take four times the room."""
FEWEST = 16
"""Tiles below which a convolution in tiles gains nothing."""
FEWEST_LEARNING = 64
"""The same where its weights, and their gradient, change with every step."""


def hasten(network: nn.Module) -> None:
    """Let a network that is in its place, in its type, run as fast as it can there.

    Raises:
        MissingDependency: our kernels cannot be built here.
    """
    if isinstance(network, Experts):  # each is called alone
        for part in (network.early, network.late):
            hasten(part)
        return
    parameter = next(network.parameters())
    if parameter.device.type != "cpu":
        network.compile(dynamic=False)
        if parameter.device.type == "cuda":
            network._compiled_call_impl = Recorded(network._compiled_call_impl)  # type: ignore
        return
    kernels.library()
    packs, in_parts = can_pack(parameter.dtype), set()
    for module in network.modules():
        if isinstance(module, Conv) and packs:
            module.quick = ConvInParts(module) if gains_in_parts(module) else PackedConv(module)
            if gains_in_tiles(module):
                module.quick = ConvInTiles(module, module.quick)
        if isinstance(module, TextAttention) and gains_in_attention(module):
            module.quick = kernels.attention
    for module in network.modules():
        if isinstance(module, ResBlock):
            pairs = [(module.norm_in, module.conv_in), (module.norm_out, module.conv_out)]
            # Between the first norm and its convolution the map may change its size, as a whole.
            for norm, conv in pairs[1:] if module.resample else pairs:
                if isinstance(conv.quick, ConvInParts):
                    in_parts.add(norm)
    for module in network.modules():
        if isinstance(module, NormAct):
            module.quick = QuickNorm(module, module in in_parts)


def hasten_learning(network: nn.Module) -> None:
    """Let a network on a CPU learn in float32 as fast as it can: 3x3 convolutions in tiles and our
    attention, with their gradients.

    Raises:
        MissingDependency: our kernels cannot be built here.
    """
    kernels.library()
    for module in network.modules():
        if isinstance(module, Conv) and fits_tiles(module) and is_wide(module):
            module.learner = learn_in_tiles
        if isinstance(module, TextAttention) and gains_in_attention(module):
            module.attend = learn_attention


def slow(network: nn.Module) -> None:
    """Take back what `hasten` and `hasten_learning` did."""
    for module in network.modules():
        module._compiled_call_impl = None
        if isinstance(module, Conv):
            module.learner = None
        if isinstance(module, TextAttention):
            module.attend = attended
        if isinstance(module, (Conv, NormAct, TextAttention)):
            module.quick = None


def can_pack(dtype: torch.dtype) -> bool:
    """Whether this torch packs weights of this type as oneDNN wants them; bfloat16 only where the
    CPU computes with it."""
    names = ("_reorder_convolution_weight", "_convolution_pointwise")
    there = all(hasattr(torch.ops.mkldnn, name) for name in names)
    return there and (dtype != torch.bfloat16 or has_bf16(torch.device("cpu")))


def has_matrix_units() -> bool:
    """Whether this CPU multiplies bfloat16 matrices in hardware, many times as fast as float32."""
    supported: Callable[[], bool] | None = getattr(torch.cpu, "_is_amx_tile_supported", None)
    return supported is not None and supported()


def gains_in_parts(conv: Conv) -> bool:
    """Whether a convolution is faster in two bfloat16 parts."""
    return conv.weight.dtype == torch.float32 and is_wide(conv) and has_matrix_units()


def gains_in_tiles(conv: Conv) -> bool:
    """Whether a convolution is faster in tiles, on maps with enough of them."""
    return fits_tiles(conv) and is_wide(conv) and not has_matrix_units()


def fits_tiles(conv: Conv) -> bool:
    """Whether a convolution can be made in tiles, and in which memory allows."""
    plain = conv.kernel_size == (3, 3) and conv.stride == (1, 1)
    return plain and conv.weight.numel() <= LARGEST


def is_wide(conv: Conv) -> bool:
    """Whether a convolution has enough channels, for one in its type."""
    narrowest = {torch.float32: NARROWEST, torch.bfloat16: NARROWEST_HALVES}
    dtype = conv.weight.dtype
    return dtype in narrowest and min(conv.in_channels, conv.out_channels) >= narrowest[dtype]


def gains_in_attention(layer: TextAttention) -> bool:
    """Whether our attention can stand for torch's, on matrix units or on vectors."""
    dtype = layer.query.weight.dtype
    if dtype not in (torch.float32, torch.bfloat16):
        return False
    how = kernels.library().has_attention(dtype == torch.bfloat16)
    if how == kernels.ON_MATRIX_UNITS:
        ask: Callable[[], bool] | None = getattr(torch.cpu, "_init_amx", None)  # the kernel's leave
        return has_matrix_units() and ask is not None and ask()
    return bool(how)


class Recorded:
    """A network's calls while sampling, recorded for each shape; what comes back is a copy."""

    def __init__(self, call: Callable[..., Tensor]) -> None:
        self.call = call
        self._recordings: dict[Any, Recording] = {}
        self._pool: Any = None

    def __call__(self, *given: Any) -> Tensor:
        """(z, level, text, lowres), as the network takes them."""
        if not torch.is_inference_mode_enabled():
            return self.call(*given)
        given = tuple(one for one in given if one is not None)
        flat, form = pytree.tree_flatten(given)
        key = form, tuple((one.shape, one.dtype) for one in flat)
        if key not in self._recordings:
            self._pool = self._pool or torch.cuda.graph_pool_handle()
            while len(self._recordings) >= MOST_RECORDINGS:
                del self._recordings[next(iter(self._recordings))]
            self._recordings[key] = Recording(self.call, given, self._pool)
        out: Tensor = self._recordings[key].play(flat)
        return out.clone()


class QuickNorm:
    """A norm, its scale and shift, and its activation in one pass over the map."""

    def __init__(self, norm: NormAct, in_parts: bool) -> None:
        weight, bias = norm.weight.detach().float(), norm.bias.detach().float()
        groups = norm.num_groups if norm.over == "groups" else kernels.EACH_PIXEL
        self.norm = (groups, norm.eps, weight, bias, norm.activation)
        self.in_parts = in_parts

    def __call__(self, x: Tensor, scale_shift: Tensor | None) -> Tensor | Split:
        return kernels.norm_act(x, *self.norm, scale_shift, self.in_parts)


class Packed:
    """Weights of a convolution as oneDNN wants them for maps of one shape, the latest."""

    def __init__(self, weight: Tensor, conv: Conv) -> None:
        self.weight, self.conv = weight.contiguous(memory_format=torch.channels_last), conv
        self.shape: tuple[int, ...] = ()
        self.ready = weight

    @property
    def how(self) -> tuple[list[int], list[int], list[int], int]:
        """Padding, stride, dilation, groups."""
        return list(self.conv.padding), list(self.conv.stride), [1, 1], 1  # type: ignore[arg-type]

    def of(self, x: Tensor) -> Tensor:
        if tuple(x.shape) != self.shape:
            self.shape = tuple(x.shape)
            reorder = torch.ops.mkldnn._reorder_convolution_weight
            self.ready = reorder(self.weight, *self.how, list(self.shape))
        return self.ready


class PackedConv:
    """A convolution whose weights are not packed anew at every call."""

    def __init__(self, conv: Conv) -> None:
        self.conv, self.weight = conv, Packed(conv.weight.detach(), conv)

    def __call__(self, x: Tensor, onto: Tensor | None, divide: float) -> Tensor:
        x = x.contiguous(memory_format=torch.channels_last)
        convolve, bias = torch.ops.mkldnn._convolution_pointwise, self.conv.bias
        found: Tensor
        if onto is None:
            found = convolve(x, self.weight.of(x), bias, *self.weight.how, "none", [], "")
        else:
            onto = onto.contiguous(memory_format=torch.channels_last)
            given = (x, onto, self.weight.of(x), bias, *self.weight.how)
            found = convolve.binary(*given, "add", 1.0, None, [], None)
        return found if divide == 1 else found / divide


class ConvInTiles:
    """A convolution in tiles, with a quarter of the products, on maps of enough tiles. Products are
    float32, which gains in bfloat16, too: its vectors multiply not four times as fast."""

    def __init__(self, conv: Conv, otherwise: Callable[..., Tensor]) -> None:
        assert conv.bias is not None  # a Conv always has one
        self.weight, self.bias = conv.weight.detach(), conv.bias.detach().float()
        self.otherwise = otherwise
        self.ready: Tensor | None = None

    def __call__(self, x: Tensor, onto: Tensor | None, divide: float) -> Tensor:
        if kernels.tiles_of(x) < FEWEST:
            return self.otherwise(x, onto, divide)
        if self.ready is None:
            self.ready = kernels.prepared(self.weight)
        return kernels.convolve(x, self.ready, self.bias, onto, 1 / divide)


class Learned(torch.autograd.Function):
    """A 3x3 convolution in tiles, and its gradients."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        x = x.contiguous(memory_format=torch.channels_last)
        ctx.save_for_backward(x, weight)
        return kernels.convolve(x, kernels.prepared(weight), bias, None, 1.0)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (x, weight), (of_x, of_weight, of_bias) = ctx.saved_tensors, ctx.needs_input_grad
        found: list[Tensor | None] = [None, None, None]
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        if of_x:
            ready = kernels.prepared(weight, backwards=True)
            found[0] = kernels.convolve(gradient, ready, x.new_zeros(x.shape[1]), None, 1.0)
        if of_weight:
            found[1] = kernels.convolve_weights(x, gradient)
        if of_bias:
            found[2] = gradient.sum((0, 2, 3))
        return tuple(found)


def learn_in_tiles(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """A 3x3 convolution [B, C, H, W] with gradients, in tiles if it gains from them, in float32."""
    if is_plain(x, weight) and kernels.tiles_of(x) >= FEWEST_LEARNING:
        found: Tensor = Learned.apply(x, weight, bias)  # type: ignore[no-untyped-call]
        return found
    return F.conv2d(x, weight, bias, padding=1)


class LearnedAttention(torch.autograd.Function):
    """Our attention, and its gradients; what lies between is made again."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, keys_values: Tensor, mask: Tensor, heads: int) -> Tensor:
        ctx.save_for_backward(query, keys_values, mask)
        ctx.heads = heads
        return kernels.attention(query, keys_values, mask, heads)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        query, keys_values, mask = ctx.saved_tensors
        found = kernels.attention_gradient(query, keys_values, mask, ctx.heads, gradient)
        return *found, None, None


def learn_attention(query: Tensor, keys_values: Tensor, mask: Tensor, heads: int) -> Tensor:
    """Attention with gradients, as `layers.attended`; our own in float32."""
    if not is_plain(query, keys_values):
        return attended(query, keys_values, mask, heads)
    found: Tensor = LearnedAttention.apply(  # type: ignore[no-untyped-call]
        query, keys_values, mask, heads
    )
    return found


def is_plain(*tensors: Tensor) -> bool:
    """Whether what is made of these is float32."""
    plain = all(one.dtype == torch.float32 for one in tensors)
    return plain and not torch.is_autocast_enabled("cpu")


class ConvInParts:
    """A float32 convolution on bfloat16 matrix units.

    With x = h + l and w = H + L in two parts each, of 8 bits, conv(x, w) is hH and a rest,
    hH + lH + hL - hH. oneDNN sums in float32, but rounds what it puts out to bfloat16: the first hH
    loses its lower bits, and the rest, computed after it, holds them, and is small. lL is left out.
    What is lost at both is some 2^-17 of the result, against 2^-24 in float32.
    """

    def __init__(self, conv: Conv) -> None:
        assert conv.bias is not None  # a Conv always has one
        weight, self.bias = conv.weight.detach(), conv.bias.detach()
        high = weight.bfloat16()
        low = (weight - high).bfloat16()
        self.high = Packed(high, conv)
        self.three = Packed(torch.cat([high, high, low], dim=1), conv)

    def __call__(self, x: Tensor | Split, onto: Tensor | None, divide: float) -> Tensor:
        high, three = kernels.split(x) if isinstance(x, Tensor) else x
        convolve, how = torch.ops.mkldnn._convolution_pointwise, self.high.how
        first = convolve(high, self.high.of(high), None, *how, "none", [], "")
        given = (three, first, self.three.of(three), None, *how)
        rest = convolve.binary(*given, "sub", 1.0, None, [], None)
        return kernels.join(first, rest, self.bias, onto, 1 / divide)
