"""What a cascade returns: images with their records, which show themselves and can be saved."""

import base64
import html
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

from open_imagen.cascade.records import encoded, save_png
from open_imagen.errors import OutputError

MAX_SHOWN = 32
"""Images that a notebook shows of one result."""


@dataclass(frozen=True, repr=False)
class GenerationOutput:
    """What generate(), edit(), vary() and upscale() return. Everything is prompt-major.

    images    PIL images of the last stage; RGBA only if a transparent background was asked for
    stages    stage name -> uint8 [N, C, H, W]: RGB, or premultiplied RGBA of a model with alpha
    records   per image: prompt, seed, settings, model hash, version
    """

    images: list[Image.Image]
    stages: dict[str, Tensor]
    records: list[dict[str, Any]]

    def save(self, folder: str | Path) -> list[Path]:
        """Write each image as a PNG with its record, named by its seed and prompt.

        Returns:
            The files; none that was there before.

        Raises:
            OutputError: the folder cannot be written.
        """
        folder = Path(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"Cannot write to {folder}: {error.strerror}.") from error
        files = []
        for image, record in zip(self.images, self.records, strict=True):
            files.append(free_file(folder, record))
            save_png(image, files[-1], record)
        return files

    def __repr__(self) -> str:
        width, height = self.images[0].size
        stages = ", ".join(self.stages)
        return f"<GenerationOutput of {len(self.images)} images {width}x{height}: {stages}>"

    def _repr_html_(self) -> str:
        """The images, with their prompts and seeds, for notebooks."""
        shown = zip(self.images[:MAX_SHOWN], self.records, strict=False)
        figures = [_figure(image, record) for image, record in shown]
        if len(self.images) > MAX_SHOWN:
            figures.append(f"<p>and {len(self.images) - MAX_SHOWN} more</p>")
        return f'<div style="display:flex;flex-wrap:wrap;gap:8px">{"".join(figures)}</div>'


def _figure(image: Image.Image, record: dict[str, Any]) -> str:
    data = base64.b64encode(encoded(image, record)).decode("ascii")
    label = html.escape(f"{record['prompt']} (seed {record['seed']})")
    return (
        f'<figure style="margin:0;max-width:{image.width}px">'
        f'<img src="data:image/png;base64,{data}" alt="{label}" title="{label}">'
        f'<figcaption style="font-size:small">{label}</figcaption></figure>'
    )


def file_stem(record: dict[str, Any]) -> str:
    """The name of an image's file, without its ending: the seed and the words of the prompt."""
    words = re.sub(r"[^a-z0-9]+", "-", record["prompt"].lower()).strip("-")[:60] or "image"
    return f"{record['seed']:05d}-{words}"


def free_file(folder: Path, record: dict[str, Any]) -> Path:
    """A PNG file for an image that is not there yet."""
    stem, again = file_stem(record), 2
    path = folder / f"{stem}.png"
    while path.exists():
        path, again = folder / f"{stem}-{again}.png", again + 1
    return path
