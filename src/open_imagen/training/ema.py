"""Moving averages of weights: one that is used, and some from which others are made later."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from open_imagen.errors import ConfigError
from open_imagen.training.averages import gamma_of, keep
from open_imagen.training.parallel import local_tensor, reshard


@dataclass(frozen=True, kw_only=True)
class EmaConfig:
    """How long the average remembers."""

    half_life: int = 500_000
    """Images after which a weight counts half."""
    ramp: float = 0.05
    """Early on the half life is at most this share of the images seen, so that the first
    averages are not of noise."""
    lengths: tuple[float, ...] = ()
    """Lengths, relative to the run, of power-function averages kept beside it: from snapshots of
    two, 0.05 and 0.10, an average of any length is made after the run (imagen average)."""
    snapshot_every: int = 0
    """Images between snapshots of these, in RUN/averages; 0 for none."""

    def __post_init__(self) -> None:
        if self.half_life < 0 or not self.ramp > 0:
            raise ConfigError("ema.half_life must be at least 0 and ema.ramp above 0.")
        for length in self.lengths:
            gamma_of(length)

    def keep(self, seen: int, batch: int) -> float:
        """The share of the old average that survives a step of ``batch`` images."""
        half_life = min(float(self.half_life), seen * self.ramp)
        return 0.5 ** (batch / half_life) if half_life > 0 else 0.0


class Ema:
    """Averages of the weights of a network that learn.

    ``weights`` is the one for sampling and export; ``profiles`` those of `EmaConfig.lengths`.
    """

    def __init__(self, network: nn.Module, config: EmaConfig) -> None:
        self.config = config

        def copy() -> dict[str, Tensor]:
            learning = ((n, p) for n, p in network.named_parameters() if p.requires_grad)
            return {name: parameter.detach().clone() for name, parameter in learning}

        self.weights = copy()
        self.profiles = {length: copy() for length in config.lengths}

    @torch.no_grad()
    def update(self, network: nn.Module, seen: int, batch: int) -> None:
        """Move towards the network's weights after a step that ended at ``seen`` images."""
        current = dict(network.named_parameters())
        new: list[Tensor] = [current[name] for name in self.weights]
        averages = [(self.weights, self.config.keep(seen, batch))]
        averages += [(own, keep(length, seen, batch)) for length, own in self.profiles.items()]
        for weights, kept in averages:
            torch._foreach_lerp_(list(weights.values()), new, 1 - kept)

    @torch.no_grad()
    def exchange(self, network: nn.Module) -> None:
        """Swap the network's weights with the average; call it again to swap back.

        Of weights in shards each process swaps its own, without any communication.
        """
        reshard(network)
        current = dict(network.named_parameters())
        for name, average in self.weights.items():
            weight, mean = local_tensor(current[name]), local_tensor(average)
            kept = weight.clone()
            weight.copy_(mean)
            mean.copy_(kept)

    def state(self) -> Iterator[tuple[str, Tensor]]:
        """Everything that a checkpoint must hold, under stable names."""
        for name, average in self.weights.items():
            yield f"ema.{name}", average
        for length, averages in self.profiles.items():
            for name, average in averages.items():
                yield f"ema@{length:.3f}.{name}", average
