"""Power-function averages, and making one of any sigma_rel from the snapshots of two."""

import pytest
import torch

from open_imagen.errors import ConfigError, DataError
from open_imagen.storage import save_tensors
from open_imagen.training.posthoc_ema import (
    Profile,
    gamma_of,
    inner_product,
    power_decay,
    reconstruct,
    snapshot_name,
    solve_coefficients,
)


@pytest.mark.parametrize("sigma_rel", [0.01, 0.05, 0.1, 0.25])
def test_the_length_is_the_standard_deviation_of_the_weighting(sigma_rel):
    # Of (gamma + 1) t^gamma on [0, 1], by numbers.
    gamma = gamma_of(sigma_rel)
    t = (torch.arange(2_000_000, dtype=torch.float64) + 0.5) / 2_000_000
    weighting = (gamma + 1) * t**gamma / len(t)
    mean = (weighting * t).sum()
    assert weighting.sum() == pytest.approx(1, abs=1e-6)
    assert (weighting * (t - mean) ** 2).sum().sqrt().item() == pytest.approx(sigma_rel, abs=1e-6)


def test_lengths_that_no_average_has_are_refused():
    for sigma_rel in (0.0, -0.1, 0.3):
        with pytest.raises(ConfigError, match="must be above 0"):
            gamma_of(sigma_rel)


def walk(steps, batch):
    """Weights that wander: a value after every step."""
    torch.manual_seed(0)
    return torch.randn(steps, 3, dtype=torch.float64).cumsum(0) / 10


def followed(values, sigma_rel, batch):
    """The average after each step, snapshots step by step."""
    average, snapshots = torch.zeros_like(values[0]), []
    for k, value in enumerate(values):
        average = average.lerp(value, 1 - power_decay(sigma_rel, (k + 1) * batch, batch))
        snapshots.append(average.clone())
    return snapshots


def test_kept_step_by_step_it_is_the_weighted_mean_of_all_weights():
    values, batch, sigma_rel = walk(200, 16), 16, 0.1
    gamma = gamma_of(sigma_rel)
    ends = torch.arange(201, dtype=torch.float64) / 200
    shares = ends[1:] ** (gamma + 1) - ends[:-1] ** (gamma + 1)  # of each step in the integral
    wanted = (shares[:, None] * values).sum(0)
    torch.testing.assert_close(followed(values, sigma_rel, batch)[-1], wanted)


def test_inner_products_are_integrals():
    one, other = Profile(600, 0.05), Profile(1000, 0.12)
    a, b = gamma_of(one.sigma_rel), gamma_of(other.sigma_rel)
    t = (torch.arange(1_000_000, dtype=torch.float64) + 0.5) / 1_000_000 * 600
    left = (a + 1) * t**a / 600 ** (a + 1)
    right = (b + 1) * t**b / 1000 ** (b + 1)
    wanted = (left * right).sum().item() * 600 / len(t)
    assert inner_product(one, other) == pytest.approx(wanted, rel=1e-6)
    assert inner_product(other, one) == pytest.approx(inner_product(one, other), rel=1e-12)


def test_what_was_kept_is_found_exactly():
    snapshots = [
        Profile(seen, sigma_rel) for seen in (250, 500, 750, 1000) for sigma_rel in (0.05, 0.1)
    ]
    shares = solve_coefficients(snapshots, Profile(750, 0.1))
    wanted = [float(profile == Profile(750, 0.1)) for profile in snapshots]
    assert shares == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize("sigma_rel", [0.04, 0.07, 0.15])
def test_an_average_of_any_length_is_made_of_snapshots_of_two(tmp_path, sigma_rel):
    values, batch = walk(800, 16), 16
    for stored in (0.05, 0.1):
        averages = followed(values, stored, batch)
        for step in range(50, 801, 50):
            name = snapshot_name(Profile(step * batch, stored))
            save_tensors(tmp_path / name, {"w": averages[step - 1].float()})
    found, what = reconstruct(tmp_path, sigma_rel)
    assert what == Profile(800 * batch, sigma_rel)
    wanted = followed(values, sigma_rel, batch)[-1].float()
    spread = values.std()
    assert (found["w"] - wanted).abs().max() < 0.01 * spread
    # ... and of an earlier time, without what came after.
    found, _ = reconstruct(tmp_path, sigma_rel, images_seen=400 * batch)
    wanted = followed(values[:400], sigma_rel, batch)[-1].float()
    assert (found["w"] - wanted).abs().max() < 0.01 * spread


def test_a_folder_without_snapshots_is_told(tmp_path):
    with pytest.raises(DataError, match="no snapshots"):
        reconstruct(tmp_path, 0.1)
