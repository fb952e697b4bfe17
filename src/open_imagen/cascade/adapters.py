"""Several low-rank adapters of a model, each with a weight: reading them, putting them on."""

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from open_imagen.cascade.folder import Adapter, read_adapter
from open_imagen.cascade.stage import Stage
from open_imagen.errors import CheckpointError, ConfigError
from open_imagen.models.lora import LowRankChange


@dataclass(frozen=True, eq=False)
class WeightedAdapter:
    """An adapter and the weight of its change."""

    path: Path
    weight: float
    adapter: Adapter

    @property
    def facts(self) -> dict[str, Any]:
        """The adapter's entry in an image's record."""
        return {"path": str(self.path), "weight": self.weight, "hash": self.adapter.digest[:12]}


Adapters = Mapping[str, float] | Mapping[Path, float] | Sequence[str | Path | WeightedAdapter]
"""Folders, "FOLDER:WEIGHT", or a mapping of folders to weights; or adapters that have been read."""


def read_weighted(adapters: Adapters) -> list[WeightedAdapter]:
    """The adapters that are meant, read.

    Raises:
        ConfigError: a weight that is not a finite number.
        CheckpointError: one is no adapter, damaged, or of a newer format.
    """
    if isinstance(adapters, str | Path):
        adapters = [adapters]
    found = []
    for one in adapters.items() if isinstance(adapters, Mapping) else adapters:
        if isinstance(one, WeightedAdapter):
            found.append(one)
            continue
        path, weight = split_weight(one) if isinstance(one, str | Path) else one
        if not isinstance(weight, int | float) or not math.isfinite(weight):
            raise ConfigError(f"The weight of the adapter {path} is {weight!r}, not a number.")
        folder = adapter_folder(Path(path))
        found.append(WeightedAdapter(folder, float(weight), read_adapter(folder)))
    return found


def adapter_folder(path: Path) -> Path:
    """The folder of an adapter: itself, or the one in the folder of the run that wrote it."""
    inside = path / "adapter"
    if not (path / "adapter.json").is_file() and (inside / "adapter.json").is_file():
        return inside
    return path


def split_weight(text: str | Path) -> tuple[str, float]:
    """The folder and the weight of "FOLDER:WEIGHT"; 1 where there is none.

    >>> split_weight("runs/ink/adapter:0.7"), split_weight("runs/ink/adapter")
    (('runs/ink/adapter', 0.7), ('runs/ink/adapter', 1.0))
    """
    folder, colon, weight = str(text).rpartition(":")
    if not colon or Path(text).is_dir():
        return str(text), 1.0
    try:
        return folder, float(weight)
    except ValueError as error:
        if Path(folder).is_dir():
            raise ConfigError(
                f"The weight of the adapter {folder} is {weight!r}, not a number.",
                "Write DIR:WEIGHT, as in runs/ink/adapter:0.7.",
            ) from error
        return str(text), 1.0


def split_named(
    adapters: Iterable[WeightedAdapter],
) -> tuple[list[Adapter], list[WeightedAdapter]]:
    """Split adapters into those with a name and the others.

    Named ones are variants of a stage (variants.py); the others are added to its weights.

    Raises:
        ConfigError: one with a name has a weight.
    """
    named, added = [], []
    for one in adapters:
        if not one.adapter.name:
            added.append(one)
        elif one.weight == 1:
            named.append(one.adapter)
        else:
            raise ConfigError(
                f"{one.path} is the named adapter {one.adapter.name!r}; it is used whole or not at "
                f"all, not with the weight {one.weight:g}.",
                "Leave the weight out.",
            )
    return named, added


def apply_adapters(stages: Sequence[Stage], adapters: Sequence[WeightedAdapter]) -> None:
    """Add these adapters, and no others, to the weights of stages and of their variants.

    All are checked before any weight changes.

    Raises:
        CheckpointError: an adapter is of a stage that is not here, or of another network.
        ConfigError: an adapter has a name.
    """
    names = dict.fromkeys(stage.config.name for stage in stages)
    for one in adapters:
        if one.adapter.stage not in names:
            raise CheckpointError(
                f"The adapter {one.path} is of stage {one.adapter.stage!r}; the model has "
                f"{', '.join(names)}."
            )
        if one.adapter.name:
            raise ConfigError(
                f"{one.path} is the named adapter {one.adapter.name!r}, which replaces a stage's "
                "weights.",
                "Give it to oi.load(adapters=[...]) or --adapter, and choose it in the settings.",
            )
    changes = [_changes_of(stage, adapters) for stage in stages]
    for stage, own in zip(stages, changes, strict=True):
        stage.set_adapters(own)


def _changes_of(stage: Stage, adapters: Sequence[WeightedAdapter]) -> list[LowRankChange]:
    shapes = {name: tuple(tensor.shape) for name, tensor in stage.network.named_parameters()}
    return [
        LowRankChange(one.adapter.tensors, shapes, one.adapter.scale, one.weight)
        for one in adapters
        if one.adapter.stage == stage.config.name
    ]


def adapted_hash(model_hash: str, digests: Sequence[str], weights: Sequence[float] = ()) -> str:
    """The hash of a model with adapters of these digests and weights; unchanged without any."""
    if not digests:
        return model_hash
    digest = hashlib.sha256(model_hash.encode())
    for one in digests:
        digest.update(one.encode())
    for weight in weights:
        if weight != 1:
            digest.update(repr(weight).encode())
    return digest.hexdigest()[:12]
