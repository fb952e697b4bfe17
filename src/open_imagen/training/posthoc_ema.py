"""Averages of weights whose length is chosen after training.

A power-function average follows the weights theta(t) with weight t^gamma, from the beginning of
the run on; its length relative to the run is the standard deviation of that weighting,

    sigma_rel = sqrt(gamma + 1) / ((gamma + 2) sqrt(gamma + 3)).

Snapshots of two such averages span a space in which any other is found by least squares (Karras et
al. 2024, "Analyzing and improving the training dynamics of diffusion models", section 3).
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from open_imagen.errors import ConfigError, DataError
from open_imagen.storage import TensorFile

LONGEST = 0.28
"""Above this sigma_rel no gamma above 0 gives it."""


def gamma_of(length: float) -> float:
    """The exponent of a relative length, 0 < length < 0.28.

    >>> round(gamma_of(0.10), 2)
    6.94
    """
    if not 0 < length < LONGEST:
        raise ConfigError(f"A length of {length} must be above 0 and below {LONGEST}.", "Try 0.1.")
    # (gamma + 2)^2 (gamma + 3) = (gamma + 1) / length^2 has one root above 0.
    inverse = length**-2
    roots = np.roots([1, 7, 16 - inverse, 12 - inverse])
    return float(max(root.real for root in roots if abs(root.imag) < 1e-9))


def keep(length: float, seen: int, batch: int) -> float:
    """The share of the old average that survives a step of ``batch`` images that ended at ``seen``.

    The integral of the weighting over the past, over that of the past and the step.
    """
    return float((1 - batch / seen) ** (gamma_of(length) + 1))


class Profile(NamedTuple):
    """An average of the given length, at the time when so many images had been seen."""

    seen: int
    length: float


def product(one: Profile, other: Profile) -> float:
    """The inner product of two weightings, each (gamma + 1) t^gamma / seen^(gamma + 1) up to its
    own time: an integral with a closed form."""
    a, b = gamma_of(one.length), gamma_of(other.length)
    shorter = min(one.seen, other.seen)
    # In ratios of times, so that no power overflows.
    ratio = (shorter / one.seen) ** (a + 1) * (shorter / other.seen) ** (b + 1) / shorter
    return float((a + 1) * (b + 1) / (a + b + 1) * ratio)


def coefficients(kept: Sequence[Profile], wanted: Profile) -> list[float]:
    """The combination of ``kept`` that comes nearest to ``wanted``, by least squares."""
    scale = max(profile.seen for profile in kept)
    gram = np.array([[product(one, other) * scale for other in kept] for one in kept])
    right = np.array([product(one, wanted) * scale for one in kept])
    found: list[float] = np.linalg.lstsq(gram, right, rcond=1e-12)[0].tolist()
    return found


def snapshot_name(profile: Profile) -> str:
    return f"{profile.seen:012d}-{profile.length:.3f}.safetensors"


def snapshots(folder: Path) -> dict[Profile, Path]:
    """The averages that a run has kept, oldest first."""
    found = {}
    for path in sorted(folder.glob("*.safetensors")):
        if match := re.fullmatch(r"(\d{12})-(\d\.\d{3})\.safetensors", path.name):
            found[Profile(int(match[1]), float(match[2]))] = path
    return found


def combined(folder: Path, length: float, seen: int = 0) -> tuple[dict[str, Tensor], Profile]:
    """The average of any length, from the snapshots in a folder, and what exactly it is.

    Args:
        seen: at which time of the run; the last snapshot's if 0.

    Raises:
        DataError: there are no snapshots up to that time.
        ConfigError: a length that no average has.
    """
    gamma_of(length)
    found = snapshots(folder)
    seen = seen or max((profile.seen for profile in found), default=0)
    used = [profile for profile in found if profile.seen <= seen]
    if not used:
        raise DataError(
            f"There are no snapshots of averages in {folder}.",
            "They are kept by a run with ema.lengths and ema.snapshot_every.",
        )
    wanted = Profile(seen, length)
    weights: dict[str, Tensor] = {}
    for profile, share in zip(used, coefficients(used, wanted), strict=True):
        for name, tensor in TensorFile(found[profile]):
            part = share * tensor.double()
            weights[name] = weights[name] + part if name in weights else part
    return {name: tensor.to(torch.float32) for name, tensor in weights.items()}, wanted
