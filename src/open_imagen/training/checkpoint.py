"""Save, prune and resume the training state.

A checkpoint is a folder named after the images seen. It is written beside its place and renamed,
so that it is whole or not there at all. Tensors go through torch.distributed.checkpoint into
safetensors files; nothing in it needs unpickling.
"""

import contextlib
import logging
import os
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import (
    HuggingFaceStorageReader,
    HuggingFaceStorageWriter,
)
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from open_imagen.errors import CheckpointError, OutputError
from open_imagen.storage import read_json, write_json
from open_imagen.training.ema import Ema
from open_imagen.training.optim import Mixed


class Checkpoints:
    """The checkpoints of one run."""

    def __init__(self, folder: Path, keep: int = 3) -> None:
        self.folder = folder
        self.keep = keep

    def all(self) -> list[Path]:
        """Whole checkpoints, oldest first."""
        if not self.folder.is_dir():
            return []
        return sorted(
            path for path in self.folder.iterdir() if path.is_dir() and path.name.isdigit()
        )

    def save(self, seen: int, tensors: Mapping[str, Tensor], facts: dict[str, Any]) -> Path:
        """Write a checkpoint, then remove the oldest beyond ``keep``.

        Raises:
            OutputError: no space or no permission; earlier checkpoints stay as they are.
        """
        final = self.folder / f"{seen:012d}"
        partial = self.folder / f".{final.name}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        try:
            partial.mkdir(parents=True)
            with _quiet():
                save(
                    {name: tensor.detach().contiguous() for name, tensor in tensors.items()},
                    storage_writer=HuggingFaceStorageWriter(str(partial)),
                    no_dist=True,
                )
            write_json(partial / "state.json", {"seen": seen, **facts})
            _flush(partial)
            shutil.rmtree(final, ignore_errors=True)
            partial.rename(final)
            _flush(self.folder)
        except OSError as error:
            shutil.rmtree(partial, ignore_errors=True)
            raise OutputError(
                f"Cannot save the checkpoint {final}: {error.strerror or error}.",
                "Earlier checkpoints are intact. Make room, then run the same command again.",
            ) from error
        for old in self.all()[: -self.keep]:
            shutil.rmtree(old, ignore_errors=True)
        return final

    def latest_facts(self) -> dict[str, Any] | None:
        """What the newest checkpoint says of itself; None if there is none."""
        found = self.all()
        return read_json(found[-1] / "state.json") if found else None

    def load_latest(self, tensors: Mapping[str, Tensor]) -> None:
        """Fill ``tensors`` from the newest checkpoint.

        Raises:
            CheckpointError: it is damaged, or belongs to another network.
        """
        found = self.all()
        target = {name: tensor.detach() for name, tensor in tensors.items()}
        packed = {name: torch.empty_like(t).contiguous() for name, t in target.items()}
        try:
            with _quiet():
                load(
                    packed,
                    storage_reader=HuggingFaceStorageReader(str(found[-1])),
                    no_dist=True,
                )
        except (Exception, CheckpointException) as error:
            raise CheckpointError(
                f"The checkpoint {found[-1]} is damaged or made for another network.",
                f"Remove it to resume from the one before, or start in another folder. ({error})",
            ) from error
        with torch.no_grad():
            for name, tensor in target.items():
                tensor.copy_(packed[name])


def training_tensors(network: nn.Module, ema: Ema, optimizer: Mixed) -> dict[str, Tensor]:
    """Everything that changes while training, under stable names."""
    tensors: dict[str, Tensor] = {}
    state = optimizer.state
    for name, parameter in network.named_parameters():
        tensors[f"network.{name}"] = parameter
        tensors[f"ema.{name}"] = ema.weights[name]
        for key, value in state[parameter].items():
            tensors[f"optimizer.{key}.{name}"] = value
    return tensors


@contextlib.contextmanager
def _quiet() -> Any:
    """Without the notices that torch gives of saving in one process, which is what we do."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logger = logging.getLogger("torch.distributed.checkpoint")
        level = logger.level
        logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            logger.setLevel(level)


def _flush(folder: Path) -> None:
    """Make sure that a folder's files have reached the disk before they are relied on."""
    for path in [folder, *folder.iterdir()]:
        if path.is_file() or path == folder:
            handle = os.open(path, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
