"""Two networks in one: each picture as the network of its level makes it; saved; hastened."""

import dataclasses
import json

import pytest
import torch

from open_imagen.cascade.pipeline import Cascade, join, load
from open_imagen.cascade.sampling import Sampling
from open_imagen.cascade.stage import Stage, StageConfig
from open_imagen.diffusion.samplers import SAMPLERS
from open_imagen.diffusion.schedules import Schedule
from open_imagen.errors import ConfigError, UnknownName
from open_imagen.models.experts import Experts, ExpertsConfig
from open_imagen.models.fast import hasten, slow
from open_imagen.models.registry import resolve
from open_imagen.models.survey import count
from open_imagen.types import TextEmbedding
from standins import WordEncoder

EARLY = {"preset": "tiny-base-64"}
LATE = {"preset": "tiny-base-64", "channels": 16, "patch": 4, "head_width": 16}


def randomised(network):
    generator = torch.Generator().manual_seed(0)
    for weight in network.parameters():
        torch.nn.init.normal_(weight, std=0.05, generator=generator)
    return network.requires_grad_(False)


@pytest.fixture
def experts():
    return randomised(Experts(ExpertsConfig(early=EARLY, late=LATE, begin=-1.0)))


@pytest.fixture
def stage(experts):
    config = StageConfig(
        name="base",
        resolution=64,
        network={"network": "experts", "early": EARLY, "late": LATE, "begin": -1.0},
        schedule=Schedule(logsnr_min=-9.0),
        sampling=Sampling(steps=4, guidance=2.0),
    )
    stage = Stage(config)
    stage.network.load_state_dict(experts.state_dict())
    return stage.requires_grad_(False)


def inputs(number=4):
    generator = torch.Generator().manual_seed(1)
    z = torch.randn(number, 3, 64, 64, generator=generator)
    text = TextEmbedding(
        torch.randn(number, 5, 384, generator=generator), torch.ones(number, 5, dtype=torch.bool)
    )
    return z, text


def test_every_picture_is_made_by_the_network_of_its_level(experts):
    z, text = inputs()
    level = torch.tensor([-1.0, -1.001, 3.0, -8.0])
    early, late = (part(z, level, text) for part in (experts.early, experts.late))
    expected = torch.stack([late[0], early[1], late[2], early[3]])
    torch.testing.assert_close(experts(z, level, text), expected)
    torch.testing.assert_close(experts(z, level, experts.read(text)), expected)
    alone = experts(z[:2] * 0 + z[:2], level[[0, 0]], text.select([0, 1]))
    torch.testing.assert_close(alone[0], late[0])


def test_both_learn_though_one_has_nothing_to_do(experts):
    z, text = inputs(2)
    experts.requires_grad_(True)
    experts(z, torch.tensor([2.0, 3.0]), text).square().mean().backward()
    assert all(weight.grad is not None for weight in experts.parameters())
    assert all(weight.grad.abs().max() == 0 for weight in experts.early.parameters())
    assert sum(float(weight.grad.abs().max()) > 0 for weight in experts.late.parameters()) > 50


def test_a_stage_asks_the_one_and_then_the_other(stage, monkeypatch):
    z, text = inputs(2)
    settings = Sampling(threshold="none", sampler="ddim").over(stage.config.sampling).complete()
    levels = [-8.0, -1.5, -1.0, 2.0, float("inf")]
    called = []
    for name in ("early", "late"):
        part = getattr(stage.network, name)
        part.register_forward_pre_hook(
            lambda module, given, name=name: called.append(
                (name, len(given[0]), float(given[1][0]))
            )
        )
    whole = SAMPLERS["ddim"](stage.denoiser(text, settings), z, levels, None)
    assert called == [
        (name, 4, level)
        for name, level in zip(("early", "early", "late", "late"), levels, strict=False)
    ]

    # As two stages of one network each, which share the way.
    def alone(name):
        config = dataclasses.replace(stage.config, network=getattr(stage.network.config, name))
        one = Stage(config)
        one.network.load_state_dict(getattr(stage.network, name).state_dict())
        return one.requires_grad_(False).denoiser(text, settings)

    early, late = alone("early"), alone("late")
    halfway = SAMPLERS["ddim"](early, z, levels[:3], None)
    torch.testing.assert_close(whole, SAMPLERS["ddim"](late, halfway, levels[2:], None))


def test_saved_and_loaded_they_draw_the_same(stage, tmp_path):
    cascade = Cascade("two", "minilm-l6", [stage], device="cpu", text=WordEncoder())
    cascade.save(tmp_path / "two")
    again = load(tmp_path / "two", "cpu")
    again.text = cascade.text
    found = [one.generate(["a red circle"], seed=3).stages["base"] for one in (cascade, again)]
    assert found[0].equal(found[1])
    saved = again.stages["base"].config.network
    assert saved["early"]["network"] == "unet", "what a preset meant is written out"
    assert saved["early"]["channels"] == 32


def test_two_kinds_of_networks_can_share_a_stage():
    plain, efficient = ({"preset": name} for name in ("imagen-sr-256-unet", "imagen-sr-256"))
    for early, late in ((plain, efficient), (efficient, plain)):
        config = ExpertsConfig(early=early, late=late)
        assert (config.lowres, config.image_channels, config.text_width) == (True, 3, 4096)


def test_what_they_take_is_counted_together():
    config = ExpertsConfig(early=EARLY, late=LATE, begin=-1.0)
    parts = [count(*resolve(part), 64, 8) for part in (EARLY, LATE)]
    whole = count("experts", config, 64, 8)
    assert whole.parameters == sum(part.parameters for part in parts)
    assert whole.flops == sum(part.flops for part in parts)


def test_two_models_are_joined_into_one(stage, tmp_path):
    """What has been trained apart, in the end one file, draws as both together."""
    for name in ("early", "late"):
        config = dataclasses.replace(stage.config, network=getattr(stage.network.config, name))
        one = Stage(config)
        one.network.load_state_dict(getattr(stage.network, name).state_dict())
        Cascade(name, "minilm-l6", [one], device="cpu", text=WordEncoder()).save(tmp_path / name)
    early, late = tmp_path / "early", tmp_path / "late"
    join("two", [early], "cpu", experts={"base": (late, -1.0)}).save(tmp_path / "two")
    joined = load(tmp_path / "two", "cpu")
    joined.text = WordEncoder()
    whole = Cascade("whole", "minilm-l6", [stage], device="cpu", text=WordEncoder())
    found = [one.generate(["a red circle"], seed=3).stages["base"] for one in (joined, whole)]
    assert found[0].equal(found[1])

    with pytest.raises(UnknownName, match="sr256"):
        join("two", [early], "cpu", experts={"sr256": (late, -1.0)})
    settings = json.loads((late / "base" / "config.json").read_text())
    settings["objective"]["prediction"] = "x"
    (late / "base" / "config.json").write_text(json.dumps(settings))
    with pytest.raises(ConfigError, match="predicts x, and its stage eps"):
        join("two", [early], "cpu", experts={"base": (late, -1.0)})


def test_hastened_they_are_the_same(stage):
    z, text = inputs(2)
    settings = Sampling(threshold="none").over(stage.config.sampling).complete()
    with torch.inference_mode():
        plain = [stage.denoiser(text, settings)(z, level) for level in (-4.0, 2.0)]
        hasten(stage.network)
        fast = [stage.denoiser(text, settings)(z, level) for level in (-4.0, 2.0)]
        slow(stage.network)
    for one, other in zip(plain, fast, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "wrong, words",
    [
        ({"begin": float("inf")}, "begin"),
        ({"late": {"network": "experts"}}, "experts again"),
        ({"late": {"preset": "tiny-base-64", "level": "step"}}, "log-SNRs"),
        ({"late": {"preset": "tiny-base-64", "text_width": 768}}, "text_width"),
        ({"late": {"preset": "tiny-sr-256"}}, "lowres"),
    ],
)
def test_two_that_do_not_fit_are_refused(wrong, words):
    with pytest.raises(ConfigError, match=words):
        ExpertsConfig(**{"early": EARLY, "late": LATE, **wrong})
