"""export(): a cascade in another library's format."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch

from open_imagen.cascade.cascade import Cascade
from open_imagen.cascade.io import load
from open_imagen.errors import ConfigError, UnknownName
from open_imagen.exporters import deepfloyd_export, diffusers_export, onnx_export, readme
from open_imagen.storage import new_folder

Writer = Callable[[Cascade, Path, "Options"], str]


class Options(NamedTuple):
    """What a format may take or leave."""

    text_encoder: bool
    text_length: int | None
    dtype: torch.dtype


def _diffusers(cascade: Cascade, folder: Path, options: Options) -> str:
    """The README of what was written: IF's own pipelines where they can be, else one of ours."""
    text_encoder, _, dtype = options
    if deepfloyd_export.differences(cascade):
        diffusers_export.write_pipeline(cascade, folder, text_encoder, dtype)
        return readme.of_pipeline(cascade, text_encoder)
    deepfloyd_export.write_pipelines(cascade, folder, text_encoder, dtype)
    return readme.of_deepfloyd(cascade)


def _onnx(cascade: Cascade, folder: Path, options: Options) -> str:
    onnx_export.write_stages(cascade, folder, options.dtype, options.text_length)
    return readme.of_onnx(cascade)


FORMATS: dict[str, Writer] = {"diffusers": _diffusers, "onnx": _onnx}


def export(
    cascade: Cascade | str | Path,
    folder: str | Path,
    format: str = "diffusers",
    text_encoder: bool = True,
    half: bool = False,
    text_length: int | None = None,
) -> Path:
    """Write a cascade, with the adapters that it has, for another library.

    diffusers: networks of DeepFloyd IF's shape become IF's own pipelines, a folder for each stage;
    others become one pipeline with its own module in the folder (trust_remote_code). onnx: a file
    for each stage.

    Args:
        cascade: a cascade, or what `load` takes.
        folder: a new one.
        text_encoder: whether diffusers' folder gets the text encoder too.
        half: write the networks in float16; diffusers alone.
        text_length: of ONNX files, how many tokens every caption has; any number if None.

    Returns:
        The folder.

    Raises:
        UnknownName: no such format, or no such model.
        ConfigError: a cascade that the format has no place for.
        MissingDependency: the text encoder's files or a package for the format are missing.
        OutputError: the folder exists already, or cannot be written.
    """
    if format not in FORMATS:
        raise UnknownName("export format", format, FORMATS)
    if text_length is not None and text_length < 1:
        raise ConfigError(f"text_length = {text_length} must be at least 1.")
    if not isinstance(cascade, Cascade):
        cascade = load(cascade, device="cpu")
    options = Options(text_encoder, text_length, torch.float16 if half else torch.float32)
    with new_folder(Path(folder)) as temporary:
        text = FORMATS[format](cascade, temporary, options)
        (temporary / "README.md").write_text(text, encoding="utf-8")
    return Path(folder)
