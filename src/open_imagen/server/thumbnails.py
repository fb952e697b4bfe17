"""Small copies of the gallery's images for pages that show many. They are kept in memory only."""

import io
import threading
from collections import OrderedDict

from PIL import Image

from open_imagen.data.original import read_original
from open_imagen.server.gallery import Gallery
from open_imagen.server.gallery_files import GalleryImage

SIDE = 320
"""Pixels of the longer side at most."""
MAX_BYTES = 48 * 1024 * 1024
"""Of all thumbnails in memory, about 5,000."""
MAX_PIXELS = 64 * 1024 * 1024


class Thumbnails:
    """Thumbnails as WebP, made when they are asked for; the latest used stay in memory."""

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._made: OrderedDict[tuple[str, int], bytes] = OrderedDict()
        self._max_bytes, self._bytes = max_bytes, 0
        self._mutex, self._one_at_a_time = threading.Lock(), threading.Semaphore(2)

    def get(self, gallery: Gallery, image: GalleryImage) -> bytes | None:
        """The thumbnail of an image; None if its file has gone.

        Raises:
            DataError: the file cannot be read as an image.
        """
        key = image.id, image.modified
        with self._mutex:
            if (found := self._made.get(key)) is not None:
                self._made.move_to_end(key)
                return found
        data = gallery.data(image)
        if data is None:
            return None
        with self._one_at_a_time:
            small = thumbnail(data)
        with self._mutex:
            self._bytes += len(small) - len(self._made.pop(key, b""))
            self._made[key] = small
            while self._bytes > self._max_bytes and len(self._made) > 1:
                self._bytes -= len(self._made.popitem(last=False)[1])
        return small


def thumbnail(data: bytes) -> bytes:
    """A small copy of an image file as WebP, with its transparency and without its record.

    Raises:
        DataError: it cannot be read.
    """
    image = read_original(data, "the image", MAX_PIXELS).srgb
    image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    small = io.BytesIO()
    image.save(small, format="WEBP", quality=82, method=2)
    return small.getvalue()
