"""Low-rank adapters (Hu et al. 2021): W + alpha / rank * B A, for linear layers and convolutions.

An adapter is a parametrization of a layer's weight, so no network knows of it. Its tensors carry
the names and shapes that PEFT gives them, less its prefix: LAYER.lora_A.weight and
LAYER.lora_B.weight.
"""

import fnmatch
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from open_imagen.errors import CheckpointError, ConfigError

NO_ADAPTER = "none"
"""The adapter name that stands for the network's own weights."""


@dataclass(frozen=True, kw_only=True)
class LoraConfig:
    """What an adapter may change."""

    rank: int = 0
    """The rank of the change of each weight; 0: all weights are trained, without an adapter."""
    alpha: float = 0.0
    """The change is scaled by alpha / rank; 0 takes alpha = rank."""
    targets: tuple[str, ...] = ("attention",)
    """Layers whose name has one of these among its parts: "attention" for all of attention,
    "query" or "text_keys_values" for some of it, "block" for residual blocks, "all" for all."""
    modules_to_save: tuple[str, ...] = ()
    """Patterns of weights that are trained and saved whole, beside the low-rank changes: ["*norm*",
    "level.*"]."""
    name: str = ""
    """Keep the adapter apart in RUN/model under this name, beside the weights that it changes: the
    model then uses it by default, and can be sampled without it. Empty: merge it."""
    init: str = ""
    """Start from this adapter (a folder that a run wrote) instead of from no change."""

    def __post_init__(self) -> None:
        if self.name and (self.name == NO_ADAPTER or not re.fullmatch(r"[\w.-]+", self.name)):
            raise ConfigError(
                f"adapter.name = {self.name!r} must be letters, digits, - and _, and not "
                f"{NO_ADAPTER!r}."
            )
        for key in ("modules_to_save", "name", "init"):
            if getattr(self, key) and not self.rank:
                raise ConfigError(f"adapter.{key} needs an adapter.", "Set adapter.rank.")
        if self.rank < 0 or self.alpha < 0:
            raise ConfigError(
                f"adapter.rank = {self.rank} and adapter.alpha = {self.alpha} must not be negative."
            )

    @property
    def scale(self) -> float:
        """The factor of the change: alpha / rank, where alpha = 0 stands for the rank."""
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
        """The weight with the low-rank change."""
        return weight + change(self.A, self.B, self.scale)


def change(a: Tensor, b: Tensor, scale: float) -> Tensor:
    """The low-rank change scale * B A, in the shape of the weight that it is added to."""
    flat = scale * (b.flatten(1) @ a.flatten(1))
    return flat.reshape(b.shape[0], *a.shape[1:])


def adapt(network: nn.Module, config: LoraConfig) -> list[str]:
    """Freeze a network and give the layers that are meant an adapter each; their names.

    Weights of `modules_to_save` stay trainable, and their layers get no adapter.

    Raises:
        ConfigError: no layer has such a name, or no weight.
    """
    whole = _weights_to_save(network, config.modules_to_save)
    names = [
        name
        for name, layer in network.named_modules()
        if isinstance(layer, nn.Linear | nn.Conv2d)
        and ("all" in config.targets or set(name.split(".")) & set(config.targets))
        and f"{name}.weight" not in whole
    ]
    if not names:
        raise ConfigError(
            f"adapter.targets = {list(config.targets)} names no layer of this network.",
            'Try ["attention"], ["block"] or ["all"].',
        )
    for name, weight in network.named_parameters():
        weight.requires_grad_(name in whole)
    for name in names:
        layer = network.get_submodule(name)
        assert isinstance(layer.weight, Tensor)
        parametrize.register_parametrization(layer, "weight", LowRank(layer.weight, config))
    return names


def _weights_to_save(network: nn.Module, patterns: Iterable[str]) -> set[str]:
    names = [name for name, _ in network.named_parameters()]
    found = set[str]()
    for pattern in patterns:
        matching = fnmatch.filter(names, pattern)
        if not matching:
            raise ConfigError(
                f"adapter.modules_to_save: no weight is called {pattern!r}.",
                f"There are: {', '.join(names)}.",
            )
        found.update(matching)
    return found


_WEIGHT = ".parametrizations.weight."


def adapter_of(trainable: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The trainable parameters of an adapted network, or their averages.

    Their names are those in an adapter's file.
    """
    return {
        name.replace(f"{_WEIGHT}0.", ".lora_") + (".weight" if f"{_WEIGHT}0." in name else ""): one
        for name, one in trainable.items()
    }


def trainable_of(network: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters of a network that are trained."""
    return {name: one for name, one in network.named_parameters() if one.requires_grad}


@torch.no_grad()
def load_adapter(network: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Have an adapted network begin with these tensors.

    Raises:
        ConfigError: they are of another rank, of other layers, or not all.
    """
    own = adapter_of(trainable_of(network))
    wrong = [
        name
        for name in sorted(own.keys() | tensors.keys())
        if name not in own or name not in tensors or own[name].shape != tensors[name].shape
    ]
    if wrong:
        raise ConfigError(
            f"adapter.init has not the layers and rank of this adapter: {', '.join(wrong[:3])}.",
            "Take adapter.rank, targets and modules_to_save of the run that wrote it.",
        )
    for name, parameter in own.items():
        parameter.copy_(tensors[name])


def frozen_of(network: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """The weights of an adapted network without its adapters, under the network's own names."""
    for name, tensor in network.named_parameters():
        if f"{_WEIGHT}0." not in name:
            yield name.replace(f"{_WEIGHT}original", ".weight"), tensor


class LowRankChange:
    """What an adapter changes of the weights of a network.

    Raises:
        CheckpointError: the adapter is of another network; the message lists what does not fit.
    """

    def __init__(
        self,
        adapter: Mapping[str, Tensor],
        shapes: Mapping[str, tuple[int, ...]],
        scale: float,
        weight: float = 1.0,
    ) -> None:
        """Check the matrices A and B of an adapter against the network.

        Args:
            shapes: of the network's weights.
            scale: alpha / rank.
            weight: how much of the change is wanted.
        """
        self.adapter, self.scale, self.weight = adapter, scale, weight
        self.pairs: dict[str, tuple[Tensor, Tensor]] = {}
        """A and B of each weight that has a low-rank change, by its name."""
        self.whole: dict[str, Tensor] = {}
        """Weights that were saved whole."""
        wrong = []
        for name, a in adapter.items():
            layer, _, part = name.partition(".lora_")
            if not part:
                self.whole[name] = a
                if tuple(a.shape) != tuple(shapes.get(name, ())):
                    wrong.append(name)
            if part != "A.weight":
                continue
            b = adapter.get(f"{layer}.lora_B.weight")
            shape = shapes.get(f"{layer}.weight")
            if b is None or shape is None or (b.shape[0], *a.shape[1:]) != tuple(shape):
                wrong.append(layer)
            else:
                self.pairs[f"{layer}.weight"] = (a, b)
        if wrong or not (self.pairs or self.whole):
            problem = ", ".join(wrong[:5]) or "it has no lora_A and lora_B"
            raise CheckpointError(f"The adapter is not one of this network: {problem}.")

    @property
    def names(self) -> set[str]:
        """The weights that it changes."""
        return {*self.pairs, *self.whole}

    def equals(self, other: "LowRankChange") -> bool:
        """Whether it is the same adapter, used in the same way."""
        own, theirs = (self.scale, self.weight), (other.scale, other.weight)
        return self.adapter is other.adapter and own == theirs

    def __call__(self, name: str, tensor: Tensor) -> Tensor:
        """A weight with what it changes, in float32; itself where it changes nothing."""
        if name in self.whole:
            whole = self.whole[name].to(tensor.device, torch.float32)
            tensor = whole if self.weight == 1 else tensor.float().lerp(whole, self.weight)
        if name in self.pairs:
            a, b = (part.to(tensor.device, torch.float32) for part in self.pairs[name])
            tensor = tensor.float() + change(a, b, self.scale * self.weight)
        return tensor


class Merged:
    """Weights one by one, with what adapters change.

    They are read anew whenever they are iterated over.
    """

    def __init__(
        self, weights: Iterable[tuple[str, Tensor]], changes: Iterable[LowRankChange]
    ) -> None:
        self.weights, self.changes = weights, list(changes)

    def __iter__(self) -> Iterator[tuple[str, Tensor]]:
        for name, tensor in self.weights:
            yield name, self.merged(name, tensor)

    def merged(self, name: str, tensor: Tensor) -> Tensor:
        """One weight with what the adapters change."""
        for one in self.changes:
            tensor = one(name, tensor)
        return tensor
