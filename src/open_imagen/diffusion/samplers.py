"""One plain function per sampler.

A sampler walks down a list of noise levels. Every one has the same four arguments:

    denoise   (z, logsnr) -> estimate of the clean image x; or of x and of gamma, the mix of the
              ancestral sampler's two variances, from a network that has learned it
    z         the noisy image at logsnrs[0]
    logsnrs   noise levels, noisiest first, steps + 1 of them; the first may be -inf, pure noise,
              the last +inf, the clean image
    noise     () -> fresh standard normal noise, shape of z; only stochastic samplers call it

and returns z at logsnrs[-1]. Guidance, thresholding and text live inside `denoise`. Levels and
what follows from them are Python floats: no step waits for the device.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor

from open_imagen.registry import Registry

Estimate = Tensor | tuple[Tensor, Tensor]
Denoise = Callable[[Tensor, float], Estimate]
Noise = Callable[[], Tensor]
Sampler = Callable[[Denoise, Tensor, Sequence[float], Noise], Tensor]
Scales = tuple[float, float] | tuple[Tensor, Tensor]
SAMPLERS: Registry[Sampler] = Registry("sampler")

GAMMA = 0.3
"""The paper does not state its gamma; 0 is the posterior variance, 1 that of the forward step."""
CHURN = 40.0
"""Fresh noise over the whole way of `heun_sde`, Karras et al. 2022's S_churn."""


def scales(logsnr: float) -> tuple[float, float]:
    """The factors alpha and sigma at a log-SNR, -inf and +inf included.

    >>> scales(math.inf), scales(-math.inf)
    ((1.0, 0.0), (0.0, 1.0))
    """
    small = math.exp(-abs(logsnr))
    large, less = math.sqrt(1 / (1 + small)), math.sqrt(small / (1 + small))
    return (large, less) if logsnr >= 0 else (less, large)


def image_of(estimate: Estimate) -> Tensor:
    """The clean image of an estimate, whether or not a variance comes with it."""
    return estimate if isinstance(estimate, Tensor) else estimate[0]


@torch.no_grad()
def ancestral(
    denoise: Denoise, z: Tensor, logsnrs: Sequence[float], noise: Noise, gamma: float = GAMMA
) -> Tensor:
    """The paper's ancestral sampler; gamma mixes its two log-variances (appendix A).

    A learned gamma is Nichol and Dhariwal's learned range (2021, eq. 15), pixel by pixel.
    """
    for now, then in pairwise(map(float, logsnrs)):
        estimate = denoise(z, now)
        x, mix = estimate if isinstance(estimate, tuple) else (estimate, gamma)
        (alpha, sigma), (alpha_then, sigma_then) = scales(now), scales(then)
        fresh = -math.expm1(now - then)  # 1 - e^{lambda_t - lambda_s}
        z = alpha * sigma_then**2 / (alpha_then * sigma**2) * z + fresh * alpha_then * x
        if then < math.inf:  # the clean image gets no fresh noise
            lower, upper = math.log(fresh * sigma_then**2), math.log(fresh * sigma**2)
            log_variance = lower + mix * (upper - lower)
            spread = (
                math.exp(log_variance / 2)
                if isinstance(log_variance, float)
                else torch.exp(log_variance / 2)
            )
            z = z + spread * noise()
    return z


SAMPLERS.register("ddpm")(ancestral)


@SAMPLERS.register("ddim")
@torch.no_grad()
def ddim(denoise: Denoise, z: Tensor, logsnrs: Sequence[float], noise: Noise) -> Tensor:
    """DDIM without fresh noise (Song et al. 2021). First order."""
    for now, then in pairwise(map(float, logsnrs)):
        z = ddim_step(image_of(denoise(z, now)), z, now, then)
    return z


def ddim_step(x: Tensor, z: Tensor, now: float, then: float) -> Tensor:
    """From z to a lower noise level, the estimate x held still: DDIM's step."""
    return ddim_step_scaled(x, z, scales(now), scales(then))


def ddim_step_scaled(x: Tensor, z: Tensor, here: Scales, there: Scales) -> Tensor:
    """The same from one alpha and sigma to others: numbers, or tensors that images multiply."""
    (alpha, sigma), (alpha_then, sigma_then) = here, there
    return alpha_then * x + sigma_then / sigma * (z - alpha * x)


@torch.no_grad()
def dpmpp_2m(denoise: Denoise, z: Tensor, logsnrs: Sequence[float], noise: Noise) -> Tensor:
    """DPM-Solver++(2M) (Lu et al. 2022, algorithm 2). Second order, one call per step."""
    x_last, step_last = None, math.inf
    for now, then in pairwise(map(float, logsnrs)):
        x, step = image_of(denoise(z, now)), (then - now) / 2  # in units of log(alpha / sigma)

        # Extrapolate x to the middle of the step from the two latest estimates. An infinite
        # step has no middle: it lands on x, and so does the one after it.
        x_mid = x
        if x_last is not None and step < math.inf:
            x_mid = x + step / (2 * step_last) * (x - x_last)
        x_last, step_last = x, step

        (_, sigma), (alpha_then, sigma_then) = scales(now), scales(then)
        z = sigma_then / sigma * z - alpha_then * math.expm1(-step) * x_mid
    return z


def sde_step(x: Tensor, z: Tensor, now: float, then: float, noise: Noise) -> Tensor:
    """From z to a lower noise level by the reverse SDE, the estimate x held still.

    Like `ddim_step`, but old noise is also replaced by fresh noise as log(alpha / sigma) rises.
    """
    (_, sigma), (alpha_then, sigma_then), step = scales(now), scales(then), (then - now) / 2
    z = sigma_then / sigma * math.exp(-step) * z - alpha_then * math.expm1(-2 * step) * x
    if then < math.inf:  # the clean image gets no fresh noise
        z = z + sigma_then * math.sqrt(-math.expm1(-2 * step)) * noise()
    return z


@torch.no_grad()
def unipc(
    denoise: Denoise,
    z: Tensor,
    logsnrs: Sequence[float],
    noise: Noise,
    sde_from_logsnr: float = math.inf,
) -> Tensor:
    """UniPC of second order with B(h) = e^h - 1, predicting x (Zhao et al. 2023, algorithms 1, 2).

    DPM-Solver++(2M), and each of its steps is made anew as soon as the estimate at its end is
    there, which the next step needs anyhow: still one call per step. Steps that begin at the
    log-SNR ``sde_from_logsnr`` or above are those of the SDE, which adds fresh noise and needs no
    correction: at -inf this is the SDE form of DPM-Solver++(2M) (Lu et al. 2022), `dpmpp_2m_sde`.
    """
    start, x_last, x_before = z, None, None
    last = before = -math.inf
    for now, then in pairwise(map(float, logsnrs)):
        x = image_of(denoise(z, now))
        if x_last is not None and -math.inf < last < sde_from_logsnr:
            z = corrected(start, x, x_last, x_before, now, last, before)
        x_mid, step = x, (then - now) / 2
        if x_last is not None and step < math.inf:
            x_mid = x + step / (now - last) * (x - x_last)
        start, x_before, x_last, before, last = z, x_last, x, last, now
        fresh = now >= sde_from_logsnr
        z = sde_step(x_mid, z, now, then, noise) if fresh else ddim_step(x_mid, z, now, then)
    return z


def corrected(
    z: Tensor,
    x: Tensor,
    x_last: Tensor,
    x_before: Tensor | None,
    now: float,
    last: float,
    before: float,
) -> Tensor:
    """UniC, the corrector of UniPC: the step from z at ``last`` to ``now``, repeated.

    It uses the estimate x at its end and those at its beginning and before.
    """
    slope = (x - x_last) / 2
    if x_before is not None and before > -math.inf:
        # The weights of both differences are exact where x is quadratic in log(alpha / sigma).
        h, r = (now - last) / 2, (before - last) / (now - last)
        change = math.expm1(-h)
        first = -1 / h - 1 / change
        second = 2 / h**2 + (2 / h - 1) / change
        weight = (first - second) / (1 - r)
        slope = weight / r * (x_before - x_last) + (first - weight) * (x - x_last)
    return ddim_step(x_last + slope, z, last, now)


SAMPLERS.register("dpmpp_2m")(dpmpp_2m)
SAMPLERS.register("dpmpp_2m_sde")(partial(unipc, sde_from_logsnr=-math.inf))
SAMPLERS.register("unipc")(unipc)


@torch.no_grad()
def heun(
    denoise: Denoise, z: Tensor, logsnrs: Sequence[float], noise: Noise, churn: float = 0.0
) -> Tensor:
    """Heun's method on dy/ds = (y - x) / s, y = z / alpha, s = sigma / alpha (Karras et al. 2022).

    Second order, two calls per step but for the last to s = 0. ``churn`` above 0 raises the noise
    before each step and takes it away with the step (their algorithm 2, over all levels).
    """
    steps = len(logsnrs) - 1
    for now, then in pairwise(map(float, logsnrs)):
        if now == -math.inf:  # pure noise has no y
            z = ddim_step(image_of(denoise(z, now)), z, now, then)
            continue
        s, s_then, alpha_then = math.exp(-now / 2), math.exp(-then / 2), scales(then)[0]
        y = z / scales(now)[0]
        if churn:
            raised = s * (1 + min(churn / steps, math.sqrt(2) - 1))
            y = y + math.sqrt(raised**2 - s**2) * noise()
            s, now = raised, -2 * math.log(raised)
        slope = (y - image_of(denoise(scales(now)[0] * y, now))) / s
        z = alpha_then * (y + (s_then - s) * slope)
        if then < math.inf:
            slope_then = (z / alpha_then - image_of(denoise(z, then))) / s_then
            z = alpha_then * (y + (s_then - s) * (slope + slope_then) / 2)
    return z


SAMPLERS.register("heun")(heun)
SAMPLERS.register("heun_sde")(partial(heun, churn=CHURN))


def with_gamma(gamma: float) -> Sampler:
    """The ancestral sampler with another mix of its two variances, gamma in [0, 1]."""
    return partial(ancestral, gamma=gamma)


def with_churn(churn: float) -> Sampler:
    """Stochastic Heun with another amount of fresh noise, at least 0."""
    return partial(heun, churn=churn)


def with_sde_from(sde_from_logsnr: float) -> Sampler:
    """UniPC with fresh noise from this log-SNR on."""
    return partial(unipc, sde_from_logsnr=sde_from_logsnr)
