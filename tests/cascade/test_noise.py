"""What training draws: numbers of a place, not of a batch or a device; uniform, normal, apart."""

import math

import pytest
import torch

from open_imagen.cascade.noise import (
    TrainingNoise,
    as_int32,
    hash_counters,
    murmur_mix,
    normal,
    uniform,
)
from standins import needs_cuda


def noise_of(batch=4, seed=0, drop=0.1, lowres=False, side=64, index=0, device="cpu"):
    return TrainingNoise.sample((batch, 3, side, side), index, seed, drop, lowres, device)


def murmur(bits):
    """MurmurHash3's finaliser, in Python's integers."""
    bits ^= bits >> 16
    bits = bits * 0x85EBCA6B & 0xFFFFFFFF
    bits ^= bits >> 13
    bits = bits * 0xC2B2AE35 & 0xFFFFFFFF
    return bits ^ bits >> 16


def test_bits_are_mixed_as_in_murmurhash3():
    numbers = [0, 1, 2**31 - 1, 2**31, 0xDEADBEEF, 2**32 - 1]
    found = murmur_mix(torch.tensor([as_int32(n) for n in numbers], dtype=torch.int32))
    assert [one & 0xFFFFFFFF for one in found.tolist()] == [murmur(n) for n in numbers]
    # Of the published test vectors: fmix32(1).
    assert murmur(1) == 0x514E28B7


def test_uniform_numbers_are_their_highest_24_bits():
    bits = torch.tensor([0, 2**8, -(2**31), -1], dtype=torch.int32)
    exact = [0.5 * 2**-24, 1.5 * 2**-24, 0.5 + 0.5 * 2**-24, 1.0]
    assert uniform(bits).tolist() == pytest.approx(exact, rel=1e-7)


def test_normal_numbers_are_box_and_muller_s():
    bits = torch.tensor([[1000 << 8, 77 << 8, 123456 << 8, 5 << 8]], dtype=torch.int32)
    first, second = uniform(bits)[0].double().chunk(2)
    radius = [math.sqrt(-2 * math.log(u)) for u in first.tolist()]
    angles = [2 * math.pi * u for u in second.tolist()]
    pairs = list(zip(radius, angles, strict=True))
    exact = [r * math.cos(a) for r, a in pairs] + [r * math.sin(a) for r, a in pairs]
    assert normal(bits)[0].tolist() == pytest.approx(exact, rel=1e-5)


def test_what_an_example_draws_hangs_on_its_place_alone():
    whole = noise_of(8, index=100, lowres=True)
    parts = [noise_of(3, index=100, lowres=True), noise_of(5, index=103, lowres=True)]
    for one, *two in zip(whole, *parts, strict=True):
        assert torch.equal(one, torch.cat(two))
    other = noise_of(8, index=100, seed=1)
    assert not torch.equal(whole.eps, other.eps)
    assert not torch.equal(whole.t, other.t)


@needs_cuda
def test_a_gpu_draws_the_same_numbers():
    for one, other in zip(
        noise_of(5, index=7, lowres=True),
        noise_of(5, index=7, lowres=True, device="cuda"),
        strict=True,
    ):
        torch.testing.assert_close(one, other.cpu(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("index", [0, 1_000_000_007])
def test_times_of_examples_in_a_row_are_spread_and_fill_the_interval(index):
    times = noise_of(64, side=1, index=index).t.double().sort().values
    gaps = torch.cat([times[:1] + 1 - times[-1:], times.diff()])
    # Of any N points of this walk the gaps have at most three lengths, near 1 / N (Sos 1957).
    assert gaps.max() < 2 / 64
    assert gaps.min() > 0.3 / 64


def test_noise_is_normal_and_examples_do_not_share_it():
    eps = noise_of(2000, side=4).eps.flatten(1).double()
    assert abs(eps.mean()) < 4 / eps.numel() ** 0.5
    assert eps.var() == pytest.approx(1, abs=0.02)
    neighbours = (eps[1:] * eps[:-1]).mean().item()
    assert abs(neighbours) < 4 / eps[1:].numel() ** 0.5


def test_noise_has_the_normal_distribution_and_is_white():
    eps = noise_of(200, side=32).eps.double()
    number = eps.numel()
    found = eps.flatten().sort().values
    shares = torch.tensor([0.001, 0.01, 0.1, 0.5, 0.9, 0.99, 0.999], dtype=torch.float64)
    exact = torch.special.ndtri(shares)
    density = torch.exp(-(exact**2) / 2) / math.sqrt(2 * math.pi)
    spread = (shares * (1 - shares) / number).sqrt() / density  # of a quantile
    assert ((found[(shares * number).long()] - exact).abs() < 5 * spread).all()
    power = torch.fft.fft2(eps).abs().square().mean(dim=(0, 1)) / 32**2
    assert (power - 1).abs().max() < 6 / 600**0.5  # of 600 pictures
    # The two numbers that one pair of uniforms makes do not move together.
    first, second = eps.flatten(1).chunk(2, dim=1)
    assert abs((first.square() * second.square()).mean() - 1) < 5 * 8**0.5 / (number / 2) ** 0.5


def test_streams_of_one_example_differ():
    high, low = torch.tensor([1], dtype=torch.int32), torch.tensor([2], dtype=torch.int32)
    one, other = (hash_counters(high, low, stream, 1000) for stream in (1, 2))
    assert (one == other).sum() == 0


@pytest.mark.parametrize("share", [0.0, 0.1, 1.0])
def test_text_is_dropped_as_often_as_asked(share):
    dropped = noise_of(20_000, drop=share, side=1).drop.float().mean().item()
    assert dropped == pytest.approx(share, abs=0.01)
