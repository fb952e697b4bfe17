"""Sets of picture files to be measured: what is in them, in which order, with which captions."""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from open_imagen.data.files import SUFFIXES
from open_imagen.data.folder_scan import scan
from open_imagen.data.images import SkippedExample, decode
from open_imagen.errors import DataError
from open_imagen.storage import sha256

RUN = "run.json"
"""What a folder that `imagen evaluate prompts` wrote says of itself."""


@dataclass(frozen=True)
class ImageSet:
    """Picture files, sorted by path, and perhaps what each was asked to show."""

    folder: Path
    files: tuple[Path, ...]
    captions: tuple[str, ...] | None = None
    metadata: tuple[dict[str, Any], ...] | None = None
    """GenEval's description of each, if the folder is a run over a suite."""
    run: dict[str, Any] | None = None
    """The record of the run that made them."""

    def __len__(self) -> int:
        return len(self.files)

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the content of all files, in order."""
        combined = hashlib.sha256()
        for file in self.files:
            combined.update(sha256(file).encode())
        return combined.hexdigest()

    def asked(self) -> tuple[str, ...]:
        """The captions.

        Raises:
            DataError: there are none.
        """
        if self.captions is None:
            raise DataError(
                f"The pictures in {self.folder} have no captions.",
                "Write a .txt beside each, list them in metadata.jsonl, or measure a folder made "
                "by imagen evaluate prompts.",
            )
        return self.captions

    def record(self) -> dict[str, Any]:
        """What was measured, for the record of a number."""
        record: dict[str, Any] = {"count": len(self), "sha256": self.digest}
        if self.captions is not None:
            record["captions_sha256"] = list_hash(self.captions)
        if self.run is not None:
            record["run"] = self.run
        return record


def list_hash(texts: Sequence[str]) -> str:
    """SHA-256 of a list of texts, in order."""
    return hashlib.sha256(json.dumps(list(texts), ensure_ascii=False).encode()).hexdigest()


def open_images(folder: Path) -> ImageSet:
    """The pictures under a folder: a run of `evaluate prompts`, or any folder of pictures.

    Raises:
        DataError: there is no such folder, no picture in it, or a run that is not finished.
    """
    if (folder / RUN).is_file():
        return _open_run(folder)
    found = scan(folder)
    if found.entries and not (found.without_caption or found.problems):
        captions = tuple(entry.caption for entry in found.entries)
        return ImageSet(folder, tuple(entry.image for entry in found.entries), captions)
    files = tuple(found.images)
    if not files:
        raise DataError(
            f"There is no picture in {folder}.", f"Known are {', '.join(sorted(SUFFIXES))}."
        )
    return ImageSet(folder, files)


def _open_run(folder: Path) -> ImageSet:
    run = read_run(folder)
    files, metadata = [], []
    for number in range(run["prompts"]["count"]):
        prompt_folder = folder / f"{number:05d}"
        row = json.loads((prompt_folder / "metadata.jsonl").read_text(encoding="utf-8"))
        for sample in range(run["images_per_prompt"]):
            file = prompt_folder / "samples" / f"{sample:04d}.png"
            if not file.is_file():
                raise DataError(
                    f"The run in {folder} is not finished: {file} is missing.",
                    "Run the same imagen evaluate prompts again; it goes on where it stopped.",
                )
            files.append(file)
            metadata.append(row)
    captions = tuple(row["prompt"] for row in metadata)
    return ImageSet(folder, tuple(files), captions, tuple(metadata), run)


def read_run(folder: Path) -> dict[str, Any]:
    """The record of a run over a suite.

    Raises:
        DataError: the folder is no such run.
    """
    try:
        run = json.loads((folder / RUN).read_text(encoding="utf-8"))
        if not isinstance(run, dict) or {"prompts", "images_per_prompt", "system"} - run.keys():
            raise ValueError("it is not the record of a run")
    except (OSError, ValueError) as error:
        raise DataError(
            f"{folder / RUN} cannot be read: {error}.", "Is it a folder of imagen evaluate prompts?"
        ) from error
    return run


def read_image(file: Path) -> Image.Image:
    """A picture as RGB.

    Raises:
        DataError: it cannot be read; the message names it.
    """
    try:
        return decode(file.read_bytes())
    except (OSError, SkippedExample) as error:
        raise DataError(
            f"The picture {file} cannot be read: {error}.", "Mend it, or take it out of the folder."
        ) from error


def read_batches(
    files: Sequence[Path], size: int | None, batch: int, prepare: Callable[[Tensor], Tensor]
) -> Iterator[Tensor]:
    """Prepared pictures, stacked in batches.

    Args:
        size: first scale the short side to this (Lanczos) and cut the centre out; None: as it is.
        prepare: a picture uint8 [3, H, W] -> what the network reads.

    Raises:
        DataError: one cannot be read, or (with size None) is not as large as the first.
    """
    first: tuple[int, int] | None = None
    for start in range(0, len(files), batch):
        prepared = []
        for file in files[start : start + batch]:
            image = read_image(file)
            if size is not None:
                image = ImageOps.fit(image, (size, size), Image.Resampling.LANCZOS)
            first = first or image.size
            if image.size != first:
                raise DataError(
                    f"{file} is {image.width}x{image.height}, {files[0]} is {first[0]}x{first[1]}; "
                    "pictures of mixed sizes cannot be compared as they are.",
                    "Give --size N to cut the centre square of each to the same size.",
                )
            prepared.append(prepare(torch.from_numpy(np.array(image)).permute(2, 0, 1)))
        yield torch.stack(prepared)
