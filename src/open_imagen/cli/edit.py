"""imagen edit and imagen upscale: from images that people bring to new ones."""

import sys
import time
from pathlib import Path
from typing import Any

import typer

from open_imagen.cli.generate import (
    Adapters,
    Background,
    Device,
    Fast,
    GuidanceKind,
    Json,
    Model,
    NoiseLevel,
    Out,
    Precision,
    PromptWeights,
    RepeatModel,
    Sampler,
    Stages,
    Steps,
    Thresholding,
    Undistilled,
    Weight,
    over_record,
)
from open_imagen.cli.options import check, per_stage, read_extension, read_settings, sampling
from open_imagen.cli.results import (
    Place,
    finish,
    progress_bar,
    recorded_adapters,
    warn_of_other_model,
)
from open_imagen.config import DEFAULT_MODEL
from open_imagen.errors import ConfigError


def edit(
    image: Path = typer.Argument(
        ..., metavar="IMAGE", help="The image to edit; - reads standard input."
    ),
    prompt: str = typer.Option(
        None, "--prompt", "-p", metavar="T", help="What the whole result shows."
    ),
    mask: str = typer.Option(
        None,
        "--mask",
        metavar="FILE",
        help="What to make anew: transparent, or else white, pixels; 'alpha': IMAGE's own.",
    ),
    strength: str = typer.Option(
        None,
        "--strength",
        metavar="S|stage=S,..",
        help="How much is made anew, 0 to 1; 0.6 by default, 1 with a mask or an extension.",
    ),
    extend: str = typer.Option(
        None, "--extend", metavar="L,T,R,B", help="Pixels to add left, above, right and below."
    ),
    repeat: Path = typer.Option(
        None, "--from", metavar="FILE", help="Repeat the edit that made this file."
    ),
    model: str = RepeatModel,
    adapters: list[str] = Adapters,
    undistilled: bool = Undistilled,
    out: Path = Out,
    seed: int = typer.Option(None, "--seed", help="Of the first image; the next have the next."),
    images: int = typer.Option(1, "--images", "-n", metavar="N", help="How many."),
    negative: str = typer.Option(None, "--negative", metavar="T", help="What to lead away from."),
    resample: int = typer.Option(
        None, "--resample", metavar="N", help="With a mask: walk each step so often (RePaint)."
    ),
    known: str = typer.Option(
        None, "--known", metavar="K", help="With a mask: show what stays renoised or clean."
    ),
    feather: int = typer.Option(
        None, "--feather", metavar="PX", help="With a mask: fade in over so many pixels inside it."
    ),
    context: int = typer.Option(
        None,
        "--context",
        metavar="PX",
        help="With a mask: work on it and so many pixels around it, which PROMPT then describes.",
    ),
    steps: str = Steps,
    guidance: str = Weight,
    guidance_kind: str = GuidanceKind,
    sampler: str = Sampler,
    threshold: str = Thresholding,
    noise_level: str = NoiseLevel,
    stages: int = Stages,
    background: str = Background,
    prompt_weights: bool = PromptWeights,
    device: str = Device,
    fast: bool = Fast,
    precision: str = Precision,
    grid: bool = typer.Option(False, "--grid", help="Also write all images as one sheet."),
    as_json: bool = Json,
) -> None:
    """Change an image: all of it, what a mask marks, or what extends it."""
    started = time.monotonic()
    given = read_settings(
        steps, guidance, sampler, threshold, noise_level, undistilled, guidance_kind
    )
    options: dict[str, Any] = {
        "strength": read_strength(strength),
        "extend": read_extension(extend),
        "resample": resample,
        "known": known,
        "feather": feather,
        "context": context,
    }
    record: dict[str, Any] = {}
    if repeat is not None:
        record = edit_to_repeat(repeat)
        prompt = prompt or str(record["prompt"])
        negative = negative or str(record.get("negative") or "")
        model = model or str(record["model"])
        adapters = adapters or recorded_adapters(record)
        given = over_record(given, record)
        precision = precision or record.get("precision", "fp32")
        background = background or record.get("background", background)
        prompt_weights = prompt_weights or bool(record.get("prompt_weights"))
        stages = stages or len(record["settings"])
        options = recorded_options(record) | {k: v for k, v in options.items() if v is not None}
    if not (prompt or "").strip():
        raise ConfigError("There is no --prompt.", "Say what the whole result shall show.")

    from open_imagen.cascade.io import load

    check(given)
    place = Place(out, images, grid, background)
    how: dict[str, Any] = {"device": device, "fast": fast, "dtype": precision or "fp32"}
    cascade = load(model or DEFAULT_MODEL, adapters=adapters, **how)
    warn_of_other_model(record, cascade, repeat)
    with progress_bar() as told:
        made = cascade.edit(
            source(image),
            prompt,
            mask=mask if mask in (None, "alpha") else Path(mask),
            seed=seed if seed is not None else int(record.get("seed", 0)),
            images=images,
            negative=negative or None,
            stages=stages,
            settings=sampling(given, cascade.stages),
            progress=told,
            background=background,
            prompt_weights=prompt_weights,
            repeat=record or None,
            **{name: value for name, value in options.items() if value is not None},
        )
    finish(made, place, as_json, started, grid)


def source(image: Path) -> Path | bytes:
    """A file, or what standard input holds for "-"."""
    return sys.stdin.buffer.read() if str(image) == "-" else image


def read_strength(text: str | None) -> float | dict[str, float] | None:
    """One strength, or one for each stage.

    Raises:
        ConfigError: it is no number.
    """
    values = per_stage(text, "--strength", float)
    if not values:
        return None
    if "" in values:
        if len(values) > 1:
            raise ConfigError(
                f"--strength {text} mixes a strength for all stages with those of single ones.",
                "Write --strength 0.5, or --strength base=0.5,sr256=1.",
            )
        return float(values[""])
    return values


def edit_to_repeat(file: Path) -> dict[str, Any]:
    """The record of an edited image.

    Raises:
        DataError: the file has no record.
        ConfigError: it was not made by edit.
    """
    from open_imagen.cascade.records import read_record

    record = read_record(file)
    if record.get("made_by") != "edit" or "edit" not in record:
        raise ConfigError(
            f"{file} was made by {record.get('made_by', 'generate')}, not by edit.",
            "imagen generate --from repeats a generated image.",
        )
    return record


def recorded_options(record: dict[str, Any]) -> dict[str, Any]:
    """How an edit was made, as arguments of Cascade.edit."""
    edit = record["edit"]
    names = ("strength", "extend", "resample", "known", "feather", "context")
    return {name: edit[name] for name in names if name in edit}


def upscale(
    image: Path = typer.Argument(
        ..., metavar="IMAGE", help="The image to enlarge; - reads standard input."
    ),
    prompt: str = typer.Option(..., "--prompt", "-p", metavar="T", help="What it shows."),
    model: str = Model,
    adapters: list[str] = Adapters,
    undistilled: bool = Undistilled,
    out: Path = Out,
    seed: int = typer.Option(0, "--seed", help="Of the noise."),
    negative: str = typer.Option(None, "--negative", metavar="T", help="What to lead away from."),
    steps: str = Steps,
    guidance: str = Weight,
    guidance_kind: str = GuidanceKind,
    sampler: str = Sampler,
    threshold: str = Thresholding,
    noise_level: str = NoiseLevel,
    background: str = Background,
    device: str = Device,
    fast: bool = Fast,
    precision: str = Precision,
    as_json: bool = Json,
) -> None:
    """Enlarge an image of any size and shape with the super-resolution stages of a model."""
    started = time.monotonic()
    given = read_settings(
        steps, guidance, sampler, threshold, noise_level, undistilled, guidance_kind
    )
    if not prompt.strip():
        raise ConfigError("The prompt is empty.", "Say what the image shows.")

    from open_imagen.cascade.io import load

    check(given)
    place = Place(out, 1, False, background)
    cascade = load(model, adapters=adapters, device=device, fast=fast, dtype=precision or "fp32")
    with progress_bar() as told:
        settings = sampling(given, cascade.stages)
        made = cascade.upscale(source(image), prompt, seed, negative, settings, told, background)
    finish(made, place, as_json, started, False)
