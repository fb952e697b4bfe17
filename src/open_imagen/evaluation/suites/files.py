"""Readers of files of prompts in the usual formats; every bad file says what is wrong and where."""

import csv
import io
import json
import random
from pathlib import Path

from open_imagen.errors import DataError
from open_imagen.evaluation.suites.prompts import Prompt, plain_prompt
from open_imagen.evaluation.suites.questions import DPG_COLUMNS, geneval2_atoms, read_dpg


def read_lines(text: str, file: str) -> tuple[Prompt, ...]:
    """Prompts of a text file, one a line."""
    return tuple(
        plain_prompt(line.strip(), "prompts") for line in text.splitlines() if line.strip()
    )


def read_jsonl(text: str, file: str) -> tuple[Prompt, ...]:
    """Prompts of a JSON Lines file.

    Raises:
        DataError: a line is not an object with a prompt.
    """
    prompts = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            said = str(row["prompt"]).strip()
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f'{file}, line {number}, is not JSON with a "prompt".') from error
        if not said:
            raise DataError(f"{file}, line {number}: the prompt is empty.")
        category = str(row.get("category") or row.get("tag") or "prompts")
        row = {"tag": category, "include": [], **row, "prompt": said}
        if "vqa_list" in row and "atoms" not in row:
            row["atoms"] = geneval2_atoms(row, f"{file}, line {number}")
        prompts.append(Prompt(said, category, row))
    return tuple(prompts)


def read_csv(text: str, file: str) -> tuple[Prompt, ...]:
    """DrawBench's file: the columns Prompt and Category, whose names have stray spaces.

    A file with the columns of DPG-Bench is read as such.
    """
    rows = csv.DictReader(io.StringIO(text, newline=""))
    names = {(name or "").strip().lower(): name for name in rows.fieldnames or []}
    if names.keys() >= set(DPG_COLUMNS):
        return read_dpg(text, file)
    if "prompt" not in names:
        raise DataError(f"{file} has no column Prompt; it has {', '.join(names) or 'none'}.")
    prompts = []
    for row in rows:
        said = (row[names["prompt"]] or "").strip()
        category = (row.get(names.get("category", "")) or "prompts").strip()
        if not said:
            raise DataError(f"{file}, line {rows.line_num}: the prompt is empty.")
        prompts.append(plain_prompt(said, category))
    return tuple(prompts)


def read_coco(text: str, file: Path, count: int | None, seed: int) -> tuple[Prompt, ...]:
    """Pictures drawn at random, and of each one caption at random."""
    try:
        captions: dict[int, list[str]] = {}
        for row in json.loads(text)["annotations"]:
            captions.setdefault(int(row["image_id"]), []).append(str(row["caption"]).strip())
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{file} is not a file of COCO captions: {error}.") from error
    rng = random.Random(f"captions {seed}")
    images = sorted(captions)
    if count is not None and count > len(images):
        raise DataError(f"{file} has captions of {len(images)} pictures; {count} are wanted.")
    chosen = rng.sample(images, count or len(images))
    prompts = []
    for image in chosen:
        prompt = plain_prompt(rng.choice(captions[image]), "captions")
        prompts.append(prompt._replace(metadata={**prompt.metadata, "image_id": image}))
    return tuple(prompts)
