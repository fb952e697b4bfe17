"""One cascade from the stages of several models: join()."""

import warnings
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, Unpack

from open_imagen.cascade import deepfloyd
from open_imagen.cascade.cascade import Cascade
from open_imagen.cascade.folder import (
    Adapter,
    CascadeConfig,
    locate,
    read_adapters,
    read_header,
    read_named,
)
from open_imagen.cascade.runtime import RuntimeConfig, RuntimeOptions
from open_imagen.cascade.stage import Stage
from open_imagen.errors import CheckpointError, ConfigError, OpenImagenWarning, UnknownName
from open_imagen.text.encoders import ENCODERS


class JoinedStage(NamedTuple):
    """A stage and its model's settings."""

    stage: Stage
    source: str
    """As the user named it, for messages."""
    encoder: str
    world: str
    trained: dict[str, Any]
    encoder_folder: Path | None
    adapters: tuple[Adapter, ...] = ()
    """Its named ones."""

    def __str__(self) -> str:
        return f"{self.stage.config.name} of {self.source}"


def join(
    name: str,
    models: Sequence[str | Path],
    default_stages: int | None = None,
    **runtime: Unpack[RuntimeOptions],
) -> Cascade:
    """One cascade from the stages of several models, whatever the order they are named in.

    Examples:
        >>> cascade = join("mine", ["runs/mine/model", "scenes:sr256"])   # doctest: +SKIP

    Args:
        models: folders, shipped models or "hf:org/name"; with ":STAGE" behind it, one stage of it.
        default_stages: how many of the stages run where nobody says; all if None.
        runtime: device, dtype, fast, offload; see RuntimeConfig.

    Raises:
        ConfigError: no models are given.
        UnknownName: there is no such model, or it has no such stage.
        CheckpointError: the stages do not fit each other; the message says what differs.
    """
    if isinstance(models, str | Path) or not models:
        raise ConfigError(
            f"join needs a list of models, not {models!r}.",
            'Give model folders or names, as in ["runs/mine/model", "scenes:sr256"].',
        )
    parts = [part for model in models for part in read_parts(str(model))]
    parts.sort(key=lambda part: part.stage.config.resolution)
    check_stages_fit(parts)
    first = parts[0]
    config = CascadeConfig(
        name=name,
        encoder=first.encoder,
        default_stages=default_stages,
        # Prompts are for the lowest stage: what reads them is the world that it was trained on.
        world=first.world,
        trained={part.stage.config.name: part.trained for part in parts if part.trained},
    )
    return Cascade(
        config,
        [part.stage for part in parts],
        RuntimeConfig(**runtime),
        encoder_folder=next((p.encoder_folder for p in parts if p.encoder_folder), None),
        adapters=[adapter for part in parts for adapter in part.adapters],
    )


def split_reference(reference: str) -> tuple[str, str]:
    """The model of "MODEL" or "MODEL:STAGE", and the stage, "" for all.

    >>> split_reference("scenes:sr256"), split_reference("hf:org/name"), split_reference("a/b")
    (('scenes', 'sr256'), ('hf:org/name', ''), ('a/b', ''))
    >>> split_reference("hf:org/name:sr256")
    ('hf:org/name', 'sr256')
    """
    prefix = "hf:" if reference.startswith("hf:") else ""
    rest = reference.removeprefix(prefix)
    if ":" not in rest or Path(reference).is_dir():
        return reference, ""
    model, _, stage = rest.rpartition(":")
    return prefix + model, stage


def read_parts(reference: str) -> list[JoinedStage]:
    """The stages that a reference names; their weights are read later.

    Raises:
        UnknownName, CheckpointError: see join.
    """
    model, wanted = split_reference(reference)
    folder = locate(model)
    inside = folder / "text_encoder"
    if not (folder / "cascade.json").is_file():
        return _published_parts(folder, reference, wanted)
    header = read_header(folder)
    trained, adapters = header.get("trained", {}), read_adapters(folder, header)
    return [
        JoinedStage(
            read_named(folder, header, name),
            reference,
            header["encoder"],
            header.get("world", ""),
            trained.get(name, {}),
            inside if inside.is_dir() else None,
            tuple(one for one in adapters if one.stage == name),
        )
        for name in ([wanted] if wanted else header["stages"])
    ]


def _published_parts(folder: Path, reference: str, wanted: str) -> list[JoinedStage]:
    """The same of DeepFloyd IF's folders."""
    found = deepfloyd.read(folder)
    names = [stage.config.name for stage in found.stages]
    if wanted and wanted not in names:
        raise UnknownName(f"stage of {folder.name}", wanted, names)
    deepfloyd.show_licence()
    place = found.text_encoder.folder if found.text_encoder else None
    return [
        JoinedStage(stage, reference, found.encoder, "", {}, place)
        for stage in found.stages
        if not wanted or stage.config.name == wanted
    ]


def check_stages_fit(parts: Sequence[JoinedStage]) -> None:
    """Whether stages, lowest resolution first, make a cascade.

    Raises:
        CheckpointError: they do not; the message names both stages and what differs.
    """
    for part in parts:
        _check_encoder(part, parts[0])
    for below, above in pairwise(parts):
        _check_pair(below, above)
    reading = [part for part in parts if part.stage.letters]
    if len({part.stage.letters for part in reading}) > 1:
        lengths = ", ".join(f"{part} reads {part.stage.letters}" for part in reading)
        warnings.warn(
            f"The stages read different numbers of letters of quoted text: {lengths}. Longer words "
            "may be drawn differently by each.",
            OpenImagenWarning,
            stacklevel=3,
        )


def _check_encoder(part: JoinedStage, first: JoinedStage) -> None:
    """One text encoder serves all stages."""
    if part.encoder != first.encoder:
        raise CheckpointError(
            f"{first} was trained with the text encoder {first.encoder}, {part} with "
            f"{part.encoder}: stages of one cascade share one.",
            f"Train one of them with the other's (encoder = {first.encoder!r} in its recipe).",
        )
    width, wanted = ENCODERS[part.encoder].width, part.stage.network_config.text_width
    if width != wanted:
        raise CheckpointError(
            f"{part} reads tokens of width {wanted}; those of {part.encoder} have {width}.",
            "Its recipe or config.json names another text encoder than it was trained with.",
        )


def _check_pair(below: JoinedStage, above: JoinedStage) -> None:
    """Whether a stage can upscale the images of the one below it."""
    low, high = below.stage.config, above.stage.config
    if low.name == high.name:
        raise CheckpointError(
            f"Both {below.source} and {above.source} bring a stage called {low.name!r}.",
            f"Name one stage of a model, as in {above.source.split(':')[0]}:STAGE.",
        )
    if not high.lowres:
        raise CheckpointError(
            f"{below} and {above} both begin from text; a cascade has one base stage.",
            "Leave one out, or name the stages that you need, as in MODEL:sr256.",
        )
    if high.lowres != low.resolution:
        raise CheckpointError(
            f"{above} enlarges {high.lowres}-pixel images, but {below} makes "
            f"{low.resolution}-pixel ones.",
            f"Take a super-resolution stage with lowres = {low.resolution}.",
        )
    if above.stage.channels != below.stage.channels:
        kinds = {3: "RGB", 4: "RGB with alpha"}
        raise CheckpointError(
            f"{below} makes images of {below.stage.channels} channels "
            f"({kinds[below.stage.channels]}), {above} enlarges those of {above.stage.channels} "
            f"({kinds[above.stage.channels]}).",
            "Both need the same stage.network.image_channels.",
        )
