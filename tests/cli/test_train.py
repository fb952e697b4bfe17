"""imagen train: what it says with and without a terminal, and how it refuses to go on."""

import re
from pathlib import Path

import pytest

from open_imagen.training.loop import Trainer
from standins import WordEncoder

TINY = Path(__file__).parents[2] / "recipes" / "tiny.toml"
DATE = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d "


@pytest.fixture
def train(imagen, monkeypatch, tmp_path):
    """imagen train of a small run, with words for its language."""
    monkeypatch.setattr("open_imagen.text.encoders.load_encoder", lambda *_: WordEncoder())

    def run(*settings):
        small = ("train.images=32", "train.save_every=16", "train.log_every=16")
        fixed = ("train.sample_every=0", "train.precision=fp32", "train.device=cpu")
        here = (f"out={tmp_path / 'run'}", "data.num_captions=5")
        chosen = (*here, *small, *fixed, *settings)
        return imagen("train", TINY, *(part for one in chosen for part in ("--set", one)))

    return run


def test_without_a_terminal_a_run_prints_a_first_line_and_a_dated_line_a_report(train, tmp_path):
    done = train()
    assert done.code == 0, done.err
    first, embedding, *reports = done.err.splitlines()
    assert re.fullmatch(
        DATE + r"Training tiny: stage base, [\d,]+ parameters, on cpu in float32; data: shapes; "
        rf"from the beginning to 32; log: {tmp_path / 'run' / 'log.jsonl'}",
        first,
    )
    assert re.fullmatch(f"{DATE}reading the captions", embedding)
    assert len(reports) == 2
    for seen, line in zip((16, 32), reports, strict=True):
        told = rf"{seen} of 32 images, loss \d\.\d{{4}}, [\d.]+ images/s, \d+ s left"
        assert re.fullmatch(DATE + told, line), line
    again = train("train.images=48").err.splitlines()
    assert "from image 32 (checkpoint 000000000032) to 48" in again[0]
    assert len(again) == 3


def test_on_a_terminal_there_is_a_bar(train, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    done = train()
    assert done.code == 0, done.err
    assert "Training tiny: stage base" in done.err
    assert "32 of 32 images" in done.err
    assert not re.search(DATE, done.err)


def test_a_damaged_checkpoint_is_told_of_and_passed_over(train, tmp_path):
    train()
    newest = tmp_path / "run" / "checkpoints" / "000000000032"
    for path in newest.iterdir():
        path.unlink()
    done = train()
    assert done.code == 0, done.err
    assert f"The checkpoint {newest} cannot be used (it is empty)" in done.err
    assert "from image 16 (checkpoint 000000000016)" in done.err


def test_a_changed_recipe_is_refused_before_anything_is_embedded(train, monkeypatch):
    train()
    monkeypatch.setattr(Trainer, "warm", lambda *_: pytest.fail("captions were embedded"))
    refused = train("optim.name=muon", "ema.sigma_rel=[0.1]")
    assert refused.code == 2
    assert "optim.name: adamw in the checkpoint, muon in the recipe" in refused.err
    assert "ema.sigma_rel: [] in the checkpoint, [0.1] in the recipe" in refused.err
    assert "Traceback" not in refused.err


def test_an_interrupt_before_the_first_step_is_no_traceback(train, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Trainer, "warm", interrupted)
    stopped = train()
    assert stopped.code == 130
    assert "Interrupted; run the same command again" in stopped.err
    assert "Traceback" not in stopped.err
