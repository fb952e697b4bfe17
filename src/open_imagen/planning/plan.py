"""Operations, memory, days and money of a training run, from the real network.

Shapes come from torch's "meta" device, so that a network of billions is counted in a second.
Parameters, operations and state are counted; activations, overhead and speed are estimates.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from open_imagen.devices import pick_device
from open_imagen.errors import ConfigError, UnknownName
from open_imagen.models.profile import NetworkProfile, count
from open_imagen.models.registry import PRESETS, construct, resolve
from open_imagen.planning.accelerators import ACCELERATORS, HERE, Accelerator
from open_imagen.planning.machine import measure
from open_imagen.training.optim import OptimConfig, count_state
from open_imagen.training.recipe import Recipe, read_recipe

GIB = 2**30
SHARDINGS = ("none", "full")
PAPER = {"batch_size": 2048, "images": 2048 * 2_500_000}
"""Section 4.1: batch 2,048, 2.5 million steps, for each of the three models."""
PAPER_OPTIMISER = {"base": "adafactor", "sr": "adamw"}
OVERHEAD = 1.0
"""GiB that CUDA, its libraries and fragmentation take of every accelerator; a rule of thumb."""
SMALL = "The network is too small to keep the accelerators busy: the speed is that of launching."
LAUNCHES, LAUNCH_SECONDS = 12, 8e-6
"""Kernels of a training step for each tensor of parameters, and what launching one takes: a small
network's step is no faster, whatever the accelerator. A rule of thumb."""


@dataclass(frozen=True)
class Plan:
    """What one run takes."""

    name: str
    accelerator: str
    number: int
    sharding: str
    parameters: int
    flops_per_image: int
    """Of one forward pass, counted."""
    train_flops_per_image: int
    """Forward, backward, and the second forward if activations are recomputed."""
    batch_size: int
    batch_per_accelerator: int
    """Images that are in memory at once: batch / accelerators / accumulation."""
    weights_gib: float
    """Master weights, gradients, optimiser state and average (float32), and the bfloat16 copy."""
    activations_gib: float
    memory_gib: float
    fits: bool
    images: int
    utilisation: float
    images_per_second: float
    """Of all accelerators, at that share of their peak."""
    days: float
    dollars: float
    is_small: bool
    """Whether launching kernels, not computing, takes the time."""
    notes: list[str]

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def plan(
    what: str,
    accelerator: str = "h100",
    number: int = 8,
    images: int | None = None,
    sharding: str = "none",
    utilisation: float = 0.4,
    price: float | None = None,
    settings: tuple[str, ...] = (),
) -> Plan:
    """Plan the training of a preset with the paper's schedule, or of a recipe with its own.

    Args:
        what: a preset's name or a recipe file.
        accelerator: its name, or "here": this machine, measured.
        number: of accelerators.
        images: to learn from, in place of the schedule's.
        sharding: none (replicas), or full: weights, gradients, optimiser state and average.
        utilisation: share of the accelerators' peak that is reached.
        price: US dollars an hour of one accelerator.
        settings: assignments over a recipe.

    Raises:
        UnknownName: no such preset or recipe, accelerator or sharding.
        ConfigError: a number out of range, or a batch that cannot be shared out.
    """
    _check(sharding, number, utilisation)
    row = _measured(utilisation) if (here := accelerator == HERE) else ACCELERATORS[accelerator]
    run = _of_recipe(what, settings) if what.endswith(".toml") else _of_preset(what)
    total = run.images if images is None else images
    found, local = run.survey, _local_batch(run, number)
    weights, kept, memory = _memory_gib(run, local, number if sharding == "full" else 1, here)
    train_flops = found.flops * (4 if run.recomputed else 3)
    computing = number * row.teraflops * 1e12 * utilisation / train_flops
    is_small = not here and computing > _launch_rate(run)
    rate = _launch_rate(run) if is_small else computing
    days = total / rate / 86_400
    notes = _notes(memory, weights, row, run, sharding, number)
    return Plan(
        name=what,
        accelerator=accelerator,
        number=number,
        sharding=sharding,
        parameters=found.parameters,
        flops_per_image=found.flops,
        train_flops_per_image=train_flops,
        batch_size=run.batch_size,
        batch_per_accelerator=local,
        weights_gib=weights,
        activations_gib=kept,
        memory_gib=memory,
        fits=memory <= row.memory,
        images=total,
        utilisation=utilisation,
        images_per_second=rate,
        days=days,
        dollars=days * 24 * number * (row.price if price is None else price),
        is_small=is_small,
        notes=[*notes, SMALL] if is_small else notes,
    )


def _memory_gib(run: "_Run", local: int, shared: int, here: bool) -> tuple[float, float, float]:
    """Weights, activations and all, of one accelerator."""
    weights, kept = (size / GIB for size in memory_of(run, local, shared))
    return weights, kept, weights + kept + (0 if here else OVERHEAD)


def _launch_rate(run: "_Run") -> float:
    """Images per second if launching kernels were all that a step does."""
    return run.batch_size / (run.accumulate * LAUNCHES * run.survey.tensors * LAUNCH_SECONDS)


def _measured(utilisation: float) -> Accelerator:
    """This machine: its teraflops are those of which this share was reached."""
    machine = measure(pick_device())
    return Accelerator(machine.memory / GIB, machine.flops / 1e12 / utilisation, 0.0)


def _check(sharding: str, number: int, utilisation: float) -> None:
    """Raises UnknownName or ConfigError unless these are in range."""
    if sharding not in SHARDINGS:
        raise UnknownName("sharding", sharding, SHARDINGS)
    if number < 1 or not 0 < utilisation <= 1:
        raise ConfigError("--gpus must be at least 1 and --utilisation above 0, at most 1.")


@dataclass(frozen=True)
class _Run:
    """What a plan needs to know of a run."""

    survey: NetworkProfile
    batch_size: int
    accumulate: int
    images: int
    optimiser_state: int
    """Numbers that the optimiser keeps."""
    recomputed: bool
    numbers: int = 2
    """Bytes of a number in the forward pass: 2 in bfloat16, beside float32 master weights; or 4."""


def _local_batch(run: _Run, number: int) -> int:
    """Images that are in memory of one of ``number`` accelerators at once.

    Raises:
        ConfigError: the batch cannot be shared out evenly.
    """
    if run.batch_size % (number * run.accumulate):
        raise ConfigError(
            f"A batch of {run.batch_size} cannot be shared out to {number} accelerators in "
            f"{run.accumulate} parts.",
            "Choose a number that divides it.",
        )
    return run.batch_size // number // run.accumulate


def memory_of(run: _Run, local: int, shared: int = 1) -> tuple[float, float]:
    """Bytes on each accelerator: of weights with their optimizer state, and of activations.

    For ``local`` images at once and weights sharded over so many accelerators.
    """
    found = run.survey
    state = 4 * (3 * found.parameters + run.optimiser_state) / shared
    copied = max(block.parameters for block in found.rows) if shared > 1 else found.parameters
    copy = 2 * copied if run.numbers == 2 else 0
    return state + copy, _kept(found, run.recomputed) * run.numbers * local


def _of_preset(name: str) -> _Run:
    preset = PRESETS[name]
    # The paper learns its last model on crops of 256 pixels.
    side = min(preset.resolution, 256)
    kind = "sr" if preset.config.lowres else "base"
    found = count(preset.network, preset.config, side)
    kept = _state(preset.network, preset.config, OptimConfig(name=PAPER_OPTIMISER[kind]))
    return _Run(found, PAPER["batch_size"], 1, PAPER["images"], kept, False)


def _of_recipe(file: str, settings: tuple[str, ...]) -> _Run:
    return run_of(read_recipe(Path(file), settings))


def run_of(recipe: Recipe) -> _Run:
    """What a recipe asks for."""
    name, config = resolve(recipe.stage.network)
    side = int(recipe.data.get("crop") or recipe.stage.resolution)
    return _Run(
        count(name, config, side),
        recipe.train.batch_size,
        recipe.train.accumulate,
        recipe.train.images,
        _state(name, config, recipe.optim),
        recipe.train.checkpoint_activations,
        4 if recipe.train.precision == "fp32" else 2,
    )


def _state(name: str, config: Any, optimiser: OptimConfig) -> int:
    with torch.device("meta"):
        return count_state(construct(name, config), optimiser)


def _kept(found: NetworkProfile, recomputed: bool) -> int:
    """Numbers that one image leaves for the backward pass.

    All activations; or with checkpointing the blocks' outputs and the activations inside the
    largest block (estimated by its share of the operations).
    """
    if not recomputed:
        return found.activations
    outputs = 0
    for block in found.rows:
        size = 1
        for side in block.output:
            size *= side
        outputs += size
    largest = max(block.flops for block in found.rows) / max(found.flops, 1)
    return round(outputs + largest * found.activations)


def _notes(
    memory: float, weights: float, row: Accelerator, run: _Run, sharding: str, number: int
) -> list[str]:
    """What does not fit, why, and what would help."""
    if memory <= row.memory:
        return []
    notes = [f"It needs {memory:.1f} GiB of {row.memory:.0f}."]
    if weights + OVERHEAD > row.memory:
        notes.append(f"Weights and what belongs to them alone take {weights:.1f} GiB.")
        if sharding == "none" and number > 1:
            notes.append("Share them out: --sharding full.")
    else:
        notes.append("Weights fit; the activations of the batch do not.")
        if not run.recomputed:
            notes.append("Recompute them: train.checkpoint_activations = true.")
        notes.append("Take the batch in more parts (train.accumulate), or on more accelerators.")
    return notes
