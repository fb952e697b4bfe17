"""Files at URLs in large blocks, kept on disk between runs and shared by processes.

`cache_directory()/shards/<hash of the URL>/` holds ``blocks/`` and what callers add.
"""

import contextlib
import functools
import hashlib
import json
import threading
import time
import warnings
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from open_imagen.data.remote import FileChanged, FileState, NoRanges, PassingError, Remote, shown
from open_imagen.errors import DataError, OpenImagenWarning, OutputError
from open_imagen.locks import FileLock, InUse
from open_imagen.storage import atomic, cache_directory, write_text

BLOCK = 1 << 23
"""Size of a block in bytes."""
IN_MEMORY = 8
"""Blocks that a process keeps in memory where they cannot be on disk."""
WRITES_PER_LOOK = 16
"""Blocks written between two looks at how much the cache holds."""
POLL = 0.05
"""Seconds between two looks at a lock that another process holds."""


class BlockCache:
    """The folder of all blocks, with a limit on their bytes."""

    def __init__(self, limit: int) -> None:
        """Open the cache.

        Args:
            limit: bytes that blocks on disk may take, of all runs together; 0 for none on disk.
        """
        self.limit = limit
        self._memory: OrderedDict[tuple[str, int], bytes] = OrderedDict()
        self._lock = threading.Lock()
        self._written = 0

    @property
    def capacity(self) -> int:
        """Capacity in bytes."""
        return max(self.limit, IN_MEMORY * BLOCK)

    def folder(self, url: str) -> Path | None:
        """The cache folder of a URL."""
        if not self.limit:
            return None
        return cache_directory() / "shards" / hashlib.sha256(url.encode()).hexdigest()[:32]

    def get(self, url: str, state: FileState, number: int) -> bytes | Path | None:
        """A block, or the file that it is in."""
        with self._lock:
            if (url, number) in self._memory:
                self._memory.move_to_end((url, number))
                return self._memory[url, number]
        path = self._path(url, state, number)
        if path is None:
            return None
        try:
            whole = path.stat().st_size == min(BLOCK, state.size - number * BLOCK)
        except OSError:
            return None
        return path if whole else None

    def put(self, url: str, state: FileState, number: int, data: bytes) -> None:
        """Keep a block on disk, or in memory where that fails."""
        path = self._path(url, state, number)
        if path is not None:
            try:
                with atomic(path) as temporary:
                    temporary.write_bytes(data)
                self._make_room()
                return
            except OutputError as error:
                self.limit = 0
                warnings.warn(
                    f"Shards are no longer kept on disk: {error}", OpenImagenWarning, stacklevel=2
                )
        with self._lock:
            self._memory[url, number] = data
            while len(self._memory) > IN_MEMORY:
                self._memory.popitem(last=False)

    def _path(self, url: str, state: FileState, number: int) -> Path | None:
        folder = self.folder(url)
        if folder is None:
            return None
        version = hashlib.sha256(f"{state.size} {state.version}".encode()).hexdigest()[:8]
        return folder / "blocks" / f"{version}-{number:06d}.bin"

    def _make_room(self) -> None:
        """Remove the blocks that were read longest ago if all are more than the limit."""
        with self._lock:
            self._written += 1
            if (self._written - 1) % WRITES_PER_LOOK:
                return
        blocks = []
        for path in (cache_directory() / "shards").glob("*/blocks/*-*.bin"):
            with contextlib.suppress(OSError):  # another process may remove it
                status = path.stat()
                blocks.append((max(status.st_atime, status.st_mtime), status.st_size, path))
        total = sum(size for _, size, _ in blocks)
        for _, size, path in sorted(blocks):
            if total <= self.limit:
                break
            with contextlib.suppress(OSError):
                path.unlink()
            total -= size


@functools.cache
def shared_cache(limit: int) -> BlockCache:
    """The cache of this process with a limit."""
    return BlockCache(limit)


@contextlib.contextmanager
def locked(path: Path, what: str) -> Iterator[None]:
    """Wait until no other process holds a lock, and hold it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        try:
            lock = FileLock(path, what)
            break
        except InUse:
            time.sleep(POLL)
    try:
        yield
    finally:
        lock.release()


class RemoteReader:
    """Ranges of bytes of a file at a URL, read in blocks that are kept."""

    def __init__(self, url: str, cache: BlockCache, tries: int, timeout: float) -> None:
        self.name, self.url = shown(url), url
        self.cache = cache
        self.remote = Remote(url, tries, timeout)
        self.direct = False
        """Read exact ranges, for random access to more than the cache holds."""
        self._locks: dict[int, threading.Lock] = {}
        self._lock = threading.Lock()

    @property
    def size(self) -> int:
        """Size of the file in bytes."""
        return self._state.size

    @property
    def _state(self) -> FileState:
        state = self.remote.state()
        if state.size < 0:
            raise DataError(
                f"The server of {self.name} does not say how long the file is.",
                "Download the shards, and name the folder in data.path.",
            )
        return state

    def read(self, offset: int, size: int) -> bytes:
        """``size`` bytes from ``offset`` on, fewer at the end of the file.

        Raises:
            SkippedExample: the file is gone.
            DataError: the server cannot be reached, or refuses.
        """
        end = min(offset + size, self.size)
        if offset >= end:
            return b""
        if self.direct:
            with contextlib.suppress(NoRanges):
                return self.remote.read(offset, end)
        pieces = []
        for number in range(offset // BLOCK, (end - 1) // BLOCK + 1):
            start = number * BLOCK
            pieces.append(self._slice(number, max(offset - start, 0), min(end - start, BLOCK)))
        return b"".join(pieces)

    def _slice(self, number: int, start: int, end: int) -> bytes:
        """Part of a block."""
        for _ in range(3):  # another process may remove the file between two calls
            block = self._block(number)
            if isinstance(block, bytes):
                return block[start:end]
            with contextlib.suppress(FileNotFoundError), block.open("rb", buffering=0) as file:
                file.seek(start)
                return file.read(end - start)
        return self.remote.read(number * BLOCK + start, number * BLOCK + end)

    def _block(self, number: int) -> bytes | Path:
        state = self._state
        with self._lock:
            lock = self._locks.setdefault(number, threading.Lock())
        with lock:
            if (block := self.cache.get(self.url, state, number)) is not None:
                return block
            with self._shared_lock():
                if (block := self.cache.get(self.url, state, number)) is not None:
                    return block
                start = number * BLOCK
                try:
                    data = self.remote.read(start, min(start + BLOCK, state.size))
                except NoRanges:
                    data = self._download(state, number)
                except FileChanged as error:
                    place = self.cache.folder(self.url)
                    hint = f" To use the new file, remove {place}" if place else ""
                    raise DataError(str(error), error.hint + hint) from error
                self.cache.put(self.url, state, number, data)
                return data

    def _shared_lock(self) -> contextlib.AbstractContextManager[None]:
        """Processes of a machine read each block once."""
        folder = self.cache.folder(self.url)
        if folder is None:
            return contextlib.nullcontext()
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError:
            return contextlib.nullcontext()
        return locked(folder / "lock", f"The cache of {self.name}")

    def _download(self, state: FileState, wanted: int) -> bytes:
        """Keep all blocks of a file whose server gives whole files alone."""
        if state.size > self.cache.capacity:
            raise DataError(
                f"The server of {self.name} gives whole files alone (no HTTP ranges), and its "
                f"{state.size:,} bytes are more than the cache may hold.",
                "Raise data.cache_gib; or download the shards, and name the folder in data.path.",
            )

        def once(_: int) -> bytes:
            number, buffer, found = 0, bytearray(), b""
            for piece in self.remote.whole():
                buffer.extend(piece)
                while len(buffer) >= BLOCK:
                    block, buffer = bytes(buffer[:BLOCK]), buffer[BLOCK:]
                    found = block if number == wanted else found
                    self.cache.put(self.url, state, number, block)
                    number += 1
            if number * BLOCK + len(buffer) != state.size:
                raise PassingError(f"{number * BLOCK + len(buffer):,} of {state.size:,} bytes came")
            if buffer:
                found = bytes(buffer) if number == wanted else found
                self.cache.put(self.url, state, number, bytes(buffer))
            return found

        data: bytes = self.remote.persist(once)
        return data

    def saved(self, name: str, make: Any) -> Any:
        """The value of ``make()``, saved as JSON for this file and read back later.

        One process makes it, the others read it.
        """
        folder = self.cache.folder(self.url)
        if folder is None:
            return make()
        path = folder / name
        if (kept := self._kept(path)) is not None:
            return kept
        value = make()
        state = self._state
        with contextlib.suppress(OutputError):  # a full disk costs time, not the run
            record = {"url": self.name, "size": state.size, "version": state.version}
            write_text(path, json.dumps({**record, "value": value}))
        return value

    def _kept(self, path: Path) -> Any:
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            self.remote.expect(FileState(found["size"], found["version"]))
            return found["value"]
        except (OSError, ValueError, KeyError, TypeError):
            return None
