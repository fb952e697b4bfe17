"""imagen generate, upscale, show: from sentences to picture files."""

import json
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from open_imagen.cli.options import (
    PerStage,
    check,
    read_prompts,
    read_settings,
    read_size,
    sampling,
)
from open_imagen.errors import ConfigError, OutputError

if TYPE_CHECKING:
    from PIL import Image

    from open_imagen.cascade.pipeline import GenerationOutput, Progress

Stages = typer.Option(
    None, "--stages", metavar="K", help="How many stages to run, not the model's default number."
)
Steps = typer.Option(None, "--steps", metavar="N|stage=N,..", help="Sampling steps.")
Weight = typer.Option(None, "--guidance", metavar="W|stage=W,..", help="Guidance weight; 1 is off.")
Sampler = typer.Option(
    None,
    "--sampler",
    metavar="S",
    help="ddpm, ddim, dpmpp_2m, dpmpp_2m_sde, unipc, heun or heun_sde.",
)
Thresholding = typer.Option(None, "--threshold", metavar="T", help="dynamic, static or none.")
NoiseLevel = typer.Option(
    None, "--noise-level", metavar="A", help="Noise conditioning of super-resolution, 0 to 1."
)
Background = typer.Option(
    None,
    "--background",
    metavar="transparent|#rrggbb",
    help="Behind what a model with alpha leaves transparent; white by default.",
)
Model = typer.Option("scenes", "--model", "-m", help="A shipped model, a folder, or hf:org/name.")
Adapters = typer.Option(
    [], "--adapter", metavar="DIR", help="A low-rank adapter to add; may be given again."
)
Device = typer.Option("auto", "--device", help="auto, cpu, cuda, cuda:1 ...")
Fast = typer.Option(
    False, "--fast", help="Compute as fast as this device can; a CPU needs g++ once."
)
Precision = typer.Option(
    None, "--precision", metavar="P", help="fp32, or bf16: faster, half the memory, less exact."
)
Json = typer.Option(False, "--json", help="Print one JSON object on standard output.")


def generate(
    prompts: list[str] = typer.Argument(None, metavar="PROMPT...", help="What to show."),
    prompt_file: Path = typer.Option(
        None, "--prompts", metavar="FILE", help="Prompts from a file, one a line, or JSONL."
    ),
    repeat: Path = typer.Option(
        None, "--from", metavar="FILE", help="Repeat the image in this file."
    ),
    model: str = Model,
    adapters: list[Path] = Adapters,
    out: Path = typer.Option(
        None, "--out", "-o", metavar="PATH", help="A folder, or a .png file for one picture."
    ),
    seed: int = typer.Option(None, "--seed", help="Of the first picture; the next have the next."),
    images: int = typer.Option(1, "--images", "-n", metavar="N", help="Pictures per prompt."),
    negative: str = typer.Option(None, "--negative", metavar="T", help="What to lead away from."),
    steps: str = Steps,
    guidance: str = Weight,
    sampler: str = Sampler,
    threshold: str = Thresholding,
    noise_level: str = NoiseLevel,
    stages: int = Stages,
    size: str = typer.Option(
        None, "--size", metavar="WxH", help="Of the finished pictures, in multiples of 64."
    ),
    background: str = Background,
    device: str = Device,
    fast: bool = Fast,
    precision: str = Precision,
    grid: bool = typer.Option(False, "--grid", help="Also write all pictures as one sheet."),
    as_json: bool = Json,
) -> None:
    """Make pictures of sentences."""
    started = time.monotonic()
    given = read_settings(steps, guidance, sampler, threshold, noise_level)
    sentences = list(prompts or []) + (read_prompts(prompt_file) if prompt_file else [])
    record: dict[str, Any] = {}
    if repeat is not None:
        record = _record_to_repeat(repeat, sentences)
        sentences = [record["prompt"]]
        negative = str(negative or record.get("negative") or "")
        model = str(record["model"]) if model == "scenes" else model
        given = _over_record(given, record)
        size = size or str(record.get("cropped_from") or record.get("size", ""))
        precision = precision or record.get("precision", "fp32")
        background = background or record.get("background", background)
    if not any(sentences) or not all(s.strip() for s in sentences):
        raise ConfigError("The prompt is empty.", 'Try: imagen generate "a red circle"')

    from open_imagen.cascade.pipeline import load

    check(given)
    number = len(sentences) * images
    place = Place(out, number, grid)
    cascade = load(model, device, adapters=adapters, fast=fast, precision=precision or "fp32")
    if record and record.get("model_hash") not in (None, cascade.model_hash):
        print(
            f"Warning: {repeat} was made by {record['model']} {record['model_hash']}, this is "
            f"{cascade.name} {cascade.model_hash}; the picture may differ.",
            file=sys.stderr,
        )
    for sentence in dict.fromkeys(sentences):
        if (reading := cascade.read(sentence)).prompt != sentence:
            print(f"read as: {reading.prompt}", file=sys.stderr)
    first = seed if seed is not None else int(record.get("seed", 0))
    with progress_bar() as told:
        made = cascade.generate(
            sentences,
            seed=first,
            images_per_prompt=images,
            negative=negative,
            stages=stages if stages is not None else (len(record["settings"]) if record else None),
            settings=sampling(given, cascade.stages),
            progress=told,
            size=read_size(size),
            background=background,
        )
    _finish(made, place, as_json, started, grid)


def upscale(
    image: Path = typer.Argument(..., metavar="IMAGE", help="The picture to enlarge."),
    prompt: str = typer.Option(..., "--prompt", "-p", metavar="T", help="What it shows."),
    model: str = Model,
    adapters: list[Path] = Adapters,
    out: Path = typer.Option(None, "--out", "-o", metavar="PATH", help="A folder or a .png file."),
    seed: int = typer.Option(0, "--seed", help="Of the noise."),
    negative: str = typer.Option(None, "--negative", metavar="T", help="What to lead away from."),
    steps: str = Steps,
    guidance: str = Weight,
    sampler: str = Sampler,
    threshold: str = Thresholding,
    noise_level: str = NoiseLevel,
    background: str = Background,
    device: str = Device,
    fast: bool = Fast,
    precision: str = Precision,
    as_json: bool = Json,
) -> None:
    """Enlarge a picture with the super-resolution stages of a model."""
    started = time.monotonic()
    given = read_settings(steps, guidance, sampler, threshold, noise_level)
    if not prompt.strip():
        raise ConfigError("The prompt is empty.", "Say what the picture shows.")

    from open_imagen.cascade.pipeline import load
    from open_imagen.cascade.records import open_image

    check(given)
    small = open_image(image)
    place = Place(out, 1, False)
    cascade = load(model, device, adapters=adapters, fast=fast, precision=precision or "fp32")
    with progress_bar() as told:
        settings = sampling(given, cascade.stages)
        made = cascade.upscale(small, prompt, seed, negative, settings, told, background)
    _finish(made, place, as_json, started, False)


def show(
    file: Path = typer.Argument(..., metavar="FILE", help="An image of ours."),
    as_json: bool = Json,
) -> None:
    """Print how a picture was made."""
    from open_imagen.cascade.records import parameters, read_record

    record = read_record(file)
    print(json.dumps(record, indent=2, ensure_ascii=False) if as_json else parameters(record))


class Place:
    """Where pictures go, made sure of before any work is done."""

    def __init__(self, out: Path | None, number: int, grid: bool) -> None:
        self.file = None
        folder = out or Path("pictures")
        if out is not None and out.suffix.lower() == ".png":
            if number > 1 and not grid:
                raise ConfigError(
                    f"--out {out} is one file, but there are {number} pictures.",
                    "Name a folder, or add --grid to write one sheet.",
                )
            self.file, folder = out, out.parent
        elif out is not None and out.is_file():
            raise ConfigError(f"--out {out} is a file, not a folder.", "Name a folder or a .png.")
        self.folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
            probe = folder / ".imagen-write-test"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise OutputError(
                f"Cannot write to {folder}: {error.strerror}.", "Choose another --out."
            ) from error

    def path(self, record: dict[str, Any], number: int) -> Path:
        """The file of a picture: its seed and the words of its prompt; never an existing one."""
        if self.file is not None and number == 1:
            return self.file
        words = re.sub(r"[^a-z0-9]+", "-", record["prompt"].lower()).strip("-")[:60] or "picture"
        stem = f"{record['seed']:05d}-{words}"
        path, again = self.folder / f"{stem}.png", 2
        while path.exists():
            path, again = self.folder / f"{stem}-{again}.png", again + 1
        return path


def _finish(
    made: "GenerationOutput", place: Place, as_json: bool, started: float, grid: bool
) -> None:
    """Write the pictures and say where they are."""
    from open_imagen.cascade.records import save_png

    paths = []
    one_sheet = grid and place.file is not None
    if not one_sheet:
        for image, record in zip(made.images, made.records, strict=True):
            path = place.path(record, len(made.images))
            save_png(image, path, record)
            paths.append(path)
    sheet = None
    if grid:
        sheet = place.file or place.folder / "grid.png"
        prompts = " | ".join(dict.fromkeys(record["prompt"] for record in made.records))
        save_png(contact_sheet(made.images), sheet, {**made.records[0], "prompt": prompts})
    seconds = round(time.monotonic() - started, 2)
    if as_json:
        pictures: list[dict[str, Any]] = [dict(record) for record in made.records]
        for picture, path in zip(pictures, paths, strict=False):
            picture["file"] = str(path)
        result = {"pictures": pictures, "grid": sheet and str(sheet), "seconds": seconds}
        print(json.dumps(result, ensure_ascii=False))
        return
    for path in [*paths, sheet] if sheet else paths:
        print(path)
    print(f"{len(made.images)} pictures in {seconds} s", file=sys.stderr)


def contact_sheet(images: "list[Image.Image]", gap: int = 8) -> "Image.Image":
    """All pictures on one sheet, as square as may be, with white gaps."""
    import math

    from PIL import Image

    columns = math.ceil(math.sqrt(len(images)))
    rows = math.ceil(len(images) / columns)
    width, height = images[0].size
    size = (columns * (width + gap) + gap, rows * (height + gap) + gap)
    sheet = Image.new("RGB", size, "white")
    for k, image in enumerate(images):
        row, column = divmod(k, columns)
        mask = image if image.mode == "RGBA" else None
        sheet.paste(image, (gap + column * (width + gap), gap + row * (height + gap)), mask)
    return sheet


@contextmanager
def progress_bar() -> "Iterator[Progress]":
    """A bar per stage on standard error, if that is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

    tasks: dict[str, TaskID] = {}
    with Progress(
        TextColumn("{task.description:8}"),
        BarColumn(),
        TextColumn("{task.percentage:3.0f} %"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    ) as bars:

        def told(stage: str, step: int, steps: int, preview: Any) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=steps)
            bars.update(tasks[stage], completed=step)

        yield told


def _record_to_repeat(file: Path, sentences: list[str]) -> dict[str, Any]:
    from open_imagen.cascade.records import read_record

    if sentences:
        raise ConfigError("--from repeats a picture with its own prompt.", "Leave out PROMPT.")
    record = read_record(file)
    if record.get("made_by") == "upscale":
        raise ConfigError(
            f"{file} was made by upscale, from a picture that it does not carry.",
            "Use imagen upscale with that picture.",
        )
    return record


def _over_record(given: dict[str, PerStage], record: dict[str, Any]) -> dict[str, PerStage]:
    """The record's settings per stage, and over them what was given."""
    merged: dict[str, PerStage] = {}
    for stage, settings in record.get("settings", {}).items():
        for name, value in settings.items():
            merged.setdefault(name, {})[stage] = value
    for name, values in given.items():
        if "" in values:
            merged[name] = values
        else:
            merged.setdefault(name, {}).update(values)
    return merged
