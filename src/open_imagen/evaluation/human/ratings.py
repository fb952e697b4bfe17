"""Votes of people -> preferences with intervals that hold, Bradley-Terry strengths, agreement.

Votes on the same prompt resemble each other, and so do votes of one rater, so intervals come from a
two-way bootstrap: prompts and raters are both drawn again. Taking every vote for an independent
one covers the truth far less often than it says.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from open_imagen.evaluation.intervals import Interval

Array = NDArray[np.float64]
DRAWS = 2000
"""Of the bootstrap."""


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


def mean_intervals(votes: Votes, draws: int = DRAWS, seed: int = 0) -> list[Interval]:
    """The mean of each column of values, with 95 % two-way bootstrap intervals."""
    sums, counts = votes.resampled(draws, seed)
    means = sums[counts > 0] / counts[counts > 0, None]
    low, high = np.percentile(means, [2.5, 97.5], axis=0)
    value = votes.values.mean(0)
    return [Interval(*(float(x) for x in row)) for row in zip(value, low, high, strict=True)]


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
