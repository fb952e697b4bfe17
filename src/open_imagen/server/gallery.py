"""The images that a server has made, and those that lie in the same folder.

The files are the truth; the index is made from them and can be lost at any time::

    pictures/           the images; files of others may lie here, too
    gallery.entries/    <id>.json of each image that the gallery wrote: owner, time, record
    gallery.db          the index
    gallery.stars       names of the images that somebody starred
    gallery.lock        names the process that holds the gallery

An entry is written before its image, and the image before its row in the index: an image that a
client was told of is found again after the process was killed at any moment.

Only these files are ever removed:

- an image that the gallery wrote and that nobody has changed since, together with its entry: by
  ``delete``, or when there are more than ``keep`` and it has no star. The entry holds the SHA-256
  of the image; it is compared when a file is new to the index or has another size or time.
- on opening, a regular file whose name matches ``UNFINISHED``. Only ``gallery_files.write`` uses
  such names, and no live process can be writing one, because the gallery is locked.

Nothing else is removed, renamed or overwritten, except an unusable index, which is renamed.
"""

import contextlib
import hashlib
import logging
import math
import secrets
import sqlite3
import stat
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from open_imagen.errors import OutputError
from open_imagen.locks import FileLock
from open_imagen.server.gallery_files import (
    ID,
    IMAGES,
    GalleryImage,
    entry_path,
    image_path,
    write,
    write_entry,
)
from open_imagen.server.gallery_index import Index, memory_index, open_index, replace_index
from open_imagen.server.gallery_scan import scan
from open_imagen.server.stars import Stars

log = logging.getLogger("open_imagen.server")
Result = TypeVar("Result")


class Gallery:
    """A folder of images with an index, held by one process."""

    def __init__(self, folder: Path, keep: int = 10_000) -> None:
        """Open or create the gallery.

        Args:
            keep: how many images that the gallery wrote are kept; the oldest go first.

        Raises:
            OutputError: the folder cannot be written, or another process holds the gallery.
            DataError: gallery.db is another program's database.
        """
        self.folder, self.keep = folder, keep
        self._mutex, self._last = threading.RLock(), 0.0
        lock = folder / "gallery.lock"
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            (folder / IMAGES).mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise OutputError(
                f"Cannot make the gallery in {folder}: {error.strerror}.",
                "Choose another folder with --gallery.",
            ) from error
        if not lock.exists() and not lock.is_symlink():
            with contextlib.suppress(OSError):  # the lock says what is wrong
                lock.touch(mode=0o600)
        self._lock = FileLock(
            lock,
            f"The gallery {folder.absolute()}",
            "Stop that process, or choose another folder with --gallery.",
        )
        try:
            self.stars = Stars(folder)
            self._index = self._open()
            images, self._written = self._index.counts()
        except BaseException:
            self._lock.release()
            raise
        extra = {
            "folder": str(folder.absolute()), "images": images, "of_others": images - self._written,
        }  # fmt: skip
        log.info("gallery opened", extra=extra)

    def _open(self) -> Index:
        """The index, up to date with the files."""
        file = self.folder / "gallery.db"
        try:
            index = open_index(file)
            try:
                scan(self.folder, index)
            except sqlite3.OperationalError:
                raise
            except sqlite3.DatabaseError as error:
                index.close()
                index = self._rebuilt(error)
        except sqlite3.Error as error:
            log.warning(
                f"The gallery's index {file} cannot be used ({error}). Until the next start the "
                "images are listed from an index in memory."
            )
            index = memory_index()
            scan(self.folder, index)
        except OutputError:
            raise
        except OSError as error:
            why = f"{error.filename or self.folder}: {error.strerror}"
            raise OutputError(f"Cannot open the gallery {self.folder}: {why}.") from error
        return index

    def _rebuilt(self, error: sqlite3.DatabaseError) -> Index:
        """A new index in place of a damaged one."""
        index = replace_index(self.folder / "gallery.db", f"damaged: {error}")
        scan(self.folder, index)
        return index

    def _ask(self, question: Callable[[Index], Result]) -> Result:
        """Use the index; if it turns out to be damaged, make it again first.

        Raises:
            sqlite3.Error: it cannot be used.
        """
        with self._mutex:
            try:
                return question(self._index)
            except sqlite3.OperationalError:
                raise
            except (sqlite3.DatabaseError, ValueError) as error:  # ValueError: a damaged record
                if isinstance(error, sqlite3.IntegrityError | sqlite3.ProgrammingError):
                    raise
                self._index.close()
                self._index = self._rebuilt(sqlite3.DatabaseError(str(error)))
                _, self._written = self._index.counts()
                return question(self._index)

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
            image = self._list(replace(image, modified=modified))
        except (OSError, sqlite3.Error) as error:
            with contextlib.suppress(OSError):
                self._unlink(image)
            if isinstance(error, OutputError):
                raise
            raise OutputError(f"Cannot write the gallery {self.folder}: {error}.") from error
        self._prune()
        return image

    def _list(self, image: GalleryImage) -> GalleryImage:
        """Add an image's row to the index."""

        def insert(index: Index) -> tuple[GalleryImage, bool]:
            known = index.get(image.id)  # by an index that was made again at this moment
            return (known, False) if known else (index.insert(image), True)

        with self._mutex:
            listed, new = self._ask(insert)
            self._written += new
        return listed

    def _prune(self) -> None:
        """Remove the oldest images that the gallery wrote, if there are more than it keeps."""
        try:
            with self._mutex:
                number = max(0, self._written - self.keep)
                asked = number + len(self.stars) if number else 0  # those with a star stay
                oldest = self._ask(lambda i: i.oldest_written(asked)) if asked else []
                oldest = [image for image in oldest if image not in self.stars][:number]
            for image in oldest:
                if not self.delete(image):  # somebody has changed it; it is theirs now
                    self._disown(image)
        except (OutputError, sqlite3.Error) as error:
            log.warning(f"Old images of the gallery cannot be removed: {error}")

    def _disown(self, image: GalleryImage) -> None:
        with self._mutex:
            self._ask(lambda index: index.disown(image.id))
            self._written -= 1

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
            if self._ask(lambda index: index.get(image.id)) is not None:
                self._ask(lambda index: index.forget(image.file))
                self._written -= 1
            with contextlib.suppress(OutputError):  # a star without an image is not shown
                self.stars.set(image, False)
        return True

    def star(self, image: GalleryImage, starred: bool) -> None:
        """Star an image, or take its star away.

        Raises:
            OutputError: that cannot be written.
        """
        with self._mutex:
            self.stars.set(image, starred)

    def _is_unchanged(self, image: GalleryImage) -> bool:
        """Whether an image's file is still the one that the gallery wrote, or is gone."""
        try:
            status = image_path(self.folder, image).lstat()
        except FileNotFoundError:
            return True
        except OSError:
            return False
        same = (status.st_size, status.st_mtime_ns) == (image.bytes, image.modified)
        return same and stat.S_ISREG(status.st_mode)

    def _unlink(self, image: GalleryImage) -> None:
        image_path(self.folder, image).unlink(missing_ok=True)
        entry_path(self.folder, image.id).unlink(missing_ok=True)

    def get(self, name: str) -> GalleryImage | None:
        """An image by its id."""
        if not ID.fullmatch(name):
            return None
        image = self._ask(lambda index: index.get(name))
        return image if image is not None and self._is_there(image) else None

    def _is_there(self, image: GalleryImage) -> bool:
        return image_path(self.folder, image).is_file()

    def data(self, image: GalleryImage) -> bytes | None:
        """The bytes of its file."""
        try:
            return image_path(self.folder, image).read_bytes()
        except OSError:
            return None

    def latest(
        self,
        owner: str,
        number: int,
        before: float | None = None,
        words: str = "",
        starred: bool = False,
    ) -> list[GalleryImage]:
        """An owner's images, the newest first.

        Args:
            before: only those that are older than this time.
            words: only those whose prompt has each of these words in it.
            starred: only those with a star.
        """
        found: list[GalleryImage] = []
        last = math.inf if before is None else before
        files = self.stars.files if starred else None
        while len(found) < number:
            page = self._page(owner, last, number - len(found), words, files)
            if not page:
                break
            found += [image for image in page if self._is_there(image)]
            last = page[-1].created
        return found

    def _page(
        self, owner: str, before: float, number: int, words: str, files: list[str] | None
    ) -> list[GalleryImage]:
        return self._ask(lambda index: index.newest(owner, before, number, words, files))
