"""The images that a server has made, and those that lie in the same folder.

The files are the truth; the index is made from them and can be lost at any time::

    pictures/           the images; files of others may lie here, too
    gallery.entries/    <id>.json of each image that the gallery wrote: owner, time, record
    gallery.db          the index
    gallery.lock        names the process that holds the gallery

An entry is written before its image, and the image before its row in the index: an image that a
client was told of is found again after the process was killed at any moment.

Only these files are ever removed:

- an image that the gallery wrote and that nobody has changed since, together with its entry: by
  ``delete``, or when there are more than ``keep``. The entry holds the SHA-256 of the image; it is
  compared when a file is new to the index or has another size or time.
- on opening, a regular file whose name matches ``UNFINISHED``. Only ``gallery_files.write`` uses
  such names, and no live process can be writing one, because the gallery is locked.

Nothing else is removed, renamed or overwritten, except an unusable index, which is renamed.
"""

import contextlib
import hashlib
import logging
import math
import os
import secrets
import sqlite3
import stat
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from open_imagen.errors import OutputError
from open_imagen.locks import FileLock
from open_imagen.server.auth import ANYONE
from open_imagen.server.gallery_files import (
    ENTRIES,
    ID,
    IMAGES,
    UNFINISHED,
    GalleryImage,
    entry_path,
    image_path,
    read_entry,
    read_image,
    write,
    write_entry,
)
from open_imagen.server.gallery_index import (
    image_of,
    memory_index,
    open_index,
    replace_index,
    row_of,
)

log = logging.getLogger("open_imagen.server")


class Gallery:
    """A folder of images with an index, held by one process."""

    def __init__(self, folder: Path, keep: int = 10_000) -> None:
        """
        Args:
            keep: how many images that the gallery wrote are kept; the oldest go first.

        Raises:
            OutputError: the folder cannot be written, or another process holds the gallery.
            DataError: gallery.db is another program's database.
        """
        self.folder, self.keep = folder, keep
        self._mutex, self._last = threading.Lock(), 0.0
        try:
            (folder / IMAGES).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(
                f"Cannot make the gallery in {folder}: {error.strerror}.",
                "Choose another folder with --gallery.",
            ) from error
        self._lock = FileLock(
            folder / "gallery.lock",
            f"The gallery {folder.absolute()}",
            "Stop that process, or choose another folder with --gallery.",
        )
        try:
            self._open()
        except BaseException:
            self._lock.release()
            raise

    def _open(self) -> None:
        """Open the index and bring it up to date with the files."""
        file = self.folder / "gallery.db"
        try:
            self._index = open_index(file)
            try:
                self._scan()
            except sqlite3.OperationalError:
                raise
            except sqlite3.DatabaseError as error:
                self._index.close()
                self._index = replace_index(file, f"damaged: {error}")
                self._scan()
        except sqlite3.Error as error:
            log.warning(
                f"The gallery's index {file} cannot be used ({error}). Until the next start the "
                "images are listed from an index in memory."
            )
            self._index = memory_index()
            self._scan()
        except OutputError:
            raise
        except OSError as error:
            why = f"{error.filename or self.folder}: {error.strerror}"
            raise OutputError(f"Cannot open the gallery {self.folder}: {why}.") from error
        images, written = self._index.execute(
            "SELECT count(*), count(nullif(written, 0)) FROM images"
        ).fetchone()
        facts = {
            "folder": str(self.folder.absolute()),
            "images": images,
            "of_others": images - written,
        }
        log.info("gallery opened", extra=facts)

    def _scan(self) -> None:
        """Compare the index with the files. Only new and changed files are read."""
        index = self._index
        ids = dict(index.execute("SELECT file, id FROM images"))
        known = {
            file: (size, modified)
            for table in ("images", "other_files")
            for file, size, modified in index.execute(f"SELECT file, bytes, modified FROM {table}")
        }
        ties: dict[float, float] = {}
        self._remove_unfinished(self.folder / ENTRIES)
        self._remove_unfinished(self.folder / IMAGES)
        index.execute("BEGIN")
        try:
            for item in sorted(_files(self.folder / IMAGES), key=lambda item: item.name):
                facts = item.stat(follow_symlinks=False)
                if known.pop(item.name, None) == (facts.st_size, facts.st_mtime_ns):
                    continue
                self._forget(item.name)
                image = self._found(item.name, facts, ids.get(item.name))
                if image is not None:
                    self._insert(image, ties)
                else:
                    row = (item.name, facts.st_size, facts.st_mtime_ns)
                    index.execute("INSERT INTO other_files VALUES (?, ?, ?)", row)
            for file in known:  # their files are gone
                self._forget(file)
            index.execute("COMMIT")
        except BaseException:
            if index.in_transaction:
                index.execute("ROLLBACK")
            raise

    def _remove_unfinished(self, folder: Path) -> None:
        """Remove what a killed process of ours was writing; see the module's docstring."""
        with contextlib.suppress(FileNotFoundError):
            for item in list(_files(folder)):
                if UNFINISHED.fullmatch(item.name):
                    Path(item.path).unlink(missing_ok=True)

    def _found(self, file: str, facts: os.stat_result, name: str | None) -> GalleryImage | None:
        """A file in the folder of images as an image of the gallery; None if it is not listed.

        Args:
            name: the id that the index has for this file, if any.
        """
        size, modified = facts.st_size, facts.st_mtime_ns
        entry = read_entry(self.folder, file)
        if entry is not None and entry.written:
            return replace(entry, modified=modified)
        header = read_image(self.folder, file)
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
            max(0.0, facts.st_mtime), header.kind, header.width, header.height, header.record,
        )  # fmt: skip

    def _insert(self, image: GalleryImage, ties: dict[float, float]) -> GalleryImage:
        """Add a row; its time is moved by the least amount to one that no other image has.

        Args:
            ties: the last free time that was found for a time, kept between calls.
        """
        created = ties.get(image.created, image.created)
        query = "SELECT 1 FROM images WHERE created = ?"
        while self._index.execute(query, (created,)).fetchone():
            created = math.nextafter(created, math.inf)
        ties[image.created] = created
        image = replace(image, created=created)
        places = ", ".join("?" * len(row_of(image)))
        self._index.execute(f"INSERT INTO images VALUES ({places})", row_of(image))
        return image

    def _forget(self, file: str) -> None:
        for table in ("images", "other_files"):
            self._index.execute(f"DELETE FROM {table} WHERE file = ?", (file,))

    def close(self) -> None:
        """Close the index and let other processes have the gallery."""
        with self._mutex:
            self._index.close()
            self._lock.release()

    def add(self, data: bytes, kind: str, record: dict[str, Any], owner: str) -> GalleryImage:
        """Write an image.

        Raises:
            OutputError: it cannot be written; then nothing of it is left behind.
        """
        width, height = (int(side) for side in record["size"].split("x"))
        name = secrets.token_urlsafe(16)
        with self._mutex:  # later images have later times, also where the clock stands still
            self._last = max(time.time(), math.nextafter(self._last, math.inf))
            image = GalleryImage(
                name, f"{name}.{kind}", len(data), 0, True, owner, self._last, kind, width, height,
                record,
            )  # fmt: skip
        try:
            write_entry(self.folder, image, hashlib.sha256(data).hexdigest())
            write(image_path(self.folder, image), data)
            modified = image_path(self.folder, image).stat().st_mtime_ns
            with self._mutex:
                image = self._insert(replace(image, modified=modified), {})
        except (OSError, sqlite3.Error) as error:
            with contextlib.suppress(OSError):
                self._unlink(image)
            if isinstance(error, OutputError):
                raise
            raise OutputError(f"Cannot write the gallery {self.folder}: {error}.") from error
        self._prune()
        return image

    def _prune(self) -> None:
        """Remove the oldest images that the gallery wrote, if there are more than it keeps."""
        query = "SELECT id FROM images WHERE written ORDER BY created DESC LIMIT -1 OFFSET ?"
        try:
            with self._mutex:
                names = self._index.execute(query, (self.keep,)).fetchall()
            for (name,) in names:
                image = self._row(name)
                if image is not None:
                    self.delete(image)
        except (OutputError, sqlite3.Error) as error:
            log.warning(f"Old images of the gallery cannot be removed: {error}")

    def delete(self, image: GalleryImage) -> bool:
        """Remove an image that the gallery wrote; False if it did not, and nothing is removed.

        It needs no space: files are removed first, and a row without its file is not shown.

        Raises:
            OutputError: the file cannot be removed.
        """
        if not image.written or not self._is_unchanged(image):
            return False
        try:
            self._unlink(image)
        except OSError as error:
            raise OutputError(f"Cannot remove {image.file}: {error.strerror}.") from error
        with self._mutex, contextlib.suppress(sqlite3.Error):
            self._index.execute("DELETE FROM images WHERE id = ?", (image.id,))
        return True

    def _is_unchanged(self, image: GalleryImage) -> bool:
        """Whether an image's file is still the one that the gallery wrote, or is gone."""
        try:
            facts = image_path(self.folder, image).lstat()
        except FileNotFoundError:
            return True
        except OSError:
            return False
        same = (facts.st_size, facts.st_mtime_ns) == (image.bytes, image.modified)
        return same and stat.S_ISREG(facts.st_mode)

    def _unlink(self, image: GalleryImage) -> None:
        image_path(self.folder, image).unlink(missing_ok=True)
        entry_path(self.folder, image.id).unlink(missing_ok=True)

    def get(self, name: str) -> GalleryImage | None:
        """An image by its id."""
        if not ID.fullmatch(name):
            return None
        image = self._row(name)
        return image if image is not None and self._is_there(image) else None

    def _row(self, name: str) -> GalleryImage | None:
        with self._mutex:
            row = self._index.execute("SELECT * FROM images WHERE id = ?", (name,)).fetchone()
        return image_of(row) if row else None

    def _is_there(self, image: GalleryImage) -> bool:
        return image_path(self.folder, image).is_file()

    def data(self, image: GalleryImage) -> bytes | None:
        """The bytes of its file."""
        try:
            return image_path(self.folder, image).read_bytes()
        except OSError:
            return None

    def latest(self, owner: str, number: int, before: float | None = None) -> list[GalleryImage]:
        """An owner's images, the newest first."""
        query = "SELECT * FROM images WHERE owner = ? AND created < ? ORDER BY created DESC"
        found: list[GalleryImage] = []
        with self._mutex:
            rows = self._index.execute(query, (owner, math.inf if before is None else before))
            for image in map(image_of, rows):
                if self._is_there(image):
                    found.append(image)
                if len(found) == number:
                    break
            rows.close()
        return found


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
