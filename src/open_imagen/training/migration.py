"""Runs of earlier formats: their checkpoints and records are read under the current names."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from open_imagen.storage import write_text
from open_imagen.training.posthoc_ema import FOLDER

RECORDS = ("log.jsonl", "validation.jsonl", "alignment.jsonl")
STATE = {"seen": "images_seen", "length": "total_images"}
LOG = {"images": "images_seen", "unusable": "skipped", "skipped_steps": "nonfinite_steps"}
SECTIONS = {"reading": "text_denoising"}
SETTINGS = {
    "train": {
        "fresh": "reinitialise",
        "patience": "max_nonfinite_steps",
        "minutes": "stop_after_minutes",
        "within": "time_budget_minutes",
        "keep": "keep_checkpoints",
    },
    "ema": {"lengths": "sigma_rel"},
    "distill": {"own_path": "backward"},
    "text_denoising": {
        "least": "threshold",
        "share": "corruption_rate",
        "words": "replace_rate",
        "whole": "full_replace_rate",
        "noisy": "noise_rate",
        "noise": "token_noise",
        "common": "caption_noise",
        "kinds": "word_classes",
        "strange": "oov_words",
        "never": "excluded",
    },
}
AUGMENT = {"told": "conditional"}
SCENE_WEIGHTS = {
    "alike": "counting",
    "pair": "two_things",
    "related": "relation",
    "three": "three_things",
}
STAGE = {"guided": "distilled_guidance"}
NETWORK = {"text_denoiser_least": "text_denoiser_threshold"}
ERRORS = {"absolute": "l1", "squared": "l2"}


def migrate_state(state: Mapping[str, Any]) -> dict[str, Any]:
    """state.json of an earlier version under the current names."""
    if state.get("format", 0) > 2:
        settings = state.get("settings")
        return {**state, "settings": _rename_sections(settings)} if settings else dict(state)
    state = _renamed(state, STATE)
    if "settings" in state:
        state["settings"] = migrate_settings(state["settings"])
    if "network" in state:
        state["network"] = _renamed(state["network"], NETWORK)
    if "changes" in state:
        state["changes"] = [_renamed(change, LOG) for change in state["changes"]]
    return state


def migrate_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a recipe under their current names and values."""
    settings = _renamed(settings, SECTIONS)
    for section, names in SETTINGS.items():
        if section in settings:
            settings[section] = _renamed(settings[section], names)
    stage = _renamed(settings.get("stage", {}), STAGE)
    if "network" in stage:
        stage["network"] = _renamed(stage["network"], NETWORK)
    if "objective" in stage:
        error = stage["objective"].get("error")
        stage["objective"] = {**stage["objective"], "error": ERRORS.get(error, error)}
    return _rename_sections({**settings, "stage": stage})


def _rename_sections(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of format 3, whose sections `augment` and `data` had other names."""
    settings = dict(settings)
    if "augment" in settings:
        settings["augment"] = _renamed(settings["augment"], AUGMENT)
    for section in ("data", "validation"):
        if section in settings:
            settings[section] = _migrate_data(settings[section])
    return settings


def _migrate_data(data: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a data source, or of each that a mixture has."""
    data = dict(data)
    if "sources" in data:
        data["sources"] = [_migrate_data(source) for source in data["sources"]]
    if "mixture" in data:
        data["mixture"] = _renamed(data["mixture"], SCENE_WEIGHTS)
    return data


def migrate_records(run: Path) -> None:
    """Bring the records and snapshots of a run folder to the current names, in place."""
    for name in RECORDS:
        path = run / name
        if not path.is_file():
            continue
        text = path.read_text(encoding="utf-8", errors="replace")
        new = "".join(_migrate_line(line) for line in text.splitlines(keepends=True))
        if new != text:
            write_text(path, new)
    old, new_folder = run / "averages", run / FOLDER
    if old.is_dir() and not new_folder.exists():
        old.rename(new_folder)


def _migrate_line(line: str) -> str:
    try:
        values = json.loads(line)
    except ValueError:  # cut short by a kill
        return line
    if not isinstance(values, dict) or "images" not in values or not line.endswith("\n"):
        return line
    return json.dumps(_renamed(values, LOG)) + "\n"


def _renamed(values: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    return {names.get(key, key): value for key, value in values.items()}
