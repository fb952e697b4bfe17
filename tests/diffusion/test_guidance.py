"""Guidance: off at 1, a straight line through both predictions, refused when it is no number."""

import math

import pytest
import torch

from open_imagen.diffusion.guidance import Guidance, guide
from open_imagen.errors import ConfigError

C, U = torch.tensor([3.0, -1.0]), torch.tensor([1.0, 1.0])


def test_the_paper_s_formula():
    for w in (0.0, 1.0, 1.35, 8.0):
        torch.testing.assert_close(guide(C, U, w), w * C + (1 - w) * U)


def test_weight_one_needs_no_second_prediction():
    assert not Guidance(1.0).active(0.0)
    assert Guidance(3.0).active(0.0)
    assert Guidance(0.0).active(0.0)


def test_outside_its_interval_guidance_is_off():
    # sigma/alpha in (0.19, 1.61] is logsnr in [-0.95, 3.32)
    guidance = Guidance(2.0, -0.95, 3.32)
    assert [guidance.active(level) for level in (-1.0, -0.95, 3.3, 3.32)] == [
        False,
        True,
        True,
        False,
    ]


@pytest.mark.parametrize("weight", [-1.0, math.nan, math.inf])
def test_weights_that_are_no_sensible_number_are_refused(weight):
    with pytest.raises(ConfigError, match="guidance"):
        Guidance(weight)
