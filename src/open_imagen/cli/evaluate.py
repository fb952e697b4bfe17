"""imagen evaluate: measure a model, or pictures, in the ways of the paper and of its successors."""

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
from open_imagen.config import DEFAULT_MODEL
from open_imagen.errors import ConfigError

if TYPE_CHECKING:
    from open_imagen.evaluation.metrics.scores import Scorer

app = typer.Typer(help="Measure a model, or pictures.", no_args_is_help=True)

Images = typer.Argument(..., metavar="PICTURES", help="A folder, or one of evaluate prompts.")
Suite = typer.Option(
    "probes", "--suite", metavar="S", help="probes, shapes, shapes:CATEGORY,.., or a file."
)
Record = typer.Option(
    Path("scores"), "--out", metavar="DIR", help="Where the number's record goes."
)


@app.callback()
def group() -> None:
    """Measure a model, or pictures."""


@app.command()
def steps(
    model: str = Model,
    stage: str = typer.Option("", "--stage", metavar="NAME", help="The first one without."),
    number: int = typer.Option(8, "--steps", metavar="N", help="How few."),
    reference_steps: int = typer.Option(
        64, "--reference-steps", metavar="N", help="Steps to come close to."
    ),
    suite: str = Suite,
    count: int = typer.Option(8, "--count", help="Prompts per category."),
    suite_seed: int = SuiteSeed,
    seed: int = typer.Option(0, "--seed", help="Of the first picture."),
    max_evaluations: int = typer.Option(
        100, "--max-evaluations", metavar="N", help="Sets of steps to try."
    ),
    batch_size: int = typer.Option(32, "--batch-size", help="Pictures made together."),
    device: str = Device,
    fast: bool = Fast,
    precision: str = Precision,
    as_json: bool = Json,
) -> None:
    """Find the few steps whose pictures come closest to those of many."""
    from open_imagen.cascade.io import load
    from open_imagen.evaluation.sweeps.timestep_search import TimestepSearch, search_timesteps
    from open_imagen.worlds.suites import open_suite

    config = TimestepSearch(
        steps=number,
        stage=stage,
        reference_steps=reference_steps,
        seed=seed,
        max_evaluations=max_evaluations,
        batch_size=batch_size,
    )
    chosen = [prompt.text for prompt in open_suite(suite, count, suite_seed).prompts]
    cascade = load(model, device=device, fast=fast, dtype=precision or "fp32")
    with counting("evaluations") as progress:
        report = search_timesteps(cascade, chosen, config, progress)
    if as_json:
        print(json.dumps(report))
        return
    print(f"{report['model']} {report['model_hash']}, {report['stage']}: {number} steps")
    for when in ("before", "after"):
        print(
            f"{when:6}  {report[f'distance_{when}']:.2%} of the range from the images of "
            f"{reference_steps} steps; {report[f'different_{when}']:.0%} of {len(chosen)} differ"
        )
    print(f"timesteps = {report['timesteps']}   # log-SNR {report['logsnr']}")


@app.command()
def prompts(
    system: str = typer.Argument(
        DEFAULT_MODEL,
        metavar="SYSTEM",
        help="A model; folder:PATH; diffusers:PATH?argument=value; openai:URL?model=NAME.",
    ),
    suite: str = Suite,
    count: int = typer.Option(None, "--count", help="Prompts per category; all without."),
    suite_seed: int = SuiteSeed,
    images: int = typer.Option(8, "--images", "-n", metavar="N", help="Pictures per prompt."),
    seed: int = typer.Option(0, "--seed", help="Of the first picture."),
    stages: int = Stages,
    batch_size: int = BatchSize,
    steps: str = Steps,
    guidance: str = Weight,
    sampler: str = Sampler,
    threshold: str = Thresholding,
    noise_level: str = NoiseLevel,
    undistilled: bool = Undistilled,
    out: Path = typer.Option(..., "--out", "-o", metavar="DIR", help="The run's folder."),
    device: str = Device,
    fast: bool = Fast,
    precision: str = Precision,
    as_json: bool = Json,
) -> None:
    """Make N pictures of every prompt of a suite; run again to go on after a stop.

    The folder has GenEval's layout, and a page to browse: index.html.
    """
    given = read_settings(steps, guidance, sampler, threshold, noise_level, undistilled)

    from open_imagen.distributed import process_device, process_group, world
    from open_imagen.evaluation.suites.contact_sheet import write_contact_sheet
    from open_imagen.evaluation.suites.runs import make_run
    from open_imagen.evaluation.suites.systems import open_system
    from open_imagen.worlds.suites import open_suite

    check(given)
    chosen = open_suite(suite, count, suite_seed)
    place = process_device(device)
    maker = open_system(
        system,
        place,
        lambda cascade: sampling(given, cascade.stages),
        stages,
        batch_size,
        fast,
        precision or "fp32",
    )
    with process_group(place), counting("images") as progress:
        make_run(maker, chosen, out, images, seed, progress)
        if not world().is_main_process:
            return
        sheet = write_contact_sheet(out)
    number = len(chosen.prompts) * images
    if as_json:
        print(json.dumps({"folder": str(out), "images": number, "page": str(sheet)}))
        return
    print(f"{number} pictures in {out}; look at {sheet}")


@app.command()
def fid(
    images: Path = Images,
    reference: Path = ReferenceOption,
    features: str = typer.Option(
        "inception", "--features", metavar="F", help="inception, dinov2, clip-l14 ..., pixels."
    ),
    weights: list[str] = Weights,
    protocol: str = ProtocolOption,
    resize: str = Resize,
    size: int = Size,
    allow_few: bool = AllowFew,
    out: Path = Record,
    device: str = Device,
    as_json: bool = Json,
) -> None:
    """Frechet distance to reference pictures (FID; with dinov2, FD-DINOv2)."""
    scorer = _scorer(protocol, resize, size, reference, weights, device, allow_few, [features])
    _measure([f"fid:{features}"], images, scorer, out, as_json)


@app.command()
def kid(
    images: Path = Images,
    reference: Path = ReferenceOption,
    features: str = typer.Option(
        "inception", "--features", metavar="F", help="inception, dinov2, clip-l14 ..., pixels."
    ),
    weights: list[str] = Weights,
    protocol: str = ProtocolOption,
    resize: str = Resize,
    size: int = Size,
    out: Path = Record,
    device: str = Device,
    as_json: bool = Json,
) -> None:
    """Kernel distance to reference pictures: unbiased, also for few pictures."""
    scorer = _scorer(protocol, resize, size, reference, weights, device, False, [features])
    _measure([f"kid:{features}"], images, scorer, out, as_json)


@app.command()
def clip(
    images: Path = Images,
    features: str = typer.Option("clip-b32", "--features", metavar="F", help="clip-b32, clip-l14."),
    weights: list[str] = Weights,
    size: int = Size,
    out: Path = Record,
    device: str = Device,
    as_json: bool = Json,
) -> None:
    """CLIP score: how well pictures fit their captions."""
    scorer = _scorer("plain", None, size, None, weights, device, False, [features])
    _measure([f"clip:{features}"], images, scorer, out, as_json)


@app.command()
def measure(
    images: Path = Images,
    metrics: str = typer.Option(
        ..., "--metrics", metavar="M,M:F,..", help="As in fid,kid:dinov2,recall,clip,alignment."
    ),
    reference: Path = ReferenceOption,
    weights: list[str] = Weights,
    protocol: str = ProtocolOption,
    resize: str = Resize,
    size: int = Size,
    allow_few: bool = AllowFew,
    out: Path = Record,
    device: str = Device,
    as_json: bool = Json,
) -> None:
    """Several numbers at once.

    fid, kid, cmmd, mind, precision and recall compare with a reference; clip needs captions;
    alignment and reconstruction_rmse judge images of a world's suite.
    """
    from open_imagen.evaluation.metrics.scores import parse_measure

    names = metrics.split(",")
    looked = [one.features for one in map(parse_measure, names) if one.features]
    scorer = _scorer(protocol, resize, size, reference, weights, device, allow_few, looked)
    _measure(names, images, scorer, out, as_json)


@app.command()
def statistics(
    images: Path = typer.Argument(..., metavar="FOLDER", help="Reference pictures."),
    features: str = typer.Option("inception", "--features", metavar="F"),
    weights: list[str] = Weights,
    protocol: str = ProtocolOption,
    resize: str = Resize,
    size: int = Size,
    out: Path = typer.Option(..., "--out", "-o", metavar="FILE.npz"),
    device: str = Device,
) -> None:
    """Keep mean and covariance of reference pictures, with the definition they were made by."""
    if out.suffix != ".npz":
        raise ConfigError(f"--out {out} must end in .npz.")
    scorer = _scorer(protocol, resize, size, None, weights, device, False, [features])

    from open_imagen.evaluation.metrics.statistics import open_reference, write_statistics

    extractor = scorer.extractor(features)
    with counting("features") as progress:
        reference, identity = open_reference(images, extractor, scorer.protocol.size, progress)
    write_statistics(out, reference, extractor, scorer.protocol.size, identity)
    print(f"{out}: {reference.count} pictures, {extractor.width} features")


@app.command()
def compare(
    records: list[Path] = typer.Argument(..., metavar="RECORD.json..."),
    as_json: bool = Json,
) -> None:
    """Numbers side by side, if they were measured in the same way."""
    from open_imagen.evaluation.metrics.scores import compare as side_by_side

    found = side_by_side(records)
    if as_json:
        print(json.dumps(found))
        return
    for file, record in zip(records, found, strict=True):
        print(f"{_shown(record)}   {file}")


def _scorer(
    protocol: str,
    resize: str | None,
    size: int | None,
    reference: Path | None,
    weights: list[str],
    device: str,
    allow_few: bool,
    features: list[str],
) -> "Scorer":
    """A scorer from a command's options."""
    from open_imagen.devices import pick_device
    from open_imagen.evaluation.metrics.scores import Scorer

    return Scorer(
        read_protocol(protocol, resize, size),
        reference,
        read_weights(weights, features),
        pick_device(device),
        allow_few=allow_few,
    )


def _measure(names: list[str], images: Path, scorer: "Scorer", out: Path, as_json: bool) -> None:
    """Measure, print, and keep the record."""
    import open_imagen.worlds.suites as _judges_of_worlds  # noqa: F401, registers them
    from open_imagen.evaluation.image_set import open_images
    from open_imagen.evaluation.metrics.records import digest
    from open_imagen.evaluation.metrics.scores import parse_measure
    from open_imagen.storage import write_json

    measures = [parse_measure(name) for name in names]
    scorer.check(measures)
    found = open_images(images)
    records = []
    with counting("measuring") as progress:
        scorer.progress = progress
        for one in measures:
            records.append(scorer.measure(one, found))
    files = []
    for record in records:
        file = out / f"{record['measure'].replace(':', '-')}-{digest(record)[:10]}.json"
        write_json(file, record)
        files.append(str(file))
    if as_json:
        print(json.dumps({"scores": records, "files": files}))
        return
    for record, kept in zip(records, files, strict=True):
        print(f"{_shown(record)}   {record['images']['count']} pictures   {kept}")
        if "stands_beside" in record:
            print(f"    may stand beside {record['stands_beside']}")
        for tag, share in record.get("details", {}).get("tags", {}).items():
            print(f"    {tag:14} {share:6.1f}")


def _shown(record: dict[str, Any]) -> str:
    note = "  (too few pictures)" if record.get("details", {}).get("too_few_images") else ""
    return f"{record['label']:32} {record['value']:10.4f} +- {record['error']:.4f}{note}"
