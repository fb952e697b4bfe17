"""CPU kernels as torch operators, `torch.ops.open_imagen.*`, with fake and autograd parts.

Each equals a few lines of torch, which its tests compare it with, and which run where it does not.
Feature maps are [B, C, H, W]; results are channels_last. NaN in gives NaN out.
"""

from open_imagen.backends.cpu.operators.attention import (
    ATTENTION_AMX,
    ATTENTION_SIMD,
    attention,
    attention_backward,
    attention_kind,
)
from open_imagen.backends.cpu.operators.bfloat16_split import bfloat16_merge, bfloat16_split
from open_imagen.backends.cpu.operators.norm import PER_PIXEL, norm_act, norm_act_split
from open_imagen.backends.cpu.operators.winograd import (
    number_of_tiles,
    winograd_conv2d,
    winograd_conv2d_weight_grad,
    winograd_transform_weights,
)

__all__ = [
    "ATTENTION_AMX",
    "ATTENTION_SIMD",
    "PER_PIXEL",
    "attention",
    "attention_backward",
    "attention_kind",
    "bfloat16_merge",
    "bfloat16_split",
    "norm_act",
    "norm_act_split",
    "number_of_tiles",
    "winograd_conv2d",
    "winograd_conv2d_weight_grad",
    "winograd_transform_weights",
]
