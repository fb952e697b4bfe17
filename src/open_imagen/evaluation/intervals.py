"""95 % intervals of means over prompts, and of paired differences between two systems."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

RESAMPLES = 2000
SEED = 0


class Interval(NamedTuple):
    """A value and its 95 % interval."""

    value: float
    low: float
    high: float


def wilson(right: int, of: int, z: float = 1.96) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson 1927).

    >>> [round(x, 4) for x in wilson(8, 10)]
    [0.4902, 0.9433]
    """
    p = right / of
    middle = p + z * z / (2 * of)
    half = z * math.sqrt(p * (1 - p) / of + z * z / (4 * of * of))
    low, high = (middle - half) / (1 + z * z / of), (middle + half) / (1 + z * z / of)
    return max(0.0, low), min(1.0, high)  # rounding leads beyond these


def cluster_interval(
    values: ArrayLike, clusters: Sequence[object], scale: float | None = None
) -> Interval:
    """The mean over clusters of their means, with a bootstrap over clusters.

    Images of one prompt resemble each other, so prompts are drawn, not images.

    Args:
        scale: values are shares between 0 and this; if all are the same, Wilson's interval for
            as many clusters says what is still unknown.
    """
    means = _cluster_means(np.asarray(values, np.float64), clusters)
    if scale is not None and np.ptp(means) == 0:
        value = float(means[0])
        low, high = wilson(round(value / scale * len(means)), len(means))
        return Interval(value, min(low * scale, value), max(high * scale, value))
    found = _bootstrap(means)
    if scale is None:
        return found
    return Interval(found.value, max(found.low, 0.0), min(found.high, scale))


def pooled_interval(values: ArrayLike, clusters: Sequence[object]) -> Interval:
    """The plain mean of all values, with a bootstrap over clusters of unequal sizes."""
    every = np.asarray(values, np.float64)
    rows = _numbered(clusters)
    sums, counts = np.bincount(rows, every), np.bincount(rows)
    number = len(counts)
    rng = np.random.default_rng(SEED)
    weights = rng.multinomial(number, np.full(number, 1 / number), RESAMPLES)
    low, high = np.percentile((weights @ sums) / (weights @ counts), [2.5, 97.5])
    return Interval(float(every.mean()), float(low), float(high))


def paired_difference(
    first: ArrayLike, second: ArrayLike, clusters: Sequence[object], scale: float | None = None
) -> Interval:
    """The mean of second - first, which are of the same prompts in the same order.

    Args:
        scale: values are shares between 0 and this; where all pairs differ alike (or none does),
            Wilson's interval for as many pairs says what is still unknown.
    """
    difference = np.asarray(second, np.float64) - np.asarray(first, np.float64)
    means = _cluster_means(difference, clusters)
    found = _bootstrap(means)
    if scale is None:
        return found
    if np.ptp(means) == 0:
        size = abs(found.value)
        low, high = (scale * v for v in wilson(round(size / scale * len(means)), len(means)))
        low, high = (-high, high) if not size else (min(low, size), max(high, size))
        bounds = (low, high) if found.value >= 0 else (-high, -low)
        return Interval(found.value, *bounds)
    return Interval(found.value, max(found.low, -scale), min(found.high, scale))


def stratified_interval(
    values: ArrayLike, clusters: Sequence[object], strata: Sequence[object]
) -> Interval:
    """The mean over strata of their means; prompts are drawn within each stratum."""
    every = np.asarray(values, np.float64)
    rng = np.random.default_rng(SEED)
    centre, drawn = [], []
    for stratum in dict.fromkeys(strata):
        rows = [k for k, one in enumerate(strata) if one == stratum]
        means = _cluster_means(every[rows], [clusters[k] for k in rows])
        centre.append(means.mean())
        drawn.append(_resampled_means(means, rng))
    low, high = np.percentile(np.mean(drawn, axis=0), [2.5, 97.5])
    return Interval(float(np.mean(centre)), float(low), float(high))


def _cluster_means(values: NDArray[np.float64], clusters: Sequence[object]) -> NDArray[np.float64]:
    rows = _numbered(clusters)
    return np.asarray(np.bincount(rows, values) / np.bincount(rows), np.float64)


def _numbered(labels: Sequence[object]) -> NDArray[np.int64]:
    numbers: dict[object, int] = {}
    return np.array([numbers.setdefault(one, len(numbers)) for one in labels], np.int64)


def _bootstrap(means: NDArray[np.float64]) -> Interval:
    drawn = _resampled_means(means, np.random.default_rng(SEED))
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Interval(float(means.mean()), float(low), float(high))


def _resampled_means(means: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Means of resampled clusters, spread by sqrt(n / (n - 1)) as an unbiased variance has it."""
    count = len(means)
    weights = rng.multinomial(count, np.full(count, 1 / count), RESAMPLES)
    drawn = weights @ means / count
    if count > 1:
        drawn = means.mean() + (drawn - means.mean()) * np.sqrt(count / (count - 1))
    return np.asarray(drawn, np.float64)
