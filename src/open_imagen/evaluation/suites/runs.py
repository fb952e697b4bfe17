"""Pictures of a suite by a system, in GenEval's folder layout; stopped runs go on.

OUT/run.json                      the system, the suite, the seeds
OUT/00000/metadata.jsonl          what prompt 0 asks for
OUT/00000/samples/0000.png        its first picture
OUT/index.html                    everything on one page
OUT/timing.jsonl                  how long each batch took, and on what
"""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from PIL import Image, PngImagePlugin

from open_imagen.distributed import all_gather_object, world
from open_imagen.errors import ConfigError, DataError
from open_imagen.evaluation.image_set import RUN, read_run
from open_imagen.evaluation.progress import Progress
from open_imagen.evaluation.suites.prompts import Suite
from open_imagen.evaluation.suites.systems import ImageRequest, System
from open_imagen.storage import append_json, atomic, write_json, write_text

TIMING = "timing.jsonl"


def make_run(
    system: System,
    suite: Suite,
    out: Path,
    images_per_prompt: int = 4,
    seed: int = 0,
    progress: Progress | None = None,
) -> None:
    """Make all pictures that are not there yet.

    Picture i of prompt p has seed ``seed + p * images_per_prompt + i``, where the suite names no
    other number than p. Each is written as soon as
    its batch is made, so that a stop loses at most that batch. Several processes share the work.

    Raises:
        ConfigError: the folder holds another run.
        DataError: the system cannot make a picture.
    """
    if images_per_prompt < 1:
        raise ConfigError(f"images per prompt = {images_per_prompt} must be at least 1.")
    header: dict[str, Any] = {
        "system": {"name": system.name, **system.record()},
        "prompts": suite.record(),
        "images_per_prompt": images_per_prompt,
        "seed": seed,
    }
    if world().is_main_process:
        _begin(out, header, suite)
    all_gather_object(None)
    missing = [
        (path, request)
        for path, request in image_requests(suite, out, images_per_prompt, seed)
        if not path.is_file()
    ]
    total = len(suite.prompts) * images_per_prompt
    place = _device_name(header["system"])
    done = total - len(missing)
    batches = [missing[i : i + system.batch] for i in range(0, len(missing), system.batch)]
    for number, batch in enumerate(batches):
        if number % world().size == world().rank:
            begun = time.perf_counter()
            images = system.draw([request for _, request in batch])
            seconds = time.perf_counter() - begun
            for (path, request), image in zip(batch, images, strict=True):
                _save(image, path, {**request._asdict(), "system": system.name})
            if header["system"].get("kind") != "folder":
                row = {"images": len(batch), "seconds": round(seconds, 4), "device": place}
                append_json(out / TIMING, row)
        done += len(batch)
        if progress is not None:
            progress(system.name, done, total)
    all_gather_object(None)


def _device_name(system: dict[str, Any]) -> str:
    """What makes the images, as far as is known."""
    if system.get("kind") == "endpoint":
        return "endpoint"
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    threads = torch.get_num_threads()
    return f"CPU, {threads} thread{'' if threads == 1 else 's'}"


class Timing(NamedTuple):
    """Of a run: what its images took, over all processes."""

    images: int
    seconds: float
    devices: tuple[str, ...]


def read_timing(folder: Path) -> Timing | None:
    """How long the images of a run took; None if nothing is known of it."""
    try:
        lines = (folder / TIMING).read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    images, seconds, devices = 0, 0.0, []
    for line in lines:
        try:
            row = json.loads(line)
            images, seconds = images + int(row["images"]), seconds + float(row["seconds"])
            devices.append(str(row["device"]))
        except (ValueError, KeyError, TypeError):
            continue  # a line cut short by a kill
    return Timing(images, seconds, tuple(dict.fromkeys(devices))) if images else None


def image_requests(
    suite: Suite, out: Path, images: int, seed: int
) -> Iterator[tuple[Path, ImageRequest]]:
    """Every picture of a run: its file, and what it is."""
    for p, prompt in enumerate(suite.prompts):
        for i in range(images):
            file = out / f"{p:05d}" / "samples" / f"{i:04d}.png"
            # Prompts that are compared in pairs (wordings of one scene) start from the same noise.
            number = int(prompt.metadata.get("seed_index", p))
            yield file, ImageRequest(prompt.text, i, seed + number * images + i)


def _begin(out: Path, header: dict[str, Any], suite: Suite) -> None:
    if (out / RUN).is_file():
        known, header = read_run(out), json.loads(json.dumps(header))
        if known != header:
            odd = [key for key in header if known.get(key) != header[key]]
            raise ConfigError(
                f"{out} holds another run: {', '.join(odd)} differ.",
                "Choose another --out, or remove that folder.",
            )
    elif out.is_dir() and any(out.iterdir()):
        raise ConfigError(
            f"{out} is not empty and holds no run.", "Choose a new folder, or an empty one."
        )
    else:
        write_json(out / RUN, header)
    for p, prompt in enumerate(suite.prompts):
        path = out / f"{p:05d}" / "metadata.jsonl"
        if not path.is_file():
            row = {**prompt.metadata, "category": prompt.category}
            write_text(path, json.dumps(row, ensure_ascii=False) + "\n")


def _save(image: Image.Image, path: Path, record: dict[str, Any]) -> None:
    chunks = PngImagePlugin.PngInfo()
    chunks.add_itxt("evaluation", json.dumps(record, ensure_ascii=False))
    with atomic(path) as temporary:
        image.save(temporary, format="PNG", pnginfo=chunks)


def same_prompts(folders: list[Path]) -> list[dict[str, Any]]:
    """The records of runs that may be compared prompt by prompt.

    Raises:
        DataError: their prompts or their numbers of pictures differ.
    """
    records = [read_run(folder) for folder in folders]
    for folder, record in zip(folders, records, strict=True):
        for key, what in (("prompts", "prompts"), ("images_per_prompt", "images per prompt")):
            first, other = records[0][key], record[key]
            if key == "prompts":
                first, other = first["sha256"], other["sha256"]
            if first != other:
                raise DataError(
                    f"{folders[0]} and {folder} have different {what}.",
                    "Make both with the same --suite, --count and --images.",
                )
    return records
