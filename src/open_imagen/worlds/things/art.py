"""Which picture of each art package shows which Unicode sequence."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from open_imagen.errors import DataError
from open_imagen.worlds.things.names import normal_code
from open_imagen.worlds.things.rasterize import (
    SMALLEST_RENDER,
    Drawing,
    Rendered,
    render_drawing,
    render_picture,
    shrink,
)
from open_imagen.worlds.things.sources import Package, Source


@dataclass(frozen=True)
class Art:
    """Pictures of one package by normalised Unicode sequence."""

    source: Source
    pictures: Mapping[str, Any]
    read: Callable[[Any], "Drawing | bytes"]

    def render(self, code: str, sizes: Sequence[int]) -> list[Rendered]:
        """Render the picture of a sequence, once for all sizes.

        Raises:
            DataError: it cannot be drawn.
        """
        try:
            picture = self.read(self.pictures[code])
            size = max(*sizes, SMALLEST_RENDER)
            if isinstance(picture, bytes):
                largest = render_picture(picture, size)
            else:
                largest = render_drawing(picture, size)
            return [shrink(largest, size) for size in sizes]
        except DataError as error:
            raise DataError(f"{self.source.package}, {code}: {error}", error.hint) from error


def open_art(source: Source, packages: Mapping[str, Package], labels: Mapping[str, str]) -> Art:
    """The pictures of one package.

    Args:
        labels: CLDR label -> code, for names that no chars.json knows.

    Raises:
        DataError: the package's files are not as expected.
    """
    package = packages[source.package]
    if not source.vector:
        names = package.names(source.files[0])
        pictures = {normal_code(PurePosixPath(name).stem.replace("_", "-")): name for name in names}
        return Art(source, pictures, package.read)
    try:
        icons = json.loads(package.read("icons.json"))
        codes = _codes_by_name(source, packages, labels)
        drawn = {**icons["icons"], **icons.get("aliases", {})}
        pictures = {codes[name]: name for name in drawn if name in codes and _body(icons, name)}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{package.path} cannot be read: {error!r}.") from error
    return Art(source, pictures, lambda name: _drawing(icons, name))


def _codes_by_name(
    source: Source, packages: Mapping[str, Package], labels: Mapping[str, str]
) -> dict[str, str]:
    """Name of a picture -> normalised Unicode sequence."""
    package = packages[source.names_from or source.package]
    chars = json.loads(package.read("chars.json"))
    codes = {name: normal_code(code) for code, name in chars.items()}
    for alias, entry in json.loads(package.read("icons.json")).get("aliases", {}).items():
        if entry["parent"] in codes and not entry.get("hFlip"):
            codes.setdefault(alias, codes[entry["parent"]])
    if source.names_from:
        for label, code in labels.items():
            codes.setdefault(picture_name(label), code)
    return codes


def picture_name(label: str) -> str:
    """A CLDR label as the icon sets spell it.

    >>> picture_name("woman's hat")
    'womans-hat'
    """
    return re.sub(r"[^a-z0-9]+", "-", label.lower().replace("'", "")).strip("-")


def _body(icons: Mapping[str, Any], name: str) -> bool:
    entry = icons["icons"].get(name) or icons["aliases"][name]
    return "body" in entry or bool(entry.get("hFlip"))


def _drawing(icons: Mapping[str, Any], name: str) -> Drawing:
    alias = icons.get("aliases", {}).get(name, {}) if name not in icons["icons"] else {}
    entry = {**icons["icons"][alias.get("parent", name)], **alias}

    def value(key: str, default: float) -> float:
        return float(entry.get(key, icons.get(key, default)))

    return Drawing(
        entry["body"],
        value("width", 16),
        value("height", 16),
        value("left", 0),
        value("top", 0),
        bool(entry.get("hFlip")),
    )
