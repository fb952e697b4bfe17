"""imagen evaluate judge and judge-accuracy: models as judges, by path."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from open_imagen.cli.generate import Device, Json
from open_imagen.cli.measuring import counting
from open_imagen.errors import CheckpointError, ConfigError, DataError

if TYPE_CHECKING:
    from open_imagen.evaluation.judges.spec import JudgeSpec

Judge = typer.Option(
    ...,
    "--judge",
    metavar="J",
    help="vqascore, tifa, dpg, soft-tifa-am, soft-tifa-gm, geneval, clip-preference, "
    "linear-preference, or python:module:function.",
)
Weights = typer.Option(
    None, "--weights", metavar="FOLDER", help="The judge's model, as transformers saves it."
)
Rule = typer.Option(
    "corrected",
    "--rule",
    metavar="R",
    help="corrected, or compatible with the benchmark's reference script.",
)
Colors = typer.Option(
    None, "--colors", metavar="FOLDER", help="geneval: a CLIP that names colours; pixels without."
)
Threshold = typer.Option(0.3, "--threshold", help="geneval: least confidence of a detection.")
Counting = typer.Option(0.9, "--counting-threshold", help="geneval: the same where it counts.")
Nms = typer.Option(1.0, "--nms", help="geneval: overlap above which two detections are one.")


def judge(
    images: Path = typer.Argument(
        ..., metavar="RUN", help="A folder of evaluate prompts, or captioned images."
    ),
    name: str = Judge,
    weights: Path = Weights,
    rule: str = Rule,
    colors: Path = Colors,
    threshold: float = Threshold,
    counting_threshold: float = Counting,
    nms: float = Nms,
    accuracy: Path = typer.Option(
        None, "--accuracy", metavar="FILE", help="Its record of judge-accuracy, shown beside."
    ),
    out: Path = typer.Option(
        Path("scores"), "--out", metavar="DIR", help="Where the number's record goes."
    ),
    device: str = Device,
    as_json: bool = Json,
) -> None:
    """Judge images by a model: does each show what its prompt asks for?"""
    spec = _spec(name, weights, rule, colors, (threshold, counting_threshold, nms), device)

    from open_imagen.evaluation.image_set import open_images
    from open_imagen.evaluation.judges.measure import measure_judge
    from open_imagen.evaluation.judges.models import open_judge
    from open_imagen.evaluation.metrics.records import digest
    from open_imagen.storage import write_json

    known = None if accuracy is None else _read(accuracy)
    found = open_images(images)
    chosen = open_judge(spec)
    with counting("judging") as progress:
        record = measure_judge(chosen, found, progress, known)
    file = out / f"{record['measure'].replace(':', '-')}-{digest(record)[:10]}.json"
    write_json(file, record)
    if as_json:
        print(json.dumps({"score": record, "file": str(file)}))
        return
    print(f"{record['label']}: {_interval(record)}, {len(found)} images   {file}")
    for title, key in (("by tag", "categories"), ("by question", "atoms")):
        rows = record.get(key, {})
        if len(rows) > 1 or (rows and key == "atoms"):
            print(title)
            for row, one in rows.items():
                print(f"    {row or '-':24} {_interval(one)}   of {one['of']}")
    if known is not None:
        print(f"accuracy of the judge on exact scenes: {_accuracy(known)}")


def judge_accuracy(
    name: str = Judge,
    weights: Path = Weights,
    world: str = typer.Option("shapes", "--world", metavar="W", help="Whose exact scenes."),
    count: int = typer.Option(1000, "--count", help="Scenes; half of the prompts are wrong."),
    seed: int = typer.Option(0, "--seed", help="Of the scenes."),
    rule: str = Rule,
    colors: Path = Colors,
    threshold: float = Threshold,
    counting_threshold: float = Counting,
    nms: float = Nms,
    out: Path = typer.Option(
        None, "--out", "-o", metavar="FILE.json", help="Keep the record, for judge --accuracy."
    ),
    device: str = Device,
    as_json: bool = Json,
) -> None:
    """Measure how often a judge is right, on exact scenes whose truth is known."""
    spec = _spec(name, weights, rule, colors, (threshold, counting_threshold, nms), device)

    from open_imagen.evaluation.judges.accuracy import measure_accuracy
    from open_imagen.evaluation.judges.models import open_judge
    from open_imagen.storage import write_json
    from open_imagen.worlds.suites import EXACT_SCENES

    _ = EXACT_SCENES[world]  # a wrong name is refused before weights are read
    chosen = open_judge(spec)
    with counting("judging") as progress:
        found = measure_accuracy(chosen, world, count, seed, progress)
    if out is not None:
        write_json(out, found)
    if as_json:
        print(json.dumps(found))
        return
    print(f"{found['judge']} on {found['scenes']} exact scenes of {world}, seed {seed}")
    if found["skipped"]:
        print(f"{found['skipped']} scenes that it cannot judge were skipped")
    print(f"{'all':24} {_accuracy(found)}")
    for tag, one in found["categories"].items():
        print(f"{tag:24} {_accuracy(one)}")
    for category, one in found["atoms"].items():
        print(f"question: {category:14} {_share(one)} right of {one['of']}")


def paraphrases(
    run: Path = typer.Argument(
        ..., metavar="RUN", help="Of evaluate prompts --suite WORLD:paraphrases."
    ),
    record: Path = typer.Option(
        None,
        "--record",
        metavar="FILE",
        help="Scores of another judge, from evaluate judge; the world's own without.",
    ),
    as_json: bool = Json,
) -> None:
    """How much is lost in other words: the drop of each wording against plain prompts, paired."""
    from open_imagen.evaluation.image_set import open_images
    from open_imagen.evaluation.suites.paraphrases import drops, judged_rows
    from open_imagen.worlds.suites import judge_images

    images = open_images(run)
    if images.metadata is None:
        raise DataError(f"{run} is not a run.", "Make one with: imagen evaluate prompts")
    judged_rows(images.metadata, [0.0] * len(images))  # refused before anything is judged
    if record is None:
        with counting("judging") as progress:
            scores = [verdict.value for verdict in judge_images(images, progress)]
    else:
        scores = _scores(record, images.digest)
    found = drops(judged_rows(images.metadata, scores))
    if as_json:
        table = {
            name: {
                "share": one.share._asdict(),
                "plain": one.plain._asdict(),
                "drop": one.drop._asdict(),
                "pairs": one.pairs,
            }
            for name, one in found.items()
        }
        print(json.dumps(table))
        return
    print(f"{'wording':16} right  plain  drop in points [95 %]   scenes")
    for name, one in found.items():
        print(
            f"{name:16} {one.share.value:5.1f}  {one.plain.value:5.1f}  {one.drop.value:+5.1f} "
            f"[{one.drop.low:+.1f}, {one.drop.high:+.1f}]   {one.pairs}"
        )


def _scores(file: Path, digest: str) -> list[float]:
    """The scores of a judge's record on these images, 0 to 1."""
    from open_imagen.storage import read_json

    record = read_json(file)
    if not isinstance(record, dict) or "per_image" not in record:
        raise DataError(f"{file} is not a record of evaluate judge.")
    if record["images"]["sha256"] != digest:
        raise DataError(
            f"{file} is of other images than these.", "Judge this run with imagen evaluate judge."
        )
    return [float(one["score"]) for one in record["per_image"]]


def _spec(
    name: str,
    weights: Path | None,
    rule: str,
    colors: Path | None,
    thresholds: tuple[float, float, float],
    device: str,
) -> "JudgeSpec":
    from open_imagen.devices import pick_device
    from open_imagen.evaluation.judges.spec import JudgeSpec

    threshold, counting_threshold, nms_threshold = thresholds
    return JudgeSpec(
        name=name,
        weights=weights,
        rule=rule,
        colors=colors,
        threshold=threshold,
        counting_threshold=counting_threshold,
        nms_threshold=nms_threshold,
        device=pick_device(device),
    )


def _read(file: Path) -> dict[str, Any]:
    from open_imagen.storage import read_json

    try:
        found = read_json(file)
    except CheckpointError as error:
        raise ConfigError(f"--accuracy: {error}") from error
    if not isinstance(found, dict) or "identity" not in found:
        raise DataError(
            f"{file} is not a record of a judge's accuracy.",
            "imagen evaluate judge-accuracy --out FILE writes one.",
        )
    return found


def _interval(one: dict[str, Any]) -> str:
    return f"{one['value']:6.2f} [{one['low']:.2f}, {one['high']:.2f}]"


def _share(one: dict[str, Any]) -> str:
    return f"{one['value']:6.1%} [{one['low']:.1%}, {one['high']:.1%}]"


def _accuracy(row: dict[str, Any]) -> str:
    auc = "-" if row.get("auc") is None else f"{row['auc']:.3f}"
    if "accuracy" not in row:
        return f"right above wrong {auc}, {row['of']} scenes"
    right, wrong = row["right_accepted"], row["wrong_accepted"]
    return (
        f"{_share(row['accuracy'])} right; accepts "
        f"{'-' if right is None else format(right['value'], '.1%')} of right and "
        f"{'-' if wrong is None else format(wrong['value'], '.1%')} of wrong images; "
        f"right above wrong {auc}; {row['of']} scenes"
    )
