"""Schedules against hand-made values and against diffusers."""

import math
from itertools import pairwise

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
@pytest.mark.parametrize("ours, theirs", [("leading", "leading"), ("trailing", "trailing")])
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
        ("trailing", [1, 0.75, 0.5, 0.25]),
        ("power", [1 - (k / 4) ** 0.8 for k in range(4)]),
        ("leading", [0.75, 0.5, 0.25, 0]),
        ("linspace", [1, 2 / 3, 1 / 3, 0]),
    ],
)
def test_times_are_spaced_by_name(spacing, times):
    wanted = Schedule().logsnr(torch.tensor(times, dtype=torch.float64)).tolist()
    assert Schedule().levels(4, spacing) == pytest.approx([*wanted, math.inf])


def test_late_whole_steps_do_not_come_twice():
    assert DISCRETE.step_of(torch.tensor(DISCRETE.levels(4, "power")[:-1])).tolist() == [
        *(999, 669, 425, 205)
    ]
    assert DISCRETE.levels(900, "power") == sorted(set(DISCRETE.levels(900, "power")))


SHAPES = [
    {},
    {"zero_snr": True},
    {"resolution": 256},
    {"resolution": 1024},
    {"resolution": 1024, "zero_snr": True},
    {"resolution": 32, "reference": 256},
    {"logsnr_min": -3.0, "logsnr_max": 4.0},
    {"logsnr_min": -3.0, "logsnr_max": 4.0, "resolution": 512},
    {"logsnr_min": -20.0, "logsnr_max": 20.0, "resolution": 2048, "reference": 32},
    {"resolution": 10**9},
]
STARTS = (-math.inf, -10.2, 3.9999, 14.99999, 20.0)


@pytest.mark.parametrize("name", CURVES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_levels_fall_strictly_at_any_number_of_steps(name, shape):
    schedule = Schedule(name=name, **shape)
    for spacing in SPACINGS:
        for start in STARTS:
            for steps in (1, 2, 100, 655, 10_000):
                count = min(steps, 1000) if schedule.discrete else steps
                levels = schedule.levels(count, spacing, start)
                assert levels[-1] == math.inf
                assert all(now < then for now, then in pairwise(levels))
                assert not any(map(math.isnan, levels))
                assert 2 <= len(levels) <= count + 1
                if start == -math.inf and not schedule.discrete and shape != SHAPES[-1]:
                    assert len(levels) == count + 1
                    seen = torch.tensor(levels).tolist()  # in float32, as networks are told
                    assert seen == sorted(set(seen))


@pytest.mark.parametrize("steps", [5, 50, 100])
@pytest.mark.parametrize("resolution", [64, 256, 1024])
def test_levels_within_the_bounds_are_those_of_the_schedule_to_the_bit(steps, resolution):
    schedule = Schedule(name="shifted", resolution=resolution)
    times = torch.linspace(1, 0, steps + 1, dtype=torch.float64)[:-1]
    assert schedule.levels(steps) == [*schedule.logsnr(times).tolist(), math.inf]


def test_levels_that_a_bound_would_make_equal_are_taken_between_the_bounds():
    schedule = Schedule(name="shifted", resolution=1024)
    levels = schedule.levels(1000)
    assert levels[0] == -15
    late = schedule.time(math.nextafter(-15, 0))  # the last time before the bound
    wanted = schedule.logsnr(late * torch.linspace(1, 0, 1001, dtype=torch.float64)[1:-1])
    assert levels[1:-1] == pytest.approx(wanted.tolist(), abs=1e-6)


def test_a_start_that_leaves_no_noise_is_a_single_level():
    top = Schedule().logsnr(torch.zeros(1, dtype=torch.float64)).item()
    assert Schedule().levels(8, logsnr_start=15.0) == pytest.approx([top, math.inf])
    with pytest.raises(ConfigError, match="leaves none of the timesteps"):
        Schedule().levels(8, logsnr_start=0.0, chosen=(999, 998))


def test_whole_steps_come_once_where_there_are_fewer_than_asked_for():
    latest = round(DISCRETE.time(2.0) * 999)
    for spacing in ("trailing", "power", "leading", "linspace"):
        steps = DISCRETE.step_of(torch.tensor(DISCRETE.levels(900, spacing, 2.0)[:-1])).tolist()
        assert steps == sorted(set(steps), reverse=True)
        assert steps[0] == latest
        assert steps[-1] == 0
    bounded = Schedule(name="discrete_cosine", logsnr_min=-10)  # of steps 995 to 999
    assert len(bounded.levels(1000)) == 997
    chosen = bounded.levels(3, chosen=(999, 998, 500))
    assert chosen == [-10, *bounded.levels(1, chosen=(500,))]


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
    found = Schedule(name="linear").logsnr(torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64))
    assert found[0].item() == 15  # no noise at all: the upper bound
    assert found[1].item() == pytest.approx(-math.log(math.expm1(0.05 + 9.95 / 4)), abs=1e-9)
    assert found[2].item() == pytest.approx(-math.log(math.expm1(10.05)), abs=1e-9)


def linear_betas(steps):
    """Log-SNR after each of so many steps, whose betas have the sum of the thousand."""
    betas = torch.linspace(1e-4, 0.02, steps, dtype=torch.float64) * 1000 / steps
    log_product = torch.log1p(-betas).cumsum(0)
    return log_product - torch.log(-torch.expm1(log_product))


def test_linear_is_the_limit_of_the_thousand_betas():
    errors = []
    for steps in (1000, 10_000, 100_000):
        t = torch.arange(1, steps + 1, dtype=torch.float64) / steps
        errors.append((Schedule(name="linear").logsnr(t) - linear_betas(steps)).abs().max().item())
    assert errors[0] < 0.1  # of the first step, whose beta the limit reaches at its middle
    assert errors[1] < errors[0] / 8
    assert errors[2] < errors[1] / 8


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
    # The limit of ever more steps is theirs to 0.001 in alpha, and to 0.1 in log-SNR.
    torch.testing.assert_close(alpha, theirs.sqrt(), rtol=0, atol=1e-3)
    logsnr = Schedule(name="linear").logsnr(t)
    torch.testing.assert_close(logsnr, torch.logit(theirs), rtol=0, atol=0.1)


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
    with pytest.raises(ConfigError, match="finite"):
        Schedule(logsnr_min=-math.inf)
