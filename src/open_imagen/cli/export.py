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
    from open_imagen.cascade.io import load
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


def push(
    model: str = typer.Argument(..., metavar="MODEL", help="A folder or a shipped model."),
    repository: str = typer.Argument(..., metavar="ORG/NAME", help="On the hub."),
    private: bool = typer.Option(False, "--private", help="Make the repository private."),
    dry_run: bool = typer.Option(
        False, "--dry-run", help="Check, show the card and the files, and send nothing."
    ),
    licence: str = typer.Option(
        None, "--license", metavar="L", help="Its name on the hub; the README's by default."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object."),
) -> None:
    """Send a model to the Hugging Face hub."""
    from open_imagen.exporters.hub import push as send

    found = send(model, repository, private, dry_run, licence)
    if as_json:
        print(json.dumps(found.plain()))
        return
    kind = "private" if private else "public"
    size = f"{len(found.files) + 1} files, {found.bytes / 1e6:.1f} MB, licence {found.licence}"
    if found.url:
        print(f"{repository} ({kind}): {size}; {found.url}")
        return
    print(found.card)
    for path, file in found.files.items():
        print(f"{file.stat().st_size:>12,}  {path}")
    print(f"Nothing was sent. {repository} would be {kind}: {size}")
