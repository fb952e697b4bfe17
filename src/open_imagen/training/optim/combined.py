"""The optimiser of a network by its name in a recipe: several optimisers behind one interface."""

from typing import Any

import torch
from torch import Tensor, nn

from open_imagen.training.optim.base import OPTIMIZERS, OptimConfig


class CombinedOptimizer:
    """Several optimisers behind one interface: each has parameters of its own."""

    def __init__(self, *optimizers: torch.optim.Optimizer) -> None:
        self.optimizers = optimizers

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        return [group for optimizer in self.optimizers for group in optimizer.param_groups]

    @property
    def state(self) -> dict[nn.Parameter, dict[str, Tensor]]:
        """All state that a checkpoint must hold, by parameter."""
        merged: dict[nn.Parameter, dict[str, Tensor]] = {}
        for optimizer in self.optimizers:
            merged.update(optimizer.state)  # type: ignore[arg-type]
        return merged

    def step(self) -> None:
        for optimizer in self.optimizers:
            optimizer.step()

    def zero_grad(self) -> None:
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)


def make_optimizer(network: nn.Module, config: OptimConfig) -> CombinedOptimizer:
    """The optimiser of a network's trainable parameters, with its state allocated."""
    trainable = [(name, p) for name, p in network.named_parameters() if p.requires_grad]
    return CombinedOptimizer(*OPTIMIZERS[config.name].build(trainable, config))


def count_state(network: nn.Module, config: OptimConfig) -> int:
    """Numbers of state that the optimiser keeps for a network, which may be on "meta"."""
    count = OPTIMIZERS[config.name].count_state
    return sum(count(name, parameter) for name, parameter in network.named_parameters())
