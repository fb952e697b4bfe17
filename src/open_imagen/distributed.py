"""The processes of a run: who am I, joining them and leaving, and sums over all of them.

`torchrun` starts several and tells each its place; without it there is one, and nothing here costs
anything.
"""

import contextlib
import gc
import os
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.rendezvous import rendezvous

from open_imagen.devices import pick_device
from open_imagen.errors import TrainingError

PATIENCE = timedelta(minutes=30)
"""How long a process waits for the others before it gives the run up."""


class World(NamedTuple):
    """A process and its fellows."""

    rank: int = 0
    """0 .. size - 1; the first writes files and talks."""
    size: int = 1
    local: int = 0
    """Its number on its machine, which is also its GPU's."""

    @property
    def first(self) -> bool:
        return self.rank == 0


def announced() -> World:
    """What torchrun said to this process; joined or not."""
    values = os.environ
    rank = int(values.get("RANK", 0))
    return World(rank, int(values.get("WORLD_SIZE", 1)), int(values.get("LOCAL_RANK", rank)))


def world() -> World:
    """The processes that have joined: this one alone, without torchrun."""
    return announced() if dist.is_available() and dist.is_initialized() else World()


def own_device(name: str) -> torch.device:
    """The device of this process: of several on a machine with GPUs, each has its own."""
    if announced().size > 1 and pick_device(name).type == "cuda":
        return pick_device(f"cuda:{announced().local}")
    return pick_device(name)


@contextlib.contextmanager
def joined(device: torch.device) -> Iterator[World]:
    """Be one of the processes that torchrun started, over NCCL on GPUs and gloo on CPUs.

    Raises:
        TrainingError: the others cannot be reached.
    """
    if announced().size == 1 or dist.is_initialized():
        yield world()
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    try:
        store, rank, size = next(rendezvous("env://", timeout=PATIENCE))
        # After a restart torchrun hands out the same store, with what the dead processes wrote.
        life = f"{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)} of {size}"
        store = dist.PrefixStore(life, store)  # type: ignore[attr-defined]
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=PATIENCE)
    except (RuntimeError, ValueError) as error:
        raise TrainingError(
            f"Process {announced().rank} of {announced().size} cannot reach the others: {error}",
            "Start it with torchrun; over several machines, check --rdzv-endpoint and the network.",
        ) from error
    try:
        yield world()
    finally:
        # Whatever still holds the group, as DDP does, must be gone before it: the last to go joins
        # the group's threads, and holding Python's lock at that would wait for them for ever.
        gc.collect()
        dist.destroy_process_group()


def total(values: Tensor) -> Tensor:
    """The sum over all processes, known to each."""
    if world().size > 1:
        dist.all_reduce(values)
    return values


def gathered(value: Any) -> list[Any]:
    """One small value of every process, in order of rank, known to each."""
    if world().size == 1:
        return [value]
    values: list[Any] = [None] * world().size
    dist.all_gather_object(values, value)
    return values
