"""A model folder from the newest checkpoint of a run that has not ended."""

import shutil
from pathlib import Path

import pytest
import torch

from open_imagen.errors import CheckpointError, ConfigError
from open_imagen.storage import load_tensors, read_json
from open_imagen.training.checkpoint_model import export_checkpoint, is_run
from open_imagen.training.loop import Trainer
from open_imagen.training.recipe import read_recipe
from open_imagen.worlds.sources import open_source
from standins import WordEncoder

TINY = Path(__file__).parents[2] / "recipes" / "tiny.toml"


def train(folder, *more):
    recipe = read_recipe(TINY, (f"out={folder}", "train.images=32", "train.device=cpu", *more))
    Trainer(recipe, open_source(recipe.data, "cpu"), WordEncoder()).fit()
    return folder


def test_a_checkpoint_becomes_the_model_of_its_averages(tmp_path):
    run = train(tmp_path / "run")
    assert is_run(run)
    assert export_checkpoint(run, tmp_path / "model") == 32
    header = read_json(tmp_path / "model" / "cascade.json")
    assert header["trained"]["base"]["images"] == header["trained"]["base"]["of"] == 32
    found, wanted = (
        load_tensors(folder / "base" / "model.safetensors")
        for folder in (tmp_path / "model", run / "model")
    )
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in found)
    config, wanted_config = (
        read_json(folder / "base" / "config.json") for folder in (tmp_path / "model", run / "model")
    )
    assert config == wanted_config


def test_what_is_no_run_is_refused(tmp_path):
    assert not is_run(tmp_path)
    with pytest.raises(CheckpointError, match="no good checkpoint"):
        export_checkpoint(tmp_path, tmp_path / "model")
    run = train(tmp_path / "run")
    for file in (run / "checkpoints").rglob("*.safetensors"):
        file.write_bytes(b"")
    with pytest.raises(CheckpointError, match="no good checkpoint"):
        export_checkpoint(run, tmp_path / "model")


def test_an_adapter_is_no_model_alone(tmp_path):
    base = train(tmp_path / "base")
    shutil.rmtree(base / "checkpoints")
    init = f"train.init={base / 'model'}"
    run = train(tmp_path / "run", init, "adapter.rank=2")
    with pytest.raises(ConfigError, match="part of a network"):
        export_checkpoint(run, tmp_path / "model")
