"""A study with people: which pictures are set side by side, in which order, with which questions.

Two protocols, both the paper's. *drawbench*: two sets of pictures of one prompt, which is of higher
quality, and which represents the caption better; category by category. *coco*: which of two
pictures, the model's or the reference, is more photorealistic; and, shown one picture, does the
caption describe it.
"""

import hashlib
import hmac
import itertools
import json
import random
import secrets
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from open_imagen.errors import ConfigError, DataError, UnknownName
from open_imagen.evaluation.image_set import read_run
from open_imagen.evaluation.suites.runs import same_prompts
from open_imagen.storage import write_json

FILE = "study.json"
NOISE = "noise"
"""The system of control trials: pictures of nothing."""
BATCH = 50
"""Trials of the coco protocol that a rater sees in one part."""
CONTROL_EVERY = 10
"""Real trials for each control trial; every part has at least one."""


class Question(NamedTuple):
    """What is asked, and the answers there are: id -> text."""

    id: str
    text: str
    answers: dict[str, str]


PAIR = {"left": "I prefer the left", "tie": "I am indifferent", "right": "I prefer the right"}
QUESTIONS = {
    "pair": (
        Question("quality", "Which set of images is of higher quality?", PAIR),
        Question("alignment", "Which set of images better represents the text caption?", PAIR),
    ),
    "photorealism": (
        Question(
            "photorealism",
            "Which image is more photorealistic (looks more real)?",
            {"left": "The left", "right": "The right"},
        ),
    ),
    "caption": (
        Question(
            "caption",
            "Does the caption accurately describe the above image?",
            {"yes": "Yes", "somewhat": "Somewhat", "no": "No"},
        ),
    ),
}
"""By kind of trial. The wording is the paper's."""
CAPTION_POINTS = {"yes": 100.0, "somewhat": 50.0, "no": 0.0}


@dataclass(frozen=True, kw_only=True)
class Participation:
    """Who rates what, and whose votes count."""

    raters_per_part: dict[str, int]
    """By kind of trial: raters for each part, so ratings for each trial; 0: as many as come."""
    parts_per_rater: int
    """A rater is done after these; 0: goes through all."""
    controls: bool
    """Whether trials with a known answer are interleaved."""
    min_controls: float | None
    """Raters with a smaller share of right answers in controls do not count; None: all count."""

    def __post_init__(self) -> None:
        for name, value in {
            **self.raters_per_part,
            "parts_per_rater": self.parts_per_rater,
        }.items():
            if value < 0:
                raise ConfigError(f"{name} = {value} must be 0 (no limit) or more.")


class Trial(NamedTuple):
    """Something to be judged: pictures of a prompt by one system or two."""

    id: str
    kind: str
    part: str
    prompt: int
    systems: tuple[str, ...]
    """Two that are compared, or one; in controls the first is the right answer."""
    control: bool


@dataclass(frozen=True)
class Study:
    """What study.json says."""

    folder: Path
    id: str
    protocol: str
    runs: dict[str, Path]
    """System -> its run over the suite."""
    reference: str
    """Of the coco protocol: which system is the reference; otherwise empty."""
    seed: int
    secret: str
    """Hides from raters which picture is whose."""
    participation: Participation

    @cached_property
    def prompts(self) -> list[dict[str, Any]]:
        """What each prompt asks for, from the first run."""
        run = next(iter(self.runs.values()))
        count = read_run(run)["prompts"]["count"]
        return [
            json.loads((run / f"{p:05d}" / "metadata.jsonl").read_text(encoding="utf-8"))
            for p in range(count)
        ]

    @cached_property
    def images_per_side(self) -> int:
        """Pictures of each side: all of the run in drawbench, one in coco."""
        if self.protocol == "coco":
            return 1
        return int(read_run(next(iter(self.runs.values())))["images_per_prompt"])

    @cached_property
    def trials(self) -> dict[str, Trial]:
        """Every trial by id."""
        made = _drawbench(self) if self.protocol == "drawbench" else _coco(self)
        return {trial.id: trial for trial in made}

    @cached_property
    def parts(self) -> dict[str, list[Trial]]:
        """The trials of each part: a category, or a batch."""
        found: dict[str, list[Trial]] = {}
        for trial in self.trials.values():
            found.setdefault(trial.part, []).append(trial)
        return found

    def order(self, rater: str, parts: Sequence[str]) -> list[Trial]:
        """A rater's way through the study: part after part, each in an order of its own."""
        way = []
        for part in parts:
            trials = list(self.parts[part])
            random.Random(f"order {self.seed} {rater} {part}").shuffle(trials)
            way += trials
        return way

    def flipped(self, rater: str, trial: Trial) -> bool:
        """Whether this rater sees the second system of a pair on the left."""
        return random.Random(f"side {self.seed} {rater} {trial.id}").random() < 0.5

    def image_id(self, system: str, prompt: int, sample: int) -> str:
        """A name of a picture that tells nothing of its maker."""
        text = f"{system}\n{prompt}\n{sample}".encode()
        return hmac.new(self.secret.encode(), text, hashlib.sha256).hexdigest()[:32]

    @cached_property
    def images(self) -> dict[str, tuple[str, int, int]]:
        """What is behind each such name: system, prompt, sample."""
        return {
            self.image_id(system, prompt, sample): (system, prompt, sample)
            for system in (*self.runs, NOISE)
            for prompt in range(len(self.prompts))
            for sample in range(self.images_per_side)
        }

    def image_file(self, system: str, prompt: int, sample: int) -> Path:
        """Where a system's picture is."""
        return self.runs[system] / f"{prompt:05d}" / "samples" / f"{sample:04d}.png"


def _control_prompts(study: Study, part: str, prompts: Sequence[int]) -> list[int]:
    if not study.participation.controls:
        return []
    number = max(1, len(prompts) // CONTROL_EVERY)
    return random.Random(f"controls {study.seed} {part}").sample(list(prompts), number)


def _drawbench(study: Study) -> list[Trial]:
    categories: dict[str, list[int]] = {}
    for p, metadata in enumerate(study.prompts):
        categories.setdefault(str(metadata.get("category", "prompts")), []).append(p)
    made = []
    for part, prompts in categories.items():
        for p, (a, b) in itertools.product(prompts, itertools.combinations(study.runs, 2)):
            made.append(Trial(f"{p}-{a}-{b}", "pair", part, p, (a, b), False))
        rng = random.Random(f"control systems {study.seed} {part}")
        for p in _control_prompts(study, part, prompts):
            system = rng.choice(list(study.runs))
            made.append(Trial(f"{p}-control", "pair", part, p, (system, NOISE), True))
    return made


def _coco(study: Study) -> list[Trial]:
    made = []
    models = [name for name in study.runs if name != study.reference]
    batches = range(0, len(study.prompts), BATCH)
    for number, start in enumerate(batches, 1):
        prompts = range(start, min(start + BATCH, len(study.prompts)))
        part = f"photorealism {number}"
        for p, model in itertools.product(prompts, models):
            pair = (model, study.reference)
            made.append(Trial(f"real-{p}-{model}", "photorealism", part, p, pair, False))
        for p in _control_prompts(study, part, prompts):
            pair = (study.reference, NOISE)
            made.append(Trial(f"real-{p}-control", "photorealism", part, p, pair, True))
        part = f"captions {number}"
        for p, system in itertools.product(prompts, study.runs):
            made.append(Trial(f"caption-{p}-{system}", "caption", part, p, (system,), False))
        for p in _control_prompts(study, part, prompts):
            made.append(Trial(f"caption-{p}-control", "caption", part, p, (NOISE,), True))
    return made


def right_answer(trial: Trial) -> str:
    """Of a control trial: the system that shows something, or that the caption is not met."""
    return trial.systems[0] if len(trial.systems) == 2 else "no"


PROTOCOLS = {
    "drawbench": Participation(
        raters_per_part={"pair": 25}, parts_per_rater=1, controls=False, min_controls=None
    ),
    "coco": Participation(
        raters_per_part={"photorealism": 73, "caption": 51},
        parts_per_rater=0,
        controls=True,
        min_controls=0.8,
    ),
}
"""The paper's: 25 raters for each category of DrawBench, 275 in all, and none left out; 73 and 51
ratings of each image of COCO, of raters who are right in four fifths of the controls."""


def create(
    folder: Path,
    runs: Sequence[Path],
    protocol: str,
    reference: Path | None = None,
    seed: int = 0,
    participation: Participation | None = None,
) -> Study:
    """A new study of finished runs over one suite.

    Args:
        participation: who rates what; None: as in the paper.

    Raises:
        ConfigError: too few systems, or a reference is missing or of no use.
        DataError: the runs have different prompts, or one is not finished.
    """
    _check_protocol(protocol, reference)
    folders = [Path(run) for run in runs] + ([reference] if reference is not None else [])
    if len(folders) < 2:
        raise ConfigError("A study compares two systems at least.", "Name another run.")
    records = same_prompts(folders)
    named = _named_runs(folders, records)
    last = list(named)[-1] if reference is not None else ""
    study = Study(
        folder,
        secrets.token_hex(8),
        protocol,
        named,
        last,
        seed,
        secrets.token_hex(32),
        participation or PROTOCOLS[protocol],
    )
    write_json(
        folder / FILE,
        {
            "format": 2,
            "id": study.id,
            "protocol": protocol,
            "systems": {name: str(run) for name, run in named.items()},
            "reference": last,
            "seed": seed,
            "secret": study.secret,
            "participation": asdict(study.participation),
            "prompts": records[0]["prompts"],
            "records": dict(zip(named, records, strict=True)),
        },
    )
    return study


def _check_protocol(protocol: str, reference: Path | None) -> None:
    if protocol not in PROTOCOLS:
        raise UnknownName("protocol", protocol, PROTOCOLS)
    if protocol == "coco" and reference is None:
        raise ConfigError(
            "The coco protocol compares with reference pictures.",
            "Give --reference RUN: imagen evaluate prompts folder:PATH makes one of a folder.",
        )
    if protocol == "drawbench" and reference is not None:
        raise ConfigError(
            "The drawbench protocol has no reference.", "Name the run as one of the systems."
        )


def _named_runs(folders: Sequence[Path], records: Sequence[dict[str, Any]]) -> dict[str, Path]:
    """The finished runs by the names of their systems; a repeated name is told by its folder."""
    named: dict[str, Path] = {}
    for run, record in zip(folders, records, strict=True):
        _check_finished(run, record)
        name = str(record["system"]["name"])
        if name in named or name == NOISE:
            name = f"{name} ({run.resolve().name})"
        if name in named:
            raise ConfigError(f"{run} and {named[name]} are the same run.")
        named[name] = run.resolve()
    return named


def _check_finished(run: Path, record: dict[str, Any]) -> None:
    for p in range(record["prompts"]["count"]):
        for i in range(record["images_per_prompt"]):
            file = run / f"{p:05d}" / "samples" / f"{i:04d}.png"
            if not file.is_file():
                raise DataError(
                    f"The run in {run} is not finished: {file.name} of prompt {p} is missing.",
                    "Run its imagen evaluate prompts again.",
                )


def open_study(folder: Path) -> Study:
    """A study that was created before.

    Raises:
        DataError: there is none, or one of its runs is gone or has other prompts now.
    """
    try:
        record = json.loads((folder / FILE).read_text(encoding="utf-8"))
        study = Study(
            folder,
            record["id"],
            record["protocol"],
            {name: Path(run) for name, run in record["systems"].items()},
            record["reference"],
            record["seed"],
            record["secret"],
            _participation(record),
        )
        prompts = record["prompts"]["sha256"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{folder / FILE} is not a study: {error}.") from error
    for run in study.runs.values():
        if read_run(run)["prompts"]["sha256"] != prompts:
            raise DataError(f"{run} has other prompts than when {folder} was made.")
    return study


def _participation(record: dict[str, Any]) -> Participation:
    """What a study says of raters; those of format 1 had controls in both protocols, and no quotas.

    Raises:
        KeyError, TypeError: it says something else.
    """
    if record["format"] == 1:
        return Participation(
            raters_per_part={},
            parts_per_rater=0,
            controls=True,
            min_controls=PROTOCOLS[record["protocol"]].min_controls,
        )
    return Participation(**record["participation"])
