"""Tar files as img2dataset and WebDataset write them: an index once, then any member at once."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from open_imagen.data.images import SkippedExample
from open_imagen.errors import DataError

BLOCK = 512
COMPRESSED = {
    "gzip": (b"\x1f\x8b", "gunzip FILE"),
    "zstd": (b"\x28\xb5\x2f\xfd", "unzstd FILE"),
    "bzip2": (b"BZh", "bunzip2 FILE"),
    "xz": (b"\xfd7zXZ\0", "unxz FILE"),
}
"""Formats of whole files: their first bytes, and the command that unpacks them."""
PICTURES = ("jpg", "jpeg", "png", "webp", "bmp", "gif", "tif", "tiff", "avif", "jfif", "jp2")


@dataclass
class Example:
    """Where the members of one example lie: suffix -> (offset, size)."""

    key: str
    members: dict[str, tuple[int, int]] = field(default_factory=dict)


@dataclass(frozen=True)
class Shard:
    """One tar file and what is in it."""

    name: str
    examples: list[Example]
    whole: bool
    """False if it ends before its last member does; what came before is there."""


class Reader(Protocol):
    """Ranges of bytes of a file, local or at a URL."""

    name: str
    """As messages name it."""

    @property
    def size(self) -> int: ...

    def read(self, offset: int, size: int) -> bytes:
        """``size`` bytes from ``offset`` on, fewer at the end of the file.

        Raises:
            SkippedExample: the file is gone, or cannot be read.
        """
        ...


class LocalReader:
    """Ranges of bytes of a file on this machine."""

    def __init__(self, name: str) -> None:
        """
        Raises:
            DataError: there is no such file.
        """
        self.name = name
        try:
            self.size = Path(name).stat().st_size
        except OSError as error:
            raise DataError(f"The shard {name} cannot be read: {error.strerror}.") from error

    def read(self, offset: int, size: int) -> bytes:
        try:
            with open(self.name, "rb", buffering=0) as file:
                file.seek(offset)
                return file.read(size)
        except FileNotFoundError as error:
            raise SkippedExample("missing file", self.name) from error
        except OSError as error:
            raise SkippedExample("unreadable file", f"{self.name}: {error}") from error


def read_members(reader: Reader, places: Sequence[tuple[int, int]]) -> list[bytes]:
    """Members of one example, in one read where they lie side by side."""
    start = min(offset for offset, _ in places)
    end = max(offset + size for offset, size in places)
    if end - start > 2 * sum(size for _, size in places) + 16 * BLOCK:
        return [reader.read(offset, size) for offset, size in places]
    data = reader.read(start, end - start)
    return [data[offset - start : offset - start + size] for offset, size in places]


def scan(reader: Reader) -> Shard:
    """The index of a tar file, from its headers alone.

    Raises:
        DataError: it is compressed.
    """
    magic = reader.read(0, 6)
    for kind, (start, unpack) in COMPRESSED.items():
        if magic.startswith(start):
            raise DataError(
                f"{reader.name} is compressed ({kind}): no example in it can be read alone.",
                f"Unpack it with: {unpack}",
            )
    examples: dict[str, Example] = {}
    whole = True
    try:
        for name, offset, size in _members(reader):
            if offset + size > reader.size:
                whole = False
                break
            key, _, suffix = _split(name)
            examples.setdefault(key, Example(key)).members[suffix] = (offset, size)
    except _Truncated:
        whole = False
    return Shard(reader.name, list(examples.values()), whole)


def to_plain(shard: Shard) -> list[list[object]]:
    """The index of a shard as JSON takes it: key, suffix, offset, size, suffix ..."""
    return [
        [one.key, *(part for suffix, place in one.members.items() for part in (suffix, *place))]
        for one in shard.examples
    ]


def from_plain(name: str, whole: bool, rows: list[list[Any]]) -> Shard:
    """The same back."""
    examples = []
    for key, *parts in rows:
        members = {parts[k]: (parts[k + 1], parts[k + 2]) for k in range(0, len(parts), 3)}
        examples.append(Example(key, members))
    return Shard(name, examples, whole)


def _split(name: str) -> tuple[str, str, str]:
    """The key of a member, up to the first dot of its file name, and the suffix after it."""
    folder, slash, file = name.rpartition("/")
    stem, dot, suffix = file.partition(".")
    return folder + slash + stem, dot, suffix.lower()


class _Truncated(Exception):
    """A header is cut off or is no header."""


def _members(reader: Reader, piece: int = 1 << 16) -> Iterator[tuple[str, int, int]]:
    """(name, offset, size) of every regular file; GNU and pax long names included."""
    place, longer = 0, ""
    buffer, start = b"", 0
    while place + BLOCK <= reader.size:
        if not start <= place <= start + len(buffer) - BLOCK:
            buffer, start = reader.read(place, piece), place
        header = buffer[place - start : place - start + BLOCK]
        if len(header) < BLOCK:
            raise _Truncated
        if header == bytes(BLOCK):
            return
        try:
            size = _number(header[124:136])
            total = sum(header[:148]) + 8 * 32 + sum(header[156:])
            if size < 0 or total != _number(header[148:156]):
                raise _Truncated
        except ValueError as error:
            raise _Truncated from error
        kind, offset = header[156:157], place + BLOCK
        if kind in (b"L", b"x"):
            data = reader.read(offset, size)
            longer = _long_name(data) if kind == b"L" else _pax_path(data) or longer
        elif kind in (b"0", b"\0"):
            prefix = header[345:500].split(b"\0")[0] if header[257:262] == b"ustar" else b""
            short = header[:100].split(b"\0")[0]
            name = (prefix + b"/" + short if prefix else short).decode("utf-8", "replace")
            yield longer or name, offset, size
            longer = ""
        place = offset + (size + BLOCK - 1) // BLOCK * BLOCK
    if place != reader.size and place > 0:
        raise _Truncated


def _number(field: bytes) -> int:
    """A number of a tar header: octal, or binary where it would not fit."""
    if field[:1] == b"\x80":
        return int.from_bytes(field[1:], "big")
    return int(field.strip(b" \0") or b"0", 8)


def _long_name(data: bytes) -> str:
    return data.split(b"\0")[0].decode("utf-8", "replace")


def _pax_path(data: bytes) -> str:
    """The path of a pax header: lines of "length key=value"."""
    while data:
        try:
            length = int(data.split(b" ", 1)[0])
        except ValueError as error:
            raise _Truncated from error
        if length < 1:
            raise _Truncated
        key, _, value = data[:length].split(b" ", 1)[1].rstrip(b"\n").partition(b"=")
        if key == b"path":
            return value.decode("utf-8", "replace")
        data = data[length:]
    return ""
