"""Every conversion carries the truth to the truth."""

from itertools import product

import pytest
import torch

from open_imagen.diffusion.parameterization import (
    KINDS,
    convert,
    diffuse,
    snr_weight,
    target,
    to_eps,
    to_x,
)
from open_imagen.errors import UnknownName


@pytest.fixture
def truth():
    generator = torch.Generator().manual_seed(0)
    x, eps = torch.randn(2, 5, 3, 4, 4, generator=generator, dtype=torch.float64)
    logsnr = torch.tensor([-8.0, -1.0, 0.0, 2.0, 9.0], dtype=torch.float64)
    return x, eps, logsnr, diffuse(x, eps, logsnr)


@pytest.mark.parametrize("source, goal", list(product(KINDS, KINDS)))
def test_true_predictions_convert_to_true_predictions(truth, source, goal):
    x, eps, logsnr, z = truth
    found = convert(target(source, x, eps, logsnr), z, logsnr, source, goal)
    torch.testing.assert_close(found, target(goal, x, eps, logsnr), rtol=0, atol=1e-9)


def test_v_by_hand():
    # logsnr 0: alpha = sigma = 1 / sqrt 2
    x, eps = torch.tensor([[3.0]]), torch.tensor([[1.0]])
    v = target("v", x, eps, torch.tensor([0.0]))
    assert v.item() == pytest.approx((1 - 3) / 2**0.5)


def test_to_x_and_to_eps_undo_diffusion(truth):
    x, eps, logsnr, z = truth
    torch.testing.assert_close(to_x(eps, z, logsnr, "eps"), x, rtol=0, atol=1e-9)
    torch.testing.assert_close(to_eps(x, z, logsnr), eps, rtol=0, atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_in_x_counts_by_its_weight_in_another_space(truth, kind):
    x, eps, logsnr, z = truth
    wrong = x + 0.1
    found = convert(wrong, z, logsnr, "x", kind) - target(kind, x, eps, logsnr)
    wanted = snr_weight(kind, logsnr) * 0.01
    torch.testing.assert_close(found.square().flatten(1).mean(1), wanted)


def test_unknown_kinds_are_met_with_a_suggestion():
    from open_imagen.diffusion.losses import Objective

    with pytest.raises(UnknownName) as caught:
        Objective(prediction="epsilon")
    assert "'epsilon'" in str(caught.value)
