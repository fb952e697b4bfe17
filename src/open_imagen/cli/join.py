"""imagen join: one model folder from the stages of several models."""

import json
import time
from pathlib import Path

import typer


def join(
    name: str = typer.Argument(..., metavar="NAME", help="Of the new model."),
    models: list[str] = typer.Argument(
        ...,
        metavar="FOLDER...",
        help="Model folders, shipped models or hf:org/name; MODEL:STAGE for one stage of it.",
    ),
    out: Path = typer.Option(..., "--out", "-o", metavar="DIR", help="The model folder to write."),
    default_stages: int = typer.Option(
        None, "--default-stages", metavar="K", help="How many stages run where nobody says."
    ),
    half: bool = typer.Option(False, "--half", help="Write the weights in float16."),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object."),
) -> None:
    """Join the stages of several models, as a base of your own and a shipped super-resolution."""
    started = time.monotonic()
    import torch

    from open_imagen.cascade.joining import join as join_models
    from open_imagen.storage import link_or_copy, new_folder

    with new_folder(out) as folder:
        cascade = join_models(name, models, device="cpu", default_stages=default_stages)
        cascade.save(folder, torch.float16 if half else torch.float32)
        if cascade.encoder_folder is not None:  # a model that brings its own text encoder
            for part in (cascade.encoder_folder, cascade.encoder_folder.parent / "tokenizer"):
                for file in sorted(part.glob("*")):
                    if file.suffix in (".json", ".model", ".safetensors", ".txt"):
                        link_or_copy(file, folder / part.name / file.name)
    stages = {stage: one.config.resolution for stage, one in cascade.stages.items()}
    if as_json:
        facts = {"model": name, "folder": str(out), "stages": stages}
        print(json.dumps({**facts, "seconds": round(time.monotonic() - started, 2)}))
        return
    told = ", ".join(f"{stage} ({side} pixels)" for stage, side in stages.items())
    print(f"{out}: {told}; make a picture with: imagen generate PROMPT --model {out}")
