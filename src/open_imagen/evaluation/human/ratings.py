"""Votes of people -> preferences with intervals that hold, Bradley-Terry strengths, agreement.

Votes on the same prompt resemble each other, and so do votes of one rater, so the variance of a
share is clustered by both. Taking every vote for an independent one covers the truth far less
often than it says.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from open_imagen.evaluation.intervals import Interval, wilson

Array = NDArray[np.float64]
DRAWS = 2000
"""Of the bootstrap of strengths."""
HABIT_SHARE, HABIT_WEIGHT = 0.02, 4
"""What is assumed of raters before any is seen: their habits make 2 % of the variance of votes, and
this counts as much as four raters do. From a few raters alone that variance cannot be told."""


@dataclass(frozen=True)
class Votes:
    """Votes as numbers: ``values`` [N, K], cast on ``prompts`` [N] by ``raters`` [N].

    Prompts and raters are any labels that can be hashed.
    """

    prompts: Sequence[object]
    raters: Sequence[object]
    values: Array

    def resampled(self, draws: int = DRAWS, seed: int = 0) -> tuple[Array, Array]:
        """Sums of values [draws, K] and of votes [draws], prompts and raters drawn anew."""
        prompts, p = np.unique(_numbered(self.prompts), return_inverse=True)
        raters, r = np.unique(_numbered(self.raters), return_inverse=True)
        shape = (len(prompts), len(raters))
        rng = np.random.default_rng(seed)
        weights_p = rng.multinomial(shape[0], np.full(shape[0], 1 / shape[0]), draws).astype(float)
        weights_r = rng.multinomial(shape[1], np.full(shape[1], 1 / shape[1]), draws).astype(float)
        cells = np.zeros((self.values.shape[1] + 1, *shape))
        for k, column in enumerate([*self.values.T, np.ones(len(self.values))]):
            np.add.at(cells[k], (p, r), column)
        sums = np.stack([((weights_p @ cell) * weights_r).sum(1) for cell in cells], 1)
        return sums[:, :-1], sums[:, -1]


def _numbered(labels: Sequence[object]) -> NDArray[np.int64]:
    known: dict[object, int] = {}
    return np.array([known.setdefault(label, len(known)) for label in labels], np.int64)


def mean_intervals(votes: Votes, scale: float = 1.0) -> list[Interval]:
    """The mean of each column of values with its 95 % interval, clustered by prompts and raters.

    The variance is that of prompts (Liang and Zeger 1986), which holds that of single votes, and
    what raters add to it (Cameron, Gelbach and Miller 2011), estimated together with what is
    assumed of their habits. The quantile is Student's, with Satterthwaite's degrees of freedom.

    Args:
        scale: values lie between 0 and this.
    """
    prompts, raters = _numbered(votes.prompts), _numbered(votes.raters)
    found = []
    for column in votes.values.T:
        mean = float(column.mean())
        if np.ptp(column) == 0:  # all agree: the share of prompts on which they would, as Wilson
            low, high = wilson(round(mean / scale * (prompts.max() + 1)), int(prompts.max()) + 1)
            found.append(Interval(mean, min(low * scale, mean), max(high * scale, mean)))
            continue
        half = _half_width(column - mean, prompts, raters)
        found.append(Interval(mean, max(mean - half, 0.0), min(mean + half, scale)))
    return found


def _half_width(residuals: Array, prompts: NDArray[np.int64], raters: NDArray[np.int64]) -> float:
    number = len(residuals)
    by_prompt = np.bincount(prompts, residuals)
    by_rater, votes_of = np.bincount(raters, residuals), np.bincount(raters)
    p, r = len(by_prompt), len(by_rater)
    single = float((residuals**2).sum()) / number**2
    of_prompts = float((by_prompt**2).sum()) / number**2 * p / (p - 1) if p > 1 else single
    share_of_raters = float((votes_of**2).sum()) / number**2
    habit = 0.0
    if r > 1:
        of_raters = float((by_rater**2).sum()) / number**2 * r / (r - 1)
        habit = max(of_raters - single, 0.0) / share_of_raters
    assumed = HABIT_SHARE * single * number**2 / (number - 1)
    weight = HABIT_WEIGHT + r - 1
    added = (HABIT_WEIGHT * assumed + (r - 1) * habit) / weight * share_of_raters
    variance = of_prompts + added
    freedom = variance**2 / (of_prompts**2 / max(p - 1, 1) + added**2 / weight)
    return student_quantile(freedom) * math.sqrt(variance)


def student_quantile(freedom: float) -> float:
    """The 97.5 % quantile of Student's t with any number of degrees of freedom.

    >>> [round(student_quantile(n), 3) for n in (1, 2, 5, 30)]
    [12.706, 4.303, 2.571, 2.042]
    """
    log_scale = math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2)
    scale = math.exp(log_scale) / math.sqrt(freedom * math.pi)
    # With t = sqrt(n) tan(a) the integral from 0 is that of cos(a)^(n - 1), over a finite range.
    angles = np.linspace(0, math.pi / 2, 20_001)
    heights = np.cos(angles) ** (freedom - 1) * math.sqrt(freedom) * scale
    steps = (heights[1:] + heights[:-1]) / 2 * np.diff(angles)
    angle = float(np.interp(0.475, np.concatenate([[0.0], np.cumsum(steps)]), angles))
    return math.sqrt(freedom) * math.tan(angle)


class Strength(NamedTuple):
    """Of a system; 0 on average. A difference of d: the odds of being preferred are e^d."""

    value: float
    error: float


def bradley_terry(wins: Array) -> list[Strength]:
    """Strengths from ``wins`` [K, K]: how often row was preferred to column, ties half each.

    Maximum likelihood by Newton's method (Bradley and Terry 1952), with standard errors from the
    curvature. A system that always wins, or is never beaten by a group, would be infinitely strong:
    then half a win is added to each side of every pair that was compared.
    """
    wins = np.asarray(wins, np.float64)
    number = len(wins)
    if not _connected(wins):
        wins = wins + 0.5 * ((wins + wins.T) > 0)
    games = wins + wins.T
    theta = np.zeros(number)
    curvature = np.zeros((number, number))
    for _ in range(100):
        chance = 1 / (1 + np.exp(theta[None, :] - theta[:, None]))
        gradient = (wins - games * chance).sum(1)
        spread = games * chance * chance.T
        curvature = np.diag(spread.sum(1)) - spread
        # Strengths are known up to a constant: the ones make the matrix invertible and keep sum 0.
        step = np.linalg.solve(curvature + 1 / number, gradient)
        theta += np.clip(step, -2, 2)
        if np.abs(step).max() < 1e-12:
            break
    errors = np.sqrt(np.clip(np.diag(np.linalg.pinv(curvature)), 0, None))
    theta -= theta.mean()
    return [Strength(float(t), float(e)) for t, e in zip(theta, errors, strict=True)]


def _connected(wins: Array) -> bool:
    """Whether from every system a chain of wins leads to every other one."""
    reach = (wins > 0) | np.eye(len(wins), dtype=bool)
    for _ in range(len(wins)):
        reach = (reach.astype(int) @ reach.astype(int)) > 0
    return bool(reach.all())


def krippendorff_alpha(units: Sequence[Sequence[str]]) -> float:
    """Agreement beyond chance on nominal answers (Krippendorff 2004): 1 perfect, 0 as by chance.

    Args:
        units: per thing judged, the answers that it got; things with one answer say nothing.

    >>> krippendorff_alpha([["a", "a"], ["b", "b"]])
    1.0
    """
    judged = [unit for unit in units if len(unit) > 1]
    labels = sorted({answer for unit in judged for answer in unit})
    together = np.zeros((len(labels), len(labels)))
    for unit in judged:
        counts = np.array([sum(answer == label for answer in unit) for label in labels], float)
        pairs = np.outer(counts, counts) - np.diag(counts)
        together += pairs / (len(unit) - 1)
    totals = together.sum(1)
    number = totals.sum()
    if not number:
        return float("nan")
    observed = number - np.trace(together)
    expected = (number**2 - (totals**2).sum()) / (number - 1)
    return float(1 - observed / expected) if expected else 1.0


def raw_agreement(units: Sequence[Sequence[str]]) -> float:
    """The share of pairs of answers on the same trial that agree."""
    agreeing = of = 0
    for unit in units:
        for label in set(unit):
            count = sum(answer == label for answer in unit)
            agreeing += count * (count - 1)
        of += len(unit) * (len(unit) - 1)
    return agreeing / of if of else float("nan")
