"""Train the shipped model `things` from its recipes, end to end, and write its folder and card.

Run it again and again until it says that the model is complete; what is done is passed over:

    python scripts/train_things.py --runs runs --minutes 9

    atlas -> start weights -> base in four parts -> choice of its average -> few-step student
          -> super-resolution to 256 and 1024 -> model folder -> suite -> card

--fast runs all of it in miniature, to see that the parts fit together.
"""

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from add_alpha import add_alpha
from choose_ema import Choice, choose_ema
from slices import RECIPES, train
from things_card import main as write_card

from open_imagen import join
from open_imagen.cascade.folder import read_header, write_folder
from open_imagen.cascade.io import load
from open_imagen.cli.things import make_atlas
from open_imagen.config import read_toml
from open_imagen.devices import pick_device
from open_imagen.errors import DataError, OpenImagenError
from open_imagen.worlds.things.atlas import LARGE, Atlas
from open_imagen.worlds.things.catalog import Catalog
from open_imagen.worlds.things.evaluate import ThingsEvaluation, evaluate_system, suite_prompts
from open_imagen.worlds.things.judge import Judge
from open_imagen.worlds.things.judge_network import load_classifier, packaged_judge
from open_imagen.worlds.things.palette import Palette
from open_imagen.worlds.things.scenes import COLORS
from open_imagen.worlds.things.suite import CATEGORIES, Suite
from open_imagen.worlds.things.systems import CascadeSystem

ROOT = Path(__file__).parents[1]
MODEL = "things"
LETTERS = 12
BASE = {
    "things-base-start": "base-start",
    "things-base-names": "things-base-start/model",
    "things-base": "things-base-names/model",
    "things-base-composition": "things-base/model",
}
"""The recipes of the base in their order, and whose weights each begins with."""
EMA = "things-base-ema"
STUDENT = {"things-base-distill": EMA, "things-base-few-step": EMA}
SUPER_RESOLUTION = {"things-sr256": "sr-start", "things-sr1024": "sr-start"}
FULL_STUDENT = ("adapter.rank=0", "adapter.name=", "adapter.init=", "adapter.modules_to_save=[]")
FAST_IMAGES, FAST_BATCH = 8, 4


@dataclass(frozen=True)
class Job:
    """What to train, from what, and how much of it."""

    options: argparse.Namespace
    device: str

    @property
    def runs(self) -> Path:
        return Path(self.options.runs)

    def train(self, name: str, init: str, *more: str) -> bool:
        """Train a recipe, or go on with it; whether it is complete."""
        settings = [f"train.init={self.runs / init}", f"data.atlas={self.options.atlas}", *more]
        settings += self._scaled(name)
        return train(name, self.runs / name, self.device, self.options.minutes, settings)

    def _scaled(self, name: str) -> list[str]:
        """Settings of a shorter run."""
        recipe, scale = read_toml(RECIPES / f"{name}.toml"), self.options.images_scale
        threads = [f"train.threads={self.options.threads}"] if self.options.threads else []
        if not self.options.fast and scale == 1:
            return threads
        values = recipe["train"]
        batch = FAST_BATCH if self.options.fast else values["batch_size"]
        images = FAST_IMAGES if self.options.fast else round(values["images"] * scale)
        images = max(2 * batch, images // batch * batch)
        factor = images / values["images"]
        settings = [f"train.images={images}", f"train.batch_size={batch}", *threads]
        settings.append(f"optim.warmup={round(recipe['optim']['warmup'] * factor)}")
        for key in ("log_every", "save_every"):
            settings.append(f"train.{key}={max(batch, round(values[key] * factor))}")
        if every := recipe["ema"].get("snapshot_every"):
            settings.append(f"ema.snapshot_every={max(batch, round(every * factor))}")
        if self.options.fast:
            settings += ["train.compile=false", "train.sample_every=0"]
        return settings


def make_art(job: Job) -> bool:
    """The atlas, unless it is there; at 1024 pixels too, unless a part of it will do."""
    folder = Path(job.options.atlas)
    try:
        atlas = Atlas.open(folder)
        atlas.pixels(64), atlas.pixels(256)
    except DataError:
        if job.options.fast:  # rendering all art is no miniature
            raise
        make_atlas(folder, None, "64,256", 0, False)
        atlas = Atlas.open(folder)
    vector = sum(sprite.vector for sprite in atlas.sprites)
    if len(atlas.large_numbers()) < vector and not job.options.partial_atlas:
        make_atlas(folder, None, f"{LARGE}", 0, False)
    return True


def make_start(job: Job) -> bool:
    """The weights that the parts begin with: an undistilled model, given alpha if it has none."""
    for name, model in (("base-start", job.options.start_base), ("sr-start", job.options.start_sr)):
        if (job.runs / name / "cascade.json").is_file():
            continue
        old = load(model, device="cpu")
        stages = [variants.own for variants in old.variants.values()]
        stages = [stage if stage.channels == 4 else add_alpha(stage, LETTERS) for stage in stages]
        config = replace(old.config, name=name, default_stages=None)
        write_folder(job.runs / name, config, stages, torch.float32)
    return True


def train_base(job: Job) -> bool:
    """All parts of the base."""
    return all(job.train(name, init) for name, init in BASE.items())


def choose_average(job: Job) -> bool:
    """The teacher: the base with the best average."""
    options = job.options
    choice = Choice(
        by=options.ema_by,
        count=4 if options.fast else 512 if options.ema_by == "loss" else 100,
        atlas=str(options.atlas),
        judge=options.judge,
        device=job.device,
    )
    name = choose_ema(job.runs / list(BASE)[-1], job.runs / EMA, choice)
    print(f"{EMA}: average {name}", file=sys.stderr)
    return True


def train_student(job: Job) -> bool:
    """The few-step student, as an adapter of its teacher or with all weights."""
    teacher = f"distill.teacher={job.runs / EMA}"
    first, second = STUDENT
    if job.options.student == "full":
        full = FULL_STUDENT
        return job.train(first, EMA, teacher, full[0], full[3]) and job.train(
            second, f"{first}/model", teacher, *full
        )
    init = f"adapter.init={job.runs / first / 'adapter'}"
    return job.train(first, EMA, teacher) and job.train(second, EMA, teacher, init)


def train_super_resolution(job: Job) -> bool:
    """Both, from the super-resolution of the shapes world."""
    partial = ("data.partial_atlas=true",) if job.options.partial_atlas else ()
    more: dict[str, tuple[str, ...]] = {"things-sr1024": partial}
    return all(
        job.train(name, init, *more.get(name, ())) for name, init in SUPER_RESOLUTION.items()
    )


def write_model(job: Job) -> bool:
    """The model folder, in float16."""
    out = Path(job.options.out)
    if (out / "cascade.json").is_file():
        return True
    names = (list(STUDENT)[-1], *SUPER_RESOLUTION)
    cascade = join(MODEL, [job.runs / name / "model" for name in names], 2, device="cpu")
    if "base" in cascade.config.trained:
        headers = [read_header(job.runs / name / "model")["trained"]["base"] for name in BASE]
        cascade.config.trained["base"]["parts"] = [
            {"recipe": name, "images": one["images"], "hours": one["hours"]}
            for name, one in zip(BASE, headers, strict=True)
        ]
    cascade.save(out, torch.float16)
    return True


def evaluate(job: Job) -> bool:
    """The suite on the model folder: report.json beside its judgements, in the run folder."""
    options = job.options
    atlas = Atlas.open(options.atlas)
    catalog = Catalog(atlas.things, atlas.sprites, colors=tuple(COLORS), held_out=True)
    suite = Suite(catalog, Palette(atlas, (64, 256)).near)
    config = ThingsEvaluation(
        count=2 if options.fast else options.count,
        # A small atlas lacks some.
        categories=tuple(name for name in CATEGORIES if suite.prompts(name, 1)),
    )
    prompts = suite_prompts(suite, config)
    eye = Judge(load_classifier(options.judge or packaged_judge()))
    system = CascadeSystem(load(options.out, device=job.device))
    evaluate_system(system, prompts, eye, config, job.runs / "suite")
    return True


def describe(job: Job) -> bool:
    """The model card."""
    options = job.options
    words = [str(options.out), "--atlas", str(options.atlas), "--device", job.device]
    words += ["--suite", str(job.runs / "suite" / "report.json")]
    if options.fast:
        words += ["--samples", "4", "--seeds", "2", "--diverse-prompts", "1", "--references", "4"]
    return write_card(words) == 0


PARTS: tuple[Callable[[Job], bool], ...] = (
    make_art,
    make_start,
    train_base,
    choose_average,
    train_student,
    train_super_resolution,
    write_model,
    evaluate,
    describe,
)


def options_of(arguments: list[str] | None) -> argparse.Namespace:
    """The words of the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where the runs are kept")
    parser.add_argument("--atlas", default="things", help="of imagen data things; made if missing")
    parser.add_argument("--out", type=Path, default=Path("runs") / MODEL, help="the model folder")
    parser.add_argument("--minutes", type=float, default=0, help="length of a slice; 0: no end")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--start-base", default="scenes-teacher", help="model the base begins with")
    parser.add_argument("--start-sr", default="scenes", help="the same of super-resolution")
    parser.add_argument("--student", choices=("adapter", "full"), default="adapter")
    parser.add_argument("--ema-by", choices=("loss", "suite"), default="suite")
    parser.add_argument("--judge", type=Path, help="classifier; the package's own without")
    parser.add_argument("--count", type=int, default=500, help="prompts per category of the suite")
    parser.add_argument(
        "--partial-atlas", action="store_true", help="do with the 1024-pixel sprites there are"
    )
    parser.add_argument(
        "--images-scale", type=float, default=1.0, help="share of each run's images"
    )
    parser.add_argument("--fast", action="store_true", help="everything in miniature")
    options = parser.parse_args(arguments)
    if not options.images_scale > 0:
        parser.error(f"--images-scale {options.images_scale} must be above 0.")
    return options


def main(arguments: list[str] | None = None) -> int:
    options = options_of(arguments)
    job = Job(options, str(pick_device(options.device)))
    try:
        for part in PARTS:
            if not part(job):
                print("Not complete: run the same command again to go on.", file=sys.stderr)
                return 0
    except OpenImagenError as error:
        print(f"error: {error}", error.hint, sep="\n", file=sys.stderr)
        return 1
    print(json.dumps({"model": str(options.out), "card": str(options.out / "README.md")}))
    print("The model is complete.", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
