"""A folder of captioned pictures: a .txt beside each, or metadata.jsonl (imagefolder layout)."""

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from open_imagen.config import plain
from open_imagen.data.images import Unusable, averaged, decode, to_square
from open_imagen.data.registry import SOURCES
from open_imagen.data.tolerant import check_squares
from open_imagen.errors import DataError
from open_imagen.types import Batch

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp"}


@dataclass(frozen=True, kw_only=True)
class FolderConfig:
    """Pictures and captions in a folder."""

    path: str
    """The folder; subfolders are searched too."""
    kind: str = "folder"
    size: int = 64
    """Side of the pictures: the short side is scaled to it, then the centre is cut out."""
    lowres: int = 0
    """Side of the low-resolution input; 0 for base models."""
    caption: str = ""
    """For pictures that have none of their own; without it such pictures are an error."""
    seed: int = 0
    """Of the order, which differs in every epoch."""

    def __post_init__(self) -> None:
        check_squares(self.size, 0, self.lowres)


class Entry(NamedTuple):
    """A picture and what it shows."""

    image: Path
    caption: str


class Folder:
    """A Source of the pictures of a folder, in a new order every epoch.

    Raises:
        DataError: there is no such folder, or no picture in it, or one without a caption.
    """

    def __init__(self, config: FolderConfig, device: str = "cpu") -> None:
        self.config = config
        found = scan(Path(config.path))
        if config.caption:
            named = [Entry(path, config.caption) for path in found.without_caption]
            found = Found(sorted(found.entries + named), [])
        if found.without_caption:
            first = found.without_caption[0]
            raise DataError(
                f"{len(found.without_caption)} of the pictures in {config.path} have no caption, "
                f"{first} among them.",
                f"Write {first.with_suffix('.txt').name} beside it, list all pictures in "
                "metadata.jsonl, or give them all one in data.caption.",
            )
        if not found.entries:
            raise DataError(
                f"There is no captioned picture in {config.path}.",
                f"Put {', '.join(sorted(SUFFIXES))} files there, each with a .txt beside it.",
            )
        self.entries = found.entries
        self._order: tuple[int, list[int]] = (-1, [])

    def __len__(self) -> int:
        return len(self.entries)

    def captions(self) -> Iterator[str]:
        """Every caption."""
        return (entry.caption for entry in self.entries)

    def entry(self, index: int) -> Entry:
        """Example ``index`` of the endless stream: epoch after epoch, each in its own order."""
        epoch, place = divmod(index, len(self.entries))
        known, order = self._order
        if known != epoch:
            order = list(range(len(self.entries)))
            random.Random(f"order {self.config.seed} {epoch}").shuffle(order)
            self._order = (epoch, order)
        return self.entries[order[place]]

    def batch(self, index: int, size: int) -> Batch:
        """Examples index to index + size - 1.

        Raises:
            DataError: a picture cannot be read; the message names it.
        """
        entries = [self.entry(i) for i in range(index, index + size)]
        images = torch.stack([load_square(entry.image, self.config.size) for entry in entries])
        lowres = None
        if self.config.lowres:
            factor = self.config.size // self.config.lowres
            lowres = torch.stack([averaged(image, factor) for image in images])
        return Batch(images, [entry.caption for entry in entries], index, lowres)

    def describe(self) -> dict[str, Any]:
        """What it is, for model cards and logs."""
        settings: dict[str, Any] = plain(self.config)
        return {**settings, "examples": len(self)}


SOURCES.register("folder")((FolderConfig, Folder))


class Found(NamedTuple):
    """What is in a folder."""

    entries: list[Entry]
    without_caption: list[Path]


def scan(folder: Path) -> Found:
    """Pictures and their captions, sorted by path; pictures are not opened.

    Raises:
        DataError: there is no such folder, or metadata.jsonl is wrong; the message says where.
    """
    if not folder.is_dir():
        raise DataError(f"There is no folder {folder}.")
    listed = folder / "metadata.jsonl"
    if listed.is_file():
        return _from_metadata(folder, listed)
    entries, without = [], []
    for image in sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES):
        try:
            caption = image.with_suffix(".txt").read_text(encoding="utf-8").strip()
        except FileNotFoundError:
            caption = ""
        except UnicodeDecodeError as error:
            raise DataError(f"{image.with_suffix('.txt')} is not text in UTF-8.") from error
        if caption:
            entries.append(Entry(image, caption))
        else:
            without.append(image)
    return Found(entries, without)


def _from_metadata(folder: Path, listed: Path) -> Found:
    entries, without = [], []
    for number, line in enumerate(listed.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            image, caption = folder / row["file_name"], str(row.get("text", "")).strip()
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(
                f'{listed}, line {number}, is not {{"file_name": ..., "text": ...}}: {error}.'
            ) from error
        if not image.is_file():
            raise DataError(f"{listed}, line {number}, names {image}, which does not exist.")
        if caption:
            entries.append(Entry(image, caption))
        else:
            without.append(image)
    return Found(entries, without)


def load_square(path: Path, size: int) -> Tensor:
    """A picture as uint8 [3, size, size]: turned as its EXIF says, scaled, centre cut out.

    Raises:
        DataError: it cannot be read.
    """
    try:
        image = decode(path.read_bytes(), size)
    except (OSError, Unusable) as error:
        raise DataError(f"The picture {path} cannot be read: {error}.") from error
    return to_square(image, size).image
