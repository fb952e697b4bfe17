"""Suites of prompts by name: ours, those of the worlds, and files in the usual formats."""

from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

from open_imagen.errors import ConfigError, DataError, UnknownName
from open_imagen.evaluation.suites.files import read_coco, read_csv, read_jsonl, read_lines
from open_imagen.evaluation.suites.prompts import Suite
from open_imagen.evaluation.suites.questions import is_tifa, read_tifa
from open_imagen.registry import Registry

OpenSuite = Callable[[str, int | None, int], Suite]
"""From the whole name ("WORLD:position,counting"), the prompts per category, and the seed."""
SUITES: Registry[OpenSuite] = Registry("suite")
PROBES = "probes"
"""Our suite of 220 prompts in DrawBench's eleven categories."""


def open_suite(name: str, count: int | None = None, seed: int = 1) -> Suite:
    """A suite by name, or from a file.

    Args:
        name: of a suite, as in "probes"; of a world, perhaps with categories, as in
            "WORLD:position,counting"; or a file: .jsonl with "prompt" and perhaps "category" in
            each line, .csv with the columns Prompt and Category, COCO's captions_*.json, the
            questions of DPG-Bench (.csv), TIFA (.json) or GenEval 2 (.jsonl), or text with a
            prompt on each line.
        count: prompts per category; of COCO's captions altogether. None: all, and of a world as
            many as it chooses.
        seed: of prompts that are drawn: a world's, and COCO's captions.

    Raises:
        UnknownName: neither a suite nor a file.
        DataError: the file cannot be read as such; the message says where.
    """
    if count is not None and count < 1:
        raise ConfigError(f"count = {count} must be at least 1.")
    if (known := name.partition(":")[0]) in SUITES:
        return SUITES[known](name, count, seed)
    file = Path(name)
    if not file.is_file():
        raise UnknownName("suite or file", name, SUITES)
    try:
        text = file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(f"Cannot read {file}: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{file} is not a text file in UTF-8.") from error
    if file.suffix == ".json" and is_tifa(text):
        return Suite(file.stem, read_tifa(text, str(file))).first(count)
    if file.suffix == ".json":
        return Suite(file.stem, read_coco(text, file, count, seed))
    readers = {".jsonl": read_jsonl, ".csv": read_csv}
    prompts = readers.get(file.suffix, read_lines)(text, str(file))
    if not prompts:
        raise DataError(f"{file} holds no prompt.")
    return Suite(file.stem, prompts).first(count)


@SUITES.register(PROBES)
def _probes(name: str, count: int | None, seed: int) -> Suite:
    if name != PROBES:
        raise UnknownName("suite or file", name, SUITES)
    ours = files("open_imagen").joinpath("evaluation/suites/probes.jsonl")
    return Suite(name, read_jsonl(ours.read_text(encoding="utf-8"), name)).first(count)
