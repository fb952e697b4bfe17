"""Few-step students: the loss whose truth is a teacher, not the data.

*Guidance distillation* (Meng et al. 2022): the student predicts at once what the teacher predicts
with guidance.
*Progressive distillation* (Salimans and Ho 2022): one step of the student is several of the
teacher. Both at once, with `guidance` and `steps`. *Backward distillation* (Kohler et al. 2024):
the student is taught where its own steps lead it (Ross et al. 2011 say why: what it meets there is
what it has to master). The loop is the ordinary one.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import torch
from torch import Tensor

from open_imagen.cascade.draws import Draws
from open_imagen.cascade.folder import locate, read_header, read_named
from open_imagen.cascade.stage import Stage
from open_imagen.diffusion.guidance import guide_on
from open_imagen.diffusion.parameterization import diffuse, spread, to_eps, to_x
from open_imagen.diffusion.samplers import moved
from open_imagen.diffusion.schedules import alpha_sigma
from open_imagen.errors import ConfigError
from open_imagen.types import LowRes, ReadText, TextEmbedding, stack_texts


@dataclass(frozen=True, kw_only=True)
class DistillConfig:
    """Who teaches, and what is learned of it."""

    teacher: str = ""
    """A model with this stage: a name, a folder or "hf:..."; empty: learn from the data."""
    guidance: float = 1.0
    """The teacher's guidance weight; the student then needs none. 1 for none."""
    steps: int = 0
    """Steps of the student, each `substeps` of the teacher; 0: learn what the teacher predicts at
    any level, as many steps as before."""
    substeps: int = 2
    """Steps of the teacher that one of the student's stands for."""
    own_path: bool = False
    """Teach the student where its own steps from pure noise lead it, not at noised pictures: its
    errors and its guidance lead elsewhere. With `steps`, each image at one of them, for `steps` - 1
    calls more; without, along the whole way that `stage.sampling` goes, at every one of its steps:
    an image then counts for as many examples."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.guidance) and self.guidance > 0):
            raise ConfigError(f"distill.guidance = {self.guidance} must be above 0.")
        if self.steps < 0 or self.substeps < 1:
            raise ConfigError(
                f"distill.steps = {self.steps} must be at least 0, distill.substeps = "
                f"{self.substeps} at least 1."
            )


class Distillation:
    """The objective that replaces `Stage.loss`; called with the same arguments."""

    def __init__(self, config: DistillConfig, student: Stage, teacher: Stage) -> None:
        """
        Args:
            teacher: awake, on the student's device, and left alone.

        Raises:
            ConfigError: it does something else than the student.
        """
        for name in ("resolution", "lowres", "schedule", "augmentation"):
            mine, theirs = getattr(student.config, name), getattr(teacher.config, name)
            if mine != theirs:
                raise ConfigError(
                    f"The student's stage.{name} = {mine} is not its teacher's, {theirs}.",
                    "Leave it out of the recipe to take over the teacher's.",
                )
        self.config, self.student, self.teacher = config, student, teacher

    def __call__(
        self, images: Tensor, text: TextEmbedding, draws: Draws, lowres: Tensor | None = None
    ) -> Tensor:
        """Weighted error of each example, [B]. Where the text is dropped, the teacher has none
        either: it and its guidance are then the same, and so the student can still be guided."""
        if self.config.own_path and not self.config.steps:
            return self.along(text.dropped(draws.drop), draws, lowres)
        t = draws.t
        if self.config.steps:  # the student is only ever asked at the start of its own steps
            t = (t * self.config.steps).ceil().clamp(min=1) / self.config.steps
        text = text.dropped(draws.drop)
        draws = draws._replace(t=t)
        if self.config.own_path:
            images, eps = self.arrived(images, text, draws, lowres)
            draws = draws._replace(eps=eps)
        return self.student.loss(images, text, draws, lowres, self.truth)

    def along(self, text: TextEmbedding, draws: Draws, lowres: Tensor | None) -> Tensor:
        """The mean error at all steps of the way that the student goes from this noise, [B]."""
        x, eps, times = self.walked(text, draws, lowres)
        number, size = len(times), len(draws.t)
        t = torch.tensor(times, device=draws.t.device).repeat_interleave(size)
        many = draws.repeated(number)._replace(t=t, eps=eps)
        texts = stack_texts([text] * number)
        lowres = None if lowres is None else lowres.repeat(number, 1, 1, 1)
        losses = self.student.loss(x, texts, many, lowres, self.truth)
        return losses.view(number, size).mean(0)

    @torch.no_grad()
    def walked(
        self, text: TextEmbedding, draws: Draws, lowres: Tensor | None
    ) -> tuple[Tensor, Tensor, list[float]]:
        """The student's own sampling from the noise of these draws, as it is by default.

        Returns:
            Image and noise that mix to where it came, [K B, 3, H, W], at the times [K] of its
            steps: all B of the first, then of the next. Its estimates, as in `arrived`.
        """
        settings = self.student.config.sampling.complete()
        levels, times = self.way
        estimate, shape = self.own_estimate(text, draws, lowres), draws.eps.shape[1:]
        generators = draws.generators()
        xs, noises = [], []

        def noise() -> Tensor:
            return torch.stack([torch.randn(shape, generator=g) for g in generators]).to(z.device)

        def denoise(z: Tensor, logsnr: float) -> Tensor:
            level = torch.full_like(draws.t, logsnr)
            x = estimate(z, level)
            xs.append(x)
            noises.append(to_eps(x, z, level))
            return x

        z = draws.eps
        settings.walk(denoise, z, levels, noise)
        return torch.cat(xs), torch.cat(noises), times

    @cached_property
    def way(self) -> tuple[list[float], list[float]]:
        """The noise levels that the student's sampling walks down, and the times of its steps."""
        schedule = self.student.config.schedule
        levels = self.student.config.sampling.complete().levels(schedule)
        return levels, [schedule.time(level) for level in levels[:-1]]

    def own_estimate(
        self, text: TextEmbedding, draws: Draws, lowres: Tensor | None
    ) -> Callable[[Tensor, Tensor], Tensor]:
        """(z, logsnr [B]) -> the student's own estimate, with the condition of these draws."""
        condition = None
        if lowres is not None:
            size = (draws.eps.shape[2], draws.eps.shape[3])
            condition = self.student.condition_drawn(lowres, draws, size)
        # The text is not read ahead: a network shared by processes can only be called whole.
        return estimates(self.student, text, condition)

    @torch.no_grad()
    def arrived(
        self, images: Tensor, text: TextEmbedding, draws: Draws, lowres: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Image and noise that mix, at times t, to where the student's steps come from time 1.

        They are its own last estimates: DDIM's step is nothing but to mix them anew. An image that
        starts at time 1 has made no step: its data and noise come back.
        """
        estimate = self.own_estimate(text, draws, lowres)
        x, eps, places = images, draws.eps, (draws.t * self.config.steps).round()
        for place in range(self.config.steps, 1, -1):
            now = torch.full_like(draws.t, place / self.config.steps)
            logsnr = self.student.config.schedule.logsnr(now)
            z = diffuse(x, eps, logsnr)
            found = estimate(z, logsnr)
            there = spread(places >= place, z)
            x, eps = x.where(there, found), eps.where(there, to_eps(found, z, logsnr))
        return x, eps

    @torch.no_grad()
    def truth(self, z: Tensor, t: Tensor, text: TextEmbedding, condition: LowRes | None) -> Tensor:
        """What the teacher makes of z: the estimate x that the student shall give at once."""
        guidance = self.config.guidance
        alone = guidance == self.teacher.config.guided
        texts = text if alone else stack_texts([text, text.null()])
        estimate = estimates(self.teacher, self.teacher.read(texts), condition, guidance)
        if not self.config.steps:
            return estimate(z, self.teacher.config.schedule.logsnr(t))
        levels, end = self.levels(t), z
        for now, then in pairwise(levels):
            end = step(estimate(end, now), end, now, then)
        return leading_to(z, end, levels[0], levels[-1])

    def levels(self, t: Tensor) -> Tensor:
        """The teacher's noise levels within the student's steps that begin at times t [B].

        [substeps + 1, B], float64; +inf, the clean image, at time 0.
        """
        parts = self.config.steps * self.config.substeps
        first = (t.double() * parts).round()
        places = first - torch.arange(self.config.substeps + 1, device=t.device)[:, None]
        levels = self.student.config.schedule.logsnr(places / parts)
        return levels.masked_fill(places == 0, math.inf)


def estimates(
    stage: Stage,
    text: TextEmbedding | ReadText,
    condition: LowRes | None,
    guidance: float | None = None,
) -> Callable[[Tensor, Tensor], Tensor]:
    """(z, logsnr [B]) -> a stage's guided estimate of each image, thresholded as it samples.

    All images go through the network together, each at a level of its own; with guidance, all once
    more, for the unconditional half of ``text``. Without a weight, or with that which the network's
    own predictions have, once.
    """
    thresholding = stage.config.sampling.complete().thresholding
    guided = stage.config.guided
    number = 1 if guidance in (None, guided) else 2
    many = condition and LowRes(*(torch.cat([part] * number) for part in condition))

    def estimate(z: Tensor, logsnr: Tensor) -> Tensor:
        told = stage.told(logsnr).to(z.dtype).repeat(number)
        found = stage.network(torch.cat([z] * number), told, text, many).float()
        found = found[:, : stage.channels]
        if guidance is not None and number == 2:
            conditional, unconditional = found.chunk(2)
            found = guide_on(conditional, unconditional, guidance, guided)
        return thresholding(to_x(found, z, logsnr, stage.config.objective.prediction))

    return estimate


def step(x: Tensor, z: Tensor, now: Tensor, then: Tensor) -> Tensor:
    """DDIM's step from z at ``now`` to ``then``, the estimate x held still; levels are [B]."""
    here, there = (alpha_sigma(spread(level, z)) for level in (now, then))
    return moved(x, z, here, there).to(z.dtype)


def leading_to(z: Tensor, end: Tensor, now: Tensor, then: Tensor) -> Tensor:
    """The estimate x with which one `step` from z at ``now`` lands on ``end`` at ``then``.

    x = (z'' - (sigma'' / sigma) z) / (alpha'' - (sigma'' / sigma) alpha)  (Salimans and Ho, eq. 9)
    """
    (alpha, sigma), (alpha_then, sigma_then) = (
        alpha_sigma(spread(level, z)) for level in (now, then)
    )
    ratio = sigma_then / sigma
    return ((end - ratio * z) / (alpha_then - ratio * alpha)).to(z.dtype)


def load_teacher(config: DistillConfig, name: str, device: torch.device) -> Stage:
    """The teacher's stage of this name, awake.

    Raises:
        UnknownName: the model has no such stage.
    """
    folder = locate(config.teacher)
    header = read_header(folder)
    stage = read_named(folder, header, name)
    stage.wake(device)
    return stage.eval().requires_grad_(False)
