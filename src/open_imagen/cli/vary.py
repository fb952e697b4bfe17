"""imagen generate --vary: near relatives of an image that its file's record describes."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from open_imagen.cli.results import Place, finish, progress_bar, recorded_adapters
from open_imagen.errors import ConfigError

AMOUNT = 0.3


def run_vary(
    file: Path | None,
    amount: float | None,
    seed: int | None,
    images: int,
    model: str | None,
    adapters: list[str],
    out: Path | None,
    device: str,
    fast: bool,
    precision: str | None,
    grid: bool,
    as_json: bool,
    others: Mapping[str, Any],
) -> None:
    """Make variations.

    Args:
        others: options that a variation takes from the record, by name.

    Raises:
        ConfigError: one of those was given, or there is no file.
    """
    started = time.monotonic()
    if file is None:
        raise ConfigError("--amount belongs to --vary FILE.", "Name the image to vary.")
    given = [name for name, value in others.items() if value]
    if given:
        raise ConfigError(
            f"--vary takes everything but the noise from the record of {file}; {given[0]} cannot "
            "be given.",
            "Leave it out, or use imagen edit to change what an image shows.",
        )

    from open_imagen.cascade.io import load
    from open_imagen.cascade.records import read_record

    record = read_record(file)
    place = Place(out, images, grid)
    cascade = load(
        model or str(record["model"]),
        adapters=adapters or recorded_adapters(record),
        device=device,
        fast=fast,
        dtype=precision or record.get("precision", "fp32"),
    )
    with progress_bar() as told:
        made = cascade.vary(
            record,
            amount=AMOUNT if amount is None else amount,
            seed=1 if seed is None else seed,
            images=images,
            progress=told,
        )
    finish(made, place, as_json, started, grid)
