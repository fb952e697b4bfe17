"""Training: it learns, resumes to the bit, and keeps the last good checkpoint."""

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from open_imagen.backends.cpu.build import library
from open_imagen.backends.cpu.layers import TrainableWinogradConv2d
from open_imagen.cascade.io import load
from open_imagen.cascade.stage import Stage
from open_imagen.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    TrainingError,
    UnknownName,
)
from open_imagen.storage import load_tensors, read_json
from open_imagen.text.store import Store, embed
from open_imagen.training.callbacks import Log, Samples, TensorBoard, Validation
from open_imagen.training.callbacks.samples import make_sheet
from open_imagen.training.checkpoint import Checkpoints
from open_imagen.training.export import write_model
from open_imagen.training.loop import Trainer
from open_imagen.training.recipe import read_recipe
from open_imagen.worlds.sources import open_source
from standins import WordEncoder, make_cascade

RECIPES = Path(__file__).parents[2] / "recipes"
TINY = RECIPES / "tiny.toml"


def recipe(tmp_path, *settings):
    return read_recipe(
        TINY,
        (
            f"out={tmp_path / 'run'}",
            "train.images=96",
            "train.save_every=32",
            "train.log_every=32",
            "train.precision=fp32",
            "data.num_captions=20",
            "ema.half_life=50",
            "stage.sampling.steps=2",
            *settings,
        ),
    )


def trainer(tmp_path, *settings, callbacks=()):
    config = recipe(tmp_path, *settings)
    return Trainer(config, open_source(config.data), WordEncoder(), callbacks)


def weights(folder):
    return load_tensors(folder / "run" / "model" / "base" / "model.safetensors")


@pytest.fixture(scope="module")
def earlier_runs(tmp_path_factory):
    """A folder with the models of earlier runs that recipes start from."""
    folder = tmp_path_factory.mktemp("earlier")
    base = read_recipe(RECIPES / "things-base.toml")
    weights = Stage(base.stage).network.named_parameters()
    write_model(base, weights, folder / "runs" / "things-base-ema", {})
    return folder


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.toml")), ids=lambda path: path.stem)
def test_every_recipe_parses_and_its_data_fit_its_stage(path, earlier_runs, monkeypatch):
    monkeypatch.chdir(earlier_runs)
    config = read_recipe(path)
    with torch.device("meta"):
        assert Stage(config.stage).config.name == config.stage.name
    if config.data["kind"] != "shapes":  # the user's own: as described they must fit together
        side = config.data.get("crop", 0) or config.data["size"]
        assert config.data["size"] == config.stage.resolution
        assert config.data.get("lowres", 0) == config.stage.lowres
        if config.data["kind"] != "things":  # 256 pixels, the paper's crops of 1024
            assert side == min(256, config.stage.resolution)
        return
    batch = open_source(config.data).batch(0, 1)
    side = config.data.get("crop") or config.stage.resolution
    assert batch.images.shape == (1, 3, side, side)
    assert (batch.lowres is not None) == bool(config.stage.lowres)


def test_a_finished_run_is_a_model(tmp_path):
    made = trainer(
        tmp_path, callbacks=[call(tmp_path / "run") for call in (Log, TensorBoard, Samples)]
    )
    made.fit()
    folder = tmp_path / "run"
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert [line["images_seen"] for line in lines] == [32, 64, 96]
    assert all(line["images_per_second"] > 0 for line in lines)
    assert list((folder / "tensorboard").iterdir())
    assert len(Checkpoints(folder / "checkpoints").all()) == 3
    model = load(folder / "model", device="cpu")
    assert model.config.trained["base"]["images"] == 96
    averaged = made.ema.weights
    assert all(torch.equal(averaged[k], v) for k, v in weights(tmp_path).items())


def test_stopping_and_resuming_changes_nothing(tmp_path):
    trainer(tmp_path / "a").fit()
    part = trainer(tmp_path / "b", "train.images=32")
    part.fit()
    rest = trainer(tmp_path / "b")
    rest.fit()
    assert rest.images_seen == 96
    # decay is 0 here, so the shorter run had the same learning rates
    one, other = weights(tmp_path / "a"), weights(tmp_path / "b")
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_schedule_free_run_resumes_to_the_bit_and_exports_its_average(tmp_path):
    pytest.importorskip("schedulefree")
    own = ("optim.name=schedulefree", "optim.decay=0.0", "ema.half_life=0")
    whole = trainer(tmp_path / "a", *own)
    whole.fit()
    trainer(tmp_path / "b", *own, "train.images=32").fit()
    rest = trainer(tmp_path / "b", *own)
    rest.fit()
    one, other = weights(tmp_path / "a"), weights(tmp_path / "b")
    assert all(torch.equal(one[name], other[name]) for name in one)
    parameters = dict(whole.network.named_parameters())
    averages = whole.optimizer.evaluation_weights(list(parameters.values()))
    for name, average in zip(parameters, averages, strict=True):
        torch.testing.assert_close(one[name], average, rtol=0, atol=1e-6)
    assert not torch.equal(one["head.weight"], parameters["head.weight"])
    assert rest.optimizer.group_state == whole.optimizer.group_state


def test_a_run_in_slices_of_time_changes_nothing(tmp_path):
    trainer(tmp_path / "a").fit()
    slices = 0
    while not trainer(tmp_path / "b", "train.stop_after_minutes=1e-9").fit():
        slices += 1
        assert slices < 10
        trainer(tmp_path / "b", f"train.images={32 * slices}").fit()
    one, other = weights(tmp_path / "a"), weights(tmp_path / "b")
    assert slices > 1
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_muon_resumes_as_well(tmp_path):
    trainer(tmp_path / "a", "optim.name=muon").fit()
    trainer(tmp_path / "b", "optim.name=muon", "train.images=64").fit()
    trainer(tmp_path / "b", "optim.name=muon").fit()
    one, other = weights(tmp_path / "a"), weights(tmp_path / "b")
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.slow
def test_three_stages_trained_apart_make_a_picture_of_1024_pixels(tmp_path):
    small = ("train.precision=fp32", "data.num_captions=8", "train.batch_size=2", "train.images=4")
    folders = []
    for name, more in (
        ("tiny", ("stage.sampling.steps=2",)),
        ("scenes-sr256", ("stage.network.preset=tiny-sr-256", "stage.sampling.steps=2")),
        ("tiny-sr1024", ("stage.sampling.steps=2",)),
    ):
        out = tmp_path / name
        config = read_recipe(RECIPES / f"{name}.toml", (f"out={out}", *small, *more))
        source = open_source(config.data)
        side = config.data.get("crop", 64)
        assert source.batch(0, 1).images.shape == (1, 3, side, side)
        if config.stage.lowres:  # crops of the input in the same proportion
            assert source.batch(0, 1).lowres.shape == (1, 3, side // 4, side // 4)
        Trainer(config, source, WordEncoder()).fit()
        folders.append(out / "model")
    stages = [stage for folder in folders for stage in load(folder, device="cpu").stages.values()]
    cascade = make_cascade(stages, name="three", encoder="words")
    cascade.save(tmp_path / "three")
    made = cascade.generate(["a red circle"])
    assert [tuple(made.stages[name].shape[2:]) for name in ("base", "sr256", "sr1024")] == [
        (64, 64),
        (256, 256),
        (1024, 1024),
    ]
    assert made.images[0].size == (1024, 1024)
    wide = cascade.generate(["a red circle"], size=(1024, 512))
    assert wide.images[0].size == (1024, 512)


def gradients(made):
    """What one step would follow."""
    found = {}
    made.optimizer.step = lambda: found.update(
        {name: p.grad.clone() for name, p in made.network.named_parameters()}
    )
    made.step(made.source.batch(0, 16))
    assert any(gradient.abs().max() > 1e-3 for gradient in found.values())
    return found


@pytest.mark.slow
def test_a_compiled_step_has_the_same_gradient_and_samples_are_not_compiled_for(tmp_path):
    one = gradients(trainer(tmp_path / "a"))
    compiled = trainer(tmp_path / "b", "train.compile=true", "train.sample_every=16")
    other = gradients(compiled)
    for name, gradient in one.items():
        torch.testing.assert_close(other[name], gradient, rtol=1e-3, atol=1e-6)
    counters = torch._dynamo.utils.counters["stats"]
    before = counters["unique_graphs"]
    assert before > 0
    Samples(tmp_path / "b" / "run")(compiled)
    assert list((tmp_path / "b" / "run" / "samples").iterdir())
    assert counters["unique_graphs"] == before


WIDE = ("stage.network.channels=32", "train.batch_size=16")


def test_a_fast_step_has_the_same_gradient(tmp_path):
    plain, fast = (
        trainer(tmp_path / str(fast), *WIDE, f"train.fast={str(fast).lower()}")
        for fast in (False, True)
    )
    assert any(isinstance(m, TrainableWinogradConv2d) for m in fast.network.modules())
    assert not any(isinstance(m, TrainableWinogradConv2d) for m in plain.network.modules())
    one, other = gradients(plain), gradients(fast)
    for name, gradient in one.items():
        torch.testing.assert_close(other[name], gradient, rtol=1e-3, atol=1e-5)


def test_without_a_compiler_training_goes_on(tmp_path, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    monkeypatch.setenv("OPEN_IMAGEN_CACHE", str(tmp_path / "cache"))
    library.cache_clear()
    with pytest.warns(UserWarning, match=r"no C\+\+ compiler 'no-such-compiler'"):
        made = trainer(tmp_path, *WIDE)
    gradients(made)
    monkeypatch.undo()
    library.cache_clear()


def test_a_run_can_start_from_another_model(tmp_path):
    trainer(tmp_path / "a").fit()
    first = weights(tmp_path / "a")
    start = trainer(tmp_path / "b", f"train.init={tmp_path / 'a' / 'run' / 'model'}")
    assert all(torch.equal(p, first[name]) for name, p in start.network.named_parameters())
    assert all(torch.equal(p, first[name]) for name, p in start.ema.weights.items())
    with pytest.raises(UnknownName):
        trainer(tmp_path / "c", "train.init=nowhere")
    with pytest.raises(CheckpointError, match="do not fit"):
        trainer(
            tmp_path / "d",
            f"train.init={tmp_path / 'a' / 'run' / 'model'}",
            "stage.network.channels=64",
        )


def test_what_reads_text_can_start_fresh(tmp_path):
    trainer(tmp_path / "a").fit()
    first, model = weights(tmp_path / "a"), tmp_path / "a" / "run" / "model"
    own = dict(trainer(tmp_path / "o").network.named_parameters())
    init = (f"train.init={model}", 'train.reinitialise=["*text*"]')
    start = trainer(tmp_path / "b", *init)
    for name, tensor in start.network.named_parameters():
        source = own if "text" in name else first
        assert torch.equal(tensor, source[name]), name
    # What is left out need not fit.
    narrow = trainer(tmp_path / "c", *init, "stage.network.attends=pixels")
    assert narrow.network.state_dict().keys() < start.network.state_dict().keys()
    start.fit()
    facts = read_json(tmp_path / "b" / "run" / "model" / "cascade.json")["trained"]["base"]
    assert facts["reinitialise"] == ["*text*"]
    with pytest.raises(ConfigError, match=r"no weight is called '\*txet\*'"):
        trainer(tmp_path / "d", init[0], 'train.reinitialise=["*txet*"]')
    with pytest.raises(ConfigError, match=r"train\.reinitialise needs a model"):
        trainer(tmp_path / "e", init[1])


def test_only_the_newest_checkpoints_are_kept(tmp_path):
    made = trainer(tmp_path, "train.keep_checkpoints=2")
    made.fit()
    assert [path.name for path in made.folder.checkpoints.all()] == ["000000000064", "000000000096"]


def test_a_loss_that_is_no_number_stops_the_run_and_keeps_the_last_good_checkpoint(tmp_path):
    made = trainer(tmp_path, "train.max_nonfinite_steps=2")
    honest = made.stage.loss
    made.stage.loss = lambda *given: (
        honest(*given) * (float("nan") if made.images_seen >= 64 else 1.0)
    )
    with pytest.raises(
        TrainingError, match=r"The last good checkpoint is .*000000000064"
    ) as caught:
        made.fit()
    assert "lr" in caught.value.hint
    assert made.nonfinite_steps == 2
    assert all(torch.isfinite(p).all() for p in made.network.parameters())
    rest = trainer(tmp_path)
    rest.fit()
    assert rest.images_seen == 96


def test_a_single_step_that_is_no_number_is_skipped_and_counted(tmp_path):
    made = trainer(tmp_path, callbacks=[Log(tmp_path / "run")])
    honest = made.stage.loss
    before = {}

    def spoiled(*given):
        bad = made.images_seen == 48
        if bad:
            before.update({n: p.detach().clone() for n, p in made.network.named_parameters()})
        return honest(*given) * (float("inf") if bad else 1.0)

    made.stage.loss = spoiled
    step = made.step

    def checked(batch):
        at = made.images_seen
        step(batch)
        if at == 48:
            assert all(torch.equal(p, before[n]) for n, p in made.network.named_parameters())

    made.step = checked
    assert made.fit()
    assert (made.images_seen, made.nonfinite_steps) == (96, 1)
    lines = (tmp_path / "run" / "log.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["nonfinite_steps"] == 1


@pytest.mark.parametrize(
    "setting", ["train.accumulate=4", "train.checkpoint_activations=true"], ids=str
)
def test_memory_is_saved_without_changing_the_gradient(tmp_path, setting):
    one, other = gradients(trainer(tmp_path / "a")), gradients(trainer(tmp_path / "b", setting))
    for name, gradient in one.items():
        torch.testing.assert_close(other[name], gradient, rtol=1e-3, atol=1e-6)


def test_parts_that_do_not_divide_the_batch_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"train\.accumulate = 3 must divide"):
        recipe(tmp_path, "train.accumulate=3")


def test_adafactor_resumes_as_well(tmp_path):
    settings = ("optim.name=adafactor", "optim.lr=1e-2")
    trainer(tmp_path / "a", *settings).fit()
    trainer(tmp_path / "b", *settings, "train.images=64").fit()
    trainer(tmp_path / "b", *settings).fit()
    one, other = weights(tmp_path / "a"), weights(tmp_path / "b")
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_embeddings_on_disk_take_the_encoder_s_place(tmp_path):
    config = recipe(tmp_path / "a")
    source = open_source(config.data)
    embed(source.captions(), WordEncoder(), tmp_path / "store")
    made = Trainer(config, source, Store(tmp_path / "store"))
    made.fit()
    trainer(tmp_path / "b").fit()
    one, other = weights(tmp_path / "a"), weights(tmp_path / "b")
    # bfloat16 on disk against float16 in memory.
    assert all(torch.allclose(one[name], other[name], atol=0.02) for name in one)


def test_embeddings_that_lack_a_caption_are_refused_before_the_first_step(tmp_path):
    config = recipe(tmp_path / "a")
    source = open_source(config.data)
    some = sorted(set(source.captions()))
    embed([*some[1:], *config.train.prompts], WordEncoder(), tmp_path / "store")
    made = Trainer(config, source, Store(tmp_path / "store"))
    with pytest.raises(DataError, match=r"lack 1 of \d+ captions, as") as caught:
        made.fit()
    assert made.images_seen == 0
    assert some[0][:20] in str(caught.value)


def test_validation_is_of_the_same_examples_at_fixed_levels(tmp_path):
    held_out = open_source({"kind": "shapes", "num_captions": 5, "seed": 9})
    lines = []
    for run in "ab":
        folder = tmp_path / run / "run"
        validation = Validation(folder, held_out, images=32)
        trainer(tmp_path / run, "train.validate_every=32", callbacks=[validation]).fit()
        text = (folder / "validation.jsonl").read_text()
        lines.append([json.loads(line) for line in text.splitlines()])
    assert lines[0] == lines[1]
    assert [line["images_seen"] for line in lines[0]] == [32, 64, 96]
    assert len(lines[0][0]["by_time"]) == Validation.LEVELS
    assert lines[0][-1]["loss"] < lines[0][0]["loss"]


def test_sigterm_ends_a_run_with_a_checkpoint_after_its_step(tmp_path):
    made = trainer(tmp_path, "train.save_every=1000")
    made.callbacks.append(
        lambda trainer: trainer.images_seen == 48 and os.kill(os.getpid(), signal.SIGTERM)
    )
    assert not made.fit()
    assert [path.name for path in made.folder.checkpoints.all()] == ["000000000048"]
    rest = trainer(tmp_path)
    assert rest.fit()
    assert rest.images_seen == 96


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_runs_killed_at_bad_moments_end_with_the_same_bits(seed):
    """A run killed up to five times, some of its checkpoints damaged; `crashes.py` does more."""
    harness = Path(__file__).with_name("crashes.py")
    done = subprocess.run(
        [sys.executable, str(harness), "--runs", "1", "--seed", str(seed)],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 embedding, 1 in a save): 0 failed" in done.stdout
    assert "restarted from the one before" in done.stdout


def test_an_unknown_setting_is_met_with_a_suggestion(tmp_path):
    with pytest.raises(UnknownName) as caught:
        recipe(tmp_path, "train.batchsize=3")
    assert caught.value.hint == "Did you mean 'train.batch_size'?"


def timed(tmp_path, monkeypatch, cost, *settings):
    """A run of batches of 4 whose steps do nothing but take ``cost(step)`` seconds; its trainer,
    and the learning rates of its steps."""
    quiet = ("train.batch_size=4", "train.save_every=100000", "optim.decay=1.0", "optim.warmup=0")
    made = trainer(tmp_path, *quiet, *settings)
    now, rates, batch = [0.0], [], made.source.batch(0, 4)
    monkeypatch.setattr(made.source, "batch", lambda index, size: batch)
    monkeypatch.setattr("open_imagen.training.loop.time", SimpleNamespace(monotonic=lambda: now[0]))

    def step(batch):
        now[0] += cost(made.images_seen // 4)
        rates.append(
            made.recipe.optim.rate(made.images_seen, made.total_images) / made.recipe.optim.lr
        )
        made._images_before_step, made.images_seen = made.images_seen, made.images_seen + batch.size

    made.step = step
    return made, rates


def test_a_run_that_must_end_in_time_learns_what_its_pace_allows(tmp_path, monkeypatch):
    """Steps of a second, the first of 30, which compiles; then of two, from the 200th on."""

    def cost(step):
        return 30 if step == 0 else 1 + (step >= 200)

    made, rates = timed(
        tmp_path, monkeypatch, cost, "train.images=4000", "train.time_budget_minutes=10"
    )
    assert made.fit()
    # 229 seconds in 200 steps, 371 in steps of two.
    assert made.images_seen == pytest.approx(4 * (200 + 371 / 2), abs=4)
    assert made.seconds == pytest.approx(600, abs=2)
    assert rates[-1] < 0.01
    assert all(after <= before for before, after in itertools.pairwise(rates[41:]))
    assert rates[300] == pytest.approx(1 - 300 / (200 + 371 / 2), abs=0.01)


def test_a_run_with_time_to_spare_learns_all_its_images(tmp_path, monkeypatch):
    settings = ("train.images=400", "train.time_budget_minutes=10")
    made, _ = timed(tmp_path, monkeypatch, lambda step: 1, *settings)
    assert made.fit()
    assert made.images_seen == 400


def test_a_stopped_run_keeps_its_time(tmp_path, monkeypatch):
    settings = ("train.images=4000", "train.time_budget_minutes=10")
    made, _ = timed(tmp_path, monkeypatch, lambda step: 2, *settings)
    made.callbacks.append(lambda one: setattr(one, "stopping", one.images_seen >= 400))
    assert not made.fit()
    assert made.total_images == pytest.approx(4 * 300, abs=4)
    again, _ = timed(tmp_path, monkeypatch, lambda step: 2, *settings)
    assert again.fit()
    assert again.seconds == pytest.approx(600, abs=2)


def test_super_resolution_trains_on_crops(tmp_path):
    config = read_recipe(
        RECIPES / "scenes-sr256.toml",
        (
            f"out={tmp_path / 'run'}",
            "stage.network={preset='tiny-sr-256'}",
            "train.images=8",
            "train.batch_size=4",
            "train.workers=0",
            "train.compile=false",
            "train.sample_every=4",
            "train.precision=fp32",
            "data.num_captions=5",
            "stage.sampling.steps=1",
        ),
    )
    made = Trainer(config, open_source(config.data), WordEncoder(), [Samples(tmp_path / "run")])
    made.fit()
    assert len(list((tmp_path / "run" / "samples").glob("*.png"))) == 2
    assert load(tmp_path / "run" / "model", device="cpu").stages["sr256"].config.lowres == 64


def test_sheets_are_rows_of_pictures():
    pictures = torch.stack([torch.full((3, 2, 2), v) for v in (-1.0, 0.0, 1.0)])
    image = make_sheet(pictures, columns=2)
    assert image.size == (4, 4)
    assert [image.getpixel(p)[0] for p in ((0, 0), (2, 0), (0, 2), (2, 2))] == [0, 128, 255, 255]


def command(folder, *settings):
    return [
        sys.executable,
        "-m",
        "open_imagen",
        "train",
        str(TINY),
        *(
            part
            for s in (f"out={folder}", "train.precision=fp32", *settings)
            for part in ("--set", s)
        ),
    ]


@pytest.mark.slow
def test_three_thousand_images_lower_the_loss_and_sigkill_changes_no_bit(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    subprocess.run(command(whole), check=True, capture_output=True)
    lines = [json.loads(line) for line in (whole / "log.jsonl").read_text().splitlines()]
    assert lines[-1]["images_seen"] >= 3000
    assert lines[-1]["loss"] < 0.5 * lines[0]["loss"]
    assert list((whole / "samples").iterdir())

    # Kill it once with a checkpoint behind it, and once more somewhere else.
    for after in (1, 4):
        process = subprocess.Popen(
            command(killed), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 300
        while process.poll() is None and time.monotonic() < deadline:
            log = killed / "log.jsonl"
            if log.is_file() and len(log.read_text().splitlines()) > after:
                break
            time.sleep(0.02)
        assert process.poll() is None, "it ended before it could be killed"
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert Checkpoints(killed / "checkpoints").all()
    subprocess.run(command(killed), check=True, capture_output=True)

    one = (whole / "model" / "base" / "model.safetensors").read_bytes()
    other = (killed / "model" / "base" / "model.safetensors").read_bytes()
    assert one == other
