"""APG and CFG-Zero*: their papers' algorithms written out literally, and exact Gaussians."""

import math

import pytest
import torch

from open_imagen.diffusion.guidance import (
    Guidance,
    GuidanceRule,
    ProjectedGuidance,
    cfg_zero,
    guide,
)
from open_imagen.diffusion.parameterization import convert
from open_imagen.diffusion.samplers import SAMPLERS, scales
from open_imagen.diffusion.schedules import Schedule
from open_imagen.errors import ConfigError

LEVELS = Schedule(logsnr_min=-10.0, logsnr_max=10.0).levels(30)


def randn(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def literal_apg(steps, weight, momentum, radius, eta):
    """Sadat et al. 2024, algorithm 1, image by image: the difference with momentum, its norm
    bounded by r, split along the conditional prediction."""
    found, average = [], 0.0
    for c, u in steps:
        average = (c - u) + momentum * average
        d = average
        d = d * min(1.0, radius / float(d.norm()))
        direction = c / c.norm()
        parallel = (d * direction).sum() * direction
        orthogonal = d - parallel
        found.append(c + (weight - 1) * (orthogonal + eta * parallel))
    return found


@pytest.mark.parametrize("momentum", [0.0, -0.5])
@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("radius", [math.inf, 5.0])
def test_apg_is_the_papers_algorithm(momentum, eta, radius):
    steps = [(randn(k, 2, 3, 8, 8), randn(100 + k, 2, 3, 8, 8)) for k in range(4)]
    rule = ProjectedGuidance(momentum, radius / math.sqrt(3 * 8 * 8), eta)
    found = [rule(c, u, 6.0) for c, u in steps]
    for image in range(2):
        wanted = literal_apg([(c[image], u[image]) for c, u in steps], 6.0, momentum, radius, eta)
        for a, b in zip(found, wanted, strict=True):
            torch.testing.assert_close(a[image], b, rtol=1e-5, atol=1e-5)


def test_cfg_zero_is_the_papers_algorithm():
    c, u = randn(0, 2, 3, 8, 8), randn(1, 2, 3, 8, 8)
    found = cfg_zero(c, u, 4.0)
    for k in range(2):
        s = (c[k] * u[k]).sum() / (u[k] * u[k]).sum()
        wanted = s * u[k] + 4.0 * (c[k] - s * u[k])
        torch.testing.assert_close(found[k], wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("prediction", ["eps", "x", "v"])
@pytest.mark.parametrize("kind", ["cfg", "apg", "cfg_zero"])
def test_the_space_of_the_network_does_not_matter(kind, prediction):
    z, level = randn(2, 2, 3, 4, 4), 0.7
    c, u = randn(0, 2, 3, 4, 4), randn(1, 2, 3, 4, 4)  # in x
    logsnr = torch.tensor(level, dtype=torch.float64)
    theirs = [convert(one, z, logsnr, "x", prediction) for one in (c, u)]
    rule = GuidanceRule(Guidance(3.0, kind=kind), prediction)
    found = convert(rule(*theirs, 3.0, z, level, 5), z, logsnr, prediction, "x")
    wanted = GuidanceRule(Guidance(3.0, kind=kind), "x")(c, u, 3.0, z, level, 5)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


def test_weight_one_is_the_conditional_prediction():
    c, u, z = (randn(k, 2, 3, 4, 4) for k in range(3))
    for kind in ("apg", "cfg_zero"):
        found = GuidanceRule(Guidance(1.0, kind=kind), "v")(c, u, 1.0, z, 0.0, 3)
        torch.testing.assert_close(found, c, rtol=1e-5, atol=1e-5)


def gaussian(mean, std):
    """The best denoiser of Normal(mean, std^2) in every pixel."""

    def denoise(z, logsnr):
        alpha, sigma = scales(logsnr)
        return mean + alpha * std**2 / (alpha**2 * std**2 + sigma**2) * (z - alpha * mean)

    return denoise


def sampled(kind, conditional, unconditional, weight, **settings):
    rule = GuidanceRule(Guidance(weight, kind=kind, **settings), "x")

    def denoise(z, logsnr):
        step = LEVELS.index(logsnr)
        return rule(conditional(z, logsnr), unconditional(z, logsnr), weight, z, logsnr, step)

    z = randn(9, 3, 1, 2, 2)
    return SAMPLERS["ddim"](denoise, z, LEVELS, lambda: None)


def alone(denoise):
    return SAMPLERS["ddim"](denoise, randn(9, 3, 1, 2, 2), LEVELS, lambda: None)


def test_apg_with_all_of_the_difference_is_plain_guidance():
    c, u = gaussian(0.4, 0.5), gaussian(0.1, 0.7)
    found = sampled("apg", c, u, 3.0, apg_momentum=0.0, apg_parallel=1.0)
    torch.testing.assert_close(found, sampled("cfg", c, u, 3.0), rtol=0, atol=1e-5)


def test_apg_leaves_out_what_only_scales_an_image():
    # Without means every prediction is a multiple of z: guidance could only saturate.
    c, u = gaussian(0.0, 0.5), gaussian(0.0, 0.9)
    found = sampled("apg", c, u, 4.0, apg_momentum=0.0)
    torch.testing.assert_close(found, alone(c), rtol=0, atol=1e-4)
    assert (sampled("cfg", c, u, 4.0) - alone(c)).abs().max() > 0.05


def test_cfg_zero_scales_the_unconditional_prediction_first():
    # Of two zero-mean Gaussians the velocities are multiples of each other: nothing is left.
    c, u = gaussian(0.0, 0.5), gaussian(0.0, 0.9)
    torch.testing.assert_close(sampled("cfg_zero", c, u, 4.0), alone(c), rtol=0, atol=1e-4)


def test_zero_init_holds_the_velocity_at_zero_for_its_steps():
    rule = GuidanceRule(Guidance(3.0, kind="cfg_zero", zero_init_steps=2), "v")
    c, u, z = (randn(k, 1, 1, 2, 2) for k in range(3))
    assert [bool(rule(c, u, 3.0, z, 0.0, step).any()) for step in range(4)] == [
        False,
        False,
        True,
        True,
    ]


def test_plain_guidance_is_untouched():
    c, u, z = (randn(k, 1, 1, 2, 2) for k in range(3))
    assert torch.equal(GuidanceRule(Guidance(3.0), "v")(c, u, 3.0, z, 0.0, 0), guide(c, u, 3.0))


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("kind", "agp", "guidance_kind called 'agp'"),
        ("apg_momentum", 1.0, "apg_momentum = 1.0"),
        ("apg_momentum", math.nan, "apg_momentum = nan"),
        ("apg_norm", 0.0, "apg_norm = 0.0"),
        ("apg_parallel", 1.5, "apg_parallel = 1.5"),
        ("zero_init_steps", -1, "zero_init_steps = -1"),
    ],
)
def test_settings_are_checked(setting, value, message):
    with pytest.raises(ConfigError, match=message):
        Guidance(3.0, **{setting: value})
