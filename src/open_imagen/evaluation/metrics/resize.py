"""Bringing a picture to the side that a network looks at: the choice that moves FID most.

The same pictures through the same network give other numbers with another filter, so each is named,
recorded with the result, and never mixed with another.
"""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from open_imagen.registry import Registry

Resize = Callable[[Tensor, int], Tensor]
"""A picture uint8 [3, H, W] and a side -> float [3, side, side] on the scale 0 to 255."""

RESIZES: Registry[Resize] = Registry("resize")


@RESIZES.register("clean")
def clean(image: Tensor, side: int) -> Tensor:
    """Pillow's bicubic on float channels, anti-aliased (clean-fid; Parmar et al. 2022)."""
    if image.shape[1:] == (side, side):
        return image.float()
    channels = [Image.fromarray(channel.numpy()) for channel in image.float()]
    resized = [c.resize((side, side), Image.Resampling.BICUBIC) for c in channels]
    return torch.from_numpy(np.stack([np.asarray(c) for c in resized]))


@RESIZES.register("tf1")
def tf1(image: Tensor, side: int) -> Tensor:
    """TensorFlow 1's bilinear, without anti-aliasing, pixels counted from their corners.

    What the first FID implementations (TTUR, ADM's evaluator, torch-fidelity) do.
    """
    x = image.float()
    for axis in (2, 1):
        length = x.shape[axis]
        position = torch.arange(side, dtype=torch.float32) * (length / side)
        low = position.floor().long().clamp(max=length - 1)
        share = (position - low).view((1, -1, 1) if axis == 1 else (1, 1, -1))
        below, above = (x.index_select(axis, i) for i in (low, (low + 1).clamp(max=length - 1)))
        x = below + (above - below) * share
    return x


@RESIZES.register("torch")
def torch_bilinear(image: Tensor, side: int) -> Tensor:
    """Bilinear as torch does it: half-pixel centres, not anti-aliased (pytorch-fid)."""
    x = image.float()[None]
    return F.interpolate(x, (side, side), mode="bilinear", align_corners=False)[0]
