"""Captioned pictures in tar shards, as img2dataset writes them: key.jpg, key.txt, key.json.

Example k is a function of (data, settings, k) alone, so a run resumes at the very next example, on
any number of ranks and workers. What cannot be used is left out, counted by reason, and another
example takes its place, found from k as well.
"""

import json
import random
import re
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from glob import glob
from pathlib import Path
from typing import Any

import torch

from open_imagen.config import plain
from open_imagen.data.images import MAX_PIXELS, Unusable, decode, to_square
from open_imagen.data.order import Order
from open_imagen.data.registry import SOURCES
from open_imagen.data.tar import PICTURES, Example, Reader, Shard, scan
from open_imagen.errors import ConfigError, DataError
from open_imagen.types import Batch

ATTEMPTS = 100
"""Examples tried in place of an unusable one before the data are given up."""
ENOUGH = 200
"""Examples seen before the share of unusable ones means something."""


@dataclass(frozen=True, kw_only=True)
class ShardsConfig:
    """Pictures and captions in tar files."""

    path: str
    """Tar files: one, a pattern with * or {00000..00099}, a folder; or URLs in the same way."""
    kind: str = "shards"
    size: int = 64
    """Side of the pictures: the short side is scaled to it, then the centre is cut out."""
    crop: int = 0
    """Learn from random square crops of this side; 0 for whole pictures."""
    lowres: int = 0
    """Side of the low-resolution input of the whole picture; 0 for base models."""
    caption: str = "txt"
    """Member that holds the caption; "json:KEY" for a key of the JSON member."""
    seed: int = 0
    """Of the order, which differs in every epoch."""
    window: int = 0
    """Shuffle so many shards at a time, for slow disks and networks; 0 shuffles them all."""
    workers: int = 2
    """Threads that decode a batch."""
    max_bad: float = 0.1
    """Largest share of unusable examples before the run stops."""
    max_pixels: int = MAX_PIXELS
    """Larger pictures are refused as decompression bombs."""

    def __post_init__(self) -> None:
        if self.size < 8:
            raise ConfigError(f"data.size = {self.size} must be at least 8.")
        if self.lowres and self.size % self.lowres:
            raise ConfigError(f"data.lowres = {self.lowres} must divide data.size = {self.size}.")
        factor = self.size // self.lowres if self.lowres else 1
        if self.crop and (self.crop > self.size or self.crop % factor):
            raise ConfigError(
                f"data.crop = {self.crop} must be a multiple of {factor}, at most data.size = "
                f"{self.size}."
            )
        if not 0 <= self.max_bad <= 1:
            raise ConfigError(f"data.max_bad = {self.max_bad} must be between 0 and 1.")
        if self.workers < 1 or self.window < 0:
            raise ConfigError("data.workers must be at least 1 and data.window at least 0.")


class Shards:
    """A Source of the captioned pictures in tar files.

    Attributes:
        unusable: reason -> how many examples were left out for it, since this source was opened.
    """

    def __init__(self, config: ShardsConfig, device: str = "cpu") -> None:
        """
        Raises:
            DataError: there are no such files, or no captioned picture in them.
        """
        self.config = config
        self.readers = [Reader(name) for name in expand(config.path)]
        with ThreadPoolExecutor(8) as pool:
            self.shards: list[Shard] = list(pool.map(scan, self.readers))
        self.unusable: Counter[str] = Counter()
        self.unusable["truncated tar"] = sum(not shard.whole for shard in self.shards)
        self._seen = 0
        self._lock = threading.Lock()
        kept = [(k, shard) for k, shard in enumerate(self.shards) if shard.examples]
        if not kept:
            raise DataError(f"There is no example in {config.path}.")
        self._places = [k for k, _ in kept]
        self.order = Order([len(shard.examples) for _, shard in kept], config.seed, config.window)
        self._pool = ThreadPoolExecutor(config.workers) if config.workers > 1 else None

    def __len__(self) -> int:
        return self.order.total

    def batch(self, index: int, size: int) -> Batch:
        """Examples index to index + size - 1.

        Raises:
            DataError: more than ``max_bad`` of the examples are unusable; the message counts them.
        """
        # Several examples a task: threads hand over seldom, and still end at about the same time.
        step = max(1, size // (8 * self.config.workers))
        each = self._pool.map if self._pool else map
        tasks = [range(k, min(k + step, index + size)) for k in range(index, index + size, step)]
        made = [example for some in each(self._examples, tasks) for example in some]
        self._seen += size
        bad = sum(self.unusable.values())
        if self._seen >= ENOUGH and bad > self.config.max_bad * (self._seen + bad):
            raise DataError(
                f"{bad:,} of {self._seen + bad:,} examples of {self.config.path} are unusable "
                f"({told(self.unusable)}), more than data.max_bad = {self.config.max_bad} allows.",
                "Look at the data with: imagen data check; or raise data.max_bad.",
            )
        lowres = [square.lowres for square, _ in made if square.lowres is not None]
        return Batch(
            torch.stack([square.image for square, _ in made]),
            [caption for _, caption in made],
            index,
            torch.stack(lowres) if lowres else None,
        )

    def _examples(self, indices: Iterable[int]) -> list[Any]:
        return [self._example(index) for index in indices]

    def _example(self, index: int) -> Any:
        """The square and caption of example ``index``, or of the next that can be used."""
        rng = random.Random(f"crop {self.config.seed} {index}")
        for attempt in range(ATTEMPTS):
            # Stand-ins are drawn far away: neighbours have their own turn.
            place = index if not attempt else rng.randrange(self.order.total)
            shard, number = self.order[place]
            where = self._places[shard]
            try:
                return self._read(self.readers[where], self.shards[where].examples[number], rng)
            except Unusable as error:
                if not attempt:
                    with self._lock:
                        self.unusable[error.reason] += 1
        raise DataError(
            f"{ATTEMPTS} examples of {self.config.path} in a row are unusable "
            f"({told(self.unusable)})."
        )

    def _read(self, reader: Reader, example: Example, rng: random.Random) -> Any:
        config = self.config
        caption, data = read_example(reader, example, config.caption)
        image = decode(data, config.size, config.max_pixels)
        return to_square(image, config.size, config.lowres, config.crop, rng), caption

    def captions(self) -> Iterator[str]:
        """Every caption that can be read, shard by shard."""
        for reader, shard in zip(self.readers, self.shards, strict=True):
            for example in shard.examples:
                try:
                    yield read_caption(reader, example, self.config.caption)
                except Unusable:
                    continue

    def describe(self) -> dict[str, Any]:
        """What it is, for model cards and logs."""
        settings: dict[str, Any] = plain(self.config)
        return {**settings, "examples": len(self), "shards": len(self.shards)}


SOURCES.register("shards")((ShardsConfig, Shards))


def read_example(reader: Reader, example: Example, which: str) -> tuple[str, bytes]:
    """The caption of an example and the bytes of its picture.

    Raises:
        Unusable: there is no picture, or no caption that can be used.
    """
    caption = read_caption(reader, example, which)
    place = next((example.members[s] for s in PICTURES if s in example.members), None)
    if place is None:
        raise Unusable("no picture", example.key)
    return caption, reader.read(*place)


def read_caption(reader: Reader, example: Example, which: str) -> str:
    """The caption of an example.

    Raises:
        Unusable: there is none, it is empty, or not in UTF-8.
    """
    suffix, _, key = which.partition(":")
    if suffix not in example.members:
        raise Unusable("no caption", example.key)
    try:
        text = reader.read(*example.members[suffix]).decode("utf-8")
        caption = str(json.loads(text)[key] or "") if key else text
    except UnicodeDecodeError as error:
        raise Unusable("caption not UTF-8", example.key) from error
    except (ValueError, KeyError, TypeError) as error:
        raise Unusable("no caption", f"{example.key}: {error}") from error
    caption = caption.strip()
    if not caption:
        raise Unusable("empty caption", example.key)
    return caption


def expand(pattern: str) -> list[str]:
    """The tar files that a path, pattern or folder stands for, sorted.

    >>> expand("s3://b/{08..11}.tar")
    ['s3://b/08.tar', 's3://b/09.tar', 's3://b/10.tar', 's3://b/11.tar']

    Raises:
        DataError: there are none.
    """
    match = re.search(r"\{(\d+)\.\.(\d+)\}", pattern)
    if match:
        first, last = match.groups()
        before, after = pattern[: match.start()], pattern[match.end() :]
        numbers = range(int(first), int(last) + 1)
        return [name for n in numbers for name in expand(f"{before}{n:0{len(first)}d}{after}")]
    if "://" in pattern:
        return [pattern]
    path = Path(pattern)
    names = sorted(map(str, path.glob("*.tar"))) if path.is_dir() else sorted(glob(pattern))
    if not names:
        raise DataError(f"There is no tar file {pattern}.")
    return names


def told(unusable: Counter[str]) -> str:
    """Counts by reason, the largest first.

    >>> told(Counter({"not a picture": 2, "no caption": 5}))
    'no caption 5, not a picture 2'
    """
    return ", ".join(f"{reason} {count:,}" for reason, count in unusable.most_common() if count)
