"""The optimiser: AdamW, the learning-rate curve over images seen, clipping, the finite check."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from open_imagen.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """How weights learn."""

    lr: float = 1e-4
    """Peak learning rate."""
    warmup: int = 10_000
    """Images over which the learning rate rises from 0."""
    decay: float = 0.0
    """Share of the run, at its end, over which the learning rate falls to 0."""
    beta1: float = 0.9
    beta2: float = 0.99
    eps: float = 1e-8
    weight_decay: float = 0.0
    clip: float = 1.0
    """Largest norm of the whole gradient."""

    def __post_init__(self) -> None:
        if not self.lr > 0 or not self.clip > 0:
            raise ConfigError(f"optim.lr = {self.lr} and optim.clip = {self.clip} must be above 0.")
        if not 0 <= self.decay <= 1:
            raise ConfigError(f"optim.decay = {self.decay} must be between 0 and 1.")

    def rate(self, seen: int, total: int) -> float:
        """The learning rate when ``seen`` of ``total`` images have been learned from."""
        rising = min(1.0, (seen + 1) / self.warmup) if self.warmup else 1.0
        falling = min(1.0, (total - seen) / (self.decay * total)) if self.decay else 1.0
        return self.lr * rising * max(falling, 0.0)


def make_optimizer(parameters: Iterable[nn.Parameter], config: OptimConfig) -> torch.optim.AdamW:
    """Fused AdamW with its state allocated, so that a checkpoint always has the same tensors."""
    optimizer = torch.optim.AdamW(
        list(parameters),
        lr=config.lr,
        betas=(config.beta1, config.beta2),
        eps=config.eps,
        weight_decay=config.weight_decay,
        fused=True,
    )
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            optimizer.state[parameter] = {
                "step": torch.zeros((), dtype=torch.float32, device=parameter.device),
                "exp_avg": torch.zeros_like(parameter),
                "exp_avg_sq": torch.zeros_like(parameter),
            }
    return optimizer


def clip(parameters: Iterable[nn.Parameter], limit: float) -> Tensor:
    """Scale gradients so that their norm is at most ``limit``; return the norm before."""
    return nn.utils.clip_grad_norm_(list(parameters), limit)
