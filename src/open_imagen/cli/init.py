"""imagen init: recipes for a folder of images, fitted to it and to this machine."""

import json
import re
import sys
from pathlib import Path

import typer


def init(
    folder: Path = typer.Argument(..., metavar="FOLDER", help="Of images with captions."),
    out: Path = typer.Option(Path("."), "--out", "-o", metavar="DIR", help="Where recipes go."),
    name: str = typer.Option(None, "--name", help="Of the model; the folder's by default."),
    hours: float = typer.Option(4.0, "--hours", help="That each stage may train here."),
    encoder: str = typer.Option("minilm-l6", "--encoder", metavar="E", help="The text encoder."),
    caption: str = typer.Option(
        "", "--caption", metavar="T", help="For images that have none of their own."
    ),
    device: str = typer.Option("auto", "--device", help="auto, cpu, cuda, cuda:1 ..."),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object."),
) -> None:
    """Write recipes for a base and its super-resolution, every choice explained in a comment."""
    from open_imagen.devices import pick_device
    from open_imagen.planning.folder_facts import look
    from open_imagen.planning.init_recipes import init_recipes, write_files
    from open_imagen.planning.machine import measure

    facts = look(folder, caption)
    print(f"measuring the speed of {(place := pick_device(device))}", file=sys.stderr)
    machine = measure(place)
    own = re.sub(r"[^a-z0-9._-]+", "-", folder.resolve().name.lower()).strip("-._") or "mine"
    name = name or own
    made = init_recipes(facts, machine, name, hours, encoder, caption)
    files = write_files(made, out)
    models = [str(Path("runs") / one.name / "model") for one in made]
    commands = [f"imagen train {file}" for file in files]
    model = models[0]
    if len(made) > 1:
        model = f"{name}-model"
        commands.append(f"imagen join {name} {' '.join(models)} --out {model}")
    commands.append(f"imagen generate {json.dumps(facts.examples[0])} --model {model}")
    if as_json:
        recipes = [
            {"file": str(file), "images": one.recipe.train.images, "hours": round(one.hours, 2)}
            for file, one in zip(files, made, strict=True)
        ]
        print(json.dumps({"images": facts.images, "recipes": recipes, "commands": commands}))
        return
    for file, one in zip(files, made, strict=True):
        images = f"{one.recipe.train.images:,} images"
        print(f"{file}: {images}, about {one.hours:.1f} hours here")
    if len(made) == 1:
        print(
            f"No super-resolution: half of the images are smaller than 128 pixels (the middle one "
            f"has {facts.median_side})."
        )
    print("Then:")
    for command in commands:
        print(f"  {command}")
