"""The paper's findings in miniature: small models that differ in one thing, trained and measured.

    python scripts/reproduce.py                   # all of research/reproduction.md; hours on a CPU
    python scripts/reproduce.py encoder pooling   # what these sections need
    python scripts/reproduce.py --minutes 9       # a slice at a time: run it again to go on
    python scripts/reproduce.py --report          # only write the page again

Every model resumes from its own checkpoints. What has been measured is kept in
research/reproduction.json, and the page is written from that.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from reproduction_page import RESULTS, RMSE, SECTIONS, write_page
from slices import open_trainer, train

from open_imagen import Sampling, join
from open_imagen.cascade.io import load
from open_imagen.devices import pick_device
from open_imagen.evaluation.image_set import open_images
from open_imagen.evaluation.judges.judge import judge_images
from open_imagen.evaluation.metrics.scores import Protocol, Scorer, parse_measure
from open_imagen.evaluation.sweeps.sweep import Sweep, parse_axis, run_sweep
from open_imagen.models.profile import size_of
from open_imagen.storage import read_json, write_json
from open_imagen.worlds.shapes.evaluate import ShapesEvaluation, evaluate_shapes
from open_imagen.worlds.suites import open_suite

BASE, SR = "miniature-base", "miniature-sr256"
MODELS: dict[str, tuple[str, tuple[str, ...]]] = {
    "sequence": (BASE, ()),
    "pooled": (BASE, ('stage.network.attends="pixels"',)),
    "words": (BASE, ('encoder="minilm-words"',)),
    "untrained": (BASE, ('encoder="minilm-untrained"',)),
    "augmented": (SR, ()),
    "clean": (SR, ("stage.augmentation.highest=0",)),
    "plain": (
        SR,
        (
            'stage.network={network="unet",channels=28,multipliers=[1,2],blocks=[2,2],'
            "attention=[false,true],head_width=14,text_width=384,patch=4,lowres=true}",
        ),
    ),
}
"""A recipe each, and what differs from it. Models of a section that are not here, such as the
narrower one, were measured once: their results stay as they are."""
CATEGORIES = ("single", "two_objects", "position", "counting", "unseen_pairs", "unseen_words")
NOISE_LEVELS = "sr256.noise_level=0,0.05,0.1,0.2,0.3"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("sections", nargs="*", help=f"of {', '.join(SECTIONS)}; all without")
    parser.add_argument("--runs", type=Path, default=Path("runs/reproduction"))
    parser.add_argument("--count", type=int, default=300, help="prompts per category")
    parser.add_argument("--minutes", type=float, default=0, help="length of this slice; 0: no end")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--report", action="store_true", help="only write the page again")
    options = parser.parse_args()

    device = str(pick_device(options.device))
    sections = options.sections or list(SECTIONS)
    if unknown := [name for name in sections if name not in SECTIONS]:
        parser.error(f"no section called {unknown[0]}: {', '.join(SECTIONS)}")
    requested = dict.fromkeys(name for section in sections for name in SECTIONS[section].models)
    for name in () if options.report else (name for name in requested if name in MODELS):
        folder = options.runs / name
        recipe, differs = MODELS[name]
        if not train(recipe, folder, device, options.minutes, differs):
            return 0
        measured = facts_of(name, folder) | measure(name, folder, device, options.count)
        write_json(RESULTS, (read_json(RESULTS) if RESULTS.is_file() else {}) | {name: measured})
        write_page()
    if "efficient" in sections and not options.report:
        seconds = image_seconds(SECTIONS["efficient"].models, device)
        write_json(RESULTS, read_json(RESULTS) | {"image_seconds": seconds})
    write_page()
    return 0


def facts_of(name: str, folder: Path) -> dict[str, Any]:
    """How it was trained: recipe, size, images, hours, and the losses on the way."""
    recipe, differs = MODELS[name]
    [stage] = load(folder / "model", device="cpu").stages.values()
    [facts] = read_json(folder / "model" / "cascade.json")["trained"].values()
    return {
        "recipe": recipe,
        "differs": differs,
        "parameters": size_of(stage),
        **{key: facts[key] for key in ("images", "hours", "device")},
        "validation": [
            [row["images_seen"], row["loss"]] for row in rows(folder / "validation.jsonl")
        ],
    }


def measure(name: str, folder: Path, device: str, count: int) -> dict[str, Any]:
    """What a base understands, by the suite of the shapes world; what super-resolution makes of the
    shipped base's images, as the difference to exact drawings at several noise levels."""
    if MODELS[name][0] == BASE:
        config = ShapesEvaluation(count=count, categories=CATEGORIES)
        report = evaluate_shapes(
            load(folder / "model", device=device), config, out=folder / "shapes"
        )
        return {"shapes": report["categories"]}
    cascade = join(name, ["scenes-teacher", folder / "model"], device=device)
    suite = open_suite("shapes:single,two_objects,position", max(1, count // 6))
    sweep = Sweep(
        axes=(parse_axis(NOISE_LEVELS),),
        measures=(parse_measure("alignment"), parse_measure(RMSE)),
    )
    scorer = Scorer(Protocol(), device=torch.device(device))
    results = run_sweep(
        cascade, suite, sweep, scorer, folder / "sweep", {"base": Sampling(steps=8)}
    )
    levels = []
    for point in results["points"]:
        scores = {m: {k: s[k] for k in ("value", "error")} for m, s in point["scores"].items()}
        verdicts = judge_images(open_images(folder / "sweep" / point["folder"]))
        rmses = {"rmse_by_image": [round(verdict.reconstruction_rmse, 2) for verdict in verdicts]}
        levels.append({"level": point["values"]["sr256.noise_level"]} | scores | rmses)
    return {"noise_levels": levels}


def image_seconds(names: Iterable[str], device: str, rounds: int = 9) -> dict[str, float]:
    """Seconds of a training step for each image, models in turns, medians: the hours of whole runs
    hold what else the machine did."""
    with tempfile.TemporaryDirectory() as folder:
        trainers = {
            name: open_trainer(MODELS[name][0], Path(folder), device, MODELS[name][1])
            for name in names
        }
        any_of = next(iter(trainers.values()))
        batch = any_of.source.batch(0, any_of.config.batch_size)
        taken: dict[str, list[float]] = {name: [] for name in trainers}
        for _ in range(rounds + 1):
            for name, trainer in trainers.items():
                begun = time.perf_counter()
                trainer.step(batch)
                taken[name].append((time.perf_counter() - begun) / batch.size)
    return {name: statistics.median(times[1:]) for name, times in taken.items()}


def rows(path: Path) -> Iterable[dict[str, Any]]:
    return map(json.loads, path.read_text(encoding="utf-8").splitlines())


if __name__ == "__main__":
    sys.exit(main())
