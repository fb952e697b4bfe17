"""Builds an index of shards: any number of processes, on any number of machines; resumable.

Each shard's part is a file of its own, written whole or not at all. Whoever finds all parts there
joins them. A stopped or killed command goes on where it was when it is run again.
"""

import contextlib
import json
import multiprocessing
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import IO, NamedTuple

from open_imagen.data.images import SkippedExample
from open_imagen.data.shard_index import (
    FORMAT,
    INDEX,
    MEMBERS,
    NAMES,
    RECORDS,
    SHARDS,
    digest,
    pack,
    shifted,
)
from open_imagen.data.tar import Reader, scan
from open_imagen.errors import ConfigError, DataError, OutputError
from open_imagen.locks import FileLock, InUse
from open_imagen.storage import atomic, read_json, write_json

PLAN, PARTS = "shards.json", "parts"
PER_FOLDER = 1_000
"""Parts in one folder."""

Open = Callable[[str], Reader]
Progress = Callable[[int, int], None]
"""(shards indexed, of how many)"""


class Built(NamedTuple):
    """How far an index is."""

    shards: int
    examples: int | None
    """None where the index is not complete yet."""
    missing: int
    """Shards without a part: other processes have them. Without any, the index is
    complete, or another process is joining it."""


def build_index(
    names: Sequence[str],
    out: Path,
    open_shard: Open,
    workers: int = 1,
    part: tuple[int, int] = (0, 1),
    progress: Progress | None = None,
) -> Built:
    """Index shards into a folder.

    Args:
        open_shard: a name -> its reader; must be picklable for several workers.
        part: (k, n) makes the k-th of n equal parts, for several machines.

    Raises:
        ConfigError: the folder holds an index of other shards.
        DataError: a shard cannot be read.
    """
    _claim(out, names)
    if not (out / INDEX).is_file():
        share = range(part[0], len(names), part[1])
        todo = [k for k in share if not part_path(out, k).is_file()]
        done = len(share) - len(todo)
        for finished in _scan_all(names, out, open_shard, workers, todo):
            done += finished
            if progress is not None:
                progress(done, len(share))
        missing = sum(not part_path(out, k).is_file() for k in range(len(names)))
        if missing:
            return Built(len(names), None, missing)
        if not _join(out, names):
            return Built(len(names), None, 0)
    about = read_json(out / INDEX)
    return Built(about["shards"], about["examples"], 0)


def part_path(out: Path, shard: int) -> Path:
    return out / PARTS / f"{shard // PER_FOLDER:05d}" / f"{shard:08d}.bin"


def _claim(out: Path, names: Sequence[str]) -> None:
    """Whether the folder is for these shards; of a new folder it is said."""
    plan = {"format": FORMAT, "shards": len(names), "names_sha256": digest(names)}
    path = out / PLAN
    if path.is_file():
        if read_json(path) != plan:
            raise ConfigError(
                f"--out {out} holds an index of other shards.", "Choose another folder."
            )
        return
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"--out {out} is not an empty folder.", "Choose another folder.")
    write_json(path, plan)


def _scan_all(
    names: Sequence[str], out: Path, open_shard: Open, workers: int, todo: Sequence[int]
) -> Iterator[int]:
    """Write the parts of some shards; yields 1 after each."""
    if workers < 2:
        for k in todo:
            write_part(open_shard, names[k], part_path(out, k))
            yield 1
        return
    # Not forked: this process may hold threads.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context) as pool:
        waiting = iter(todo)
        running = set()
        try:
            for k in waiting:
                running.add(pool.submit(write_part, open_shard, names[k], part_path(out, k)))
                if len(running) >= 4 * workers:
                    finished = next(as_completed(running))
                    running.remove(finished)
                    finished.result()
                    yield 1
            for finished in as_completed(running):
                finished.result()
                yield 1
        finally:
            pool.shutdown(cancel_futures=True)


def write_part(open_shard: Open, name: str, path: Path) -> None:
    """Scan one shard and write its part of the index.

    Raises:
        DataError: it cannot be read, or is no tar file.
    """
    try:
        reader = open_shard(name)
        shard = scan(reader)
        size = reader.size
    except SkippedExample as error:
        raise DataError(f"The shard {name} cannot be read: {error}.") from error
    records, lines = pack(shard.examples)
    facts = {"examples": len(shard.examples), "size": size, "whole": shard.whole}
    header = json.dumps({**facts, "records": len(records), "lines": len(lines)}).encode()
    with atomic(path) as temporary:
        temporary.write_bytes(struct.pack("<I", len(header)) + header + records + lines)


class _Part(NamedTuple):
    examples: int
    size: int
    whole: bool
    records: bytes
    lines: bytes


def _read_part(path: Path) -> _Part:
    data = path.read_bytes()
    try:
        [length] = struct.unpack_from("<I", data)
        facts = json.loads(data[4 : 4 + length])
        begin, middle = 4 + length, 4 + length + facts["records"]
        end = middle + facts["lines"]
        if len(data) != end:
            raise ValueError(f"it has {len(data):,} of {end:,} bytes")
    except (ValueError, KeyError, struct.error) as error:
        raise DataError(f"{path} is damaged: {error}.", "Remove it, and run this again.") from error
    return _Part(
        facts["examples"], facts["size"], facts["whole"], data[begin:middle], data[middle:end]
    )


def _join(out: Path, names: Sequence[str]) -> bool:
    """Make one index of all parts, which are then removed; False if another process does."""
    try:
        lock = FileLock(out / ".lock", f"The index {out}")
    except InUse:  # another process has found all parts, too
        return False
    try:
        if (out / INDEX).is_file():
            return True
        with contextlib.ExitStack() as stack:
            places = [stack.enter_context(atomic(out / n)) for n in (SHARDS, RECORDS, MEMBERS)]
            files = [stack.enter_context(place.open("wb")) for place in places]
            paths = (part_path(out, k) for k in range(len(names)))
            examples = _write_joined(files[0], files[1], files[2], paths)
            with atomic(out / NAMES) as listed:
                listed.write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
            for file in files:
                file.close()
        about = {"format": FORMAT, "shards": len(names), "examples": examples}
        write_json(out / INDEX, {**about, "names_sha256": digest(names)})
        _remove_parts(out, len(names))
        return True
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        raise OutputError(f"Cannot write in {out}: {error.strerror}.", "Make room.") from error
    finally:
        lock.release()


def _write_joined(
    shards: IO[bytes], records: IO[bytes], members: IO[bytes], paths: Iterable[Path]
) -> int:
    """Append all parts; the number of examples."""
    first = base = 0
    for path in paths:
        part = _read_part(path)
        shards.write(struct.pack("<4q", first, part.examples, part.size, int(part.whole)))
        records.write(shifted(part.records, base))
        members.write(part.lines)
        first += part.examples
        base += len(part.lines)
    return first


def _remove_parts(out: Path, number: int) -> None:
    with contextlib.suppress(OSError):  # they harm nobody
        for k in range(number):
            part_path(out, k).unlink(missing_ok=True)
        for folder in sorted((out / PARTS).iterdir()):
            folder.rmdir()
        (out / PARTS).rmdir()
