"""Captioned pictures in tar shards, as img2dataset writes them: key.jpg, key.txt, key.json.

Example k is a function of (data, settings, k) alone, so a run resumes at the very next example, on
any number of ranks and workers. What cannot be used is left out, counted by reason, and another
example takes its place, found from k as well.
"""

import json
import logging
import random
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from open_imagen.config import plain
from open_imagen.data.block_cache import RemoteReader, shared_cache
from open_imagen.data.caption_text import decode_text, joined_captions
from open_imagen.data.images import SkippedExample
from open_imagen.data.order import Order
from open_imagen.data.registry import SOURCES
from open_imagen.data.shard_catalog import Catalog, Indexed, Scanned, present
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

log = logging.getLogger("open_imagen.training")

GIB = 1 << 30
MANY = 1_000
"""Shards from which an index is suggested."""


@dataclass(frozen=True, kw_only=True)
class ShardsConfig(TolerantConfig):
    """Pictures and captions in tar files."""

    path: str | tuple[str, ...]
    """Tar files: a path, a pattern with *, {00000..00099} or {a,b}, a folder, a .txt file that
    lists them, or a list of these; or URLs in the same way."""
    kind: str = "shards"
    caption: str | tuple[str, ...] = "txt"
    """Member that holds the caption; "json:KEY" for a key of the JSON member; or several."""
    index: str = ""
    """Folder of an index that imagen data index has written of these shards: the start takes
    seconds and little memory, however many there are."""
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
            DataError: there are no such files, no captioned picture in them, or the index is not
                of them.
        """
        path = config.path if isinstance(config.path, str) else ", ".join(config.path)
        super().__init__(path, config)
        names = expand(config.path)
        self.num_shards = len(names)
        self.catalog: Catalog
        if config.index:
            self.catalog = self._open_index(names)
        else:
            self.catalog = self._scan(names)
        self.skipped["truncated tar"] = self.catalog.num_truncated
        self.skipped = +self.skipped
        counts = self.catalog.counts
        self._places = array("q", (k for k, count in enumerate(counts) if count))
        if not self._places:
            raise DataError(f"There is no example in {path}.")
        self.order = Order(
            array("q", (counts[k] for k in self._places)), config.seed, config.window
        )
        captions = [suffix.partition(":")[0] for suffix in config.caption_members]
        self._suffixes = [*captions, "", *(["json"] if self.where is not None else [])]
        self._caption_suffixes = captions

    def _scan(self, names: list[str]) -> Catalog:
        if len(names) > MANY:
            log.info(
                "Reading the headers of %s shards. imagen data index does it once for all runs.",
                f"{len(names):,}",
            )
        readers = [self._open(name) for name in names]
        catalog = Scanned(readers, index_of)
        remote = [reader for reader in readers if isinstance(reader, RemoteReader)]
        self._read_directly(remote, sum(reader.size for reader in remote))
        return catalog

    def _open_index(self, names: list[str]) -> Catalog:
        def open_shard(name: str) -> Reader:
            reader = self._open(name)
            if isinstance(reader, RemoteReader):
                self._read_directly([reader], catalog.total_bytes)
            return reader

        catalog = Indexed(Path(self.config.index).expanduser(), names, open_shard)
        return catalog

    def _open(self, name: str) -> Reader:
        config = self.config
        return open_reader(name, config.cache_gib, config.tries, config.timeout)

    def _read_directly(self, readers: list[RemoteReader], size: int) -> None:
        """Read no whole blocks where an epoch jumps about in more than the cache holds."""
        for reader in readers:
            reader.direct = not self.config.window and size > reader.cache.capacity

    def __len__(self) -> int:
        return self.order.total

    def read(self, index: int, attempt: int, rng: random.Random) -> Sample:
        """Example ``index``, or a stand-in."""
        # Stand-ins are drawn far away: neighbours have their own turn.
        place = index if not attempt else rng.randrange(self.order.total)
        shard, number = self.order[place]
        where = self._places[shard]
        members = self.catalog.read(where, number, self._suffixes)
        columns = self.where is not None
        key = f"{self.path} {where}:{number}"
        return sample_of(key, members, self.config.caption_members, columns)

    def captions(self) -> Iterator[str]:
        """Every caption that can be read, shard by shard."""
        return self.chooser.possible(self._usable_captions())

    def _usable_captions(self) -> Iterator[tuple[str, ...]]:
        which = self.config.caption_members
        for shard, count in enumerate(self.catalog.counts):
            for number in range(count):
                try:
                    members = self.catalog.read(shard, number, self._caption_suffixes)
                    yield _captions(members, f"{self.path} {shard}:{number}", which)
                except SkippedExample:
                    continue

    def describe(self) -> dict[str, Any]:
        """What it is, for model cards and logs."""
        settings: dict[str, Any] = plain(self.config)
        return {**settings, "examples": len(self), "shards": self.num_shards}


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
    wanted = [*(suffix.partition(":")[0] for suffix in which), "", *(["json"] if columns else [])]
    there = present(wanted, example.members)
    places = [example.members[suffix] for suffix in there]
    members = dict(zip(there, read_members(reader, places), strict=True)) if there else {}
    return sample_of(example.key, members, which, columns)


def sample_of(
    key: str, members: Mapping[str, bytes], which: tuple[str, ...], columns: bool = False
) -> Sample:
    """An example of its members.

    Raises:
        SkippedExample: there is no picture, or no caption that can be used.
    """
    if not members:
        raise SkippedExample("no caption", key)
    captions = _captions(members, key, which)
    picture = next((suffix for suffix in PICTURES if suffix in members), None)
    if picture is None:
        raise SkippedExample("no picture", key)
    return Sample(members[picture], captions, _columns(members) if columns else {})


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
