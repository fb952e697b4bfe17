"""Plans against numbers by hand, the optimiser's real state, and the running network."""

from pathlib import Path

import pytest
import torch

from open_imagen.errors import ConfigError, UnknownName
from open_imagen.planning import plan
from open_imagen.planning.accelerators import ACCELERATORS
from open_imagen.planning.plan import GIB, OVERHEAD
from open_imagen.training import Trainer, read_recipe
from open_imagen.worlds.sources import open_source
from standins import WordEncoder

RECIPES = Path(__file__).parents[2] / "recipes"
TINY = str(RECIPES / "tiny.toml")


def test_days_and_money_by_hand():
    found = plan("imagen-base-64", "h100", 256, utilisation=0.5, price=2.0)
    rate = 256 * 989e12 * 0.5 / (3 * found.flops_per_image)
    assert found.images_per_second == pytest.approx(rate)
    assert found.images == 2048 * 2_500_000
    assert found.days == pytest.approx(found.images / rate / 86_400)
    assert found.dollars == pytest.approx(found.days * 24 * 256 * 2)
    assert found.batch_per_accelerator == 8


def test_sharing_out_divides_what_belongs_to_the_weights():
    alone, shared = (plan("imagen-base-64", "h100", 64, sharding=s) for s in ("none", "full"))
    numbers = alone.parameters
    own = alone.weights_gib - 2 * numbers / GIB  # without the bfloat16 copy
    assert 12 * numbers < own * GIB < 20 * numbers
    assert own / 64 < shared.weights_gib < own / 64 + 1
    assert shared.activations_gib == alone.activations_gib


def test_what_does_not_fit_says_why_and_what_helps():
    found = plan("imagen-base-64", "rtx4090", 8)
    assert not found.fits
    assert any("--sharding full" in note for note in found.notes)
    found = plan("imagen-base-64", "rtx4090", 32, sharding="full")
    assert not found.fits
    assert any("activations" in note for note in found.notes)
    assert plan("small-base-64", "rtx4090", 8).fits


def test_a_recipe_is_planned_with_its_own_schedule():
    found = plan(TINY, "rtx4090", 1, settings=("train.accumulate=4",))
    assert (found.images, found.batch_size, found.batch_per_accelerator) == (3000, 16, 4)
    again = plan(TINY, "rtx4090", 1, settings=("train.checkpoint_activations=true",))
    assert again.train_flops_per_image == pytest.approx(4 / 3 * found.train_flops_per_image)
    assert again.activations_gib < plan(TINY, "rtx4090", 1).activations_gib


@pytest.mark.parametrize("name", ["adamw", "muon", "adafactor"])
def test_parameters_and_optimiser_state_are_what_a_run_holds(tmp_path, name):
    settings = (f"out={tmp_path}", f"optim.name={name}", "stage.network.preset=small-base-64")
    config = read_recipe(Path(TINY), settings)
    trainer = Trainer(config, open_source(config.data), WordEncoder())
    found = plan(TINY, "h100", 1, settings=settings)
    parameters = sum(p.numel() for p in trainer.network.parameters())
    assert found.parameters == parameters
    state = sum(
        value.numel() * value.element_size()
        for values in trainer.optimizer.state.values()
        for value in values.values()
    )
    wanted = 12 * parameters + state  # weights, gradients and average are float32
    planned = found.weights_gib * GIB - 2 * parameters
    assert planned == pytest.approx(wanted, rel=0.02)


def test_operations_are_those_of_the_running_network(tmp_path):
    config = read_recipe(Path(TINY), (f"out={tmp_path}", "train.fast=false"))
    trainer = Trainer(config, open_source(config.data), WordEncoder())
    from torch.utils.flop_counter import FlopCounterMode

    from open_imagen.models.profile import TOKENS
    from open_imagen.types import TextEmbedding

    text = TextEmbedding(torch.randn(1, TOKENS, 384), torch.ones(1, TOKENS, dtype=torch.bool))
    counter = FlopCounterMode(display=False)
    with counter:
        out = trainer.network(torch.randn(1, 3, 64, 64), torch.zeros(1), text)
        out.sum().backward()
    # The first layer's gradient with respect to the image is not computed.
    found = plan(TINY, "h100", 1)
    assert counter.get_total_flops() == pytest.approx(found.train_flops_per_image, rel=0.02)


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        (("imagen-base-46",), UnknownName, "preset"),
        (("imagen-base-64", "h1000"), UnknownName, "accelerator"),
        (("imagen-base-64", "h100", 3), ConfigError, "cannot be shared out to 3"),
        (("imagen-base-64", "h100", 0), ConfigError, "--gpus"),
        (("imagen-base-64", "h100", 8, None, "half"), UnknownName, "sharding"),
    ],
)
def test_wrong_plans_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        plan(*arguments)


def test_the_table_is_plausible():
    for row in ACCELERATORS.values():
        assert 7 < row.memory < 300
        assert 20 < row.teraflops < 5000
        assert row.price > 0
    assert OVERHEAD > 0
