"""Save, prune and resume the training state.

A checkpoint is a folder named after the images seen. It is written under a temporary name and
renamed, so that it is complete or not there; SHA256SUMS tells whether its files are still what was
written. Tensors go through torch.distributed.checkpoint into safetensors files; nothing is
unpickled.
"""

import contextlib
import logging
import os
import re
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
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

from open_imagen.distributed import all_gather_object, world
from open_imagen.errors import CheckpointError, OpenImagenError, OutputError
from open_imagen.storage import read_json, write_json
from open_imagen.training.ema import Ema
from open_imagen.training.integrity import (
    checksums,
    find_damage,
    find_nonfinite,
    write_checksums,
)
from open_imagen.training.migration import migrate_state
from open_imagen.training.optim import CombinedOptimizer

log = logging.getLogger("open_imagen.training")

FORMAT = 3
"""Of state.json: from 2 on there are checksums. Earlier formats are read (migration.py)."""
NAME = re.compile(r"[0-9]{12}")
"""Of a checkpoint's folder: the images seen. Other programs number theirs without the zeros."""
Check = Callable[[dict[str, Any], dict[str, tuple[int, ...]]], None]
"""(state.json, shapes of the tensors by name): raises if the run cannot resume from it."""


class Checkpoints:
    """The checkpoints of one run."""

    def __init__(self, folder: Path, keep: int = 3) -> None:
        self.folder = folder
        self.keep = keep
        self._pending: Future[Path] | None = None
        self._group: Any = None
        self._written: set[Path] = set()
        """Checkpoints that this process has written, or resumed from."""
        _silence_torch()

    def all(self) -> list[Path]:
        """Complete checkpoints, oldest first. Folders of other names are not ours."""
        if not self.folder.is_dir():
            return []
        return sorted(
            path for path in self.folder.iterdir() if path.is_dir() and NAME.fullmatch(path.name)
        )

    def save(
        self,
        images_seen: int,
        tensors: Mapping[str, Tensor],
        state: dict[str, Any],
        wait: bool = True,
    ) -> None:
        """Write a checkpoint, then remove the oldest beyond ``keep``.

        Without ``wait`` the tensors are copied and written while training goes on; an error is
        then raised by `wait`, or by the next save. With shards every process must call it; of
        full tensors the main process writes its own.

        Raises:
            OutputError: no space or no permission; earlier checkpoints stay as they are.
        """
        self.wait()
        sharded = any(isinstance(tensor, DTensor) for tensor in tensors.values())
        final = self.folder / f"{images_seen:012d}"
        if final in self._written or not (sharded or world().is_main_process):
            return
        self._written.add(final)
        partial = self.folder / f".{final.name}.partial"
        with self._explain_errors(final, partial):
            if world().is_main_process:
                shutil.rmtree(partial, ignore_errors=True)
                partial.mkdir(parents=True)
            if sharded:
                dist.barrier()
            write = self._copy_shards if sharded else self._copy_full
            finish = write(partial, tensors)
        thread = ThreadPoolExecutor(1, "checkpoint")
        state = {"format": FORMAT, "images_seen": images_seen, **state}
        self._pending = thread.submit(self._finish, finish, final, partial, state)
        thread.shutdown(wait=False)
        if wait:
            self.wait()

    def _copy_full(
        self, folder: Path, tensors: Mapping[str, Tensor]
    ) -> Callable[[], dict[str, str]]:
        """Copy; the returned function writes the copy, and returns checksums of its files."""
        packed = torch.contiguous_format
        copies = {
            name: tensor.detach().to("cpu", copy=True, memory_format=packed)
            for name, tensor in tensors.items()
        }
        writer = HuggingFaceStorageWriter(str(folder))

        def finish() -> dict[str, str]:
            save(copies, storage_writer=writer, no_dist=True)
            return checksums(folder.glob("*.safetensors"))

        return finish

    def _copy_shards(
        self, folder: Path, tensors: Mapping[str, Tensor]
    ) -> Callable[[], dict[str, str]]:
        """Copy the shards and begin to write them.

        The returned function waits for all processes, each of which reads its own files for the
        checksums.
        """
        # Collectives of a save beside those of training need a group of their own.
        if self._group is None:
            self._group = dist.new_group(backend="gloo")
        ready = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
        writer = HuggingFaceStorageWriter(str(folder), save_distributed=True)
        writing: Any = async_save(ready, storage_writer=writer, process_group=self._group)

        def finish() -> dict[str, str]:
            writing.result()
            own: dict[str, str] | OSError
            try:
                own = checksums(folder.glob(f"shard-{world().rank + 1:05d}-*.safetensors"))
            except OSError as error:  # the others wait for an answer
                own = error
            found: list[Any] = [None] * world().size
            dist.all_gather_object(found, own, group=self._group)
            for one in found:
                if isinstance(one, OSError):
                    raise one
            return {name: digest for one in found for name, digest in one.items()}

        return finish

    def _finish(
        self,
        finish: Callable[[], dict[str, str]],
        final: Path,
        partial: Path,
        state: dict[str, Any],
    ) -> Path:
        with self._explain_errors(final, partial):
            known = finish()
            if world().is_main_process:  # which waits for the shards of the others
                write_json(partial / "state.json", state)
                write_checksums(partial, known)
                _flush(partial)
                if final.exists():
                    self._set_aside(final)
                partial.rename(final)
                _flush(self.folder)
                for old in self.all()[: -self.keep]:
                    _remove(old)
        return final

    def wait(self, block: bool = True) -> None:
        """Wait until nothing is being written; without ``block`` only raise a past error.

        Raises:
            OutputError: the last save failed.
        """
        if self._pending is not None and (block or self._pending.done()):
            pending, self._pending = self._pending, None
            pending.result()

    def finish_writing(self) -> None:
        """Wait for a save of this process alone, before another run may have the folder."""
        if self._group is None and self._pending is not None:
            wait_for([self._pending])

    @contextlib.contextmanager
    def _explain_errors(self, final: Path, partial: Path) -> Iterator[None]:
        try:
            yield
        except (OSError, SafetensorError, CheckpointException) as error:
            self._written.discard(final)
            shutil.rmtree(partial, ignore_errors=True)
            raise OutputError(
                f"Cannot save the checkpoint {final}: {_reason(error)}.",
                "Earlier checkpoints are intact. Make room, then run the same command again.",
            ) from error

    def newest_good(self) -> Path | None:
        """The newest checkpoint whose files match their checksums."""
        return next((path for path in reversed(self.all()) if not find_damage(path)), None)

    def load_newest(self, tensors: Mapping[str, Tensor], check: Check) -> dict[str, Any] | None:
        """Fill ``tensors`` from the newest good checkpoint, whatever number of processes wrote it.

        Damaged ones, and those with non-finite numbers, are skipped and set aside. Every process
        must call it: all load the same one.

        Returns:
            Its state.json; None if there is no checkpoint at all.

        Raises:
            CheckpointError: there are some, but none is good.
            OpenImagenError: of ``check``.
        """
        found = all_gather_object(self.all())[0]  # file systems of other machines may lag behind
        skipped: dict[Path, str] = {}
        for path in reversed(found):
            problem = _first_problem(find_damage(path, world().rank, world().size))
            state, problem = (None, problem) if problem else self._load(path, tensors, check)
            if state is not None:
                self._report_skipped(skipped, path)
                self._written.add(path)
                return state
            skipped[path] = problem
        if not skipped:
            return None
        listed = "\n".join(f"  {path.name}: {problem}" for path, problem in skipped.items())
        raise CheckpointError(
            f"No checkpoint in {self.folder} can be resumed from:\n{listed}",
            "Bring one back from a copy, or begin again under another name (or out).",
        )

    def _load(
        self, path: Path, tensors: Mapping[str, Tensor], check: Check
    ) -> tuple[dict[str, Any] | None, str]:
        """state.json of a checkpoint, when ``tensors`` are filled from it; or why they are not."""
        target = {name: tensor.detach() for name, tensor in tensors.items()}
        reader = HuggingFaceStorageReader(str(path))
        state: dict[str, Any] = {}
        shapes: dict[str, tuple[int, ...]] = {}
        problem = ""
        try:
            state = migrate_state(read_json(path / "state.json"))
            stored: Any = reader.read_metadata().state_dict_metadata
            shapes = {name: tuple(one.size) for name, one in stored.items()}
            int(state["images_seen"])
        except (OSError, SafetensorError, OpenImagenError, *_MALFORMED) as error:
            problem = _reason(error)
        if problem := _first_problem(problem):
            return None, problem
        check(state, shapes)
        packed = {name: torch.empty_like(t).contiguous() for name, t in target.items()}
        try:
            load(
                packed,
                storage_reader=reader,
                no_dist=not any(isinstance(tensor, DTensor) for tensor in tensors.values()),
            )
            if name := find_nonfinite(packed):
                problem = f"{name} is not finite"
        except (Exception, CheckpointException) as error:
            problem = _reason(error)
        if problem := _first_problem(problem):
            return None, problem
        with torch.no_grad():
            for name, tensor in target.items():
                tensor.copy_(packed[name])
        return state, ""

    def _report_skipped(self, skipped: Mapping[Path, str], chosen: Path) -> None:
        if not world().is_main_process:
            return
        for path, problem in skipped.items():
            aside = self._set_aside(path)
            log.warning(
                "The checkpoint %s cannot be used (%s); it is kept as %s. Resuming from the one "
                "before, %s.",
                *(path, problem, aside.name, chosen.name),
            )

    def _set_aside(self, path: Path) -> Path:
        """Rename a damaged checkpoint, so that it no longer counts as one."""
        aside = path.with_name(f"{path.name}.damaged")
        shutil.rmtree(aside, ignore_errors=True)
        path.rename(aside)
        return aside


_MALFORMED = (ValueError, KeyError, TypeError, IndexError)
"""Errors of readers of a damaged header."""


def _first_problem(problem: str) -> str:
    """The first problem that any process has, in every process."""
    return next(filter(None, all_gather_object(problem)), "")


def _remove(path: Path) -> None:
    """Remove a checkpoint: hidden at once, so that it is never seen incomplete."""
    hidden = path.with_name(f".{path.name}.partial")
    shutil.rmtree(hidden, ignore_errors=True)
    path.rename(hidden)
    shutil.rmtree(hidden, ignore_errors=True)


def _reason(error: BaseException) -> str:
    """An error in a few words; torch wraps those of each process."""
    failures = getattr(error, "failures", {})
    for failure in failures.values():
        error = failure[0]
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(text).splitlines()[0]


def training_tensors(
    network: nn.Module, ema: Ema, optimizer: CombinedOptimizer
) -> dict[str, Tensor]:
    """Everything that changes while training, under stable names."""
    tensors: dict[str, Tensor] = dict(ema.state())
    state = optimizer.state
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            tensors[f"network.{name}"] = parameter
            for key, value in state[parameter].items():
                tensors[f"optimizer.{key}.{name}"] = value
    return tensors


def _silence_torch() -> None:
    """No notices of torch that a save is of one process, as intended."""
    module = "torch.distributed.checkpoint"
    warnings.filterwarnings("ignore", category=UserWarning, module=module.replace(".", r"\."))
    logging.getLogger(module).setLevel(logging.ERROR)


def _flush(folder: Path) -> None:
    """Make sure that a folder's files have reached the disk before they are relied on."""
    for path in [folder, *folder.iterdir()]:
        if path.is_file() or path == folder:
            handle = os.open(path, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
