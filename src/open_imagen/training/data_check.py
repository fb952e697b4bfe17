"""One check of data against the stage that learns from them, before the first step."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch

from open_imagen.cascade.stage_config import StageConfig
from open_imagen.errors import ConfigError, DataError
from open_imagen.models.registry import resolve
from open_imagen.types import Batch, Source, TextEncoder

SUPER_RESOLUTION = (
    "A recipe for super-resolution has another [stage]: begin with a copy of "
    "recipes/tiny-sr256.toml (docs/tutorials/own-images.md)."
)


class Part(NamedTuple):
    """A source that is no mixture of others, and the section of its settings."""

    section: str
    source: Any


class Sides(NamedTuple):
    """Settings of a source, in pixels; 0 where there is none."""

    size: int
    crop: int
    lowres: int


def check_data(stage: StageConfig, source: Source, section: str = "data") -> None:
    """Whether a stage can learn from a source: sides, channels and captions of all its parts.

    Nothing is read but the first caption of each part. A source without a ``config`` that has
    these settings is left to `check_batch`.

    Raises:
        ConfigError: a setting does not fit the stage's; the message names both.
        DataError: there is no usable caption.
    """
    _check_lowres_network(stage)
    parts, known = parts_of(source, section), {}
    for part in parts:
        config = getattr(part.source, "config", None)
        if hasattr(config, "size"):
            names = (getattr(config, name, 0) for name in Sides._fields)
            sides = known[part.section] = Sides(*names)
            _check_lowres_wanted(stage, part.section, sides.lowres)
            _check_side(stage, part.section, sides)
            _check_factor(stage, part.section, sides)
    _check_same_sides(known)
    for part in parts:
        _check_channels(stage, part)
        if next(iter(part.source.captions()), None) is None:
            raise DataError(
                f"There is no usable caption in {_named(part)}.",
                "Look at the data with: imagen data check",
            )


def parts_of(source: Any, section: str) -> list[Part]:
    """The sources that take turns in a source, or the source itself."""
    named = getattr(source, "parts", None)
    if named is None:
        return [Part(section, source)]
    return [leaf for name, part in named() for leaf in parts_of(part, f"{section}.{name}")]


def check_examples(stage: StageConfig, source: Source, section: str = "data") -> None:
    """Look at an example of every part of a source, but for those that are read from a network.

    Raises:
        DataError: its shape is not the stage's, or no example can be used.
    """
    for part in parts_of(source, section):
        if not getattr(getattr(part.source, "config", None), "streaming", False):
            check_batch(stage, part.source.batch(0, 1), part.section)


def check_first(batches: Iterator[Batch], stage: StageConfig) -> Iterator[Batch]:
    """The same batches, after a check of the first one."""
    try:
        first = next(batches)
        check_batch(stage, first)
        yield first
        yield from batches
    finally:
        batches.close()  # type: ignore[attr-defined]


def check_batch(stage: StageConfig, batch: Batch, section: str = "data") -> None:
    """Whether the images of a batch are what a stage learns from.

    Raises:
        DataError: they are not; the message says what they are.
    """
    network, shape = resolve(stage.network)[1], tuple(batch.images.shape)
    channels = getattr(network, "image_channels", 3)
    described = f"The images of {section} are {list(shape)} {str(batch.images.dtype)[6:]}"
    if len(shape) != 4 or shape[0] != batch.size or batch.images.dtype != torch.uint8:
        raise DataError(f"{described}, not {batch.size} captioned images of uint8 [B, C, H, W].")
    if shape[1] != channels:
        raise DataError(f"{described}; stage.network.image_channels = {channels} needs {channels}.")
    sides, resolution = shape[2:], stage.resolution
    if batch.is_bucketed:
        _check_bucket(stage, sides, described)
    elif sides != (resolution,) * 2 and not stage.lowres:
        raise DataError(
            f"{described}; stage.resolution = {resolution} needs {resolution}x{resolution}."
        )
    elif any(side > resolution or side % network.divisor for side in sides):
        raise DataError(
            f"{described}; stage.resolution = {resolution} takes sides up to {resolution} that are "
            f"multiples of {network.divisor}."
        )
    if (batch.lowres is not None) != bool(stage.lowres):
        there = "a" if batch.lowres is not None else "no"
        raise DataError(
            f"{described} with {there} low-resolution input; stage.lowres = {stage.lowres}."
        )
    if batch.lowres is None:
        return
    small = tuple(batch.lowres.shape)
    exact = [side * stage.lowres / resolution for side in sides]
    if small[:2] != shape[:2] or list(small[2:]) != exact:
        raise DataError(
            f"{described} with low-resolution inputs {list(small)}; stage.resolution = "
            f"{resolution} and stage.lowres = {stage.lowres} enlarge "
            f"{resolution / stage.lowres:g} times."
        )


def _check_bucket(stage: StageConfig, sides: tuple[int, ...], described: str) -> None:
    """A network without positions takes any shape whose sides it can halve."""
    network = resolve(stage.network)[1]
    if any(side % network.divisor for side in sides):
        raise DataError(
            f"{described}; stage.network takes sides that are multiples of {network.divisor}.",
            f"Set data.bucket_step = {network.divisor}, or a multiple of it.",
        )
    if positions := getattr(network, "positions", 0):
        raise DataError(
            f"{described}; stage.network.positions = {positions} tells every pixel where it lies "
            "in a square: data.buckets does not go with it."
        )


def check_text(stage: StageConfig, encoder: TextEncoder) -> None:
    """Whether a stage can read what a text encoder gives.

    Raises:
        ConfigError: its tokens are of another width.
    """
    check_text_width(stage, encoder.name, encoder.width)


def check_text_width(stage: StageConfig, encoder: str, width: int) -> None:
    """The same, from what is known of an encoder without its weights."""
    wanted = resolve(stage.network)[1].text_width
    if width != wanted:
        raise ConfigError(
            f"encoder = {encoder!r} gives tokens of width {width}, which does not fit "
            f"stage.network.text_width = {wanted}: set stage.network.text_width = {width}.",
            "Or choose the encoder that the network was made for.",
        )


def _check_lowres_network(stage: StageConfig) -> None:
    network = resolve(stage.network)[1]
    name = stage.network.get("preset", stage.network.get("network", "unet"))
    if stage.lowres and not network.lowres:
        raise ConfigError(
            f"stage.lowres = {stage.lowres} does not fit stage.network {name!r}, which has "
            "lowres = false: set stage.network.lowres = true, or choose a network for "
            "super-resolution.",
            SUPER_RESOLUTION,
        )
    if network.lowres and not stage.lowres:
        raise ConfigError(
            f"stage.lowres = 0 does not fit stage.network {name!r}, which has lowres = true: set "
            "stage.lowres to the side of the images that it enlarges, or choose a network for a "
            "base stage."
        )


def _check_lowres_wanted(stage: StageConfig, section: str, lowres: int) -> None:
    if lowres and not stage.lowres:
        raise ConfigError(
            f"{section}.lowres = {lowres} does not fit stage.lowres = 0 of a base stage: "
            f"set {section}.lowres = 0.",
            SUPER_RESOLUTION,
        )


def _check_side(stage: StageConfig, section: str, sides: Sides) -> None:
    """Whole images have the stage's side; crops are of such images, or have it themselves."""
    network, resolution = resolve(stage.network)[1], stage.resolution
    size, crop, _ = sides
    if resolution % network.divisor:
        nearest = max(1, round(resolution / network.divisor)) * network.divisor
        raise ConfigError(
            f"stage.resolution = {resolution} does not fit stage.network, whose images have sides "
            f"that are multiples of {network.divisor}: set stage.resolution = {nearest}."
        )
    if not crop or crop == size:
        if size != resolution:
            raise ConfigError(
                f"{section}.size = {size} does not fit stage.resolution = {resolution}: "
                f"set {section}.size = {resolution}."
            )
        return
    fits = f"{section}.crop = {crop} does not fit stage.resolution = {resolution}"
    if crop > resolution:
        raise ConfigError(f"{fits}: set {section}.crop = {resolution}.")
    if crop == resolution:
        return
    if size != resolution:
        raise ConfigError(
            f"{fits} with {section}.size = {size}: set {section}.size = {resolution} for crops of "
            f"the stage's images, or {section}.crop = {resolution}."
        )
    if not stage.lowres:
        raise ConfigError(
            f"{fits}: a base stage (stage.lowres = 0) learns whole images; set {section}.crop = 0."
        )
    if positions := getattr(network, "positions", 0):
        raise ConfigError(
            f"{fits}: stage.network.positions = {positions} tells every pixel where it lies in the "
            f"whole image; set {section}.crop = 0, or stage.network.positions = 0."
        )
    if crop % network.divisor:
        nearest = max(1, round(crop / network.divisor)) * network.divisor
        raise ConfigError(
            f"{section}.crop = {crop} does not fit stage.network, whose images have sides that are "
            f"multiples of {network.divisor}: set {section}.crop = {nearest}."
        )


def _check_factor(stage: StageConfig, section: str, sides: Sides) -> None:
    """Images are as many times larger than their low-resolution input as the stage makes them."""
    size, crop, lowres = sides
    if not stage.lowres:
        return
    exact, rest = divmod(size * stage.lowres, stage.resolution)
    if rest:
        raise ConfigError(
            f"{section}.size = {size} does not fit stage.resolution = {stage.resolution} and "
            f"stage.lowres = {stage.lowres}: set {section}.size = {stage.resolution} and "
            f"{section}.lowres = {stage.lowres}."
        )
    if lowres != exact:
        reason = ""
        if size != stage.resolution:
            reason = f", because {section}.size = {size} and stage.resolution = {stage.resolution}"
        raise ConfigError(
            f"{section}.lowres = {lowres} does not fit stage.lowres = {stage.lowres}: "
            f"set {section}.lowres = {exact}{reason}."
        )
    factor = size // lowres
    if crop % factor:
        raise ConfigError(
            f"{section}.crop = {crop} does not fit {section}.lowres = {lowres}, of which a pixel "
            f"is {factor} wide: set {section}.crop = {max(1, crop // factor) * factor}."
        )


def _check_same_sides(known: dict[str, Sides]) -> None:
    """Parts of a mixture end up in one batch."""
    sides = {section: one.crop or one.size for section, one in known.items()}
    first = next(iter(sides), "")
    for section, side in sides.items():
        if side != sides[first]:
            raise ConfigError(
                f"Images of {section} have sides of {side} and those of {first} of "
                f"{sides[first]}: set the same size and crop for both."
            )


def _check_channels(stage: StageConfig, part: Part) -> None:
    wanted = getattr(resolve(stage.network)[1], "image_channels", 3)
    there = getattr(part.source, "channels", 3)
    if there != wanted:
        kinds = {3: "RGB", 4: "RGB with premultiplied alpha"}
        raise ConfigError(
            f"Images of {_named(part)} have {there} channels ({kinds.get(there, 'other')}), which "
            f"does not fit stage.network.image_channels = {wanted}: set "
            f"stage.network.image_channels = {there}, or use data of {wanted} channels."
        )


def _named(part: Part) -> str:
    """A part by its section and, if it has one, its path."""
    path = getattr(getattr(part.source, "config", None), "path", "")
    return f"{part.section} ({path})" if path else part.section
