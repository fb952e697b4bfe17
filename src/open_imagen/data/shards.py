"""Captioned pictures in tar shards, as img2dataset writes them: key.jpg, key.txt, key.json.

Example k is a function of (data, settings, k) alone, so a run resumes at the very next example, on
any number of ranks and workers. What cannot be used is left out, counted by reason, and another
example takes its place, found from k as well.
"""

import json
import random
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from open_imagen.config import plain
from open_imagen.data.block_cache import RemoteReader, shared_cache
from open_imagen.data.caption_text import decode_text, joined_captions
from open_imagen.data.images import SkippedExample
from open_imagen.data.order import Order
from open_imagen.data.registry import SOURCES
from open_imagen.data.shard_names import expand
from open_imagen.data.tar import (
    PICTURES,
    Example,
    LocalReader,
    Reader,
    Shard,
    from_plain,
    read_members,
    scan,
    to_plain,
)
from open_imagen.data.tolerant import Sample, Tolerant, TolerantConfig
from open_imagen.errors import ConfigError, DataError

GIB = 1 << 30


@dataclass(frozen=True, kw_only=True)
class ShardsConfig(TolerantConfig):
    """Pictures and captions in tar files."""

    path: str | tuple[str, ...]
    """Tar files: a path, a pattern with *, {00000..00099} or {a,b}, a folder, a .txt file that
    lists them, or a list of these; or URLs in the same way."""
    kind: str = "shards"
    caption: str | tuple[str, ...] = "txt"
    """Member that holds the caption; "json:KEY" for a key of the JSON member; or several."""
    window: int = 0
    """Number of shards that are shuffled together, for slow disks and networks; 0 for all."""
    cache_gib: float = 20.0
    """GiB of disk cache for shards at URLs, shared by all runs; 0 for none."""
    tries: int = 10
    """How often a URL is tried in a row without progress before the run stops."""
    timeout: float = 30.0
    """Seconds without a byte from a URL before another try."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.refuse_buckets()
        if self.window < 0:
            raise ConfigError(f"data.window = {self.window} must be at least 0.")
        if not self.caption or not self.path:
            raise ConfigError("data.caption and data.path must not be empty.")
        for name, least in (("cache_gib", 0.0), ("tries", 1), ("timeout", 0.001)):
            if not least <= getattr(self, name) < float("inf"):
                raise ConfigError(
                    f"data.{name} = {getattr(self, name)} must be at least {least:g}."
                )

    @property
    def caption_members(self) -> tuple[str, ...]:
        """The suffixes of the members that hold captions."""
        return (self.caption,) if isinstance(self.caption, str) else self.caption


def open_reader(
    name: str, cache_gib: float = 20.0, tries: int = 10, timeout: float = 30.0
) -> Reader:
    """Open a shard, local or at a URL.

    Raises:
        DataError: there is no such file, or no library here reads the URL.
    """
    if "://" not in name:
        return LocalReader(name)
    return RemoteReader(name, shared_cache(int(cache_gib * GIB)), tries, timeout)


def index_of(reader: Reader) -> Shard:
    """What is in a shard; of one at a URL, as it was found when it was first read."""
    if not isinstance(reader, RemoteReader):
        return scan(reader)

    def make() -> dict[str, Any]:
        shard = scan(reader)
        if not shard.examples and not shard.whole:
            begin = reader.read(0, 40)
            raise DataError(f"{reader.name} is no tar file: it begins with {begin!r}.")
        return {"whole": shard.whole, "examples": to_plain(shard)}

    try:
        found = reader.saved("index.json", make)
    except SkippedExample as error:
        raise DataError(f"The shard {reader.name} cannot be read: {error}.") from error
    return from_plain(reader.name, found["whole"], found["examples"])


class Shards(Tolerant):
    """A Source of the captioned pictures in tar files."""

    config: ShardsConfig

    def __init__(self, config: ShardsConfig, device: str = "cpu") -> None:
        """Find the shards and index their examples.

        Raises:
            DataError: there are no such files, or no captioned picture in them.
        """
        path = config.path if isinstance(config.path, str) else ", ".join(config.path)
        super().__init__(path, config)
        options = (config.cache_gib, config.tries, config.timeout)
        self.readers = [open_reader(name, *options) for name in expand(config.path)]
        with ThreadPoolExecutor(8) as pool:
            self.shards: list[Shard] = list(pool.map(index_of, self.readers))
        self.skipped["truncated tar"] = sum(not shard.whole for shard in self.shards)
        self.skipped = +self.skipped
        kept = [(k, shard) for k, shard in enumerate(self.shards) if shard.examples]
        if not kept:
            raise DataError(f"There is no example in {path}.")
        self._places = [k for k, _ in kept]
        self.order = Order([len(shard.examples) for _, shard in kept], config.seed, config.window)
        self._read_directly()

    def _read_directly(self) -> None:
        """Read no whole blocks where an epoch jumps about in more than the cache holds."""
        remote = [reader for reader in self.readers if isinstance(reader, RemoteReader)]
        size = sum(reader.size for reader in remote)
        for reader in remote:
            reader.direct = not self.config.window and size > reader.cache.capacity

    def __len__(self) -> int:
        return self.order.total

    def read(self, index: int, attempt: int, rng: random.Random) -> Sample:
        """Example ``index``, or a stand-in."""
        # Stand-ins are drawn far away: neighbours have their own turn.
        place = index if not attempt else rng.randrange(self.order.total)
        shard, number = self.order[place]
        where = self._places[shard]
        example = self.shards[where].examples[number]
        columns = self.where is not None
        return read_example(self.readers[where], example, self.config.caption_members, columns)

    def captions(self) -> Iterator[str]:
        """Every caption that can be read, shard by shard."""
        return self.chooser.possible(self._usable_captions())

    def _usable_captions(self) -> Iterator[tuple[str, ...]]:
        for reader, shard in zip(self.readers, self.shards, strict=True):
            for example in shard.examples:
                try:
                    yield read_captions(reader, example, self.config.caption_members)
                except SkippedExample:
                    continue

    def describe(self) -> dict[str, Any]:
        """What it is, for model cards and logs."""
        settings: dict[str, Any] = plain(self.config)
        return {**settings, "examples": len(self), "shards": len(self.shards)}


SOURCES.register("shards")((ShardsConfig, Shards))


def read_example(
    reader: Reader, example: Example, which: tuple[str, ...], columns: bool = False
) -> Sample:
    """An example, read at once.

    Args:
        which: members that hold captions.
        columns: read the JSON member too.

    Raises:
        SkippedExample: there is no picture, or no caption that can be used.
    """
    picture = next((suffix for suffix in PICTURES if suffix in example.members), None)
    wanted = [suffix.partition(":")[0] for suffix in which]
    wanted += [*filter(None, [picture, "json" if columns else None])]
    there = [suffix for suffix in dict.fromkeys(wanted) if suffix in example.members]
    if not there:
        raise SkippedExample("no caption", example.key)
    places = [example.members[suffix] for suffix in there]
    members = dict(zip(there, read_members(reader, places), strict=True))
    captions = _captions(members, example.key, which)
    if picture is None:
        raise SkippedExample("no picture", example.key)
    return Sample(members[picture], captions, _columns(members) if columns else {})


def read_captions(reader: Reader, example: Example, which: tuple[str, ...]) -> tuple[str, ...]:
    """The captions of an example; "" for one that cannot be used.

    Raises:
        SkippedExample: there is none, it is empty, no text, or not in UTF-8.
    """
    there = {suffix.partition(":")[0] for suffix in which} & example.members.keys()
    members = {suffix: reader.read(*example.members[suffix]) for suffix in there}
    return _captions(members, example.key, which)


def _captions(members: Mapping[str, bytes], key: str, which: tuple[str, ...]) -> tuple[str, ...]:
    values = []
    error: SkippedExample | None = None
    for one in which:
        suffix, _, column = one.partition(":")
        value = None
        try:
            if suffix in members:
                text = decode_text(members[suffix])
                value = json.loads(text).get(column) if column else text
        except UnicodeDecodeError:
            error = SkippedExample("caption not UTF-8", key)
        except (ValueError, AttributeError, RecursionError) as reason:
            error = SkippedExample("no caption", f"{key}: {reason}")
        values.append(value)
    try:
        return joined_captions(values)
    except SkippedExample as other:
        raise error or other from other


def _columns(members: Mapping[str, bytes]) -> Mapping[str, Any]:
    """What the JSON member says of an example."""
    try:
        found = json.loads(decode_text(members["json"]))
    except (KeyError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
