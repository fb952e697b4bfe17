"""The files of a folder of pictures, as operating systems and other programs leave them."""

import os
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

SUFFIXES = frozenset(
    {
        *(
            ".png",
            ".apng",
            ".jpg",
            ".jpeg",
            ".jfif",
            ".jpe",
            ".webp",
            ".bmp",
            ".gif",
            ".tif",
            ".tiff",
        ),
        *(".avif", ".jp2", ".ppm", ".pgm", ".pnm", ".tga"),
    }
)
"""File names of pictures that are read."""
OTHER_SUFFIXES = frozenset(
    {
        *(
            ".heic",
            ".heif",
            ".hif",
            ".jxl",
            ".j2k",
            ".jpx",
            ".svg",
            ".svgz",
            ".psd",
            ".xcf",
            ".kra",
        ),
        *(".eps", ".ai", ".pdf", ".ico", ".icns", ".dds", ".exr", ".hdr", ".pbm", ".pcx", ".qoi"),
        *(".raw", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf", ".srw"),
        *(".mp4", ".mov", ".webm", ".mkv", ".avi"),
    }
)
"""File names of pictures and films that are not read; they are counted and named."""
JUNK_FOLDERS = frozenset({"__macosx", "@eadir", "$recycle.bin", "system volume information"})
"""Folders that operating systems and network storage add, in lower case."""


@dataclass
class Directory:
    """One folder: its files by their names in lower case and composed Unicode (NFC)."""

    path: Path
    files: dict[str, Path] = field(default_factory=dict)

    def find(self, name: str) -> Path | None:
        """The file of this name, or one that differs only in case or in Unicode's form.

        macOS writes decomposed names, and Windows ignores case.
        """
        exact = self.files.get(name)
        return exact if exact and exact.name == name else self.files.get(folded(name))


@dataclass
class Listing:
    """What is under a folder."""

    directories: list[Directory] = field(default_factory=list)
    other_formats: Counter[str] = field(default_factory=Counter)
    """How many files have a name of `OTHER_SUFFIXES`, by suffix."""
    unreadable: list[Path] = field(default_factory=list)
    """Folders that could not be listed."""


def folded(name: str) -> str:
    """A file name as it is looked up."""
    return unicodedata.normalize("NFC", name).lower()


def is_hidden(name: str) -> bool:
    """Whether a name is of what programs keep for themselves: .ipynb_checkpoints, ._picture.png."""
    return name.startswith(".") or name.lower() in JUNK_FOLDERS


def list_files(folder: Path) -> Listing:
    """Every file under a folder; links to folders are followed, each folder is listed once."""
    listing = Listing()
    seen: set[tuple[int, int]] = set()

    def failed(error: OSError) -> None:
        listing.unreadable.append(Path(error.filename or folder))

    for root, names, files in os.walk(folder, followlinks=True, onerror=failed):
        names[:] = sorted(name for name in names if not is_hidden(name))
        status = os.stat(root)
        # Windows may not number its files: then nothing is taken for the same folder.
        if status.st_ino and (status.st_dev, status.st_ino) in seen:
            names.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        directory = Directory(Path(root))
        for name in sorted(files):
            if is_hidden(name):
                continue
            directory.files.setdefault(folded(name), directory.path / name)
            if directory.files[folded(name)].name != name:  # differs in case alone: keep both
                directory.files[name] = directory.path / name
            suffix = Path(name).suffix.lower()
            listing.other_formats[suffix] += suffix in OTHER_SUFFIXES
        listing.directories.append(directory)
    listing.other_formats = +listing.other_formats
    return listing


def images_in(directory: Directory) -> Iterator[Path]:
    """The files whose names are of pictures."""
    return (path for path in directory.files.values() if path.suffix.lower() in SUFFIXES)
