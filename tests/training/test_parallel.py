"""Several processes learn what one learns, and go on from each other's checkpoints."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from open_imagen.data.loader import Loader
from open_imagen.errors import ConfigError, UnknownName
from open_imagen.storage import load_tensors
from open_imagen.training.recipe import read_recipe

WORKER = Path(__file__).with_name("worker.py")
pytestmark = pytest.mark.skipif(
    not torch.distributed.is_available(), reason="this torch has no torch.distributed"
)


def launched(out, processes, *settings, restarts=0, **environment):
    """The exit code, and all that was printed. Into a file: a pipe would be waited for as long as
    any process holds it."""
    launch = [sys.executable]
    if processes > 1:
        launch += ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
        launch += [f"--max-restarts={restarts}"]
    log = out.with_name(f"{out.name}.log")
    with log.open("w") as file:
        code = subprocess.run(
            [*launch, str(WORKER), str(out), *settings],
            stdout=file,
            stderr=subprocess.STDOUT,
            env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
            timeout=240,
        ).returncode
    return code, log.read_text()


def run(out, processes, *settings, **more):
    """Losses of every step and final weights."""
    code, printed = launched(out, processes, *settings, **more)
    assert code == 0, printed[-3000:]
    losses = dict(json.loads((out / "losses.json").read_text()))
    return losses, load_tensors(out / "model" / "base" / "model.safetensors")


def assert_alike(found, wanted, loss=1e-5, weight=1e-4):
    for one, other in zip(found, wanted, strict=True):
        assert one.keys() == other.keys()
    for seen, value in found[0].items():
        assert value == pytest.approx(wanted[0][seen], rel=0, abs=loss)
    for name, value in found[1].items():
        torch.testing.assert_close(value, wanted[1][name], rtol=0, atol=weight)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    return run(tmp_path_factory.mktemp("alone"), 1)


@pytest.mark.parametrize("kind", ["ddp", "fsdp"])
def test_two_processes_learn_what_one_learns(tmp_path, alone, kind):
    # 20 steps of a global batch of 16, in two parts: sums in another order, and nothing else.
    found = run(tmp_path, 2, f"train.parallel={kind}", "train.accumulate=2")
    assert len(found[0]) == 20
    assert_alike(found, alone)


LOOKING = (
    "train.images=96",
    "train.sample_every=32",
    "train.validate_every=32",
    "stage.sampling.steps=3",
    "ema.sigma_rel=[0.05]",
    "ema.snapshot_every=48",
)


@pytest.fixture(scope="module")
def looked_alone(tmp_path_factory):
    out = tmp_path_factory.mktemp("looked")
    return out, run(out, 1, *LOOKING)


@pytest.mark.parametrize("kind", [pytest.param("ddp", marks=pytest.mark.slow), "fsdp"])
def test_two_processes_sample_validate_and_export_what_one_does(tmp_path, looked_alone, kind):
    out, wanted = looked_alone
    # What follows a sample trains on: the exchange of weights must be undone to the bit.
    assert_alike(run(tmp_path, 2, *LOOKING, f"train.parallel={kind}"), wanted)
    names = [f"samples/{seen:012d}.png" for seen in (32, 64, 96)]
    for name in names:
        one, other = (np.asarray(Image.open(f / name)).astype(int) for f in (out, tmp_path))
        assert one.std() > 1
        assert np.abs(one - other).max() <= 1
    lines, others = (
        [json.loads(line) for line in (f / "validation.jsonl").read_text().splitlines()]
        for f in (out, tmp_path)
    )
    assert [line["images_seen"] for line in others] == [32, 64, 96]
    for line, other in zip(lines, others, strict=True):
        assert other["loss"] == pytest.approx(line["loss"], abs=1e-4)
        assert other["by_time"] == pytest.approx(line["by_time"], abs=1e-4)
    for path in (out / "posthoc_ema").iterdir():
        one, other = load_tensors(path), load_tensors(tmp_path / "posthoc_ema" / path.name)
        for name, tensor in one.items():
            torch.testing.assert_close(other[name], tensor, rtol=0, atol=1e-4)


OPTIONS = {
    "augmentation": (
        *("augment.flip=0.5", "augment.scale=0.5", "augment.translate=0.5", "augment.hue=0.5"),
        "train.images=64",
    ),
    "schedulefree": ("optim.name=schedulefree", "train.images=64"),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ddp", "fsdp"])
@pytest.mark.parametrize("option", OPTIONS)
def test_options_learn_the_same_in_two_processes(tmp_path, option, kind):
    if option == "schedulefree":
        pytest.importorskip("schedulefree")
    wanted = run(tmp_path / "one", 1, *OPTIONS[option])
    found = run(tmp_path / "two", 2, *OPTIONS[option], f"train.parallel={kind}")
    assert_alike(found, wanted)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ddp", "fsdp"])
def test_muon_learns_the_same_in_two_processes(tmp_path, kind):
    # A few steps: where there is bfloat16 it orthogonalises in that, which magnifies rounding.
    settings = ("optim.name=muon", "train.images=64")
    wanted = run(tmp_path / "one", 1, *settings)
    found = run(tmp_path / "two", 2, *settings, f"train.parallel={kind}")
    assert_alike(found, wanted, loss=1e-4, weight=2e-3)


@pytest.mark.slow
def test_adafactor_learns_the_same_in_shards(tmp_path):
    settings = ("optim.name=adafactor", "optim.lr=1e-2")
    wanted = run(tmp_path / "one", 1, *settings)
    found = run(tmp_path / "two", 2, *settings, "train.parallel=fsdp")
    # Steps are as long where the gradient is nothing but rounding: of weights without an effect,
    # as the bias before a norm. Such weights part, and the losses do not.
    assert_alike(found, wanted, loss=1e-4, weight=5e-2)


@pytest.mark.parametrize("first, second", [(2, 1), (1, 2)])
def test_a_checkpoint_of_shards_is_resumed_by_another_number(tmp_path, alone, first, second):
    shards = "train.parallel=fsdp"
    run(tmp_path, first, shards, "train.images=160")
    written = tmp_path / "checkpoints" / "000000000160"
    assert len(list(written.glob("*.safetensors"))) == first
    losses, weights = run(tmp_path, second, shards)
    assert list(losses) == list(range(176, 336, 16))
    wanted = ({seen: alone[0][seen] for seen in losses}, alone[1])
    assert_alike((losses, weights), wanted)


@pytest.mark.slow
def test_all_processes_pass_over_the_same_damaged_checkpoint(tmp_path, alone):
    settings = ("train.parallel=fsdp", "train.save_every=80")
    run(tmp_path, 2, *settings, "train.images=240")
    shards = sorted((tmp_path / "checkpoints" / "000000000240").glob("*.safetensors"))
    # Of a checkpoint in two shards one, which only the second process reads whole.
    data = bytearray(shards[1].read_bytes())
    data[-5] ^= 1
    shards[1].write_bytes(data)
    code, printed = launched(tmp_path, 2, *settings)
    assert code == 0, printed[-3000:]
    assert printed.count("cannot be used") == 1
    assert f"{shards[1].name} is not what was written" in printed
    losses = dict(json.loads((tmp_path / "losses.json").read_text()))
    assert list(losses) == list(range(176, 336, 16))
    weights = load_tensors(tmp_path / "model" / "base" / "model.safetensors")
    assert_alike((losses, weights), ({seen: alone[0][seen] for seen in losses}, alone[1]))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ddp", "fsdp"])
def test_when_a_process_dies_all_are_started_again_and_go_on(tmp_path, alone, kind):
    settings = (f"train.parallel={kind}", "train.save_every=80")
    losses, weights = run(tmp_path, 2, *settings, restarts=1, DIE="240")
    assert (tmp_path / "died").exists()
    # Of the second life: it went on from a checkpoint, not from the beginning.
    assert min(losses) in (96, 176, 256)
    assert_alike((losses, weights), ({k: alone[0][k] for k in losses}, alone[1]))


def test_processes_take_equal_parts_of_every_step():
    class Numbers:
        def batch(self, index, size):
            return list(range(index, index + size))

    whole = Loader(Numbers(), 6, workers=0).after(12)
    parts = [Loader(Numbers(), 6, workers=k, rank=k, ranks=3).after(12) for k in range(3)]
    for _ in range(4):
        assert next(whole) == [k for part in parts for k in next(part)]


def test_a_batch_that_cannot_be_shared_out_is_refused(tmp_path):
    code, printed = launched(tmp_path, 2, "train.batch_size=15")
    assert code != 0
    assert "train.batch_size = 15 must be a multiple of 2" in printed


def test_an_unknown_kind_is_refused():
    with pytest.raises(UnknownName, match=r"train\.parallel"):
        read_recipe(WORKER.parents[2] / "recipes" / "tiny.toml", ("train.parallel=dpp",))
    with pytest.raises(ConfigError):
        read_recipe(WORKER.parents[2] / "recipes" / "tiny.toml", ("train.parallell=ddp",))
