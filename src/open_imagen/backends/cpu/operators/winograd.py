"""3x3 convolutions by Winograd's F(4x4, 3x3), and their gradients (Lavin and Gray 2016)."""

from typing import Any

import torch
from torch import Tensor

from open_imagen.backends.cpu.build import library
from open_imagen.backends.cpu.operators.common import (
    address,
    as_float32,
    call_kernel,
    channels_last,
    check_kernel,
    check_map,
    check_shape,
    empty_map,
    operator,
    register_autograd,
    register_fake,
)

TILE = 4
"""Side of the output tiles."""
POINTS = 36
"""Products of each tile and pair of channels."""


def number_of_tiles(x: Tensor) -> int:
    """Winograd tiles of a map [B, C, H, W]."""
    return int(x.shape[0]) * -(-int(x.shape[2]) // TILE) * -(-int(x.shape[3]) // TILE)


@operator
def winograd_transform_weights(weight: Tensor, transposed: bool) -> Tensor:
    """G g G^T of weights [O, C, 3, 3], in panels of output channels: [36, panels, C, width].

    ``transposed``: of the convolution that takes gradients of outputs to those of inputs.
    """
    out = _fake_winograd_transform_weights(weight, transposed)
    weight = weight.detach().float()
    (outputs, inputs), first = weight.shape[:2], weight
    strides = list(weight.stride())
    if transposed:  # inputs and outputs change places, and kernels are turned round
        first = weight[:, :, 2, 2]
        (inputs, outputs), strides = weight.shape[:2], [strides[k] for k in (1, 0, 2, 3)]
        strides[2:] = [-strides[2], -strides[3]]
    call_kernel(
        "winograd_transform_weights",
        *(first.data_ptr(), outputs, inputs, *strides, out.data_ptr(), torch.get_num_threads()),
    )
    return out


@register_fake("winograd_transform_weights")
def _fake_winograd_transform_weights(weight: Tensor, transposed: bool) -> Tensor:
    check_kernel(weight)
    outputs, inputs = weight.shape[:2][:: -1 if transposed else 1]
    width = library().winograd_panel_width()
    return weight.new_empty((POINTS, -(-outputs // width), inputs, width), dtype=torch.float32)


def _save_transform(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    weight, ctx.transposed = inputs
    ctx.outputs, ctx.dtype = weight.shape[1 if ctx.transposed else 0], weight.dtype


def _transform_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    points = grad.new_tensor([[0.0, 1.0, -1.0, 2.0, -2.0]]).T ** torch.arange(3)
    scales = grad.new_tensor([[1 / 4, -1 / 6, -1 / 6, 1 / 24, 1 / 24]]).T
    g = torch.cat([scales * points, grad.new_tensor([[0.0, 0.0, 1.0]])])  # [6, 3]
    columns = grad.transpose(1, 2).flatten(2)[..., : ctx.outputs].view(6, 6, -1, ctx.outputs)
    found = torch.einsum("ai,abco,bj->ocij", g, columns, g)
    if ctx.transposed:
        found = found.transpose(0, 1).flip(2, 3)
    return found.to(ctx.dtype), None


register_autograd("winograd_transform_weights", _transform_backward, _save_transform)


@operator
def winograd_conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    residual: Tensor | None,
    scale: float,
    transformed: Tensor | None,
    transposed: bool,
) -> Tensor:
    """(residual + conv(x) + bias) * scale, a 3x3 convolution with zeros around x, in its dtype.

    A quarter of the multiplications of a direct convolution, in float32 (Winograd's F(4x4, 3x3),
    Lavin and Gray 2016); up to 2^-15 of the largest output is lost.

    Args:
        weight: [O, C, 3, 3].
        transformed: `winograd_transform_weights` of it, where it does not change between calls.
        transposed: the convolution that takes gradients of outputs [B, O, H, W] to those of inputs.
    """
    out = _fake_winograd_conv2d(x, weight, bias, residual, scale, transformed, transposed)
    if not out.numel():
        return out
    x, outputs = channels_last(x), out.shape[1]
    bias = x.new_zeros(outputs, dtype=torch.float32) if bias is None else as_float32(bias)
    residual = None if residual is None else channels_last(residual)
    if transformed is None:
        transformed = winograd_transform_weights(weight, transposed)
    batch, inputs, height, width = x.shape
    call_kernel(
        "winograd_conv2d",
        *(x.data_ptr(), transformed.data_ptr(), bias.data_ptr(), address(residual)),
        *(x.dtype == torch.bfloat16, scale, batch, height, width, inputs, outputs),
        *(out.data_ptr(), torch.get_num_threads()),
    )
    return out


@register_fake("winograd_conv2d")
def _fake_winograd_conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    residual: Tensor | None,
    scale: float,
    transformed: Tensor | None,
    transposed: bool,
) -> Tensor:
    check_map("x", x)
    check_kernel(weight)
    outputs, inputs = weight.shape[:2][:: -1 if transposed else 1]
    if x.shape[1] != inputs:
        raise ValueError(f"x has {x.shape[1]} channels, and weight takes {inputs}.")
    if bias is not None:
        check_shape("bias", bias, (outputs,))
    if residual is not None:
        check_map("residual", residual, (x.dtype,), (x.shape[0], outputs, *x.shape[2:]))
    if transformed is not None:
        width = library().winograd_panel_width()
        check_shape("transformed", transformed, (POINTS, -(-outputs // width), inputs, width))
        if transformed.dtype != torch.float32 or not transformed.is_contiguous():
            raise ValueError("transformed must be as winograd_transform_weights gives it.")
    return empty_map(x, outputs, x.dtype)


def _save_winograd(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    x, weight, bias, residual, ctx.scale, _, ctx.transposed = inputs
    ctx.save_for_backward(x, weight)
    ctx.bias_dtype, ctx.has_residual = (
        bias.dtype if bias is not None else None,
        residual is not None,
    )


def _winograd_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    x, weight = ctx.saved_tensors
    grad = channels_last(grad if ctx.scale == 1 else grad * ctx.scale)
    of_x = of_weight = of_bias = None
    if ctx.needs_input_grad[0]:
        of_x = winograd_conv2d(grad, weight, None, None, 1.0, None, not ctx.transposed)
    if ctx.needs_input_grad[1]:
        of_weight = winograd_conv2d_weight_grad(x, grad)
        if ctx.transposed:
            of_weight = of_weight.transpose(0, 1).flip(2, 3)
        of_weight = of_weight.to(weight.dtype)
    if ctx.needs_input_grad[2]:
        of_bias = grad.sum((0, 2, 3)).to(ctx.bias_dtype)
    of_residual = grad if ctx.has_residual and ctx.needs_input_grad[3] else None
    return of_x, of_weight, of_bias, of_residual, None, None, None


register_autograd("winograd_conv2d", _winograd_backward, _save_winograd)


@operator
def winograd_conv2d_weight_grad(x: Tensor, grad: Tensor) -> Tensor:
    """The gradient of a 3x3 convolution's weights, [O, C, 3, 3] in float32, by F(3x3, 4x4).

    Args:
        x: its inputs [B, C, H, W].
        grad: of its outputs, [B, O, H, W].
    """
    out = _fake_winograd_conv2d_weight_grad(x, grad)
    if not x.numel():
        return out.zero_()
    x, grad = channels_last(x), channels_last(grad)
    batch, inputs, height, width = x.shape
    call_kernel(
        "winograd_conv2d_weight_grad",
        *(x.data_ptr(), grad.data_ptr(), x.dtype == torch.bfloat16, batch, height, width),
        *(inputs, grad.shape[1], out.data_ptr(), torch.get_num_threads()),
    )
    return out


@register_fake("winograd_conv2d_weight_grad")
def _fake_winograd_conv2d_weight_grad(x: Tensor, grad: Tensor) -> Tensor:
    check_map("x", x)
    check_map("grad", grad, (x.dtype,), (x.shape[0], grad.shape[1], *x.shape[2:]))
    shape = (grad.shape[1], x.shape[1], 3, 3)
    return torch.empty(
        shape, dtype=torch.float32, device=x.device, memory_format=torch.channels_last
    )


def _save_both(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    ctx.save_for_backward(*inputs)


def _weight_grad_backward(ctx: Any, of_weight_grad: Tensor) -> tuple[Tensor | None, ...]:
    """It is linear in both: in each the convolution with the other's weights."""
    x, grad = ctx.saved_tensors
    of_x = winograd_conv2d(grad, of_weight_grad, None, None, 1.0, None, True)
    return of_x, winograd_conv2d(x, of_weight_grad, None, None, 1.0, None, False)


register_autograd("winograd_conv2d_weight_grad", _weight_grad_backward, _save_both)
