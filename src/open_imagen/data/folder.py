"""A folder of captioned pictures: a .txt beside each, or metadata.jsonl (imagefolder layout)."""

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from open_imagen.config import plain
from open_imagen.data.caption_text import caption_of
from open_imagen.data.images import SkippedExample, Square, decode, read_file, to_square
from open_imagen.data.registry import SOURCES
from open_imagen.data.tolerant import Tolerant, TolerantConfig
from open_imagen.errors import DataError

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp"}


@dataclass(frozen=True, kw_only=True)
class FolderConfig(TolerantConfig):
    """Pictures and captions in a folder."""

    path: str
    """The folder; subfolders are searched too."""
    kind: str = "folder"
    caption: str = ""
    """For pictures that have none of their own; without it such pictures are an error."""


class Entry(NamedTuple):
    """A picture and what it shows."""

    image: Path
    caption: str


class Problem(NamedTuple):
    """A picture whose caption is wrong, and what is wrong with it."""

    image: Path
    message: str


class Folder(Tolerant):
    """A Source of the pictures of a folder, in a new order every epoch.

    Captions are read at the start, and one that is missing or wrong is refused there. Pictures are
    read as they come, and those that cannot be used are left out.

    Raises:
        DataError: there is no such folder, or no picture in it, or one without a usable caption.
    """

    def __init__(self, config: FolderConfig, device: str = "cpu") -> None:
        super().__init__(config.path, config)
        self.config = config
        found = scan(Path(config.path))
        if found.problems:
            raise DataError(
                f"{len(found.problems)} of the captions in {config.path} cannot be used: "
                f"{found.problems[0].message}",
                "Look at all of them with: imagen data check",
            )
        entries = found.entries
        if config.caption:
            named = [Entry(path, config.caption) for path in found.without_caption]
            entries = sorted(entries + named)
        elif found.without_caption:
            first = found.without_caption[0]
            raise DataError(
                f"{len(found.without_caption)} of the pictures in {config.path} have no caption, "
                f"{first} among them.",
                f"Write {first.with_suffix('.txt').name} beside it, list all pictures in "
                "metadata.jsonl, or give them all one in data.caption.",
            )
        if not entries:
            raise DataError(
                f"There is no captioned picture in {config.path}.",
                f"Put {', '.join(sorted(SUFFIXES))} files there, each with a .txt beside it.",
            )
        self.entries = entries
        self._orders: dict[int, list[int]] = {}

    def __len__(self) -> int:
        return len(self.entries)

    def captions(self) -> Iterator[str]:
        """Every caption."""
        return (entry.caption for entry in self.entries)

    def entry(self, index: int) -> Entry:
        """Example ``index`` of the endless stream: epoch after epoch, each in its own order."""
        epoch, place = divmod(index, len(self.entries))
        order = self._orders.get(epoch)
        if order is None:
            order = list(range(len(self.entries)))
            random.Random(f"order {self.config.seed} {epoch}").shuffle(order)
            # Threads at the end of an epoch read from two of them in turn.
            kept = {known: one for known, one in self._orders.items() if known >= epoch - 1}
            self._orders = {**kept, epoch: order}
        return self.entries[order[place]]

    def read(self, index: int, attempt: int, rng: random.Random) -> tuple[Square, str]:
        """The square and caption of example ``index``, or of a stand-in."""
        # Stand-ins are drawn from all pictures: neighbours have their own turn.
        entry = self.entries[rng.randrange(len(self))] if attempt else self.entry(index)
        config = self.config
        image = decode(read_file(entry.image), config.size, config.max_pixels)
        return to_square(image, config.size, config.lowres, config.crop, rng), entry.caption

    def describe(self) -> dict[str, Any]:
        """What it is, for model cards and logs."""
        settings: dict[str, Any] = plain(self.config)
        return {**settings, "examples": len(self)}


SOURCES.register("folder")((FolderConfig, Folder))


@dataclass
class Found:
    """What is in a folder."""

    entries: list[Entry] = field(default_factory=list)
    without_caption: list[Path] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    """What is wrong with other captions; the messages name file and line."""

    @property
    def images(self) -> list[Path]:
        """All pictures, sorted by path."""
        wrong = [problem.image for problem in self.problems]
        return sorted([entry.image for entry in self.entries] + self.without_caption + wrong)

    def add(self, image: Path, value: Any, place: str) -> None:
        """A picture and what stands where its caption should be, read at ``place``."""
        try:
            self.entries.append(Entry(image, caption_of(value)))
        except SkippedExample as error:
            if error.reason in ("no caption", "empty caption"):
                self.without_caption.append(image)
            else:
                self.problems.append(Problem(image, f"{place}: {error}."))


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
    found = Found()
    for image in sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES):
        if image.is_dir():
            continue
        beside = image.with_suffix(".txt")
        try:
            found.add(image, beside.read_text(encoding="utf-8-sig"), str(beside))
        except FileNotFoundError:
            found.without_caption.append(image)
        except UnicodeDecodeError:
            found.problems.append(Problem(image, f"{beside} is not text in UTF-8."))
        except OSError as error:
            message = f"{beside} cannot be read: {error.strerror}."
            found.problems.append(Problem(image, message))
    return found


def _from_metadata(folder: Path, listed: Path) -> Found:
    found = Found()
    try:
        text = listed.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{listed} is not text in UTF-8.") from error
    except OSError as error:
        raise DataError(f"{listed} cannot be read: {error.strerror}.") from error
    # Only at line feeds: a caption may hold what else Unicode takes for the end of a line.
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        place = f"{listed}, line {number}"
        try:
            row = json.loads(line)
            image, caption = folder / row["file_name"], row.get("text")
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise DataError(
                f'{place}, is not {{"file_name": ..., "text": ...}}: {error}.'
            ) from error
        if not image.is_file():
            raise DataError(f"{place}, names {image}, which does not exist.")
        found.add(image, caption, place)
    return found
