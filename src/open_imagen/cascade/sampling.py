"""The settings of sampling from one stage, and their defaults."""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from open_imagen.cascade.augmentation import check_noise_level
from open_imagen.config import parse
from open_imagen.diffusion.guidance import Guidance
from open_imagen.diffusion.samplers import SAMPLERS
from open_imagen.diffusion.thresholding import Threshold
from open_imagen.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How a stage is sampled. What is None is taken from the model's defaults."""

    steps: int | None = None
    """Noise levels walked through; more is slower and, up to a point, better."""
    guidance: float | None = None
    """Classifier-free guidance weight w; 1 is off."""
    guidance_low: float | None = None
    """Guide only at this log-SNR or above."""
    guidance_high: float | None = None
    """Guide only below this log-SNR."""
    sampler: str | None = None
    """ddpm, ddim, dpmpp_2m or heun."""
    threshold: str | None = None
    """dynamic, static or none."""
    percentile: float | None = None
    """Of dynamic thresholding."""
    threshold_cap: float | None = None
    """Upper bound of the dynamic threshold."""
    noise_level: float | None = None
    """Noise conditioning augmentation of a super-resolution stage, 0 to 1."""

    def __post_init__(self) -> None:
        if self.steps is not None and self.steps < 1:
            raise ConfigError(f"steps = {self.steps} must be at least 1.", "Try 50.")
        if self.sampler is not None:
            SAMPLERS[self.sampler]
        if self.noise_level is not None:
            check_noise_level(self.noise_level)
        # Building these is what checks guidance, threshold and their companions.
        _ = self.guide, self.thresholding

    def given(self) -> dict[str, Any]:
        """The settings that are not None."""
        values = dataclasses.asdict(self)
        return {key: value for key, value in values.items() if value is not None}

    def over(self, defaults: "Sampling") -> "Sampling":
        """These settings, and the defaults where this one has none."""
        return Sampling(**{**defaults.given(), **self.given()})

    def complete(self) -> "Sampling":
        """Nothing left open: the library's own fallback for what no one has set."""
        return Sampling(**self._full())

    @property
    def guide(self) -> Guidance:
        full = self._full()
        return Guidance(full["guidance"], full["guidance_low"], full["guidance_high"])

    @property
    def thresholding(self) -> Threshold:
        full = self._full()
        return Threshold(full["threshold"], full["percentile"], full["threshold_cap"])

    def _full(self) -> dict[str, Any]:
        return {**FALLBACK, **self.given()}


FALLBACK: dict[str, Any] = {
    "steps": 50,
    "guidance": 5.0,
    "guidance_low": -math.inf,
    "guidance_high": math.inf,
    "sampler": "dpmpp_2m",
    "threshold": "dynamic",
    "percentile": 99.5,
    "threshold_cap": math.inf,
    "noise_level": 0.1,
}


def parse_sampling(values: dict[str, Any], stage: str) -> Sampling:
    """Sampling settings from plain values, unknown keys refused with the stage's name."""
    return parse(Sampling, values, f"{stage}.")
