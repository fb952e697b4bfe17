"""Augmentation with conditioning: exact transforms, labels, and nothing leaks."""

import math
from pathlib import Path

import pytest
import torch

from open_imagen.cascade.stage import Stage
from open_imagen.errors import ConfigError
from open_imagen.models.profile import count
from open_imagen.models.registry import build, construct, resolve
from open_imagen.storage import load_tensors
from open_imagen.training.augment import NUM_LABELS, TRANSFORMS, AugmentConfig, Transforms
from open_imagen.training.loop import Trainer
from open_imagen.training.recipe import read_recipe
from open_imagen.types import LowRes
from open_imagen.worlds.sources import open_source
from standins import WordEncoder

TINY = Path(__file__).parents[2] / "recipes" / "tiny.toml"
NOTHING = Transforms(
    flip=torch.tensor([False]),
    vertical_flip=torch.tensor([False]),
    turns=torch.tensor([0]),
    **{name: torch.zeros(1) for name in ("right", "down", "zoom_x", "zoom_y", "brightness", "hue")},
    **{name: torch.ones(1) for name in ("scale", "zoom", "contrast", "saturation")},
)
ALL = AugmentConfig(**dict.fromkeys(TRANSFORMS, 0.5))


def done(image, lowres=None, **transforms):
    values = {name: torch.tensor([value]) for name, value in transforms.items()}
    return NOTHING._replace(**values)(ALL, image, lowres)


def numbered(side=4):
    image = torch.arange(float(side * side)).view(1, 1, side, side) / side**2
    return image.expand(1, 3, side, side)


MOVED = {
    "flip": ({"flip": True}, [[1, 0], [3, 2]]),
    "vertical flip": ({"vertical_flip": True}, [[2, 3], [0, 1]]),
    "quarter turn": ({"turns": 1}, [[1, 3], [0, 2]]),
    "half turn": ({"turns": 2}, [[3, 2], [1, 0]]),
    "three quarters": ({"turns": 3}, [[2, 0], [3, 1]]),
    "right": ({"right": 0.5}, [[0, 0], [2, 2]]),
    "down": ({"down": 0.5}, [[0, 1], [0, 1]]),
    "left": ({"right": -0.5}, [[1, 1], [3, 3]]),
    "flip, then a quarter turn": ({"flip": True, "turns": 1}, [[0, 2], [1, 3]]),
}


@pytest.mark.parametrize("name", MOVED)
def test_flips_turns_and_translations_only_move_pixels(name):
    transforms, wanted = MOVED[name]
    image = numbered(2)
    moved, _ = done(image, **transforms)
    assert torch.equal(moved[0, 0] * 4, torch.tensor(wanted, dtype=torch.float32))


def test_nothing_changes_no_bit():
    image, lowres = torch.rand(1, 4, 16, 16) * 2 - 1, torch.rand(1, 4, 4, 4) * 2 - 1
    same, small = done(image, lowres)
    assert torch.equal(same, image)
    assert torch.equal(small, lowres)


def test_scale_and_zoom_move_points_to_where_they_must_be():
    # A ramp is one after bicubic resampling, to a twentieth of a pixel, away from the borders.
    side = 32
    places = (torch.arange(side) + 0.5) / side * 2 - 1  # -1 .. 1
    ramp = (places / 2).expand(1, 3, side, side)
    inside = slice(10, 22)
    half, _ = done(ramp, scale=2.0)
    torch.testing.assert_close(half[..., inside], ramp[..., inside] / 2, rtol=0, atol=2e-3)
    # A window of half the width at the right edge has its centre at 1/2.
    window, _ = done(ramp, zoom=2.0, zoom_x=1.0, zoom_y=-1.0)
    wanted = (places / 2 + 0.5) / 2
    found = window[0, 0, :, inside]
    torch.testing.assert_close(found, wanted[inside].expand(side, -1), rtol=0, atol=2e-3)


def test_colours_are_mapped_as_the_field_has_them():
    red = torch.tensor([0.8, 0.2, 0.2])
    image = (2 * red - 1).view(1, 3, 1, 1).expand(1, 3, 8, 8)

    def mapped(**transforms):
        return (done(image, **transforms)[0][0, :, 0, 0] + 1) / 2

    torch.testing.assert_close(mapped(brightness=0.1), red + 0.1)
    torch.testing.assert_close(mapped(contrast=0.5), (red - 0.5) / 2 + 0.5)
    torch.testing.assert_close(mapped(saturation=0.0), torch.full((3,), 0.4))
    torch.testing.assert_close(mapped(hue=2 * math.pi / 3), torch.tensor([0.2, 0.8, 0.2]))
    torch.testing.assert_close(mapped(hue=-2 * math.pi / 3), torch.tensor([0.2, 0.2, 0.8]))
    torch.testing.assert_close(mapped(brightness=0.5), torch.tensor([1.0, 0.7, 0.7]))


def test_premultiplied_colours_are_recoloured_as_if_they_were_not():
    colors, alpha = torch.rand(1, 3, 8, 8), torch.rand(1, 1, 8, 8)
    image = torch.cat([colors * alpha, alpha], dim=1) * 2 - 1
    how = {"brightness": 0.1, "contrast": 1.3, "saturation": 0.7, "hue": 0.4}
    found = (done(image, **how)[0] + 1) / 2
    plain = (done(colors * 2 - 1, **how)[0] + 1) / 2
    torch.testing.assert_close(found[:, :3], plain * alpha, rtol=0, atol=1e-5)
    torch.testing.assert_close(found[:, 3:], alpha)
    zoomed = (done(image, scale=1.3)[0] + 1) / 2
    assert (zoomed[:, :3] <= zoomed[:, 3:]).all()


def test_both_images_of_a_super_resolution_pair_get_the_same_transform():
    small = torch.rand(1, 3, 8, 8) * 2 - 1
    large = small.repeat_interleave(4, 2).repeat_interleave(4, 3)
    exact = {"flip": True, "turns": 1, "right": 0.1, "down": -0.3, "hue": 0.5, "contrast": 0.8}
    up, low = done(large, small, **exact)
    torch.testing.assert_close(up, low.repeat_interleave(4, 2).repeat_interleave(4, 3))


def test_what_is_drawn_depends_on_seed_and_index_alone():
    whole = Transforms.sample(ALL, 100, 16, seed=3)
    for start in (0, 5):
        part = Transforms.sample(ALL, 100 + start, 4, seed=3)
        for mine, all_of_them in zip(part, whole, strict=True):
            assert torch.equal(mine, all_of_them[start : start + 4])
    other = Transforms.sample(ALL, 100, 16, seed=4)
    assert not torch.equal(other.scale, whole.scale)


def test_every_transform_is_drawn_as_often_and_as_strongly_as_it_should():
    config = AugmentConfig(**dict.fromkeys(TRANSFORMS, 0.25))
    drawn = Transforms.sample(config, 0, 20_000, seed=1)
    changed = {
        "flip": drawn.flip,
        "vertical_flip": drawn.vertical_flip,
        "rotate": drawn.turns > 0,
        "scale": drawn.scale != 1,
        "zoom": drawn.zoom != 1,
        "translate": drawn.right != 0,
        "brightness": drawn.brightness != 0,
        "contrast": drawn.contrast != 1,
        "saturation": drawn.saturation != 1,
        "hue": drawn.hue != 0,
    }
    assert list(changed) == list(TRANSFORMS)
    for name, is_changed in changed.items():
        assert float(is_changed.float().mean()) == pytest.approx(0.25, abs=0.015), name
    together = torch.stack([one.float() for one in changed.values()])
    correlations = torch.corrcoef(together) - torch.eye(10)
    assert correlations.abs().max() < 0.03  # each is drawn by itself
    scaled = drawn.scale[changed["scale"]].log2()
    assert float(scaled.std()) == pytest.approx(config.scale_std, rel=0.05)
    assert drawn.zoom.max() <= config.max_zoom
    assert set(drawn.turns.tolist()) == {0, 1, 2, 3}
    assert set(Transforms.sample(config, 0, 99, square=False).turns.tolist()) == {0, 2}
    never = Transforms.sample(AugmentConfig(), 0, 1000)
    assert not never.labels(AugmentConfig()).any()
    always = Transforms.sample(AugmentConfig(flip=1.0), 0, 1000)
    assert always.flip.all()


def test_labels_are_zero_where_nothing_was_done_and_tell_transforms_apart():
    assert not NOTHING.labels(ALL).any()
    seen = set()
    for name, value in {
        **{"flip": True, "vertical_flip": True, "turns": 1, "right": 0.1, "down": 0.1},
        **{"scale": 1.2, "zoom": 1.2, "brightness": 0.1, "contrast": 1.1, "saturation": 0.5},
        "hue": 0.3,
    }.items():
        labels = NOTHING._replace(**{name: torch.tensor([value])}).labels(ALL)
        assert labels.shape == (1, NUM_LABELS)
        places = tuple(labels[0].nonzero().flatten().tolist())
        assert places
        assert places not in seen
        seen.add(places)


@pytest.mark.parametrize("preset", ["tiny-base-64", "tiny-sr-256"])
def test_a_zero_vector_is_a_network_without(preset):
    torch.manual_seed(0)
    plain = build(preset)
    conditioned = build(preset, augment_labels=NUM_LABELS)
    side = 64
    z, text = torch.randn(2, 3, side, side), WordEncoder()(["a b", "c"])
    low = LowRes(torch.randn_like(z), torch.zeros(2)) if "sr" in preset else None
    for name, weight in plain.named_parameters():
        if not weight.abs().sum():
            torch.nn.init.normal_(weight, std=0.05)
        conditioned.get_parameter(name).data.copy_(weight.data)
    want = plain(z, torch.zeros(2), text, low)
    labels = torch.ones(2, NUM_LABELS)
    assert torch.equal(conditioned(z, torch.zeros(2), text, low), want)
    assert torch.equal(
        conditioned(z, torch.zeros(2), text, low, augment_labels=labels), want
    )  # zeroed
    torch.nn.init.normal_(conditioned.augment.weight)
    assert torch.equal(conditioned(z, torch.zeros(2), text, low), want)
    assert torch.equal(conditioned(z, torch.zeros(2), text, low, augment_labels=0 * labels), want)
    assert not torch.equal(conditioned(z, torch.zeros(2), text, low, augment_labels=labels), want)


def test_nothing_leaks_from_transforms_that_are_told():
    """Linear regression on flipped and brightened images: E[image | labels] is linear in the
    labels here, so that least squares is exact, and at label zero it is the plain mean."""
    config = AugmentConfig(flip=0.5, brightness=0.5)
    plain = torch.full((1, 3, 4, 4), -0.4)
    plain[..., 0] = 0.2
    images = plain.repeat(512, 1, 1, 1)
    drawn = Transforms.sample(config, 0, 512)
    changed, _ = drawn(config, images)
    labels = drawn.labels(config)
    inputs = torch.cat([labels, torch.ones(512, 1)], dim=1).double()
    fitted = torch.linalg.pinv(inputs) @ changed.flatten(1).double()
    torch.testing.assert_close(fitted[-1].float().view_as(plain), plain, rtol=0, atol=1e-4)
    unconditional = changed.mean(0)  # what a network without labels learns
    assert (unconditional - plain[0]).abs().max() > 0.1


def trainer(tmp_path, *settings):
    config = read_recipe(
        TINY,
        (
            f"out={tmp_path / 'run'}",
            *("train.images=64", "train.save_every=32", "train.log_every=16"),
            *("train.precision=fp32", "data.num_captions=20", "ema.half_life=50"),
            *settings,
        ),
    )
    return Trainer(config, open_source(config.data), WordEncoder())


ON = ("augment.flip=0.5", "augment.scale=0.5", "augment.hue=0.5")


def weights(folder):
    return load_tensors(folder / "run" / "model" / "base" / "model.safetensors")


def test_a_run_is_told_resumes_to_the_bit_and_is_sampled_without(tmp_path):
    whole = trainer(tmp_path / "a", *ON)
    assert whole.recipe.stage.network["augment_labels"] == NUM_LABELS
    whole.fit()
    assert whole.network.augment.weight.abs().sum() > 0
    trainer(tmp_path / "b", *ON, "train.images=32").fit()
    trainer(tmp_path / "b", *ON).fit()
    one, other = weights(tmp_path / "a"), weights(tmp_path / "b")
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_without_the_option_there_are_no_new_weights(tmp_path):
    names = dict(trainer(tmp_path).network.named_parameters())
    assert not any("augment" in name for name in names)


def test_a_model_that_was_told_is_fine_tuned_without(tmp_path):
    trainer(tmp_path / "a", *ON).fit()
    model = tmp_path / "a" / "run" / "model"
    recipe = read_recipe(TINY, (f"train.init={model}", f"out={tmp_path / 'b'}"))
    kind, _ = resolve(recipe.stage.network)
    assert kind == "unet"
    values = {"train.init": model, "stage.network.augment_labels": NUM_LABELS}
    again = trainer(tmp_path / "b", *(f"{key}={value}" for key, value in values.items()))
    assert not again.network.augment.weight.requires_grad
    again.fit()
    before, after = weights(tmp_path / "a"), weights(tmp_path / "b")
    assert torch.equal(before["augment.weight"], after["augment.weight"])
    assert not torch.equal(before["head.weight"], after["head.weight"])


def test_an_old_model_becomes_one_that_is_told(tmp_path):
    trainer(tmp_path / "a").fit()
    model = tmp_path / "a" / "run" / "model"
    with pytest.warns(match="augment.weight"):
        trainer(tmp_path / "b", f"train.init={model}", *ON).fit()
    assert "augment.weight" in weights(tmp_path / "b")


def test_without_conditioning_images_are_only_transformed(tmp_path):
    made = trainer(tmp_path, *ON, "augment.conditional=false")
    assert made.recipe.stage.network.get("augment_labels", 0) == 0
    made.fit()
    trainer(tmp_path / "plain").fit()
    one, other = weights(tmp_path), weights(tmp_path / "plain")
    assert one.keys() == other.keys()
    assert not torch.equal(one["head.weight"], other["head.weight"])


WRONG = {
    "augment.flip=1.5": "augment.flip = 1.5 must be a probability",
    "augment.scale_std=0.0": "augment.scale_std = 0.0",
    "augment.max_zoom=1.0": "augment.max_zoom = 1.0",
    "augment.max_hue=2.0": "augment.max_hue = 2.0",
    "augment.flop=0.5": "flop",
}


@pytest.mark.parametrize("setting", WRONG)
def test_wrong_values_are_named(setting):
    with pytest.raises(ConfigError) as caught:
        read_recipe(TINY, (setting,))
    assert WRONG[setting] in str(caught.value)


def test_a_network_of_another_width_of_labels_is_refused():
    with pytest.raises(ConfigError, match="augment_labels = 15, not 3"):
        read_recipe(TINY, (*ON, "stage.network.augment_labels=3"))


def test_the_stage_of_a_told_network_is_built_from_its_config():
    recipe = read_recipe(TINY, ON)
    with torch.device("meta"):
        stage = Stage(recipe.stage)
        copy = construct("unet", resolve(stage.saved_network)[1])
    assert stage.saved_network["augment_labels"] == NUM_LABELS
    assert copy.augment is not None


@pytest.mark.parametrize("preset", ["tiny-base-64", "tiny-sr-256"])
def test_a_told_network_is_counted(preset):
    values = {"preset": preset, "augment_labels": NUM_LABELS}
    found = count(*resolve(values), 64)
    [row] = [row for row in found.rows if row.name == "augment"]
    assert row.parameters == NUM_LABELS * row.output[0]
    assert found.parameters == count(*resolve({"preset": preset}), 64).parameters + row.parameters
