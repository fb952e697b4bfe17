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
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, UniPCMultistepScheduler
from torch.utils._python_dispatch import TorchDispatchMode

from open_imagen.diffusion.samplers import (
    GAMMA,
    SAMPLERS,
    scales,
    with_churn,
    with_gamma,
    with_sde_from,
)
from open_imagen.diffusion.schedules import Schedule, alpha_sigma
from open_imagen.errors import UnknownName

MEAN, STD = 0.3, 0.5
ORDER = {"ddim": 1, "dpmpp_2m": 2, "unipc": 3, "heun": 2}
STOCHASTIC = {"ddpm", "dpmpp_2m_sde", "heun_sde"}


def denoise(z, logsnr):
    alpha, sigma = alpha_sigma(torch.as_tensor(logsnr, dtype=torch.float64))
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


def paper_unipc(x, levels):
    """Algorithms 1 and 2 of Zhao et al. 2023 for a model of x, p = 2, their R and b solved."""
    lam = levels / 2
    alpha, sigma = alpha_sigma(levels)
    D = [denoise(x, levels[0])]
    for i in range(1, len(levels)):
        h = lam[i] - lam[i - 1]
        B = torch.expm1(-h)
        linear = sigma[i] / sigma[i - 1] * x - alpha[i] * torch.expm1(-h) * D[i - 1]
        p = min(i, 2)
        r = [(lam[i - 1 - m] - lam[i - 1]) / h for m in range(1, p)]
        past = [(D[i - 1 - m] - D[i - 1]) / r[m - 1] for m in range(1, p)]
        predicted = linear - alpha[i] * B * sum(0.5 * difference for difference in past)
        D.append(denoise(predicted, levels[i]))
        differences = [*past, D[i] - D[i - 1]]
        if p == 1:
            weights = [0.5]
        else:
            phi_2 = torch.expm1(-h) / -h - 1
            phi_3 = phi_2 / -h - 0.5
            R = torch.stack([torch.ones(2, dtype=h.dtype), torch.stack([r[0], torch.ones_like(h)])])
            weights = torch.linalg.solve(R, torch.stack([phi_2, 2 * phi_3]) / B)
        x = linear - alpha[i] * B * sum(w * d for w, d in zip(weights, differences, strict=True))
    return predicted  # the corrector of the last step would cost a call more


PAPER = {"unipc": paper_unipc, "ddim": paper_ddim, "dpmpp_2m": paper_dpmpp_2m, "heun": paper_heun}


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


def paper_sde(x, levels, draws):
    """SDE-DPM-Solver++(2M) (Lu et al. 2022, appendix B), in their lambda."""
    lam = levels / 2
    alpha, sigma = alpha_sigma(levels)
    estimates = []
    for i in range(1, len(levels)):
        estimates.append(denoise(x, levels[i - 1]))
        h, D = lam[i] - lam[i - 1], estimates[-1]
        if i > 1:
            r = (lam[i - 1] - lam[i - 2]) / h
            D = estimates[-1] + (estimates[-1] - estimates[-2]) / (2 * r)
        x = (
            sigma[i] / sigma[i - 1] * torch.exp(-h) * x
            + alpha[i] * (1 - torch.exp(-2 * h)) * D
            + sigma[i] * torch.sqrt(1 - torch.exp(-2 * h)) * draws[i - 1]
        )
    return x


def paper_churn(z, levels, draws, churn):
    """Algorithm 2 of Karras et al. 2022 with S_noise = 1, on y = z / alpha and sigma / alpha."""
    alpha, sigma = alpha_sigma(levels)
    t = sigma / alpha
    x, N = z / alpha[0], len(levels) - 1

    def D(x, t):
        level = -2 * torch.log(t)
        return denoise(alpha_sigma(level)[0] * x, level)

    for i in range(N):
        t_hat = t[i] + min(churn / N, math.sqrt(2) - 1) * t[i]
        x_hat = x + torch.sqrt(t_hat**2 - t[i] ** 2) * draws[i]
        d = (x_hat - D(x_hat, t_hat)) / t_hat
        x = x_hat + (t[i + 1] - t_hat) * d
        x = x_hat + (t[i + 1] - t_hat) * (d / 2 + (x - D(x, t[i + 1])) / t[i + 1] / 2)
    return alpha[-1] * x


@pytest.mark.parametrize(
    "ours, theirs",
    [
        (SAMPLERS["dpmpp_2m_sde"], paper_sde),
        (with_sde_from(-math.inf), paper_sde),
        (with_churn(1.0), lambda *given: paper_churn(*given, 1.0)),
        (with_churn(40.0), lambda *given: paper_churn(*given, 40.0)),
    ],
    ids=["dpmpp_2m_sde", "unipc, all fresh", "heun_sde", "heun_sde at its most"],
)
def test_stochastic_samplers_are_their_papers_algorithms(ours, theirs):
    levels = uneven_levels(6)
    draws = torch.randn(6, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    given = iter(draws)
    found = ours(denoise, POINTS, levels, lambda: next(given))
    torch.testing.assert_close(found, theirs(POINTS, levels, draws), rtol=0, atol=1e-11)


def test_fresh_noise_comes_in_from_its_level_on_and_not_before():
    levels = torch.tensor([-4.0, -2.5, -1.0, 0.5, 2.0, math.inf], dtype=torch.float64)
    asked, seen = [], []

    def watched(z, level):
        seen.append(z)
        return denoise(z, level)

    def noise():
        asked.append(len(seen) - 1)
        return torch.ones(9, dtype=torch.float64)

    with_sde_from(-1.0)(watched, POINTS, levels, noise)
    assert asked == [2, 3]  # the steps from -1 and from 0.5; that to the clean image has none
    fresh, seen = seen, []
    SAMPLERS["unipc"](watched, POINTS, levels, no_noise)
    torch.testing.assert_close(fresh[:3], seen[:3], rtol=0, atol=0)
    assert not torch.allclose(fresh[3], seen[3])


def test_a_learned_gamma_mixes_the_variances_pixel_by_pixel():
    levels = uneven_levels(6)
    gammas = torch.linspace(0, 1, 9, dtype=torch.float64)
    draws = torch.randn(6, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def run(denoise, sampler):
        given = iter(draws)
        return sampler(denoise, POINTS, levels, lambda: next(given))

    learned = run(lambda z, level: (denoise(z, level), gammas), SAMPLERS["ddpm"])
    for k, gamma in enumerate(gammas.tolist()):
        torch.testing.assert_close(learned[k], run(denoise, with_gamma(gamma))[k])


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_learned_gamma_is_harmless_elsewhere(name):
    if name == "ddpm":
        return
    levels = uneven_levels(4)
    both = SAMPLERS[name](lambda z, level: (denoise(z, level), None), POINTS, levels, lambda: 0.5)
    assert torch.equal(both, SAMPLERS[name](denoise, POINTS, levels, lambda: 0.5))


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_can_begin_at_pure_noise(name):
    levels = Schedule(zero_snr=True).levels(64)
    assert levels[0] == -math.inf
    found = SAMPLERS[name](denoise, POINTS, levels, lambda: torch.zeros(9, dtype=torch.float64))
    assert torch.isfinite(found).all()
    if name in ORDER:
        wanted = exact(POINTS, *torch.tensor([-40, math.inf], dtype=torch.float64))
        torch.testing.assert_close(found, wanted, rtol=0, atol=0.05)


@pytest.mark.parametrize("name", SAMPLERS)
def test_no_sampler_waits_for_the_device(name):
    # On the meta device nothing can be read back, and a copy from the host would be seen.
    class Forbidding(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            assert "_local_scalar_dense" not in str(function)
            assert "copy" not in str(function)
            return function(*args, **(kwargs or {}))

    z = torch.zeros(2, 3, 8, 8, device="meta")
    with Forbidding():
        found = SAMPLERS[name](
            lambda z, level: 0.5 * z, z, Schedule().levels(5), lambda: torch.zeros_like(z)
        )
    assert found.device.type == "meta"


@pytest.mark.parametrize("logsnr", [-math.inf, -40.0, -1.0, 0.0, 2.0, 40.0, math.inf])
def test_scales_are_those_of_tensors(logsnr):
    wanted = alpha_sigma(torch.tensor(logsnr, dtype=torch.float64))
    assert scales(logsnr) == pytest.approx([float(part) for part in wanted], rel=1e-12)


def drawn(sampler, steps):
    """Exact mean and variance of what a stochastic sampler draws from the exact start."""
    levels = uneven_levels(steps)
    mean, std = moments(levels[0])
    zero = torch.zeros((), dtype=torch.float64)

    def run(z, impulse):
        calls = iter(range(steps))
        return sampler(denoise, z, levels, lambda: zero + (next(calls) == impulse))

    center = run(mean, None)
    variance = (run(mean + std, None) - center) ** 2
    for k in range(steps):
        variance = variance + (run(mean, k) - center) ** 2
    return center, variance


DRAWING = {
    "posterior variance": (with_gamma(0.0), 1),
    "forward variance": (with_gamma(1.0), 1),
    "dpmpp_2m_sde": (SAMPLERS["dpmpp_2m_sde"], 2),
    "unipc, fresh from 0 on": (with_sde_from(0.0), 2),
    "heun_sde": (with_churn(4.0), 2),
}


@pytest.mark.parametrize("name", DRAWING)
def test_stochastic_samplers_draw_the_data_in_the_limit_at_their_order(name):
    sampler, order = DRAWING[name]
    wanted_mean, wanted_std = moments(uneven_levels(2)[-1])

    def errors(steps):
        mean, variance = drawn(sampler, steps)
        return abs(mean - wanted_mean), abs(variance - wanted_std**2)

    coarse, fine = errors(64), errors(128)
    assert fine[0] < 1e-6 or coarse[0] / fine[0] > 1.7
    assert torch.log2(coarse[1] / fine[1]) == pytest.approx(order, abs=0.25)


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


@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")
def test_unipc_agrees_with_diffusers():
    theirs = UniPCMultistepScheduler(
        1000, beta_schedule="squaredcos_cap_v2", solver_order=2, final_sigmas_type="zero"
    )
    theirs.set_timesteps(12)
    theirs.sigmas = theirs.sigmas.double()
    levels = -2 * theirs.sigmas.log()
    z = POINTS[None, None]
    for k, t in enumerate(theirs.timesteps):
        z = theirs.step(eps_of(z, levels[k]), t, z).prev_sample
    ours = SAMPLERS["unipc"](denoise, POINTS, levels, no_noise)
    torch.testing.assert_close(ours, z[0, 0], rtol=0, atol=1e-11)


def test_a_misspelt_name_is_met_with_a_suggestion():
    with pytest.raises(UnknownName) as caught:
        SAMPLERS["dpmpp2m"]
    assert str(caught.value) == "There is no sampler called 'dpmpp2m'."
    assert caught.value.hint == "Did you mean 'dpmpp_2m'?"


def test_levels_of_the_schedules_suit_every_sampler():
    for name in SAMPLERS:
        found = SAMPLERS[name](denoise, POINTS, Schedule().levels(8), lambda: torch.zeros(9))
        assert torch.isfinite(found).all()


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize(
    "schedule",
    [
        Schedule(name="shifted", resolution=1024),
        Schedule(name="shifted", resolution=64, reference=12),
        Schedule(name="linear", zero_snr=True),
        Schedule(name="discrete_cosine"),
    ],
    ids=lambda schedule: schedule.name,
)
def test_a_thousand_steps_arrive_whatever_the_bounds(name, schedule):
    torch.manual_seed(0)
    z = torch.randn(64, dtype=torch.float64)
    levels = schedule.levels(1000)
    found = SAMPLERS[name](denoise, z, levels, lambda: torch.randn_like(z))
    assert torch.isfinite(found).all()
    if name not in STOCHASTIC:
        wanted = exact(z, torch.tensor(levels[0]).double(), torch.tensor(math.inf).double())
        torch.testing.assert_close(found, wanted, rtol=0, atol=0.05)
