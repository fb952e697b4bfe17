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


@dataclass(slots=True)
class Example:
    """Where the members of one example lie: suffix -> (offset, size)."""

    key: str
    members: dict[str, tuple[int, int]] = field(default_factory=dict)
    span: tuple[int, int] | None = field(default=None, compare=False)
    """Offset and size of the part of the tar file that holds its members, headers included, and
    nothing else; None where there is no such part, or it is not known."""


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
    def size(self) -> int:
        """Size of the file in bytes."""

    def read(self, offset: int, size: int) -> bytes:
        """``size`` bytes from ``offset`` on, fewer at the end of the file.

        Raises:
            SkippedExample: the file is gone, or cannot be read.
        """
        ...


class LocalReader:
    """Ranges of bytes of a file on this machine."""

    def __init__(self, name: str) -> None:
        """Find the size of a file.

        Raises:
            DataError: there is no such file.
        """
        self.name = name
        try:
            self.size = Path(name).stat().st_size
        except OSError as error:
            raise DataError(f"The shard {name} cannot be read: {error.strerror}.") from error

    def read(self, offset: int, size: int) -> bytes:
        """Read ``size`` bytes from ``offset`` on; see Reader."""
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
    whole, last = True, None
    try:
        for name, first, offset, size, link in _members(reader):
            key, _, suffix = _split(name)
            if link:  # the content of an earlier member under another name
                other, _, kind = _split(link)
                place = examples[other].members.get(kind) if other in examples else None
                if place:
                    linked = examples.setdefault(key, Example(key))
                    linked.members[suffix], linked.span = place, None
                last = None
                continue
            if offset + size > reader.size:
                whole = False
                break
            example = examples.get(key)
            if example is None:
                example = examples[key] = Example(key, span=(first, 0))
            elif last is not example:
                example.span = None
            if example.span is not None:
                begin = example.span[0]
                example.span = (begin, offset + _padded(size) - begin)
            example.members[suffix] = (offset, size)
            last = example
    except _Truncated:
        whole = False
    return Shard(reader.name, list(examples.values()), whole)


def read_span(name: str, data: bytes) -> dict[str, bytes]:
    """The members in the part of a tar file that holds one example: suffix -> content.

    Raises:
        SkippedExample: it holds something else: the file has changed.
    """
    found: dict[str, bytes] = {}
    keys = set()
    try:
        for member, _, offset, size, link in _members(_Bytes(name, data)):
            key, _, suffix = _split(member)
            keys.add(key)
            if link or offset + size > len(data):
                raise _Truncated
            found[suffix] = data[offset : offset + size]
    except _Truncated:
        keys = set()
    if len(keys) != 1:
        raise SkippedExample("changed shard", name)
    return found


class _Bytes:
    """Bytes in memory as a Reader."""

    def __init__(self, name: str, data: bytes) -> None:
        self.name, self.data, self.size = name, data, len(data)

    def read(self, offset: int, size: int) -> bytes:
        return self.data[offset : offset + size]


def _padded(size: int) -> int:
    """A size in whole blocks."""
    return (size + BLOCK - 1) // BLOCK * BLOCK


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


def _members(reader: Reader, piece: int = 1 << 16) -> Iterator[tuple[str, int, int, int, str]]:
    """The members of a tar file: (name, offset, size, "") of every regular file.

    Of a hard link (name, 0, 0, the name that it links to). GNU and pax long names are understood.

    A member starts with its first header, its content is at the offset.
    """
    place, longer, longer_link = 0, "", ""
    start_of_member = 0
    buffer, start = b"", 0
    while place + BLOCK <= reader.size:
        if not start <= place <= start + len(buffer) - BLOCK:
            buffer, start = reader.read(place, piece), place
        header = buffer[place - start : place - start + BLOCK]
        if header == bytes(BLOCK):
            return
        size = _checked_size(header)
        kind, offset = header[156:157], place + BLOCK
        if kind == b"L":
            longer = _text(reader.read(offset, size))
        elif kind == b"K":
            longer_link = _text(reader.read(offset, size))
        elif kind == b"x":
            names = _pax_names(reader.read(offset, size))
            longer = names.get(b"path", longer)
            longer_link = names.get(b"linkpath", longer_link)
        else:
            prefix = _text(header[345:500]) if header[257:262] == b"ustar" else ""
            name = longer or (f"{prefix}/" if prefix else "") + _text(header[:100])
            if kind in (b"0", b"\0", b"7"):
                yield name, start_of_member, offset, size, ""
            elif kind == b"1":
                yield name, start_of_member, 0, 0, longer_link or _text(header[157:257])
                size = 0
            longer = longer_link = ""
            start_of_member = offset + _padded(size)
        place = offset + _padded(size)
    if place != reader.size:
        raise _Truncated


def _checked_size(header: bytes) -> int:
    """The size of a member, from its header, whose sum must be right."""
    try:
        size = _number(header[124:136])
        total = sum(header[:148]) + 8 * 32 + sum(header[156:])
        if len(header) < BLOCK or size < 0 or total != _number(header[148:156]):
            raise _Truncated
    except ValueError as error:
        raise _Truncated from error
    return size


def _number(field: bytes) -> int:
    """A number of a tar header: octal, or binary where it would not fit."""
    if field[:1] == b"\x80":
        return int.from_bytes(field[1:], "big")
    return int(field.strip(b" \0") or b"0", 8)


def _text(field: bytes) -> str:
    return field.split(b"\0")[0].decode("utf-8", "replace")


def _pax_names(data: bytes) -> dict[bytes, str]:
    """The values of a pax header: lines of "length key=value"."""
    names: dict[bytes, str] = {}
    while data:
        try:
            length = int(data.split(b" ", 1)[0])
        except ValueError as error:
            raise _Truncated from error
        if length < 1:
            raise _Truncated
        key, _, value = data[:length].split(b" ", 1)[1].rstrip(b"\n").partition(b"=")
        if key in (b"path", b"linkpath"):
            names[key] = value.decode("utf-8", "replace")
        data = data[length:]
    return names
