"""A model folder from the newest checkpoint of a run that has not ended."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader
from torch.distributed.checkpoint.state_dict_loader import load

from open_imagen.cascade.folder import CascadeConfig, write_folder
from open_imagen.cascade.stage import Stage
from open_imagen.cascade.stage_config import StageConfig
from open_imagen.config import parse
from open_imagen.errors import CheckpointError, ConfigError
from open_imagen.storage import read_json
from open_imagen.training.checkpoint import Checkpoints
from open_imagen.training.migration import migrate_state
from open_imagen.world import is_world

EMA = "ema."
"""Prefix of the averaged weights in a checkpoint."""


def is_run(folder: Path) -> bool:
    """Whether a folder is a run's, with checkpoints in it."""
    return bool(Checkpoints(folder / "checkpoints").all())


def export_checkpoint(run: Path, out: Path) -> int:
    """Write a model folder of the averaged weights (EMA) of a run's newest good checkpoint.

    Returns:
        The images seen at that checkpoint.

    Raises:
        CheckpointError: the run has no good checkpoint, or one of an earlier format.
        ConfigError: the run trains a part of a network, such as an adapter.
    """
    newest = Checkpoints(run / "checkpoints").newest_good()
    if newest is None:
        raise CheckpointError(f"There is no good checkpoint in {run}.", "Train it first.")
    state = migrate_state(read_json(newest / "state.json"))
    settings = state.get("settings")
    if settings is None:
        raise CheckpointError(
            f"{newest} is of an earlier version, which did not record how it was trained.",
            "Run its recipe again, which writes a checkpoint that does.",
        )
    config = parse(StageConfig, settings["stage"], "stage.")
    weights = _averages(newest)
    with torch.device("meta"):
        stage = Stage(config)
        missing = {name for name, _ in stage.network.named_parameters()} - weights.keys()
        if missing or settings["adapter"]["rank"]:
            raise ConfigError(
                f"{run} trains a part of a network, which is no model alone.",
                "Let it complete: its model is then in the run folder.",
            )
        stage = stage.with_lazy_weights(weights.items())
    stage.load_weights(torch.device("cpu"))
    kind = str(settings["data"].get("kind", ""))
    images_seen = int(state["images_seen"])
    trained: dict[str, Any] = {
        "images": images_seen,
        "of": state["total_images"],
        "hours": round(state["seconds"] / 3600, 2),
        "data": settings["data"],
    }
    cascade = CascadeConfig(
        name=settings["name"],
        encoder=settings["encoder"],
        world=kind if is_world(kind) else "",
        trained={config.name: trained},
    )
    write_folder(out, cascade, [stage], torch.float32)
    return images_seen


def _averages(checkpoint: Path) -> dict[str, Tensor]:
    """The averaged weights, put together where several processes wrote shards of them."""
    reader = HuggingFaceStorageReader(str(checkpoint))
    stored: Any = reader.read_metadata().state_dict_metadata
    names = [name for name in stored if name.startswith(EMA)]
    tensors = {name: torch.empty(stored[name].size) for name in names}
    load(tensors, storage_reader=reader, no_dist=True)
    return {name.removeprefix(EMA): tensor for name, tensor in tensors.items()}
