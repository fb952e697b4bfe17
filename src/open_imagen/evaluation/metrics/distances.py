"""Distances between sets of features, in float64: FID, KID, CMMD, MIND, precision, recall.

A metric is a function (features [N, D], reference) -> number; `with_error` gives it an error bar.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from open_imagen.errors import ConfigError, DataError
from open_imagen.registry import Registry

Array = NDArray[np.float64]
GROUPS = 10
"""Of the jackknife."""


@dataclass(frozen=True)
class Reference:
    """What pictures are compared with: features, or only their mean and covariance."""

    mu: Array
    sigma: Array
    count: int | None
    features: Array | None = None

    @property
    def all(self) -> Array:
        """The features.

        Raises:
            DataError: only mean and covariance are known.
        """
        if self.features is None:
            raise DataError(
                "The reference is statistics (mean and covariance) alone; this number needs the "
                "pictures or their features.",
                "Give the folder of reference pictures as --reference.",
            )
        return self.features

    @cached_property
    def root(self) -> Array:
        """The symmetric square root of the covariance."""
        values, vectors = np.linalg.eigh(self.sigma)
        found: Array = (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
        return found


def reference_of(features: Array) -> Reference:
    """A reference from features [N, D]."""
    features = np.asarray(features, np.float64)
    mu, sigma = gaussian(features)
    return Reference(mu, sigma, len(features), features)


def gaussian(features: Array) -> tuple[Array, Array]:
    """Mean [D] and covariance [D, D] (over N - 1) of features [N, D]."""
    mu = features.mean(0)
    centred = features - mu
    return mu, centred.T @ centred / (len(features) - 1)


@dataclass(frozen=True)
class Score:
    """A number and its error bar."""

    value: float
    error: float
    """One standard error."""
    low: float
    high: float
    """95 %: value -+ 1.96 errors."""


def scored(value: float, error: float) -> Score:
    """A number with its error and the interval that follows from it."""
    return Score(value, error, value - 1.96 * error, value + 1.96 * error)


def mean_score(values: Array) -> Score:
    """The mean of independent values [N]; of a single one the error is unknown, nan."""
    error = float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else float("nan")
    return scored(float(values.mean()), error)


Metric = Callable[[Array, Reference], float]
METRICS: Registry[Metric] = Registry("metric")


def with_error(metric: Metric, features: Array, reference: Reference, seed: int = 0) -> Score:
    """A metric with its error bar: the delete-a-group jackknife over the measured pictures.

    The reference is taken as given: an error bar says how much the number would move with other
    pictures of the same system. KID, which is unbiased whatever the number of pictures, takes the
    spread of tenths instead: its random subsets would add their own noise to a jackknife.
    """
    features = np.asarray(features, np.float64)
    value = metric(features, reference)
    if metric is kid:
        return _spread_of_parts(value, features, reference, seed)
    return jackknife(value, len(features), lambda rest: metric(features[rest], reference), seed)


def _spread_of_parts(value: float, features: Array, reference: Reference, seed: int) -> Score:
    rng = np.random.default_rng(seed)
    groups = np.array_split(rng.permutation(len(features)), min(GROUPS, len(features) // 2))
    other = reference.all
    other = other[rng.permutation(len(other))[: 5 * KID_SUBSET]]
    parts = [mmd2(features[group[:KID_SUBSET]], other) for group in groups]
    used = sum(min(len(group), KID_SUBSET) for group in groups)
    error = float(np.std(parts, ddof=1) / np.sqrt(len(parts)) * np.sqrt(used / len(features)))
    return scored(value, error)


def jackknife(
    value: float, count: int, without: Callable[[NDArray[np.int64]], float], seed: int = 0
) -> Score:
    """The delete-a-group jackknife (Quenouille, Tukey) of any statistic of ``count`` things."""
    order = np.random.default_rng(seed).permutation(count)
    groups = np.array_split(order, min(GROUPS, count))
    parts = np.array([without(np.setdiff1d(order, group)) for group in groups])
    number = len(groups)
    error = float(np.sqrt((number - 1) / number * ((parts - parts.mean()) ** 2).sum()))
    return scored(value, error)


def check_enough(features: Array) -> None:
    """Refuse to fit a Gaussian of D dimensions to D or fewer pictures.

    Raises:
        DataError: there are too few.
    """
    number, width = features.shape
    if number <= width:
        raise DataError(
            f"{number} pictures are too few for a Frechet distance of {width} features: with no "
            f"more pictures than features their covariance is singular, and the number means "
            "nothing.",
            f"Make more than {width} pictures, or use kid or mind, which few pictures suffice for.",
        )


@METRICS.register("fid")
def fid(features: Array, reference: Reference) -> float:
    """Frechet distance of two Gaussians (Heusel et al. 2017).

    |mu_1 - mu_2|^2 + tr(S_1 + S_2 - 2 (S_1 S_2)^(1/2))
    """
    mu, sigma = gaussian(features)
    if reference.mu.shape != mu.shape:
        raise ConfigError(
            f"The reference has {len(reference.mu)} features, the pictures have {len(mu)}.",
            "Statistics and pictures must come from the same network.",
        )
    apart = float(((mu - reference.mu) ** 2).sum())
    both = float(np.trace(sigma) + np.trace(reference.sigma))
    return apart + both - 2 * root_trace(features, reference)


def root_trace(features: Array, reference: Reference) -> float:
    """The trace of (S_1 S_2)^(1/2), without the square root of a product that is not symmetric.

    With A, B the centred features over sqrt(N - 1), it is the nuclear norm of A B^T; with a
    covariance alone, the trace of the root of the symmetric S_2^(1/2) S_1 S_2^(1/2).
    """
    other = reference.features
    width = features.shape[1]
    if other is not None and min(len(features), len(other)) < width:
        a, b = (_centred(x) for x in (features, other))
        product = a @ b.T
        return float(np.linalg.svd(product, compute_uv=False).sum())
    _, sigma = gaussian(features)
    inner = np.linalg.eigvalsh(reference.root @ sigma @ reference.root)
    return float(np.sqrt(np.clip(inner, 0, None)).sum())


def _centred(x: Array) -> Array:
    centred: Array = (x - x.mean(0)) / np.sqrt(len(x) - 1)
    return centred


@METRICS.register("kid")
def kid(features: Array, reference: Reference) -> float:
    """Kernel distance (Binkowski et al. 2018): unbiased MMD^2 of the kernel (x.y / D + 1)^3.

    The mean over 100 random subsets of 1,000 of each side, drawn as torch-fidelity draws them;
    of all pictures at once where either side has no more.
    """
    other = reference.all
    size = min(KID_SUBSET, len(features), len(other))
    if size == len(features) == len(other):
        return mmd2(features, other)
    rng = np.random.RandomState(KID_SEED)
    parts = []
    for _ in range(KID_SUBSETS):
        ours = features[rng.choice(len(features), size, replace=False)]
        theirs = other[rng.choice(len(other), size, replace=False)]
        parts.append(mmd2(ours, theirs))
    return float(np.mean(parts))


KID_SUBSETS, KID_SUBSET, KID_SEED = 100, 1000, 2020


def mmd2(x: Array, y: Array) -> float:
    """Unbiased MMD^2 of the cubic kernel between features [N, D] and [M, D]."""
    width = x.shape[1]

    def kernel(a: Array, b: Array) -> Array:
        product: Array = (a @ b.T / width + 1) ** 3
        return product

    n, m = len(x), len(y)
    xx, yy = kernel(x, x), kernel(y, y)
    within_x = (xx.sum() - np.trace(xx)) / (n * (n - 1))
    within_y = (yy.sum() - np.trace(yy)) / (m * (m - 1))
    return float(within_x + within_y - 2 * kernel(x, y).mean())


@METRICS.register("cmmd")
def cmmd(features: Array, reference: Reference) -> float:
    """1,000 times the biased MMD^2 of a Gaussian kernel of width 10 (Jayasumana et al. 2024).

    Of CLIP features of unit length.
    """
    x, y = features, reference.all
    within = _rbf_mean(x, x) + _rbf_mean(y, y)
    return 1000 * (within - 2 * _rbf_mean(x, y))


def _rbf_mean(x: Array, y: Array, sigma: float = 10.0, rows: int = 4096) -> float:
    """The mean of exp(-|x - y|^2 / (2 sigma^2)) over all pairs."""
    total = 0.0
    y_norm = (y**2).sum(1)
    for start in range(0, len(x), rows):
        block = x[start : start + rows]
        apart = (block**2).sum(1)[:, None] + y_norm - 2 * block @ y.T
        total += float(np.exp(-apart / (2 * sigma**2)).sum())
    return total / (len(x) * len(y))


@METRICS.register("mind")
def mind(features: Array, reference: Reference) -> float:
    """Sliced distance for small sets (2605.06797): random directions, sorted, squared, averaged.

    3 D times the mean over 1,000 seeded unit directions of the squared 2-Wasserstein distance of
    the projections, read at as many quantiles as the smaller set has pictures.
    """
    other = reference.all
    width = features.shape[1]
    directions = np.random.default_rng(0).normal(size=(width, MIND_DIRECTIONS))
    directions /= np.linalg.norm(directions, axis=0)
    ours, theirs = np.sort(features @ directions, 0), np.sort(other @ directions, 0)
    number = min(len(ours), len(theirs))
    apart = (_quantiles(ours, number) - _quantiles(theirs, number)) ** 2
    return float(3 * width * apart.mean())


MIND_DIRECTIONS = 1000


def _quantiles(ordered: Array, number: int) -> Array:
    """Rows of a sorted array at ``number`` even quantiles, interpolated; all rows if it has so."""
    if len(ordered) == number:
        return ordered
    position = (np.arange(number) + 0.5) / number * len(ordered) - 0.5
    low = np.clip(np.floor(position).astype(int), 0, len(ordered) - 1)
    high = np.clip(low + 1, 0, len(ordered) - 1)
    share = np.clip(position - low, 0, 1)[:, None]
    read: Array = ordered[low] * (1 - share) + ordered[high] * share
    return read


@METRICS.register("precision")
def precision(features: Array, reference: Reference) -> float:
    """The share of our pictures inside the reference's neighbourhoods (Kynkaanniemi et al. 2019).

    A neighbourhood is the ball around a picture that reaches to its third nearest neighbour.
    """
    return _covered(features, reference.all)


@METRICS.register("recall")
def recall(features: Array, reference: Reference) -> float:
    """The share of the reference's pictures inside the neighbourhoods of ours."""
    return _covered(reference.all, features)


def _covered(points: Array, centres: Array, k: int = 3, rows: int = 2048) -> float:
    if len(centres) <= k:
        raise DataError(f"Neighbourhoods of {k} need more than {k} pictures.")
    radii = np.concatenate(
        [
            np.partition(_apart(centres[i : i + rows], centres), k, axis=1)[:, k]
            for i in range(0, len(centres), rows)
        ]
    )
    inside = [
        (_apart(points[i : i + rows], centres) <= radii).any(1) for i in range(0, len(points), rows)
    ]
    return float(np.concatenate(inside).mean())


def _apart(x: Array, y: Array) -> Array:
    squares = (x**2).sum(1)[:, None] + (y**2).sum(1) - 2 * x @ y.T
    distances: Array = np.sqrt(np.clip(squares, 0, None))
    return distances


def diversity(features: Array, prompts: Sequence[object]) -> Score:
    """How far images of one prompt are apart: the mean over prompts, with the error of that mean.

    Of each prompt, the mean over its pairs of images of the root mean square difference of their
    features.

    Raises:
        DataError: no prompt has two images.
    """
    rows: dict[object, list[int]] = {}
    for k, prompt in enumerate(prompts):
        rows.setdefault(prompt, []).append(k)
    several = [features[some] for some in rows.values() if len(some) > 1]
    if not several:
        raise DataError(
            "No prompt has two images: how much they differ is not defined.",
            "Make several of each prompt: imagen evaluate prompts --images 8.",
        )
    means = []
    for some in several:
        first, second = np.triu_indices(len(some), 1)
        squares = ((some[first] - some[second]) ** 2).mean(1)
        means.append(np.sqrt(squares).mean())
    return mean_score(np.array(means))


def clip_score(images: Array, captions: Array) -> Score:
    """100 times the mean cosine of CLIP's features of pictures and of their captions.

    Row by row; negative cosines count as they are. The error is that of a mean.
    """
    cosine = 100 * (images * captions).sum(1)
    cosine = cosine / (np.linalg.norm(images, axis=1) * np.linalg.norm(captions, axis=1))
    return mean_score(cosine)
