"""Few-step students: the loss whose truth is a teacher, not the data.

*Guidance distillation* (Meng et al. 2022): the student predicts at once what the teacher predicts
with guidance.
*Progressive distillation* (Salimans and Ho 2022): one step of the student is several of the
teacher. Both at once, with `guidance` and `steps`. The loop is the ordinary one.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from open_imagen.cascade.folder import locate, read_header, read_stages
from open_imagen.cascade.sampling import Sampling
from open_imagen.cascade.stage import Draws, Stage
from open_imagen.diffusion.guidance import guide
from open_imagen.diffusion.parameterization import to_x
from open_imagen.diffusion.samplers import ddim, scales
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
        if not self.config.steps:
            return self._guided(z, t, text, condition)
        found = torch.empty_like(z)
        for time in sorted(set(t.tolist())):
            rows = (t == time).nonzero().flatten()
            some = condition and LowRes(*(part[rows] for part in condition))
            chosen = TextEmbedding(text.tokens[rows], text.mask[rows])
            denoise = self.teacher.denoiser(chosen, self.settings, some)
            levels = self.levels(time)
            end = ddim(denoise, z[rows], levels, lambda: z)
            found[rows] = leading_to(z[rows], end, levels[0], levels[-1])
        return found

    def _guided(
        self, z: Tensor, t: Tensor, text: TextEmbedding, condition: LowRes | None
    ) -> Tensor:
        """The teacher's guided, thresholded estimate, each image at a level of its own."""
        stage, logsnr = self.teacher, self.teacher.config.schedule.logsnr(t)
        texts, number = stack_texts([text, text.null()]), 2
        if self.config.guidance == 1:
            texts, number = text, 1
        many = condition and LowRes(*(torch.cat([part] * number) for part in condition))
        told = stage.told(logsnr).to(z.dtype).repeat(number)
        found = stage.network(torch.cat([z] * number), told, texts, many).float()[:, :3]
        if number == 2:
            conditional, unconditional = found.chunk(2)
            found = guide(conditional, unconditional, self.config.guidance)
        return self.settings.thresholding(to_x(found, z, logsnr, stage.config.objective.prediction))

    def levels(self, time: float) -> list[float]:
        """The teacher's noise levels within the student's step that begins at this time."""
        parts = self.config.steps * self.config.substeps
        first = round(time * parts)
        places = range(first, first - self.config.substeps - 1, -1)
        return [self._logsnr(k / parts) if k else math.inf for k in places]

    def _logsnr(self, time: float) -> float:
        return float(self.student.config.schedule.logsnr(torch.tensor(time, dtype=torch.float64)))


def leading_to(z: Tensor, end: Tensor, now: float, then: float) -> Tensor:
    """The estimate x with which one DDIM step from z at ``now`` lands on ``end`` at ``then``.

    x = (z'' - (sigma'' / sigma) z) / (alpha'' - (sigma'' / sigma) alpha)  (Salimans and Ho, eq. 9)
    """
    (alpha, sigma), (alpha_then, sigma_then) = scales(now), scales(then)
    ratio = sigma_then / sigma
    return (end - ratio * z) / (alpha_then - ratio * alpha)


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
