"""Low-rank adapters of a model: their folder, their weights, putting them on and off."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from open_imagen.cascade.folder import FORMAT
from open_imagen.cascade.stage import Stage
from open_imagen.errors import CheckpointError, ConfigError
from open_imagen.models.lora import LowRankChange
from open_imagen.storage import TensorFile, read_json, save_tensors, sha256, write_json


@dataclass(frozen=True, eq=False)
class Adapter:
    """A low-rank change of one stage's weights (models/lora.py), and how much of it is wanted."""

    path: Path
    weight: float
    """The change is multiplied by this."""
    stage: str
    scale: float
    """alpha / rank."""
    tensors: dict[str, Tensor]
    digest: str
    """SHA-256 of its file."""

    @property
    def told(self) -> dict[str, Any]:
        """What an image's record says of it."""
        return {"path": str(self.path), "weight": self.weight, "hash": self.digest[:12]}


Adapters = Mapping[str, float] | Mapping[Path, float] | Sequence[str | Path | Adapter]
"""Folders, "FOLDER:WEIGHT", or a mapping of folders to weights; or adapters that have been read."""


def write_adapter(
    folder: Path, stage: str, tensors: dict[str, Tensor], scale: float, init: str
) -> None:
    """Write an adapter of one stage: its tensors, and adapter.json that says how to use them."""
    save_tensors(folder / "adapter.safetensors", tensors)
    facts = {"format": FORMAT, "stage": stage, "scale": scale, "model": init}
    write_json(folder / "adapter.json", facts)


def read_adapters(adapters: Adapters) -> list[Adapter]:
    """The adapters that are meant, read.

    Raises:
        ConfigError: a weight that is not a finite number.
        CheckpointError: one is no adapter, damaged, or of a newer format.
    """
    if isinstance(adapters, str | Path):
        adapters = [adapters]
    found = []
    for one in adapters.items() if isinstance(adapters, Mapping) else adapters:
        if isinstance(one, Adapter):
            found.append(one)
            continue
        path, weight = split_weight(one) if isinstance(one, str | Path) else one
        if not isinstance(weight, int | float) or not math.isfinite(weight):
            raise ConfigError(f"The weight of the adapter {path} is {weight!r}, not a number.")
        found.append(read_adapter(Path(path), float(weight)))
    return found


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


def read_adapter(folder: Path, weight: float = 1.0) -> Adapter:
    """An adapter that a run wrote: its folder, or that of the run.

    Raises:
        CheckpointError: it is none, damaged, or of a newer format.
    """
    if not (folder / "adapter.json").is_file() and (folder / "adapter" / "adapter.json").is_file():
        folder = folder / "adapter"
    facts = read_json(folder / "adapter.json")
    if not isinstance(facts, dict) or {"format", "stage", "scale"} - facts.keys():
        raise CheckpointError(f"{folder / 'adapter.json'} does not describe an adapter.")
    if facts["format"] > FORMAT:
        raise CheckpointError(f"{folder} was written by a newer version.", "Update open-imagen.")
    file = folder / "adapter.safetensors"
    tensors = dict(TensorFile(file))
    return Adapter(folder, weight, facts["stage"], facts["scale"], tensors, sha256(file))


def apply_adapters(stages: Sequence[Stage], adapters: Sequence[Adapter]) -> None:
    """Give stages these adapters and no others; all are checked before any weight changes.

    Raises:
        CheckpointError: an adapter is of a stage that is not here, or of another network.
    """
    changes: dict[str, list[LowRankChange]] = {stage.config.name: [] for stage in stages}
    by_name = {stage.config.name: stage for stage in stages}
    for adapter in adapters:
        if adapter.stage not in by_name:
            raise CheckpointError(
                f"The adapter {adapter.path} is of stage {adapter.stage!r}; the model has "
                f"{', '.join(by_name)}."
            )
        network = by_name[adapter.stage].network
        shapes = {name: tuple(tensor.shape) for name, tensor in network.named_parameters()}
        change = LowRankChange(adapter.tensors, shapes, adapter.scale * adapter.weight)
        changes[adapter.stage].append(change)
    for name, stage in by_name.items():
        if changes[name] or stage.has_adapters:
            stage.set_adapters(changes[name])


def adapted_hash(model_hash: str, adapters: Sequence[Adapter]) -> str:
    """The hash of a model with adapters; without any, the model's own."""
    if not adapters:
        return model_hash
    digest = hashlib.sha256(model_hash.encode())
    for adapter in adapters:
        digest.update(adapter.digest.encode())
        if adapter.weight != 1:
            digest.update(repr(adapter.weight).encode())
    return digest.hexdigest()[:12]
