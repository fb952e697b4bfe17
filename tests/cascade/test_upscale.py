"""Images of every size and kind are upscaled whole, and never made smaller than they were."""

import numpy as np
import pytest
import torch
from PIL import Image

from open_imagen.cascade import sizes, stage
from open_imagen.cascade.sizes import size_unit, upscaling_stages
from open_imagen.errors import ConfigError
from standins import make_cascade, make_stages


@pytest.fixture(scope="module")
def tiny():
    return make_cascade()


def gradient(width, height):
    rows, columns = np.mgrid[:height, :width]
    pixels = np.stack([columns * 255 // width, rows * 255 // height, rows * 0 + 90], -1)
    return Image.fromarray(pixels.astype(np.uint8))


@pytest.mark.parametrize("size", [(64, 64), (100, 80), (33, 57), (8, 8), (70, 9)])
def test_every_size_is_enlarged_whole(tiny, size):
    made = tiny.upscale(gradient(*size), "a gradient", seed=1)
    assert made.images[0].size == (4 * size[0], 4 * size[1])
    assert list(made.stages) == ["sr256"]
    assert made.records[0]["made_by"] == "upscale"


def test_an_image_is_turned_as_its_exif_says(tiny, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    gradient(60, 40).save(tmp_path / "turned.png", exif=exif)
    assert tiny.upscale(tmp_path / "turned.png", "a").images[0].size == (160, 240)


def test_transparency_is_white_for_a_model_without_alpha(tiny):
    clear = Image.new("RGBA", (32, 32), (0, 0, 0, 0))
    found = tiny.start_of(clear)[1]
    assert (found == 255).all()


def test_sixteen_bits_are_not_white(tiny):
    grey = Image.fromarray(np.full((32, 32), 100 * 257, np.uint16))
    assert (tiny.start_of(grey)[1] == 100).all()


class Sized:
    def __init__(self, name, lowres, resolution, divisor=8):
        self.config = type("C", (), {"name": name, "lowres": lowres, "resolution": resolution})
        self.network_config = type("N", (), {"divisor": divisor})


CASCADE = [Sized("base", 0, 64), Sized("sr256", 64, 256), Sized("sr1024", 256, 1024)]


@pytest.mark.parametrize(
    ("size", "wanted"),
    [
        ((64, 64), ["sr256"]),
        ((100, 100), ["sr256"]),
        ((400, 200), ["sr1024"]),
        ((250, 250), ["sr1024"]),
        ((20, 20), ["sr256"]),
        ((2000, 1500), ["sr1024"]),
    ],
)
def test_the_stage_nearest_in_size_begins(size, wanted):
    assert [one.config.name for one in upscaling_stages(CASCADE, size, 1, "tiny")] == wanted


def test_the_model_s_usual_stages_follow():
    found = upscaling_stages(CASCADE, (64, 64), 2, "tiny")
    assert [one.config.name for one in found] == ["sr256", "sr1024"]


@pytest.mark.parametrize(
    ("size", "message"),
    [((7, 100), "at least 8 pixels"), ((5000, 4000), "more than 67,108,864 pixels")],
)
def test_sizes_beyond_the_limits_are_refused(size, message):
    with pytest.raises(ConfigError, match=message):
        upscaling_stages(CASCADE, size, 1, "tiny")


def test_the_unit_of_sizes_suits_every_network():
    assert size_unit(CASCADE) == 8
    assert size_unit([Sized("base", 0, 64, 16), Sized("sr256", 64, 256, 8)]) == 16
    assert size_unit([Sized("base", 0, 64, 4), Sized("sr256", 64, 256, 96)]) == 24
    assert sizes.MIN_SIDE == 8


def test_padding_leaves_no_trace(tiny):
    # The rows and columns that fill up to the network's multiple are cut off again.
    sr = tiny.stages["sr256"]
    unit = sr.network_config.divisor // 4
    lowres = torch.rand(1, 3, 4 * unit + 1, 4 * unit - 1) * 2 - 1
    text = tiny.text(["a"])
    made = sr.sample(text, [torch.Generator().manual_seed(1)], lowres=lowres)
    assert made.shape[2:] == (4 * lowres.shape[2], 4 * lowres.shape[3])


def test_large_images_go_through_the_network_in_tiles(monkeypatch):
    cascade = make_cascade(make_stages())
    sr, seen = cascade.stages["sr256"], set()
    network = sr.network.forward

    def watched(z, *rest):
        seen.add(tuple(z.shape[2:]))
        return network(z, *rest)

    monkeypatch.setattr(sr.network, "forward", watched)
    monkeypatch.setattr(stage, "LARGE", 1)
    made = cascade.upscale(gradient(100, 64), "a gradient")
    assert made.images[0].size == (400, 256)
    assert seen == {(256, 256)}
