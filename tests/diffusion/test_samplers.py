"""Samplers against the one world where the answer is known: data ~ Normal(mean, std^2).

There the best denoiser has a closed form, and the exact solution carries every noisy point to a
known place. Deterministic samplers are judged point by point, and by their order: halve the step
and a first-order error halves, a second-order error quarters. The ancestral sampler is judged by
the exact mean and variance of what it draws, which follow from its answer to single impulses of
noise. Convergence cannot see every mistake, so each is also held against its paper's algorithm
written literally, on uneven levels, and against diffusers where that has the same thing.
"""

import math
from itertools import pairwise

import pytest
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler

from open_imagen.diffusion.samplers import GAMMA, SAMPLERS, with_gamma
from open_imagen.diffusion.schedules import Schedule, alpha_sigma
from open_imagen.errors import UnknownName

MEAN, STD = 0.3, 0.5
ORDER = {"ddim": 1, "dpmpp_2m": 2, "heun": 2}
STOCHASTIC = {"ddpm"}


def denoise(z, logsnr):
    alpha, sigma = alpha_sigma(logsnr)
    gain = alpha * STD**2 / (alpha**2 * STD**2 + sigma**2)
    return MEAN + gain * (z - alpha * MEAN)


def no_noise():
    raise AssertionError("a deterministic sampler asked for noise")


def moments(logsnr):
    alpha, sigma = alpha_sigma(logsnr)
    return alpha * MEAN, (alpha**2 * STD**2 + sigma**2).sqrt()


def exact(z, start, end):
    (mean_a, std_a), (mean_b, std_b) = moments(start), moments(end)
    return mean_b + std_b / std_a * (z - mean_a)


def uneven_levels(steps, end=8.0):
    """Short and long steps in turn, as no real schedule is even."""
    widths = torch.tensor([1.0, 3.0], dtype=torch.float64).repeat(steps // 2)
    ends = torch.cat([widths.new_zeros(1), widths.cumsum(0)])
    return -8 + (end + 8) * ends / ends[-1]


POINTS = torch.linspace(-2, 2, 9, dtype=torch.float64)


def error(name, steps):
    logsnrs = uneven_levels(steps)
    found = SAMPLERS[name](denoise, POINTS, logsnrs, no_noise)
    return (found - exact(POINTS, logsnrs[0], logsnrs[-1])).abs().max()


def test_every_sampler_is_judged():
    assert set(ORDER) | STOCHASTIC == set(SAMPLERS)


@pytest.mark.parametrize("name", ORDER)
def test_converges_to_the_exact_solution(name):
    assert error(name, 1024) < 5e-3


@pytest.mark.parametrize("name", ORDER)
def test_converges_at_its_order(name):
    assert torch.log2(error(name, 128) / error(name, 256)) == pytest.approx(ORDER[name], abs=0.1)


@pytest.mark.parametrize("name", ORDER)
def test_the_last_infinite_level_is_the_clean_image(name):
    logsnrs = torch.cat([uneven_levels(512), torch.tensor([math.inf], dtype=torch.float64)])
    found = SAMPLERS[name](denoise, POINTS, logsnrs, no_noise)
    assert torch.isfinite(found).all()
    wanted = exact(POINTS, logsnrs[0], torch.tensor(math.inf, dtype=torch.float64))
    torch.testing.assert_close(found, wanted, rtol=0, atol=0.02)


# The paper's steps, written in their own symbols.


def paper_ddim(z, lam):
    for t, s in pairwise(lam):
        (a_t, s_t), (a_s, s_s) = alpha_sigma(t), alpha_sigma(s)
        x = denoise(z, t)
        z = a_s * x + s_s * (z - a_t * x) / s_t
    return z


def paper_dpmpp_2m(x, levels):
    """Algorithm 2 of Lu et al. 2022."""
    lam = levels / 2
    alpha, sigma = alpha_sigma(levels)
    estimates = []
    for i in range(1, len(levels)):
        estimates.append(denoise(x, levels[i - 1]))
        h, D = lam[i] - lam[i - 1], estimates[-1]
        if i > 1:
            r = (lam[i - 1] - lam[i - 2]) / h
            D = (1 + 1 / (2 * r)) * estimates[-1] - 1 / (2 * r) * estimates[-2]
        x = sigma[i] / sigma[i - 1] * x - alpha[i] * (torch.exp(-h) - 1) * D
    return x


def paper_heun(z, levels):
    """Algorithm 1 of Karras et al. 2022 without churn, on y = z / alpha and sigma / alpha."""
    alpha, sigma = alpha_sigma(levels)
    noise = sigma / alpha
    y = z / alpha[0]
    for i in range(len(levels) - 1):
        d = (y - denoise(alpha[i] * y, levels[i])) / noise[i]
        y_next = y + (noise[i + 1] - noise[i]) * d
        d_next = (y_next - denoise(alpha[i + 1] * y_next, levels[i + 1])) / noise[i + 1]
        y = y + (noise[i + 1] - noise[i]) * (d / 2 + d_next / 2)
    return alpha[-1] * y


PAPER = {"ddim": paper_ddim, "dpmpp_2m": paper_dpmpp_2m, "heun": paper_heun}


@pytest.mark.parametrize("name", ORDER)
def test_is_the_paper_s_algorithm(name):
    levels = uneven_levels(6)
    ours = SAMPLERS[name](denoise, POINTS, levels, no_noise)
    torch.testing.assert_close(ours, PAPER[name](POINTS, levels), rtol=0, atol=1e-11)


def paper_ancestral(z, lam, gamma, draws):
    """Saharia et al. 2022, appendix A."""
    for t, s, eps in zip(lam[:-1], lam[1:], draws, strict=True):
        (a_t, s_t), (a_s, s_s) = alpha_sigma(t), alpha_sigma(s)
        e = torch.exp(t - s)
        mu = e * (a_s / a_t) * z + (1 - e) * a_s * denoise(z, t)
        small, large = (1 - e) * s_s**2, (1 - e) * s_t**2
        z = mu + torch.sqrt(small ** (1 - gamma) * large**gamma) * eps
    return z


@pytest.mark.parametrize("gamma", [0.0, GAMMA, 1.0])
def test_ancestral_is_the_paper_s_algorithm(gamma):
    levels = uneven_levels(6)
    draws = torch.randn(6, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    given = iter(draws)
    ours = with_gamma(gamma)(denoise, POINTS, levels, lambda: next(given))
    torch.testing.assert_close(ours, paper_ancestral(POINTS, levels, gamma, draws))


def drawn(gamma, steps):
    """Exact mean and variance of what the ancestral sampler draws from the exact start."""
    levels = uneven_levels(steps)
    mean, std = moments(levels[0])
    zero = torch.zeros((), dtype=torch.float64)

    def run(z, impulse):
        calls = iter(range(steps))
        return with_gamma(gamma)(
            denoise, z, levels, lambda: zero + (1.0 if next(calls) == impulse else 0.0)
        )

    center = run(mean, None)
    variance = (run(mean + std, None) - center) ** 2
    for k in range(steps):
        variance = variance + (run(mean, k) - center) ** 2
    return center, variance


@pytest.mark.parametrize("gamma", [0.0, 1.0])
def test_ancestral_draws_the_data_in_the_limit_at_first_order(gamma):
    wanted_mean, wanted_std = moments(uneven_levels(2)[-1])

    def errors(steps):
        mean, variance = drawn(gamma, steps)
        return abs(mean - wanted_mean), abs(variance - wanted_std**2)

    coarse, fine = errors(64), errors(128)
    assert fine[0] < 1e-6 or coarse[0] / fine[0] > 1.7
    assert coarse[1] / fine[1] == pytest.approx(2, abs=0.35)


def test_the_clean_image_gets_no_fresh_noise():
    levels = torch.tensor([0.0, math.inf], dtype=torch.float64)
    found = SAMPLERS["ddpm"](denoise, POINTS, levels, no_noise)
    torch.testing.assert_close(found, denoise(POINTS, levels[0]))


def eps_of(z, logsnr):
    alpha, sigma = alpha_sigma(logsnr)
    return (z - alpha * denoise(z, logsnr)) / sigma


def test_ddim_agrees_with_diffusers():
    theirs = DDIMScheduler(1000, beta_schedule="squaredcos_cap_v2", clip_sample=False)
    theirs.set_timesteps(20)
    products = theirs.alphas_cumprod.double()
    levels = torch.log(products / (1 - products))[theirs.timesteps]
    z = POINTS
    for t, level in zip(theirs.timesteps[:-1], levels[:-1], strict=True):
        z = theirs.step(eps_of(z, level), t, z).prev_sample
    torch.testing.assert_close(SAMPLERS["ddim"](denoise, POINTS, levels, no_noise), z)


@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")
def test_dpmpp_2m_agrees_with_diffusers():
    theirs = DPMSolverMultistepScheduler(
        1000,
        beta_schedule="squaredcos_cap_v2",
        algorithm_type="dpmsolver++",
        solver_order=2,
        lambda_min_clipped=-5.1,
        final_sigmas_type="zero",
    )
    theirs.set_timesteps(12)
    levels = -2 * theirs.sigmas.double().log()
    z = POINTS.float()
    for k, t in enumerate(theirs.timesteps):
        z = theirs.step(eps_of(z.double(), levels[k]).float(), t, z).prev_sample
    ours = SAMPLERS["dpmpp_2m"](denoise, POINTS, levels, no_noise)
    torch.testing.assert_close(ours.float(), z, rtol=0, atol=2e-5)


def test_a_misspelt_name_is_met_with_a_suggestion():
    with pytest.raises(UnknownName) as caught:
        SAMPLERS["dpmpp2m"]
    assert str(caught.value) == "There is no sampler called 'dpmpp2m'."
    assert caught.value.hint == "Did you mean 'dpmpp_2m'?"


def test_levels_of_the_schedules_suit_every_sampler():
    for name in SAMPLERS:
        found = SAMPLERS[name](denoise, POINTS, Schedule().levels(8), lambda: torch.zeros(9))
        assert torch.isfinite(found).all()
