"""Thresholding of the guided estimate of the clean image (Saharia et al. 2022, section 2.3)."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from open_imagen.errors import ConfigError, UnknownName

NAMES = ("dynamic", "none", "static")


@dataclass(frozen=True)
class Threshold:
    """How an estimate outside [-1, 1] is brought back."""

    name: str = "dynamic"
    """none; static: clip; dynamic: clip at a percentile of each image, then divide by it."""
    percentile: float = 99.5
    """Of the absolute values of an image, for `dynamic` (figure A.10)."""
    cap: float = math.inf
    """Upper bound on the dynamic threshold; 1 makes `dynamic` static."""

    def __post_init__(self) -> None:
        if self.name not in NAMES:
            raise UnknownName("threshold", self.name, NAMES)
        if not 0 < self.percentile <= 100:
            raise ConfigError(f"percentile = {self.percentile} must be in (0, 100].")
        if not self.cap >= 1:
            raise ConfigError(f"threshold cap = {self.cap} must be at least 1.")

    def __call__(self, x: Tensor) -> Tensor:
        """Bring x [B, ...] into [-1, 1], each image by itself (`none` returns it unchanged)."""
        if self.name == "none":
            return x
        if self.name == "static":
            return x.clamp(-1, 1)
        s = percentile(x.flatten(1).abs(), self.percentile).clamp(1, self.cap)
        s = s.reshape(-1, *[1] * (x.ndim - 1))
        return x.clamp(-s, s) / s


def percentile(values: Tensor, p: float) -> Tensor:
    """The p-th percentile of each row of [B, N], interpolated linearly; shape [B].

    Equal to torch.quantile, which sorts everything; here only the largest values are ordered.
    """
    n = values.shape[1]
    place = p / 100 * (n - 1)
    below = math.floor(place)
    top = torch.topk(values, n - below, dim=1).values
    low, high = top[:, -1], top[:, -2] if n - below > 1 else top[:, -1]
    return low + (place - below) * (high - low)
