"""Cascades from model folders: load()."""

from pathlib import Path
from typing import Unpack

from open_imagen.cascade import deepfloyd
from open_imagen.cascade.adapters import Adapters, adapted_hash, read_weighted, split_named
from open_imagen.cascade.cascade import Cascade
from open_imagen.cascade.folder import (
    CascadeConfig,
    fingerprint,
    locate,
    read_adapters,
    read_header,
    read_stages,
)
from open_imagen.cascade.runtime import RuntimeConfig, RuntimeOptions
from open_imagen.config import DEFAULT_MODEL


def load(
    model: str | Path = DEFAULT_MODEL,
    *,
    adapters: Adapters = (),
    **runtime: Unpack[RuntimeOptions],
) -> Cascade:
    """Load a cascade.

    The source is the name of a shipped model, a model folder, a folder of DeepFloyd IF, or
    "hf:org/name".

    Args:
        adapters: folders of low-rank adapters to add to its weights, each perhaps with a weight
            ("DIR:0.7"), or a mapping of folders to weights; see Cascade.set_adapters.
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
    named, added = split_named(read_weighted(adapters))
    own = read_adapters(folder, header)
    cascade = Cascade(
        CascadeConfig.of(header),
        stages,
        config,
        encoder_folder=inside if (inside := folder / "text_encoder").is_dir() else None,
        model_hash=adapted_hash(fingerprint(folder, header), [one.digest for one in named]),
        adapters=named + own,
    )
    cascade.set_adapters(added)
    return cascade


def published(
    folder: str | Path,
    runtime: RuntimeConfig | None = None,
    adapters: Adapters = (),
) -> Cascade:
    """A cascade of DeepFloyd IF's published folders; see cascade/deepfloyd.py.

    Raises:
        CheckpointError: it is none of theirs, or something of it is missing, unknown or unsafe.
    """
    found = deepfloyd.read(Path(folder))
    deepfloyd.show_licence()
    named, added = split_named(read_weighted(adapters))
    cascade = Cascade(
        CascadeConfig(name=Path(folder).resolve().name, encoder=found.encoder),
        found.stages,
        runtime,
        encoder_folder=found.text_encoder.folder if found.text_encoder else None,
        model_hash=adapted_hash(found.model_hash, [one.digest for one in named]),
        adapters=named,
    )
    cascade.set_adapters(added)
    return cascade
