"""Options that all measuring commands share, and the bar that shows how far they are."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from open_imagen.errors import ConfigError

if TYPE_CHECKING:
    from open_imagen.evaluation.metrics.scores import Protocol
    from open_imagen.evaluation.progress import Progress

ReferenceOption = typer.Option(
    None, "--reference", metavar="PATH", help="Reference pictures, or .npz with their statistics."
)
Weights = typer.Option(
    [], "--weights", metavar="[NAME=]PATH", help="Weights of the network that looks; may repeat."
)
ProtocolOption = typer.Option(
    "plain",
    "--protocol",
    metavar="P",
    help="plain; imagen-coco-30k-tf1 or imagen-coco-30k-clean (and -10k-), named by their resize.",
)
Resize = typer.Option(None, "--resize", metavar="R", help="To Inception's side: clean, tf1, torch.")
Size = typer.Option(
    None, "--size", metavar="N", help="First cut the centre square of each picture to this side."
)
SuiteSeed = typer.Option(1, "--suite-seed", help="Of prompts that are drawn.")
BatchSize = typer.Option(16, "--batch-size", help="Pictures made, and lost, together.")
AllowFew = typer.Option(False, "--allow-few", help="Allow Frechet distances of too few pictures.")


def read_protocol(name: str, resize: str | None, size: int | None) -> "Protocol":
    """A protocol by name, with what was given over it; changed, it loses its name."""
    from dataclasses import replace

    from open_imagen.errors import UnknownName
    from open_imagen.evaluation.metrics.resize import RESIZES
    from open_imagen.evaluation.metrics.scores import PROTOCOLS

    if name not in PROTOCOLS:
        raise UnknownName("protocol", name, PROTOCOLS)
    chosen = PROTOCOLS[name]
    if resize is not None:
        _ = RESIZES[resize]
        chosen = replace(chosen, resize=resize)
    if size is not None:
        if size < 1:
            raise ConfigError(f"--size {size} must be at least 1.")
        chosen = replace(chosen, size=size)
    return chosen if chosen == PROTOCOLS[name] or name == "plain" else replace(chosen, name="own")


def read_weights(texts: list[str], features: list[str]) -> dict[str, Path]:
    """Read "NAME=PATH", or "PATH" alone, which is for whatever looks."""
    found = {}
    for text in texts:
        name, equals, path = text.partition("=")
        for one in [name] if equals else features:
            found[one] = Path(path if equals else text)
    return found


@contextmanager
def counting(what: str) -> "Iterator[Progress]":
    """A bar on standard error for work that is counted."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    ) as bar:
        task = bar.add_task(what, total=None)

        def progress(name: str, done: int, total: int) -> None:
            bar.update(task, completed=done, total=total, description=name)

        yield progress
