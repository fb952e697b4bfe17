"""imagen generate and show: from sentences to picture files."""

import json
import sys
import time
from pathlib import Path
from typing import Any

import typer

from open_imagen.cli.alternatives import alternatives
from open_imagen.cli.options import (
    PerStage,
    check,
    confirm_words,
    read_prompts,
    read_settings,
    read_size,
    sampling,
)
from open_imagen.cli.results import (
    Place,
    finish,
    progress_bar,
    recorded_adapters,
    warn_of_other_model,
)
from open_imagen.cli.vary import run_vary
from open_imagen.config import DEFAULT_MODEL
from open_imagen.errors import ConfigError

Stages = typer.Option(
    None, "--stages", metavar="K", help="How many stages to run, not the model's default number."
)
Steps = typer.Option(None, "--steps", metavar="N|stage=N,..", help="Sampling steps.")
Weight = typer.Option(None, "--guidance", metavar="W|stage=W,..", help="Guidance weight; 1 is off.")
GuidanceKind = typer.Option(
    None, "--guidance-kind", metavar="K|stage=K,..", help="cfg, apg or cfg_zero."
)
PromptWeights = typer.Option(
    False, "--prompt-weights", help='Let "(word:1.3)" weigh words of the prompts.'
)
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
Out = typer.Option(
    None, "--out", "-o", metavar="PATH", help="A folder, or a .png, .jpg or .webp file."
)
Model = typer.Option(
    DEFAULT_MODEL, "--model", "-m", help="A shipped model, a folder, or hf:org/name."
)
RepeatModel = typer.Option(
    None,
    "--model",
    "-m",
    metavar="TEXT",
    help="A shipped model, a folder, or hf:org/name; that of a repeated image, else "
    f"{DEFAULT_MODEL}.",
)
Adapters = typer.Option(
    [],
    "--adapter",
    metavar="DIR[:W]",
    help="A low-rank adapter to add, perhaps with a weight; may be given again.",
)
Undistilled = typer.Option(
    False,
    "--undistilled",
    help="Use stages without their named adapters: the slower model that a few-step one is of.",
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
    prompts: list[str] = typer.Argument(
        None, metavar="PROMPT...", help='What to show; "a {red|blue} cat" is two.'
    ),
    prompt_file: Path = typer.Option(
        None, "--prompts", metavar="FILE", help="Prompts from a file, one a line, or JSONL."
    ),
    repeat: Path = typer.Option(
        None, "--from", metavar="FILE", help="Repeat the image in this file."
    ),
    vary: Path = typer.Option(
        None, "--vary", metavar="FILE", help="Near relatives of the image of ours in this file."
    ),
    amount: float = typer.Option(
        None, "--amount", metavar="A", help="With --vary: 0 the same, 1 another seed's; 0.3."
    ),
    model: str = RepeatModel,
    adapters: list[str] = Adapters,
    undistilled: bool = Undistilled,
    out: Path = Out,
    seed: int = typer.Option(None, "--seed", help="Of the first picture; the next have the next."),
    images: int = typer.Option(1, "--images", "-n", metavar="N", help="Pictures per prompt."),
    negative: str = typer.Option(None, "--negative", metavar="T", help="What to lead away from."),
    steps: str = Steps,
    guidance: str = Weight,
    guidance_kind: str = GuidanceKind,
    sampler: str = Sampler,
    threshold: str = Thresholding,
    noise_level: str = NoiseLevel,
    stages: int = Stages,
    prompt_weights: bool = PromptWeights,
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
    given = read_settings(
        steps, guidance, sampler, threshold, noise_level, undistilled, guidance_kind
    )
    if vary is not None or amount is not None:
        others = {
            "PROMPT": prompts, "--prompts": prompt_file, "--from": repeat, "--negative": negative,
            "--stages": stages, "--size": size, "--background": background,
            "--prompt-weights": prompt_weights or None,
            "--undistilled": undistilled,
            **{f"--{name.replace('_', '-')}": given[name] for name in given if name != "adapter"},
        }  # fmt: skip
        run_vary(
            vary, amount, seed, images, model, adapters, out, device, fast, precision, grid,
            as_json, others,
        )  # fmt: skip
        return
    texts = list(prompts or []) + (read_prompts(prompt_file) if prompt_file else [])
    sentences = [sentence for text in texts for sentence in alternatives(text)]
    record: dict[str, Any] = {}
    if repeat is not None:
        record = record_to_repeat(repeat, sentences)
        sentences = [record["prompt"]]
        negative = str(negative or record.get("negative") or "")
        model = model or str(record["model"])
        given = over_record(given, record)
        size = size or str(record.get("cropped_from") or record.get("size", ""))
        precision = precision or record.get("precision", "fp32")
        background = background or record.get("background", background)
        adapters = adapters or recorded_adapters(record)
        prompt_weights = prompt_weights or bool(record.get("prompt_weights"))
    if not any(sentences) or not all(s.strip() for s in sentences):
        raise ConfigError("The prompt is empty.", 'Try: imagen generate "a red circle"')

    from open_imagen.cascade.io import load

    check(given)
    confirm_words(prompts or [])
    number = len(sentences) * images
    place = Place(out, number, grid, background)
    how: dict[str, Any] = {"device": device, "fast": fast, "dtype": precision or "fp32"}
    cascade = load(model or DEFAULT_MODEL, adapters=adapters, **how)
    warn_of_other_model(record, cascade, repeat)
    for sentence in dict.fromkeys(sentences):
        if not prompt_weights and (reading := cascade.read(sentence)).prompt != sentence:
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
            prompt_weights=prompt_weights,
            variations=[(one["seed"], one["amount"]) for one in record.get("variations", [])],
        )
    finish(made, place, as_json, started, grid)


def show(
    file: Path = typer.Argument(..., metavar="FILE", help="An image of ours."),
    as_json: bool = Json,
) -> None:
    """Print how a picture was made."""
    from open_imagen.cascade.records import parameters, read_record

    record = read_record(file)
    print(json.dumps(record, indent=2, ensure_ascii=False) if as_json else parameters(record))


def record_to_repeat(file: Path, sentences: list[str]) -> dict[str, Any]:
    """The record of a file that is to be generated again.

    Raises:
        ConfigError: a prompt is given too.
    """
    from open_imagen.cascade.records import read_record

    if sentences:
        raise ConfigError("--from repeats a picture with its own prompt.", "Leave out PROMPT.")
    record = read_record(file)
    made_by = record.get("made_by", "generate")
    if made_by != "generate":
        again = " --from" if made_by == "edit" else ""
        raise ConfigError(
            f"{file} was made by {made_by}, from an image that it does not hold.",
            f"Use imagen {made_by}{again} with that image.",
        )
    return record


def over_record(given: dict[str, PerStage], record: dict[str, Any]) -> dict[str, PerStage]:
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
