"""imagen plan: what a training run will take."""

import json

import typer

from open_imagen.errors import ConfigError


def plan(
    what: str = typer.Argument(
        ..., metavar="PRESET|RECIPE", help="A preset's name or a TOML file."
    ),
    gpu: str = typer.Option("h100", "--gpu", metavar="NAME", help="a100-80, h100, rtx4090 ..."),
    gpus: int = typer.Option(8, "--gpus", metavar="N", help="How many of them."),
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
    found = make(what, gpu, gpus, images, sharding, utilisation, price, tuple(assignments))
    if as_json:
        print(json.dumps(found.plain()))
        return
    rows = {
        "parameters": f"{found.parameters:,}",
        "operations": f"{found.flops_per_image / 1e9:,.1f} GFLOP per image forward, "
        f"{found.train_flops_per_image / 1e9:,.1f} in training",
        "batch": f"{found.batch_size:,} images, {found.batch_per_accelerator} at once on each",
        "weights": f"{found.weights_gib:,.1f} GiB with gradients, optimiser and average, each",
        "activations": f"{found.activations_gib:,.1f} GiB each",
        "memory": f"{found.memory_gib:,.1f} GiB each: "
        + ("it fits" if found.fits else "IT DOES NOT FIT"),
        "speed": f"{found.images_per_second:,.0f} images/s on {found.number} {found.accelerator} "
        f"at {found.utilisation:.0%} of their peak",
        "time": f"{found.days:,.1f} days for {found.images:,} images",
        "money": f"{found.dollars:,.0f} US dollars",
    }
    for key, value in rows.items():
        print(f"{key:12} {value}")
    for note in found.notes:
        print(note)
