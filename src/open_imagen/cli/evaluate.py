"""imagen evaluate: how well pictures show what their captions ask for."""

import json
from pathlib import Path

import typer

from open_imagen.cli.generate import (
    Device,
    Json,
    Model,
    NoiseLevel,
    Sampler,
    Steps,
    Thresholding,
    Weight,
)
from open_imagen.cli.options import check, read_settings, sampling

app = typer.Typer(help="Measure a model.", no_args_is_help=True)


@app.callback()
def group() -> None:
    """Measure a model."""


@app.command()
def scenes(
    model: str = Model,
    count: int = typer.Option(500, "--count", help="Prompts per category."),
    seed: int = typer.Option(1, "--seed", help="Of prompts and pictures."),
    categories: str = typer.Option(
        None, "--categories", metavar="A,B", help="Only these; all without."
    ),
    stages: int = typer.Option(None, "--stages", metavar="K", help="Run only the first K stages."),
    steps: str = Steps,
    guidance: str = Weight,
    sampler: str = Sampler,
    threshold: str = Thresholding,
    noise_level: str = NoiseLevel,
    out: Path = typer.Option(
        None, "--out", help="Keep verdicts there; run again to go on after a stop."
    ),
    device: str = Device,
    as_json: bool = Json,
) -> None:
    """Score a model on the scene world, judged by the checker."""
    given = read_settings(steps, guidance, sampler, threshold, noise_level)

    from rich.console import Console
    from rich.progress import Progress

    from open_imagen.cascade.pipeline import load
    from open_imagen.evaluation.scene_runner import SceneEvaluation, evaluate_scenes
    from open_imagen.evaluation.scene_suite import CATEGORIES

    check(given)
    chosen = tuple(name.strip() for name in categories.split(",")) if categories else None
    config = SceneEvaluation(
        count=count, seed=seed, categories=chosen or tuple(CATEGORIES), stages=stages
    )
    cascade = load(model, device)
    with Progress(console=Console(stderr=True)) as bar:
        task = bar.add_task("pictures", total=None)

        def told(name: str, done: int, total: int) -> None:
            bar.update(task, completed=done, total=total, description=name)

        report = evaluate_scenes(
            config=config,
            cascade=cascade,
            out=out,
            told=told,
            settings=sampling(given, cascade.stages),
        )
    if as_json:
        print(json.dumps(report))
        return
    print(f"{report['model']} {report['model_hash']}, {count} prompts per category, seed {seed}")
    for name, row in report["categories"].items():
        print(
            f"{name:14} {row['share']:6.1%}   [{row['low']:.1%}, {row['high']:.1%}]   "
            f"{CATEGORIES[name]}"
        )
