"""Where the examples of shards lie: found by reading all headers at the start, or in an index."""

import threading
from array import array
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

from open_imagen.data.shard_index import ShardIndex
from open_imagen.data.tar import PICTURES, Reader, Shard, read_members
from open_imagen.errors import DataError

MAX_READERS = 512
"""Shards of an index that are kept open."""


class Catalog(Protocol):
    """The examples of a list of shards."""

    @property
    def counts(self) -> Sequence[int]:
        """Examples of each shard."""
        ...

    @property
    def num_truncated(self) -> int:
        """Shards that end before their last member does."""
        ...

    def read(self, shard: int, number: int, suffixes: Sequence[str]) -> Mapping[str, bytes]:
        """Some members of an example, those that are there: suffix -> content. "" stands for its
        picture, whatever kind it is.

        Raises:
            SkippedExample: it cannot be read.
        """
        ...


class Scanned:
    """All headers are read at the start, and what was found is kept in memory."""

    def __init__(self, readers: Sequence[Reader], scan: Callable[[Reader], Shard]) -> None:
        self.readers = readers
        with ThreadPoolExecutor(8) as pool:
            self.shards: list[Shard] = list(pool.map(scan, readers))
        self.counts = [len(shard.examples) for shard in self.shards]
        self.num_truncated = sum(not shard.whole for shard in self.shards)

    def read(self, shard: int, number: int, suffixes: Sequence[str]) -> Mapping[str, bytes]:
        example = self.shards[shard].examples[number]
        there = present(suffixes, example.members)
        if not there:
            return {}
        places = [example.members[suffix] for suffix in there]
        return dict(zip(there, read_members(self.readers[shard], places), strict=True))


class Indexed:
    """An index on disk says where examples lie; shards are opened when they are read."""

    def __init__(self, folder: Path, names: Sequence[str], open_shard: Callable[[str], Reader]):
        """
        Raises:
            DataError: the index is not complete, or not of these shards.
        """
        self.index, self.names, self.open_shard = ShardIndex(folder, names), names, open_shard
        self.counts = array("q", self.index.counts.tobytes())
        self.num_truncated = self.index.num_truncated
        self.total_bytes = int(self.index.sizes.sum())
        self._readers: OrderedDict[int, Reader] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, shard: int, number: int, suffixes: Sequence[str]) -> Mapping[str, bytes]:
        members = self.index.read(self._reader(shard), shard, number)
        return {suffix: members[suffix] for suffix in present(suffixes, members)}

    def _reader(self, shard: int) -> Reader:
        with self._lock:
            if shard in self._readers:
                self._readers.move_to_end(shard)
                return self._readers[shard]
        name = self.names[shard]
        reader = self.open_shard(name)
        expected = int(self.index.sizes[shard])
        if reader.size != expected:
            raise DataError(
                f"The shard {reader.name} has {reader.size:,} bytes; it had {expected:,} when "
                f"{self.index.folder} was made.",
                "Build the index again, in a new folder: imagen data index.",
            )
        with self._lock:
            self._readers[shard] = reader
            while len(self._readers) > MAX_READERS:
                self._readers.popitem(last=False)
        return reader


def present(suffixes: Sequence[str], members: Mapping[str, object]) -> list[str]:
    """The suffixes that an example has, each once; "" stands for that of its picture."""
    found = []
    for suffix in suffixes:
        name = suffix or next((kind for kind in PICTURES if kind in members), "")
        if name in members:
            found.append(name)
    return list(dict.fromkeys(found))
