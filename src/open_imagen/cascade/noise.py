"""The random numbers of training, counter-based: a function of the seed and the example's index.

There is no generator state to save, and any number of processes computes the same numbers.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from open_imagen.cascade.augmentation import POINTS
from open_imagen.devices import sent

GOLDEN = (5**0.5 - 1) / 2
MASK = 2**64 - 1
EPS, LOWRES, SCALARS, WARP = 0x243F6A88, 0x13198A2E, 0x03707344, 0xA4093822
"""Streams of random numbers of one example; digits of pi, any other constants would do."""


class TrainingNoise(NamedTuple):
    """The random numbers of one training step."""

    t: Tensor
    """Times in [0, 1], [B]."""
    eps: Tensor
    """Noise, shape of the images."""
    drop: Tensor
    """Where the text is dropped, bool [B]."""
    level: Tensor
    """Noise conditioning levels in [0, 1], [B]."""
    lowres_noise: Tensor
    """Noise for the low-resolution image; empty for base stages."""
    blur: Tensor
    """How far the low-resolution image is blurred, 0 to 1, [B]; empty for base stages."""
    warp: Tensor
    """How far it is warped, 0 to 1, [B]; empty for base stages."""
    points: Tensor
    """By which field, [B, 2, POINTS, POINTS]; see `warped`. Empty for base stages."""
    augment_labels: Tensor = torch.empty(0)
    """Labels of the transforms of each example (training/augment.py), [B, N]; empty if there are
    none."""

    def select(self, rows: slice) -> "TrainingNoise":
        """The numbers of some of the images."""
        return TrainingNoise(*(part[rows] if len(part) else part for part in self))

    def repeated(self, number: int) -> "TrainingNoise":
        """The same numbers ``number`` times, one batch after another."""
        return TrainingNoise(*(torch.cat([part] * number) for part in self))

    def generators(self) -> list[torch.Generator]:
        """A CPU generator for each example, for further random numbers.

        Seeded by the example's time, which differs from example to example, so that these numbers
        depend on the example's index alone, too.
        """
        seeds = self.t.view(torch.int32).tolist()
        return [torch.Generator().manual_seed(seed) for seed in seeds]

    @classmethod
    def sample(
        cls,
        shape: Sequence[int],
        index: int,
        seed: int = 0,
        text_drop: float = 0.0,
        lowres: bool = False,
        device: torch.device | str = "cpu",
    ) -> "TrainingNoise":
        """The numbers of the examples ``index`` .. ``index + B - 1`` of a run.

        They depend on the run's seed and the example's index alone: not on its batch, not on the
        number of processes, and except for rounding not on the device. Times advance in steps of
        the golden ratio, a low-discrepancy sequence: consecutive examples are spread evenly over
        [0, 1], which makes the loss less noisy.

        Args:
            shape: of the images, [B, C, H, W].
            text_drop: probability that an example's text is dropped.
            lowres: whether the stage has a low-resolution input.
        """
        start = splitmix64(seed) / 2**64
        high, low = example_keys(index, shape[0], seed, device)
        indices = range(index, index + shape[0])
        times = torch.tensor([(start + k * GOLDEN) % 1 for k in indices], dtype=torch.float32)
        drop, level, blur, warp = uniform(hash_counters(high, low, SCALARS, 4)).unbind(1)
        times, nothing = sent(times, device), torch.empty(0, device=device)

        def noise(stream: int, *shape: int) -> Tensor:
            size = math.prod(shape)
            numbers = normal(hash_counters(high, low, stream, size + size % 2))
            return numbers[:, :size].view(-1, *shape)

        eps = noise(EPS, *shape[1:])
        if not lowres:
            return cls(times, eps, drop < text_drop, level, nothing, nothing, nothing, nothing)
        points = noise(WARP, 2, POINTS, POINTS)
        lowres_noise = noise(LOWRES, *shape[1:])
        return cls(times, eps, drop < text_drop, level, lowres_noise, blur, warp, points)


def example_keys(
    index: int, number: int, seed: int, device: torch.device | str
) -> tuple[Tensor, Tensor]:
    """Two int32 halves [number] of the 64-bit keys of the examples from ``index`` on."""
    keys = [splitmix64(seed, k) for k in range(index, index + number)]
    halves = [[as_int32(key >> 32), as_int32(key & 0xFFFFFFFF)] for key in keys]
    # One small asynchronous copy to the device.
    high, low = sent(torch.tensor(halves, dtype=torch.int32), device).unbind(1)
    return high, low


def splitmix64(*numbers: int) -> int:
    """A 64-bit hash of some integers (the finaliser of SplitMix64)."""
    bits = 0
    for number in numbers:
        bits = (bits + number + 0x9E3779B97F4A7C15) & MASK
        bits = (bits ^ bits >> 30) * 0xBF58476D1CE4E5B9 & MASK
        bits = (bits ^ bits >> 27) * 0x94D049BB133111EB & MASK
        bits ^= bits >> 31
    return bits


def as_int32(bits: int) -> int:
    """The int32 with these 32 bits."""
    return bits - 2**32 if bits >= 2**31 else bits


def hash_counters(high: Tensor, low: Tensor, stream: int, number: int) -> Tensor:
    """``number`` hashes for each key of two int32 halves [B] -> int32 [B, number].

    Counters through the finaliser of MurmurHash3, once with either half of the key.
    """
    counters = torch.arange(number, dtype=torch.int32, device=high.device) * as_int32(0x9E3779B9)
    bits = murmur_mix(counters[None] ^ (low ^ as_int32(stream))[:, None])
    return murmur_mix(bits + high[:, None])


def murmur_mix(bits: Tensor) -> Tensor:
    """MurmurHash3's finaliser of int32: every input bit changes every output bit."""
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        bits = (bits ^ (bits >> shift & (1 << 32 - shift) - 1)) * as_int32(factor)
    return bits ^ (bits >> 16 & 0xFFFF)


def uniform(bits: Tensor) -> Tensor:
    """int32 -> float32 above 0 and at most 1, in steps of 2^-24."""
    return ((bits >> 8 & 0xFFFFFF).float() + 0.5) * 2.0**-24


def normal(bits: Tensor) -> Tensor:
    """int32 [B, 2n] -> float32 of the same shape, standard normal (Box and Muller 1958)."""
    first, second = uniform(bits).chunk(2, dim=1)
    radius, angle = (-2 * first.log()).sqrt(), 2 * math.pi * second
    return torch.cat([radius * angle.cos(), radius * angle.sin()], dim=1)
