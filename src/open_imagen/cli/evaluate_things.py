"""imagen evaluate things: score a model on the things world, or on DrawBench's prompts of it."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from open_imagen.cli.generate import (
    Device,
    Fast,
    Json,
    Model,
    NoiseLevel,
    Precision,
    Sampler,
    Stages,
    Steps,
    Thresholding,
    Undistilled,
    Weight,
)
from open_imagen.cli.measuring import BatchSize, counting
from open_imagen.cli.options import check, read_settings, sampling
from open_imagen.errors import ConfigError

if TYPE_CHECKING:
    from open_imagen.worlds.things.judge import Judge


def things(
    model: str = Model,
    atlas: Path = typer.Option(
        Path("things"), "--atlas", metavar="DIR", help="Folder of imagen data things."
    ),
    judge: Path = typer.Option(
        None, "--judge", metavar="FILE", help="Its classifier; the package's own without."
    ),
    count: int = typer.Option(500, "--count", help="Prompts per category."),
    seed: int = typer.Option(1, "--seed", help="Of prompts and images."),
    categories: str = typer.Option(
        None, "--categories", metavar="A,B", help="Only these; all without."
    ),
    drawbench: Path = typer.Option(
        None,
        "--drawbench",
        metavar="CSV",
        help="Instead, prompts of DrawBench's Colors, Counting, Positional and Text.",
    ),
    paraphrases: bool = typer.Option(
        False,
        "--paraphrases",
        help="Instead, scenes in other words: how much each wording loses against plain prompts.",
    ),
    baseline: bool = typer.Option(
        False,
        "--baseline",
        help="Instead of a model's images: the sprite whose label is nearest to the prompt.",
    ),
    stages: int = Stages,
    batch_size: int = BatchSize,
    steps: str = Steps,
    guidance: str = Weight,
    sampler: str = Sampler,
    threshold: str = Thresholding,
    noise_level: str = NoiseLevel,
    undistilled: bool = Undistilled,
    out: Path = typer.Option(
        None, "--out", help="Keep images and judgements there; run again to go on after a stop."
    ),
    device: str = Device,
    fast: bool = Fast,
    precision: str = Precision,
    as_json: bool = Json,
) -> None:
    """Score a model on real things: names, colors, styles, numbers, places, signs, transparency."""
    given = read_settings(steps, guidance, sampler, threshold, noise_level, undistilled)

    from open_imagen.cascade.io import load
    from open_imagen.worlds.things.atlas import Atlas
    from open_imagen.worlds.things.catalog import Catalog
    from open_imagen.worlds.things.evaluate import ThingsEvaluation, evaluate_system, suite_prompts
    from open_imagen.worlds.things.palette import Palette
    from open_imagen.worlds.things.paraphrases import PARAPHRASED, paraphrase_prompts
    from open_imagen.worlds.things.prompt_reader import read_drawbench
    from open_imagen.worlds.things.scenes import COLORS
    from open_imagen.worlds.things.suite import CATEGORIES, Suite
    from open_imagen.worlds.things.systems import CascadeSystem, System

    check(given)
    if paraphrases and drawbench is not None:
        raise ConfigError("--paraphrases and --drawbench are two kinds of prompts.", "Choose one.")
    chosen = tuple(name.strip() for name in categories.split(",")) if categories else None
    config = ThingsEvaluation(
        count=count,
        seed=seed,
        categories=chosen or tuple(CATEGORIES),
        stages=stages,
        batch_size=batch_size,
    )
    eye = _open_judge(judge)
    art = Atlas.open(atlas)
    catalog = Catalog(art.things, art.sprites, colors=tuple(COLORS), held_out=True)
    of: dict[str, int] = {}
    if drawbench is not None:
        selection = read_drawbench(drawbench, catalog)
        of = selection.of
        prompts = {
            name: [one for one in selection.prompts if one.category == name]
            for name in dict.fromkeys(one.category for one in selection.prompts)
        }
    elif paraphrases:
        known = Suite(catalog, Palette(art, (64, 256)).near)
        prompts = paraphrase_prompts(known, config.count, config.seed, chosen or PARAPHRASED)
    else:
        prompts = suite_prompts(Suite(catalog, Palette(art, (64, 256)).near), config)
    system: System
    cascade = load(model, device=device, fast=fast, dtype=precision or "fp32")
    if baseline:
        from open_imagen.worlds.things.baseline import NearestSprite

        system = NearestSprite(art, cascade.text)
    else:
        settings = sampling(given, cascade.stages)
        system = CascadeSystem(cascade, stages, settings, batch_size)
    with counting("images") as told:
        report = evaluate_system(system, prompts, eye, config, out, told)
    if of:
        report["in_file"] = of
    print(json.dumps(report) if as_json else table(report))


def _open_judge(file: Path | None) -> "Judge":
    from open_imagen.worlds.things.judge import Judge
    from open_imagen.worlds.things.judge_network import load_classifier, packaged_judge

    return Judge(load_classifier(file or packaged_judge()))


def table(report: dict[str, Any]) -> str:
    """A report as text: shares, intervals, and the judge's own accuracy beside them."""
    facts = [f"{report['model']} {report['model_hash']}", f"seed {report['seed']}"]
    if stages := report.get("stages"):
        facts.insert(1, f"{stages} {'stage' if stages == 1 else 'stages'}")
    lines = [", ".join(facts)]
    for name, row in report["categories"].items():
        lines.append(f"{name:16} {_share(row)}   {_judge(row)}")
        if row.get("of_present"):
            lines.append(f"{'  of both there':16} {_share(row['of_present'])}")
        for key, by_value in row["parts"].items():
            if key in SHOWN_PARTS and len(by_value) > 1:
                lines += [f"  {key} {value:17} {_share(one)}" for value, one in by_value.items()]
    for wording, row in report.get("paraphrases", {}).items():
        one = row["drop"]
        lines.append(
            f"drop of {wording:16} {one['value']:+6.1f} points [{one['low']:+.1f}, "
            f"{one['high']:+.1f}]   {row['pairs']} scenes"
        )
    if "in_file" in report:
        judged = sum(row["of"] for row in report["categories"].values())
        lines.append(
            f"{judged} of the file's {sum(report['in_file'].values())} prompts in "
            f"{', '.join(report['in_file'])} name things that the judge knows."
        )
    return "\n".join(lines)


SHOWN_PARTS = ("wording", "number", "size", "style", "tones", "said", "letters", "ignored")


def _share(row: dict[str, Any]) -> str:
    interval = f"[{row['low']:.1%}, {row['high']:.1%}]"
    return f"{row['share']:6.1%}   {interval:16}   {row['right']:4} of {row['of']:4}"


def _judge(row: dict[str, Any]) -> str:
    known = row.get("judge")
    if not known:
        return "judge: not measured"
    right, wrong = known["accepted"], known["wrong_accepted"]
    return f"judge: accepts {right:.1%} of exact drawings, {wrong:.1%} of wrong ones"
