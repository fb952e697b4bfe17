"""Few-step students: the loss whose truth is a teacher, not the data.

*Guidance distillation* (Meng et al. 2022): the student predicts at once what the teacher predicts
with guidance.
*Progressive distillation* (Salimans and Ho 2022): one step of the student is several of the
teacher. Both at once, with `guidance` and `steps`. The loop is the ordinary one.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from open_imagen.cascade.folder import locate, read_header, read_stages
from open_imagen.cascade.sampling import Sampling
from open_imagen.cascade.stage import Draws, Stage
from open_imagen.diffusion.guidance import guide
from open_imagen.diffusion.parameterization import spread, to_x
from open_imagen.diffusion.samplers import moved
from open_imagen.diffusion.schedules import alpha_sigma
from open_imagen.errors import ConfigError, UnknownName
from open_imagen.types import LowRes, TextEmbedding, stack_texts


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

    def __post_init__(self) -> None:
        if not (math.isfinite(self.guidance) and self.guidance >= 0):
            raise ConfigError(f"distill.guidance = {self.guidance} must be at least 0.")
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
        guided = Sampling(guidance=config.guidance)
        self.settings = guided.over(teacher.config.sampling).complete()

    def __call__(
        self, images: Tensor, text: TextEmbedding, draws: Draws, lowres: Tensor | None = None
    ) -> Tensor:
        """Weighted error of each example, [B]; its text is never dropped."""
        t = draws.t
        if self.config.steps:  # the student is only ever asked at the start of its own steps
            t = (t * self.config.steps).ceil().clamp(min=1) / self.config.steps
        draws = draws._replace(t=t, drop=torch.zeros_like(draws.drop))
        return self.student.loss(images, text, draws, lowres, self.truth)

    @torch.no_grad()
    def truth(self, z: Tensor, t: Tensor, text: TextEmbedding, condition: LowRes | None) -> Tensor:
        """What the teacher makes of z: the estimate x that the student shall give at once."""
        estimate = self._teaching(text, condition)
        if not self.config.steps:
            return estimate(z, self.teacher.config.schedule.logsnr(t))
        levels, end = self.levels(t), z
        for now, then in pairwise(levels):
            end = step(estimate(end, now), end, now, then)
        return leading_to(z, end, levels[0], levels[-1])

    def _teaching(
        self, text: TextEmbedding, condition: LowRes | None
    ) -> Callable[[Tensor, Tensor], Tensor]:
        """(z, logsnr [B]) -> the teacher's guided, thresholded estimate of each image.

        All images go through the network together, each at a level of its own.
        """
        stage, guidance = self.teacher, self.config.guidance
        texts, number = (text, 1) if guidance == 1 else (stack_texts([text, text.null()]), 2)
        read = stage.network.read(texts)  # type: ignore[operator]
        many = condition and LowRes(*(torch.cat([part] * number) for part in condition))

        def estimate(z: Tensor, logsnr: Tensor) -> Tensor:
            told = stage.told(logsnr).to(z.dtype).repeat(number)
            found = stage.network(torch.cat([z] * number), told, read, many).float()[:, :3]
            if number == 2:
                conditional, unconditional = found.chunk(2)
                found = guide(conditional, unconditional, guidance)
            x = to_x(found, z, logsnr, stage.config.objective.prediction)
            return self.settings.thresholding(x)

        return estimate

    def levels(self, t: Tensor) -> Tensor:
        """The teacher's noise levels within the student's steps that begin at times t [B].

        [substeps + 1, B], float64; +inf, the clean image, at time 0.
        """
        parts = self.config.steps * self.config.substeps
        first = (t.double() * parts).round()
        places = first - torch.arange(self.config.substeps + 1, device=t.device)[:, None]
        levels = self.student.config.schedule.logsnr(places / parts)
        return levels.masked_fill(places == 0, math.inf)


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
    if name not in header["stages"]:
        raise UnknownName(f"stage of {config.teacher}", name, header["stages"])
    [stage] = [one for one in read_stages(folder, header) if one.config.name == name]
    stage.wake(device)
    return stage.eval().requires_grad_(False)
