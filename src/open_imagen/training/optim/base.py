"""Settings of the optimiser, the learning-rate schedule, and the optimisers by name."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from open_imagen.errors import ConfigError, UnknownName
from open_imagen.registry import Registry

CURVES = ("cosine", "linear")

NamedParameters = Sequence[tuple[str, nn.Parameter]]


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """The optimiser and its learning-rate schedule."""

    name: str = "adamw"
    """adamw; adafactor (the paper's base); muon: Muon for inner matrices and convolutions, AdamW
    for the rest; or schedulefree: schedule-free AdamW, without decay of the learning rate."""
    lr: float = 1e-4
    """Peak learning rate."""
    warmup: int = 10_000
    """Images over which the learning rate rises from 0."""
    decay: float = 0.0
    """Share of the run, at its end, over which the learning rate decays to 0."""
    curve: str = "linear"
    """Shape of the decay: linear or cosine."""
    beta1: float = 0.9
    beta2: float = 0.99
    eps: float = 1e-8
    weight_decay: float = 0.0
    momentum: float = 0.95
    """Of Muon."""
    relative_step: bool = False
    """Of Adafactor: the learning rate is at most 1 / sqrt(step), as in its authors' default."""
    clip: float = 1.0
    """Maximum norm of the whole gradient."""

    def __post_init__(self) -> None:
        if self.name not in OPTIMIZERS:
            raise UnknownName("optimiser", self.name, OPTIMIZERS)
        if self.curve not in CURVES:
            raise UnknownName("curve", self.curve, CURVES)
        if not self.lr > 0 or not self.clip > 0:
            raise ConfigError(f"optim.lr = {self.lr} and optim.clip = {self.clip} must be above 0.")
        if self.name == "schedulefree" and (self.decay or not self.beta1 > 0):
            raise ConfigError(
                f"optim.decay = {self.decay} and optim.beta1 = {self.beta1}: schedulefree averages "
                "weights in place of a decay, with the weight beta1.",
                "Set optim.decay = 0.0 and optim.beta1 = 0.9.",
            )
        if not 0 <= self.decay <= 1:
            raise ConfigError(f"optim.decay = {self.decay} must be between 0 and 1.")

    def rate(self, images_seen: int, total_images: int) -> float:
        """The learning rate of the step that begins at ``images_seen``."""
        warmup = min(1.0, (images_seen + 1) / self.warmup) if self.warmup else 1.0
        left = 1.0
        if self.decay:
            left = (total_images - images_seen) / (self.decay * total_images)
            left = min(1.0, max(0.0, left))
        decay = left if self.curve == "linear" else (1 - math.cos(math.pi * left)) / 2
        return self.lr * warmup * decay


@dataclass(frozen=True)
class OptimizerSpec:
    """How the optimisers of a name are made."""

    build: Callable[[NamedParameters, OptimConfig], list[torch.optim.Optimizer]]
    """(trainable parameters, settings) -> optimisers with their state allocated, so that a
    checkpoint always has the same tensors. Each parameter belongs to one of them."""
    count_state: Callable[[str, nn.Parameter], int]
    """(name, parameter, perhaps on "meta") -> numbers of state that are kept for it."""
    group_state: tuple[str, ...] = ()
    """Numbers of a parameter group that change while training; a checkpoint holds them."""
    evaluation_weight: Callable[[torch.optim.Optimizer, Tensor], Tensor] | None = None
    """(the optimiser, a parameter of it) -> the weight to sample with, where that is not the one
    that gradients are taken at."""


OPTIMIZERS: Registry[OptimizerSpec] = Registry("optimiser")
