"""Objectives and optimisers by name: a recipe chooses them, and a new one needs no other file."""

from pathlib import Path

import pytest
import torch

from open_imagen.errors import UnknownName
from open_imagen.training.loop import Trainer
from open_imagen.training.objectives import OBJECTIVES
from open_imagen.training.objectives.base import ObjectiveSpec
from open_imagen.training.optim import OPTIMIZERS, OptimConfig
from open_imagen.training.recipe import read_recipe
from open_imagen.worlds.sources import open_source
from standins import WordEncoder

RECIPES = Path(__file__).parents[2] / "recipes"


@pytest.mark.parametrize(
    "recipe, objective",
    [
        ("tiny", "diffusion"),
        ("scenes-base-distill", "distillation"),
        ("scenes-base-reading", "text_denoising"),
    ],
)
def test_a_recipe_has_an_objective_by_name(recipe, objective):
    assert read_recipe(RECIPES / f"{recipe}.toml").objective == objective
    assert set(OBJECTIVES) == {"diffusion", "distillation", "text_denoising"}


def test_optimisers_have_names():
    assert set(OPTIMIZERS) == {"adafactor", "adamw", "muon", "schedulefree"}
    with pytest.raises(UnknownName) as caught:
        OptimConfig(name="adamv")
    assert caught.value.hint == "Did you mean 'adamw'?"


def test_an_objective_may_train_a_part_of_the_network(tmp_path, monkeypatch):
    def build(config, context):
        return lambda images, text, noise, lowres=None: context.stage.loss(images, text, noise)

    spec = ObjectiveSpec(build, trainable="head", single_process=True)
    monkeypatch.setitem(OBJECTIVES._entries, "diffusion", spec)
    small = ("train.images=16", "train.batch_size=8", "train.precision=fp32")
    own = (f"out={tmp_path / 'run'}", "data.num_captions=5", "train.sample_every=0")
    config = read_recipe(RECIPES / "tiny.toml", (*small, *own))
    trainer = Trainer(config, open_source(config.data), WordEncoder())
    before = {name: p.detach().clone() for name, p in trainer.network.named_parameters()}
    assert trainer.fit()
    changed = {
        name.split(".")[0]
        for name, p in trainer.network.named_parameters()
        if not torch.equal(p, before[name])
    }
    assert changed == {"head"}
