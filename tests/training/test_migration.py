"""Runs of earlier formats resume: their settings and records under the current names."""

import json
from pathlib import Path

import pytest
import torch

from open_imagen.storage import load_tensors, read_json, write_json
from open_imagen.training.integrity import CHECKSUMS, checksums, write_checksums
from open_imagen.training.loop import Trainer
from open_imagen.training.migration import migrate_records, migrate_settings, migrate_state
from open_imagen.training.posthoc_ema import Profile, find_snapshots
from open_imagen.training.recipe import read_recipe
from open_imagen.worlds.sources import open_source
from standins import WordEncoder

TINY = Path(__file__).parents[2] / "recipes" / "tiny.toml"


def test_settings_and_state_get_their_current_names():
    settings = {
        "train": {"keep": 3, "within": 0.0, "batch_size": 16, "fresh": ["*text*"]},
        "ema": {"lengths": [0.05], "half_life": 50},
        "reading": {"layers": 2, "least": 0.05, "kinds": [["red", "blue"]], "noise": 1.0},
        "distill": {"teacher": "", "backward": False},
        "stage": {
            "guided": 2.0,
            "objective": {"error": "l1"},
            "network": {"text_denoiser_threshold": 0.05},
        },
    }
    change = {"images": 32, "key": "optim.lr", "before": "0.002", "now": "0.001"}
    state = {"format": 2, "seen": 64, "length": 96, "settings": settings, "changes": [change]}
    found = migrate_state(state)
    assert (found["images_seen"], found["total_images"]) == (64, 96)
    assert found["changes"][0]["images_seen"] == 32
    assert found["settings"] == {
        "train": {
            "keep_checkpoints": 3,
            "time_budget_minutes": 0.0,
            "batch_size": 16,
            "reinitialise": ["*text*"],
        },
        "ema": {"sigma_rel": [0.05], "half_life": 50},
        "text_denoising": {
            "layers": 2,
            "threshold": 0.05,
            "word_classes": [["red", "blue"]],
            "token_noise": 1.0,
        },
        "distill": {"teacher": "", "backward": False},
        "stage": {
            "distilled_guidance": 2.0,
            "objective": {"error": "l1"},
            "network": {"text_denoiser_threshold": 0.05},
        },
    }
    assert migrate_settings(found["settings"]) == found["settings"]
    assert migrate_state({"format": 3, "seen": 1}) == {"format": 3, "seen": 1}


@pytest.mark.parametrize("state_format", [2, 3])
def test_sections_of_format_3_get_their_current_names(state_format):
    things = {"kind": "things", "mixture": {"single": 1.0, "alike": 2.0, "pair": 3.0}}
    settings = {
        "data": {"kind": "mixture", "sources": [things, {"kind": "folder", "path": "photos"}]},
        "validation": {**things, "mixture": {"related": 4.0, "three": 5.0}},
        "augment": {"told": False, "flip": 0.5},
        "stage": {},
    }
    found = migrate_state({"format": state_format, "settings": settings})["settings"]
    assert found == {
        "data": {
            "kind": "mixture",
            "sources": [
                {
                    "kind": "things",
                    "mixture": {"single": 1.0, "counting": 2.0, "two_things": 3.0},
                },
                {"kind": "folder", "path": "photos"},
            ],
        },
        "validation": {"kind": "things", "mixture": {"relation": 4.0, "three_things": 5.0}},
        "augment": {"conditional": False, "flip": 0.5},
        "stage": {},
    }
    assert migrate_state({"format": 3, "settings": found})["settings"] == found


def test_records_get_their_current_names_and_a_cut_line_stays(tmp_path):
    lines = [
        json.dumps({"images": 16, "loss": 1.0, "skipped": {"empty file": 1}, "nonfinite_steps": 2}),
        json.dumps({"images_seen": 32, "loss": 0.5}),
        '{"images": 48, "lo',
    ]
    (tmp_path / "log.jsonl").write_text("\n".join(lines))
    (tmp_path / "averages").mkdir()
    (tmp_path / "averages" / "000000000016-0.050.safetensors").write_bytes(b"x")
    migrate_records(tmp_path)
    migrate_records(tmp_path)
    first, second, last = (tmp_path / "log.jsonl").read_text().splitlines()
    wanted = {"images_seen": 16, "loss": 1.0, "skipped": {"empty file": 1}, "nonfinite_steps": 2}
    assert json.loads(first) == wanted
    assert [second, last] == lines[1:]
    assert list(find_snapshots(tmp_path / "posthoc_ema")) == [Profile(16, 0.05)]


def trainer(folder, *settings):
    small = ("train.images=64", "train.save_every=32", "train.precision=fp32")
    own = (f"out={folder / 'run'}", "data.num_captions=20", "train.sample_every=0")
    config = read_recipe(TINY, (*own, *small, *settings))
    return Trainer(config, open_source(config.data), WordEncoder())


def make_old(checkpoint):
    """Give a checkpoint the names of format 2."""
    state = read_json(checkpoint / "state.json")
    settings = state["settings"]
    settings["train"]["keep"] = settings["train"].pop("keep_checkpoints")
    settings["ema"]["lengths"] = settings["ema"].pop("sigma_rel")
    assert settings["stage"]["objective"]["error"] == "l2"
    settings["stage"]["objective"]["error"] = "l2"
    old = {"format": 2, "seen": state["images_seen"], "length": state["total_images"]}
    write_json(checkpoint / "state.json", {**old, "seconds": 1.0, "settings": settings})
    (checkpoint / CHECKSUMS).unlink()
    write_checksums(checkpoint, checksums(checkpoint.iterdir()))


def test_a_run_of_an_earlier_format_ends_with_the_same_bits(tmp_path):
    trainer(tmp_path / "a").fit()
    trainer(tmp_path / "b", "train.images=32").fit()
    [checkpoint] = (tmp_path / "b" / "run" / "checkpoints").iterdir()
    make_old(checkpoint)
    resumed = trainer(tmp_path / "b")
    resumed.begin()
    assert (resumed.images_seen, resumed.folder.changes) == (32, [])
    assert resumed.fit()
    one, other = (
        load_tensors(tmp_path / run / "run" / "model" / "base" / "model.safetensors")
        for run in "ab"
    )
    assert all(torch.equal(one[name], other[name]) for name in one)
