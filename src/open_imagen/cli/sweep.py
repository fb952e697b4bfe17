"""imagen sweep: every combination of settings, measured, with Pareto fronts."""

import itertools
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
from open_imagen.cli.measuring import (
    AllowFew,
    BatchSize,
    ProtocolOption,
    ReferenceOption,
    Resize,
    Size,
    SuiteSeed,
    Weights,
    counting,
    read_protocol,
    read_weights,
)
from open_imagen.cli.options import check, read_settings, sampling


def sweep(
    vary: list[str] = typer.Option(
        ...,
        "--vary",
        metavar="[stage.]setting=A,B,..",
        help="May repeat: base.guidance=1,2,5 or threshold=dynamic,static or stages=1,2.",
    ),
    metrics: str = typer.Option(
        "alignment,reconstruction_rmse",
        "--metrics",
        metavar="M,M:F,..",
        help="As in fid,clip or alignment.",
    ),
    model: str = Model,
    suite: str = typer.Option(
        "shapes:single,two_objects,position,counting",
        "--suite",
        metavar="S",
        help="probes, shapes, shapes:CATEGORY,.., or a file of prompts.",
    ),
    count: int = typer.Option(50, "--count", help="Prompts per category."),
    suite_seed: int = SuiteSeed,
    images: int = typer.Option(1, "--images", "-n", metavar="N", help="Pictures per prompt."),
    seed: int = typer.Option(0, "--seed", help="Of the first picture; all points share seeds."),
    stages: int = Stages,
    batch_size: int = BatchSize,
    steps: str = Steps,
    guidance: str = Weight,
    sampler: str = Sampler,
    threshold: str = Thresholding,
    noise_level: str = NoiseLevel,
    undistilled: bool = Undistilled,
    reference: Path = ReferenceOption,
    weights: list[str] = Weights,
    protocol: str = ProtocolOption,
    resize: str = Resize,
    size: int = Size,
    allow_few: bool = AllowFew,
    out: Path = typer.Option(..., "--out", "-o", metavar="DIR", help="The sweep's folder."),
    device: str = Device,
    fast: bool = Fast,
    precision: str = Precision,
    as_json: bool = Json,
) -> None:
    """Sweep settings of a model: pictures, numbers, Pareto front, plot and page.

    Run the same command again to go on after a stop; under torchrun processes share the work.
    """
    given = read_settings(steps, guidance, sampler, threshold, noise_level, undistilled)

    from open_imagen.cascade.io import load
    from open_imagen.distributed import process_device, process_group, world
    from open_imagen.evaluation.metrics.scores import Scorer, parse_measure
    from open_imagen.evaluation.suites.contact_sheet import write_contact_sheet
    from open_imagen.evaluation.sweeps.plots import write_figure, write_page
    from open_imagen.evaluation.sweeps.sweep import Sweep, grid, pareto, parse_axis, run_sweep
    from open_imagen.worlds.suites import open_suite

    check(given)
    measures = tuple(parse_measure(name) for name in metrics.split(","))
    plan = Sweep(
        axes=tuple(parse_axis(text) for text in vary),
        measures=measures,
        images_per_prompt=images,
        seed=seed,
        stages=stages,
        batch=batch_size,
    )
    grid(plan.axes)
    place = process_device(device)
    looked = [measure.features for measure in measures if measure.features]
    scorer = Scorer(
        read_protocol(protocol, resize, size), reference, read_weights(weights, looked), place,
        allow_few=allow_few,
    )  # fmt: skip
    scorer.check(measures)
    prompts = open_suite(suite, count, suite_seed)
    cascade = load(model, device=str(place), fast=fast, dtype=precision or "fp32")
    with process_group(place), counting("images") as progress:
        results = run_sweep(
            cascade, prompts, plan, scorer, out, sampling(given, cascade.stages), progress
        )
        if not world().is_main_process:
            return
        for point in results["points"]:
            write_contact_sheet(out / point["folder"])
        # As in the paper: alignment across, fidelity up.
        names = sorted((m.name for m in measures), key=lambda n: n not in ("alignment", "clip"))
        pairs = list(itertools.combinations(names, 2)) or [(names[0], names[0])]
        for x, y in pairs:
            name = f"pareto-{y}-{x}.png".replace(":", "-")
            write_figure(results, x, y, out / name)
        write_page(results, pairs, out / "index.html")
    if as_json:
        print(json.dumps(results))
        return
    print((out / "table.csv").read_text(encoding="utf-8"), end="")
    front = pareto(results["points"], *pairs[0])
    best = "; ".join(
        ", ".join(f"{n}={v}" for n, v in results["points"][k]["values"].items()) for k in front
    )
    print(f"Pareto front of {pairs[0][0]} and {pairs[0][1]}: {best}")
    print(f"Look at {out / 'index.html'}")
