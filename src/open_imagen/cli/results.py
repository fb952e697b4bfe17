"""Where made images go: files, a sheet, JSON; and progress while they are made."""

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from open_imagen.errors import ConfigError, OutputError

if TYPE_CHECKING:
    from PIL import Image

    from open_imagen.cascade.cascade import Cascade
    from open_imagen.cascade.output import GenerationOutput
    from open_imagen.cascade.progress import Progress


KINDS = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp"}
"""Formats of image files that are written, by their suffixes."""
OTHERS = (
    *(".avif", ".bmp", ".gif", ".heic", ".heif", ".jfif", ".jp2", ".jxl", ".pdf", ".ppm", ".svg"),
    *(".tga", ".tif", ".tiff"),
)
"""Suffixes of image files that are not."""


class Place:
    """Where pictures go, made sure of before any work is done."""

    def __init__(
        self, out: Path | None, number: int, grid: bool, background: str | None = None
    ) -> None:
        self.file = None
        folder = out or Path("pictures")
        suffix = "" if out is None or out.is_dir() else out.suffix.lower()
        if suffix in OTHERS:
            raise ConfigError(
                f"--out {out}: images are written as PNG, JPEG or WebP, not as {suffix}.",
                "Name a folder, or a file that ends in .png, .jpg or .webp.",
            )
        if background == "transparent" and KINDS.get(suffix) == "jpeg":
            raise ConfigError(
                f"--out {out}: JPEG has no transparency.", "Name a .png or .webp file."
            )
        if out is not None and suffix in KINDS:
            if number > 1 and not grid:
                raise ConfigError(
                    f"--out {out} is one file, but there are {number} pictures.",
                    "Name a folder, or add --grid to write one sheet.",
                )
            self.file, folder = out, out.parent
        elif out is not None and out.is_file():
            raise ConfigError(
                f"--out {out} is a file, not a folder.",
                "Name a folder, or a file that ends in .png, .jpg or .webp.",
            )
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
        from open_imagen.cascade.output import free_file

        return free_file(self.folder, record)


def finish(
    made: "GenerationOutput", place: Place, as_json: bool, started: float, grid: bool
) -> None:
    """Write the pictures and say where they are."""
    paths = []
    one_sheet = grid and place.file is not None
    if not one_sheet:
        for image, record in zip(made.images, made.records, strict=True):
            path = place.path(record, len(made.images))
            save_image(image, path, record)
            paths.append(path)
    sheet = None
    if grid:
        sheet = place.file or place.folder / "grid.png"
        prompts = " | ".join(dict.fromkeys(record["prompt"] for record in made.records))
        save_image(contact_sheet(made.images), sheet, {**made.records[0], "prompt": prompts})
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


def save_image(image: "Image.Image", path: Path, record: dict[str, Any]) -> None:
    """Write an image with its record in the format that the file's suffix names.

    Raises:
        OutputError: the place cannot be written.
    """
    from open_imagen.cascade.records import encoded
    from open_imagen.storage import atomic

    kind = KINDS[path.suffix.lower()]
    if kind == "jpeg" and image.mode == "RGBA":
        print(f"Warning: JPEG has no transparency: {path} has a white background.", file=sys.stderr)
        image = contact_sheet([image], 0)
    with atomic(path) as temporary:
        temporary.write_bytes(encoded(image, record, kind))


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


def recorded_adapters(record: dict[str, Any]) -> list[str]:
    """The adapters of an image, as --adapter takes them."""
    return [f"{one['path']}:{one['weight']}" for one in record.get("adapters", [])]


def warn_of_other_model(record: dict[str, Any], cascade: "Cascade", file: Path | None) -> None:
    """Say so if the image that is to be repeated was made by another model."""
    if record and record.get("model_hash") not in (None, cascade.model_hash):
        print(
            f"Warning: {file} was made by {record['model']} {record['model_hash']}, this is "
            f"{cascade.name} {cascade.model_hash}; the picture may differ.",
            file=sys.stderr,
        )
