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
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import (
    HuggingFaceStorageReader,
    HuggingFaceStorageWriter,
)
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import async_save, save
from torch.distributed.tensor import DTensor

from open_imagen.distributed import world
from open_imagen.errors import CheckpointError, OutputError
from open_imagen.storage import read_json, write_json
from open_imagen.training.ema import Ema
from open_imagen.training.optim import Mixed


class Checkpoints:
    """The checkpoints of one run."""

    def __init__(self, folder: Path, keep: int = 3) -> None:
        self.folder = folder
        self.keep = keep
        self._pending: Future[Path] | None = None
        self._group: Any = None
        _hush()

    def all(self) -> list[Path]:
        """Whole checkpoints, oldest first."""
        if not self.folder.is_dir():
            return []
        return sorted(
            path for path in self.folder.iterdir() if path.is_dir() and path.name.isdigit()
        )

    def save(
        self,
        seen: int,
        tensors: Mapping[str, Tensor],
        facts: dict[str, Any],
        wait: bool = True,
    ) -> None:
        """Write a checkpoint, then remove the oldest beyond ``keep``.

        Without ``wait`` the tensors are copied and written while training goes on; an error then
        comes from `settle`, or from the next save. With shards every process must call it; of
        whole tensors the first process writes its own.

        Raises:
            OutputError: no space or no permission; earlier checkpoints stay as they are.
        """
        self.settle()
        sharded = any(isinstance(tensor, DTensor) for tensor in tensors.values())
        if not sharded and not world().first:
            return
        final = self.folder / f"{seen:012d}"
        partial = self.folder / f".{final.name}.partial"
        with self._told(final, partial):
            if world().first:
                shutil.rmtree(partial, ignore_errors=True)
                partial.mkdir(parents=True)
            if sharded:
                dist.barrier()
            write = self._sharded if sharded else self._whole
            finish = write(partial, tensors)
        thread = ThreadPoolExecutor(1, "checkpoint")
        facts = {"seen": seen, **facts}
        self._pending = thread.submit(self._finish, finish, final, partial, facts)
        thread.shutdown(wait=False)
        if wait:
            self.settle()

    def _whole(self, folder: Path, tensors: Mapping[str, Tensor]) -> Callable[[], object]:
        """Copy; what is returned writes the copy."""
        packed = torch.contiguous_format
        copies = {
            name: tensor.detach().to("cpu", copy=True, memory_format=packed)
            for name, tensor in tensors.items()
        }
        writer = HuggingFaceStorageWriter(str(folder))
        return lambda: save(copies, storage_writer=writer, no_dist=True)

    def _sharded(self, folder: Path, tensors: Mapping[str, Tensor]) -> Callable[[], object]:
        """Copy and begin to write; what is returned waits for all processes."""
        # Collectives of a save beside those of training need a group of their own.
        if self._group is None:
            self._group = dist.new_group(backend="gloo")
        ready = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
        writer = HuggingFaceStorageWriter(str(folder), save_distributed=True)
        writing: Any = async_save(ready, storage_writer=writer, process_group=self._group)
        return writing.result  # type: ignore[no-any-return]

    def _finish(
        self, finish: Callable[[], object], final: Path, partial: Path, facts: dict[str, Any]
    ) -> Path:
        with self._told(final, partial):
            finish()
            if world().first:  # whose part of a save ends when every process has written its own
                write_json(partial / "state.json", facts)
                _flush(partial)
                shutil.rmtree(final, ignore_errors=True)
                partial.rename(final)
                _flush(self.folder)
                for old in self.all()[: -self.keep]:
                    shutil.rmtree(old, ignore_errors=True)
        return final

    def settle(self, wait: bool = True) -> None:
        """Wait until nothing is being written, or only look whether something went wrong.

        Raises:
            OutputError: the last save failed.
        """
        if self._pending is not None and (wait or self._pending.done()):
            pending, self._pending = self._pending, None
            pending.result()

    @contextlib.contextmanager
    def _told(self, final: Path, partial: Path) -> Iterator[None]:
        try:
            yield
        except (OSError, SafetensorError, CheckpointException) as error:
            shutil.rmtree(partial, ignore_errors=True)
            raise OutputError(
                f"Cannot save the checkpoint {final}: {_reason(error)}.",
                "Earlier checkpoints are intact. Make room, then run the same command again.",
            ) from error

    def latest_facts(self) -> dict[str, Any] | None:
        """What the newest checkpoint says of itself; None if there is none."""
        found = self.all()
        return read_json(found[-1] / "state.json") if found else None

    def load_latest(self, tensors: Mapping[str, Tensor]) -> None:
        """Fill ``tensors`` from the newest checkpoint, whatever number of processes wrote it.

        Raises:
            CheckpointError: it is damaged, or belongs to another network.
        """
        found = self.all()
        target = {name: tensor.detach() for name, tensor in tensors.items()}
        packed = {name: torch.empty_like(t).contiguous() for name, t in target.items()}
        try:
            load(
                packed,
                storage_reader=HuggingFaceStorageReader(str(found[-1])),
                no_dist=not any(isinstance(tensor, DTensor) for tensor in tensors.values()),
            )
        except (Exception, CheckpointException) as error:
            raise CheckpointError(
                f"The checkpoint {found[-1]} is damaged or made for another network.",
                f"Remove it to resume from the one before, or start in another folder. ({error})",
            ) from error
        with torch.no_grad():
            for name, tensor in target.items():
                tensor.copy_(packed[name])


def _reason(error: BaseException) -> str:
    """In a few words; torch wraps what happened in each process."""
    failures = getattr(error, "failures", {})
    for failure in failures.values():
        error = failure[0]
    return getattr(error, "strerror", None) or str(error).splitlines()[0]


def training_tensors(network: nn.Module, ema: Ema, optimizer: Mixed) -> dict[str, Tensor]:
    """Everything that changes while training, under stable names."""
    tensors: dict[str, Tensor] = dict(ema.state())
    state = optimizer.state
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            tensors[f"network.{name}"] = parameter
            for key, value in state[parameter].items():
                tensors[f"optimizer.{key}.{name}"] = value
    return tensors


def _hush() -> None:
    """No notices of torch that a save is of one process, which is what we mean."""
    place = "torch.distributed.checkpoint"
    warnings.filterwarnings("ignore", category=UserWarning, module=place.replace(".", r"\."))
    logging.getLogger(place).setLevel(logging.ERROR)


def _flush(folder: Path) -> None:
    """Make sure that a folder's files have reached the disk before they are relied on."""
    for path in [folder, *folder.iterdir()]:
        if path.is_file() or path == folder:
            handle = os.open(path, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
