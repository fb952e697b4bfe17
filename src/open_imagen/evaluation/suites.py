"""Prompts with categories: our own suite, the scene world's, and files in the usual formats."""

import csv
import io
import json
import random
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

from open_imagen.data.scenes import Scene
from open_imagen.errors import ConfigError, DataError, UnknownName
from open_imagen.evaluation.pictures import list_hash
from open_imagen.evaluation.scene_suite import CATEGORIES, SAME_PICTURES, make_items

PROBES = "probes"
"""Our suite of 220 prompts in DrawBench's eleven categories."""
SCENES = "scenes"
RELATION_NAMES = {
    "to the left of": "left of",
    "to the right of": "right of",
    "above": "above",
    "below": "below",
}
"""Our relations by GenEval's names."""


class Prompt(NamedTuple):
    """A prompt of a suite."""

    text: str
    category: str
    metadata: dict[str, Any]
    """In GenEval's schema: tag, include, exclude, prompt; more keys may follow."""


@dataclass(frozen=True)
class Suite:
    """Prompts in order."""

    name: str
    prompts: tuple[Prompt, ...]

    @property
    def categories(self) -> list[str]:
        return list(dict.fromkeys(prompt.category for prompt in self.prompts))

    def record(self) -> dict[str, Any]:
        """What identifies it."""
        texts = [prompt.text for prompt in self.prompts]
        return {"suite": self.name, "count": len(texts), "sha256": list_hash(texts)}

    def first(self, number: int | None) -> "Suite":
        """The same with at most so many prompts in each category."""
        if number is None:
            return self
        kept: dict[str, list[Prompt]] = {name: [] for name in self.categories}
        for prompt in self.prompts:
            if len(kept[prompt.category]) < number:
                kept[prompt.category].append(prompt)
        chosen = {prompt for prompts in kept.values() for prompt in map(_key, prompts)}
        return Suite(self.name, tuple(p for p in self.prompts if _key(p) in chosen))


def _key(prompt: Prompt) -> tuple[str, str]:
    return prompt.category, prompt.text


def open_suite(name: str, count: int | None = None, seed: int = 1) -> Suite:
    """A suite by name, or from a file.

    Args:
        name: "probes"; "scenes", or "scenes:position,counting"; or a file: .jsonl with "prompt"
            and perhaps "category" in each line, .csv with the columns Prompt and Category,
            COCO's captions_*.json, or text with a prompt on each line.
        count: prompts per category, of the scene world 100 without it; of COCO's captions
            altogether.
        seed: of the scene world's prompts, and of the choice among COCO's captions.

    Raises:
        UnknownName: neither a suite nor a file.
        DataError: the file cannot be read as such; the message says where.
    """
    if count is not None and count < 1:
        raise ConfigError(f"count = {count} must be at least 1.")
    if name == PROBES:
        ours = files("open_imagen").joinpath("evaluation/suites/probes.jsonl")
        return Suite(name, _from_jsonl(ours.read_text(encoding="utf-8"), name)).first(count)
    if name.partition(":")[0] == SCENES:
        return _scenes(name, count or 100, seed)
    file = Path(name)
    if not file.is_file():
        raise UnknownName("suite or file", name, [PROBES, SCENES])
    try:
        text = file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(f"Cannot read {file}: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{file} is not a text file in UTF-8.") from error
    if file.suffix == ".json":
        return Suite(file.stem, _from_coco(text, file, count, seed))
    readers = {".jsonl": _from_jsonl, ".csv": _from_csv}
    prompts = readers.get(file.suffix, _from_lines)(text, str(file))
    if not prompts:
        raise DataError(f"{file} holds no prompt.")
    return Suite(file.stem, prompts).first(count)


def _plain(text: str, category: str) -> Prompt:
    return Prompt(text, category, {"tag": category, "include": [], "prompt": text})


def _from_lines(text: str, file: str) -> tuple[Prompt, ...]:
    return tuple(_plain(line.strip(), "prompts") for line in text.splitlines() if line.strip())


def _from_jsonl(text: str, file: str) -> tuple[Prompt, ...]:
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
        prompts.append(Prompt(said, category, row))
    return tuple(prompts)


def _from_csv(text: str, file: str) -> tuple[Prompt, ...]:
    """DrawBench's file: the columns Prompt and Category, whose names have stray spaces."""
    rows = csv.DictReader(io.StringIO(text, newline=""))
    names = {(name or "").strip().lower(): name for name in rows.fieldnames or []}
    if "prompt" not in names:
        raise DataError(f"{file} has no column Prompt; it has {', '.join(names) or 'none'}.")
    prompts = []
    for row in rows:
        said = (row[names["prompt"]] or "").strip()
        category = (row.get(names.get("category", "")) or "prompts").strip()
        if not said:
            raise DataError(f"{file}, line {rows.line_num}: the prompt is empty.")
        prompts.append(_plain(said, category))
    return tuple(prompts)


def _from_coco(text: str, file: Path, count: int | None, seed: int) -> tuple[Prompt, ...]:
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
        prompt = _plain(rng.choice(captions[image]), "captions")
        prompts.append(prompt._replace(metadata={**prompt.metadata, "image_id": image}))
    return tuple(prompts)


def _scenes(name: str, count: int, seed: int) -> Suite:
    _, _, listed = name.partition(":")
    chosen = [c.strip() for c in listed.split(",")] if listed else list(CATEGORIES)
    for category in chosen:
        if category not in CATEGORIES:
            raise UnknownName("category", category, CATEGORIES)
    sets = dict.fromkeys(SAME_PICTURES.get(category, category) for category in chosen)
    prompts = [
        Prompt(item.prompt, category, scene_metadata(item.prompt, item.scene, category))
        for category in sets
        for item in make_items(category, count, seed)
    ]
    return Suite(name, tuple(prompts))


def scene_metadata(prompt: str, scene: Scene, category: str) -> dict[str, Any]:
    """A scene in GenEval's schema, and exactly in "scene", which the checker judges by."""
    include: list[dict[str, Any]] = [
        {"class": kind.shape, "count": scene.count, "color": kind.color} for kind in scene.kinds
    ]
    exclude = []
    if scene.relation:
        # GenEval says where an object is from an earlier one, so the first of ours comes last.
        include = include[::-1]
        include[1]["position"] = [RELATION_NAMES[scene.relation], 0]
    if category == "counting":
        exclude = [{"class": scene.kinds[0].shape, "count": scene.count + 1}]
    facts = {
        "kinds": [list(kind) for kind in scene.kinds],
        "count": scene.count,
        "relation": scene.relation,
        "background": scene.background,
        **({"sign": scene.sign} if scene.sign else {}),
    }
    row = {"tag": category, "include": include, "prompt": prompt, "scene": facts}
    return {**row, "exclude": exclude} if exclude else row
