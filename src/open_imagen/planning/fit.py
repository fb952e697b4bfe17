"""Whether a run fits the memory of the machine that it is about to start on."""

import warnings
from dataclasses import replace

import torch

from open_imagen.devices import free_memory, has_bf16
from open_imagen.errors import ConfigError, OpenImagenWarning
from open_imagen.planning.plan import GIB, memory_of, run_of
from open_imagen.training.recipe import Recipe
from open_imagen.training.text import GPU_MEMORY_DIVISOR

CERTAIN = 1.25
"""Estimates of a step's peak are right to a quarter: a run that needs more than that is refused."""


def check_fits(recipe: Recipe, device: torch.device, processes: int = 1, captions: int = 0) -> None:
    """Warn of a run that may not fit a device's free memory.

    Args:
        captions: bytes of embeddings that each process keeps there (`resident_bytes`).

    Raises:
        ConfigError: it cannot; the message says what takes the room and what would help.
    """
    train = recipe.train
    half = has_bf16(device) and train.precision != "fp32"
    run = replace(run_of(recipe), numbers=2 if half else 4)
    local = max(1, train.batch_size // processes // train.accumulate)
    sharded = train.parallel == "fsdp" and processes > 1
    weights, kept = memory_of(run, local, processes if sharded else 1)
    if device.type != "cuda" and processes > 1:  # they share one memory
        weights, kept, captions = weights * processes, kept * processes, captions * processes
    free, needed = free_memory(device), weights + kept + captions
    if needed <= free:
        return
    message = (
        f"This run needs about {needed / GIB:.1f} GiB, and {free / GIB:.1f} are free on "
        f"{device}: weights, gradients, optimiser and average take {weights / GIB:.1f}, a step of "
        f"{local} images {kept / GIB:.1f}"
        + (f", embeddings of captions {captions / GIB:.1f}." if captions else ".")
    )
    ways = []
    if captions > free - weights - kept > 0:
        ways.append("take fewer captions")
    elif kept > free - weights > 0:
        ways.append(f"take the batch in parts (train.accumulate, now {train.accumulate})")
        if not train.checkpoint_activations:
            ways.append("set train.checkpoint_activations = true")
    if weights > free and not sharded:
        ways.append('share the weights out over several GPUs (torchrun, train.parallel = "fsdp")')
    ways.append("choose a smaller network")
    hint = f"Either {'; or '.join(ways)}."
    if needed > CERTAIN * free:
        raise ConfigError(message, hint)
    warnings.warn(f"{message} {hint}", OpenImagenWarning, stacklevel=2)


def resident_bytes(recipe: Recipe, size: int, device: torch.device) -> int:
    """Bytes of the captions' embeddings, ``size`` in all, that a process of a run keeps in the
    memory of its device: those on disk are mapped.
    """
    if recipe.embeddings:
        return 0
    on_device = device.type == "cuda" and size < free_memory(device) / GPU_MEMORY_DIVISOR
    in_memory = device.type != "cuda" and recipe.objective == "text_denoising"
    return size if on_device or in_memory else 0
