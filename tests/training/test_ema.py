"""The average: its half life by hand, its ramp, and swapping it in and out."""

import pytest
import torch
from torch import nn

from open_imagen.training.ema import Ema, EmaConfig


def test_after_its_half_life_a_weight_counts_half():
    config = EmaConfig(half_life=1000, ramp=1.0)
    share = 1.0
    for step in range(10):
        share *= config.decay(10_000 + 100 * step, 100)
    assert share == pytest.approx(0.5)


def test_early_on_it_remembers_a_share_of_what_was_seen():
    config = EmaConfig(half_life=1000, ramp=0.1)
    assert config.decay(1000, 100) == pytest.approx(0.5)  # half life 100
    assert config.decay(10**9, 100) == pytest.approx(0.5**0.1)
    assert EmaConfig(half_life=0).decay(100, 10) == 0.0


def test_it_follows_and_swaps():
    network = nn.Linear(2, 1, bias=False)
    network.weight.data.fill_(1.0)
    ema = Ema(network, EmaConfig(half_life=100, ramp=10.0))
    network.weight.data.fill_(3.0)
    ema.update(network, 1000, 100)
    assert ema.weights["weight"].tolist() == [[2.0, 2.0]]
    ema.swap(network)
    assert network.weight.tolist() == [[2.0, 2.0]]
    ema.swap(network)
    assert network.weight.tolist() == [[3.0, 3.0]]
    assert torch.equal(ema.weights["weight"], torch.full((1, 2), 2.0))
