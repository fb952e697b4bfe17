"""What the operators share: calling a kernel, its tensors, checks of shapes and dtypes."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

from open_imagen.backends.cpu.build import library

R = TypeVar("R")
NAMESPACE = "open_imagen"
FLOATS = (torch.float32, torch.bfloat16)


def operator(function: Callable[..., R]) -> Callable[..., R]:
    """Define `torch.ops.open_imagen.NAME`, computed by a function of this name on a CPU.

    What comes back calls the function itself in inference mode, unless something has to see
    operators: the dispatcher takes some 20 us a call, 6 % of a small network's time.
    """
    name = f"{NAMESPACE}::{function.__name__}"
    torch.library.define(name, torch.library.infer_schema(function, mutates_args=()))
    torch.library.impl(name, "cpu", function)
    overload: Callable[..., R] = getattr(torch.ops.open_imagen, function.__name__).default

    @functools.wraps(function)
    def call(*given: Any) -> R:
        return function(*given) if is_plain_inference() else overload(*given)

    return call


def is_plain_inference() -> bool:
    """Whether nothing needs operators: no gradients, no tracing, no mode that counts or fakes."""
    if torch.compiler.is_compiling() or not torch.is_inference_mode_enabled():
        return False
    return not torch._C._len_torch_dispatch_stack()


def register_fake(name: str) -> Callable[[Callable[..., R]], Callable[..., R]]:
    """The decorated function gives the operator's shapes, dtypes and strides, and checks inputs."""

    def register(function: Callable[..., R]) -> Callable[..., R]:
        torch.library.register_fake(f"{NAMESPACE}::{name}", function)
        return function

    return register


def register_autograd(
    name: str, backward: Callable[..., Any], setup_context: Callable[..., Any] | None = None
) -> None:
    """Register the backward pass of an operator of this library."""
    torch.library.register_autograd(f"{NAMESPACE}::{name}", backward, setup_context=setup_context)


def call_kernel(name: str, *arguments: Any) -> None:
    """Call a C++ kernel.

    Raises:
        MemoryError: its buffers could not be allocated.
    """
    if getattr(library(), name)(*arguments):
        raise MemoryError(f"open_imagen::{name}: there is not enough memory for its buffers.")


def channels_last(x: Tensor) -> Tensor:
    """The tensor [B, C, H, W] in channels-last memory layout."""
    return x.contiguous(memory_format=torch.channels_last)


def as_float32(x: Tensor) -> Tensor:
    """The tensor as contiguous float32."""
    return x.float().contiguous()


def empty_map(x: Tensor, channels: int, dtype: torch.dtype) -> Tensor:
    """An empty channels_last map, as large as x."""
    shape = (x.shape[0], channels, *x.shape[2:])
    return torch.empty(shape, dtype=dtype, device=x.device, memory_format=torch.channels_last)


def address(tensor: Tensor | None) -> int | None:
    """The address of the data for the kernel; None stands for a null pointer."""
    return None if tensor is None else tensor.data_ptr()


def check_map(
    name: str,
    x: Tensor,
    dtypes: tuple[torch.dtype, ...] = FLOATS,
    shape: tuple[int, ...] | None = None,
) -> None:
    """Check a feature map.

    Raises:
        ValueError: it is not [B, C, H, W], or not of ``shape``.
        TypeError: it is of another dtype.
    """
    if x.ndim != 4 or x.shape[1] < 1:
        raise ValueError(f"{name} must be [B, C, H, W] with channels, not {list(x.shape)}.")
    if shape is not None:
        check_shape(name, x, shape)
    check_dtype(name, x, dtypes)


def check_kernel(weight: Tensor) -> None:
    """Check the weight of a 3x3 convolution.

    Raises:
        ValueError: it is not [O, C, 3, 3].
    """
    if weight.ndim != 4 or weight.shape[2:] != (3, 3):
        raise ValueError(f"weight must be [O, C, 3, 3], not {list(weight.shape)}.")


def check_shape(name: str, x: Tensor, shape: tuple[int, ...]) -> None:
    """Check a shape.

    Raises:
        ValueError: the tensor has another.
    """
    if x.shape != shape:
        raise ValueError(f"{name} is {list(x.shape)}, and must be {list(shape)}.")


def check_dtype(name: str, x: Tensor, dtypes: tuple[torch.dtype, ...]) -> None:
    """Check a dtype.

    Raises:
        TypeError: the tensor has another.
    """
    if x.dtype not in dtypes:
        allowed = " or ".join(str(dtype) for dtype in dtypes)
        raise TypeError(f"{name} is {x.dtype}, and must be {allowed}.")
