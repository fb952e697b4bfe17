"""Stars: which images of a gallery somebody marked. A file of their names beside the images."""

import json
import logging
from pathlib import Path

from open_imagen.server.gallery_files import GalleryImage, write

log = logging.getLogger("open_imagen.server")
STARS = "gallery.stars"


class Stars:
    """The starred images of a gallery, by file name. It is used by one thread at a time."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / STARS
        self._names: set[str] = set()
        try:
            names = json.loads(self._file.read_text(encoding="utf-8"))
            self._names = {name for name in names if isinstance(name, str)}
        except FileNotFoundError:
            pass
        except (OSError, ValueError, TypeError) as error:
            log.warning(f"The stars in {self._file} cannot be read: {error}")

    def __contains__(self, image: GalleryImage) -> bool:
        return image.file in self._names

    def __len__(self) -> int:
        return len(self._names)

    @property
    def files(self) -> list[str]:
        """Names of the starred files."""
        return sorted(self._names)

    def set(self, image: GalleryImage, starred: bool) -> None:
        """Star an image, or take its star away.

        Raises:
            OutputError: the file cannot be written; then nothing has changed.
        """
        names = self._names | {image.file} if starred else self._names - {image.file}
        if names != self._names:
            write(self._file, (json.dumps(sorted(names)) + "\n").encode())
            self._names = names
