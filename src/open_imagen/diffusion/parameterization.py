"""What a network predicts: eps, x or v, and every way from one to another.

With z = alpha x + sigma eps:  v = alpha eps - sigma x  (Salimans and Ho 2022), and
x = (z - sigma eps) / alpha = alpha z - sigma v,  eps = (z - alpha x) / sigma = sigma z + alpha v.
"""

import torch
from torch import Tensor

from open_imagen.diffusion.schedules import alpha_sigma
from open_imagen.errors import UnknownName

KINDS = ("eps", "v", "x")


def check_kind(kind: str, what: str = "prediction") -> None:
    """Raises UnknownName unless ``kind`` is eps, v or x."""
    if kind not in KINDS:
        raise UnknownName(what, kind, KINDS)


def spread(level: Tensor, like: Tensor) -> Tensor:
    """Noise levels [B] shaped to multiply images [B, ...]; a single level [] stays as it is."""
    return level if level.ndim == 0 else level.reshape(-1, *[1] * (like.ndim - 1))


def diffuse(x: Tensor, eps: Tensor, logsnr: Tensor) -> Tensor:
    """The noised image z = alpha x + sigma eps, for x [B, ...] and logsnr [B] or []."""
    alpha, sigma = alpha_sigma(spread(logsnr, x))
    return alpha * x + sigma * eps


def target(kind: str, x: Tensor, eps: Tensor, logsnr: Tensor) -> Tensor:
    """What a perfect network of this kind predicts, given the truth. Shape of x."""
    if kind == "x":
        return x
    if kind == "eps":
        return eps
    alpha, sigma = alpha_sigma(spread(logsnr, x))
    return alpha * eps - sigma * x


def convert(prediction: Tensor, z: Tensor, logsnr: Tensor, source: str, goal: str) -> Tensor:
    """Turn a prediction of kind ``source`` into one of kind ``goal``.

    Args:
        prediction: [B, ...], as z.
        logsnr: [B] or [], the level of z; finite.
    """
    if source == goal:
        return prediction
    alpha, sigma = alpha_sigma(spread(logsnr, z))
    if source == "v":
        return alpha * z - sigma * prediction if goal == "x" else sigma * z + alpha * prediction
    if source == "x":
        eps = (z - alpha * prediction) / sigma
        return eps if goal == "eps" else alpha * eps - sigma * prediction
    x = (z - sigma * prediction) / alpha
    return x if goal == "x" else alpha * prediction - sigma * x


def to_x(prediction: Tensor, z: Tensor, logsnr: Tensor, kind: str) -> Tensor:
    """The estimate of the clean image that a prediction stands for."""
    return convert(prediction, z, logsnr, kind, "x")


def to_eps(x: Tensor, z: Tensor, logsnr: Tensor) -> Tensor:
    """The noise that belongs to an estimate of the clean image."""
    return convert(x, z, logsnr, "x", "eps")


def snr_weight(kind: str, logsnr: Tensor) -> Tensor:
    """How much a squared error in x counts when measured in another space.

    |eps error|^2 = SNR |x error|^2 and |v error|^2 = (1 + SNR) |x error|^2.
    """
    if kind == "x":
        return torch.ones_like(logsnr)
    return logsnr.exp() if kind == "eps" else 1 + logsnr.exp()
