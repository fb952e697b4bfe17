"""One plain function per sampler.

A sampler walks down a list of noise levels. Every one has the same four arguments:

    denoise   (z, logsnr) -> estimate of the clean image x
    z         the noisy image at logsnrs[0]
    logsnrs   noise levels, noisiest first, shape [steps + 1], on the CPU so that no step waits
              for the device; the last may be +inf, the clean image
    noise     () -> fresh standard normal noise, shape of z; only stochastic samplers call it

and returns z at logsnrs[-1]. Guidance, thresholding and text live inside `denoise`.
"""

from collections.abc import Callable
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor

from open_imagen.diffusion.schedules import alpha_sigma
from open_imagen.registry import Registry

Denoise = Callable[[Tensor, Tensor], Tensor]
Noise = Callable[[], Tensor]
Sampler = Callable[[Denoise, Tensor, Tensor, Noise], Tensor]
SAMPLERS: Registry[Sampler] = Registry("sampler")

GAMMA = 0.3
"""The paper does not state its gamma; 0 is the posterior variance, 1 that of the forward step."""


@torch.no_grad()
def ancestral(
    denoise: Denoise, z: Tensor, logsnrs: Tensor, noise: Noise, gamma: float = GAMMA
) -> Tensor:
    """The paper's ancestral sampler; gamma mixes its two log-variances (appendix A)."""
    for now, then in pairwise(logsnrs):
        x = denoise(z, now)
        (alpha, sigma), (alpha_then, sigma_then) = alpha_sigma(now), alpha_sigma(then)
        ratio = torch.exp(now - then)  # e^{lambda_t - lambda_s}
        z = ratio * alpha_then / alpha * z + (1 - ratio) * alpha_then * x
        if torch.isfinite(then):  # the clean image gets no fresh noise
            lower = (1 - ratio) * sigma_then**2
            upper = (1 - ratio) * sigma**2
            z = z + (lower ** (1 - gamma) * upper**gamma).sqrt() * noise()
    return z


SAMPLERS.register("ddpm")(ancestral)


@SAMPLERS.register("ddim")
@torch.no_grad()
def ddim(denoise: Denoise, z: Tensor, logsnrs: Tensor, noise: Noise) -> Tensor:
    """DDIM without fresh noise (Song et al. 2021). First order."""
    for now, then in pairwise(logsnrs):
        x = denoise(z, now)
        (alpha, sigma), (alpha_then, sigma_then) = alpha_sigma(now), alpha_sigma(then)
        z = alpha_then * x + sigma_then / sigma * (z - alpha * x)
    return z


@SAMPLERS.register("dpmpp_2m")
@torch.no_grad()
def dpmpp_2m(denoise: Denoise, z: Tensor, logsnrs: Tensor, noise: Noise) -> Tensor:
    """DPM-Solver++(2M) (Lu et al. 2022, algorithm 2). Second order, one call per step."""
    x_last, step_last = None, None
    for now, then in pairwise(logsnrs):
        x = denoise(z, now)
        step = (then - now) / 2  # in units of log(alpha / sigma)

        # Extrapolate x to the middle of the step from the two latest estimates. An infinite
        # last step has no middle: it lands on x.
        if x_last is None or step_last is None or torch.isinf(step):
            x_mid = x
        else:
            x_mid = x + step / (2 * step_last) * (x - x_last)

        _, sigma = alpha_sigma(now)
        alpha_then, sigma_then = alpha_sigma(then)
        z = sigma_then / sigma * z - alpha_then * torch.expm1(-step) * x_mid
        x_last, step_last = x, step
    return z


@SAMPLERS.register("heun")
@torch.no_grad()
def heun(denoise: Denoise, z: Tensor, logsnrs: Tensor, noise: Noise) -> Tensor:
    """Heun's method on dy/ds = (y - x) / s, y = z / alpha, s = sigma / alpha (Karras et al. 2022,
    algorithm 1 without churn). Second order, two calls per step but for the last to s = 0.
    """
    for now, then in pairwise(logsnrs):
        (alpha, _), (alpha_then, _) = alpha_sigma(now), alpha_sigma(then)
        s, s_then = torch.exp(-now / 2), torch.exp(-then / 2)
        y = z / alpha
        slope = (y - denoise(z, now)) / s
        z = alpha_then * (y + (s_then - s) * slope)
        if torch.isfinite(then):
            slope_then = (z / alpha_then - denoise(z, then)) / s_then
            z = alpha_then * (y + (s_then - s) * (slope + slope_then) / 2)
    return z


def with_gamma(gamma: float) -> Sampler:
    """The ancestral sampler with another mix of its two variances, gamma in [0, 1]."""
    return partial(ancestral, gamma=gamma)
