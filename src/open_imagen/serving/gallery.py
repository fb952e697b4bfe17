"""The pictures that a server has made: files, and their records in SQLite.

A file is complete before its row is written, and a row is one transaction: after a crash there may
be a file that no row names, which is removed on opening, but never a row without its picture.
"""

import json
import re
import secrets
import sqlite3
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple

from open_imagen.errors import DataError, OutputError
from open_imagen.storage import atomic

SCHEMA = """
CREATE TABLE IF NOT EXISTS pictures (
    id TEXT PRIMARY KEY, owner TEXT NOT NULL, created REAL NOT NULL, kind TEXT NOT NULL,
    width INTEGER NOT NULL, height INTEGER NOT NULL, record TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS by_owner ON pictures (owner, created);
"""
ID = re.compile(r"[A-Za-z0-9_-]{22}")
"""Names of pictures: 128 random bits, so that nobody guesses one."""


class Kept(NamedTuple):
    """A picture of the gallery."""

    id: str
    owner: str
    created: float
    kind: str
    """png, jpeg or webp."""
    width: int
    height: int
    record: dict[str, Any]


class Gallery:
    """A folder of pictures with an index."""

    def __init__(self, folder: Path, keep: int = 10_000) -> None:
        """
        Args:
            keep: how many pictures are kept; the oldest go first.

        Raises:
            OutputError: the folder cannot be written.
            DataError: its index is damaged.
        """
        self.folder, self.keep = folder, keep
        self._lock = threading.Lock()
        try:
            (folder / "pictures").mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(
                folder / "gallery.db", check_same_thread=False, isolation_level=None
            )
            self._db.execute("PRAGMA busy_timeout = 10000")
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.executescript(SCHEMA)
            self._sweep()
        except sqlite3.OperationalError as error:
            raise OutputError(f"Cannot open the gallery in {folder}: {error}.") from error
        except sqlite3.DatabaseError as error:
            raise DataError(f"{folder / 'gallery.db'} is not a gallery: {error}.") from error
        except OSError as error:
            raise OutputError(f"Cannot write to {folder}: {error.strerror}.") from error

    def _sweep(self) -> None:
        """Remove what a crash has left: files without a row."""
        known = {row[0] for row in self._db.execute("SELECT id FROM pictures")}
        for file in (self.folder / "pictures").iterdir():
            if file.name.split(".")[0] not in known:
                file.unlink(missing_ok=True)

    def close(self) -> None:
        """Let go of the files."""
        with self._lock:
            self._db.close()

    def add(self, data: bytes, kind: str, record: dict[str, Any], owner: str) -> Kept:
        """Keep a picture.

        Raises:
            OutputError: it cannot be written.
        """
        width, height = (int(side) for side in record["size"].split("x"))
        kept = Kept(secrets.token_urlsafe(16), owner, time.time(), kind, width, height, record)
        with atomic(self._file(kept)) as temporary:
            temporary.write_bytes(data)
        row = (*kept[:6], json.dumps(record, ensure_ascii=False))
        with self._lock:
            try:
                self._db.execute("INSERT INTO pictures VALUES (?, ?, ?, ?, ?, ?, ?)", row)
            except sqlite3.OperationalError as error:
                self._file(kept).unlink(missing_ok=True)
                raise OutputError(f"Cannot write the gallery: {error}.") from error
            old = self._db.execute(
                "SELECT * FROM pictures ORDER BY created DESC, rowid DESC LIMIT -1 OFFSET ?",
                (self.keep,),
            ).fetchall()
            for gone in map(_read, old):
                self._remove(gone)
        return kept

    def _remove(self, kept: Kept) -> None:
        self._db.execute("DELETE FROM pictures WHERE id = ?", (kept.id,))
        self._file(kept).unlink(missing_ok=True)

    def _file(self, kept: Kept) -> Path:
        return self.folder / "pictures" / f"{kept.id}.{kept.kind}"

    def get(self, name: str) -> Kept | None:
        """A picture by its id."""
        if not ID.fullmatch(name):
            return None
        with self._lock:
            row = self._db.execute("SELECT * FROM pictures WHERE id = ?", (name,)).fetchone()
        return _read(row) if row else None

    def data(self, kept: Kept) -> bytes | None:
        """The bytes of its file."""
        try:
            return self._file(kept).read_bytes()
        except OSError:
            return None

    def delete(self, kept: Kept) -> None:
        """Forget a picture."""
        with self._lock:
            self._remove(kept)

    def latest(self, owner: str, number: int, before: float | None = None) -> list[Kept]:
        """An owner's pictures, the newest first."""
        with self._lock:
            rows = self._db.execute(
                "SELECT * FROM pictures WHERE owner = ? AND created < ? "
                "ORDER BY created DESC, rowid DESC LIMIT ?",
                (owner, before if before is not None else float("inf"), number),
            ).fetchall()
        return [_read(row) for row in rows]


def _read(row: tuple[Any, ...]) -> Kept:
    name, owner, created, kind, width, height, record = row
    return Kept(name, owner, created, kind, width, height, json.loads(record))
