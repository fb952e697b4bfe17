"""imagen plan: what a training run will take."""

import json
from typing import TYPE_CHECKING

import typer

from open_imagen.errors import ConfigError

if TYPE_CHECKING:
    from open_imagen.planning.plan import Plan


def plan(
    what: str = typer.Argument(
        ..., metavar="PRESET|RECIPE", help="A preset's name or a TOML file."
    ),
    gpu: str = typer.Option(
        "h100", "--gpu", metavar="NAME", help="a100-80, h100, rtx4090 ...; here: this machine."
    ),
    gpus: int = typer.Option(
        None, "--gpus", metavar="N", help="How many of them; 8, of this machine 1."
    ),
    images: int = typer.Option(
        None, "--images", metavar="N", help="Images to learn from; the schedule's if not given."
    ),
    sharding: str = typer.Option(
        "none", "--sharding", help="none, or full: weights and state shared out to all."
    ),
    utilisation: float = typer.Option(0.4, "--utilisation", help="Share of the peak reached."),
    price: float = typer.Option(None, "--price", help="US dollars an hour of one."),
    assignments: list[str] = typer.Option([], "--set", metavar="A.B=C", help="Over the recipe."),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object."),
) -> None:
    """Parameters, operations, memory, days and money, and what does not fit."""
    from open_imagen.planning import plan as make

    if images is not None and images < 1:
        raise ConfigError(f"--images {images} must be at least 1.")
    gpus = gpus if gpus is not None else 1 if gpu == "here" else 8
    found = make(what, gpu, gpus, images, sharding, utilisation, price, tuple(assignments))
    if as_json:
        print(json.dumps(found.plain()))
        return
    rows = {
        "parameters": f"{found.parameters:,}",
        "operations": f"{found.flops_per_image / 1e9:,.1f} GFLOP per image forward, "
        f"{found.train_flops_per_image / 1e9:,.1f} in training",
        "batch": f"{found.batch_size:,} images, {found.batch_per_accelerator} at once on each",
        "weights": f"{memory(found.weights_gib)} with gradients, optimiser and average, each",
        "activations": f"{memory(found.activations_gib)} each",
        "memory": f"{memory(found.memory_gib)} each: "
        + ("it fits" if found.fits else "IT DOES NOT FIT"),
        "speed": speed(found),
        "time": f"{duration(found.days)} for {found.images:,} images",
        "money": money(found.dollars),
    }
    for key, value in rows.items():
        print(f"{key:12} {value}")
    for note in found.notes:
        print(note)


def speed(found: "Plan") -> str:
    """Images a second of all accelerators, and of what they were computed."""
    rate = found.images_per_second
    text = f"{rate:,.0f}" if rate >= 10 else f"{rate:.2g}"
    if found.accelerator == "here":
        return f"{text} images/s, measured here with a small network"
    share = f" at {found.utilisation:.0%} of their peak" if not found.is_small else ""
    return f"{text} images/s on {found.number} {found.accelerator}{share}"


def memory(gib: float) -> str:
    """A size for readers.

    >>> memory(3.21), memory(0.0123)
    ('3.2 GiB', '13 MiB')
    """
    return f"{gib:,.1f} GiB" if gib >= 1 else f"{max(1, round(1024 * gib))} MiB"


def duration(days: float) -> str:
    """A time for readers.

    >>> duration(12.34), duration(0.2), duration(0.01), duration(1e-5)
    ('12.3 days', '4.8 hours', '14 minutes', '1 seconds')
    """
    for unit, length in (("days", 1.0), ("hours", 1 / 24)):
        if days >= length:
            return f"{days / length:,.1f} {unit}"
    minutes = days * 24 * 60
    return f"{minutes:.0f} minutes" if minutes >= 2 else f"{max(1, round(60 * minutes))} seconds"


def money(dollars: float) -> str:
    """A price for readers.

    >>> money(12345.6), money(1.234), money(0.001), money(0)
    ('12,346 US dollars', '1.23 US dollars', 'less than a cent', 'nothing')
    """
    if dollars >= 0.01:
        return f"{dollars:,.0f} US dollars" if dollars >= 100 else f"{dollars:.2f} US dollars"
    return "less than a cent" if dollars else "nothing"
