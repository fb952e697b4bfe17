"""What a preset costs: parameters, operations, memory, block by block, without computing anything.

Everything is counted on the real network on torch's "meta" device, where tensors have shapes only.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from open_imagen.models.registry import PRESETS, construct
from open_imagen.types import LowRes, TextEmbedding

TOKENS = 128
"""Length of the text that is counted with."""


@dataclass(frozen=True)
class Row:
    """One block of a network, in the order of computation."""

    name: str
    output: tuple[int, ...]
    """Channels, height, width of what it puts out."""
    parameters: int
    flops: int
    """Of one image; a multiplication and an addition are two."""


@dataclass(frozen=True)
class NetworkProfile:
    """What one evaluation for one image takes."""

    parameters: int
    flops: int
    """Of the forward pass; the backward pass takes twice as many."""
    activations: int
    """Numbers that training keeps for the backward pass; two bytes each in bfloat16."""
    rows: list[Row]
    tensors: int = 0
    """Of parameters."""


def profile(name: str) -> NetworkProfile:
    """Count a preset at the size of its images.

    Raises:
        UnknownName: no such preset.
    """
    preset = PRESETS[name]
    return count(preset.network, preset.config, preset.resolution)


def count(name: str, config: Any, side: int, tokens: int = TOKENS) -> NetworkProfile:
    """Count a network of this class and config for images of this side."""
    with torch.device("meta"):
        network = construct(name, config)
        inputs = _inputs(config, side, tokens)
        labels = getattr(config, "augment_labels", 0)
        labelled = {"augment_labels": torch.empty(1, labels)} if labels else {}
    outputs: dict[str, tuple[int, ...]] = {}
    parts = dict(_parts(network))
    for part, module in parts.items():

        def note(_: nn.Module, __: object, found: Any, part: str = part) -> None:
            main = found.tokens if isinstance(found, TextEmbedding) else found
            outputs[part] = tuple(main.shape[1:])

        module.register_forward_hook(note)

    kept: dict[int, int] = {}
    alive: list[Tensor] = []  # so that no storage's address is given out twice
    weights = {parameter.untyped_storage()._cdata for parameter in network.parameters()}

    def keep(tensor: Tensor) -> Tensor:
        # A view shares its storage with what it is a view of: count that once.
        place = tensor.untyped_storage()._cdata
        if place not in weights:
            kept[place] = max(kept.get(place, 0), tensor.numel())
            alive.append(tensor)
        return tensor

    counter = FlopCounterMode(display=False)
    with counter, torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        network(*inputs, **labelled)
    flops = counter.get_flop_counts()
    rows = [
        Row(part, outputs[part], size_of(module), _flops(flops, network, part))
        for part, module in parts.items()
    ]
    tensors = sum(1 for _ in network.parameters())
    flops_of_all, activations = counter.get_total_flops(), sum(kept.values())
    return NetworkProfile(size_of(network), flops_of_all, activations, rows, tensors)


def _inputs(
    config: Any, side: int, length: int
) -> tuple[Tensor, Tensor, TextEmbedding, LowRes | None]:
    image, level = torch.empty(1, config.image_channels, side, side), torch.empty(1)
    text = TextEmbedding(
        torch.empty(1, length, config.text_width), torch.ones(1, length, dtype=torch.bool)
    )
    return image, level, text, LowRes(image, level) if config.lowres else None


def _parts(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The blocks by name: children, and the members of lists."""
    for name, child in network.named_children():
        if isinstance(child, nn.ModuleList):
            yield from ((f"{name}.{k}", member) for k, member in enumerate(child))
        else:
            yield name, child


def size_of(module: nn.Module) -> int:
    """Its number of parameters."""
    return sum(parameter.numel() for parameter in module.parameters())


def _flops(counts: dict[str, dict[object, int]], network: nn.Module, part: str) -> int:
    return sum(counts.get(f"{type(network).__name__}.{part}", {}).values())
