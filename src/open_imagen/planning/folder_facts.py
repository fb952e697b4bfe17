"""What a folder of captioned images holds, as far as a recipe depends on it."""

import random
import statistics
import warnings
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from open_imagen.data.folder_scan import scan
from open_imagen.errors import DataError
from open_imagen.text.letters import quoted

LOOKED_AT = 5_000
"""Images whose headers are read, of more a random choice."""
LONG_CAPTION = 80
"""Words that hardly fit into 128 tokens."""


@dataclass(frozen=True)
class FolderFacts:
    """Counts, sizes and captions of a folder."""

    path: str
    images: int
    """With a caption of their own, or the one for all."""
    short_sides: tuple[int, ...]
    """Of the images that were looked at, sorted."""
    unreadable: int
    """Of those that were looked at."""
    transparent: int
    captions: int
    """Distinct ones."""
    words: int
    """Of the middle caption."""
    long_captions: int
    quoted: int
    """Captions with quoted text."""
    examples: tuple[str, ...]
    """Some captions, always the same."""

    @property
    def median_side(self) -> int:
        """The median of the shorter sides in pixels."""
        return int(statistics.median(self.short_sides))

    def share_of_at_least(self, side: int) -> float:
        """The share of images whose short side has so many pixels."""
        return sum(one >= side for one in self.short_sides) / len(self.short_sides)


def look(folder: Path, caption: str = "") -> FolderFacts:
    """Scan a folder; of images only the headers are read.

    Args:
        caption: for images that have none of their own.

    Raises:
        DataError: there is no captioned image that can be read, or captions are missing or wrong.
    """
    found = scan(folder)
    if found.problems:
        raise DataError(
            f"{len(found.problems)} of the captions in {folder} cannot be used: "
            f"{found.problems[0].message}",
            f"Look at all of them with: imagen data check {folder}",
        )
    if not found.images and any(folder.glob("*.tar")):
        raise DataError(
            f"{folder} holds tar files; imagen init reads folders of images.",
            'Start from a recipe with data.kind = "shards", such as '
            "recipes/imagen-base-64-one-gpu.toml.",
        )
    if found.without_caption and not caption:
        first = found.without_caption[0]
        raise DataError(
            f"{len(found.without_caption)} of the {len(found.images)} images in {folder} have no "
            f"caption, {first} among them.",
            f"Write {first.with_suffix('.txt').name} beside it, list the images in metadata.jsonl, "
            'or give all of these one: --caption "a photo of my cat".',
        )
    entries = {entry.image: entry.caption for entry in found.entries}
    entries |= dict.fromkeys(found.without_caption, caption)
    if not entries:
        raise DataError(
            f"There is no captioned image in {folder}.",
            "Put images there, each with a .txt of the same name beside it.",
        )
    sides, unreadable, transparent = _headers(sorted(entries))
    if not sides:
        raise DataError(f"None of the {unreadable} images looked at in {folder} can be read.")
    captions = sorted(set(entries.values()))
    words = [len(one.split()) for one in captions]
    shuffled = random.Random(0).sample(captions, min(4, len(captions)))
    return FolderFacts(
        path=str(folder),
        images=len(entries),
        short_sides=tuple(sorted(sides)),
        unreadable=unreadable,
        transparent=transparent,
        captions=len(captions),
        words=int(statistics.median(words)),
        long_captions=sum(one > LONG_CAPTION for one in words),
        quoted=sum(bool(quoted(one)) for one in captions),
        examples=tuple(shuffled),
    )


def _headers(images: list[Path]) -> tuple[list[int], int, int]:
    """Short sides, and how many images are unreadable or have transparency."""
    if len(images) > LOOKED_AT:
        images = random.Random(0).sample(images, LOOKED_AT)
    sides, unreadable, transparent = [], 0, 0
    for path in images:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                with Image.open(path) if path.is_file() else _missing(path) as image:
                    sides.append(min(image.size))
                    transparent += image.mode in ("RGBA", "LA", "PA")
        except Exception:  # each decoder has errors of its own
            unreadable += 1
    return sides, unreadable, transparent


def _missing(path: Path) -> Image.Image:
    raise OSError(f"{path} is not a file")
