"""Schedules against hand-made values and against diffusers."""

import math

import pytest
import torch
from diffusers import DDPMScheduler

from open_imagen.diffusion.schedules import CURVES, Schedule, alpha_sigma
from open_imagen.errors import ConfigError, UnknownName

T = torch.linspace(0, 1, 101, dtype=torch.float64)


@pytest.mark.parametrize("name", CURVES)
def test_noise_grows_with_time_within_the_bounds(name):
    logsnr = Schedule(name=name, resolution=256).logsnr(T)
    assert (logsnr.diff() <= 0).all()
    assert logsnr.max() <= 15
    assert logsnr.min() >= -15


def test_signal_and_noise_have_unit_variance_together():
    alpha, sigma = alpha_sigma(torch.linspace(-15, 15, 31, dtype=torch.float64))
    torch.testing.assert_close(alpha**2 + sigma**2, torch.ones_like(alpha))
    torch.testing.assert_close(2 * (alpha / sigma).log(), torch.linspace(-15, 15, 31).double())


def test_alpha_and_sigma_of_the_clean_image():
    alpha, sigma = alpha_sigma(torch.tensor(math.inf))
    assert (alpha, sigma) == (1, 0)


def test_cosine_by_hand():
    # t = 0.5: alpha = cos(pi/2 * 0.508 / 1.008)
    angle = math.pi / 2 * 0.508 / 1.008
    wanted = 2 * math.log(math.cos(angle) / math.sin(angle))
    found = Schedule(name="cosine").logsnr(torch.tensor([0.5], dtype=torch.float64))
    assert found.item() == pytest.approx(wanted, abs=1e-12)


def test_linear_by_hand():
    found = Schedule(name="linear").logsnr(torch.tensor([0.0, 1.0], dtype=torch.float64))
    assert found[0].item() == pytest.approx(-math.log(math.expm1(1e-4)), abs=1e-9)
    assert found[1].item() == pytest.approx(-math.log(math.expm1(10.0001)), abs=1e-9)


def test_shifted_ends_at_its_bounds_and_moves_with_resolution():
    plain = Schedule(name="shifted", resolution=64, logsnr_min=-20, logsnr_max=20)
    ends = plain.logsnr(torch.tensor([0.0, 1.0], dtype=torch.float64))
    assert ends.tolist() == pytest.approx([20, -20], abs=1e-6)
    # simple diffusion: 2 log(64 / 256) = -2.77
    large = Schedule(name="shifted", resolution=256, logsnr_min=-20, logsnr_max=20)
    middle = torch.tensor([0.5], dtype=torch.float64)
    assert (large.logsnr(middle) - plain.logsnr(middle)).item() == pytest.approx(-2.7726, abs=1e-4)


def test_cosine_agrees_with_diffusers():
    theirs = DDPMScheduler(1000, beta_schedule="squaredcos_cap_v2").alphas_cumprod.double()
    t = torch.arange(1, 1001, dtype=torch.float64) / 1000
    alpha, _ = alpha_sigma(Schedule(logsnr_min=-30).logsnr(t))
    start, _ = alpha_sigma(Schedule().logsnr(torch.zeros(1, dtype=torch.float64)))
    # Theirs is normalised to 1 at t = 0, and caps the last beta.
    torch.testing.assert_close(alpha[:-1] ** 2 / start**2, theirs[:-1], rtol=2e-4, atol=1e-7)


def test_linear_agrees_with_diffusers():
    theirs = DDPMScheduler(1000, beta_start=1e-4, beta_end=0.02).alphas_cumprod.double()
    t = torch.arange(1, 1001, dtype=torch.float64) / 1000
    alpha, _ = alpha_sigma(Schedule(name="linear").logsnr(t))
    # The continuous form is an approximation, good to 0.01 in alpha.
    torch.testing.assert_close(alpha, theirs.sqrt(), rtol=0, atol=0.01)


def test_levels_fall_to_the_clean_image():
    levels = Schedule().levels(4)
    assert levels.dtype == torch.float64
    assert levels[-1] == math.inf
    assert (levels.diff() > 0).all()
    torch.testing.assert_close(
        levels[:-1], Schedule().logsnr(torch.tensor([1, 0.75, 0.5, 0.25], dtype=torch.float64))
    )


def test_wrong_settings_are_refused():
    with pytest.raises(ConfigError, match="steps = 0"):
        Schedule().levels(0)
    with pytest.raises(UnknownName) as caught:
        Schedule(name="cosin")
    assert caught.value.hint == "Did you mean 'cosine'?"
    with pytest.raises(ConfigError, match="logsnr_min"):
        Schedule(logsnr_min=3, logsnr_max=1)
