"""Run the suite of the things world on a cascade: images, judgements, a table with intervals."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from open_imagen.cascade.cascade import Cascade
from open_imagen.cascade.sampling import Sampling
from open_imagen.errors import ConfigError, UnknownName
from open_imagen.evaluation.image_set import list_hash
from open_imagen.evaluation.intervals import wilson
from open_imagen.evaluation.metrics.records import digest, versions
from open_imagen.evaluation.progress import Progress
from open_imagen.evaluation.suites.paraphrases import Judged, drops
from open_imagen.storage import write_json
from open_imagen.worlds.things.evaluation_store import Store
from open_imagen.worlds.things.judge import Judge, transparency
from open_imagen.worlds.things.sign_judge import Strictness, read_word
from open_imagen.worlds.things.suite import CATEGORIES, Prompt, Suite
from open_imagen.worlds.things.systems import CascadeSystem, System
from open_imagen.worlds.things.verdict import judge

PART = 32
"""Images made between two savings."""
GIVEN = ("place", "held_out_place", "Positional")
"""Categories of which the share is also given among the images that show all objects."""
SAME_AS = {
    "Colors": "color",
    "Counting": "counting",
    "Positional": "place",
    "Text": "shown_words",
}
"""Categories of DrawBench, and those of ours whose exact drawings tell how good the judge is."""


@dataclass(frozen=True, kw_only=True)
class ThingsEvaluation:
    """What to evaluate."""

    count: int = 500
    """Prompts per category; fewer where there are not as many."""
    seed: int = 1
    """Of prompts and images."""
    categories: tuple[str, ...] = tuple(CATEGORIES)
    stages: int | None = None
    """How many stages of the cascade; the model's default if None."""
    batch_size: int = 16
    """Images made together."""

    def __post_init__(self) -> None:
        for name in ("count", "batch_size"):
            if (value := getattr(self, name)) < 1:
                raise ConfigError(f"{name} = {value} must be at least 1.")
        for name in self.categories:
            if name not in CATEGORIES:
                raise UnknownName("category", name, CATEGORIES)


def suite_prompts(suite: Suite, config: ThingsEvaluation) -> dict[str, list[Prompt]]:
    """The prompts to evaluate, by category.

    Raises:
        ConfigError: a category has none in this atlas.
    """
    found = {name: suite.prompts(name, config.count, config.seed) for name in config.categories}
    for name, prompts in found.items():
        if not prompts:
            raise ConfigError(f"The atlas has no prompt of the category {name!r}: leave it out.")
    return found


def evaluate_things(
    cascade: Cascade,
    prompts: Mapping[str, Sequence[Prompt]],
    eye: Judge,
    config: ThingsEvaluation,
    settings: Mapping[str, Sampling] | None = None,
    out: Path | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """`evaluate_system` of a cascade."""
    system = CascadeSystem(cascade, config.stages, settings, config.batch_size)
    return evaluate_system(system, prompts, eye, config, out, progress)


def evaluate_system(
    system: System,
    prompts: Mapping[str, Sequence[Prompt]],
    eye: Judge,
    config: ThingsEvaluation,
    out: Path | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Draw and judge prompts.

    With ``out``, images and judgements are kept there: the same call again goes on where it was
    stopped, and another judge looks at the same images. report.json is written at the end.

    Args:
        prompts: by category, of the suite or of another one.

    Returns:
        The model, settings and judge; per category: right, of, share, low and high (95 %, Wilson),
        the judge's own accuracy there, and the same of its parts.
    """
    flat = [one for some in prompts.values() for one in some]
    run = {**system.facts, "seed": config.seed}
    names = {name: [one.text for one in some] for name, some in prompts.items()}
    store = Store(out, run, {"judge": judge_facts(eye), "prompts": digest(names)})
    _draw_and_judge(system, prompts, eye, config.seed, store, progress)
    report = {
        **run,
        "count": config.count,
        "prompts_sha256": list_hash([one.text for one in flat]),
        "judge": judge_facts(eye),
        "categories": {
            name: summary(store.rows[name][: len(some)], name, eye)
            for name, some in prompts.items()
        },
        "versions": versions(),
    }
    if any(one.pair is not None for one in flat):
        report["paraphrases"] = _paraphrases(prompts, store)
    if out is not None:
        write_json(out / "report.json", report)
    return report


def _draw_and_judge(
    system: System,
    prompts: Mapping[str, Sequence[Prompt]],
    eye: Judge,
    seed: int,
    store: Store,
    progress: Progress | None,
) -> None:
    """Put into the store what it lacks of these prompts' images and judgements."""
    total, done = sum(map(len, prompts.values())), 0
    for name, some in prompts.items():
        for start in range(0, len(some), PART):
            part = some[start : start + PART]
            places = range(start, start + len(part))
            if not all(store.judged(name, k, one) for k, one in zip(places, part, strict=True)):
                images = _images(system, name, part, start, seed, store)
                store.add(name, start, part, look(eye, images, part))
            done += len(part)
            if progress is not None:
                progress(name, done, total)


def _paraphrases(
    prompts: Mapping[str, Sequence[Prompt]], store: Store
) -> dict[str, dict[str, Any]]:
    """By wording: how many fewer prompts of the same scenes are right than in plain wording."""
    judged = [
        Judged(name, one.pair, float(row["right"]))
        for name, some in prompts.items()
        for one, row in zip(some, store.rows[name], strict=False)
        if one.pair is not None
    ]
    return {
        wording: {
            "share": one.share._asdict(),
            "plain": one.plain._asdict(),
            "drop": one.drop._asdict(),
            "pairs": one.pairs,
        }
        for wording, one in drops(judged).items()
    }


def things_scores(
    draw: Callable[[Sequence[str]], Tensor],
    suite: Suite,
    eye: Judge,
    count: int = 32,
    seed: int = 1,
    categories: Sequence[str] = ("label", "color", "counting", "place"),
) -> dict[str, float]:
    """Share right by category, of images that ``draw`` makes of prompts; to watch a run by."""
    shares = {}
    for name in categories:
        prompts = suite.prompts(name, count, seed)
        rows = look(eye, draw([one.text for one in prompts]), prompts)
        shares[name] = sum(row["right"] for row in rows) / len(rows)
    return shares


def look(eye: Judge, images: Tensor, prompts: Sequence[Prompt]) -> list[dict[str, Any]]:
    """Judge images uint8 [N, 3 or 4, S, S] of prompts; a row of plain values each."""
    rows = []
    for image, prompt, seen in zip(images, prompts, eye.look(images), strict=True):
        reading = read_word(image, prompt.truth.word) if prompt.truth.word else None
        alpha = prompt.truth.clear and len(image) == 4 and int(image[3].min()) < 255
        clear = transparency(image) if alpha else None
        verdict = judge(prompt.truth, seen, reading is not None and reading.right, clear)
        row: dict[str, Any] = {
            "found": [
                {
                    "name": one.name,
                    "guess": one.guess,
                    "probability": round(one.probability, 3),
                    "style": one.style,
                    "color": one.color,
                    "box": [round(v, 3) for v in (one.x, one.y, one.side)],
                }
                for one in seen.objects
            ],
            "ground": seen.ground,
            "right": verdict.right,
            "present": verdict.present,
        }
        if reading is not None:
            row["read"] = reading.word
        if clear is not None:
            row["clear"], row["edge"] = round(clear.clear, 4), round(clear.edge, 3)
        rows.append(row)
    return rows


def judge_facts(eye: Judge) -> dict[str, Any]:
    """What a judgement depends on."""
    return {
        **eye.classifier.facts,
        "sure": {"probability": eye.sure.probability, "margin": eye.sure.margin},
        "signs": vars(Strictness()),
    }


def summary(rows: Sequence[Mapping[str, Any]], category: str, eye: Judge) -> dict[str, Any]:
    """Shares with intervals of one category, and of its parts."""
    found = share([row["right"] for row in rows])
    exact = eye.classifier.facts.get("exact", {})
    found["judge"] = exact.get(SAME_AS.get(category, category))
    if category in GIVEN:
        present = [row for row in rows if row["present"]]
        found["present"] = share([row["present"] for row in rows])
        found["of_present"] = share([row["right"] for row in present]) if present else None
    parts: dict[str, dict[str, list[Mapping[str, Any]]]] = {}
    for row in rows:
        for key, value in row["parts"].items():
            parts.setdefault(key, {}).setdefault(value, []).append(row)
    found["parts"] = {
        key: {
            value: {
                **share([row["right"] for row in some]),
                "present": sum(row["present"] for row in some),
            }
            for value, some in by_value.items()
        }
        for key, by_value in parts.items()
    }
    return found


def share(right: Sequence[bool]) -> dict[str, Any]:
    """A share with its 95 % interval (Wilson)."""
    low, high = wilson(sum(right), len(right))
    return {
        "right": sum(right),
        "of": len(right),
        "share": sum(right) / len(right),
        "low": low,
        "high": high,
    }


def _images(
    system: System, name: str, part: Sequence[Prompt], start: int, seed: int, store: Store
) -> Tensor:
    """The images of some prompts, those from the folder that lie there already."""
    found = {k: store.image(name, start + k, one) for k, one in enumerate(part)}
    missing = [k for k, image in found.items() if image is None]
    if missing:
        seeds = [seed * 1_000_000 + _number(part[k], start + k) for k in missing]
        images = system.draw([part[k].text for k in missing], seeds)
        for k, image in zip(missing, images, strict=True):
            found[k] = store.keep(name, start + k, part[k], image)
    return torch.stack([found[k] for k in range(len(part))])  # type: ignore[misc]


def _number(prompt: Prompt, k: int) -> int:
    """What a prompt's noise depends on: its place, or that of the scene that it paraphrases."""
    return k if prompt.pair is None else prompt.pair
