"""Split-bfloat16 (bf16x3): float32 maps in two bfloat16 parts, and their sums."""

from typing import Any

import torch
from torch import Tensor

from open_imagen.backends.cpu.operators.common import (
    address,
    as_float32,
    call_kernel,
    channels_last,
    check_map,
    check_shape,
    empty_map,
    operator,
    register_autograd,
    register_fake,
)


@operator
def bfloat16_split(x: Tensor) -> tuple[Tensor, Tensor]:
    """A float32 map in two bfloat16 parts, high + low.

    Returns:
        high [B, C, H, W]; and stacked along channels, [B, 3C, H, W]: high, low, high.
    """
    high, stacked = fake_bfloat16_split(x)
    x = channels_last(x)
    channels = x.shape[1]
    call_kernel(
        "bfloat16_split",
        *(x.data_ptr(), x.numel() // channels, channels, high.data_ptr(), stacked.data_ptr()),
        torch.get_num_threads(),
    )
    return high, stacked


@register_fake("bfloat16_split")
def fake_bfloat16_split(x: Tensor) -> tuple[Tensor, Tensor]:
    """Shapes and dtypes of `bfloat16_split`, for tracing."""
    check_map("x", x, (torch.float32,))
    channels = x.shape[1]
    return (
        empty_map(x, channels, torch.bfloat16),
        empty_map(x, 3 * channels, torch.bfloat16),
    )


def bfloat16_split_backward(ctx: Any, grad_high: Tensor, grad_stacked: Tensor) -> Tensor:
    """Rounding passes gradients on; what it takes off the low part, x - high, has none."""
    first, _, last = grad_stacked.float().chunk(3, dim=1)
    return grad_high.float() + first + last


register_autograd("bfloat16_split", bfloat16_split_backward)


@operator
def bfloat16_merge(
    first: Tensor, rest: Tensor, bias: Tensor, residual: Tensor | None, scale: float
) -> Tensor:
    """(residual + first + rest + bias) * scale in float32, of bfloat16 maps and a float32 one."""
    out = _fake_bfloat16_merge(first, rest, bias, residual, scale)
    first, rest, bias = channels_last(first), channels_last(rest), as_float32(bias)
    residual = None if residual is None else channels_last(residual)
    channels = first.shape[1]
    call_kernel(
        "bfloat16_merge",
        *(first.data_ptr(), rest.data_ptr(), bias.data_ptr(), address(residual), scale),
        *(out.numel() // channels, channels, out.data_ptr(), torch.get_num_threads()),
    )
    return out


@register_fake("bfloat16_merge")
def _fake_bfloat16_merge(
    first: Tensor, rest: Tensor, bias: Tensor, residual: Tensor | None, scale: float
) -> Tensor:
    check_map("first", first, (torch.bfloat16,))
    check_map("rest", rest, (torch.bfloat16,), first.shape)
    check_shape("bias", bias, (first.shape[1],))
    if residual is not None:
        check_map("residual", residual, (torch.float32,), first.shape)
    return empty_map(first, first.shape[1], torch.float32)


def _save_bfloat16_merge(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    ctx.bias_dtype, ctx.has_residual, ctx.scale = inputs[2].dtype, inputs[3] is not None, inputs[4]


def _bfloat16_merge_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    grad = grad * ctx.scale
    half, of_bias = grad.bfloat16(), grad.sum((0, 2, 3)).to(ctx.bias_dtype)
    return half, half.clone(), of_bias, grad if ctx.has_residual else None, None


register_autograd("bfloat16_merge", _bfloat16_merge_backward, _save_bfloat16_merge)
