"""The training loss of one stage, per example, and its weighting over noise levels."""

import math
from dataclasses import dataclass

from torch import Tensor

from open_imagen.diffusion.parameterization import check_kind, convert, snr_weight, target
from open_imagen.errors import ConfigError, UnknownName

WEIGHTINGS = ("geometric", "min_snr", "simple")
ERRORS = ("l1", "l2")


@dataclass(frozen=True, kw_only=True)
class Objective:
    """What the network predicts and in which space its error counts."""

    prediction: str = "eps"
    """What the network puts out: eps (the paper), x or v."""
    space: str = "eps"
    """Where the error is taken: eps (the paper), x or v."""
    error: str = "l2"
    """l2 (the paper): the optimum is the posterior mean of x. l1: it is the median, so that an edge
    whose position is uncertain stays sharp (as in SR3, Saharia et al. 2021)."""
    weighting: str = "simple"
    """simple: as it is. min_snr: never more than `gamma` on an error in x (Hang et al. 2023).
    geometric: sqrt(SNR) on an error in x, halfway between that and an error in eps, so that neither
    much noise nor little has the say."""
    gamma: float = 5.0
    """The cap of min_snr."""
    max_weight: float = math.inf
    """Cap on the weight of an l2 error in x, whatever the space and weighting. Predicting x
    with the loss in v space wants one (100, say): there the weight is 1 / sigma^2."""

    def __post_init__(self) -> None:
        check_kind(self.prediction)
        check_kind(self.space, "loss space")
        if self.error not in ERRORS:
            raise UnknownName("error", self.error, ERRORS)
        if self.weighting not in WEIGHTINGS:
            raise UnknownName("weighting", self.weighting, WEIGHTINGS)
        if not self.gamma > 0 or not self.max_weight > 0:
            raise ConfigError("objective.gamma and objective.max_weight must be above 0.")

    def weight(self, logsnr: Tensor) -> Tensor:
        """The factor on the l2 error in ``space``, shape of logsnr."""
        in_space = snr_weight(self.space, logsnr)
        in_x = in_space
        if self.weighting == "min_snr":
            in_x = logsnr.exp().clamp(max=self.gamma)
        elif self.weighting == "geometric":
            in_x = (logsnr / 2).exp()
        return in_x.clamp(max=self.max_weight) / in_space

    def loss(self, prediction: Tensor, x: Tensor, eps: Tensor, z: Tensor, logsnr: Tensor) -> Tensor:
        """Weighted mean error of each example, shape [B].

        The l1 error is weighted by the square root of the weight.

        Args:
            prediction: the network's output, shape of x [B, ...].
            x, eps, z: the clean image, the noise, and alpha x + sigma eps.
            logsnr: [B], the level of z.
        """
        found = convert(prediction, z, logsnr, self.prediction, self.space)
        error = (found - target(self.space, x, eps, logsnr)).flatten(1)
        if self.error == "l1":
            return self.weight(logsnr).sqrt() * error.abs().mean(1)
        return self.weight(logsnr) * error.square().mean(1)
