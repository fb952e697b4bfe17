"""Names that were retired do not come back: a reader finds a technique under one name only."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RETIRED = {
    "hasten": "accelerate",
    "hasten_learning": 'accelerate(network, mode="training")',
    "ConvInTiles": "WinogradConv2d",
    "ConvInParts": "SplitBfloat16Conv2d",
    "learn_in_tiles": "TrainableWinogradConv2d",
    "Recording": "CapturedCall",
    "one_at_a_time": "offload",
    "ReadText": "CachedText",
    "told_steps": "uses_timesteps",
    "stirred": "sde_step",
    "with_fresh": "with_sde_from",
    "fresh_from": "sde_from_logsnr",
    "color_fix": "color_correction",
    "Survey": "NetworkProfile",
    "Disturbed": "CorruptedEncoder",
    "kin": "nearest_words",
    "heeded": "threshold",
    "narrowed": "weight slicing, which was removed",
    "own_path": "backward",
    "shared_out": "shard_like",
    "gathering": "no_sync",
    "fellows": "processes",
    "announced": "world_from_env",
    "own_device": "process_device",
    "Made": "GenerationOutput",
    "Want": "ImageRequest",
    "Unusable": "SkippedExample",
    "Wanted": "GenerationRequest, ExpectedScene",
    "text_denoiser_least": "text_denoiser_threshold",
    "ExpertsConfig": "expert denoisers, which were removed",
    "open_imagen.serving": "open_imagen.server",
    "Refusal": "RequestError",
    "MOST_PICTURES": "MAX_IMAGES",
    "MOST_STEPS": "MAX_STEPS",
    "KeptReply": "GalleryImageReply",
    "picture_url": "image_url",
    r"augment\.told": "augment.conditional",
    r"mixture\.(alike|pair|related|three)": "mixture.counting, two_things, relation, three_things",
    r"alike = \d": "counting, in data.mixture of the things world",
    "condition_drawn": "condition_with_noise",
}
"""Identifier, setting or flag, a regular expression -> what stands in its place."""
MIGRATION = {"src/open_imagen/training/migration.py", "tests/training/test_migration.py"}
"""Files that read what earlier versions wrote."""
FILES = sorted(
    path
    for folder in ("src", "tests", "recipes", "scripts", "benchmarks")
    for suffix in ("*.py", "*.toml")
    for path in (ROOT / folder).rglob(suffix)
    if path != Path(__file__) and path.relative_to(ROOT).as_posix() not in MIGRATION
)


@pytest.mark.parametrize("name", RETIRED)
def test_a_retired_name_is_gone(name):
    found = [
        path.relative_to(ROOT).as_posix()
        for path in FILES
        if re.search(rf"\b{name}\b", path.read_text(encoding="utf-8"))
    ]
    assert not found, f"{name} is called {RETIRED[name]}: {', '.join(found)}"
