"""imagen import: public weights as a model folder of ours."""

import sys
from pathlib import Path

import typer

app = typer.Typer(no_args_is_help=True, help="Bring public weights into a model folder.")


@app.callback()
def group() -> None:
    """Bring public weights into a model folder."""


@app.command("deepfloyd")
def deepfloyd(
    folder: Path = typer.Argument(
        ...,
        metavar="FOLDER",
        help="Of stage I or II, or of both, as downloaded (diffusers layout).",
    ),
    out: Path = typer.Option(..., "--out", "-o", metavar="DIR", help="The model folder to write."),
    clean: bool = typer.Option(
        False, "--clean-captions", help="Clean prompts as DeepFloyd's captions were (needs ftfy)."
    ),
    half: bool = typer.Option(False, "--half", help="Write the weights in float16."),
) -> None:
    """DeepFloyd IF, stage I, stage II or both. Nothing is downloaded."""
    import torch

    from open_imagen.cascade.deepfloyd import copy_text_encoder, find_encoder, read, show_licence
    from open_imagen.cascade.folder import CascadeConfig, write_folder
    from open_imagen.errors import DataError

    if not folder.is_dir():
        raise DataError(f"There is no folder {folder}.", "Download the repository first.")
    found = read(folder, half)
    text = find_encoder(found)
    show_licence()
    dtype = torch.float16 if half else torch.float32
    encoder = found.encoder + ("-clean" if clean else "")
    for stage, files in zip(found.stages, found.networks, strict=True):
        print(f"reading {stage.config.name}: {files}", file=sys.stderr)
        stage.load_weights(torch.device("cpu"))
    config = CascadeConfig(name=folder.resolve().name, encoder=encoder)
    write_folder(out, config, found.stages, dtype)
    if found.text_encoder is not None:
        print(f"copying the text encoder: {text}", file=sys.stderr)
        copy_text_encoder(found.text_encoder, out)
    else:
        print(f"the text encoder stays where it is: {text}", file=sys.stderr)
    names = ", ".join(stage.config.name for stage in found.stages)
    print(f"{out}: {names}; make a picture with: imagen generate PROMPT --model {out}")
