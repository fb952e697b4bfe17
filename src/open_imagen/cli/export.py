"""imagen export, push: a model for other libraries, and on the hub."""

import json
from pathlib import Path

import typer

from open_imagen.cli.generate import Adapters


def export(
    model: str = typer.Argument(..., metavar="MODEL", help="A shipped model or a folder."),
    to: str = typer.Option("diffusers", "--to", metavar="FORMAT", help="diffusers or onnx."),
    out: Path = typer.Option(..., "--out", "-o", metavar="DIR", help="The folder to write."),
    adapters: list[str] = Adapters,
    text_encoder: bool = typer.Option(
        True,
        "--text-encoder/--no-text-encoder",
        help="Whether to write it too.",
    ),
    text_length: int = typer.Option(
        None, "--text-length", metavar="N", help="Of ONNX: tokens of every caption; any by default."
    ),
    half: bool = typer.Option(False, "--half", help="Write the networks in float16."),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object."),
) -> None:
    """Write a model for diffusers, or its stages as ONNX files."""
    from open_imagen.cascade.pipeline import load
    from open_imagen.errors import UnknownName
    from open_imagen.exporters.export import FORMATS
    from open_imagen.exporters.export import export as write

    if to not in FORMATS:  # before a model is loaded
        raise UnknownName("export format", to, FORMATS)
    cascade = load(model, device="cpu", adapters=adapters)
    write(cascade, out, to, text_encoder, half, text_length)
    if as_json:
        print(json.dumps({"model": cascade.name, "format": to, "folder": str(out)}))
    else:
        print(f"{out}: {cascade.name} for {to}; how to use it is in {out / 'README.md'}")
