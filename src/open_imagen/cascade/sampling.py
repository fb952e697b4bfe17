"""The settings of sampling from one stage, and their defaults."""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from open_imagen.cascade.augmentation import check_noise_level
from open_imagen.cascade.colors import check_color_correction
from open_imagen.config import parse
from open_imagen.diffusion.guidance import Guidance
from open_imagen.diffusion.samplers import (
    CHURN,
    GAMMA,
    SAMPLERS,
    Sampler,
    with_churn,
    with_gamma,
    with_sde_from,
)
from open_imagen.diffusion.schedules import SPACINGS, Schedule
from open_imagen.diffusion.thresholding import Threshold
from open_imagen.errors import ConfigError, UnknownName


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
    guidance_steps: float | None = None
    """After so many steps only every second one is guided (oscillating guidance)."""
    guidance_rescale: float | None = None
    """0 to 1: how far guided predictions are brought back to the spread of unguided ones."""
    sampler: str | None = None
    """ddpm, ddim, dpmpp_2m, dpmpp_2m_sde, unipc, heun or heun_sde."""
    gamma: float | None = None
    """Of ddpm: 0 the smaller, 1 the larger of the two variances; a learned one has precedence."""
    churn: float | None = None
    """Of heun_sde: fresh noise over the whole way."""
    sde_from_logsnr: float | None = None
    """Of unipc: from this log-SNR on, its steps bring in fresh noise, as dpmpp_2m_sde's do."""
    spacing: str | None = None
    """Of the noise levels: even, late, leading, linspace or logsnr (see Schedule.levels)."""
    logsnr_start: float | None = None
    """Begin no noisier than this; -10.2 is usual with DPM-Solver on a cosine schedule."""
    timesteps: tuple[int, ...] | None = None
    """Exactly these steps of 1,000, from late to early, in place of `steps` and `spacing`. Where a
    model has them, asking for other steps or spacing puts them aside."""
    threshold: str | None = None
    """dynamic, static or none."""
    percentile: float | None = None
    """Of dynamic thresholding."""
    threshold_cap: float | None = None
    """Upper bound of the dynamic threshold."""
    noise_level: float | None = None
    """Noise conditioning augmentation of a super-resolution stage, 0 to 1."""
    color_correction: float | None = None
    """Of a super-resolution stage: give surfaces back the colours that they have in the picture
    that it enlarges. The sigma of a Gaussian in its pixels; 0 is off (see colors.py)."""

    adapter: str | None = None
    """Of a stage with named adapters (cascade/variants.py): which is used; "none": its own weights.
    What else is not set is then taken from that adapter's defaults."""

    def __post_init__(self) -> None:
        if self.steps is not None and self.steps < 1:
            raise ConfigError(f"steps = {self.steps} must be at least 1.", "Try 50.")
        if self.sampler is not None:
            SAMPLERS[self.sampler]
        if self.spacing is not None and self.spacing not in SPACINGS:
            raise UnknownName("spacing", self.spacing, SPACINGS)
        if self.noise_level is not None:
            check_noise_level(self.noise_level)
        if self.color_correction is not None:
            check_color_correction(self.color_correction)
        if self.gamma is not None and not 0 <= self.gamma <= 1:
            raise ConfigError(f"gamma = {self.gamma} must be between 0 and 1.")
        if self.churn is not None and not self.churn >= 0:
            raise ConfigError(f"churn = {self.churn} must be at least 0.")
        if self.sde_from_logsnr is not None and math.isnan(self.sde_from_logsnr):
            raise ConfigError("sde_from_logsnr = nan must be a log-SNR.", "inf is no fresh noise.")
        # Building these is what checks guidance, threshold and their companions.
        _ = self.guide, self.thresholding

    def given(self) -> dict[str, Any]:
        """The settings that are not None."""
        values = dataclasses.asdict(self)
        return {key: value for key, value in values.items() if value is not None}

    def over(self, defaults: "Sampling") -> "Sampling":
        """These settings, and the defaults where this one has none.

        Other steps than a model's own make its `timesteps`, which say which these are, pointless;
        and where timesteps are given, its `logsnr_start` shall not take the first of them away.
        """
        theirs, own = defaults.given(), self.given()
        if {"steps", "spacing"} & own.keys():
            theirs.pop("timesteps", None)
        if own.get("timesteps"):
            theirs.pop("logsnr_start", None)
        return Sampling(**{**theirs, **own})

    def complete(self) -> "Sampling":
        """Nothing left open: the library's own fallback for what no one has set."""
        return Sampling(**self._full())

    @property
    def together(self) -> "Sampling":
        """What pictures must have in common to be sampled in one batch.

        Weights of guidance may differ, if they guide at all, and so may noise levels.
        """
        guided = 1.0 if self._full()["guidance"] == 1 else 2.0
        return dataclasses.replace(self.complete(), guidance=guided, noise_level=0.0)

    @property
    def guide(self) -> Guidance:
        full = self._full()
        names = ("guidance", "guidance_low", "guidance_high", "guidance_steps", "guidance_rescale")
        return Guidance(*(full[name] for name in names))

    @property
    def walk(self) -> Sampler:
        """The sampler with its own settings."""
        full = self._full()
        chosen = full["sampler"]
        if chosen == "ddpm":
            return with_gamma(full["gamma"])
        if chosen == "unipc":
            return with_sde_from(full["sde_from_logsnr"])
        return with_churn(full["churn"]) if chosen == "heun_sde" else SAMPLERS[chosen]

    def levels(self, schedule: Schedule) -> list[float]:
        """The noise levels walked down, on this schedule."""
        full = self._full()
        names = ("steps", "spacing", "logsnr_start", "timesteps")
        return schedule.levels(*(full[name] for name in names))

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
    "guidance_steps": math.inf,
    "guidance_rescale": 0.0,
    "sampler": "dpmpp_2m",
    "gamma": GAMMA,
    "churn": CHURN,
    "sde_from_logsnr": math.inf,
    "spacing": "trailing",
    "logsnr_start": -math.inf,
    "timesteps": (),
    "threshold": "dynamic",
    "percentile": 99.5,
    "threshold_cap": math.inf,
    "noise_level": 0.1,
    "color_correction": 0.0,
    "adapter": "",
}


def parse_sampling(values: dict[str, Any], stage: str) -> Sampling:
    """Sampling settings from plain values, unknown keys refused with the stage's name."""
    return parse(Sampling, values, f"{stage}.")
