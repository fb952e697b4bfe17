"""Endless shuffled order without any list: the place of example k is computed from k alone."""

import functools
import hashlib
from array import array
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

ROUNDS = 4


class Permutation:
    """A random order of 0 .. n-1 in constant memory, another for every key.

    A balanced Feistel network over the next even number of bits; places that fall outside are
    walked on until they fall inside (Black and Rogaway 2002).

    >>> sorted(Permutation(7, "a")[k] for k in range(7))
    [0, 1, 2, 3, 4, 5, 6]
    """

    def __init__(self, n: int, key: str) -> None:
        self.n = n
        self.half = max(1, ((n - 1).bit_length() + 1) // 2)
        seed = hashlib.sha256(key.encode()).digest()
        self.keys = [int.from_bytes(seed[8 * r : 8 * r + 8], "little") for r in range(ROUNDS)]

    def __getitem__(self, place: int) -> int:
        if not 0 <= place < self.n:
            raise IndexError(place)
        while True:
            place = self._once(place)
            if place < self.n:
                return place

    def _once(self, value: int) -> int:
        mask = (1 << self.half) - 1
        left, right = value >> self.half, value & mask
        for key in self.keys:
            # splitmix64's finisher: cheap, and every bit of its output hangs on every bit in.
            mixed = (right + key) * 0x9E3779B97F4A7C15 & 0xFFFFFFFFFFFFFFFF
            mixed = (mixed ^ mixed >> 30) * 0xBF58476D1CE4E5B9 & 0xFFFFFFFFFFFFFFFF
            mixed = (mixed ^ mixed >> 27) * 0x94D049BB133111EB & 0xFFFFFFFFFFFFFFFF
            left, right = right, left ^ (mixed ^ mixed >> 31) & mask
        return left << self.half | right


permutation = functools.lru_cache(64)(Permutation)
"""The same, kept: consecutive examples ask for the same one."""


class Order:
    """Epoch after epoch, each in its own order: (shard, number in it) of example k.

    All shards are shuffled into one order, or, with a ``window``, so many shards at a time, taken
    in a shuffled order: then few files are read at once, as a disk or a network likes it.
    """

    def __init__(self, sizes: Sequence[int], seed: int, window: int = 0) -> None:
        # Arrays: there may be a hundred thousand shards.
        self.sizes, self.seed, self.window = array("q", sizes), seed, window
        self.total = sum(self.sizes)
        self._epoch: tuple[int, list[Sequence[int]], list[int], list[Sequence[int]]] | None = None

    def __getitem__(self, index: int) -> tuple[int, int]:
        epoch, place = divmod(index, self.total)
        groups, ends, inner = self._of(epoch)
        group = bisect_right(ends, place)
        begin = ends[group - 1] if group else 0
        size = ends[group] - begin
        number = permutation(size, f"within {self.seed} {epoch} {group}")[place - begin]
        member = bisect_right(inner[group], number)
        first = inner[group][member - 1] if member else 0
        return groups[group][member], number - first

    def _of(self, epoch: int) -> tuple[list[Sequence[int]], list[int], list[Sequence[int]]]:
        """The groups of shards of an epoch, where each ends, and where each shard ends in it."""
        if self._epoch is None or self._epoch[0] != epoch:
            count = len(self.sizes)
            if self.window:
                shuffled = Permutation(count, f"shards {self.seed} {epoch}")
                shards: Sequence[int] = array("q", (shuffled[k] for k in range(count)))
                step = self.window
            else:
                shards, step = range(count), count
            groups = [shards[k : k + step] for k in range(0, count, step)]
            inner: list[Sequence[int]] = [
                array("q", accumulate(self.sizes[shard] for shard in group)) for group in groups
            ]
            ends = list(accumulate(one[-1] for one in inner))
            self._epoch = (epoch, groups, ends, inner)
        return self._epoch[1:]


class Interleaved:
    """Several endless streams as one, in fixed shares: (stream, position in it) of example k.

    Shares hold exactly in every block of ``block`` examples, whose inner order is shuffled.
    """

    def __init__(self, weights: Sequence[float], seed: int, block: int = 1000) -> None:
        self.seed, self.block = seed, block
        total = sum(weights)
        exact = [block * weight / total for weight in weights]
        self.counts = [int(share) for share in exact]
        # What rounding down left over goes to the largest remainders.
        by_rest = sorted(range(len(weights)), key=lambda k: self.counts[k] - exact[k])
        for k in by_rest[: block - sum(self.counts)]:
            self.counts[k] += 1
        self.ends = list(accumulate(self.counts))

    def __getitem__(self, index: int) -> tuple[int, int]:
        block, place = divmod(index, self.block)
        number = permutation(self.block, f"mixture {self.seed} {block}")[place]
        stream = bisect_right(self.ends, number)
        first = self.ends[stream - 1] if stream else 0
        return stream, block * self.counts[stream] + number - first
