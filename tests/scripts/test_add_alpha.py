"""Models that are given alpha draw what they drew, opaque."""

import dataclasses
import sys
from pathlib import Path

import pytest
import torch

from open_imagen.cascade.stage import Stage
from open_imagen.diffusion.losses import Objective
from open_imagen.errors import ConfigError
from standins import make_cascade, make_stages

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
from add_alpha import add_alpha


def predicting_x(stage):
    config = dataclasses.replace(stage.config, objective=Objective(prediction="x", space="v"))
    again = Stage(config)
    again.network.load_state_dict(stage.network.state_dict())
    return again.eval().requires_grad_(False)


def test_the_same_prediction_and_an_opaque_one():
    base, sr = (predicting_x(stage) for stage in make_stages())
    plain = make_cascade([base, sr], name="plain")
    stages = [add_alpha(stage, letters=4) for stage in (base, sr)]
    rgba = make_cascade(stages, name="rgba")
    text = plain.text(["a cat"])
    z, level = torch.randn(1, 4, 64, 64), torch.zeros(1)
    found = rgba.stages["base"].network(z, level, text)
    torch.testing.assert_close(found[:, :3], base.network(z[:, :3], level, text))
    assert torch.equal(found[:, 3:], torch.ones(1, 1, 64, 64))
    drawn = rgba.generate("a cat").stages["sr256"]
    assert (drawn[:, 3] >= 254).all()


def test_what_cannot_be_converted_is_refused():
    with pytest.raises(ConfigError, match="predict x"):
        add_alpha(make_stages()[0])
