"""Random caption-image pairs for a study of the coco protocol, with their reference images."""

import json
import random
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from open_imagen.data.folder_scan import scan
from open_imagen.errors import ConfigError, DataError
from open_imagen.evaluation.human.people import names_people
from open_imagen.storage import atomic, write_text

PAIRS = 200
"""The paper's number."""
PROMPTS, IMAGES = "prompts.jsonl", "images"


class Pair(NamedTuple):
    """An image with one of its captions."""

    image: Path
    caption: str


def sample_pairs(
    source: Path,
    out: Path,
    images: Path | None = None,
    count: int = PAIRS,
    seed: int = 0,
    no_people: bool = False,
) -> list[Pair]:
    """Write OUT/prompts.jsonl and OUT/images: pairs drawn at random, no image twice.

    Args:
        source: COCO's captions_*.json with the folder of its ``images``, or a captioned folder.
        no_people: draw among captions that use none of the paper's words for people.

    Raises:
        ConfigError: OUT is not empty, or there are not as many pairs.
        DataError: the source cannot be read, or an image is missing.
    """
    if count < 1:
        raise ConfigError(f"count = {count} must be at least 1.")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"{out} is not an empty folder.", "Choose a new --out.")
    by_image = _coco(source, images) if source.is_file() else _folder(source)
    rng = random.Random(f"pairs {seed}")
    pairs = [Pair(image, rng.choice(by_image[image])) for image in sorted(by_image)]
    if no_people:
        pairs = [pair for pair in pairs if not names_people(pair.caption)]
    if count > len(pairs):
        kind = " whose caption names no people" if no_people else ""
        raise ConfigError(f"{source} has {len(pairs)} pairs{kind}; --count {count} is too many.")
    chosen = rng.sample(pairs, count)
    for pair in chosen:
        if not pair.image.is_file():
            raise DataError(f"The image {pair.image} of {source} is missing.")
    _write(chosen, out)
    return chosen


def _coco(file: Path, images: Path | None) -> dict[Path, list[str]]:
    if images is None or not images.is_dir():
        raise ConfigError(
            f"The captions {file} need the folder of their images; {images} is none.",
            "Give --images FOLDER (COCO's val2014).",
        )
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        names = {int(one["id"]): str(one["file_name"]) for one in found["images"]}
        captions: dict[Path, list[str]] = {}
        for row in found["annotations"]:
            image = images / names[int(row["image_id"])]
            captions.setdefault(image, []).append(str(row["caption"]).strip())
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{file} is not a file of COCO captions: {error!r}.") from error
    return captions


def _folder(folder: Path) -> dict[Path, list[str]]:
    entries = scan(folder).entries
    if not entries:
        raise DataError(
            f"There are no captioned images in {folder}.",
            "Write a .txt beside each, or list them in metadata.jsonl.",
        )
    captions: dict[Path, list[str]] = {}
    for entry in entries:
        captions.setdefault(entry.image, []).extend(text.strip() for text in entry.captions)
    return captions


def _write(pairs: Sequence[Pair], out: Path) -> None:
    rows: list[dict[str, Any]] = []
    for number, pair in enumerate(pairs):
        name = f"{number:05d}{pair.image.suffix.lower()}"
        with atomic(out / IMAGES / name) as temporary:
            shutil.copyfile(pair.image, temporary)
        write_text(out / IMAGES / f"{number:05d}.txt", pair.caption + "\n")
        rows.append({"prompt": pair.caption, "category": "captions", "image": pair.image.name})
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    write_text(out / PROMPTS, "".join(lines))
