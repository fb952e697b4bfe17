"""Weights of networks: their layout, and whether they fit."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from open_imagen.errors import CheckpointError


def layout_of(tensor: Tensor) -> torch.memory_format:
    """The memory format in which a network computes fastest with a weight."""
    return torch.channels_last if tensor.ndim == 4 else torch.contiguous_format


def check_shapes(network: nn.Module, shapes: Mapping[str, Sequence[int]], source: Path) -> None:
    """Whether weights of these names and shapes are this network's.

    Raises:
        CheckpointError: they are not; the message lists what differs.
    """
    own = dict(network.named_parameters())
    wrong = [f"{name} is missing" for name in own if name not in shapes]
    wrong += [f"{name} is unknown" for name in shapes if name not in own]
    wrong += [
        f"{name} is {list(shapes[name])}, not {list(own[name].shape)}"
        for name in own
        if name in shapes and tuple(shapes[name]) != tuple(own[name].shape)
    ]
    if wrong:
        shown = "; ".join(wrong[:5]) + (f"; and {len(wrong) - 5} more" if len(wrong) > 5 else "")
        raise CheckpointError(
            f"The weights {source} do not fit the network of its config.json: {shown}."
        )
