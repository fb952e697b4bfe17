"""Sweeps: one run over a suite for every combination of settings, measured, with Pareto fronts.

OUT/sweep.json               what is swept, and how it is measured
OUT/points/0007-.../         a run over the suite (see runs.py), and scores.json
OUT/results.json, table.csv  all points
"""

import csv
import io
import itertools
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from open_imagen.cascade.cascade import Cascade
from open_imagen.cascade.sampling import Sampling
from open_imagen.distributed import all_gather_object, world
from open_imagen.errors import ConfigError, UnknownName
from open_imagen.evaluation.image_set import open_images
from open_imagen.evaluation.metrics.scores import Measure, Scorer
from open_imagen.evaluation.progress import Progress
from open_imagen.evaluation.suites.prompts import Suite
from open_imagen.evaluation.suites.runs import make_run
from open_imagen.evaluation.suites.systems import CascadeSystem
from open_imagen.storage import read_json, write_json, write_text

STAGES = "stages"
"""The one setting that is no stage's: how many stages run."""


class Axis(NamedTuple):
    """A setting and the values it takes: ("base", "guidance", (1.0, 2.0))."""

    stage: str
    """Empty: all stages."""
    setting: str
    values: tuple[Any, ...]

    @property
    def name(self) -> str:
        """As "stage.setting", or the setting alone where it is for all stages."""
        return f"{self.stage}.{self.setting}" if self.stage else self.setting


def parse_axis(text: str) -> Axis:
    """Read "[stage.]setting=value,value".

    >>> parse_axis("base.guidance=1,2.5")
    Axis(stage='base', setting='guidance', values=(1.0, 2.5))

    Raises:
        ConfigError: there is no value, one comes twice, is of the wrong kind or out of range.
        UnknownName: no such setting.
    """
    name, equals, listed = text.partition("=")
    stage, _, setting = name.strip().rpartition(".")
    if not equals or not listed.strip():
        raise ConfigError(f"--vary {text} has no values.", "Write --vary base.guidance=1,2,3,5.")
    values = tuple(_value(setting, word.strip()) for word in listed.split(","))
    if len(set(values)) < len(values):
        raise ConfigError(f"--vary {text} names a value twice.")
    return Axis(stage, setting, values)


KINDS: dict[str, Callable[[str], Any]] = {
    "steps": int,
    "stages": int,
    "sampler": str,
    "threshold": str,
    "spacing": str,
}
NUMBERS = (
    "guidance",
    "guidance_low",
    "guidance_high",
    "guidance_steps",
    "guidance_rescale",
    "gamma",
    "churn",
    "sde_from_logsnr",
    "logsnr_start",
    "percentile",
    "threshold_cap",
    "noise_level",
    "color_correction",
)


def _value(setting: str, word: str) -> Any:
    if setting not in KINDS and setting not in NUMBERS:
        raise UnknownName("setting", setting, [*KINDS, *NUMBERS])
    try:
        value = KINDS.get(setting, float)(word)
    except ValueError as error:
        raise ConfigError(f"{setting} = {word!r} is not a number.") from error
    if setting != STAGES:
        Sampling(**{setting: value})  # refuses what is out of range
    return value


@dataclass(frozen=True)
class Point:
    """One combination of settings."""

    number: int
    values: dict[str, Any]
    """By the name of the axis."""

    @property
    def slug(self) -> str:
        """Of its folder."""
        words = "-".join(f"{name}-{value}" for name, value in self.values.items())
        return f"{self.number:04d}-" + re.sub(r"[^A-Za-z0-9.]+", "-", words)[:80]


def grid(axes: Sequence[Axis]) -> list[Point]:
    """All combinations, the last axis fastest.

    Raises:
        ConfigError: there is no axis, or two of the same name.
    """
    if not axes:
        raise ConfigError("Nothing is varied.", "Give --vary base.guidance=1,2,3,5 or the like.")
    names = [axis.name for axis in axes]
    if len(set(names)) < len(names):
        raise ConfigError(f"--vary names a setting twice: {', '.join(names)}.")
    return [
        Point(number, dict(zip(names, values, strict=True)))
        for number, values in enumerate(itertools.product(*(axis.values for axis in axes)))
    ]


def settings_of(
    point: Point, axes: Sequence[Axis], cascade: Cascade, given: Mapping[str, Sampling]
) -> tuple[dict[str, Sampling], int | None]:
    """The sampling settings of a point over those given to all, and its number of stages.

    Raises:
        UnknownName: a stage that the model does not have.
    """
    chosen: dict[str, dict[str, Any]] = {name: {} for name in cascade.stages}
    stages = None
    for axis in axes:
        value = point.values[axis.name]
        if axis.setting == STAGES:
            stages = value
        elif axis.stage:
            if axis.stage not in chosen:
                raise UnknownName("stage", axis.stage, chosen)
            chosen[axis.stage][axis.setting] = value
        else:
            for one in chosen.values():
                one[axis.setting] = value
    settings = {
        name: Sampling(**values).over(given.get(name, Sampling()))
        for name, values in chosen.items()
    }
    return settings, stages


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """What is swept and measured."""

    axes: tuple[Axis, ...]
    measures: tuple[Measure, ...]
    images_per_prompt: int = 1
    seed: int = 0
    stages: int | None = None
    batch: int = 16


def run_sweep(
    cascade: Cascade,
    suite: Suite,
    sweep: Sweep,
    scorer: Scorer,
    out: Path,
    given: Mapping[str, Sampling] | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Make and measure every point; what is there already is kept.

    Several processes share the pictures of each point, and the points to be measured.

    Raises:
        ConfigError: the folder holds another sweep, or a setting is wrong.
        DataError: a measure cannot be taken.
    """
    scorer.check(sweep.measures)
    points = grid(sweep.axes)
    for point in points:
        settings_of(point, sweep.axes, cascade, given or {})
    header = _header(cascade, suite, sweep, scorer)
    if world().is_main_process:
        _begin(out, header)
    all_gather_object(None)
    for number, point in enumerate(points):
        folder = out / "points" / point.slug
        settings, stages = settings_of(point, sweep.axes, cascade, given or {})
        system = CascadeSystem(cascade, settings, stages or sweep.stages, sweep.batch)

        def here(name: str, done: int, total: int, number: int = number) -> None:
            if progress is not None:
                progress(f"point {number + 1} of {len(points)}", number * total + done,
                     len(points) * total)  # fmt: skip

        make_run(system, suite, folder, sweep.images_per_prompt, sweep.seed, here)
        if number % world().size == world().rank:
            _score(folder, sweep.measures, scorer)
    all_gather_object(None)
    results = {**header, "points": [_result(out, point) for point in points]}
    if world().is_main_process:
        write_json(out / "results.json", results)
        write_text(out / "table.csv", table(results))
    all_gather_object(None)
    return results


def _header(cascade: Cascade, suite: Suite, sweep: Sweep, scorer: Scorer) -> dict[str, Any]:
    return {
        **cascade.identity,
        "prompts": suite.record(),
        "axes": {axis.name: list(axis.values) for axis in sweep.axes},
        "images_per_prompt": sweep.images_per_prompt,
        "seed": sweep.seed,
        "stages": sweep.stages,
        "measured": scorer.identity(),
    }


def _begin(out: Path, header: dict[str, Any]) -> None:
    path = out / "sweep.json"
    if path.is_file():
        known = read_json(path)
        odd = [key for key in header if known.get(key) != json.loads(json.dumps(header[key]))]
        if odd:
            raise ConfigError(
                f"{out} holds another sweep: {', '.join(odd)} differ.",
                "Choose another --out, or remove that folder.",
            )
        return
    write_json(path, header)


def _score(folder: Path, measures: Sequence[Measure], scorer: Scorer) -> None:
    """Measure a finished point, if that has not been done."""
    path = folder / "scores.json"
    known = read_json(path) if path.is_file() else {}
    missing = [measure for measure in measures if measure.name not in known]
    if missing:
        images = open_images(folder)
        for measure in missing:
            known[measure.name] = scorer.measure(measure, images)
        write_json(path, known)


def _result(out: Path, point: Point) -> dict[str, Any]:
    scores = read_json(out / "points" / point.slug / "scores.json")
    return {
        "folder": f"points/{point.slug}",
        "values": point.values,
        "scores": {
            name: {
                key: record[key]
                for key in ("label", "value", "error", "low", "high", "higher_is_better")
            }
            for name, record in scores.items()
        },
    }


def table(results: Mapping[str, Any]) -> str:
    """All points as CSV: settings, then each measure with its error."""
    points = results["points"]
    names, measures = list(results["axes"]), list(points[0]["scores"])
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow([*names, *(word for name in measures for word in (name, f"{name} error"))])
    for point in points:
        scores = [point["scores"][name] for name in measures]
        numbers = [f"{score[key]:.6g}" for score in scores for key in ("value", "error")]
        rows.writerow([*(point["values"][name] for name in names), *numbers])
    return text.getvalue()


def pareto(points: Sequence[Mapping[str, Any]], x: str, y: str) -> list[int]:
    """The numbers of the points that no other point beats in both measures, along x.

    A point is beaten by one that is as good in both and better in one.
    """

    def good(point: Mapping[str, Any], name: str) -> float:
        score = point["scores"][name]
        value: float = score["value"] if score["higher_is_better"] else -score["value"]
        return value

    values = [(good(point, x), good(point, y)) for point in points]
    front = [
        k
        for k, (a, b) in enumerate(values)
        if not any(c >= a and d >= b and (c > a or d > b) for c, d in values)
    ]
    return sorted(front, key=lambda k: (points[k]["scores"][x]["value"], k))
