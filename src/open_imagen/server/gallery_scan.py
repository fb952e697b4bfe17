"""Bringing a gallery's index up to date with its files. Only new and changed files are read."""

import contextlib
import os
import secrets
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from open_imagen.server.auth import ANYONE
from open_imagen.server.gallery_files import (
    ENTRIES,
    IMAGES,
    UNFINISHED,
    GalleryImage,
    read_entry,
    read_image,
)
from open_imagen.server.gallery_index import Index


def scan(folder: Path, index: Index) -> None:
    """Compare an index with the files of its gallery."""
    ids, known = index.ids(), index.files()
    ties: dict[float, float] = {}
    _remove_unfinished(folder / ENTRIES)
    _remove_unfinished(folder / IMAGES)
    with index.transaction():
        for item in sorted(_files(folder / IMAGES), key=lambda item: item.name):
            status = item.stat(follow_symlinks=False)
            if known.pop(item.name, None) == (status.st_size, status.st_mtime_ns):
                continue
            index.forget(item.name)
            image = _listed(folder, item.name, status, ids.get(item.name))
            if image is not None:
                index.insert(image, ties)
            else:
                index.insert_other(item.name, status.st_size, status.st_mtime_ns)
        for file in known:  # these are gone
            index.forget(file)


def _remove_unfinished(folder: Path) -> None:
    """Remove what a killed process of ours was writing; see gallery.py."""
    with contextlib.suppress(FileNotFoundError):
        for item in list(_files(folder)):
            if UNFINISHED.fullmatch(item.name):
                Path(item.path).unlink(missing_ok=True)


def _listed(
    folder: Path, file: str, status: os.stat_result, name: str | None
) -> GalleryImage | None:
    """A file in the folder of images as an image of the gallery; None if it is not listed.

    Args:
        name: the id that the index has for this file, if any.
    """
    size, modified = status.st_size, status.st_mtime_ns
    entry = read_entry(folder, file)
    if entry is not None and entry.written:
        return replace(entry, modified=modified)
    header = read_image(folder, file)
    if header is None or (entry is None and header.record is None):
        return None
    if entry is not None:  # somebody has changed the file since; it is theirs now
        return replace(
            entry, bytes=size, modified=modified, written=False, kind=header.kind,
            width=header.width, height=header.height, record=header.record or entry.record,
        )  # fmt: skip
    assert header.record is not None
    return GalleryImage(
        name or secrets.token_urlsafe(16), file, size, modified, False, ANYONE,
        max(0.0, status.st_mtime), header.kind, header.width, header.height, header.record,
    )  # fmt: skip


def _files(folder: Path) -> Iterator[os.DirEntry[str]]:
    """The regular files in a folder whose names are UTF-8; links and folders are passed over."""
    with os.scandir(folder) as items:
        for item in items:
            if item.is_file(follow_symlinks=False) and _is_utf8(item.name):
                yield item


def _is_utf8(name: str) -> bool:
    """Whether a file's name can stand in the index."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
