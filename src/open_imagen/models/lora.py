"""Low-rank adapters (Hu et al. 2021): W + alpha / rank * B A, for linear layers and convolutions.

An adapter is a parametrization of a layer's weight, so no network knows of it. Its tensors carry
the names and shapes that PEFT gives them, less its prefix: LAYER.lora_A.weight and
LAYER.lora_B.weight.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from open_imagen.errors import CheckpointError, ConfigError


@dataclass(frozen=True, kw_only=True)
class LoraConfig:
    """What an adapter may change."""

    rank: int = 0
    """Of the change of each weight; 0 for no adapter: all weights are learned."""
    alpha: float = 0.0
    """The change is scaled by alpha / rank; 0 takes alpha = rank."""
    targets: tuple[str, ...] = ("attention",)
    """Layers whose name has one of these among its parts: "attention" for all of attention,
    "query" or "text_keys_values" for some of it, "block" for residual blocks, "all" for all."""

    def __post_init__(self) -> None:
        if self.rank < 0 or self.alpha < 0:
            raise ConfigError(
                f"adapter.rank = {self.rank} and adapter.alpha = {self.alpha} must not be negative."
            )

    @property
    def scale(self) -> float:
        return (self.alpha or self.rank) / self.rank


class LowRank(nn.Module):
    """weight -> weight + scale * B A. Starts as nothing: B is zero."""

    def __init__(self, weight: Tensor, config: LoraConfig) -> None:
        super().__init__()
        out, inside, *kernel = weight.shape
        ones = [1] * len(kernel)
        self.A = nn.Parameter(torch.empty(config.rank, inside, *kernel, device=weight.device))
        self.B = nn.Parameter(torch.zeros(out, config.rank, *ones, device=weight.device))
        nn.init.kaiming_uniform_(self.A, a=5**0.5)
        self.scale = config.scale

    def forward(self, weight: Tensor) -> Tensor:
        return weight + change(self.A, self.B, self.scale)


def change(a: Tensor, b: Tensor, scale: float) -> Tensor:
    """scale * B A, in the shape of the weight that it is added to."""
    flat = scale * (b.flatten(1) @ a.flatten(1))
    return flat.reshape(b.shape[0], *a.shape[1:])


def adapt(network: nn.Module, config: LoraConfig) -> list[str]:
    """Freeze a network and give the layers that are meant an adapter each; their names.

    Raises:
        ConfigError: no layer has such a name.
    """
    names = [
        name
        for name, layer in network.named_modules()
        if isinstance(layer, nn.Linear | nn.Conv2d)
        and ("all" in config.targets or set(name.split(".")) & set(config.targets))
    ]
    if not names:
        raise ConfigError(
            f"adapter.targets = {list(config.targets)} names no layer of this network.",
            'Try ["attention"], ["block"] or ["all"].',
        )
    network.requires_grad_(False)
    for name in names:
        layer = network.get_submodule(name)
        assert isinstance(layer.weight, Tensor)
        parametrize.register_parametrization(layer, "weight", LowRank(layer.weight, config))
    return names


_WEIGHT = ".parametrizations.weight."


def adapter_of(parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The adapters among the parameters of an adapted network, under their public names."""
    return {
        name.replace(f"{_WEIGHT}0.", ".lora_") + ".weight": tensor
        for name, tensor in parameters.items()
        if f"{_WEIGHT}0." in name
    }


def frozen_of(network: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """The weights of an adapted network without its adapters, under the network's own names."""
    for name, tensor in network.named_parameters():
        if f"{_WEIGHT}0." not in name:
            yield name.replace(f"{_WEIGHT}original", ".weight"), tensor


class Merged:
    """Weights one by one, with what an adapter changes added.

    Raises:
        CheckpointError: the adapter is of another network; the message lists what does not fit.
    """

    def __init__(
        self,
        weights: Iterable[tuple[str, Tensor]],
        shapes: Mapping[str, tuple[int, ...]],
        adapter: Mapping[str, Tensor],
        scale: float,
    ) -> None:
        self.weights, self.change = weights, LowRankChange(adapter, shapes, scale)

    def __iter__(self) -> Iterator[tuple[str, Tensor]]:
        return ((name, changed(name, tensor, [self.change])) for name, tensor in self.weights)


class LowRankChange:
    """What an adapter adds to the weights of a network.

    Raises:
        CheckpointError: the adapter is of another network; the message lists what does not fit.
    """

    def __init__(
        self, adapter: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]], scale: float
    ) -> None:
        self.adapter, self.scale = adapter, scale
        self.pairs: dict[str, tuple[Tensor, Tensor]] = {}
        """A and B of each weight that is changed, by its name."""
        wrong = []
        for name, a in adapter.items():
            layer, _, part = name.partition(".lora_")
            if part != "A.weight":
                continue
            b = adapter.get(f"{layer}.lora_B.weight")
            shape = shapes.get(f"{layer}.weight")
            if b is None or shape is None or (b.shape[0], *a.shape[1:]) != tuple(shape):
                wrong.append(layer)
            else:
                self.pairs[f"{layer}.weight"] = (a, b)
        if wrong or not self.pairs:
            told = ", ".join(wrong[:5]) or "it has no lora_A and lora_B"
            raise CheckpointError(f"The adapter is not one of this network: {told}.")

    def equals(self, other: "LowRankChange") -> bool:
        """Whether it is the same adapter with the same scale."""
        return self.adapter is other.adapter and self.scale == other.scale


def changed(name: str, tensor: Tensor, changes: Iterable[LowRankChange]) -> Tensor:
    """A weight with what these adapters add to it, in float32; itself where none does."""
    for one in changes:
        if name in one.pairs:
            a, b = (part.to(tensor.device, torch.float32) for part in one.pairs[name])
            tensor = tensor.float() + change(a, b, one.scale)
    return tensor
