"""Post-hoc EMA: averages of weights whose length is chosen after training.

A power-function average follows the weights theta(t) with weight t^gamma, from the beginning of
the run; its length relative to the run is the standard deviation of that weighting,

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

FOLDER = "posthoc_ema"
"""Of a run: its snapshots."""
MAX_SIGMA_REL = 0.28
"""No gamma above 0 has a larger sigma_rel."""


def gamma_of(sigma_rel: float) -> float:
    """The exponent of a relative length, 0 < sigma_rel < 0.28.

    >>> round(gamma_of(0.10), 2)
    6.94
    """
    if not 0 < sigma_rel < MAX_SIGMA_REL:
        raise ConfigError(
            f"sigma_rel = {sigma_rel} must be above 0 and below {MAX_SIGMA_REL}.", "Try 0.1."
        )
    # (gamma + 2)^2 (gamma + 3) = (gamma + 1) / sigma_rel^2 has one root above 0.
    inverse = sigma_rel**-2
    roots = np.roots([1, 7, 16 - inverse, 12 - inverse])
    return float(max(root.real for root in roots if abs(root.imag) < 1e-9))


def power_decay(sigma_rel: float, images_seen: int, batch_size: int) -> float:
    """The decay of the average in a step that ended at ``images_seen``.

    The integral of the weighting over the past, over that of the past and the step.
    """
    return float((1 - batch_size / images_seen) ** (gamma_of(sigma_rel) + 1))


class Profile(NamedTuple):
    """An average of this relative length, at this point of the run."""

    images_seen: int
    sigma_rel: float


def inner_product(one: Profile, other: Profile) -> float:
    """The inner product of two averages' weightings, in closed form.

    Each is (gamma + 1) t^gamma / images_seen^(gamma + 1) up to its own time.
    """
    a, b = gamma_of(one.sigma_rel), gamma_of(other.sigma_rel)
    shorter = min(one.images_seen, other.images_seen)
    # In ratios of times, so that no power overflows.
    first, second = shorter / one.images_seen, shorter / other.images_seen
    ratio = first ** (a + 1) * second ** (b + 1) / shorter
    return float((a + 1) * (b + 1) / (a + b + 1) * ratio)


def solve_coefficients(snapshots: Sequence[Profile], target: Profile) -> list[float]:
    """The combination of ``snapshots`` nearest to ``target``, by least squares."""
    scale = max(profile.images_seen for profile in snapshots)
    gram = np.array(
        [[inner_product(one, other) * scale for other in snapshots] for one in snapshots]
    )
    right = np.array([inner_product(one, target) * scale for one in snapshots])
    found: list[float] = np.linalg.lstsq(gram, right, rcond=1e-12)[0].tolist()
    return found


def snapshot_name(profile: Profile) -> str:
    """The file name of a snapshot."""
    return f"{profile.images_seen:012d}-{profile.sigma_rel:.3f}.safetensors"


def find_snapshots(folder: Path) -> dict[Profile, Path]:
    """The snapshots of a run, oldest first."""
    found = {}
    for path in sorted(folder.glob("*.safetensors")):
        if match := re.fullmatch(r"(\d{12})-(\d\.\d{3})\.safetensors", path.name):
            found[Profile(int(match[1]), float(match[2]))] = path
    return found


def reconstruct(
    folder: Path, sigma_rel: float, images_seen: int = 0
) -> tuple[dict[str, Tensor], Profile]:
    """The averaged weights for this sigma_rel from the snapshots in a folder, and their profile.

    Args:
        images_seen: at which point of the run; the last snapshot's if 0.

    Raises:
        DataError: there are no snapshots up to that point.
        ConfigError: no average has this sigma_rel.
    """
    gamma_of(sigma_rel)
    found = find_snapshots(folder)
    images_seen = images_seen or max((profile.images_seen for profile in found), default=0)
    used = [profile for profile in found if profile.images_seen <= images_seen]
    if not used:
        raise DataError(
            f"There are no snapshots of averages in {folder}.",
            "A run writes them with ema.sigma_rel and ema.snapshot_every.",
        )
    target = Profile(images_seen, sigma_rel)
    weights: dict[str, Tensor] = {}
    for profile, coefficient in zip(used, solve_coefficients(used, target), strict=True):
        for name, tensor in TensorFile(found[profile]):
            term = coefficient * tensor.double()
            weights[name] = weights[name] + term if name in weights else term
    return {name: tensor.to(torch.float32) for name, tensor in weights.items()}, target
