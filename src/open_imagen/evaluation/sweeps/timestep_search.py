"""Which few steps to take: those whose pictures come closest to the ones that many steps make.

As every picture has its own noise, few steps and many lead from it to the same picture where
they are right, and no judge is needed. The ground that most of a picture has in common is taken
out: where a few steps make it a little brighter, all else may still be right. (Watson et al. 2022
and Sabour et al. 2024 choose steps for a model as well, by other measures of what is lost.)
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from open_imagen.cascade.cascade import Cascade
from open_imagen.cascade.requests import StageRequest
from open_imagen.cascade.sampling import Sampling
from open_imagen.diffusion.schedules import STEPS, Schedule
from open_imagen.errors import ConfigError, UnknownName
from open_imagen.evaluation.progress import Progress

Score = Callable[[tuple[int, ...]], float]
DIFFERENT = 0.02
"""Images are different if they differ by more than this share of the range, on average."""
FIRST, LAST = 1 / 2, 1 / 16
"""How far a step is moved towards its neighbour, at first and at last."""


@dataclass(frozen=True, kw_only=True)
class TimestepSearch:
    """What is searched for, and how long."""

    steps: int = 8
    """Of the stage."""
    stage: str = ""
    """Its name; the first one's if empty."""
    reference_steps: int = 64
    """Even steps that make what the few shall come close to."""
    seed: int = 0
    """Of the first picture."""
    max_evaluations: int = 100
    """Sets of steps that are evaluated."""
    batch_size: int = 32
    """Pictures made together."""

    def __post_init__(self) -> None:
        for name in ("steps", "max_evaluations", "batch_size"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} = {getattr(self, name)} must be at least 1.")
        if self.reference_steps <= self.steps:
            raise ConfigError(
                f"reference_steps = {self.reference_steps} must be more than the {self.steps} "
                "steps that are searched for.",
                f"Try {8 * self.steps}.",
            )


def search_timesteps(
    cascade: Cascade,
    prompts: Sequence[str],
    config: TimestepSearch,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Look for the best few steps of a stage, by moving one at a time.

    It starts from as many steps with the stage's own spacing; all other settings are its own.

    Returns:
        The model and the stage; ``timesteps``, for Sampling.timesteps, and their ``logsnr``;
        the mean ``distance`` to the images of many steps and the share of ``different`` images,
        with the steps before and after the search.

    Raises:
        UnknownName: the model has no such stage.
        ConfigError: no prompts.
    """
    if not prompts:
        raise ConfigError("There are no prompts to make pictures of.")
    if config.stage and config.stage not in cascade.stages:
        raise UnknownName("stage", config.stage, cascade.stages)
    stage = cascade.stages[config.stage or next(iter(cascade.stages))]
    seeds = [config.seed + k for k in range(len(prompts))]
    below = _images_below(cascade, stage.config.name, prompts, seeds)
    size = config.batch_size
    parts = [slice(k, k + size) for k in range(0, len(prompts), size)]

    def draw(settings: Sampling) -> Tensor:
        full = settings.over(stage.config.sampling).resolve()
        orders = [
            StageRequest(prompt, seed, full, below=small)
            for prompt, seed, small in zip(prompts, seeds, below, strict=True)
        ]
        return torch.cat([cascade.draw(stage, orders[rows]) for rows in parts])

    many = draw(Sampling(steps=config.reference_steps, spacing="trailing", logsnr_start=-math.inf))
    seen: dict[tuple[int, ...], Tensor] = {}

    def distance(steps: tuple[int, ...]) -> float:
        few_steps = draw(Sampling(timesteps=steps))
        seen[steps] = torch.cat([image_distance(few_steps[rows], many[rows]) for rows in parts])
        if progress is not None:
            progress("evaluations", len(seen), config.max_evaluations)
        return float(seen[steps].mean())

    own = Sampling(steps=config.steps).over(stage.config.sampling).resolve()
    start = nearest(own.levels(stage.config.schedule)[:-1], stage.config.schedule)
    found = descend(start, distance, config.max_evaluations)
    times = torch.tensor(found, dtype=torch.float64) / (STEPS - 1)
    return {
        **cascade.identity,
        "stage": stage.config.name,
        "timesteps": list(found),
        "logsnr": [round(float(level), 2) for level in stage.config.schedule.logsnr(times)],
        "images": len(prompts),
        **_summary("before", seen[start]),
        **_summary("after", seen[found]),
    }


def _images_below(
    cascade: Cascade, stage: str, prompts: Sequence[str], seeds: Sequence[int]
) -> Sequence[Tensor | None]:
    """What the stage before this one makes of the prompts; None each if it is the first."""
    names = list(cascade.stages)
    index = names.index(stage)
    if not index:
        return [None] * len(prompts)
    return list(cascade.generate(prompts, seed=seeds, stages=index).stages[names[index - 1]])


def _summary(when: str, distances: Tensor) -> dict[str, float]:
    others = (distances > DIFFERENT).double()
    return {f"distance_{when}": float(distances.mean()), f"different_{when}": float(others.mean())}


def image_distance(few_steps: Tensor, many: Tensor) -> Tensor:
    """The mean absolute difference of each image, uint8 [B, 3, H, W], to another.

    It is a share of the range. The median difference of each colour channel does not count.
    """
    between = (few_steps.float() - many.float()).flatten(2)
    between -= between.median(dim=2, keepdim=True).values
    return between.abs().mean(dim=(1, 2)) / 255


def nearest(levels: Sequence[float], schedule: Schedule) -> tuple[int, ...]:
    """The steps of the 1,000 that have these log-SNRs, or come closest to them."""
    all_levels = schedule.logsnr(torch.arange(STEPS, dtype=torch.float64) / (STEPS - 1))
    requested = torch.tensor(levels, dtype=torch.float64)
    return tuple((all_levels - requested[:, None]).abs().argmin(dim=1).tolist())


def descend(start: tuple[int, ...], score: Score, max_evaluations: int) -> tuple[int, ...]:
    """Coordinate descent to decreasing steps with a low score.

    Each step in turn is moved towards either neighbour for as long as that helps; then the move is
    halved.

    Args:
        max_evaluations: how often the score is asked for, at most.
    """
    seen = {start: score(start)}
    found, share = start, FIRST
    while share >= LAST:
        before = found
        for index in range(len(start)):
            for toward in (-1, 1):
                moved = _moved(found, index, toward, share)
                if moved in seen or len(seen) == max_evaluations:
                    continue
                seen[moved] = score(moved)
                if seen[moved] < seen[found]:
                    found = moved
                    break
        if found == before:
            share /= 2
    return found


def _moved(steps: tuple[int, ...], index: int, toward: int, share: float) -> tuple[int, ...]:
    """Steps, the one at ``place`` moved towards the one before (-1) or after it (1)."""
    ends = (STEPS, *steps, -1)
    gap = ends[index + 1 + toward] - steps[index]
    step = int(gap * share)
    return (*steps[:index], steps[index] + step, *steps[index + 1 :])
