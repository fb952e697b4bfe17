"""The index of a gallery: an SQLite file, made again from the images whenever it is unusable."""

import contextlib
import json
import logging
import math
import sqlite3
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from open_imagen.errors import DataError
from open_imagen.server.gallery_files import IMAGES, GalleryImage, image_path, write_entry
from open_imagen.storage import sha256

log = logging.getLogger("open_imagen.server")
APPLICATION_ID = 0x6F696D67
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
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {VERSION};
COMMIT;
"""
COLUMNS_OF_VERSION_1 = {"id", "owner", "created", "kind", "width", "height", "record"}
"""Columns of the only table of a version 1 index."""
Row = tuple[Any, ...]
MAX_WORDS = 16
"""Of a search."""


class Index:
    """Which images there are. It is used by one thread at a time."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection

    def close(self) -> None:
        """Close the database."""
        self.connection.close()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing of what is written inside."""
        self.connection.execute("BEGIN")
        try:
            yield
            self.connection.execute("COMMIT")
        except BaseException:
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")
            raise

    def counts(self) -> tuple[int, int]:
        """Images, and how many of them the gallery wrote."""
        images, written = self.connection.execute(
            "SELECT count(*), count(nullif(written, 0)) FROM images"
        ).fetchone()
        return images, written

    def ids(self) -> dict[str, str]:
        """The id of each image by its file."""
        return dict(self.connection.execute("SELECT file, id FROM images"))

    def files(self) -> dict[str, tuple[int, int]]:
        """Size and time of each file that was read, image or not."""
        return {
            file: (size, modified)
            for table in ("images", "other_files")
            for file, size, modified in self.connection.execute(
                f"SELECT file, bytes, modified FROM {table}"
            )
        }

    def insert(self, image: GalleryImage, ties: dict[float, float] | None = None) -> GalleryImage:
        """Add an image; its time is moved by the least amount to one that no other image has.

        Args:
            ties: the last free time that was found for a time, kept between calls.
        """
        ties = {} if ties is None else ties
        created = ties.get(image.created, image.created)
        query = "SELECT 1 FROM images WHERE created = ?"
        while self.connection.execute(query, (created,)).fetchone():
            created = math.nextafter(created, math.inf)
        ties[image.created] = created
        image = replace(image, created=created)
        places = ", ".join("?" * len(row_of(image)))
        self.connection.execute(f"INSERT INTO images VALUES ({places})", row_of(image))
        return image

    def insert_other(self, file: str, size: int, modified: int) -> None:
        """Remember a file that is no image of the gallery."""
        self.connection.execute("INSERT INTO other_files VALUES (?, ?, ?)", (file, size, modified))

    def disown(self, name: str) -> None:
        """Take an image for one that the gallery did not write."""
        self.connection.execute("UPDATE images SET written = 0 WHERE id = ?", (name,))

    def forget(self, file: str) -> None:
        """Remove what is known of a file."""
        for table in ("images", "other_files"):
            self.connection.execute(f"DELETE FROM {table} WHERE file = ?", (file,))

    def get(self, name: str) -> GalleryImage | None:
        """An image by its id."""
        row = self.connection.execute("SELECT * FROM images WHERE id = ?", (name,)).fetchone()
        return image_of(row) if row else None

    def newest(
        self,
        owner: str,
        before: float,
        number: int,
        words: str = "",
        files: Sequence[str] | None = None,
    ) -> list[GalleryImage]:
        """An owner's images that are older than a time, the newest first.

        Args:
            words: only those whose prompt has each of these words in it.
            files: only these.
        """
        values: list[str | float] = [owner, before]
        conditions = ["owner = ?", "created < ?"]
        for word in words.split()[:MAX_WORDS]:
            conditions.append("instr(casefold(json_extract(record, '$.prompt')), ?)")
            values.append(word.casefold())
        if files is not None:
            conditions.append("file IN (SELECT value FROM json_each(?))")
            values.append(json.dumps(list(files)))
        query = f"SELECT * FROM images WHERE {' AND '.join(conditions)}"
        query += " ORDER BY created DESC LIMIT ?"
        return [image_of(row) for row in self.connection.execute(query, (*values, number))]

    def oldest_written(self, number: int) -> list[GalleryImage]:
        """The oldest images that the gallery wrote."""
        query = "SELECT * FROM images WHERE written ORDER BY created LIMIT ?"
        return [image_of(row) for row in self.connection.execute(query, (number,))]


def open_index(file: Path) -> Index:
    """The index in a file, locked for this process.

    A file that is damaged or of another version is renamed, and an empty index takes its place.
    What a version 1 index holds is written into entries first.

    Raises:
        sqlite3.OperationalError: it cannot be read or written, or another program has locked it.
        OutputError: the entries of a version 1 index cannot be written.
        DataError: the file is another program's database.
    """
    connection = _connect(file)
    try:
        try:
            fault = _fault(connection, file)
            if fault and _tables(connection) == {"pictures"}:
                _write_entries(connection, file.parent)
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError as error:
            fault = f"damaged: {error}"
        if fault:
            connection.close()
            return replace_index(file, fault)
        if not _tables(connection):
            connection.executescript(SCHEMA)
        _lock(connection)
    except BaseException:
        connection.close()
        raise
    return Index(connection)


def replace_index(file: Path, fault: str) -> Index:
    """Rename an index that cannot be used, and open an empty one instead."""
    aside = _set_aside(file)
    log.warning(
        f"The gallery's index {file} cannot be used ({fault}). It was renamed to {aside.name}. "
        "The images are listed again from their own records."
    )
    connection = _connect(file)
    connection.executescript(SCHEMA)
    _lock(connection)
    return Index(connection)


def memory_index() -> Index:
    """An empty index that is gone when the process ends."""
    connection = _connect(":memory:")
    connection.executescript(SCHEMA)
    return Index(connection)


def _connect(file: Path | str) -> sqlite3.Connection:
    if isinstance(file, Path) and not file.exists():
        with contextlib.suppress(OSError):  # SQLite says what is wrong
            file.touch(mode=0o600)
    connection = sqlite3.connect(file, check_same_thread=False, isolation_level=None)
    connection.create_function("casefold", 1, str.casefold, deterministic=True)
    return connection


def _lock(connection: sqlite3.Connection) -> None:
    """Keep other programs from locking the index while it is in use."""
    # A transaction survives the death of the process without being flushed to the disk. After a
    # power cut the index may be damaged, and is made again from the images.
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute("PRAGMA locking_mode = EXCLUSIVE")
    connection.execute("BEGIN EXCLUSIVE")
    connection.execute("COMMIT")


def _tables(connection: sqlite3.Connection) -> set[str]:
    rows = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
    return {name for (name,) in rows if not name.startswith("sqlite_")}


def _fault(connection: sqlite3.Connection, file: Path) -> str:
    """Why an index cannot be used; empty if it can, or is new.

    Raises:
        DataError: it is another program's database.
        sqlite3.DatabaseError: it cannot be read.
    """
    check = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if check != "ok":
        return f"damaged: {check}"
    tables = _tables(connection)
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if application == APPLICATION_ID:
        if version != VERSION:
            return f"version {version}; this program uses version {VERSION}"
        if not tables >= {"images", "other_files"}:
            return "damaged: tables are missing"
        if connection.execute("SELECT 1 FROM images WHERE NOT json_valid(record)").fetchone():
            return "damaged: a record is not JSON"
        return ""
    if tables == {"pictures"}:
        columns = {row[1] for row in connection.execute("PRAGMA table_info(pictures)")}
        if columns == COLUMNS_OF_VERSION_1:
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
    values: Row = (*row[:-1], json.loads(row[-1]))
    image = GalleryImage(*values)
    return replace(image, written=bool(image.written))


def _write_entries(connection: sqlite3.Connection, folder: Path) -> None:
    """Write an entry for each image of a version 1 index whose file is there."""
    columns = "id, owner, created, kind, width, height, record"
    for row in connection.execute(f"SELECT {columns} FROM pictures"):
        name, owner, created, kind, width, height, record = row
        file = f"{name}.{kind}"
        with contextlib.suppress(FileNotFoundError, ValueError):
            size = (folder / IMAGES / file).stat().st_size
            values = (owner, created, kind, width, height, json.loads(record))
            image = GalleryImage(name, file, size, 0, True, *values)
            write_entry(folder, image, sha256(image_path(folder, image)))
