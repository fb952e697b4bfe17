"""Attention over keys and values side by side, and its gradients."""

from typing import Any

import torch
from torch import Tensor

from open_imagen.backends.cpu.build import library
from open_imagen.backends.cpu.operators.common import (
    FLOATS,
    call_kernel,
    check_dtype,
    check_shape,
    operator,
    register_autograd,
    register_fake,
)

ATTENTION_SIMD, ATTENTION_AMX = 1, 2
"""What `attention_kind` answers. AMX needs the system's permission, too."""


def attention_kind(dtype: torch.dtype) -> int:
    """Which kernel `attention` has for a dtype; 0 for none."""
    return int(library().attention_kind(dtype == torch.bfloat16)) if dtype in FLOATS else 0


@operator
def attention(query: Tensor, keys_values: Tensor, mask: Tensor, heads: int) -> Tensor:
    """softmax(q k / sqrt d) v of every head over the keys that are not masked; sums in float32.

    Args:
        query: [B, N, C].
        keys_values: [B, M, 2C], keys first.
        mask: bool [B, M], True where a key is seen.
    """
    out = _fake_attention(query, keys_values, mask, heads)
    if not attention_kind(query.dtype):
        raise ValueError(f"This CPU has no attention kernel for {query.dtype}.")
    query, keys_values, mask = query.contiguous(), keys_values.contiguous(), mask.contiguous()
    batch, queries, channels = query.shape
    call_kernel(
        "attention_forward",
        *(query.data_ptr(), keys_values.data_ptr(), mask.data_ptr(), query.dtype == torch.bfloat16),
        *(batch, queries, mask.shape[1], heads, channels // heads),
        *(out.data_ptr(), torch.get_num_threads()),
    )
    return out


@register_fake("attention")
def _fake_attention(query: Tensor, keys_values: Tensor, mask: Tensor, heads: int) -> Tensor:
    _check_attention(query, keys_values, mask, heads, FLOATS)
    return torch.empty_like(query, memory_format=torch.contiguous_format)


def _check_attention(
    query: Tensor,
    keys_values: Tensor,
    mask: Tensor,
    heads: int,
    dtypes: tuple[torch.dtype, ...],
) -> None:
    if query.ndim != 3 or keys_values.ndim != 3 or mask.ndim != 2:
        raise ValueError("query and keys_values must be [B, N, C] and [B, M, 2C], mask [B, M].")
    batch, _, channels = query.shape
    if heads < 1 or channels % heads:
        raise ValueError(f"heads = {heads} must divide the {channels} channels.")
    if mask.shape[1] < 1:
        raise ValueError("there must be at least one key.")
    check_shape("keys_values", keys_values, (batch, mask.shape[1], 2 * channels))
    check_shape("mask", mask, (batch, mask.shape[1]))
    check_dtype("query", query, dtypes)
    check_dtype("keys_values", keys_values, (query.dtype,))
    check_dtype("mask", mask, (torch.bool,))


def _save_attention(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    *tensors, ctx.heads = inputs
    ctx.save_for_backward(*tensors)


def _attention_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    query, keys_values, mask = ctx.saved_tensors
    of_query, of_keys_values = attention_backward(
        query.float(), keys_values.float(), mask, ctx.heads, grad.float()
    )
    return of_query.to(query.dtype), of_keys_values.to(query.dtype), None, None


register_autograd("attention", _attention_backward, _save_attention)


@operator
def attention_backward(
    query: Tensor, keys_values: Tensor, mask: Tensor, heads: int, grad: Tensor
) -> tuple[Tensor, Tensor]:
    """The gradients of query and keys_values from that of the output of `attention`; float32."""
    of_query, of_keys_values = _fake_attention_backward(query, keys_values, mask, heads, grad)
    query, keys_values, mask = query.contiguous(), keys_values.contiguous(), mask.contiguous()
    grad = grad.contiguous()
    batch, queries, channels = query.shape
    call_kernel(
        "attention_backward",
        *(one.data_ptr() for one in (query, keys_values, mask, grad)),
        *(batch, queries, mask.shape[1], heads, channels // heads),
        *(of_query.data_ptr(), of_keys_values.data_ptr(), torch.get_num_threads()),
    )
    return of_query, of_keys_values


@register_fake("attention_backward")
def _fake_attention_backward(
    query: Tensor, keys_values: Tensor, mask: Tensor, heads: int, grad: Tensor
) -> tuple[Tensor, Tensor]:
    _check_attention(query, keys_values, mask, heads, (torch.float32,))
    check_shape("grad", grad, query.shape)
    check_dtype("grad", grad, (torch.float32,))
    contiguous = torch.contiguous_format
    return (
        torch.empty_like(query, memory_format=contiguous),
        torch.empty_like(keys_values, memory_format=contiguous),
    )


def _attention_backward_backward(ctx: Any, *grads: Tensor) -> None:
    raise NotImplementedError("open_imagen::attention_backward has no gradients of its own.")


register_autograd("attention_backward", _attention_backward_backward)
