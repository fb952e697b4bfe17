"""Captioned pictures in tar shards, as img2dataset writes them: key.jpg, key.txt, key.json.

Example k is a function of (data, settings, k) alone, so a run resumes at the very next example, on
any number of ranks and workers. What cannot be used is left out, counted by reason, and another
example takes its place, found from k as well.
"""

import json
import random
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from glob import glob
from pathlib import Path
from typing import Any

from open_imagen.config import plain
from open_imagen.data.caption_text import caption_of
from open_imagen.data.images import SkippedExample, Square, decode, to_square
from open_imagen.data.order import Order
from open_imagen.data.registry import SOURCES
from open_imagen.data.tar import PICTURES, Example, Reader, Shard, scan
from open_imagen.data.tolerant import Tolerant, TolerantConfig
from open_imagen.errors import ConfigError, DataError


@dataclass(frozen=True, kw_only=True)
class ShardsConfig(TolerantConfig):
    """Pictures and captions in tar files."""

    path: str
    """Tar files: one, a pattern with * or {00000..00099}, a folder; or URLs in the same way."""
    kind: str = "shards"
    caption: str = "txt"
    """Member that holds the caption; "json:KEY" for a key of the JSON member."""
    window: int = 0
    """Shuffle so many shards at a time, for slow disks and networks; 0 shuffles them all."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.window < 0:
            raise ConfigError(f"data.window = {self.window} must be at least 0.")


class Shards(Tolerant):
    """A Source of the captioned pictures in tar files."""

    def __init__(self, config: ShardsConfig, device: str = "cpu") -> None:
        """
        Raises:
            DataError: there are no such files, or no captioned picture in them.
        """
        super().__init__(config.path, config)
        self.config = config
        self.readers = [Reader(name) for name in expand(config.path)]
        with ThreadPoolExecutor(8) as pool:
            self.shards: list[Shard] = list(pool.map(scan, self.readers))
        self.skipped["truncated tar"] = sum(not shard.whole for shard in self.shards)
        kept = [(k, shard) for k, shard in enumerate(self.shards) if shard.examples]
        if not kept:
            raise DataError(f"There is no example in {config.path}.")
        self._places = [k for k, _ in kept]
        self.order = Order([len(shard.examples) for _, shard in kept], config.seed, config.window)

    def __len__(self) -> int:
        return self.order.total

    def read(self, index: int, attempt: int, rng: random.Random) -> tuple[Square, str]:
        """The square and caption of example ``index``, or of a stand-in."""
        # Stand-ins are drawn far away: neighbours have their own turn.
        place = index if not attempt else rng.randrange(self.order.total)
        shard, number = self.order[place]
        where, config = self._places[shard], self.config
        example = self.shards[where].examples[number]
        caption, data = read_example(self.readers[where], example, config.caption)
        image = decode(data, config.size, config.max_pixels)
        return to_square(image, config.size, config.lowres, config.crop, rng), caption

    def captions(self) -> Iterator[str]:
        """Every caption that can be read, shard by shard."""
        for reader, shard in zip(self.readers, self.shards, strict=True):
            for example in shard.examples:
                try:
                    yield read_caption(reader, example, self.config.caption)
                except SkippedExample:
                    continue

    def describe(self) -> dict[str, Any]:
        """What it is, for model cards and logs."""
        settings: dict[str, Any] = plain(self.config)
        return {**settings, "examples": len(self), "shards": len(self.shards)}


SOURCES.register("shards")((ShardsConfig, Shards))


def read_example(reader: Reader, example: Example, which: str) -> tuple[str, bytes]:
    """The caption of an example and the bytes of its picture.

    Raises:
        SkippedExample: there is no picture, or no caption that can be used.
    """
    caption = read_caption(reader, example, which)
    place = next((example.members[s] for s in PICTURES if s in example.members), None)
    if place is None:
        raise SkippedExample("no picture", example.key)
    return caption, reader.read(*place)


def read_caption(reader: Reader, example: Example, which: str) -> str:
    """The caption of an example.

    Raises:
        SkippedExample: there is none, it is empty, no text, or not in UTF-8.
    """
    suffix, _, key = which.partition(":")
    if suffix not in example.members:
        raise SkippedExample("no caption", example.key)
    try:
        text = reader.read(*example.members[suffix]).decode("utf-8")
        return caption_of(json.loads(text)[key] if key else text)
    except UnicodeDecodeError as error:
        raise SkippedExample("caption not UTF-8", example.key) from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise SkippedExample("no caption", f"{example.key}: {error}") from error


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
