"""The random numbers of training: what an example draws is a function of its place in the run."""

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
"""Which stream of an example's numbers; digits of pi, any others would do."""


class Draws(NamedTuple):
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

    def select(self, rows: slice) -> "Draws":
        """Those of some of the images."""
        return Draws(*(part[rows] if len(part) else part for part in self))

    def repeated(self, number: int) -> "Draws":
        """The same for all images so many times over, one after another."""
        return Draws(*(torch.cat([part] * number) for part in self))

    def generators(self) -> list[torch.Generator]:
        """For what else each example draws, on the CPU. Times differ from example to example, so
        that this, too, hangs on its place alone."""
        seeds = self.t.view(torch.int32).tolist()
        return [torch.Generator().manual_seed(seed) for seed in seeds]

    @classmethod
    def make(
        cls,
        shape: Sequence[int],
        index: int,
        seed: int = 0,
        text_drop: float = 0.0,
        lowres: bool = False,
        device: torch.device | str = "cpu",
    ) -> "Draws":
        """Draw for the examples ``index`` .. ``index + B - 1`` of a run, images of ``shape``.

        What an example draws depends on the run's seed and on its place alone: not on the batch it
        comes in, nor on how many processes share the work, nor, but for rounding, on the device.
        Times walk in steps of the golden ratio, which spreads any examples in a row evenly over
        [0, 1]: a less noisy loss.
        """
        start = scrambled(seed) / 2**64
        places = range(index, index + shape[0])
        keys = [scrambled(seed, k) for k in places]
        halves = [[signed(key >> 32), signed(key & 0xFFFFFFFF)] for key in keys]
        # One small copy to the device, and nothing that waits for it.
        high, low = sent(torch.tensor(halves, dtype=torch.int32), device).unbind(1)
        times = torch.tensor([(start + k * GOLDEN) % 1 for k in places])
        drop, level, blur, warp = uniform(hashed(high, low, SCALARS, 4)).unbind(1)
        times, nothing = sent(times, device), torch.empty(0, device=device)

        def noise(stream: int, *shape: int) -> Tensor:
            size = math.prod(shape)
            numbers = normal(hashed(high, low, stream, size + size % 2))
            return numbers[:, :size].view(-1, *shape)

        eps = noise(EPS, *shape[1:])
        if not lowres:
            return cls(times, eps, drop < text_drop, level, nothing, nothing, nothing, nothing)
        points = noise(WARP, 2, POINTS, POINTS)
        lowres_noise = noise(LOWRES, *shape[1:])
        return cls(times, eps, drop < text_drop, level, lowres_noise, blur, warp, points)


def scrambled(*numbers: int) -> int:
    """64 bits that hang on every bit of these numbers (splitmix64)."""
    bits = 0
    for number in numbers:
        bits = (bits + number + 0x9E3779B97F4A7C15) & MASK
        bits = (bits ^ bits >> 30) * 0xBF58476D1CE4E5B9 & MASK
        bits = (bits ^ bits >> 27) * 0x94D049BB133111EB & MASK
        bits ^= bits >> 31
    return bits


def signed(bits: int) -> int:
    """32 bits as int32 holds them."""
    return bits - 2**32 if bits >= 2**31 else bits


def hashed(high: Tensor, low: Tensor, stream: int, number: int) -> Tensor:
    """``number`` hashes for each key of two int32 halves [B] -> int32 [B, number].

    Counters through the finaliser of MurmurHash3, once with either half of the key.
    """
    counters = torch.arange(number, dtype=torch.int32, device=high.device) * signed(0x9E3779B9)
    bits = mixed(counters[None] ^ (low ^ signed(stream))[:, None])
    return mixed(bits + high[:, None])


def mixed(bits: Tensor) -> Tensor:
    """Every bit of int32 over all others (MurmurHash3's finaliser)."""
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        bits = (bits ^ (bits >> shift & (1 << 32 - shift) - 1)) * signed(factor)
    return bits ^ (bits >> 16 & 0xFFFF)


def uniform(bits: Tensor) -> Tensor:
    """int32 -> float32 above 0 and at most 1, in steps of 2^-24."""
    return ((bits >> 8 & 0xFFFFFF).float() + 0.5) * 2.0**-24


def normal(bits: Tensor) -> Tensor:
    """int32 [B, 2n] -> float32 of the same shape, standard normal (Box and Muller 1958)."""
    first, second = uniform(bits).chunk(2, dim=1)
    radius, angle = (-2 * first.log()).sqrt(), 2 * math.pi * second
    return torch.cat([radius * angle.cos(), radius * angle.sin()], dim=1)
