"""Going on with a run: with which settings, from which checkpoint, and what its records say."""

import json
import logging
import os
import signal
from pathlib import Path

import pytest
import torch

from open_imagen.config import plain
from open_imagen.errors import ConfigError, TrainingError
from open_imagen.storage import load_tensors, read_json, write_json
from open_imagen.training.callbacks import Log
from open_imagen.training.compatibility import compare, settings_of
from open_imagen.training.integrity import CHECKSUMS, find_damage, find_nonfinite
from open_imagen.training.loop import Trainer
from open_imagen.training.posthoc_ema import find_snapshots
from open_imagen.training.recipe import read_recipe
from open_imagen.worlds.sources import open_source
from standins import WordEncoder

TINY = Path(__file__).parents[2] / "recipes" / "tiny.toml"


def trainer(tmp_path, *settings, callbacks=()):
    config = read_recipe(
        TINY,
        (
            f"out={tmp_path / 'run'}",
            "train.images=64",
            "train.save_every=32",
            "train.log_every=16",
            "train.precision=fp32",
            "data.num_captions=20",
            "ema.half_life=50",
            *settings,
        ),
    )
    return Trainer(config, open_source(config.data), WordEncoder(), callbacks)


def checkpoints(tmp_path):
    return sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir())


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """A run that has seen 32 of its images."""
    folder = tmp_path_factory.mktemp("begun")
    trainer(folder, "train.images=32").fit()
    return folder


REFUSED = {
    "optim.name=muon": "optim.name: adamw in the checkpoint, muon in the recipe",
    "ema.sigma_rel=[0.05]": "ema.sigma_rel: [] in the checkpoint, [0.05] in the recipe",
    "data.num_captions=30": "data.num_captions: 20 in the checkpoint, 30 in the recipe",
    "stage.objective.prediction=eps": "stage.objective.prediction: x in the checkpoint, eps in",
    "stage.objective.max_weight=5.0": "stage.objective.max_weight: 100.0 in the checkpoint, 5.0",
    "stage.schedule.reference=64": "stage.schedule.reference: 24 in the checkpoint, 64 in the",
    "stage.network.channels=64": "stage.network.channels: 32 in the checkpoint, 64 in the",
    "train.text_drop=0.2": "train.text_drop: 0.1 in the checkpoint, 0.2 in the recipe",
    "encoder=t5-small": "encoder: minilm-l6 in the checkpoint, t5-small in the recipe",
}


@pytest.mark.parametrize("setting", REFUSED)
def test_what_a_run_must_keep_is_named_setting_by_setting(begun, setting):
    with pytest.raises(ConfigError) as caught:
        trainer(begun, setting).begin()
    assert REFUSED[setting] in str(caught.value)
    hint = caught.value.hint
    assert all(way in hint for way in ("Put these settings back", "another name", "train.init"))
    assert not any(word in f"{caught.value} {hint}".lower() for word in ("remove", "delete"))
    assert checkpoints(begun) == ["000000000032"]


def test_all_differences_are_named_at_once(begun):
    with pytest.raises(ConfigError) as caught:
        trainer(begun, "optim.name=muon", "train.text_drop=0.5").begin()
    assert "optim.name: " in str(caught.value)
    assert "train.text_drop: " in str(caught.value)


FREE = (
    "name=another",
    "train.images=640",
    "train.log_every=7",
    "train.save_every=8",
    "train.sample_every=9",
    "train.keep_checkpoints=1",
    "train.stop_after_minutes=3.0",
    "train.accumulate=2",
    "train.prompts=[]",
    "stage.sampling.steps=3",
    "train.parallel=fsdp",
)


def test_a_run_may_last_longer_and_tell_more(begun, caplog):
    made = trainer(begun, *FREE)
    with caplog.at_level(logging.WARNING, "open_imagen.training"):
        made.begin()
    assert (made.images_seen, made.folder.changes, caplog.messages) == (32, [], [])


def test_a_new_learning_rate_is_recorded(tmp_path, caplog):
    trainer(tmp_path, "train.images=32").fit()
    with caplog.at_level(logging.WARNING, "open_imagen.training"):
        assert trainer(tmp_path, "optim.lr=1e-3").fit()
    change = "optim.lr: 0.002 in the checkpoint, 0.001 in the recipe"
    assert f"Since image 32 {change}." in caplog.messages
    facts = read_json(tmp_path / "run" / "model" / "cascade.json")["trained"]["base"]
    wanted = {"images_seen": 32, "key": "optim.lr", "before": "0.002", "now": "0.001"}
    assert facts["changes"] == [wanted]
    # It stays on record.
    assert trainer(tmp_path, "optim.lr=1e-3", "train.images=80").fit()
    facts = read_json(tmp_path / "run" / "model" / "cascade.json")["trained"]["base"]
    assert facts["changes"] == [wanted]


def test_every_setting_of_a_recipe_is_in_a_table_or_must_stay():
    """Settings that may change are called what they are called in recipes."""
    from open_imagen.training.compatibility import FREE, RECORDED

    config = read_recipe(TINY)
    values = plain(config)
    of_data = ("index", "workers", "max_bad", "max_pixels", "cache_gib", "tries", "timeout")
    described = ("examples", "shards", "shares", "bucket_sizes.*")
    known = {f"data.{key}" for key in of_data + described}
    for section in ("train", "optim", "ema"):
        known |= {f"{section}.{key}" for key in values[section]}
    known |= {"name", "out", "embeddings", "adapter.name"}
    for pattern in FREE + RECORDED:
        plainly = pattern.replace("data*", "data").replace("*_every", "log_every")
        assert plainly in known or plainly in ("validation.*", "stage.sampling.*"), pattern


def test_data_are_compared_as_they_describe_themselves():
    recipe = plain(read_recipe(TINY))

    def settings(data):
        return settings_of(recipe, {}, data)

    one = {"kind": "folder", "path": "a", "examples": 10, "size": 64}
    assert compare(settings(one), settings(dict(one))) == []
    [path] = compare(settings(one), settings({**one, "path": "b"}))
    assert str(path) == "data.path: a in the checkpoint, b in the recipe"
    mixed = {"kind": "mixture", "sources": [one, one]}
    [inner] = compare(settings(mixed), settings({**mixed, "sources": [one, {**one, "path": "c"}]}))
    assert inner.key == "data.sources.1.path"
    [more] = compare(settings(mixed), settings({**mixed, "sources": [one, one, one]}))
    assert str(more) == "data.sources.number: 2 in the checkpoint, 3 in the recipe"
    [kind] = compare(settings(one), settings(mixed))
    assert kind.key == "data.kind"


def test_a_setting_of_another_version_is_no_difference():
    recipe = plain(read_recipe(TINY))
    older = {**recipe, "optim": {**recipe["optim"], "gone": 1}}
    del older["optim"]["clip"]
    assert compare(settings_of(older, {}, {}), settings_of(recipe, {}, {})) == []


def forget_settings(folder):
    """Make a checkpoint one of an earlier version."""
    [path] = (folder / "run" / "checkpoints").iterdir()
    facts = read_json(path / "state.json")
    names = {"seen": "images_seen", "seconds": "seconds", "length": "total_images"}
    kept = {old: facts[name] for old, name in names.items()}
    write_json(path / "state.json", {**kept, "network": facts["settings"]["stage"]["network"]})
    (path / CHECKSUMS).unlink()


def test_checkpoints_of_earlier_versions_are_gone_on_from(tmp_path):
    trainer(tmp_path / "a").fit()
    trainer(tmp_path / "b", "train.images=32").fit()
    forget_settings(tmp_path / "b")
    for setting, conditioned in {
        "optim.name=muon": "state of the optimiser (optim.name): exp_avg, exp_avg_sq, step in the "
        "checkpoint, exp_avg, exp_avg_sq, momentum, step in the recipe",
        "ema.sigma_rel=[0.05]": "ema.sigma_rel: none in the checkpoint, 0.050 in the recipe",
        "stage.network.channels=64": "stage.network.channels: 32 in the checkpoint, 64",
    }.items():
        with pytest.raises(ConfigError) as caught:
            trainer(tmp_path / "b", setting).begin()
        assert conditioned in str(caught.value)
    assert trainer(tmp_path / "b").fit()
    one, other = (
        load_tensors(tmp_path / run / "run" / "model" / "base" / "model.safetensors")
        for run in "ab"
    )
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_weights_that_are_not_finite_are_never_saved(tmp_path):
    made = trainer(tmp_path, "train.save_every=16")

    def spoil(trainer):
        if trainer.images_seen == 48:  # the loss of this step was fine
            state = trainer.optimizer.state[next(trainer.network.parameters())]
            state["exp_avg_sq"].view(-1)[0] = float("inf")

    made.callbacks.append(spoil)
    with pytest.raises(
        TrainingError, match=r"optimizer\.exp_avg_sq\..* no longer finite"
    ) as caught:
        made.fit()
    assert "The last good checkpoint is" in str(caught.value)
    assert str(tmp_path / "run" / "checkpoints" / "000000000032") in str(caught.value)
    assert checkpoints(tmp_path) == ["000000000016", "000000000032"]
    rest = trainer(tmp_path)
    assert rest.fit()


def test_weights_whose_loss_is_not_finite_do_not_push_good_ones_out(tmp_path):
    # A learning rate that ruins the weights in one step, and a save after each.
    trainer(tmp_path, "train.images=32", "train.save_every=16").fit()
    settings = (
        "train.save_every=16",
        "optim.lr=1e30",
        "optim.warmup=0",
        "train.keep_checkpoints=2",
    )
    for _ in range(3):
        with pytest.raises(TrainingError) as caught:
            trainer(tmp_path, *settings, "train.images=960").fit()
        [named] = [word for word in str(caught.value).split() if "checkpoints/" in word]
        assert Path(named.rstrip(".")).is_dir()
    for name in checkpoints(tmp_path):
        path = tmp_path / "run" / "checkpoints" / name
        [file] = path.glob("*.safetensors")
        assert not find_damage(path)
        assert not find_nonfinite(load_tensors(file))
    assert "000000000032" in checkpoints(tmp_path)


def test_the_message_names_a_good_checkpoint_and_not_a_damaged_one(tmp_path):
    made = trainer(tmp_path, "train.save_every=16", "train.max_nonfinite_steps=1")
    honest = made.stage.loss

    def loss(*given):
        if made.images_seen < 48:
            return honest(*given)
        made.folder.checkpoints.wait()
        newest = made.folder.checkpoints.all()[-1]
        assert newest.name == "000000000048"
        (newest / "state.json").write_text("{}")
        return honest(*given) * float("nan")

    made.stage.loss = loss
    with pytest.raises(TrainingError, match=r"The last good checkpoint is .*/000000000032\."):
        made.fit()


def records(tmp_path, name="log.jsonl"):
    return [json.loads(line) for line in (tmp_path / "run" / name).read_text().splitlines()]


def test_after_a_kill_no_step_stands_twice_in_the_log(tmp_path):
    class Killed(Exception):
        pass

    def kill(trainer):
        if trainer.images_seen == 48:
            raise Killed

    averages = ("ema.sigma_rel=[0.05]", "ema.snapshot_every=16")
    log = Log(tmp_path / "run")
    with pytest.raises(Killed):
        trainer(tmp_path, *averages, callbacks=[log, kill]).fit()
    with (tmp_path / "run" / "log.jsonl").open("a") as file:
        file.write('{"images_seen": 50, "lo')  # cut short
    assert [line.images_seen for line in find_snapshots(tmp_path / "run" / "posthoc_ema")] == [
        16,
        32,
    ]
    made = trainer(tmp_path, *averages, callbacks=[Log(tmp_path / "run")])
    made.begin()
    assert [line["images_seen"] for line in records(tmp_path)] == [16, 32]
    made.fit()
    assert [line["images_seen"] for line in records(tmp_path)] == [16, 32, 48, 64]
    lost = (tmp_path / "run" / "lost-log.jsonl").read_text().splitlines()
    assert [line[:18] for line in lost] == ['{"images_seen": 48', '{"images_seen": 50']


def test_what_a_dead_run_was_writing_is_removed_and_nothing_else(tmp_path):
    run = tmp_path / "run"
    stray = [
        run / "checkpoints" / ".000000000064.partial" / "x.safetensors",
        run / "samples" / ".000000000064.png.ab_c12x4",
        run / "model" / "base" / ".model.safetensors.abcdefgh",
        run / ".recipe.toml.abcdefgh",
        run / "posthoc_ema" / ".000000000064-0.050.safetensors.abcdefgh",
    ]
    others = [
        run / "checkpoints" / ".notes.partial" / "x",
        run / "samples" / ".mine.png.abcdefgh",
        run / ".recipe.toml",
        run / "recipe.toml.abcdefgh",
        run / "notes.txt",
    ]
    for path in stray + others:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    trainer(tmp_path).begin()
    assert not any(path.exists() for path in stray)
    assert all(path.exists() for path in others)


def test_a_second_run_in_the_folder_is_refused_and_removes_nothing(tmp_path):
    first = trainer(tmp_path)
    first.begin()
    partial = tmp_path / "run" / "checkpoints" / ".000000000032.partial"
    partial.mkdir(parents=True)
    with pytest.raises(TrainingError, match="is in use by process"):
        trainer(tmp_path).fit()
    assert partial.is_dir()
    assert first.fit()
    assert trainer(tmp_path, "train.images=80").fit()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_run_with_a_message_and_a_checkpoint(tmp_path, number, caplog):
    def send(trainer):
        if trainer.images_seen == 16:
            os.kill(os.getpid(), number)

    made = trainer(tmp_path, "train.save_every=1000", callbacks=[send])
    handlers = [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)]
    with caplog.at_level(logging.WARNING, "open_imagen.training"):
        assert not made.fit()
    assert [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert checkpoints(tmp_path) == ["000000000016"]
    assert caplog.messages[0].startswith(f"{number.name}: stopping after this step, with a check")


def test_a_second_interrupt_stops_at_once(tmp_path):
    def send(trainer):
        if trainer.images_seen == 16:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        trainer(tmp_path, callbacks=[send]).fit()
    assert trainer(tmp_path).fit()  # the folder is free again


def test_a_recipe_of_the_user_s_in_the_run_folder_is_not_overwritten(tmp_path):
    own = tmp_path / "run" / "recipe.toml"
    own.parent.mkdir()
    own.write_text("# mine\n")
    with pytest.raises(ConfigError, match=r"recipe\.toml was not written by a run"):
        trainer(tmp_path).fit()
    assert own.read_text() == "# mine\n"
    own.unlink()
    trainer(tmp_path).fit()
    assert trainer(tmp_path).fit()


def test_settings_that_came_later_were_at_their_defaults(begun):
    """A checkpoint that knows nothing of an option is not one that was made with it."""
    made = trainer(begun, "augment.flip=0.5", "augment.conditional=false", "train.text_drop=0.2")
    before = settings_of(plain(trainer(begun).recipe), made.stage.saved_network, {})
    del before["augment"]
    del before["train"]["text_drop"]
    now = settings_of(plain(made.recipe), made.stage.saved_network, {})
    found = {change.key: str(change) for change in compare(before, now)}
    assert found["augment.flip"] == "augment.flip: 0.0 in the checkpoint, 0.5 in the recipe"
    assert found.keys() == {"augment.flip", "augment.conditional", "train.text_drop"}
    # The first checkpoints recorded a few settings alone: of the others nothing is known.
    few = {"stage": {"network": before["stage"]["network"]}, "adapter": {"rank": 0}}
    assert compare(few, now) == []
