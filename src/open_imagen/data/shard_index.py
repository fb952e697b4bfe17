"""An index of tar shards on disk: sixteen bytes an example, read where it lies.

Memory does not grow with the number of examples: records are read by their position, and the
system's page cache, which all processes of a machine share, keeps what is hot.

    index.json    what it is an index of; written last
    names.txt     the shards, one a line
    shards.bin    of each shard: first record, examples, bytes of the file, whether it is whole
    records.bin   of each example: offset and size of its part of the tar file; or, where its
                  members do not lie side by side, of its line in members.bin
    members.bin   such lines: JSON, [suffix, offset, size, ...]
"""

import hashlib
import json
import os
import re
import struct
import threading
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from open_imagen.data.images import SkippedExample
from open_imagen.data.tar import Example, Reader, read_members, read_span
from open_imagen.errors import DataError, OpenImagenError
from open_imagen.storage import read_json

INDEX, NAMES, SHARDS, RECORDS, MEMBERS = (
    *("index.json", "names.txt", "shards.bin", "records.bin", "members.bin"),
)
FORMAT = 1
RECORD = struct.Struct("<QII")
"""Offset, size, kind."""
SPAN, LISTED = 0, 1
"""Kinds: a part of the tar file; a line of members.bin."""
MAX_SPAN = 2**32 - 1
COLUMNS = 4
"""Of shards.bin, int64."""


class Record(NamedTuple):
    """Where an example is described."""

    offset: int
    size: int
    kind: int


class ShardIndex:
    """An index that `imagen data index` has written. Threads may share it."""

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        """
        Args:
            names: the shards that it must be of, in their order.

        Raises:
            DataError: it is not complete, damaged, or of other shards.
        """
        self.folder = folder
        about = self._read_about()
        if about.get("names_sha256") != digest(names):
            raise DataError(
                f"The index {folder} is of other shards than data.path names: it has "
                f"{about.get('shards'):,}, data.path {len(names):,}.",
                "Build one of these shards with: imagen data index; or leave data.index out.",
            )
        table = np.fromfile(folder / SHARDS, dtype="<i8").reshape(-1, COLUMNS)
        if len(table) != len(names):
            raise DataError(f"The index {folder} is damaged.", "Build it again, in a new folder.")
        self.first: NDArray[np.int64] = table[:, 0]
        self.counts: NDArray[np.int64] = table[:, 1]
        self.sizes: NDArray[np.int64] = table[:, 2]
        self.num_truncated = int((table[:, 3] == 0).sum())
        self._records = _File(folder / RECORDS)
        self._members = _File(folder / MEMBERS)
        needed = int((self.first + self.counts).max(initial=0)) * RECORD.size
        if self._records.size < needed:
            raise DataError(
                f"{folder / RECORDS} is damaged: it has {self._records.size:,} of {needed:,} "
                "bytes.",
                "Build the index again, in a new folder.",
            )

    def _read_about(self) -> dict[str, object]:
        path = self.folder / INDEX
        if not path.is_file():
            raise DataError(
                f"data.index: there is no complete index in {self.folder}.",
                f"Build it with: imagen data index DATA --out {self.folder}",
            )
        try:
            about = read_json(path)
            if about["format"] != FORMAT:
                raise DataError(f"its format is {about['format']}; this version reads {FORMAT}")
        except (OpenImagenError, KeyError, TypeError) as error:
            raise DataError(
                f"{path} cannot be read: {error}.", "Build the index again, in a new folder."
            ) from error
        found: dict[str, object] = about
        return found

    def __len__(self) -> int:
        return int(self.counts.sum())

    def read(self, reader: Reader, shard: int, number: int) -> dict[str, bytes]:
        """The members of an example: suffix -> content.

        Raises:
            SkippedExample: the shard is gone, or it has changed.
        """
        at = (int(self.first[shard]) + number) * RECORD.size
        record = Record(*RECORD.unpack(self._records.read(at, RECORD.size)))
        if record.kind == SPAN:
            data = reader.read(record.offset, record.size)
            return read_span(f"{reader.name}:{number}", data)
        parts = json.loads(self._members.read(record.offset, record.size))
        suffixes = parts[0::3]
        places = list(zip(parts[1::3], parts[2::3], strict=True))
        found = dict(zip(suffixes, read_members(reader, places), strict=True))
        if any(len(data) < size for data, (_, size) in zip(found.values(), places, strict=True)):
            raise SkippedExample("changed shard", f"{reader.name}:{number}")
        return found


class _File:
    """A file that is read by position: nothing of it is held in memory."""

    def __init__(self, path: Path) -> None:
        try:
            self._file = path.open("rb", buffering=0)
        except OSError as error:
            raise DataError(
                f"{path} cannot be read: {error.strerror}.", "Build the index again."
            ) from error
        self.size = path.stat().st_size
        self._close = weakref.finalize(self, self._file.close)
        self._lock = threading.Lock()

    def read(self, offset: int, size: int) -> bytes:
        if hasattr(os, "pread"):
            return os.pread(self._file.fileno(), size, offset)
        with self._lock:
            self._file.seek(offset)
            return self._file.read(size)


def digest(names: Sequence[str]) -> str:
    """What identifies a list of shards: their file names, so that they may be moved or copied.

    That a shard is another of the same name shows when it is opened: by its size.
    """
    found = hashlib.sha256()
    for name in names:
        file = re.split(r"[/\\\\]", name.split("?")[0] if "://" in name else name)[-1]
        found.update(file.encode("utf-8", "surrogateescape") + b"\n")
    return found.hexdigest()


def pack(examples: Sequence[Example]) -> tuple[bytes, bytes]:
    """The records of a shard's examples, and its lines of members.bin, whose offsets begin at 0."""
    records, lines = bytearray(), bytearray()
    for example in examples:
        if example.span is not None and example.span[1] <= MAX_SPAN:
            records += RECORD.pack(*example.span, SPAN)
            continue
        parts = [part for suffix, at in example.members.items() for part in (suffix, *at)]
        line = json.dumps(parts).encode() + b"\n"
        records += RECORD.pack(len(lines), len(line), LISTED)
        lines += line
    return bytes(records), bytes(lines)


def shifted(records: bytes, base: int) -> bytes:
    """Records whose lines of members.bin begin at ``base``."""
    found = np.frombuffer(records, dtype=[("offset", "<u8"), ("size", "<u4"), ("kind", "<u4")])
    if not base or not (found["kind"] == LISTED).any():
        return records
    moved = found.copy()
    moved["offset"][moved["kind"] == LISTED] += np.uint64(base)
    return moved.tobytes()
