"""The files of a gallery: images, an entry beside each that the gallery wrote, unfinished files."""

import contextlib
import json
import os
import re
import secrets
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from open_imagen.cascade.records import FORMATS, ImageHeader, read_header
from open_imagen.errors import DataError, OutputError
from open_imagen.storage import sha256

IMAGES = "pictures"
ENTRIES = "gallery.entries"
ID = re.compile(r"[A-Za-z0-9_-]{22}")
"""Ids of images: 128 random bits, so that nobody guesses one."""
UNFINISHED = re.compile(r"\.imagen-gallery-[A-Za-z0-9_-]{22}\.unfinished")
"""Names under which files are written before they are renamed. Nobody else uses such names."""
MAX_DEPTH = 20
"""Of a record. Ours have four levels; writers of JSON fail at some hundreds."""
SUFFIXES = {".png", ".jpg", ".jpeg", ".webp"}


@dataclass(frozen=True)
class GalleryImage:
    """An image of the gallery."""

    id: str
    file: str
    """Its name in the folder of images."""
    bytes: int
    modified: int
    """Time of the file's last change in nanoseconds, as the file system has it."""
    written: bool
    """Whether the gallery wrote this file, and nobody has changed it since."""
    owner: str
    created: float
    """Seconds since 1970; no two images of a gallery have the same."""
    kind: str
    """png, jpeg or webp."""
    width: int
    height: int
    record: dict[str, Any]


def image_path(folder: Path, image: GalleryImage) -> Path:
    """Where an image is."""
    return folder / IMAGES / Path(image.file).name


def entry_path(folder: Path, name: str) -> Path:
    """Where the entry of an id is."""
    return folder / ENTRIES / f"{name}.json"


def write(path: Path, data: bytes) -> None:
    """Write a file that only its owner can read, so that it is there whole or not at all.

    It is written under an unfinished name, flushed to the disk and renamed: what was answered is
    there after a power cut, too. Beside the drawing of an image, flushing takes no time.

    Raises:
        OutputError: it cannot be written; nothing is left behind.
    """
    temporary = path.parent / f".imagen-gallery-{secrets.token_urlsafe(16)}.unfinished"
    try:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        with temporary.open("xb") as file:
            temporary.chmod(0o600)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _flush_folder(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise OutputError(f"Cannot write {path}: {error.strerror or error}.") from error


def _flush_folder(folder: Path) -> None:
    """Flush the names in a folder to the disk, where the system can."""
    with contextlib.suppress(OSError):  # Windows opens no folders; some file systems flush none
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_entry(folder: Path, image: GalleryImage, digest: str) -> None:
    """Write what the index holds of an image and its file does not tell, such as its owner.

    Args:
        digest: SHA-256 of the file; it proves later that the file is still the gallery's own.

    Raises:
        OutputError: it cannot be written.
    """
    values = asdict(image) | {"sha256": digest}
    del values["modified"], values["written"]
    text = json.dumps(values) + "\n"
    write(entry_path(folder, image.id), text.encode())


def read_entry(folder: Path, name: str) -> GalleryImage | None:
    """The entry of an image file, if the gallery wrote one and it is undamaged.

    ``written`` is false if the file is not the one that the gallery wrote.
    """
    stem, _, kind = name.partition(".")
    if not ID.fullmatch(stem) or kind not in FORMATS:
        return None
    try:
        values = json.loads(entry_path(folder, stem).read_text(encoding="utf-8"))
        digest = values.pop("sha256", None)
        image = GalleryImage(**values, modified=0, written=False)
        for value, kinds in (
            (image.bytes, int), (image.owner, str), (image.created, (int, float)),
            (image.width, int), (image.height, int),
        ):  # fmt: skip
            if not isinstance(value, kinds):
                return None
    except (OSError, ValueError, TypeError, AttributeError):
        return None
    fits = (image.id, image.kind, image.file) == (stem, kind, name)
    if not fits or not is_record(image.record):
        return None
    path = image_path(folder, image)
    with contextlib.suppress(OSError):
        own = path.stat().st_size == image.bytes and sha256(path) == digest
        return replace(image, written=own)
    return None


def is_record(record: Any) -> bool:
    """Whether a record has all that pages and requests use, and can be sent as JSON."""
    fields = {"prompt": str, "seed": int, "size": str, "model": str, "settings": dict}
    if not isinstance(record, dict):
        return False
    if not all(isinstance(record.get(name), kind) for name, kind in fields.items()):
        return False
    try:
        json.dumps(record, allow_nan=False, ensure_ascii=False).encode()
    except (ValueError, RecursionError):  # NaN, half of a surrogate pair, nested too deeply
        return False
    return _is_shallow(record, MAX_DEPTH)


def _is_shallow(value: Any, depth: int) -> bool:
    """Whether values are nested at most so deeply."""
    if not isinstance(value, dict | list):
        return True
    inside = value.values() if isinstance(value, dict) else value
    return depth > 0 and all(_is_shallow(one, depth - 1) for one in inside)


def read_image(folder: Path, name: str) -> ImageHeader | None:
    """Format, size and record of a whole PNG, JPEG or WebP file; None of anything else.

    Only its header and its last bytes are read.
    """
    path = folder / IMAGES / name
    if path.suffix.lower() not in SUFFIXES:
        return None
    try:
        header = read_header(path)
        if header.kind not in FORMATS or not _is_whole(path, header.kind):
            return None
    except (DataError, OSError):
        return None
    return header if is_record(header.record) else header._replace(record=None)


def _is_whole(path: Path, kind: str) -> bool:
    """Whether a file ends as its format ends."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(8)
        file.seek(-min(size, 16), 2)
        tail = file.read()
    if kind == "png":
        return tail.endswith(b"IEND\xaeB`\x82")
    if kind == "jpeg":
        return tail.rstrip(b"\0").endswith(b"\xff\xd9")
    return size >= 8 + int.from_bytes(head[4:8], "little")
