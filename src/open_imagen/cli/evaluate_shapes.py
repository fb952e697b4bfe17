"""imagen evaluate shapes, and super-resolution: score a model on the shapes world."""

import json
from pathlib import Path

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
from open_imagen.cli.measuring import counting
from open_imagen.cli.options import check, read_settings, sampling


def shapes(
    model: str = Model,
    count: int = typer.Option(500, "--count", help="Prompts per category."),
    seed: int = typer.Option(1, "--seed", help="Of prompts and pictures."),
    categories: str = typer.Option(
        None, "--categories", metavar="A,B", help="Only these; all without."
    ),
    stages: int = Stages,
    steps: str = Steps,
    guidance: str = Weight,
    sampler: str = Sampler,
    threshold: str = Thresholding,
    noise_level: str = NoiseLevel,
    undistilled: bool = Undistilled,
    out: Path = typer.Option(
        None, "--out", help="Keep verdicts there; run again to go on after a stop."
    ),
    device: str = Device,
    fast: bool = Fast,
    precision: str = Precision,
    as_json: bool = Json,
) -> None:
    """Score a model on the shapes world, judged by its checker."""
    given = read_settings(steps, guidance, sampler, threshold, noise_level, undistilled)

    from open_imagen.cascade.io import load
    from open_imagen.worlds.shapes.evaluate import ShapesEvaluation, evaluate_shapes
    from open_imagen.worlds.shapes.suite import CATEGORIES

    check(given)
    chosen = tuple(name.strip() for name in categories.split(",")) if categories else None
    config = ShapesEvaluation(
        count=count, seed=seed, categories=chosen or tuple(CATEGORIES), stages=stages
    )
    cascade = load(model, device=device, fast=fast, dtype=precision or "fp32")
    with counting("images") as progress:
        report = evaluate_shapes(
            config=config,
            cascade=cascade,
            out=out,
            progress=progress,
            settings=sampling(given, cascade.stages),
        )
    if as_json:
        print(json.dumps(report))
        return
    print(f"{report['model']} {report['model_hash']}, {count} prompts per category, seed {seed}")
    for name, row in report["categories"].items():
        interval = f"[{row['low']:.1%}, {row['high']:.1%}]"
        print(f"{name:14} {row['share']:6.1%}   {interval}   {CATEGORIES[name]}")


def super_resolution(
    model: str = Model,
    count: int = typer.Option(24, "--count", help="Prompts per category."),
    seed: int = typer.Option(1, "--seed", help="Of prompts and pictures."),
    stages: int = typer.Option(
        None, "--stages", metavar="K", help="How many stages to run; all without."
    ),
    device: str = Device,
    fast: bool = Fast,
    precision: str = Precision,
    as_json: bool = Json,
) -> None:
    """Measure super-resolution on shapes: are edges sharp, do colours stay?"""
    from open_imagen.cascade.io import load
    from open_imagen.worlds.shapes.super_resolution import (
        SuperResolutionEvaluation,
        evaluate_super_resolution,
    )

    config = SuperResolutionEvaluation(count=count, seed=seed, stages=stages)
    cascade = load(model, device=device, fast=fast, dtype=precision or "fp32")
    with counting("images") as progress:
        report = evaluate_super_resolution(cascade, config, progress)
    if as_json:
        print(json.dumps(report))
        return
    print(f"{report['model']} {report['model_hash']}, {count} prompts per category, seed {seed}")
    for name, row in report["stages"].items():
        print(f"{name}, {row['images']} pictures")
        if "edge" in row:
            print(
                f"  width of edges  {row['edge']['value']:.2f} pixels +- {row['edge']['error']:.2f}"
                f"   drawn exactly {row['drawn_edge']['value']:.2f}"
            )
        print(
            f"  colour shift    {row['color_shift']['value']:.2f} % +- "
            f"{row['color_shift']['error']:.2f}   at most {row['largest_color_shift']:.2f} %"
        )
