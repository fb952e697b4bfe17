"""The processes of a distributed run: rank and world size, the process group, collectives.

`torchrun` starts several processes and sets their environment variables; without it there is one,
and the functions here do nothing.
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

TIMEOUT = timedelta(minutes=30)
"""How long a process waits for the others before the run fails."""


class World(NamedTuple):
    """The rank of this process, and the number of processes."""

    rank: int = 0
    """0 .. size - 1."""
    size: int = 1
    local_rank: int = 0
    """Rank among the processes of this machine, which is also the index of its GPU."""

    @property
    def is_main_process(self) -> bool:
        """Whether this is rank 0, which writes files and messages."""
        return self.rank == 0


def world_from_env() -> World:
    """Rank and size as torchrun's environment variables give them, also before `process_group`."""
    values = os.environ
    rank = int(values.get("RANK", 0))
    return World(rank, int(values.get("WORLD_SIZE", 1)), int(values.get("LOCAL_RANK", rank)))


def world() -> World:
    """The world of the current process group; without one, this process alone."""
    return world_from_env() if dist.is_available() and dist.is_initialized() else World()


def process_device(name: str) -> torch.device:
    """The device of this process: on a machine with several GPUs, the one of its local rank."""
    if world_from_env().size > 1 and pick_device(name).type == "cuda":
        return pick_device(f"cuda:{world_from_env().local_rank}")
    return pick_device(name)


@contextlib.contextmanager
def process_group(device: torch.device) -> Iterator[World]:
    """Initialise torch's process group of what torchrun started: NCCL on GPUs, gloo on CPUs.

    Raises:
        TrainingError: the other processes cannot be reached.
    """
    if world_from_env().size == 1 or dist.is_initialized():
        yield world()
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    try:
        store, rank, size = next(rendezvous("env://", timeout=TIMEOUT))
        # After a restart torchrun hands out the same store, with the keys of the dead processes.
        prefix = f"{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)} of {size}"
        store = dist.PrefixStore(prefix, store)  # type: ignore[attr-defined]
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=TIMEOUT)
    except (RuntimeError, ValueError) as error:
        here = world_from_env()
        raise TrainingError(
            f"Process {here.rank} of {here.size} cannot reach the others: {error}",
            "Start it with torchrun; over several machines, check --rdzv-endpoint and the network.",
        ) from error
    try:
        yield world()
    finally:
        # Objects that hold the group, such as DDP, must be freed first: the last one to go joins
        # the group's threads, and would wait for them for ever while it holds Python's lock.
        gc.collect()
        dist.destroy_process_group()


def all_reduce_sum(values: Tensor) -> Tensor:
    """The sum over all processes, in every process."""
    if world().size > 1:
        dist.all_reduce(values)
    return values


def all_gather_object(value: Any) -> list[Any]:
    """One small object of every process, in order of rank, in every process."""
    if world().size == 1:
        return [value]
    values: list[Any] = [None] * world().size
    dist.all_gather_object(values, value)
    return values
