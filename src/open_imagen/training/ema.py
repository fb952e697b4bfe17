"""An exponential moving average of weights, its length counted in images."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from open_imagen.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class EmaConfig:
    """How long the average remembers."""

    half_life: int = 500_000
    """Images after which a weight counts half."""
    ramp: float = 0.05
    """Early on the half life is at most this share of the images seen, so that the first
    averages are not of noise."""

    def __post_init__(self) -> None:
        if self.half_life < 0 or not self.ramp > 0:
            raise ConfigError("ema.half_life must be at least 0 and ema.ramp above 0.")

    def keep(self, seen: int, batch: int) -> float:
        """The share of the old average that survives a step of ``batch`` images."""
        half_life = min(float(self.half_life), seen * self.ramp)
        return 0.5 ** (batch / half_life) if half_life > 0 else 0.0


class Ema:
    """The averaged weights of a network."""

    def __init__(self, network: nn.Module, config: EmaConfig) -> None:
        self.config = config
        self.weights = {name: p.detach().clone() for name, p in network.named_parameters()}

    @torch.no_grad()
    def update(self, network: nn.Module, seen: int, batch: int) -> None:
        """Move towards the network's weights after a step that ended at ``seen`` images."""
        keep = self.config.keep(seen, batch)
        current = dict(network.named_parameters())
        averages = list(self.weights.values())
        torch._foreach_lerp_(averages, [current[name] for name in self.weights], 1 - keep)

    @torch.no_grad()
    def exchange(self, network: nn.Module) -> None:
        """Swap the network's weights with the average; call it again to swap back."""
        for name, parameter in network.named_parameters():
            own = parameter.detach().clone()
            parameter.copy_(self.weights[name])
            self.weights[name].copy_(own)

    def state_dict(self) -> Mapping[str, Tensor]:
        return self.weights
