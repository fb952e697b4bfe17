"""Choose the length of a run's weight average (post-hoc EMA) by held-out loss or suite score.

    python scripts/choose_ema.py RUN --out MODEL [--by loss|suite]

The candidates are the run's own average and those of --sigma-rel, made from its snapshots. What was
found is kept in MODEL/ema-choice.json: run again to go on after a stop.
"""

import argparse
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from open_imagen.cascade.cascade import Cascade
from open_imagen.cascade.io import load
from open_imagen.cascade.noise import TrainingNoise
from open_imagen.errors import CheckpointError, OpenImagenError
from open_imagen.storage import read_json, write_json
from open_imagen.text.letters import with_letters
from open_imagen.training.export import write_model
from open_imagen.training.posthoc_ema import FOLDER, find_snapshots, reconstruct
from open_imagen.training.recipe import Recipe, read_recipe
from open_imagen.training.step import to_signed
from open_imagen.types import Source
from open_imagen.worlds.sources import open_source
from open_imagen.worlds.things.atlas import Atlas
from open_imagen.worlds.things.catalog import Catalog
from open_imagen.worlds.things.evaluate import things_scores
from open_imagen.worlds.things.judge import Judge
from open_imagen.worlds.things.judge_network import load_classifier, packaged_judge
from open_imagen.worlds.things.palette import Palette
from open_imagen.worlds.things.scenes import COLORS
from open_imagen.worlds.things.suite import Suite
from open_imagen.worlds.things.systems import CascadeSystem

OWN = "own"
"""The run's own average."""
CHOICE = "ema-choice.json"
SIGMA_REL = (0.03, 0.05, 0.08, 0.12, 0.18)
LEVELS = 8
SEED = 9_000
"""Of held-out examples: no recipe has it."""
CATEGORIES = ("label", "color", "counting", "place", "two_things")


@dataclass(frozen=True, kw_only=True)
class Choice:
    """How to choose.

    Attributes:
        by: "loss", the mean over times of the loss on ``count`` held-out examples; or "suite", the
            mean share of right images of ``count`` prompts of each category.
    """

    by: str = "loss"
    sigma_rel: tuple[float, ...] = SIGMA_REL
    count: int = 512
    atlas: str = "things"
    judge: Path | None = None
    device: str = "cpu"


def choose_ema(run: Path, out: Path, choice: Choice) -> str:
    """Write the model with the best average to ``out``; its name, "own" or its sigma_rel.

    Raises:
        CheckpointError: the run is not complete.
    """
    if (out / "cascade.json").is_file():
        return str(read_json(out / CHOICE)["chosen"])
    if not (run / "model" / "cascade.json").is_file():
        raise CheckpointError(f"{run} is not complete.", "Run its recipe until it is.")
    recipe = read_recipe(run / "recipe.toml")
    names = [OWN]
    if find_snapshots(run / FOLDER):
        names += [f"{sigma_rel:.3f}" for sigma_rel in choice.sigma_rel]
    path, key = out / CHOICE, {"by": choice.by, "count": choice.count}
    known = read_json(path) if path.is_file() else {}
    scores: dict[str, float] = known.get("scores", {}) if known.get("key") == key else {}
    for name in names:
        if name not in scores:
            model = _candidate(run, recipe, name, out / "candidates" / name)
            scores[name] = _score(model, recipe, choice)
            write_json(path, {"key": key, "scores": scores})
            print(f"{run.name}, average {name}: {choice.by} {scores[name]:.5f}", file=sys.stderr)
    best = (min if choice.by == "loss" else max)(names, key=scores.__getitem__)
    write_json(path, {"key": key, "scores": scores, "chosen": best})
    _publish(_candidate(run, recipe, best, out / "candidates" / best), out)
    for name in names:
        shutil.rmtree(out / "candidates" / name, ignore_errors=True)
    return best


def _candidate(run: Path, recipe: Recipe, name: str, folder: Path) -> Path:
    """The model folder of an average, made unless it is there."""
    if name == OWN:
        return run / "model"
    if not (folder / "cascade.json").is_file():
        weights, profile = reconstruct(run / FOLDER, float(name))
        own = read_json(run / "model" / "cascade.json")["trained"].get(recipe.stage.name, {})
        trained = {**own, "sigma_rel": profile.sigma_rel}
        write_model(recipe, weights.items(), folder, trained)
    return folder


def _publish(model: Path, out: Path) -> None:
    """Copy a model folder; cascade.json comes last, so that a broken copy is no model."""
    for path in sorted(model.iterdir(), key=lambda path: path.name == "cascade.json"):
        if path.is_dir():
            shutil.copytree(path, out / path.name, dirs_exist_ok=True)
        else:
            shutil.copy(path, out / path.name)


def _score(model: Path, recipe: Recipe, choice: Choice) -> float:
    cascade = load(model, device=choice.device)
    if choice.by == "loss":
        source = open_source({**recipe.data, "seed": SEED}, choice.device)
        return held_out_loss(cascade, source, choice.count)
    atlas = Atlas.open(choice.atlas)
    catalog = Catalog(atlas.things, atlas.sprites, colors=tuple(COLORS), held_out=True)
    suite = Suite(catalog, Palette(atlas, (64,)).near)
    eye = Judge(load_classifier(choice.judge or packaged_judge()))
    system = CascadeSystem(cascade)

    def draw(prompts: Sequence[str]) -> torch.Tensor:
        return system.draw(prompts, list(range(SEED, SEED + len(prompts))))

    scores = things_scores(draw, suite, eye, choice.count, seed=SEED, categories=CATEGORIES)
    return sum(scores.values()) / len(scores)


@torch.no_grad()
def held_out_loss(cascade: Cascade, source: Source, count: int) -> float:
    """The loss of a model's first stage, always of the same examples, noise and times."""
    stage = next(iter(cascade.stages.values()))
    total, size = 0.0, min(32, count)
    for start in range(0, count, size):
        batch: Any = source.batch(start, size)
        images = to_signed(batch.images, cascade.device)
        lowres = None if batch.lowres is None else to_signed(batch.lowres, cascade.device)
        text = with_letters(cascade.text(batch.captions), batch.captions, stage.letters)
        noise = TrainingNoise.sample(
            images.shape, start, lowres=lowres is not None, device=cascade.device
        )
        for k in range(LEVELS):
            fixed = noise._replace(t=torch.full_like(noise.t, (k + 0.5) / LEVELS))
            total += float(stage.loss(images, text.to(cascade.device), fixed, lowres).sum())
    return total / (LEVELS * size * len(range(0, count, size)))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, metavar="RUN")
    parser.add_argument("--out", type=Path, required=True, metavar="MODEL")
    parser.add_argument("--by", choices=("loss", "suite"), default="loss")
    parser.add_argument("--sigma-rel", default=",".join(map(str, SIGMA_REL)), metavar="A,B")
    parser.add_argument("--count", type=int, help="examples (512), or prompts per category (100)")
    parser.add_argument("--atlas", default="things", metavar="DIR")
    parser.add_argument("--judge", type=Path, metavar="FILE")
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    try:
        choice = Choice(
            by=options.by,
            sigma_rel=tuple(float(part) for part in options.sigma_rel.split(",")),
            count=options.count or (512 if options.by == "loss" else 100),
            atlas=options.atlas,
            judge=options.judge,
            device=options.device,
        )
        print(f"{options.out}: average {choose_ema(options.run, options.out, choice)}")
    except OpenImagenError as error:
        print(f"error: {error}", error.hint, sep="\n", file=sys.stderr)
        return 1
    except ValueError:
        parser.error(f"--sigma-rel {options.sigma_rel} must be numbers, as in 0.05,0.1")
    return 0


if __name__ == "__main__":
    sys.exit(main())
