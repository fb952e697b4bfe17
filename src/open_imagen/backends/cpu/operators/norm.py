"""A norm, scale and shift, and the activation in one operator."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from open_imagen.backends.cpu.operators.bfloat16_split import (
    bfloat16_split_backward,
    fake_bfloat16_split,
)
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

ACTIVATIONS = {"": 0, "silu": 1, "gelu": 2}
PER_PIXEL = 0
"""In place of a number of groups: a norm over the channels of each pixel."""


@operator
def norm_act(
    x: Tensor,
    groups: int,
    eps: float,
    weight: Tensor,
    bias: Tensor,
    activation: str,
    scale_shift: Tensor | None,
) -> Tensor:
    """act(norm(x) * (1 + scale) + shift), in the dtype of x.

    Args:
        groups: of channels, over the whole map; or `PER_PIXEL`.
        weight, bias: [C].
        activation: a name in `ACTIVATIONS`.
        scale_shift: [B, 2C], scale and then shift.
    """
    out = _fake_norm_act(x, groups, eps, weight, bias, activation, scale_shift)
    _run_norm_act(x, groups, eps, weight, bias, activation, scale_shift, out, None)
    return out


@register_fake("norm_act")
def _fake_norm_act(
    x: Tensor,
    groups: int,
    eps: float,
    weight: Tensor,
    bias: Tensor,
    activation: str,
    scale_shift: Tensor | None,
) -> Tensor:
    _check_norm_act(x, groups, weight, bias, activation, scale_shift)
    return empty_map(x, x.shape[1], x.dtype)


@operator
def norm_act_split(
    x: Tensor,
    groups: int,
    eps: float,
    weight: Tensor,
    bias: Tensor,
    activation: str,
    scale_shift: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """`bfloat16_split` of `norm_act`, for a float32 map."""
    high, stacked = _fake_norm_act_split(x, groups, eps, weight, bias, activation, scale_shift)
    _run_norm_act(x, groups, eps, weight, bias, activation, scale_shift, high, stacked)
    return high, stacked


@register_fake("norm_act_split")
def _fake_norm_act_split(
    x: Tensor,
    groups: int,
    eps: float,
    weight: Tensor,
    bias: Tensor,
    activation: str,
    scale_shift: Tensor | None,
) -> tuple[Tensor, Tensor]:
    _check_norm_act(x, groups, weight, bias, activation, scale_shift)
    return fake_bfloat16_split(x)


def _check_norm_act(
    x: Tensor,
    groups: int,
    weight: Tensor,
    bias: Tensor,
    activation: str,
    scale_shift: Tensor | None,
) -> None:
    check_map("x", x)
    channels = x.shape[1]
    if groups < 0 or (groups and channels % groups):
        raise ValueError(f"groups = {groups} must divide the {channels} channels, or be 0.")
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation {activation!r} must be one of {list(ACTIVATIONS)}.")
    check_shape("weight", weight, (channels,))
    check_shape("bias", bias, (channels,))
    if scale_shift is not None:
        check_shape("scale_shift", scale_shift, (x.shape[0], 2 * channels))


def _run_norm_act(
    x: Tensor,
    groups: int,
    eps: float,
    weight: Tensor,
    bias: Tensor,
    activation: str,
    scale_shift: Tensor | None,
    out: Tensor,
    stacked: Tensor | None,
) -> None:
    x, weight, bias = channels_last(x), as_float32(weight), as_float32(bias)
    batch, channels, height, width = x.shape
    scale = shift = None
    if scale_shift is not None:
        scale_shift = as_float32(scale_shift)
        scale = scale_shift.data_ptr()
        shift = scale + channels * scale_shift.element_size()
    call_kernel(
        "norm_act",
        *(x.data_ptr(), x.dtype == torch.bfloat16, batch, height * width, channels, groups, eps),
        *(weight.data_ptr(), bias.data_ptr(), scale, shift, 2 * channels, ACTIVATIONS[activation]),
        *(out.data_ptr(), address(stacked), torch.get_num_threads()),
    )


def _save_norm_act(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    x, ctx.groups, ctx.eps, weight, bias, ctx.activation, scale_shift = inputs
    ctx.save_for_backward(x, weight, bias, scale_shift)


def _norm_act_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    """By torch's own, from the forward pass written out in float32."""
    given = ctx.saved_tensors
    with torch.enable_grad():
        leaves: list[Any] = [
            None if one is None else one.detach().float().requires_grad_() for one in given
        ]
        x, weight, bias, scale_shift = leaves
        if ctx.groups == PER_PIXEL:
            pixels = x.permute(0, 2, 3, 1)
            normed = F.layer_norm(pixels, pixels.shape[-1:], weight, bias, ctx.eps)
            y = normed.permute(0, 3, 1, 2)
        else:
            y = F.group_norm(x, ctx.groups, weight, bias, ctx.eps)
        if scale_shift is not None:
            scale, shift = scale_shift[..., None, None].chunk(2, dim=1)
            y = y * (1 + scale) + shift
        y = {"": lambda y: y, "silu": F.silu, "gelu": F.gelu}[ctx.activation](y)
        tensors = [leaf for leaf in leaves if leaf is not None]
        found = iter(torch.autograd.grad(y, tensors, grad.float()))
    grads = [None if one is None else next(found).to(one.dtype) for one in given]
    of_x, of_weight, of_bias, of_scale_shift = grads
    return of_x, None, None, of_weight, of_bias, None, of_scale_shift


def _norm_act_split_backward(
    ctx: Any, grad_high: Tensor, grad_stacked: Tensor
) -> tuple[Tensor | None, ...]:
    return _norm_act_backward(ctx, bfloat16_split_backward(ctx, grad_high, grad_stacked))


register_autograd("norm_act", _norm_act_backward, _save_norm_act)
register_autograd("norm_act_split", _norm_act_split_backward, _save_norm_act)
