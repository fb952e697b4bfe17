"""The atlas: every thing, and every sprite of it, in one folder of memory-mapped arrays."""

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from open_imagen.errors import CheckpointError, DataError
from open_imagen.storage import read_json
from open_imagen.worlds.things.names import Thing
from open_imagen.worlds.things.rasterize import premultiply

FORMAT = 1
LARGE = 1024
"""Side of the sprites that lie in files of their own."""
MAKE = "Make it with: imagen data things --out {}"
Record = TypeVar("Record", "Thing", "Sprite")


@dataclass(frozen=True)
class Sprite:
    """One picture of a thing.

    Attributes:
        thing: index into the atlas's things.
        style: see sources.STYLES.
        source: the package that it comes from.
        vector: whether there is a large one.
        gender: "", "man" or "woman".
        tone: of the skin, "" or one of names.TONES.
        width, height: of the visible part, as shares of the square; the longer one is 1.
    """

    thing: int
    style: str
    source: str
    vector: bool
    gender: str = ""
    tone: str = ""
    width: float = 1.0
    height: float = 1.0


@dataclass(frozen=True)
class Atlas:
    """A finished atlas folder; see ``open``."""

    folder: Path
    sources: tuple[dict[str, Any], ...]
    things: list[Thing]
    sprites: list[Sprite]

    @classmethod
    def open(cls, folder: str | Path) -> "Atlas":
        """Read a folder that `imagen data things` has written.

        Raises:
            DataError: there is none, it is half-rendered, damaged, or of another format.
        """
        folder = Path(folder)
        path = folder / "atlas.json"
        if not path.is_file():
            if any(folder.glob("rendering-*")):
                raise DataError(
                    f"The atlas {folder} is half-rendered.",
                    f"Run the same command again, it goes on: imagen data things --out {folder}",
                )
            raise DataError(f"There is no atlas in {folder}.", MAKE.format(folder))
        try:
            values = read_json(path)
            if values["format"] != FORMAT:
                raise DataError(
                    f"{path} has format {values['format']}, and this version reads {FORMAT}.",
                    MAKE.format("another folder"),
                )
            things = [_record(Thing, entry) for entry in values["things"]]
            sprites = [_record(Sprite, entry) for entry in values["sprites"]]
            sources = tuple(values["sources"])
        except (CheckpointError, KeyError, TypeError, AttributeError) as error:
            raise DataError(
                f"{path} is damaged: {error}.", MAKE.format("another folder")
            ) from error
        return cls(folder, sources, things, sprites)

    def pixels(self, size: int) -> NDArray[np.uint8]:
        """All sprites of one size, premultiplied RGBA [N, size, size, 4], memory-mapped.

        Raises:
            DataError: this size has not been rendered, or the file is damaged.
        """
        path = self.folder / f"sprites-{size}.npy"
        if not path.is_file():
            part = any(self.folder.glob(f"rendering-{size}*"))
            state = "half-rendered" if part else "not rendered"
            raise DataError(
                f"The sprites of {size} pixels of the atlas {self.folder} are {state}.",
                f"Run: imagen data things --out {self.folder} --sizes {size}",
            )
        try:
            pixels: NDArray[np.uint8] = np.load(path, mmap_mode="r")
        except (ValueError, OSError, EOFError) as error:
            raise DataError(
                f"{path} is damaged: {error}.", "Remove it and make it again."
            ) from error
        wanted = (len(self.sprites), size, size, 4)
        if pixels.shape != wanted or pixels.dtype != np.uint8:
            raise DataError(
                f"{path} has shape {pixels.shape}, not {wanted}.", "Remove it and make it again."
            )
        return pixels

    def large(self, number: int) -> NDArray[np.uint8]:
        """One sprite of vector art, premultiplied RGBA [1024, 1024, 4].

        Raises:
            DataError: it is not vector art, or it has not been rendered.
        """
        path = self.folder / f"sprites-{LARGE}" / f"{number}.webp"
        if not self.sprites[number].vector:
            raise DataError(
                f"Sprite {number} comes from {self.sprites[number].source}, whose pictures have "
                "256 pixels.",
                "Choose one that is vector art.",
            )
        try:
            with Image.open(path) as image:
                return premultiply(np.asarray(image.convert("RGBA")))
        except OSError as error:
            raise DataError(
                f"The sprite {path} is missing or damaged.",
                f"Run: imagen data things --out {self.folder} --sizes {LARGE}",
            ) from error

    def large_numbers(self) -> frozenset[int]:
        """Numbers of the sprites of vector art whose large picture has been rendered."""
        names = (path.stem for path in (self.folder / f"sprites-{LARGE}").glob("*.webp"))
        found = {int(name) for name in names if name.isdigit()}
        return frozenset(n for n in found if n < len(self.sprites) and self.sprites[n].vector)

    def of(self, label: str) -> int:
        """The index of a thing by its label.

        Raises:
            DataError: there is no such thing.
        """
        for index, thing in enumerate(self.things):
            if thing.label == label:
                return index
        raise DataError(f"The atlas has no thing called {label!r}.")

    def sprites_of(self, thing: int, style: str | None = None) -> list[int]:
        """Numbers of a thing's sprites, of one style if it is given."""
        return [
            number
            for number, sprite in enumerate(self.sprites)
            if sprite.thing == thing and style in (None, sprite.style)
        ]


def atlas_values(
    sources: list[dict[str, Any]], things: list[Thing], sprites: list[Sprite]
) -> dict[str, Any]:
    """What atlas.json holds."""
    return {
        "format": FORMAT,
        "sources": sources,
        "things": [asdict(thing) for thing in things],
        "sprites": [asdict(sprite) for sprite in sprites],
    }


def _record(kind: type[Record], entry: dict[str, Any]) -> Record:
    values: dict[str, Any] = {
        name: tuple(v) if isinstance(v, list) else v for name, v in entry.items()
    }
    known = {field.name for field in fields(kind)}
    return kind(**{name: value for name, value in values.items() if name in known})
