"""Guidance: off at 1, a straight line through both predictions, refused when it is no number."""

import math

import pytest
import torch

from open_imagen.diffusion.guidance import Guidance, guide, rescaled
from open_imagen.errors import ConfigError

C, U = torch.tensor([3.0, -1.0]), torch.tensor([1.0, 1.0])


def test_the_paper_s_formula():
    for w in (0.0, 1.0, 1.35, 8.0):
        torch.testing.assert_close(guide(C, U, w), w * C + (1 - w) * U)


def test_weight_one_needs_no_second_prediction():
    assert Guidance(1.0).at(0.0) == 1
    assert Guidance(3.0).at(0.0) == 3
    assert Guidance(0.0).at(0.0) == 0


def test_outside_its_interval_guidance_is_off():
    # sigma/alpha in (0.19, 1.61] is logsnr in [-0.95, 3.32)
    guidance = Guidance(2.0, -0.95, 3.32)
    assert [guidance.at(level) for level in (-1.0, -0.95, 3.3, 3.32)] == [1, 2, 2, 1]


def test_oscillating_guidance_rests_at_every_second_step_after_the_first():
    guidance = Guidance(15.0, constant_steps=3)
    assert [guidance.at(0.0, step) for step in range(8)] == [15, 15, 15, 1, 15, 1, 15, 1]


def test_rescaling_is_lin_et_al_s_formula():
    torch.manual_seed(0)
    conditional, guided = torch.randn(2, 3, 4, 4), 4 * torch.randn(2, 3, 4, 4) + 1
    for k in range(2):
        matched = guided[k] * (conditional[k].std() / guided[k].std())
        wanted = 0.7 * matched + 0.3 * guided[k]
        torch.testing.assert_close(rescaled(guided, conditional, 0.7)[k], wanted)


def test_full_rescaling_brings_back_the_spread():
    torch.manual_seed(0)
    conditional, guided = torch.randn(2, 3, 8, 8), 9 * torch.randn(2, 3, 8, 8)
    found = rescaled(guided, conditional, 1.0).flatten(1).std(dim=1)
    torch.testing.assert_close(found, conditional.flatten(1).std(dim=1))


def test_other_settings_are_checked():
    with pytest.raises(ConfigError, match="guidance_rescale = 2"):
        Guidance(3.0, rescale=2)
    with pytest.raises(ConfigError, match="guidance_steps = -1"):
        Guidance(3.0, constant_steps=-1)


@pytest.mark.parametrize("weight", [-1.0, math.nan, math.inf])
def test_weights_that_are_no_sensible_number_are_refused(weight):
    with pytest.raises(ConfigError, match="guidance"):
        Guidance(weight)
