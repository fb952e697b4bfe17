"""Distillation into few-step students: the target is a teacher's prediction, not the data.

*Guidance distillation* (Meng et al. 2022): one call of the student predicts what the teacher
predicts with guidance. *Progressive distillation* (Salimans and Ho 2022): one step of the student
replaces several of the teacher. `guidance` and `steps` do both at once. *Backward distillation*
(Kohler et al. 2024): the student is trained on the states that its own steps lead to, as in
imitation learning (Ross et al. 2011): these are what it meets when it samples.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import torch
from torch import Tensor

from open_imagen.cascade.folder import locate, read_header, read_named
from open_imagen.cascade.noise import TrainingNoise
from open_imagen.cascade.stage import Stage
from open_imagen.devices import float64
from open_imagen.diffusion.guidance import guide_on
from open_imagen.diffusion.parameterization import diffuse, spread, to_eps, to_x
from open_imagen.diffusion.samplers import ddim_step_scaled
from open_imagen.diffusion.schedules import alpha_sigma
from open_imagen.errors import ConfigError
from open_imagen.training.objectives.base import (
    OBJECTIVES,
    Objective,
    ObjectiveContext,
    ObjectiveSpec,
)
from open_imagen.types import CachedText, LowRes, TextEmbedding, stack_texts


@dataclass(frozen=True, kw_only=True)
class DistillConfig:
    """The teacher, and how the student is trained on it."""

    teacher: str = ""
    """A model with this stage: a name, a folder or "hf:..."; empty: train on the data."""
    guidance: float = 1.0
    """The teacher's guidance weight, which becomes the student's own; 1 for none."""
    steps: int = 0
    """Sampling steps of the student, each of which replaces `substeps` of the teacher (progressive
    distillation); 0: the student is trained on the teacher's predictions at any noise level."""
    substeps: int = 2
    """Steps of the teacher that one step of the student replaces."""
    backward: bool = False
    """Train on the states that the student's own steps from pure noise lead to, instead of noised
    images of the data. With `steps`: each image at one of them, which needs `steps` - 1 more
    network evaluations. Without: at every step of the trajectory of `stage.sampling`, so that an
    image counts as that number of examples."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.guidance) and self.guidance > 0):
            raise ConfigError(f"distill.guidance = {self.guidance} must be above 0.")
        if self.steps < 0 or self.substeps < 1:
            raise ConfigError(
                f"distill.steps = {self.steps} must be at least 0, distill.substeps = "
                f"{self.substeps} at least 1."
            )


class Distillation:
    """The objective: the stage's loss with the teacher's estimate as the clean image."""

    def __init__(self, config: DistillConfig, student: Stage, teacher: Stage) -> None:
        """Check that teacher and student go together.

        Args:
            teacher: with its weights loaded, on the student's device; it is not changed.

        Raises:
            ConfigError: it is not a teacher of the same task.
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
        self,
        images: Tensor,
        text: TextEmbedding,
        noise: TrainingNoise,
        lowres: Tensor | None = None,
    ) -> Tensor:
        """Weighted error of each example, [B].

        Where the text is dropped it is dropped for the teacher too: then its guidance changes
        nothing, and the student can still be guided.
        """
        if self.config.backward and not self.config.steps:
            return self.trajectory_loss(text.dropped(noise.drop), noise, lowres)
        t = noise.t
        if self.config.steps:  # the student is only ever asked at the start of its own steps
            t = (t * self.config.steps).ceil().clamp(min=1) / self.config.steps
        text = text.dropped(noise.drop)
        noise = noise._replace(t=t)
        if self.config.backward:
            images, eps = self.student_states(images, text, noise, lowres)
            noise = noise._replace(eps=eps)
        return self.student.loss(images, text, noise, lowres, self.target)

    def trajectory_loss(
        self, text: TextEmbedding, noise: TrainingNoise, lowres: Tensor | None
    ) -> Tensor:
        """The mean error over all steps of the student's trajectory from this noise, [B]."""
        x, eps, times = self.trajectory(text, noise, lowres)
        number, size = len(times), len(noise.t)
        t = torch.tensor(times, device=noise.t.device).repeat_interleave(size)
        repeated = noise.repeated(number)._replace(t=t, eps=eps)
        texts = stack_texts([text] * number)
        lowres = None if lowres is None else lowres.repeat(number, 1, 1, 1)
        losses = self.student.loss(x, texts, repeated, lowres, self.target)
        return losses.view(number, size).mean(0)

    @torch.no_grad()
    def trajectory(
        self, text: TextEmbedding, noise: TrainingNoise, lowres: Tensor | None
    ) -> tuple[Tensor, Tensor, list[float]]:
        """The student's own sampling from this noise, with its default settings.

        Returns:
            The student's estimates of image and noise, [K B, C, H, W], which mix to the states of
            its K steps: all B of the first step, then of the next; and the times [K].
        """
        settings = self.student.config.sampling.resolve()
        levels, times = self.student_levels
        estimate, shape = self.student_estimate(text, noise, lowres), noise.eps.shape[1:]
        generators = noise.generators()
        xs, eps = [], []

        def fresh_noise() -> Tensor:
            return torch.stack([torch.randn(shape, generator=g) for g in generators]).to(z.device)

        def denoise(z: Tensor, logsnr: float) -> Tensor:
            level = torch.full_like(noise.t, logsnr)
            x = estimate(z, level)
            xs.append(x)
            eps.append(to_eps(x, z, level))
            return x

        z = noise.eps
        settings.walk(denoise, z, levels, fresh_noise)
        return torch.cat(xs), torch.cat(eps), times

    @cached_property
    def student_levels(self) -> tuple[list[float], list[float]]:
        """The noise levels of the student's sampling, and the times at which its steps begin."""
        schedule = self.student.config.schedule
        levels = self.student.config.sampling.resolve().levels(schedule)
        return levels, [schedule.time(level) for level in levels[:-1]]

    def student_estimate(
        self, text: TextEmbedding, noise: TrainingNoise, lowres: Tensor | None
    ) -> Callable[[Tensor, Tensor], Tensor]:
        """(z, logsnr [B]) -> the student's own estimate, with the condition of this step."""
        condition = None
        if lowres is not None:
            size = (noise.eps.shape[2], noise.eps.shape[3])
            condition = self.student.condition_with_noise(lowres, noise, size)
        # The text is not encoded ahead: a parallel network can only be called as a whole.
        return make_estimate(self.student, text, condition)

    @torch.no_grad()
    def student_states(
        self, images: Tensor, text: TextEmbedding, noise: TrainingNoise, lowres: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Image and noise that mix, at times t, to the states of the student's steps from time 1.

        They are its own last estimates: a DDIM step mixes them anew. An image whose t is 1 has made
        no step: its data and noise come back.
        """
        estimate = self.student_estimate(text, noise, lowres)
        x, eps, starts = images, noise.eps, (noise.t * self.config.steps).round()
        for step in range(self.config.steps, 1, -1):
            now = torch.full_like(noise.t, step / self.config.steps)
            logsnr = self.student.config.schedule.logsnr(now)
            z = diffuse(x, eps, logsnr)
            estimated = estimate(z, logsnr)
            is_there = spread(starts >= step, z)
            x = x.where(is_there, estimated)
            eps = eps.where(is_there, to_eps(estimated, z, logsnr))
        return x, eps

    @torch.no_grad()
    def target(self, z: Tensor, t: Tensor, text: TextEmbedding, condition: LowRes | None) -> Tensor:
        """The teacher's answer for z: the estimate x that one step of the student shall make."""
        guidance = self.config.guidance
        needs_no_null = guidance == self.teacher.config.distilled_guidance
        texts = text if needs_no_null else stack_texts([text, text.null()])
        estimate = make_estimate(self.teacher, self.teacher.encode_text(texts), condition, guidance)
        if not self.config.steps:
            return estimate(z, self.teacher.config.schedule.logsnr(t))
        levels, end = self.teacher_levels(t), z
        for now, then in pairwise(levels):
            end = batched_ddim_step(estimate(end, now), end, now, then)
        return invert_ddim_step(z, end, levels[0], levels[-1])

    def teacher_levels(self, t: Tensor) -> Tensor:
        """The teacher's noise levels within the student's steps that begin at times t [B].

        [substeps + 1, B], float64; +inf, the clean image, at time 0.
        """
        total = self.config.steps * self.config.substeps
        first = (float64(t) * total).round()
        steps = first - torch.arange(self.config.substeps + 1, device=first.device)[:, None]
        levels = self.student.config.schedule.logsnr(steps / total)
        return levels.masked_fill(steps == 0, math.inf)


def make_estimate(
    stage: Stage,
    text: TextEmbedding | CachedText,
    condition: LowRes | None,
    guidance: float | None = None,
) -> Callable[[Tensor, Tensor], Tensor]:
    """(z, logsnr [B]) -> a stage's guided estimate of each image, thresholded as it samples.

    All images go through the network in one batch, each at its own noise level. With guidance,
    whose unconditional half is that of ``text``, the batch is twice as long; without, or with the
    guidance scale that is distilled into the network, it is not.
    """
    thresholding = stage.config.sampling.resolve().thresholding
    distilled = stage.config.distilled_guidance
    number = 1 if guidance in (None, distilled) else 2
    repeated = condition and LowRes(*(torch.cat([part] * number) for part in condition))

    def estimate(z: Tensor, logsnr: Tensor) -> Tensor:
        level = stage.time_condition(logsnr).to(z.dtype).repeat(number)
        predicted = stage.network(torch.cat([z] * number), level, text, repeated).float()
        predicted = predicted[:, : stage.channels]
        if guidance is not None and number == 2:
            conditional, unconditional = predicted.chunk(2)
            predicted = guide_on(conditional, unconditional, guidance, distilled)
        return thresholding(to_x(predicted, z, logsnr, stage.config.objective.prediction))

    return estimate


def batched_ddim_step(x: Tensor, z: Tensor, now: Tensor, then: Tensor) -> Tensor:
    """The DDIM step from z at ``now`` to ``then`` with the estimate x; levels are [B]."""
    here, there = (alpha_sigma(spread(level, z)) for level in (now, then))
    return ddim_step_scaled(x, z, here, there).to(z.dtype)


def invert_ddim_step(z: Tensor, end: Tensor, now: Tensor, then: Tensor) -> Tensor:
    """The estimate x with which one `batched_ddim_step` from z at ``now`` ends in ``end``.

    x = (z'' - (sigma'' / sigma) z) / (alpha'' - (sigma'' / sigma) alpha)  (Salimans and Ho, eq. 9)
    """
    (alpha, sigma), (alpha_then, sigma_then) = (
        alpha_sigma(spread(level, z)) for level in (now, then)
    )
    ratio = sigma_then / sigma
    return ((end - ratio * z) / (alpha_then - ratio * alpha)).to(z.dtype)


def load_teacher(config: DistillConfig, name: str, device: torch.device) -> Stage:
    """The teacher's stage of this name, with its weights.

    Raises:
        UnknownName: the model has no such stage.
    """
    folder = locate(config.teacher)
    header = read_header(folder)
    stage = read_named(folder, header, name)
    stage.load_weights(device)
    return stage.eval().requires_grad_(False)


def build_distillation(config: DistillConfig, context: ObjectiveContext) -> Objective:
    """Distillation from the teacher that the recipe names."""
    teacher = load_teacher(config, context.stage.config.name, context.device)
    context.accelerate(teacher.network)
    return Distillation(config, context.stage, teacher)


OBJECTIVES.register("distillation")(ObjectiveSpec(build_distillation, is_by_level=False))
