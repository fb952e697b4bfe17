"""The optimiser of a network by its name in a recipe: several optimisers behind one interface."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from open_imagen.training.optim.base import OPTIMIZERS, OptimConfig, OptimizerSpec


class CombinedOptimizer:
    """Several optimisers behind one interface: each has parameters of its own."""

    def __init__(
        self, *optimizers: torch.optim.Optimizer, spec: OptimizerSpec | None = None
    ) -> None:
        self.optimizers, self.spec = optimizers, spec

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The groups of all optimizers."""
        return [group for optimizer in self.optimizers for group in optimizer.param_groups]

    @property
    def state(self) -> dict[nn.Parameter, dict[str, Tensor]]:
        """All state that a checkpoint must hold, by parameter."""
        merged: dict[nn.Parameter, dict[str, Tensor]] = {}
        for optimizer in self.optimizers:
            merged.update(optimizer.state)  # type: ignore[arg-type]
        return merged

    @property
    def group_state(self) -> list[dict[str, float]]:
        """Numbers of each parameter group that a checkpoint must hold beside tensors."""
        names = () if self.spec is None else self.spec.group_state
        return [{name: group[name] for name in names} for group in self.param_groups]

    def load_group_state(self, state: Sequence[Mapping[str, float]]) -> None:
        """Set what `group_state` gave."""
        for group, values in zip(self.param_groups, state, strict=True):
            group.update(values)

    def evaluation_weights(self, parameters: Sequence[Tensor]) -> list[Tensor]:
        """The weights to sample with; mostly the parameters themselves."""
        if self.spec is None or self.spec.evaluation_weight is None:
            return list(parameters)
        [optimizer] = self.optimizers
        return [self.spec.evaluation_weight(optimizer, one) for one in parameters]

    def step(self) -> None:
        """Update all parameters."""
        for optimizer in self.optimizers:
            optimizer.step()

    def zero_grad(self) -> None:
        """Drop all gradients."""
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)


def make_optimizer(network: nn.Module, config: OptimConfig) -> CombinedOptimizer:
    """The optimiser of a network's trainable parameters, with its state allocated."""
    trainable = [(name, p) for name, p in network.named_parameters() if p.requires_grad]
    spec = OPTIMIZERS[config.name]
    return CombinedOptimizer(*spec.build(trainable, config), spec=spec)


def count_state(network: nn.Module, config: OptimConfig) -> int:
    """Numbers of state that the optimiser keeps for a network, which may be on "meta"."""
    count = OPTIMIZERS[config.name].count_state
    return sum(count(name, parameter) for name, parameter in network.named_parameters())
