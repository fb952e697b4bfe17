"""Noise schedules: time t in [0, 1] -> log-SNR -> (alpha, sigma).

Variance preserving: z = alpha x + sigma eps, alpha^2 + sigma^2 = 1, logsnr = log(alpha^2 / sigma^2)
(Saharia et al. 2022, appendix A). t = 0 is clean, t = 1 is noise.
"""

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from open_imagen.errors import ConfigError, UnknownName
from open_imagen.registry import Registry

Curve = Callable[["Schedule", Tensor], Tensor]
CURVES: Registry[Curve] = Registry("schedule")
DISCRETE = ("discrete_cosine",)


SPACINGS = ("even", "late", "leading", "linspace", "logsnr")
LATE = 0.8
"""Power of `late`: below 1, less of few steps goes where there is little but noise."""
STEPS = 1000
"""Of discrete schedules."""


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Which noise level belongs to which time."""

    name: str = "cosine"
    """cosine, linear, shifted, or discrete_cosine."""
    resolution: int = 64
    """Side of the images in pixels; `shifted` alone uses it."""
    reference: int = 64
    """The resolution at which `shifted` is the plain truncated cosine."""
    logsnr_min: float = -15.0
    """Lower bound of the log-SNR, reached at t = 1."""
    logsnr_max: float = 15.0
    """Upper bound of the log-SNR, reached at t = 0."""
    zero_snr: bool = False
    """Stretch the schedule so that t = 1 is noise and nothing else (Lin et al. 2023, 3.1)."""

    def __post_init__(self) -> None:
        CURVES[self.name]
        if not self.logsnr_min < self.logsnr_max:
            raise ConfigError(
                f"schedule.logsnr_min = {self.logsnr_min} must be below "
                f"schedule.logsnr_max = {self.logsnr_max}."
            )

    @property
    def discrete(self) -> bool:
        """Whether only 1,000 whole steps have a meaning."""
        return self.name in DISCRETE

    def logsnr(self, t: Tensor) -> Tensor:
        """Log-SNR at times t in [0, 1], any shape; falls as t grows."""
        logsnr = self._bounded(t)
        if not self.zero_snr:
            return logsnr
        first, last = (alpha_sigma(self._bounded(t.new_tensor(end)))[0] for end in (0.0, 1.0))
        alpha = (alpha_sigma(logsnr)[0] - last).clamp(min=0) * first / (first - last)
        return torch.logit(alpha.square())

    def levels(
        self,
        steps: int,
        spacing: str = "even",
        logsnr_start: float = -math.inf,
        chosen: Sequence[int] = (),
    ) -> list[float]:
        """Noise levels for sampling, noisiest first, steps + 1 of them.

        The last is +inf, the clean image itself, so that no residue of noise stays in it.

        Args:
            spacing: of the others. even: times from 1 down to 1 / steps (appendix A; "trailing" to
                others); late: 1 - (k / steps)^0.8, closer together towards the picture, for few
                steps; leading: from 1 - 1 / steps to 0; linspace: from 1 to 0; logsnr: even in
                log-SNR. On a discrete schedule times are whole steps.
            logsnr_start: begin no noisier than this (the lambda clip of DPM-Solver).
            chosen: these of the 1,000 steps and no others, in place of ``steps`` and ``spacing``.

        Raises:
            ConfigError: steps is below 1, more than a discrete schedule has, or the chosen steps
                do not fall from at most 999 to at least 0.
            UnknownName: no such spacing.
        """
        if spacing not in SPACINGS:
            raise UnknownName("spacing", spacing, SPACINGS)
        limit = STEPS if self.discrete else math.inf
        if not 1 <= steps <= limit:
            raise ConfigError(f"steps = {steps} must be 1 to {limit}.", "Try 50.")
        latest = self.time(logsnr_start)
        if chosen:
            t = torch.tensor(_checked(chosen), dtype=torch.float64) / (STEPS - 1)
            t = t[t <= latest]
        elif spacing == "logsnr":
            ends = self.logsnr(torch.tensor([latest, 0.0], dtype=torch.float64))
            first = max(float(ends[0]), self.logsnr_min)
            return [*torch.linspace(first, float(ends[1]), steps).double().tolist(), math.inf]
        elif self.discrete:
            t = _whole_steps(steps, spacing, round(latest * (STEPS - 1)) + 1) / (STEPS - 1)
        else:
            t = latest * _fractions(steps, spacing)
        return [*self.logsnr(t).tolist(), math.inf]

    def step_of(self, logsnr: Tensor) -> Tensor:
        """The step of the 1,000 with the nearest log-SNR, as a float tensor; discrete only."""
        table = _discrete_cosine().to(logsnr.device)
        halfway = (table[1:] + table[:-1]) / 2
        return torch.bucketize(-logsnr.double(), -halfway).to(torch.float32)

    def _bounded(self, t: Tensor) -> Tensor:
        return CURVES[self.name](self, t).clamp(self.logsnr_min, self.logsnr_max)

    def time(self, logsnr: float) -> float:
        """The latest time at which the log-SNR is at least this; of a level, its time."""
        if logsnr <= self.logsnr_min:
            return 1.0
        below, above = 0.0, 1.0
        for _ in range(60):
            middle = (below + above) / 2
            enough = float(self.logsnr(torch.tensor(middle, dtype=torch.float64))) >= logsnr
            below, above = (middle, above) if enough else (below, middle)
        return math.floor(below * (STEPS - 1) + 1e-6) / (STEPS - 1) if self.discrete else below


def _fractions(steps: int, spacing: str) -> Tensor:
    """Times from late to early, of a continuous schedule."""
    if spacing == "linspace":
        return torch.linspace(1, 0, steps, dtype=torch.float64)
    if spacing == "late":
        return 1 - (torch.arange(steps, dtype=torch.float64) / steps) ** LATE
    ends = torch.linspace(1, 0, steps + 1, dtype=torch.float64)
    return ends[:-1] if spacing == "even" else ends[1:]


def _whole_steps(steps: int, spacing: str, total: int) -> Tensor:
    """Numbers of steps from late to early, as everyone's discrete samplers space them."""
    if spacing == "leading":
        return torch.arange(steps, dtype=torch.float64).flip(0) * (total // steps)
    if spacing == "linspace":
        return torch.linspace(total - 1, 0, steps, dtype=torch.float64).round()
    if spacing == "late":
        found = (total * _fractions(steps, spacing)).round().clamp(min=1) - 1
        if len(set(found.tolist())) < steps:
            raise ConfigError(
                f"steps = {steps} are too many for spacing = 'late' on {total:,} whole steps.",
                "Use spacing = 'even', or fewer.",
            )
        return found
    return (total - torch.arange(steps, dtype=torch.float64) * total / steps).round() - 1


def _checked(chosen: Sequence[int]) -> list[int]:
    steps = list(chosen)
    if steps != sorted(set(steps), reverse=True) or not 0 <= steps[-1] <= steps[0] < STEPS:
        raise ConfigError(
            f"timesteps = {steps[:3]}... must fall, from {STEPS - 1} at most to 0 at least."
        )
    return steps


def alpha_sigma(logsnr: Tensor) -> tuple[Tensor, Tensor]:
    """Signal and noise scale: alpha^2 = sigmoid(logsnr), sigma^2 = sigmoid(-logsnr)."""
    return logsnr.sigmoid().sqrt(), (-logsnr).sigmoid().sqrt()


@CURVES.register("cosine")
def cosine(schedule: Schedule, t: Tensor) -> Tensor:
    """alpha^2 = cos^2(pi/2 (t + s) / (1 + s)), s = 0.008 (Nichol and Dhariwal 2021, eq. 17).

    Through the complement of the angle, which float32 does not round beyond a right one at t = 1.
    """
    s = 0.008
    return 2 * torch.log(torch.tan(math.pi / 2 * (1 - t) / (1 + s)).clamp(min=1e-12))


@CURVES.register("linear")
def linear(schedule: Schedule, t: Tensor) -> Tensor:
    """The 1,000-step linear schedule (beta 1e-4 to 0.02) in continuous time.

    alpha^2 = exp(-(1e-4 + 10 t^2)), hence logsnr = -log(expm1(1e-4 + 10 t^2)).
    """
    return -torch.log(torch.expm1(1e-4 + 10 * t**2))


@CURVES.register("shifted")
def shifted(schedule: Schedule, t: Tensor) -> Tensor:
    """Cosine, moved towards noise as images grow (Hoogeboom et al. 2023, simple diffusion).

    logsnr = -2 log tan(a + t (b - a)) + 2 log(reference / resolution), where a and b give
    the two bounds at t = 0 and 1.
    """
    a = math.atan(math.exp(-schedule.logsnr_max / 2))
    b = math.atan(math.exp(-schedule.logsnr_min / 2))
    shift = 2 * math.log(schedule.reference / schedule.resolution)
    return -2 * torch.log(torch.tan(a + t * (b - a))) + shift


@CURVES.register("discrete_cosine")
def discrete_cosine(schedule: Schedule, t: Tensor) -> Tensor:
    """The 1,000 steps of Improved DDPM, t = step / 999; between steps, a straight line."""
    table = _discrete_cosine().to(t.device)
    place = t.double() * (STEPS - 1)
    below = place.round(decimals=6).floor().clamp(0, STEPS - 2)
    part, index = place - below, below.long()
    return ((1 - part) * table[index] + part * table[index + 1]).to(t.dtype)


@functools.cache
def _discrete_cosine() -> Tensor:
    """Log-SNR after each step: betas from the cosine, at most 0.999 (Nichol and Dhariwal 2021)."""
    ends = torch.arange(STEPS + 1, dtype=torch.float64) / STEPS
    curve = torch.cos(math.pi / 2 * (ends + 0.008) / 1.008).square()
    betas = (1 - curve[1:] / curve[:-1]).clamp(max=0.999)
    return torch.logit((1 - betas).cumprod(0))
