"""The shipped model in miniature: every part of its training, its folder and its card."""

import sys
from pathlib import Path

import pytest

from open_imagen.cascade.io import load
from open_imagen.storage import read_json
from things_judging import write_atlas, write_judge

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
import train_things


@pytest.mark.slow
def test_all_of_it_in_miniature(tmp_path, capsys, recwarn):
    atlas = write_atlas(tmp_path / "atlas", sizes=(64, 256), large=4)
    judge = write_judge(tmp_path / "judge.safetensors")
    runs, out = tmp_path / "runs", tmp_path / "things"
    words = ["--runs", runs, "--atlas", atlas, "--out", out, "--judge", judge, "--device", "cpu"]
    words = [*map(str, words), "--fast", "--partial-atlas", "--threads", "1", "--ema-by", "loss"]
    assert train_things.main(words) == 0, capsys.readouterr().err
    cascade = load(out, device="cpu")
    assert list(cascade.stages) == ["base", "sr256", "sr1024"]
    assert cascade.config.world == "things"
    assert cascade.stage("base").config.sampling.steps == 8
    assert cascade.stage("base", "none").config.sampling.steps == 30
    assert (cascade.config.default_stages, cascade.has_alpha) == (2, True)
    scores = read_json(runs / "things-base-ema" / "ema-choice.json")["scores"]
    assert set(scores) == {"own", "0.030", "0.050", "0.080", "0.120", "0.180"}
    text = (out / "README.md").read_text()
    assert "| label: a thing by its label |" in text
    assert (out / "card" / "samples.webp").is_file()
    before = {path: path.stat().st_mtime_ns for path in runs.rglob("*") if path.is_file()}
    (out / "README.md").unlink()
    assert train_things.main(words) == 0
    assert (out / "README.md").read_text() == text
    after = {path: path.stat().st_mtime_ns for path in before}
    changed = [path for path in before if after[path] != before[path]]
    assert [path.name for path in changed] == ["report.json"]


def test_a_scaled_run_has_its_settings_scaled(tmp_path):
    found = {}

    def train(name, folder, device, minutes, settings):
        found[name] = dict(one.split("=", 1) for one in settings)
        return True

    before, train_things.train = train_things.train, train
    try:
        words = ["--runs", str(tmp_path), "--images-scale", "0.01"]
        options = train_things.options_of(words)
        assert train_things.train_base(train_things.Job(options, "cpu"))
    finally:
        train_things.train = before
    assert list(found) == list(train_things.BASE)
    last = found["things-base-composition"]
    assert last["train.images"] == str(12_000 // 64 * 64)
    assert last["train.init"] == str(tmp_path / "things-base" / "model")
    assert 900 < int(last["ema.snapshot_every"]) < 1000
    assert "train.compile" not in last


def test_wrong_words_are_refused(capsys):
    with pytest.raises(SystemExit):
        train_things.main(["--images-scale", "0"])
    assert "--images-scale 0.0 must be above 0" in capsys.readouterr().err
