"""Exponential moving averages of weights, and the power-function averages of post-hoc EMA."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from open_imagen.errors import ConfigError
from open_imagen.training.parallel import local_tensor, reshard
from open_imagen.training.posthoc_ema import gamma_of, power_decay


@dataclass(frozen=True, kw_only=True)
class EmaConfig:
    """The length of the average."""

    half_life: int = 500_000
    """Images after which the weight of a step has halved."""
    ramp: float = 0.05
    """Early in the run the half life is at most this share of the images seen, so that the first
    averages are not of noise."""
    sigma_rel: tuple[float, ...] = ()
    """sigma_rel of power-function averages whose snapshots are saved: with two, 0.05 and 0.10, an
    average of any length can be reconstructed after the run (imagen ema)."""
    snapshot_every: int = 0
    """Images between snapshots of these, in RUN/posthoc_ema; 0 for none."""

    def __post_init__(self) -> None:
        if self.half_life < 0 or not self.ramp > 0:
            raise ConfigError("ema.half_life must be at least 0 and ema.ramp above 0.")
        for sigma_rel in self.sigma_rel:
            gamma_of(sigma_rel)

    def decay(self, images_seen: int, batch_size: int) -> float:
        """The decay of the average in a step that ended at ``images_seen``."""
        half_life = min(float(self.half_life), images_seen * self.ramp)
        return 0.5 ** (batch_size / half_life) if half_life > 0 else 0.0


class Ema:
    """Averages of the trainable weights of a network.

    ``weights`` is the one for sampling and export; ``profiles`` those of `EmaConfig.sigma_rel`.
    """

    def __init__(self, network: nn.Module, config: EmaConfig) -> None:
        self.config = config

        def copy() -> dict[str, Tensor]:
            trainable = ((n, p) for n, p in network.named_parameters() if p.requires_grad)
            return {name: parameter.detach().clone() for name, parameter in trainable}

        self.weights = copy()
        self.profiles = {sigma_rel: copy() for sigma_rel in config.sigma_rel}

    @torch.no_grad()
    def update(
        self,
        network: nn.Module,
        images_seen: int,
        batch_size: int,
        weights_of: Callable[[Sequence[Tensor]], list[Tensor]] = list,
    ) -> None:
        """Move towards the network's weights after a step that ended at ``images_seen``.

        Args:
            weights_of: what is averaged in place of the network's parameters.
        """
        current = dict(network.named_parameters())
        new = weights_of([current[name] for name in self.weights])
        averages = [(self.weights, self.config.decay(images_seen, batch_size))]
        averages += [
            (weights, power_decay(sigma_rel, images_seen, batch_size))
            for sigma_rel, weights in self.profiles.items()
        ]
        for weights, decay in averages:
            torch._foreach_lerp_(list(weights.values()), new, 1 - decay)

    @torch.no_grad()
    def swap(self, network: nn.Module) -> None:
        """Swap the network's weights with the average; call it again to swap back.

        Of sharded weights each process swaps its own shards, without any communication.
        """
        reshard(network)
        current = dict(network.named_parameters())
        for name, average in self.weights.items():
            weight, mean = local_tensor(current[name]), local_tensor(average)
            before = weight.clone()
            weight.copy_(mean)
            mean.copy_(before)

    def state(self) -> Iterator[tuple[str, Tensor]]:
        """All tensors that a checkpoint must hold, under stable names."""
        for name, average in self.weights.items():
            yield f"ema.{name}", average
        for sigma_rel, averages in self.profiles.items():
            for name, average in averages.items():
                yield f"ema@{sigma_rel:.3f}.{name}", average
