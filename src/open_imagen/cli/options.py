"""Reading options that may hold one value or one per stage, and lists of prompts."""

import json
import math
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from open_imagen.errors import ConfigError, DataError

if TYPE_CHECKING:
    from open_imagen.cascade.sampling import Sampling

PerStage = dict[str, Any]
"""Stage name -> value; the key "" is for all stages."""

LITTLE = {"a", "an", "the", "of", "on", "in", "and", "with", "to", "at", "is", "under", "above"}
"""Words that are no prompt of their own."""


def per_stage(text: str | None, option: str, kind: Callable[[str], Any]) -> PerStage:
    """Read "VALUE" or "stage=VALUE,stage=VALUE".

    >>> per_stage("base=30,sr256=10", "--steps", int)
    {'base': 30, 'sr256': 10}
    >>> per_stage("4", "--guidance", float)
    {'': 4.0}

    Raises:
        ConfigError: a value that is not of this kind.
    """
    values: PerStage = {}
    for part in text.split(",") if text else ():
        stage, _, value = part.rpartition("=")
        try:
            values[stage.strip()] = kind(value.strip())
        except ValueError as error:
            name = {"int": "a whole number", "float": "a number"}.get(kind.__name__, "a value")
            raise ConfigError(
                f"{option} {text}: {value.strip()!r} is not {name}.",
                f"Write {option} VALUE, or {option} stage=VALUE,stage=VALUE.",
            ) from error
    return values


def read_settings(
    steps: str | None,
    guidance: str | None,
    sampler: str | None,
    threshold: str | None,
    noise_level: str | None,
    undistilled: bool = False,
    guidance_kind: str | None = None,
) -> dict[str, PerStage]:
    """The sampling options of a command, by setting; an option that was not given is empty."""
    return {
        "steps": per_stage(steps, "--steps", int),
        "guidance": per_stage(guidance, "--guidance", float),
        "sampler": per_stage(sampler, "--sampler", str),
        "threshold": per_stage(threshold, "--threshold", str),
        "noise_level": per_stage(noise_level, "--noise-level", float),
        "guidance_kind": per_stage(guidance_kind, "--guidance-kind", str),
        "adapter": {"": "none"} if undistilled else {},
    }


def sampling(options: dict[str, PerStage], stages: Iterable[str]) -> "dict[str, Sampling]":
    """Sampling settings of every stage from the options that were given.

    Raises:
        UnknownName: a stage that the model does not have.
        ConfigError: a setting that is out of range.
    """
    from open_imagen.cascade.sampling import Sampling
    from open_imagen.errors import UnknownName

    known = list(stages)
    for values in options.values():
        for stage in values:
            if stage and stage not in known:
                raise UnknownName("stage", stage, known)
    return {
        stage: Sampling(
            **{
                name: values.get(stage, values.get(""))
                for name, values in options.items()
                if stage in values or "" in values
            }
        )
        for stage in known
    }


def check(options: dict[str, PerStage]) -> None:
    """Refuse settings that are wrong for any stage, before a model is loaded."""
    from open_imagen.cascade.sampling import Sampling

    for name, values in options.items():
        for value in values.values():
            if isinstance(value, float) and math.isnan(value):
                raise ConfigError(f"{name} = nan is not a number.")
            Sampling(**{name: value})


def read_size(text: str | None) -> tuple[int, int] | None:
    """Width and height of "WxH", or of "N" for a square.

    >>> read_size("256x192"), read_size("256"), read_size(None)
    ((256, 192), (256, 256), None)

    Raises:
        ConfigError: it is neither.
    """
    if not text:
        return None
    sides = text.lower().split("x")
    if len(sides) not in (1, 2) or not all(side.strip().isdecimal() for side in sides):
        raise ConfigError(f"--size {text} is not a size.", "Write --size WxH, as in 256x192.")
    return int(sides[0]), int(sides[-1])


def read_extension(text: str | None) -> tuple[int, ...] | None:
    """The numbers of "L,T,R,B".

    >>> read_extension("64,0,64,0")
    (64, 0, 64, 0)

    Raises:
        ConfigError: they are not four whole numbers.
    """
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    if len(parts) != 4 or not all(part.isdecimal() for part in parts):
        raise ConfigError(
            f"--extend {text} is not L,T,R,B: pixels to add left, above, right and below.",
            "Write --extend 64,0,64,0.",
        )
    return tuple(int(part) for part in parts)


def is_interactive() -> bool:
    """Whether somebody can be asked."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def confirm_words(prompts: Sequence[str]) -> None:
    """Ask, or warn where nobody can answer, if prompts look like one sentence without quotes.

    Raises:
        typer.Abort: the answer is no.
    """
    single = all(len(prompt.split()) == 1 for prompt in prompts)
    if len(prompts) < 2 or not (single or LITTLE & {prompt.lower() for prompt in prompts}):
        return
    told = f"These are {len(prompts)} prompts, and each gets an image of its own."
    quoted = f"For one image of all of it: imagen generate {json.dumps(' '.join(prompts))}"
    if not is_interactive():
        print(f"Warning: {told} {quoted}", file=sys.stderr)
        return
    print(f"{told} {quoted}", file=sys.stderr)
    typer.confirm("Make one image of each?", abort=True, err=True)


def read_prompts(file: Path) -> list[str]:
    """Prompts from a file: JSONL with "prompt", or one on each line.

    Raises:
        DataError: it cannot be read, or holds none.
    """
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise DataError(f"Cannot read {file}: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{file} is not a text file in UTF-8.") from error
    lines = [line.strip() for line in lines if line.strip()]
    if file.suffix == ".jsonl":
        try:
            lines = [json.loads(line)["prompt"] for line in lines]
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f'{file} is not JSONL with a "prompt" on each line.') from error
    if not lines:
        raise DataError(f"{file} holds no prompt.")
    return lines
