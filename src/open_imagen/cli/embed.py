"""imagen embed: captions to embeddings, once and for all."""

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer


def embed(
    data: str = typer.Argument(
        ..., metavar="DATA", help="A recipe, a folder of captioned pictures, or tar files."
    ),
    encoder: str = typer.Option(None, "--encoder", metavar="E", help="Text encoder; see docs."),
    out: Path = typer.Option(..., "--out", "-o", metavar="DIR", help="Where embeddings go."),
    device: str = typer.Option("auto", "--device", help="auto, cpu, cuda, cuda:1 ..."),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object."),
) -> None:
    """Embed every caption of some data, once each. Run it again to go on after a stop.

    Started by torchrun, every rank takes its share of the captions.
    """
    from open_imagen.distributed import process_device, world_from_env
    from open_imagen.errors import ConfigError
    from open_imagen.text.encoders import load_encoder
    from open_imagen.text.store import Store, shards
    from open_imagen.text.store import embed as fill

    if not encoder and not data.endswith(".toml"):
        raise ConfigError("--encoder is missing.", "Try: --encoder t5-v1_1-xxl")
    captions, named = _captions(data)
    name = encoder or named
    (rank, ranks, _), place = world_from_env(), process_device(device)
    began = time.monotonic()

    from rich.console import Console

    with Console(stderr=True).status("loading the encoder") as status:
        model = load_encoder(name, place)

        def told(done: int) -> None:
            rate = done / max(time.monotonic() - began, 1e-9)
            status.update(f"{done:,} captions, {rate:,.0f} a second")

        done = fill(captions, model, out, rank, ranks, progress=told)
    seconds = time.monotonic() - began
    there = len(Store(out))
    size = sum(path.stat().st_size for path in shards(out))
    report = {
        "embedded": done,
        "captions": there,
        "bytes": size,
        "bytes_per_caption": round(size / there, 1) if there else 0,
        "captions_per_second": round(done / seconds, 1),
        "seconds": round(seconds, 2),
    }
    if as_json:
        print(json.dumps({"out": str(out), "encoder": name, **report}))
        return
    print(f"{done:,} captions embedded in {seconds:,.1f} s; {there:,} are in {out}")
    if there:
        padded = 77 * 2 * model.width
        print(
            f"{size / 2**20:,.1f} MiB, {size / there:,.0f} bytes a caption; padded to 77 tokens it "
            f"would be {padded:,}",
            file=sys.stderr,
        )


def _captions(data: str) -> tuple[Iterator[str], str]:
    """All captions of DATA, and the encoder that a recipe names."""
    from open_imagen.worlds.sources import open_source

    if data.endswith(".toml"):
        from open_imagen.training.recipe import read_recipe

        recipe = read_recipe(Path(data))
        source: Any = open_source(recipe.data)

        def both() -> Iterator[str]:
            yield from recipe.train.prompts
            yield from source.captions()
            if recipe.validation:
                yield from open_source(recipe.validation).captions()

        return both(), recipe.encoder
    is_folder = Path(data).is_dir() and not any(Path(data).glob("*.tar"))
    kind = "folder" if is_folder else "shards"
    return open_source({"kind": kind, "path": data}).captions(), ""
