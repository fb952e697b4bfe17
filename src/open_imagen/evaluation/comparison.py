"""Several systems on the same prompts: everything that was measured of each, side by side."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from open_imagen.errors import ConfigError, DataError
from open_imagen.evaluation.human.report import report as ratings_report
from open_imagen.evaluation.human.study import open_study
from open_imagen.evaluation.human.votes import FILE as VOTES
from open_imagen.evaluation.human.votes import Store
from open_imagen.evaluation.image_set import RUN, ImageSet, open_images
from open_imagen.evaluation.intervals import Interval, cluster_interval, paired_difference
from open_imagen.evaluation.judges.judge import JUDGES, judge_images
from open_imagen.evaluation.judges.measure import prompt_numbers
from open_imagen.evaluation.metrics.records import differences
from open_imagen.evaluation.metrics.scores import Protocol, Scorer, parse_measure
from open_imagen.evaluation.progress import Progress
from open_imagen.evaluation.suites.runs import Timing, read_timing, same_prompts

WORLD_JUDGE = "judge of the world"


@dataclass(frozen=True)
class MeasureRow:
    """One number of every system that has it."""

    label: str
    higher_is_better: bool
    values: Mapping[str, Mapping[str, Any]]
    """System -> its record: value, low, high."""
    note: str = ""


@dataclass(frozen=True)
class CategoryTable:
    """Shares by category, with the paired difference of each system to the first."""

    title: str
    rows: dict[str, dict[str, Interval]]
    """Category -> system -> percent."""
    differences: dict[str, dict[str, Interval]] = field(default_factory=dict)
    """Category -> system -> points more than the first system, on the same prompts."""


@dataclass(frozen=True)
class Comparison:
    """What a page shows."""

    systems: dict[str, ImageSet]
    image_size: tuple[int, int]
    measures: list[MeasureRow]
    categories: list[CategoryTable]
    timings: dict[str, Timing | None]
    prices: dict[str, float]
    """Of an hour of what makes a system's images, by system."""
    ratings: dict[str, Any] | None
    records: list[Mapping[str, Any]]


def compare_runs(
    folders: Sequence[Path],
    scores: Sequence[Path] = (),
    study: Path | None = None,
    prices: Mapping[str, float] | None = None,
    progress: Progress | None = None,
) -> Comparison:
    """Collect what is known of runs over the same prompts.

    Args:
        scores: folders with records of numbers; those of other images are passed over.
        study: a rating study of these runs.
        prices: of an hour, by system; "" for all others.

    Raises:
        ConfigError: fewer than two runs, or a price of an unknown system.
        DataError: a folder is no finished run, or prompts, numbers of images, image sizes or
            protocols differ; the message names both sides.
    """
    if len(folders) < 2:
        raise ConfigError("A comparison needs two runs at least.", "Name another run.")
    systems = _open(folders)
    size = _same_size(systems)
    measures, records = _recorded(systems, scores)
    own, tables = _own_measures(systems, progress)
    given = dict(prices or {})
    unknown = given.keys() - systems.keys() - {""}
    if unknown:
        raise ConfigError(
            f"--price names {sorted(unknown)[0]!r}; the systems are {', '.join(systems)}."
        )
    return Comparison(
        systems,
        size,
        [*measures, *own],
        [*tables, *_judge_tables(measures)],
        {name: read_timing(images.folder) for name, images in systems.items()},
        {name: given.get(name, given[""]) for name in systems if name in given or "" in given},
        None if study is None else _ratings(study, systems),
        records,
    )


def _open(folders: Sequence[Path]) -> dict[str, ImageSet]:
    for folder in folders:
        if not (folder / RUN).is_file():
            what = "is not a run" if folder.is_dir() else "is no folder"
            raise DataError(
                f"{folder} {what}.", "Make one with: imagen evaluate prompts SYSTEM --out RUN"
            )
    records = same_prompts(list(folders))
    systems: dict[str, ImageSet] = {}
    for folder, record in zip(folders, records, strict=True):
        name = str(record["system"]["name"])
        if name in systems:
            name = f"{name} ({folder.resolve().name})"
        if name in systems:
            raise ConfigError(f"{folder} is named twice.")
        systems[name] = open_images(folder)
    return systems


def _same_size(systems: Mapping[str, ImageSet]) -> tuple[int, int]:
    """The size of all images.

    Raises:
        DataError: sizes differ, within a run or between two.
    """
    first: tuple[str, Path, tuple[int, int]] | None = None
    for name, images in systems.items():
        for file in images.files:
            try:
                with Image.open(file) as image:
                    size = image.size
            except OSError as error:
                raise DataError(f"The image {file} cannot be read: {error}.") from error
            first = first or (name, file, size)
            if size != first[2]:
                raise DataError(
                    f"Image sizes differ: {first[0]} has {first[2][0]}x{first[2][1]} "
                    f"({first[1]}), {name} has {size[0]}x{size[1]} ({file}).",
                    "Scores of images of other sizes are not comparable. Make the runs at one "
                    "size (--stages), or bring them to one size first.",
                )
    assert first is not None
    return first[2]


def _recorded(
    systems: Mapping[str, ImageSet], scores: Sequence[Path]
) -> tuple[list[MeasureRow], list[Mapping[str, Any]]]:
    """The numbers in folders of records that are of these images."""
    by_digest = {images.digest: name for name, images in systems.items()}
    found: dict[str, dict[str, dict[str, Mapping[str, Any]]]] = {}
    for folder in scores:
        if not folder.is_dir():
            raise DataError(f"There is no folder {folder} with records of numbers.")
        for file in sorted(folder.glob("*.json"), key=lambda f: (f.stat().st_mtime, f.name)):
            record = _read_record(file)
            name = by_digest.get(record.get("images", {}).get("sha256", ""))
            if name is not None:
                definitions = found.setdefault(str(record["measure"]), {})
                definitions.setdefault(record["definition_sha256"], {})[name] = record
    rows, records = [], []
    for measure, definitions in found.items():
        _check_definitions(measure, definitions)
        for by_system in definitions.values():
            some = next(iter(by_system.values()))
            ordered = {name: by_system[name] for name in systems if name in by_system}
            note = str(some.get("stands_beside", ""))
            rows.append(
                MeasureRow(str(some["label"]), bool(some["higher_is_better"]), ordered, note)
            )
            records += list(ordered.values())
    return rows, records


def _read_record(file: Path) -> Mapping[str, Any]:
    """A record of a number; empty if the file holds something else."""
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    needed = {"measure", "label", "value", "low", "high", "definition", "definition_sha256"}
    if isinstance(record, dict) and needed <= record.keys():
        return record
    return {}


def _check_definitions(
    measure: str, definitions: Mapping[str, Mapping[str, Mapping[str, Any]]]
) -> None:
    """Check that the systems were measured by a common definition.

    Raises:
        DataError: systems were measured in unlike ways, and in no way all of them.
    """
    everyone = {name for by_system in definitions.values() for name in by_system}
    partial = [some for some in definitions.values() if some.keys() != everyone]
    if len(definitions) < 2 or not partial:
        return
    one = partial[0]
    other = next(some for some in definitions.values() if some.keys() - one.keys())
    name, another = next(iter(one)), next(n for n in other if n not in one)
    odd = differences(one[name]["definition"], other[another]["definition"])
    raise DataError(
        f"{measure} of {name} and of {another} were not measured in the same way: "
        f"{'; '.join(odd)}.",
        "Measure both in one way, or give --scores with a folder that holds only such records.",
    )


def _own_measures(
    systems: Mapping[str, ImageSet], progress: Progress | None
) -> tuple[list[MeasureRow], list[CategoryTable]]:
    """What needs no weights: the judge of the prompts' world, and the diversity of pixels."""
    first = next(iter(systems.values()))
    assert first.run is not None
    rows, tables = [], []
    if first.metadata is not None and all(row.get("judge") in JUDGES for row in first.metadata):
        row, table = _world(systems, progress)
        rows.append(row)
        tables.append(table)
    if first.run["images_per_prompt"] > 1:
        scorer = Scorer(Protocol(), progress=progress)
        measure = parse_measure("diversity:pixels")
        values = {name: scorer.measure(measure, images) for name, images in systems.items()}
        rows.append(MeasureRow("diversity of pixels (RMS difference)", True, values))
    return rows, tables


def _world(
    systems: Mapping[str, ImageSet], progress: Progress | None
) -> tuple[MeasureRow, CategoryTable]:
    """Alignment by the judge that knows the truth, in all and by category."""
    overall: dict[str, Mapping[str, Any]] = {}
    rights: dict[str, list[float]] = {}
    tags: list[str] = []
    for name, images in systems.items():
        verdicts = judge_images(images, progress)
        rights[name] = [100.0 * verdict.right for verdict in verdicts]
        tags = [verdict.tag for verdict in verdicts]
        interval = cluster_interval(rights[name], prompt_numbers(images), 100.0)
        overall[name] = interval._asdict()
    prompts = prompt_numbers(next(iter(systems.values())))
    table = category_table("Alignment, by the judge of the world", rights, tags, prompts)
    return MeasureRow("alignment, percent right (judge of the world)", True, overall), table


def category_table(
    title: str,
    values: Mapping[str, Sequence[float]],
    tags: Sequence[str],
    prompts: Sequence[object],
) -> CategoryTable:
    """Percent by tag of each system, and paired differences to the first."""
    rows: dict[str, dict[str, Interval]] = {}
    paired: dict[str, dict[str, Interval]] = {}
    first, *others = values
    for tag in dict.fromkeys(tags):
        chosen = [k for k, one in enumerate(tags) if one == tag]
        clusters = [prompts[k] for k in chosen]
        some = {name: [column[k] for k in chosen] for name, column in values.items()}
        rows[tag] = {
            name: cluster_interval(column, clusters, 100.0) for name, column in some.items()
        }
        paired[tag] = {
            name: paired_difference(some[first], some[name], clusters, 100.0) for name in others
        }
    return CategoryTable(title, rows, paired)


def _judge_tables(measures: Sequence[MeasureRow]) -> list[CategoryTable]:
    """Categories of judges' records: by the prompts' tags, and by what questions ask about."""
    tables = []
    for row in measures:
        for key, what in (("categories", "by category"), ("atoms", "by question")):
            names = dict.fromkeys(n for one in row.values.values() for n in one.get(key, {}))
            if len(names) > 1:
                cells = {
                    category: {
                        system: Interval(*(one[key][category][k] for k in Interval._fields))
                        for system, one in row.values.items()
                        if category in one.get(key, {})
                    }
                    for category in names
                }
                tables.append(CategoryTable(f"{row.label}, {what}", cells))
    return tables


def _ratings(folder: Path, systems: Mapping[str, ImageSet]) -> dict[str, Any]:
    """What people said.

    Raises:
        DataError: the study is of other runs, or has no votes.
    """
    study = open_study(folder)
    runs = {images.folder.resolve() for images in systems.values()}
    others = [name for name, run in study.runs.items() if run.resolve() not in runs]
    if others:
        raise DataError(
            f"The study {folder} is of {', '.join(others)} too, which is not compared here.",
            "Name all runs of the study, or leave out --study.",
        )
    if not (folder / VOTES).is_file():
        raise DataError(f"{folder} has no votes yet.", "Collect them with imagen rate serve.")
    store = Store(study)
    try:
        return ratings_report(store)
    finally:
        store.close()
