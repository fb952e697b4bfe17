"""Transparency: exact compositing, files that keep it, models with and without."""

import numpy as np
import pytest
import torch
from PIL import Image

from open_imagen.cascade.alpha import over, parse_background, premultiplied, straight, to_image
from open_imagen.cascade.io import load
from open_imagen.cascade.records import open_image, read_record, save_png
from open_imagen.cascade.stage import Stage
from open_imagen.cascade.stage_config import StageConfig
from open_imagen.errors import CheckpointError, ConfigError
from standins import make_cascade, make_stages

WRONG_CHANNELS = [{"image_channels": 5}, {"image_channels": 4, "out_channels": 6}]
HALF_RED = torch.tensor([128, 0, 0, 128], dtype=torch.uint8)[:, None, None]


@pytest.fixture(scope="module")
def with_alpha():
    stages = make_stages(image_channels=4)
    return make_cascade(stages)


@pytest.mark.parametrize(
    ("background", "color"),
    [
        (None, (255, 255, 255)),
        ("transparent", None),
        ("#0a141E", (10, 20, 30)),
        ("red", (255, 0, 0)),
    ],
)
def test_backgrounds_by_name(background, color):
    assert parse_background(background) == color


@pytest.mark.parametrize("background", ["", "#12", "#12345g", "reddish", "hsl(0,0%,0%)"])
def test_what_is_no_background_is_refused(background):
    with pytest.raises(ConfigError, match="is not a colour"):
        parse_background(background)


def test_compositing_is_exact():
    # 128 + (1 - 128/255) * 200 = 227.6; (1 - 128/255) * (100, 50) = 49.8, 24.9
    assert over(HALF_RED, (200, 100, 50)).flatten().tolist() == [228, 50, 25]
    assert straight(HALF_RED).flatten().tolist() == [255, 0, 0, 128]
    batch = torch.stack([HALF_RED, HALF_RED])
    assert torch.equal(over(batch, (200, 100, 50))[1], over(HALF_RED, (200, 100, 50)))


def test_compositing_is_what_pillow_makes_of_it():
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (9, 7, 4), dtype=np.uint8), "RGBA")
    behind = Image.new("RGBA", image.size, (10, 200, 90))
    behind.alpha_composite(image)
    ours = np.asarray(to_image(premultiplied(image), (10, 200, 90))).astype(int)
    assert abs(ours - np.asarray(behind.convert("RGB"))).max() <= 1


def test_opaque_images_survive_the_way_in_and_out():
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8), "RGB")
    assert np.array_equal(to_image(premultiplied(image)), image)
    assert np.array_equal(to_image(premultiplied(image), None).convert("RGB"), image)


def test_a_model_with_alpha_draws_on_what_it_is_asked_for(with_alpha, tmp_path):
    on = {
        background: with_alpha.generate("a cat", seed=3, background=background)
        for background in (None, "transparent", "#102030")
    }
    white, transparent = on[None], on["transparent"]
    assert white.stages["base"].shape == (1, 4, 64, 64)
    pixels = white.stages["sr256"][0]
    assert (pixels[:3] <= pixels[3:]).all()  # premultiplied
    assert 0 < pixels[3].float().mean() < 255
    assert [on[one].images[0].mode for one in on] == ["RGB", "RGBA", "RGB"]
    assert np.array_equal(on["#102030"].images[0], to_image(pixels, (16, 32, 48)))
    assert np.array_equal(transparent.images[0], to_image(pixels, None))
    assert [on[one].records[0].get("background") for one in on] == list(on)

    save_png(transparent.images[0], tmp_path / "a.png", transparent.records[0])
    assert np.array_equal(open_image(tmp_path / "a.png"), transparent.images[0])
    assert read_record(tmp_path / "a.png")["background"] == "transparent"


def test_a_transparent_image_is_upscaled_with_its_alpha(with_alpha):
    # What is hidden under alpha 0 leaves no trace.
    hidden = np.zeros((64, 64, 4), np.uint8)
    hidden[:, :32] = (255, 255, 255, 255)
    shown = hidden.copy()
    shown[:, 32:, 1] = 255
    made = [
        with_alpha.upscale(Image.fromarray(pixels, "RGBA"), "a cat", background="transparent")
        for pixels in (hidden, shown)
    ]
    assert torch.equal(made[0].stages["sr256"], made[1].stages["sr256"])


def test_a_saved_model_keeps_its_alpha(with_alpha, tmp_path):
    with_alpha.save(tmp_path / "model")
    again = load(tmp_path / "model", device="cpu")
    again.text = with_alpha.text
    assert again.has_alpha
    made = [one.generate("a cat", stages=1).stages["base"] for one in (again, with_alpha)]
    assert torch.equal(*made)


def test_a_model_without_alpha_refuses_backgrounds(cascade):
    for background in ("transparent", "#ffffff"):
        with pytest.raises(ConfigError, match="have no transparency"):
            cascade.generate("a cat", background=background)


def test_stages_with_and_without_alpha_cannot_be_joined():
    stages = [make_stages()[0], make_stages(image_channels=4)[1]]
    with pytest.raises(CheckpointError, match="sr256 has images of 4 channels, base of 3"):
        make_cascade(stages)


@pytest.mark.parametrize("channels", WRONG_CHANNELS)
def test_channels_that_do_not_fit_are_refused(channels):
    network = {"preset": "tiny-base-64", **channels}
    with pytest.raises(ConfigError, match="channels"):
        Stage(StageConfig(name="base", resolution=64, network=network))
