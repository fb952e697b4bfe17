"""What is in a folder of captioned pictures: which pictures, with which captions, what is wrong."""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from open_imagen.data.caption_text import MAX_BYTES, decode_text, joined_captions
from open_imagen.data.files import Directory, images_in, list_files
from open_imagen.data.images import SkippedExample, read_file
from open_imagen.data.metadata import NAMES, Row, read_rows
from open_imagen.errors import DataError

CAPTION_SUFFIXES = (".txt", ".caption")


class Entry(NamedTuple):
    """A picture and what it shows."""

    image: Path
    captions: tuple[str, ...]
    """Of one column after the other; "" for a caption that cannot be used. One can."""
    columns: Mapping[str, Any] = {}
    """Its row in the metadata, if asked for."""

    @property
    def caption(self) -> str:
        """The first that can be used."""
        return next(filter(None, self.captions))


class Problem(NamedTuple):
    """A picture that cannot be used, and why."""

    image: Path
    message: str
    reason: str


@dataclass(frozen=True)
class Layout:
    """Where captions are."""

    columns: tuple[str, ...] = ("text",)
    """Of the metadata."""
    file_column: str = "file_name"
    lines: bool = False
    """Whether each line of a caption file is a caption of its own."""
    mask_suffix: str = ""
    """End of the names of mask files, which are no pictures to learn."""
    keep_columns: bool = False
    """Whether entries keep their rows."""


@dataclass
class Found:
    """What is in a folder."""

    entries: list[Entry] = field(default_factory=list)
    without_caption: list[Path] = field(default_factory=list)
    num_empty: int = 0
    """How many of these have a caption of white space alone."""
    unlisted: list[Path] = field(default_factory=list)
    """Pictures that the metadata does not list and that have no caption file."""
    problems: list[Problem] = field(default_factory=list)
    """What is wrong with others; the messages name file and line."""
    other_formats: Counter[str] = field(default_factory=Counter)
    """How many files of formats that are not read, by suffix."""
    unreadable: list[Path] = field(default_factory=list)
    """Folders that cannot be listed."""

    @property
    def images(self) -> list[Path]:
        """All pictures, sorted by path."""
        wrong = [
            one.image for one in self.problems if one.reason not in ("missing file", "bad row")
        ]
        usable = [entry.image for entry in self.entries]
        return sorted(usable + self.without_caption + self.unlisted + wrong)

    def add(
        self, image: Path, values: Sequence[Any], place: str, columns: Mapping[str, Any]
    ) -> None:
        """A picture and what stands where its captions should be, read at ``place``."""
        try:
            self.entries.append(Entry(image, joined_captions(values), columns))
        except SkippedExample as error:
            if error.reason in ("no caption", "empty caption"):
                self.without_caption.append(image)
                self.num_empty += error.reason == "empty caption"
            else:
                self.problems.append(Problem(image, f"{place}: {error}.", error.reason))

    def notes(self) -> list[str]:
        """What is left out without being wrong, for people who miss it."""
        notes = []
        if self.other_formats:
            kinds = ", ".join(f"{n:,} {suffix}" for suffix, n in self.other_formats.most_common())
            notes.append(f"files of formats that are not read: {kinds}")
        if self.unlisted:
            notes.append(
                f"{len(self.unlisted):,} pictures that the metadata does not list, "
                f"{self.unlisted[0]} among them"
            )
        if self.unreadable:
            notes.append(f"folders that cannot be read: {', '.join(map(str, self.unreadable[:3]))}")
        return notes


def scan(folder: Path, layout: Layout | None = None) -> Found:
    """Pictures and their captions, sorted by path; pictures are not opened.

    Raises:
        DataError: there is no such folder, or metadata that cannot be read.
    """
    layout = layout or Layout()
    folder = folder.expanduser()
    if not folder.is_dir():
        raise DataError(f"There is no folder {folder}.")
    listing = list_files(folder)
    found = Found(other_formats=listing.other_formats, unreadable=listing.unreadable)
    by_path = {str(one.path): one for one in listing.directories}
    tables = [table for one in listing.directories for name in NAMES if (table := one.find(name))]
    listed: set[Path] = set()
    for table in tables:
        _add_table(found, table, by_path, layout, listed)
    for directory in listing.directories:
        for image in images_in(directory):
            is_mask = layout.mask_suffix and image.stem.endswith(layout.mask_suffix)
            if image not in listed and not is_mask:
                _add_beside(found, directory, image, layout, bool(tables))
    found.entries.sort(key=lambda entry: entry.image)
    found.without_caption.sort()
    found.unlisted.sort()
    return found


def _add_table(
    found: Found, table: Path, by_path: dict[str, Directory], layout: Layout, listed: set[Path]
) -> None:
    rows = list(read_rows(table, layout.file_column))
    good = [row for row in rows if not row.problem]
    if good and not any(column in row.values for row in good for column in layout.columns):
        there = [name for name in good[0].values if name != layout.file_column]
        raise DataError(
            f"{table} has no column {' or '.join(map(repr, layout.columns))} of captions.",
            f"Set data.caption_columns to one of: {', '.join(there)}."
            if there
            else f"Add a column {layout.columns[0]!r}.",
        )
    before = frozenset(listed)  # several rows of one table may name one picture
    for row in rows:
        if row.problem:
            found.problems.append(Problem(table, row.problem, "bad row"))
            continue
        image = _named(table.parent, str(row.values[layout.file_column]), by_path)
        if image is None:
            _add_missing(found, table, row, layout)
        elif image not in before:
            listed.add(image)
            values = [row.values.get(column) for column in layout.columns]
            found.add(image, values, row.place, row.values if layout.keep_columns else {})


def _add_missing(found: Found, table: Path, row: Row, layout: Layout) -> None:
    missing = table.parent / str(row.values[layout.file_column])
    message = f"{row.place}, names {missing}, which does not exist."
    found.problems.append(Problem(missing, message, "missing file"))


def _named(folder: Path, name: str, by_path: dict[str, Directory]) -> Path | None:
    """The file that a row names; Windows writes its path with backslashes."""
    for spelling in (name, name.replace("\\", "/")):
        path = Path(os.path.normpath(folder / spelling))
        directory = by_path.get(str(path.parent))
        found = directory.find(path.name) if directory else None
        if found is None and "\0" not in spelling and path.is_file():
            found = path
        if found is not None:
            return found
    return None


def _add_beside(
    found: Found, directory: Directory, image: Path, layout: Layout, has_table: bool
) -> None:
    """A picture with the caption file beside it."""
    names = [image.stem + suffix for suffix in CAPTION_SUFFIXES]
    names += [image.name + suffix for suffix in CAPTION_SUFFIXES]
    beside = next((path for name in names if (path := directory.find(name))), None)
    if beside is None:
        (found.unlisted if has_table else found.without_caption).append(image)
        return
    try:
        data = read_file(beside)
        if len(data) > MAX_BYTES:
            raise SkippedExample("caption not text", f"it has more than {MAX_BYTES:,} bytes")
        text = decode_text(data)
    except UnicodeDecodeError:
        message = f"{beside} is not text in UTF-8."
        found.problems.append(Problem(image, message, "caption not UTF-8"))
    except SkippedExample as error:
        reason = error.reason if error.reason.startswith("caption") else "unreadable caption"
        found.problems.append(Problem(image, f"{beside}: {error}.", reason))
    else:
        lines = [line for line in text.splitlines() if line.strip()]
        found.add(image, [lines] if layout.lines else [text], str(beside), {})
