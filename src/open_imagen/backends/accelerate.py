"""Making a network faster on its device, its parameters and outputs unchanged, and back.

Inference on a CPU: norm and activation in one pass, packed weights of convolutions, attention by
AMX or SIMD. With AMX, float32 convolutions in split-bfloat16; without it, 3x3 ones by Winograd.
Training on a CPU in float32: 3x3 convolutions by Winograd, and attention, with their gradients.
Inference on a GPU: compiled, and replayed as CUDA graphs.
"""

from typing import Any

from torch import nn

from open_imagen.backends.cpu.build import library
from open_imagen.backends.cpu.layers import (
    FusedAttention,
    FusedNormAct,
    PackedConv2d,
    SplitBfloat16Conv2d,
    TrainableFusedAttention,
    TrainableWinogradConv2d,
    WinogradConv2d,
    can_pack,
    fits_winograd,
    gains_by_split,
    gains_by_winograd,
    has_attention,
    is_wide,
    replace_class,
    restore_class,
)
from open_imagen.backends.cuda_graphs import GraphedCallable
from open_imagen.errors import ConfigError
from open_imagen.models.attention import TextAttention
from open_imagen.models.layers import Conv, NormAct, ResBlock

MODES = ("inference", "training")


def accelerate(network: nn.Module, mode: str = "inference") -> None:
    """Let a network run as fast as it can where it is, in its dtype.

    Its layers must not move, nor its parameters change in inference, until `restore`. ``inference``
    is for calls without gradients: others go the plain way. ``training`` has an effect on a CPU.

    Raises:
        MissingDependency: the CPU kernels cannot be compiled here.
    """
    if mode not in MODES:
        raise ConfigError(f"mode = {mode!r} must be one of {', '.join(MODES)}.")
    restore(network)
    device = next(network.parameters()).device
    if device.type == "cpu":
        library()  # compiled before anything is changed
        accelerate_cpu_training(network) if mode == "training" else accelerate_cpu(network)
    elif mode == "inference":
        network.compile(dynamic=False)
        if device.type == "cuda":
            compiled: Any = network._compiled_call_impl
            network._compiled_call_impl = GraphedCallable(compiled)
        network.__dict__["is_compiled_for_inference"] = True


def restore(network: nn.Module) -> None:
    """Take back what `accelerate` did."""
    if network.__dict__.pop("is_compiled_for_inference", False):
        network._compiled_call_impl = None
    for layer in network.modules():
        restore_class(layer)


def accelerate_cpu(network: nn.Module) -> None:
    """Layers for inference in place of plain ones."""
    packs = can_pack(next(network.parameters()).dtype)
    for layer in list(network.modules()):
        if isinstance(layer, Conv) and packs:
            if gains_by_winograd(layer):
                replace_class(layer, WinogradConv2d)
            else:
                replace_class(layer, SplitBfloat16Conv2d if gains_by_split(layer) else PackedConv2d)
        elif isinstance(layer, TextAttention) and has_attention(layer):
            replace_class(layer, FusedAttention)
        elif isinstance(layer, NormAct):
            replace_class(layer, FusedNormAct)
    for layer in network.modules():
        if isinstance(layer, ResBlock):
            fuse_splits(layer)


def fuse_splits(block: ResBlock) -> None:
    """Have norms split their output where a split-bfloat16 convolution takes it."""
    pairs = [(block.norm_in, block.conv_in), (block.norm_out, block.conv_out)]
    # Resampling, between the first norm and its convolution, takes one map.
    for norm, conv in pairs[1:] if block.resample else pairs:
        if isinstance(norm, FusedNormAct) and isinstance(conv, SplitBfloat16Conv2d):
            norm.splits = True


def accelerate_cpu_training(network: nn.Module) -> None:
    """Layers with faster gradients in place of plain ones."""
    for layer in list(network.modules()):
        if isinstance(layer, Conv) and fits_winograd(layer) and is_wide(layer):
            replace_class(layer, TrainableWinogradConv2d)
        elif isinstance(layer, TextAttention) and has_attention(layer):
            replace_class(layer, TrainableFusedAttention)
