"""Callbacks by name, the run page, tracking, and distances to held-out images."""

import json
import math
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from open_imagen.errors import ConfigError, MissingDependency, TrainingError, UnknownName
from open_imagen.evaluation.metrics.images import image_distance
from open_imagen.evaluation.metrics.scores import Measure
from open_imagen.training.callbacks import (
    CALLBACKS,
    CallbackContext,
    HeldOut,
    Log,
    Page,
    Samples,
    TensorBoard,
    build_callbacks,
)
from open_imagen.training.config import CALLBACKS as USUAL
from open_imagen.training.loop import Trainer
from open_imagen.training.metrics import LOGSNR_BUCKETS, MetricsRecorder
from open_imagen.training.recipe import read_recipe
from open_imagen.training.run_series import Series, read_series
from open_imagen.training.sample_tiles import SampleTiles
from open_imagen.training.throughput import peak_flops, training_flops
from open_imagen.worlds.sources import open_source
from standins import WordEncoder

TINY = Path(__file__).parents[2] / "recipes" / "tiny.toml"


def recipe(tmp_path, *settings):
    return read_recipe(
        TINY,
        (
            f"out={tmp_path / 'run'}",
            "train.images=96",
            "train.save_every=96",
            "train.log_every=32",
            "train.precision=fp32",
            "data.num_captions=20",
            "stage.sampling.steps=2",
            *settings,
        ),
    )


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "open_imagen.training.throughput.cache_directory", lambda: tmp_path / "cache"
    )
    monkeypatch.setattr("open_imagen.training.throughput.SECONDS", 0.0)
    monkeypatch.setitem(sys.modules["open_imagen.training.throughput"].SIDES, "cpu", 64)


def trainer(tmp_path, *settings, callbacks=()):
    config = recipe(tmp_path, *settings)
    return Trainer(config, open_source(config.data), WordEncoder(), callbacks)


def page_data(folder):
    text = (folder / "index.html").read_text(encoding="utf-8")
    line = next(line for line in text.splitlines() if line.startswith("const run = "))
    return json.loads(line.removeprefix("const run = ").removesuffix(";")), text


def test_the_recipe_names_its_callbacks(tmp_path):
    assert set(USUAL) <= set(CALLBACKS)
    built = build_callbacks(CallbackContext(recipe(tmp_path)))
    assert [type(one) for one in built] == [Samples, Log, TensorBoard, Page]
    few = recipe(tmp_path, 'train.callbacks=["log"]')
    assert [type(one) for one in build_callbacks(CallbackContext(few))] == [Log]
    with pytest.raises(UnknownName, match=r"train\.callbacks.*'samplse'"):
        build_callbacks(CallbackContext(recipe(tmp_path, 'train.callbacks=["samplse"]')))


def test_losses_fall_into_buckets_of_log_snr():
    recorder = MetricsRecorder()
    logsnr = torch.tensor([-20.0, -7.0, -1.0, -0.5, 9.0])
    losses = torch.tensor([1.0, 2.0, 3.0, 5.0, 7.0])
    recorder.add_step(losses.mean(), torch.ones(()), 0.1, losses, logsnr)
    recorder.report(5, 1.0, Counter())
    assert recorder.metrics.loss_by_logsnr == {
        "below -8": 1,
        "-8 to -6": 2,
        "-2 to 0": 4,
        "above 8": 7,
    }
    assert len(LOGSNR_BUCKETS) == 10
    recorder.report(5, 2.0, Counter())
    assert recorder.metrics.loss_by_logsnr == {}  # of the steps since the last report alone


def test_the_mean_of_the_buckets_is_the_loss(tmp_path):
    made = trainer(tmp_path, "train.images=32", "train.batch_size=16", callbacks=[])
    seen = []
    made.callbacks.append(lambda one: seen.append(one.metrics) if one.is_log_due else None)
    recorded = Counter()
    add = made._recorder._add_levels

    def count(losses, logsnr):
        recorded["examples"] += len(losses)
        recorded["loss"] += float(losses.sum())
        add(losses, logsnr)

    made._recorder._add_levels = count
    made.fit()
    assert recorded["examples"] == 32
    assert seen[-1].loss == pytest.approx(recorded["loss"] / 32, rel=1e-5)
    assert seen[-1].loss_by_logsnr.keys() <= set(LOGSNR_BUCKETS)


def test_the_page_of_a_run_shows_curves_samples_and_counts(tmp_path):
    folder = tmp_path / "run"
    settings = ("train.sample_every=48", 'train.prompts=["a <b>red</b> circle", "a blue star"]')
    names = 'train.callbacks=["samples", "log", "page"]'
    part = trainer(tmp_path, *settings, names, "train.images=48")
    part.callbacks += build_callbacks(CallbackContext(part.recipe))
    states = []
    part.callbacks.append(lambda one: states.append(page_data(folder)[0]["state"]))
    part.fit()
    assert set(states) == {"running"}
    assert page_data(folder)[0]["state"] == "finished"
    rest = trainer(tmp_path, *settings, names)
    rest.callbacks += build_callbacks(CallbackContext(rest.recipe))
    rest.fit()
    data, text = page_data(folder)
    assert data["images_seen"] == data["total_images"] == 96
    assert data["series"]["images"] == [32, 48, 64, 96]
    assert all(value > 0 for value in data["series"]["values"]["loss"])
    assert any(name.startswith("loss_by_logsnr/") for name in data["series"]["values"])
    assert [step["images"] for step in data["samples"]["steps"]] == [48, 96]
    assert [len(step["tiles"]) for step in data["samples"]["steps"]] == [2, 2]
    assert data["samples"]["captions"] == ["a <b>red</b> circle", "a blue star"]
    assert "<b>red" not in text  # no caption becomes markup
    assert ["examples", "20"] in data["data"]
    assert data["flops"]["rate"] > 0
    assert data["flops"]["peak"] > 0
    for foreign in ("http://", "https://"):
        assert foreign not in text.replace("http://www.w3.org/2000/svg", "")


def test_the_page_says_why_a_run_failed_and_spares_a_file_of_the_user(tmp_path, caplog):
    class Failing:
        def __call__(self, _):
            raise TrainingError("no more")

    folder = tmp_path / "run"
    made = trainer(tmp_path, callbacks=[Page(folder), Failing()])
    with pytest.raises(TrainingError):
        made.fit()
    data, _ = page_data(folder)
    assert (data["state"], data["message"]) == ("failed", "no more")
    (folder / "index.html").write_text("mine")
    with caplog.at_level("WARNING", "open_imagen.training"):
        trainer(tmp_path, callbacks=[Page(folder)]).fit()
    assert (folder / "index.html").read_text() == "mine"
    assert "is left as it is" in caplog.text


def test_a_long_run_has_a_short_series(tmp_path):
    series = Series(max_points=10)
    for k in range(1, 1001):
        series.add(k, {"loss": float(k), "bad": math.nan})
    columns = series.columns()
    assert len(columns["images"]) <= 11
    assert columns["images"][-1] == 1000
    assert "bad" not in columns["values"]
    assert columns["values"]["loss"][0] == pytest.approx(columns["images"][0] / 2 + 0.5)
    path = tmp_path / "log.jsonl"
    path.write_text('{"images_seen": 8, "loss": 2.0}\nnonsense\n{"images_seen": 16, "loss": 1.0}\n')
    assert read_series(path).columns() == {"images": [8, 16], "values": {"loss": [2.0, 1.0]}}


def test_a_page_shows_at_most_so_many_sheets(tmp_path, monkeypatch):
    from PIL import Image

    monkeypatch.setattr("open_imagen.training.sample_tiles.MAX_SHEETS", 5)
    (tmp_path / "samples").mkdir()
    (tmp_path / "samples" / "captions.json").write_text('{"captions": ["a", "b", "c", "d", "e"]}')
    for k in range(1, 22):
        Image.new("RGB", (32, 16)).save(tmp_path / "samples" / f"{k:012d}.png")
    (tmp_path / "samples" / f"{21:012d}.png").write_bytes(b"broken")
    found = SampleTiles(tmp_path).read()
    assert [step["images"] for step in found["steps"]] == [1, 6, 11, 16]
    assert all(len(step["tiles"]) == 5 for step in found["steps"])


def test_a_sheet_reaches_tensorboard(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    names = 'train.callbacks=["samples", "tensorboard"]'
    made = trainer(tmp_path, "train.sample_every=48", names)
    made.callbacks += build_callbacks(CallbackContext(made.recipe))
    made.fit()
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    assert [one.step for one in events.Images("samples")] == [48, 96]
    assert any(tag.startswith("loss_by_logsnr/") for tag in events.Tags()["scalars"])


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_a_tracker_receives_metrics_and_images(tmp_path, monkeypatch, name):
    calls = []

    def note(what):
        return lambda *args, **settings: calls.append((what, args, settings))

    library = SimpleNamespace(
        init=note("init"),
        log=note("log"),
        finish=note("finish"),
        define_metric=note("define_metric"),
        Image=lambda path: ("image", path),
    )
    monkeypatch.setitem(sys.modules, name, library)
    made = trainer(tmp_path, "train.sample_every=48", f'train.callbacks=["samples", "{name}"]')
    made.callbacks += build_callbacks(CallbackContext(made.recipe))
    made.fit()
    logged = [args[0] for what, args, _ in calls if what == "log"]
    assert [values["images_seen"] for values in logged] == [32, 48, 64, 96]
    assert all("loss" in values for values in logged if values["images_seen"] != 48)
    assert [v["images_seen"] for v in logged if "samples" in v] == [48, 96]
    steps = [settings.get("step") for what, _, settings in calls if what == "log"]
    assert steps == ([None] * 4 if name == "wandb" else [32, 48, 64, 96])
    [(_, _, begun)] = [call for call in calls if call[0] == "init"]
    assert begun["resume"] == "allow"
    assert begun["config"]["train"]["images"] == 96
    assert calls[-1][0] == "finish"


def test_a_missing_tracker_is_named_with_its_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(MissingDependency, match=r"wandb") as raised:
        build_callbacks(CallbackContext(recipe(tmp_path, 'train.callbacks=["wandb"]')))
    assert "'.[wandb]'" in str(raised.value.hint)


def test_the_distance_to_held_out_images_is_recorded(tmp_path):
    seen = []

    def distance(sampled, real):
        seen.append((sampled, real))
        return {"kid": 0.5}

    made = trainer(tmp_path, "train.distance_every=48", "train.distance_images=40")
    held_out = open_source({**made.recipe.data, "seed": 9})
    made.callbacks.append(HeldOut(tmp_path / "run", held_out, distance, 40))
    made.fit()
    text = (tmp_path / "run" / "held_out.jsonl").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert lines == [{"images_seen": 48, "kid": 0.5}, {"images_seen": 96, "kid": 0.5}]
    for sampled, real in seen:
        assert sampled.shape == real.shape == (40, 3, 64, 64)
        assert sampled.dtype == real.dtype == torch.uint8
    assert torch.equal(seen[0][1], held_out.batch(0, 40).images)


def test_an_image_is_nearer_to_its_like():
    generator = torch.Generator().manual_seed(0)
    dark = torch.randint(0, 100, (20, 3, 16, 16), generator=generator, dtype=torch.uint8)
    other = torch.randint(0, 100, (20, 3, 16, 16), generator=generator, dtype=torch.uint8)
    measure = image_distance(Measure("kid", "pixels"), torch.device("cpu"))
    near, far = measure(dark, other)["kid:pixels"], measure(dark, other + 100)["kid:pixels"]
    assert abs(near) < 0.1 * far
    with pytest.raises(ConfigError, match="at least two"):
        measure(dark[:1], other)


def test_a_measured_peak_is_kept(tmp_path, monkeypatch):
    monkeypatch.setattr("open_imagen.training.throughput._measure_peak", lambda *_: 5e9)
    assert peak_flops(torch.device("cpu"), bf16=False) == 5e9
    monkeypatch.setattr("open_imagen.training.throughput._measure_peak", lambda *_: 7e9)
    assert peak_flops(torch.device("cpu"), bf16=False) == 5e9
    assert peak_flops(torch.device("cpu"), bf16=True) == 7e9
    (tmp_path / "cache" / "peak_flops.json").write_text("nonsense")
    assert peak_flops(torch.device("cpu"), bf16=False) == 7e9


def test_training_takes_three_times_the_forward_pass(tmp_path):
    from open_imagen.models.profile import count
    from open_imagen.models.registry import resolve

    config = recipe(tmp_path)
    forward = count(*resolve(config.stage.network), 64, 32).flops
    assert training_flops(config) == 3 * forward
