"""Run the suite of the things world on a cascade: images, judgements, a table with intervals."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from PIL import Image
from torch import Tensor

from open_imagen.cascade.alpha import premultiplied, straight
from open_imagen.cascade.cascade import Cascade
from open_imagen.cascade.metadata import plain_sampling
from open_imagen.cascade.sampling import Sampling
from open_imagen.errors import CheckpointError, ConfigError, OutputError, UnknownName
from open_imagen.evaluation.image_set import list_hash
from open_imagen.evaluation.intervals import wilson
from open_imagen.evaluation.metrics.records import digest, versions
from open_imagen.evaluation.progress import Progress
from open_imagen.evaluation.suites.paraphrases import Judged, drops
from open_imagen.storage import atomic, read_json, write_json
from open_imagen.worlds.things.judge import Judge, transparency
from open_imagen.worlds.things.sign_judge import Strictness, read_word
from open_imagen.worlds.things.suite import CATEGORIES, Prompt, Suite, judge

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


class System(Protocol):
    """What draws the images of prompts."""

    @property
    def facts(self) -> dict[str, Any]:
        """What its images depend on beside prompts and seeds: "model", "model_hash" ..."""
        ...

    def draw(self, prompts: Sequence[str], seeds: Sequence[int]) -> Tensor:
        """Images uint8 [N, 3 or 4, S, S]."""
        ...


class CascadeSystem:
    """A cascade with its settings."""

    def __init__(
        self,
        cascade: Cascade,
        stages: int | None = None,
        settings: Mapping[str, Sampling] | None = None,
        batch_size: int = 16,
    ) -> None:
        self.cascade, self.stages, self.settings = cascade, stages, settings
        self.batch_size = batch_size

    @property
    def facts(self) -> dict[str, Any]:
        """The model, its precision, stages and settings."""
        chosen = self.cascade.chosen(self.stages)
        complete = self.cascade.complete_settings(chosen, self.settings)
        return {
            **self.cascade.identity,
            "stages": len(chosen),
            "settings": {name: plain_sampling(one) for name, one in complete.items()},
        }

    def draw(self, prompts: Sequence[str], seeds: Sequence[int]) -> Tensor:
        """Images of the last stage."""
        made = self.cascade.generate(
            prompts,
            seed=seeds,
            stages=self.stages,
            settings=self.settings,
            batch_size=self.batch_size,
        )
        return list(made.stages.values())[-1].cpu()


def evaluate_things(
    cascade: Cascade,
    prompts: Mapping[str, Sequence[Prompt]],
    eye: Judge,
    config: ThingsEvaluation,
    settings: Mapping[str, Sampling] | None = None,
    out: Path | None = None,
    told: Progress | None = None,
) -> dict[str, Any]:
    """`evaluate_system` of a cascade."""
    system = CascadeSystem(cascade, config.stages, settings, config.batch_size)
    return evaluate_system(system, prompts, eye, config, out, told)


def evaluate_system(
    system: System,
    prompts: Mapping[str, Sequence[Prompt]],
    eye: Judge,
    config: ThingsEvaluation,
    out: Path | None = None,
    told: Progress | None = None,
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
    total, done = len(flat), 0
    for name, some in prompts.items():
        for start in range(0, len(some), PART):
            part = some[start : start + PART]
            places = range(start, start + len(part))
            if not all(store.judged(name, k, one) for k, one in zip(places, part, strict=True)):
                images = _images(system, name, part, start, config.seed, store)
                store.add(name, start, part, look(eye, images, part))
            done += len(part)
            if told is not None:
                told(name, done, total)
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
        judged = [
            Judged(name, one.pair, float(row["right"]))
            for name, some in prompts.items()
            for one, row in zip(some, store.rows[name], strict=False)
            if one.pair is not None
        ]
        report["paraphrases"] = {
            wording: {
                "share": one.share._asdict(),
                "plain": one.plain._asdict(),
                "drop": one.drop._asdict(),
                "pairs": one.pairs,
            }
            for wording, one in drops(judged).items()
        }
    if out is not None:
        write_json(out / "report.json", report)
    return report


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
    system: System, name: str, part: Sequence[Prompt], start: int, seed: int, store: "Store"
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


class Store:
    """Images and judgements in a folder, or in memory alone."""

    def __init__(self, out: Path | None, run: dict[str, Any], look: dict[str, Any]) -> None:
        """
        Args:
            run: what images depend on beside their prompts.
            look: what judgements depend on beside images.
        """
        self.out = out
        self.rows: dict[str, list[dict[str, Any]]] = {}
        if out is None:
            return
        header = json.loads(json.dumps(run))
        path = out / "run.json"
        if path.is_file():
            try:
                kept = read_json(path)
            except CheckpointError as error:
                raise ConfigError(f"{error}", f"Remove {out}, or choose another --out.") from error
            if kept != header:
                raise ConfigError(
                    f"{out} holds another evaluation (model, seed, stages or settings differ).",
                    "Choose another --out, or remove that folder.",
                )
        else:
            write_json(path, header)
        self.path = out / f"judgements-{digest(look)[:10]}.jsonl"
        if self.path.is_file():
            self._read()

    def _read(self) -> None:
        for line in self.path.read_text(encoding="utf-8").split("\n")[:-1]:
            # A line cut short by a kill has no end, and is made again.
            try:
                row = json.loads(line)
            except ValueError:
                continue
            rows = self.rows.setdefault(row["category"], [])
            if row["k"] == len(rows):
                rows.append(row)

    def judged(self, name: str, k: int, prompt: Prompt) -> bool:
        """Whether the judgement of this prompt is known."""
        rows = self.rows.get(name, [])
        return k < len(rows) and rows[k]["prompt"] == prompt.text

    def add(
        self, name: str, start: int, prompts: Sequence[Prompt], found: Sequence[dict[str, Any]]
    ) -> None:
        """Keep judgements."""
        rows = self.rows.setdefault(name, [])[:start]
        new = [
            {"category": name, "k": start + k, "prompt": one.text, "parts": one.parts, **row}
            for k, (one, row) in enumerate(zip(prompts, found, strict=True))
        ]
        self.rows[name] = rows + new
        if self.out is None:
            return
        try:
            with self.path.open("a+", encoding="utf-8") as file:
                # After a kill the last line may lack its end.
                whole = file.tell() == 0 or self.path.read_bytes().endswith(b"\n")
                file.write(("" if whole else "\n") + "".join(json.dumps(r) + "\n" for r in new))
        except OSError as error:
            raise OutputError(f"Cannot write {self.path}: {error.strerror}.") from error

    def _file(self, name: str, k: int) -> Path:
        assert self.out is not None
        return self.out / "images" / name / f"{k:05}.png"

    def image(self, name: str, k: int, prompt: Prompt) -> Tensor | None:
        """A kept image of this prompt, premultiplied RGBA; None if there is none, or a damaged one.

        Every PNG holds its prompt: prompts of another number or atlas make other images.
        """
        if self.out is None or not (path := self._file(name, k)).is_file():
            return None
        try:
            with Image.open(path) as image:
                if image.info.get("prompt") != prompt.text:
                    return None
                return premultiplied(image)
        except OSError:
            return None

    def keep(self, name: str, k: int, prompt: Prompt, image: Tensor) -> Tensor:
        """Write an image, and return it as it is read back: [4, S, S]."""
        from PIL.PngImagePlugin import PngInfo

        pixels = straight(image) if len(image) == 4 else image
        picture = Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())
        if self.out is not None:
            info = PngInfo()
            info.add_itxt("prompt", prompt.text)
            with atomic(self._file(name, k)) as temporary:
                picture.save(temporary, "PNG", pnginfo=info)
        return premultiplied(picture)
