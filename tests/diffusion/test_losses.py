"""The loss: zero at the truth, and its weights at hand-made points."""

import math

import pytest
import torch

from open_imagen.diffusion.losses import Objective
from open_imagen.diffusion.parameterization import KINDS, diffuse, target
from open_imagen.errors import ConfigError, UnknownName

LOGSNR = torch.tensor([math.log(0.1), math.log(2.0), math.log(50.0)], dtype=torch.float64)


@pytest.fixture
def truth():
    generator = torch.Generator().manual_seed(0)
    x, eps = torch.randn(2, 3, 3, 4, 4, generator=generator, dtype=torch.float64)
    return x, eps, diffuse(x, eps, LOGSNR)


@pytest.mark.parametrize("prediction", KINDS)
@pytest.mark.parametrize("space", KINDS)
def test_the_truth_has_no_loss(truth, prediction, space):
    x, eps, z = truth
    objective = Objective(prediction=prediction, space=space)
    loss = objective.loss(target(prediction, x, eps, LOGSNR), x, eps, z, LOGSNR)
    assert loss.shape == (3,)
    assert loss.max() < 1e-20


@pytest.mark.parametrize("prediction", KINDS)
def test_the_paper_s_loss_is_the_squared_error_of_eps(truth, prediction):
    x, eps, z = truth
    objective = Objective(prediction=prediction)
    wrong = target(
        prediction,
        x + 0.3,
        (z - (LOGSNR.sigmoid().sqrt()[:, None, None, None]) * (x + 0.3))
        / (-LOGSNR).sigmoid().sqrt()[:, None, None, None],
        LOGSNR,
    )
    wanted = 0.09 * LOGSNR.exp()
    torch.testing.assert_close(objective.loss(wrong, x, eps, z, LOGSNR), wanted)


@pytest.mark.parametrize(
    "space, weights",
    [
        # min(SNR, 5) / (SNR, 1 + SNR, 1) at SNR = 0.1, 2, 50 (Hang et al. 2023)
        ("eps", [1, 1, 0.1]),
        ("v", [0.1 / 1.1, 2 / 3, 5 / 51]),
        ("x", [0.1, 2, 5]),
    ],
)
def test_min_snr_by_hand(space, weights):
    found = Objective(space=space, weighting="min_snr").weight(LOGSNR)
    assert found.tolist() == pytest.approx(weights)


@pytest.mark.parametrize("space", KINDS)
def test_geometric_is_halfway_between_x_and_eps_in_any_space(truth, space):
    x, eps, z = truth
    wrong = target("x", x, eps, LOGSNR) + 0.3
    losses = Objective(prediction="x", space=space, weighting="geometric")
    found = losses.loss(wrong, x, eps, z, LOGSNR)
    in_x, in_eps = (
        Objective(prediction="x", space=s).loss(wrong, x, eps, z, LOGSNR) for s in ("x", "eps")
    )
    torch.testing.assert_close(found, (in_x * in_eps).sqrt())


def test_max_weight_caps_what_an_error_in_x_counts():
    # v space: 1 + SNR = 1.1, 3, 51, capped at 10
    found = Objective(space="v", max_weight=10.0).weight(LOGSNR)
    assert found.tolist() == pytest.approx([1, 1, 10 / 51])


def test_an_absolute_error_counts_by_the_root_of_the_weight(truth):
    # x wrong by 0.3 everywhere is wrong in v by 0.3 sqrt(1 + SNR), capped at a weight of 10 in x
    x, eps, z = truth
    objective = Objective(prediction="x", space="v", error="l1", max_weight=10.0)
    wanted = 0.3 * (1 + LOGSNR.exp()).clamp(max=10).sqrt()
    torch.testing.assert_close(objective.loss(x + 0.3, x, eps, z, LOGSNR), wanted)


@pytest.mark.parametrize("error, wanted", [("l2", 0.3), ("l1", 0.0)])
def test_what_is_learned_is_the_mean_or_the_median(error, wanted):
    # x is 1 in three cases of ten, else 0: the best constant answer, searched on a grid
    x = torch.tensor([1.0] * 3 + [0.0] * 7, dtype=torch.float64)[:, None]
    objective = Objective(prediction="x", space="x", error=error)
    answers = torch.linspace(0, 1, 101, dtype=torch.float64)
    logsnr = torch.zeros(10, dtype=torch.float64)
    losses = [objective.loss(a.expand_as(x), x, x, x, logsnr).mean() for a in answers]
    assert answers[int(torch.stack(losses).argmin())] == pytest.approx(wanted)


def test_wrong_settings_are_refused():
    with pytest.raises(UnknownName):
        Objective(error="l3")
    with pytest.raises(UnknownName):
        Objective(weighting="minsnr")
    with pytest.raises(ConfigError):
        Objective(gamma=0)
