"""What sources of found pictures share: they leave out what cannot be used, and count it."""

import random
import threading
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch

from open_imagen.data.images import MAX_PIXELS, SkippedExample, Square
from open_imagen.errors import ConfigError, DataError
from open_imagen.types import Batch

ATTEMPTS = 100
"""Examples tried in place of a skipped one before the data are given up."""
ENOUGH = 200
"""Examples after which the share of skipped ones is checked."""


@dataclass(frozen=True, kw_only=True)
class TolerantConfig:
    """The settings that all sources of found pictures have."""

    size: int = 64
    """Side of the pictures: the short side is scaled to it, then the centre is cut out."""
    crop: int = 0
    """Learn from random square crops of this side; 0 for whole pictures."""
    lowres: int = 0
    """Side of the low-resolution input of the whole picture; 0 for base models."""
    seed: int = 0
    """Of the order, which differs in every epoch."""
    workers: int = 2
    """Threads that decode a batch."""
    max_bad: float = 0.1
    """Largest share of skipped examples before the run stops."""
    max_pixels: int = MAX_PIXELS
    """Larger pictures are refused as decompression bombs."""

    def __post_init__(self) -> None:
        check_squares(self.size, self.crop, self.lowres)
        if not 0 <= self.max_bad <= 1:
            raise ConfigError(f"data.max_bad = {self.max_bad} must be between 0 and 1.")
        for name in ("workers", "max_pixels"):
            if getattr(self, name) < 1:
                raise ConfigError(f"data.{name} = {getattr(self, name)} must be at least 1.")


class Tolerant:
    """A Source that skips examples it cannot use: it counts them by reason and replaces them.

    Attributes:
        skipped: reason -> how many examples were skipped for it, since this source was opened.
    """

    def __init__(self, path: str, config: TolerantConfig) -> None:
        self.path, self.seed = path, config.seed
        self.max_bad, self.workers = config.max_bad, config.workers
        self.skipped: Counter[str] = Counter()
        self._seen = 0
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(self.workers) if self.workers > 1 else None

    def read(self, index: int, attempt: int, rng: random.Random) -> tuple[Square, str]:
        """The square and caption of example ``index``, or of a stand-in for it, found from these
        numbers alone.

        Raises:
            SkippedExample: it cannot be learned from.
        """
        raise NotImplementedError

    def batch(self, index: int, size: int) -> Batch:
        """Examples index to index + size - 1.

        Raises:
            DataError: more than ``max_bad`` of the examples were skipped; the message counts them.
        """
        # Several examples a task: threads hand over seldom, and still end at about the same time.
        step = max(1, size // (8 * self.workers))
        each = self._pool.map if self._pool else map
        tasks = [range(k, min(k + step, index + size)) for k in range(index, index + size, step)]
        made = [example for some in each(self._examples, tasks) for example in some]
        self._seen += size
        bad = sum(self.skipped.values())
        if self._seen >= ENOUGH and bad > self.max_bad * (self._seen + bad):
            raise DataError(
                f"{bad:,} of {self._seen + bad:,} examples of {self.path} were skipped "
                f"({describe_counts(self.skipped)}), more than data.max_bad = {self.max_bad} "
                "allows.",
                "Look at the data with: imagen data check; or raise data.max_bad.",
            )
        lowres = [square.lowres for square, _ in made if square.lowres is not None]
        return Batch(
            torch.stack([square.image for square, _ in made]),
            [caption for _, caption in made],
            index,
            torch.stack(lowres) if lowres else None,
        )

    def _examples(self, indices: Iterable[int]) -> list[tuple[Square, str]]:
        return [self._example(index) for index in indices]

    def _example(self, index: int) -> tuple[Square, str]:
        """Example ``index``, or the first stand-in that can be used."""
        rng = random.Random(f"crop {self.seed} {index}")
        for attempt in range(ATTEMPTS):
            try:
                return self.read(index, attempt, rng)
            except SkippedExample as error:
                if not attempt:
                    with self._lock:
                        self.skipped[error.reason] += 1
        raise DataError(
            f"{ATTEMPTS} examples of {self.path} in a row were skipped "
            f"({describe_counts(self.skipped)})."
        )


def check_squares(size: int, crop: int, lowres: int) -> None:
    """Whether the sides of pictures, crops and low-resolution inputs go together.

    Raises:
        ConfigError: they do not.
    """
    if size < 8:
        raise ConfigError(f"data.size = {size} must be at least 8.")
    if crop < 0 or lowres < 0:
        raise ConfigError(f"data.crop = {crop} and data.lowres = {lowres} must be at least 0.")
    if lowres and size % lowres:
        raise ConfigError(f"data.lowres = {lowres} must divide data.size = {size}.")
    factor = size // lowres if lowres else 1
    if crop and (crop > size or crop % factor):
        raise ConfigError(
            f"data.crop = {crop} must be a multiple of {factor}, at most data.size = {size}."
        )


def describe_counts(counts: Counter[str]) -> str:
    """Counts by reason, the largest first.

    >>> describe_counts(Counter({"not a picture": 2, "no caption": 5}))
    'no caption 5, not a picture 2'
    """
    return ", ".join(f"{reason} {count:,}" for reason, count in counts.most_common() if count)
