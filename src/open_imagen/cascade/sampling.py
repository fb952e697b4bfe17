"""The settings of sampling from one stage, and their defaults."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from open_imagen.cascade.augmentation import check_noise_level
from open_imagen.cascade.colors import check_color_correction
from open_imagen.cascade.values import real_number, text, whole_number, whole_numbers
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

MAX_STEPS = 10_000
"""More steps than any sampler gains from: a number above it is a mistake."""


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How a stage is sampled. What is None is taken from the model's defaults."""

    steps: int | None = None
    """Sampling steps; more are slower and, up to a point, better."""
    guidance: float | None = None
    """Classifier-free guidance weight w; 1 is off."""
    guidance_low: float | None = None
    """Guide only at this log-SNR or above."""
    guidance_high: float | None = None
    """Guide only below this log-SNR."""
    guidance_steps: float | None = None
    """From this step on only every second one is guided (oscillating guidance)."""
    guidance_rescale: float | None = None
    """0 to 1: how far guided predictions are brought back to the spread of unguided ones."""
    guidance_kind: str | None = None
    """cfg, apg (adaptive projected guidance) or cfg_zero (CFG-Zero*): docs/guides/sampling.md."""
    apg_momentum: float | None = None
    """Of apg: the share of the earlier steps' differences that is added."""
    apg_norm: float | None = None
    """Of apg: upper bound of the difference's root mean square."""
    apg_parallel: float | None = None
    """APG: the weight of the component parallel to the prediction; 1 keeps it whole."""
    zero_init_steps: int | None = None
    """CFG-Zero: the number of first steps with zero velocity."""
    sampler: str | None = None
    """ddpm, ddim, dpmpp_2m, dpmpp_2m_sde, unipc, heun or heun_sde."""
    gamma: float | None = None
    """DDPM: interpolates between the smaller (0) and the larger (1) of the two posterior variances;
    a learned variance takes precedence."""
    churn: float | None = None
    """Of heun_sde: fresh noise over the whole way."""
    sde_from_logsnr: float | None = None
    """Of unipc: from this log-SNR on, its steps bring in fresh noise, as dpmpp_2m_sde's do."""
    spacing: str | None = None
    """Of the noise levels: trailing, power, leading, linspace or logsnr (see Schedule.levels)."""
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
    """Super-resolution: correct the colours of surfaces towards those of the low-resolution input.
    The sigma of a Gaussian in its pixels; 0 is off (see colors.py)."""

    adapter: str | None = None
    """Of a stage with named adapters (cascade/variants.py): which is used; "none": its own weights.
    What else is not set is then taken from that adapter's defaults."""

    def __post_init__(self) -> None:
        for name, value in self.given().items():
            object.__setattr__(self, name, CONVERTERS[type(DEFAULTS[name])](value, name))
        self.resolve()  # checks every setting

    def given(self) -> dict[str, Any]:
        """The settings that are not None."""
        return {key: value for key, value in vars(self).items() if value is not None}

    def over(self, defaults: "Sampling | ResolvedSampling") -> "Sampling":
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

    def resolve(self) -> "ResolvedSampling":
        """All settings, with the library's defaults for those that are not given."""
        return ResolvedSampling(**self.given())


@dataclass(frozen=True, kw_only=True)
class ResolvedSampling:
    """The settings that a stage is sampled with, all resolved, with the library's defaults.

    `Sampling` describes each of them.
    """

    steps: int = 50
    guidance: float = 5.0
    guidance_low: float = -math.inf
    guidance_high: float = math.inf
    guidance_steps: float = math.inf
    guidance_rescale: float = 0.0
    guidance_kind: str = "cfg"
    apg_momentum: float = 0.0
    apg_norm: float = math.inf
    apg_parallel: float = 0.0
    zero_init_steps: int = 0
    sampler: str = "dpmpp_2m"
    gamma: float = GAMMA
    churn: float = CHURN
    sde_from_logsnr: float = math.inf
    spacing: str = "trailing"
    logsnr_start: float = -math.inf
    timesteps: tuple[int, ...] = ()
    threshold: str = "dynamic"
    percentile: float = 99.5
    threshold_cap: float = math.inf
    noise_level: float = 0.1
    color_correction: float = 0.0
    adapter: str = ""

    def __post_init__(self) -> None:
        if not 1 <= self.steps <= MAX_STEPS:
            raise ConfigError(
                f"steps = {self.steps} must be at least 1 and at most {MAX_STEPS}.", "Try 50."
            )
        _ = SAMPLERS[self.sampler]
        if self.spacing not in SPACINGS:
            raise UnknownName("spacing", self.spacing, SPACINGS)
        check_noise_level(self.noise_level)
        check_color_correction(self.color_correction)
        if not 0 <= self.gamma <= 1:
            raise ConfigError(f"gamma = {self.gamma} must be between 0 and 1.")
        if not self.churn >= 0:
            raise ConfigError(f"churn = {self.churn} must be at least 0.")
        if math.isnan(self.sde_from_logsnr):
            raise ConfigError("sde_from_logsnr = nan must be a log-SNR.", "inf is no fresh noise.")
        # Building these is what checks guidance, threshold and their companions.
        _ = self.guide, self.thresholding

    def given(self) -> dict[str, Any]:
        """All settings, by name."""
        return dict(vars(self))

    @property
    def together(self) -> "ResolvedSampling":
        """The settings that images of one batch must share.

        Weights of guidance may differ, if they guide at all, and so may noise levels.
        """
        guided = 1.0 if self.guidance == 1 else 2.0
        return dataclasses.replace(self, guidance=guided, noise_level=0.0)

    @property
    def guide(self) -> Guidance:
        """Where and how strongly predictions are guided."""
        return Guidance(
            self.guidance,
            self.guidance_low,
            self.guidance_high,
            self.guidance_steps,
            self.guidance_rescale,
            self.guidance_kind,
            self.apg_momentum,
            self.apg_norm,
            self.apg_parallel,
            self.zero_init_steps,
        )

    @property
    def walk(self) -> Sampler:
        """The sampler with its own settings."""
        if self.sampler == "ddpm":
            return with_gamma(self.gamma)
        if self.sampler == "unipc":
            return with_sde_from(self.sde_from_logsnr)
        return with_churn(self.churn) if self.sampler == "heun_sde" else SAMPLERS[self.sampler]

    def levels(self, schedule: Schedule) -> list[float]:
        """The log-SNRs of the sampling steps on this schedule, increasing."""
        return schedule.levels(self.steps, self.spacing, self.logsnr_start, self.timesteps)

    @property
    def thresholding(self) -> Threshold:
        """How estimates outside [-1, 1] are brought back."""
        return Threshold(self.threshold, self.percentile, self.threshold_cap)


DEFAULTS = ResolvedSampling().given()
CONVERTERS: dict[type, Callable[[Any, str], Any]] = {
    int: whole_number,
    float: real_number,
    str: text,
    tuple: whole_numbers,
}


def parse_sampling(values: Mapping[str, Any], stage: str) -> Sampling:
    """Sampling settings from plain values; None leaves a setting open.

    Raises:
        UnknownName: there is no such setting; the message has the stage's name.
        ConfigError: a value is of the wrong type, or out of range.
    """
    for name in values:
        if name not in DEFAULTS:
            raise UnknownName("setting", f"{stage}.{name}", [f"{stage}.{key}" for key in DEFAULTS])
    return Sampling(**values)
