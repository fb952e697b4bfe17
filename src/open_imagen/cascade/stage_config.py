"""The settings of a stage, and whether a network can be a stage's."""

import math
from dataclasses import dataclass, field
from typing import Any

from open_imagen.cascade.augmentation import Augmentation
from open_imagen.cascade.sampling import Sampling
from open_imagen.diffusion.losses import Objective
from open_imagen.diffusion.schedules import Schedule
from open_imagen.errors import ConfigError, UnknownName

UNCONDITIONAL = ("zero", "empty")


@dataclass(frozen=True, kw_only=True)
class StageConfig:
    """Everything that defines a stage except its weights; written to its config.json."""

    name: str
    """base, sr256, sr1024 ..."""
    resolution: int
    """Side of its images in pixels."""
    lowres: int = 0
    """Side of the images that it upscales; 0 for the base."""
    network: dict[str, Any] = field(default_factory=dict)
    """The name of a preset or a network class, and its settings."""
    schedule: Schedule = field(default_factory=Schedule)
    """The noise schedule: log-SNR as a function of time."""
    objective: Objective = field(default_factory=Objective)
    """The prediction type and the loss weighting."""
    augmentation: Augmentation = field(default_factory=Augmentation)
    """How the low-resolution image is upsampled and noised."""
    unconditional: str = "zero"
    """The text of the unconditional branch: zero (the paper) or the empty sentence."""
    distilled_guidance: float = 1.0
    """The guidance scale that is distilled into the network's own prediction
    (training/objectives/distillation.py). Sampling with it needs no second prediction."""
    sampling: Sampling = field(default_factory=Sampling)
    """Sampling defaults."""

    def __post_init__(self) -> None:
        if self.resolution < 8:
            raise ConfigError(f"{self.name}: resolution = {self.resolution} is too small.")
        if self.lowres < 0:
            raise ConfigError(f"{self.name}: lowres = {self.lowres} must be at least 0.")
        if self.lowres and self.resolution % self.lowres:
            raise ConfigError(
                f"{self.name}: lowres = {self.lowres} must divide resolution = {self.resolution}."
            )
        if not (math.isfinite(self.distilled_guidance) and self.distilled_guidance > 0):
            raise ConfigError(
                f"{self.name}: distilled_guidance = {self.distilled_guidance} must be above 0."
            )
        if self.unconditional not in UNCONDITIONAL:
            raise UnknownName("unconditional", self.unconditional, UNCONDITIONAL)
        if self.schedule.zero_snr and self.objective.prediction == "eps":
            raise ConfigError(
                f"{self.name}: schedule.zero_snr = true does not work with prediction = 'eps'.",
                "Predict x or v: at zero SNR, eps says nothing about the image.",
            )


def uses_timesteps(network: Any) -> bool:
    """Whether a network of this config is conditioned on timesteps of a discrete schedule."""
    return getattr(network, "level", "logsnr") == "step"


def check_network(config: StageConfig, network: Any) -> None:
    """Check that a network, by its config, can be this stage's.

    Raises:
        ConfigError: it cannot.
    """
    if bool(config.lowres) != network.lowres:
        raise ConfigError(
            f"{config.name}: lowres = {config.lowres} does not fit a network with "
            f"lowres = {network.lowres}.",
            "Base stages have neither, super-resolution stages both.",
        )
    if config.resolution % network.divisor:
        below = config.resolution // network.divisor * network.divisor
        raise ConfigError(
            f"{config.name}: resolution = {config.resolution} must be a multiple of "
            f"{network.divisor}. Nearest: {below or network.divisor} or "
            f"{below + network.divisor}."
        )
    if uses_timesteps(network) and not config.schedule.discrete:
        raise ConfigError(
            f"{config.name}: a network conditioned on timesteps needs a discrete schedule, not "
            f"{config.schedule.name!r}."
        )
