"""Classifier-free guidance: how strongly the picture follows the text (section 2.2)."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from open_imagen.diffusion.parameterization import convert
from open_imagen.errors import ConfigError, UnknownName

KINDS = ("cfg", "apg", "cfg_zero")


@dataclass(frozen=True)
class Guidance:
    """Guidance weight, and where and how it applies."""

    weight: float = 1.0
    """w: 1 is off, 0 ignores the text."""
    logsnr_low: float = -math.inf
    """Guide only at this log-SNR or above (Kynkaanniemi et al. 2024; below it there is almost
    nothing but noise)."""
    logsnr_high: float = math.inf
    """Guide only below this log-SNR (above it the picture is decided)."""
    constant_steps: float = math.inf
    """After so many steps every second one is not guided: oscillating guidance (Ho et al. 2022,
    Imagen Video, section 3.5)."""
    rescale: float = 0.0
    """How far, 0 to 1, the guided prediction is brought back to the spread of the unguided one
    (Lin et al. 2023, 3.4)."""
    kind: str = "cfg"
    """cfg: classifier-free guidance; apg: adaptive projected guidance (Sadat et al. 2024);
    cfg_zero: CFG-Zero* (Fan et al. 2025)."""
    apg_momentum: float = 0.0
    """Of apg: beta, the share of the earlier steps' differences that is added. The paper takes
    -0.75 to -0.5; with the 16 steps that were measured here that does harm
    (docs/guides/sampling.md)."""
    apg_norm: float = math.inf
    """Of apg: upper bound of the difference's root mean square over an image. The paper's r, a
    Euclidean norm, is this times the square root of the number of values."""
    apg_parallel: float = 0.0
    """Of apg: eta, the share that is kept of the difference's part parallel to the prediction,
    which is what saturates images; 1 keeps all of it."""
    zero_init_steps: int = 0
    """Of cfg_zero: so many first steps take a velocity of zero."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.weight) and self.weight >= 0):
            raise ConfigError(
                f"guidance = {self.weight} must be a number of at least 0.",
                "1 is off; 2 to 8 is usual.",
            )
        if not 0 <= self.rescale <= 1:
            raise ConfigError(f"guidance_rescale = {self.rescale} must be between 0 and 1.")
        if not self.constant_steps >= 0:
            raise ConfigError(f"guidance_steps = {self.constant_steps} must be at least 0.")
        if self.kind not in KINDS:
            raise UnknownName("guidance_kind", self.kind, KINDS)
        if not -1 < self.apg_momentum < 1:
            raise ConfigError(
                f"apg_momentum = {self.apg_momentum} must be above -1 and below 1.",
                "The paper takes -0.75 to -0.5; 0 is off.",
            )
        if not self.apg_norm > 0:
            raise ConfigError(f"apg_norm = {self.apg_norm} must be above 0; inf is no bound.")
        if not 0 <= self.apg_parallel <= 1:
            raise ConfigError(f"apg_parallel = {self.apg_parallel} must be between 0 and 1.")
        if self.zero_init_steps < 0:
            raise ConfigError(f"zero_init_steps = {self.zero_init_steps} must be at least 0.")

    def at(self, logsnr: float, step: int = 0) -> float:
        """The weight at this level and step, counted from 0; 1 where only one prediction is needed.

        >>> [Guidance(9.0, constant_steps=2).at(0.0, step) for step in range(6)]
        [9.0, 9.0, 1.0, 9.0, 1.0, 9.0]
        """
        resting = step >= self.constant_steps and (step - self.constant_steps) % 2 == 0
        within = self.logsnr_low <= logsnr < self.logsnr_high
        return self.weight if within and not resting else 1.0


def guide(conditional: Tensor, unconditional: Tensor, weight: float | Tensor) -> Tensor:
    """Classifier-free guidance: w c + (1 - w) u (section 2.2, eq. 2).

    The same in eps, x and v, since these are affine in each other at one noise level.
    """
    return unconditional + weight * (conditional - unconditional)


def guide_on(
    conditional: Tensor,
    unconditional: Tensor,
    weight: float | Tensor,
    guided: float = 1.0,
    negative: Tensor | None = None,
) -> Tensor:
    """Guidance of a network whose predictions are guided already, by the weight ``guided``.

    Its c' and n' are u + g (c - u) and u + g (n - u), of which w c + (1 - w) n is
    u + (w / g) (c' - u) - ((w - 1) / g) (n' - u); without a negative prompt n is u.
    """
    found = guide(conditional, unconditional, weight / guided)
    if negative is not None:
        found = found - (weight - 1) / guided * (negative - unconditional)
    return found


def rescaled(guided: Tensor, conditional: Tensor, amount: float) -> Tensor:
    """Guided predictions [B, ...] with part of their excess spread taken back (Lin et al. 2023).

    amount * guided * std(conditional) / std(guided) + (1 - amount) * guided, image by image.
    """
    spread = [torch.std(x.flatten(1), dim=1) for x in (conditional, guided)]
    ratio = (spread[0] / spread[1]).reshape(-1, *[1] * (guided.ndim - 1))
    return guided * (1 + amount * (ratio - 1))


def undistilled(prediction: Tensor, unconditional: Tensor, guided: float) -> Tensor:
    """The plain prediction c of a network whose own, c', is guidance-distilled.

    With the guidance weight ``guided``: c' = u + guided (c - u).
    """
    return prediction if guided == 1 else guide(prediction, unconditional, 1 / guided)


def inner(a: Tensor, b: Tensor) -> Tensor:
    """The inner product of each image of a with that of b, [B, 1, ...]."""
    found = (a.flatten(1).float() * b.flatten(1).float()).sum(1)
    return found.reshape(-1, *[1] * (a.ndim - 1))


class ProjectedGuidance:
    """Adaptive projected guidance (Sadat et al. 2024, algorithm 1), in the space of x.

    The difference of the two predictions is averaged over the steps with a (negative) momentum,
    bounded in norm, and freed of what is parallel to the conditional prediction. One object
    serves one run of a sampler: it holds the running average.
    """

    def __init__(self, momentum: float, norm: float, parallel: float) -> None:
        self.momentum, self.norm, self.parallel = momentum, norm, parallel
        self.average: Tensor | None = None

    def __call__(
        self, conditional: Tensor, unconditional: Tensor, weight: float | Tensor
    ) -> Tensor:
        """Guided estimate: c + (w - 1) (d_orthogonal + eta d_parallel)."""
        difference = conditional - unconditional
        if self.average is not None:
            difference = difference + self.momentum * self.average
        self.average = difference
        if self.norm < math.inf:
            size = (inner(difference, difference) / difference[0].numel()).sqrt()
            difference = difference * (self.norm / size.clamp(min=1e-12)).clamp(max=1)
        length = inner(conditional, conditional).clamp(min=1e-12)
        parallel = (inner(difference, conditional) / length).to(difference.dtype) * conditional
        kept = difference - (1 - self.parallel) * parallel
        return conditional + (weight - 1) * kept


def cfg_zero(conditional: Tensor, unconditional: Tensor, weight: float | Tensor) -> Tensor:
    """CFG-Zero* (Fan et al. 2025, algorithm 1): s u + w (c - s u), s = <c, u> / <u, u>.

    In the space of v: s is the scale of u that comes closest to c.
    """
    length = inner(unconditional, unconditional).clamp(min=1e-12)
    scale = (inner(conditional, unconditional) / length).to(conditional.dtype)
    return guide(conditional, scale * unconditional, weight)


class GuidanceRule:
    """How two plain predictions at one noise level become a guided one, over one run of a sampler.

    Linear guidance is the same in eps, x and v; the other kinds work in a space of their own.
    """

    def __init__(self, guidance: Guidance, prediction: str) -> None:
        """Prepare guidance for one prediction type.

        Args:
            prediction: what the network predicts: eps, x or v.
        """
        self.guidance, self.prediction = guidance, prediction
        self.projected = ProjectedGuidance(
            guidance.apg_momentum, guidance.apg_norm, guidance.apg_parallel
        )

    def __call__(
        self,
        conditional: Tensor,
        unconditional: Tensor,
        weight: float | Tensor,
        z: Tensor,
        logsnr: float,
        step: int,
    ) -> Tensor:
        """The guided prediction, of the network's own kind."""
        if self.guidance.kind == "cfg":
            return guide(conditional, unconditional, weight)
        level = torch.tensor(logsnr, dtype=torch.float64)
        space = "x" if self.guidance.kind == "apg" else "v"
        c, u = (
            convert(one, z, level, self.prediction, space) for one in (conditional, unconditional)
        )
        if self.guidance.kind == "apg":
            found = self.projected(c, u, weight)
        elif step < self.guidance.zero_init_steps:
            found = torch.zeros_like(c)
        else:
            found = cfg_zero(c, u, weight)
        return convert(found, z, level, space, self.prediction)
