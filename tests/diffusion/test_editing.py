"""Image to image and inpainting where the answer is known: data ~ a Gaussian."""

import math

import pytest
import torch

from open_imagen.diffusion.editing import (
    StartImage,
    diffuse_to,
    forward_step,
    levels_from,
    with_known_pixels,
    with_resampling,
)
from open_imagen.diffusion.samplers import SAMPLERS, scales
from open_imagen.diffusion.schedules import Schedule

LEVELS = Schedule(logsnr_min=-10.0, logsnr_max=10.0).levels(40)
RHO = 0.8


def noise_of(seed, *shape):
    generator = torch.Generator().manual_seed(seed)
    return lambda: torch.randn(*shape, generator=generator, dtype=torch.float64)


def correlated(z, logsnr):
    """The best denoiser of pairs of pixels with variance 1 and correlation RHO: [B, 1, 1, 2]."""
    alpha, sigma = scales(logsnr)
    covariance = torch.tensor([[1, RHO], [RHO, 1]], dtype=torch.float64)
    inverse = torch.linalg.inv(alpha**2 * covariance + sigma**2 * torch.eye(2))
    return alpha * z @ inverse @ covariance


@pytest.mark.parametrize("strength", [0.01, 0.3, 0.5, 0.75, 0.99, 1.0])
@pytest.mark.parametrize("steps", [1, 2, 8, 50])
def test_strength_is_the_share_of_steps(steps, strength):
    levels = Schedule().levels(steps)
    kept = levels_from(levels, strength)
    assert kept == levels[len(levels) - len(kept) :]
    assert len(kept) - 1 == max(1, int(steps * strength))


@pytest.mark.parametrize("sampler", ["ddim", "dpmpp_2m", "unipc", "heun"])
def test_image_to_image_is_the_exact_solution_from_the_noised_image(sampler):
    levels = levels_from(Schedule(logsnr_min=-10.0, logsnr_max=10.0).levels(400), 0.5)
    image, first = (
        torch.linspace(a, b, 6, dtype=torch.float64).view(3, 1, 1, 2) for a, b in ((-1, 1), (2, -2))
    )
    start = StartImage(image, 0.5)

    def no_noise():
        raise AssertionError("a deterministic sampler asked for noise")

    std = 0.5

    def denoise(z, logsnr):
        alpha, sigma = scales(logsnr)
        return alpha * std**2 / (alpha**2 * std**2 + sigma**2) * z

    found = start.sample(SAMPLERS[sampler], denoise, no_noise, levels, first)
    z = diffuse_to(image, first, levels[0])
    alpha, sigma = scales(levels[0])
    wanted = std / math.sqrt(alpha**2 * std**2 + sigma**2) * z
    torch.testing.assert_close(found, wanted, rtol=0, atol=0.02)


def inpainted(sampler, resample, seen=1.0, number=20_000):
    image = torch.tensor([seen, 0.0], dtype=torch.float64).expand(number, 1, 1, 2)
    mask = torch.tensor([0.0, 1.0], dtype=torch.float64).expand(number, 1, 1, 2)
    noise = noise_of(3, number, 1, 1, 2)
    start = StartImage(image, 1.0, mask, resample)
    return start.sample(SAMPLERS[sampler], correlated, noise, LEVELS, noise())


@pytest.mark.parametrize("sampler", sorted(SAMPLERS))
def test_known_pixels_come_back_exactly(sampler):
    found = inpainted(sampler, 2, number=50)
    assert (found[..., 0] == 1.0).all()
    assert torch.isfinite(found).all()


def test_resampling_brings_the_unknown_to_its_conditional_distribution():
    # x2 given x1 = 1 is Normal(RHO, 1 - RHO^2). One walk falls short of it; resampling does not.
    once, often = (inpainted("ddpm", times)[..., 1] for times in (1, 8))
    wanted = math.sqrt(1 - RHO**2)
    assert abs(often.mean() - RHO) < 0.05
    assert abs(often.std() - wanted) < 0.05
    assert abs(once.mean() - RHO) > 2 * abs(often.mean() - RHO)


def test_a_forward_step_keeps_the_marginals():
    now, then = 1.0, -2.0
    (alpha, sigma), (alpha_then, sigma_then) = scales(now), scales(then)
    noise = noise_of(0, 200_000)
    z = forward_step(alpha * 0.7 + sigma * noise(), now, then, noise())
    assert abs(z.mean() - alpha_then * 0.7) < 0.01
    assert abs(z.std() - sigma_then) < 0.01


def test_the_network_sees_known_pixels_with_the_noise_of_the_level_or_none():
    seen = {}

    def network(z, logsnr):
        seen[logsnr] = z
        return torch.zeros_like(z)

    image = torch.full((1, 1, 200, 200), 0.5, dtype=torch.float64)
    mask = torch.zeros_like(image)
    noise = noise_of(1, 1, 1, 200, 200)
    for known in ("renoised", "clean"):
        denoise = with_known_pixels(network, image, mask, noise, known)
        assert torch.equal(denoise(torch.zeros_like(image), -1.0), image)
        alpha, sigma = scales(-1.0) if known == "renoised" else (1.0, 0.0)
        assert abs(seen[-1.0].mean() - alpha * 0.5) < 0.02
        assert abs(seen[-1.0].std() - sigma) < 0.02


def test_one_walk_of_each_step_is_the_sampler_itself():
    assert with_resampling(SAMPLERS["dpmpp_2m"], 1) is SAMPLERS["dpmpp_2m"]


def test_the_last_step_is_walked_once():
    calls = []

    def network(z, logsnr):
        calls.append(logsnr)
        return z

    levels = [-2.0, 0.0, math.inf]
    with_resampling(SAMPLERS["ddim"], 3)(network, torch.zeros(1, 1), levels, noise_of(0, 1, 1))
    assert calls == [-2.0, -2.0, -2.0, 0.0]
