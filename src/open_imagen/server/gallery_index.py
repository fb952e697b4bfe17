"""The index of a gallery: an SQLite file, made again from the images whenever it is unusable."""

import contextlib
import json
import logging
import sqlite3
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from open_imagen.errors import DataError
from open_imagen.server.gallery_files import IMAGES, GalleryImage, image_path, write_entry
from open_imagen.storage import sha256

log = logging.getLogger("open_imagen.server")
APPLICATION = 0x6F696D67
"""Marks our files among SQLite's ("oimg")."""
VERSION = 2
SCHEMA = f"""
BEGIN;
CREATE TABLE images (
    id TEXT PRIMARY KEY, file TEXT NOT NULL UNIQUE, bytes INTEGER NOT NULL,
    modified INTEGER NOT NULL, written INTEGER NOT NULL, owner TEXT NOT NULL,
    created REAL NOT NULL UNIQUE, kind TEXT NOT NULL, width INTEGER NOT NULL,
    height INTEGER NOT NULL, record TEXT NOT NULL
);
CREATE INDEX by_owner ON images (owner, created);
CREATE INDEX by_age ON images (created, id) WHERE written;
CREATE TABLE other_files (
    file TEXT PRIMARY KEY, bytes INTEGER NOT NULL, modified INTEGER NOT NULL
);
PRAGMA application_id = {APPLICATION};
PRAGMA user_version = {VERSION};
COMMIT;
"""
FORMER = {"id", "owner", "created", "kind", "width", "height", "record"}
"""Columns of the only table of a version 1 index."""
Row = tuple[Any, ...]


def open_index(file: Path) -> sqlite3.Connection:
    """The index in a file.

    A file that is damaged or of another version is renamed, and an empty index takes its place.
    What a version 1 index holds is written into entries first.

    Raises:
        sqlite3.OperationalError: it cannot be read or written.
        OutputError: the entries of a version 1 index cannot be written.
        DataError: the file is another program's database.
    """
    index = _connect(file)
    try:
        try:
            fault = _fault(index, file)
            if fault and _tables(index) == {"pictures"}:
                _write_entries(index, file.parent)
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError as error:
            fault = f"damaged: {error}"
        if fault:
            index.close()
            index = replace_index(file, fault)
        if not _tables(index):
            index.executescript(SCHEMA)
        # A transaction survives the death of the process without being flushed to the disk. After
        # a power cut the index may be damaged, and is made again.
        index.execute("PRAGMA synchronous = OFF")
    except BaseException:
        index.close()
        raise
    return index


def replace_index(file: Path, fault: str) -> sqlite3.Connection:
    """Rename an index that cannot be used, and open an empty one instead."""
    aside = _set_aside(file)
    log.warning(
        f"The gallery's index {file} cannot be used ({fault}). It was renamed to {aside.name}. "
        "The images are listed again from their own records."
    )
    index = _connect(file)
    index.executescript(SCHEMA)
    return index


def memory_index() -> sqlite3.Connection:
    """An empty index that is gone when the process ends."""
    index = _connect(":memory:")
    index.executescript(SCHEMA)
    return index


def _connect(file: Path | str) -> sqlite3.Connection:
    return sqlite3.connect(file, check_same_thread=False, isolation_level=None)


def _tables(index: sqlite3.Connection) -> set[str]:
    rows = index.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
    return {name for (name,) in rows if not name.startswith("sqlite_")}


def _fault(index: sqlite3.Connection, file: Path) -> str:
    """Why an index cannot be used; empty if it can, or is new.

    Raises:
        DataError: it is another program's database.
        sqlite3.DatabaseError: it cannot be read.
    """
    check = index.execute("PRAGMA quick_check(1)").fetchone()[0]
    if check != "ok":
        return f"damaged: {check}"
    tables = _tables(index)
    application = index.execute("PRAGMA application_id").fetchone()[0]
    version = index.execute("PRAGMA user_version").fetchone()[0]
    if application == APPLICATION:
        if version != VERSION:
            return f"version {version}; this program uses version {VERSION}"
        if not tables >= {"images", "other_files"}:
            return "damaged: tables are missing"
        if index.execute("SELECT 1 FROM images WHERE NOT json_valid(record)").fetchone():
            return "damaged: a record is not JSON"
        return ""
    if tables == {"pictures"}:
        columns = {row[1] for row in index.execute("PRAGMA table_info(pictures)")}
        if columns == FORMER:
            return f"version 1; this program uses version {VERSION}"
    if tables:
        raise DataError(
            f"{file} is a database of another program.", "Choose another folder for the gallery."
        )
    return ""


def _set_aside(file: Path) -> Path:
    """Rename an index and what SQLite keeps beside it."""
    stem, again = f"{file.name}.unusable-{time.strftime('%Y%m%d-%H%M%S')}", 2
    aside = file.with_name(stem)
    while aside.exists():
        aside, again = file.with_name(f"{stem}-{again}"), again + 1
    for suffix in ("-journal", "-wal", "-shm", ""):
        part = file.with_name(file.name + suffix)
        if part.exists():
            part.rename(aside.with_name(aside.name + suffix))
    return aside


def row_of(image: GalleryImage) -> Row:
    """An image as a row of the table ``images``."""
    return (
        image.id, image.file, image.bytes, image.modified, image.written, image.owner,
        image.created, image.kind, image.width, image.height,
        json.dumps(image.record),
    )  # fmt: skip


def image_of(row: Row) -> GalleryImage:
    """A row of the table ``images`` as an image."""
    facts: Row = (*row[:-1], json.loads(row[-1]))
    image = GalleryImage(*facts)
    return replace(image, written=bool(image.written))


def _write_entries(index: sqlite3.Connection, folder: Path) -> None:
    """Write an entry for each image of a version 1 index whose file is there."""
    columns = "id, owner, created, kind, width, height, record"
    for row in index.execute(f"SELECT {columns} FROM pictures"):
        name, owner, created, kind, width, height, record = row
        file = f"{name}.{kind}"
        with contextlib.suppress(FileNotFoundError, ValueError):
            size = (folder / IMAGES / file).stat().st_size
            facts = (owner, created, kind, width, height, json.loads(record))
            image = GalleryImage(name, file, size, 0, True, *facts)
            write_entry(folder, image, sha256(image_path(folder, image)))
