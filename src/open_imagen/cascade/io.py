"""Cascades from model folders: load, join."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Unpack

from open_imagen.cascade import deepfloyd
from open_imagen.cascade.cascade import Cascade
from open_imagen.cascade.folder import (
    CascadeConfig,
    adapted_hash,
    fingerprint,
    locate,
    merge,
    read_adapter,
    read_adapters,
    read_header,
    read_stages,
)
from open_imagen.cascade.runtime import RuntimeConfig, RuntimeOptions
from open_imagen.errors import CheckpointError


def load(
    model: str | Path = "scenes",
    *,
    adapters: Sequence[str | Path] = (),
    **runtime: Unpack[RuntimeOptions],
) -> Cascade:
    """A cascade: a shipped model by name, a model folder, a folder of DeepFloyd IF, or
    "hf:org/name".

    Args:
        adapters: folders of low-rank adapters to add to its weights.
        runtime: device, dtype, fast, offload; see RuntimeConfig.

    Raises:
        UnknownName: no such model.
        CheckpointError: the folder is damaged, incomplete, or of a newer format; or an adapter
            does not fit.
    """
    config = RuntimeConfig(**runtime)
    folder = locate(model)
    if not (folder / "cascade.json").is_file():
        return published(folder, config, adapters)
    header = read_header(folder)
    stages = read_stages(folder, header)
    changes = [read_adapter(Path(one)) for one in adapters]
    merge(stages, [one for one in changes if not one.name])
    named = [one for one in changes if one.name] + read_adapters(folder, header)
    return Cascade(
        CascadeConfig.of(header),
        stages,
        config,
        encoder_folder=inside if (inside := folder / "text_encoder").is_dir() else None,
        model_hash=adapted_hash(fingerprint(folder, header), changes),
        adapters=named,
    )


def published(
    folder: str | Path,
    runtime: RuntimeConfig | None = None,
    adapters: Sequence[str | Path] = (),
) -> Cascade:
    """A cascade of DeepFloyd IF's published folders; see cascade/deepfloyd.py.

    Raises:
        CheckpointError: it is none of theirs, or something of it is missing, unknown or unsafe.
    """
    found = deepfloyd.read(Path(folder))
    deepfloyd.show_licence()
    changes = [read_adapter(Path(one)) for one in adapters]
    merge(found.stages, [one for one in changes if not one.name])
    return Cascade(
        CascadeConfig(name=Path(folder).resolve().name, encoder=found.encoder),
        found.stages,
        runtime,
        encoder_folder=found.text_encoder.folder if found.text_encoder else None,
        model_hash=adapted_hash(found.model_hash, changes),
        adapters=[one for one in changes if one.name],
    )


def join(
    name: str,
    folders: Sequence[str | Path],
    default_stages: int | None = None,
    **runtime: Unpack[RuntimeOptions],
) -> Cascade:
    """One cascade from the stages of several model folders, lowest resolution first.

    Args:
        default_stages: how many of them run where nobody says; all if None.
        runtime: device, dtype, fast, offload; see RuntimeConfig.

    Raises:
        CheckpointError: they use different text encoders, or do not follow each other.
    """
    headers = [read_header(locate(folder)) for folder in folders]
    encoders = {header["encoder"] for header in headers}
    if len(encoders) > 1:
        raise CheckpointError(f"These models listen to different encoders: {sorted(encoders)}.")
    stages = [
        stage
        for folder, header in zip(folders, headers, strict=True)
        for stage in read_stages(locate(folder), header)
    ]
    trained: dict[str, Any] = {}
    for header in headers:
        trained |= header.get("trained", {})
    config = CascadeConfig(
        name=name,
        encoder=encoders.pop(),
        default_stages=default_stages,
        world=next((header["world"] for header in headers if header.get("world")), ""),
        trained=trained,
    )
    adapters = [
        one
        for folder, header in zip(folders, headers, strict=True)
        for one in read_adapters(locate(folder), header)
    ]
    return Cascade(config, stages, RuntimeConfig(**runtime), adapters=adapters)
