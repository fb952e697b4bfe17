"""Run the suite of the shapes world on a cascade: images, verdicts, and a table with intervals."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from open_imagen.cascade.cascade import Cascade
from open_imagen.cascade.metadata import plain_sampling
from open_imagen.cascade.sampling import Sampling
from open_imagen.errors import ConfigError, OutputError, UnknownName
from open_imagen.evaluation.intervals import wilson
from open_imagen.evaluation.progress import Progress
from open_imagen.storage import write_json
from open_imagen.world import AlignmentScore, Generate
from open_imagen.worlds.shapes.checker import detect
from open_imagen.worlds.shapes.suite import (
    CATEGORIES,
    SAME_IMAGES,
    Item,
    is_right,
    make_items,
)

BATCH = 32
"""Images generated between two saves of the verdicts."""
ALIGNMENT_CATEGORIES = ("single", "two_objects", "counting", "position")
"""What is watched while a network trains."""


@dataclass(frozen=True, kw_only=True)
class ShapesEvaluation:
    """What to evaluate."""

    count: int = 500
    """Prompts per category."""
    seed: int = 1
    """Of prompts and pictures."""
    categories: tuple[str, ...] = tuple(CATEGORIES)
    """Which of them."""
    stages: int | None = None
    """How many stages of the cascade; the model's default if None."""

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ConfigError(f"count = {self.count} must be at least 1.")
        for name in self.categories:
            if name not in CATEGORIES:
                raise UnknownName("category", name, CATEGORIES)


def evaluate_shapes(
    cascade: Cascade,
    config: ShapesEvaluation,
    settings: Mapping[str, Sampling] | None = None,
    out: Path | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Score a cascade on the suite of the shapes world.

    With ``out``, verdicts are kept in rows.jsonl there; the same call again goes on where it was
    stopped, and report.json is written at the end.

    Returns:
        The model, the settings, and per category: right, of, share, low and high (95 %, Wilson).
    """
    sets = list(dict.fromkeys(SAME_IMAGES.get(name, name) for name in config.categories))
    chosen = cascade.chosen(config.stages)
    header = {
        **cascade.identity,
        "count": config.count,
        "seed": config.seed,
        "stages": len(chosen),
        "settings": {
            name: plain_sampling(one)
            for name, one in cascade.complete_settings(chosen, settings).items()
        },
    }
    rows = Rows(out, header)
    total = config.count * len(sets)
    for name in sets:
        items = make_items(name, config.count, config.seed)
        while (start := rows.number(name)) < config.count:
            batch = items[start : start + BATCH]
            made = cascade.generate(
                [item.prompt for item in batch],
                seed=config.seed * 1_000_000 + start,
                stages=config.stages,
                settings=settings,
                batch_size=BATCH,
            )
            images = list(made.stages.values())[-1]
            rows.add(
                name,
                [
                    detect(image, bool(item.scene.sign))
                    for item, image in zip(batch, images, strict=True)
                ],
                batch,
                start,
            )
            if progress is not None:
                progress(name, sum(rows.number(n) for n in sets), total)
    report = {**header, "categories": {n: rows.score(n) for n in config.categories}}
    if out is not None:
        write_json(out / "report.json", report)
    return report


def alignment(count: int = 32, seed: int = 1) -> AlignmentScore:
    """A quick score for training runs, of ``count`` prompts of each of four categories."""
    items = {name: make_items(name, count, seed) for name in ALIGNMENT_CATEGORIES}

    def shares(generate: Generate) -> dict[str, float]:
        return {name: _share(name, some, generate) for name, some in items.items()}

    return shares


def _share(category: str, items: Sequence[Item], generate: Generate) -> float:
    images = generate([item.prompt for item in items])
    pairs = zip(items, images, strict=True)
    right = sum(is_right(category, i.scene, detect(x, bool(i.scene.sign))) for i, x in pairs)
    return right / len(items)


class Rows:
    """Verdicts, one per picture, in memory and in rows.jsonl."""

    def __init__(self, out: Path | None, header: dict[str, Any]) -> None:
        self.path = None if out is None else out / "rows.jsonl"
        self.rows: dict[str, list[dict[str, Any]]] = {}
        if self.path is None:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if self.path.is_file():
                self._read(header)
            else:
                self.path.write_text(json.dumps(header) + "\n", encoding="utf-8")
        except OSError as error:
            raise OutputError(f"Cannot write {self.path}: {error.strerror}.") from error

    def _read(self, header: dict[str, Any]) -> None:
        assert self.path is not None
        first, *lines = self.path.read_text(encoding="utf-8").split("\n")
        if json.loads(first) != json.loads(json.dumps(header)):
            raise ConfigError(
                f"{self.path} holds another evaluation (model, count, seed or settings differ).",
                "Choose another --out, or remove that folder.",
            )
        for line in lines[:-1]:  # a line cut short by a kill has no end and is made again
            row = json.loads(line)
            self.rows.setdefault(row["set"], []).append(row)

    def number(self, name: str) -> int:
        """How many images of a set are judged."""
        return len(self.rows.get(name, []))

    def add(self, name: str, seen: Sequence[Any], items: Sequence[Any], start: int) -> None:
        """Add the judgements of images, and write them."""
        names = [c for c in CATEGORIES if SAME_IMAGES.get(c, c) == name]
        new = [
            {
                "set": name,
                "k": start + k,
                "prompt": item.prompt,
                "found": [f"{o.color} {o.shape}" for o in what.objects],
                "background": what.background,
                **({"sign": what.sign} if item.scene.sign else {}),
                "right": {c: is_right(c, item.scene, what) for c in names},
            }
            for k, (item, what) in enumerate(zip(items, seen, strict=True))
        ]
        self.rows.setdefault(name, []).extend(new)
        if self.path is not None:
            text = "".join(json.dumps(row) + "\n" for row in new)
            with self.path.open("r+", encoding="utf-8") as file:
                content = file.read()
                file.seek(len(content[: content.rfind("\n") + 1].encode()))
                file.truncate()
                file.write(text)

    def score(self, category: str) -> dict[str, Any]:
        """The share of right images of a category, with its 95 % interval (Wilson)."""
        rows = self.rows[SAME_IMAGES.get(category, category)]
        right = sum(row["right"][category] for row in rows)
        low, high = wilson(right, len(rows))
        return {
            "right": right,
            "of": len(rows),
            "share": right / len(rows),
            "low": low,
            "high": high,
        }
