"""Noise schedules: time t in [0, 1] -> log-SNR -> (alpha, sigma).

Variance preserving: z = alpha x + sigma eps, alpha^2 + sigma^2 = 1, logsnr = log(alpha^2 / sigma^2)
(Saharia et al. 2022, appendix A). t = 0 is clean, t = 1 is noise.
"""

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from open_imagen.devices import float64
from open_imagen.errors import ConfigError, UnknownName
from open_imagen.registry import Registry

Curve = Callable[["Schedule", Tensor], Tensor]
CURVES: Registry[Curve] = Registry("schedule")
DISCRETE = ("discrete_cosine",)


SPACINGS = ("trailing", "power", "leading", "linspace", "logsnr")
RHO = 0.8
"""Exponent of `power` spacing: below 1, fewer steps are spent on the noisiest levels."""
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
        if not math.isfinite(self.logsnr_min) or not math.isfinite(self.logsnr_max):
            raise ConfigError(
                f"schedule.logsnr_min = {self.logsnr_min} and schedule.logsnr_max = "
                f"{self.logsnr_max} must be finite.",
                "For pure noise at t = 1 set schedule.zero_snr = true.",
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
        spacing: str = "trailing",
        logsnr_start: float = -math.inf,
        chosen: Sequence[int] = (),
    ) -> list[float]:
        """Noise levels for sampling, noisiest first, steps + 1 of them, no two equal.

        The last is +inf, the clean image itself, so that no residue of noise stays in it.

        Where the bounds of the log-SNR would make levels equal, all times are taken between the
        bounds. A discrete schedule, and ``chosen`` steps, have each level once: there may be fewer
        than asked for. So may there be where ``logsnr_start`` leaves a single level.

        Args:
            spacing: trailing: times from 1 down to 1 / steps (appendix A); power:
                1 - (k / steps)^rho with rho = 0.8, denser towards the clean image, for few steps;
                leading: from 1 - 1 / steps to 0; linspace: from 1 to 0; logsnr: even in log-SNR.
                On a discrete schedule times are whole steps.
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
            if float(t.min()) > latest:
                raise ConfigError(
                    f"logsnr_start = {logsnr_start} leaves none of the timesteps.",
                    "Lower it, or give earlier timesteps.",
                )
            levels = self.logsnr(t[t <= latest]).tolist()
        elif spacing == "logsnr":
            levels = self._even_levels(steps, latest)
        elif self.discrete:
            t = _whole_steps(steps, spacing, round(latest * (STEPS - 1)) + 1) / (STEPS - 1)
            levels = self.logsnr(t).tolist()
        else:
            levels = self._levels_at(_fractions(steps, spacing), latest)
        return _each_once(levels)

    def _even_levels(self, steps: int, latest: float) -> list[float]:
        """Levels even in log-SNR, from that at ``latest`` to that at t = 0."""
        ends = self.logsnr(torch.tensor([latest, 0.0], dtype=torch.float64))
        first, last = max(float(ends[0]), self.logsnr_min), float(ends[1])
        levels: list[float] = (
            torch.linspace(first, last, steps, dtype=torch.float32).double().tolist()
        )
        if not _are_apart(levels):
            levels = torch.linspace(first, last, steps, dtype=torch.float64).tolist()
        return levels

    def _levels_at(self, fractions: Tensor, latest: float) -> list[float]:
        """Levels at these fractions of the time up to ``latest``.

        Where the bounds make some of them equal: of the part in which the log-SNR falls.
        """
        levels: list[float] = self.logsnr(latest * fractions).tolist()
        if not _are_apart(levels):
            early, late = self._falling_times()
            late = min(late, latest)
            levels = self.logsnr(early + (late - early) * fractions).tolist()
        return levels

    def _falling_times(self) -> tuple[float, float]:
        """The times between which the log-SNR falls: before and after it rests at a bound."""
        top, bottom = self._level(0.0), self._level(1.0)
        early, _ = _last_time(lambda t: self._level(t) >= top)
        _, late = _last_time(lambda t: self._level(t) > bottom)
        return min(early, late), late

    def _level(self, t: float) -> float:
        return float(self.logsnr(torch.tensor(t, dtype=torch.float64)))

    def step_of(self, logsnr: Tensor) -> Tensor:
        """The step of the 1,000 with the nearest log-SNR, as a float tensor; discrete only."""
        exact = float64(logsnr)
        table = _discrete_cosine().to(exact.device)
        halfway = (table[1:] + table[:-1]) / 2
        return torch.bucketize(-exact, -halfway).to(logsnr.device, torch.float32)

    def _bounded(self, t: Tensor) -> Tensor:
        return CURVES[self.name](self, t).clamp(self.logsnr_min, self.logsnr_max)

    def time(self, logsnr: float) -> float:
        """The latest time at which the log-SNR is at least this; of a level, its time."""
        if logsnr <= self.logsnr_min:
            return 1.0
        found, _ = _last_time(lambda t: self._level(t) >= logsnr)
        return math.floor(found * (STEPS - 1) + 1e-6) / (STEPS - 1) if self.discrete else found


def _last_time(holds: Callable[[float], bool]) -> tuple[float, float]:
    """Bisection of [0, 1]: the last time at which this holds, and the next at which it does not."""
    below, above = 0.0, 1.0
    for _ in range(60):
        middle = (below + above) / 2
        below, above = (middle, above) if holds(middle) else (below, middle)
    return below, above


def _are_apart(levels: Sequence[float]) -> bool:
    """Whether each is so far above the one before that a network, in float32, sees two."""
    least = torch.finfo(torch.float32).eps
    return all(above - below > least * abs(above) for below, above in pairwise(levels))


def _each_once(levels: Sequence[float]) -> list[float]:
    """Rising levels, +inf last, without those that are not above the one before."""
    found: list[float] = []
    for level in levels:
        if level < math.inf and (not found or level > found[-1]):
            found.append(level)
    return [*found, math.inf]


def _fractions(steps: int, spacing: str) -> Tensor:
    """Times from late to early, of a continuous schedule."""
    if spacing == "linspace":
        return torch.linspace(1, 0, steps, dtype=torch.float64)
    if spacing == "power":
        return 1 - (torch.arange(steps, dtype=torch.float64) / steps) ** RHO
    ends = torch.linspace(1, 0, steps + 1, dtype=torch.float64)
    return ends[:-1] if spacing == "trailing" else ends[1:]


def _whole_steps(steps: int, spacing: str, total: int) -> Tensor:
    """Timesteps from late to early, spaced as in common discrete samplers.

    At most ``total`` of them.
    """
    steps = min(steps, total)
    if spacing == "leading":
        return torch.arange(steps, dtype=torch.float64).flip(0) * (total // steps)
    if spacing == "linspace":
        return torch.linspace(total - 1, 0, steps, dtype=torch.float64).round()
    if spacing == "power":
        return (total * _fractions(steps, spacing)).round().clamp(min=1) - 1
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
    """The limit of the linear schedule of 1,000 steps (beta 1e-4 to 0.02, Ho et al. 2020).

    With beta(t) = 0.1 + 19.9 t per unit of time, alpha^2 = exp(-(0.1 t + 9.95 t^2)), hence
    logsnr = -log(expm1(0.1 t + 9.95 t^2)).
    """
    return -torch.log(torch.expm1(0.1 * t + 9.95 * t**2))


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
    place = float64(t) * (STEPS - 1)
    table = _discrete_cosine().to(place.device)
    below = place.round(decimals=6).floor().clamp(0, STEPS - 2)
    part, index = place - below, below.long()
    return ((1 - part) * table[index] + part * table[index + 1]).to(t.device, t.dtype)


@functools.cache
def _discrete_cosine() -> Tensor:
    """Log-SNR after each step: betas from the cosine, at most 0.999 (Nichol and Dhariwal 2021)."""
    ends = torch.arange(STEPS + 1, dtype=torch.float64) / STEPS
    curve = torch.cos(math.pi / 2 * (ends + 0.008) / 1.008).square()
    betas = (1 - curve[1:] / curve[:-1]).clamp(max=0.999)
    return torch.logit((1 - betas).cumprod(0))
