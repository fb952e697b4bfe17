"""Schedules against hand-made values and against diffusers."""

import math

import pytest
import torch
from diffusers import DDPMScheduler

from open_imagen.diffusion.schedules import CURVES, SPACINGS, Schedule, alpha_sigma
from open_imagen.errors import ConfigError, UnknownName

T = torch.linspace(0, 1, 101, dtype=torch.float64)
DISCRETE = Schedule(name="discrete_cosine", logsnr_min=-25, logsnr_max=25)


@pytest.mark.parametrize("name", CURVES)
def test_noise_grows_with_time_within_the_bounds(name):
    logsnr = Schedule(name=name, resolution=256).logsnr(T)
    assert (logsnr.diff() <= 0).all()
    assert logsnr.max() <= 15
    assert logsnr.min() >= -15


@pytest.mark.parametrize("name", ["cosine", "linear", "shifted", "discrete_cosine"])
def test_float32_knows_the_levels_of_float64_to_the_ends(name):
    """Times of training are float32, and those of a few-step student lie at 1 itself."""
    schedule, t = Schedule(name=name), torch.linspace(0, 1, 33)
    torch.testing.assert_close(
        schedule.logsnr(t), schedule.logsnr(t.double()).float(), rtol=1e-4, atol=1e-3
    )


def test_the_discrete_cosine_is_diffusers_own():
    products = DDPMScheduler(1000, beta_schedule="squaredcos_cap_v2").alphas_cumprod.double()
    steps = torch.arange(1000, dtype=torch.float64)
    logsnr = DISCRETE.logsnr(steps / 999)
    # Theirs is a product of 1,000 factors in float32.
    torch.testing.assert_close(logsnr, torch.log(products / (1 - products)), rtol=0, atol=2e-3)
    assert torch.equal(DISCRETE.step_of(logsnr), steps.float())
    assert torch.equal(DISCRETE.step_of(logsnr.float()), steps.float())


@pytest.mark.parametrize("steps", [1, 7, 27, 100, 1000])
@pytest.mark.parametrize("ours, theirs", [("leading", "leading"), ("even", "trailing")])
def test_whole_steps_are_spaced_as_in_diffusers(steps, ours, theirs):
    scheduler = DDPMScheduler(1000, timestep_spacing=theirs, beta_schedule="squaredcos_cap_v2")
    scheduler.set_timesteps(steps)
    levels = DISCRETE.levels(steps, ours)
    assert levels[-1] == math.inf
    assert DISCRETE.step_of(torch.tensor(levels[:-1])).tolist() == scheduler.timesteps.tolist()


def test_chosen_steps_are_taken_as_they_are():
    levels = DISCRETE.levels(5, chosen=(999, 500, 3))
    assert DISCRETE.step_of(torch.tensor(levels[:-1])).tolist() == [999, 500, 3]
    with pytest.raises(ConfigError, match="must fall"):
        DISCRETE.levels(5, chosen=(3, 500))
    with pytest.raises(ConfigError, match="steps = 1001"):
        DISCRETE.levels(1001)


@pytest.mark.parametrize(
    "spacing, times",
    [
        ("even", [1, 0.75, 0.5, 0.25]),
        ("late", [1 - (k / 4) ** 0.8 for k in range(4)]),
        ("leading", [0.75, 0.5, 0.25, 0]),
        ("linspace", [1, 2 / 3, 1 / 3, 0]),
    ],
)
def test_times_are_spaced_by_name(spacing, times):
    wanted = Schedule().logsnr(torch.tensor(times, dtype=torch.float64)).tolist()
    assert Schedule().levels(4, spacing) == pytest.approx([*wanted, math.inf])


def test_late_whole_steps_do_not_come_twice():
    assert DISCRETE.step_of(torch.tensor(DISCRETE.levels(4, "late")[:-1])).tolist() == [
        *(999, 669, 425, 205)
    ]
    with pytest.raises(ConfigError, match="too many for spacing"):
        DISCRETE.levels(900, "late")


def test_log_snr_can_be_spaced_evenly():
    levels = torch.tensor(Schedule().levels(7, "logsnr")[:-1])
    ends = Schedule().logsnr(torch.tensor([1.0, 0.0], dtype=torch.float64))
    torch.testing.assert_close(levels[[0, -1]], ends, check_dtype=False)
    torch.testing.assert_close(levels.diff(), levels.diff().mean().expand(6))
    with pytest.raises(UnknownName, match="spacing"):
        Schedule().levels(7, "log")


@pytest.mark.parametrize("schedule", [Schedule(), Schedule(name="discrete_cosine")])
@pytest.mark.parametrize("spacing", SPACINGS)
def test_sampling_can_begin_with_less_noise(schedule, spacing):
    levels = schedule.levels(10, spacing, logsnr_start=-10.2)
    assert len(levels) == 11
    assert levels[0] >= -10.2
    assert schedule.levels(10, spacing)[0] < -10.2 or spacing == "leading"
    assert levels == sorted(set(levels))


def test_zero_snr_ends_in_pure_noise_and_begins_as_before():
    ends = torch.tensor([0.0, 1.0], dtype=torch.float64)
    plain, stretched = Schedule().logsnr(ends), Schedule(zero_snr=True).logsnr(ends)
    assert stretched[1] == -math.inf
    torch.testing.assert_close(stretched[0], plain[0])
    # Lin et al. 2023, algorithm 1, on the square roots of alpha-bar.
    t = torch.linspace(0, 1, 11, dtype=torch.float64)
    root = alpha_sigma(Schedule().logsnr(t))[0]
    wanted = (root - root[-1]) * root[0] / (root[0] - root[-1])
    found = alpha_sigma(Schedule(zero_snr=True).logsnr(t))[0]
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)


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
    assert levels[-1] == math.inf
    assert levels == sorted(set(levels))


def test_wrong_settings_are_refused():
    with pytest.raises(ConfigError, match="steps = 0"):
        Schedule().levels(0)
    with pytest.raises(UnknownName) as caught:
        Schedule(name="cosin")
    assert caught.value.hint == "Did you mean 'cosine'?"
    with pytest.raises(ConfigError, match="logsnr_min"):
        Schedule(logsnr_min=3, logsnr_max=1)
