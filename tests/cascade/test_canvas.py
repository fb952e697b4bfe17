"""The canvas of an edit: nothing outside a mask changes, whatever the sizes."""

import numpy as np
import pytest
import torch
from PIL import Image

from open_imagen.cascade.canvas import (
    Crop,
    base_size,
    check_extension,
    crop_box,
    make_canvas,
    mix,
)
from open_imagen.data.original import Original
from open_imagen.errors import ConfigError


def random_image(rng, mode="RGB"):
    height, width = rng.integers(20, 400, 2)
    shape = (height, width, len(mode))
    return Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8), mode)


def random_mask(rng, size):
    """A few boxes and discs, or single pixels."""
    width, height = size
    rows, columns = np.mgrid[:height, :width]
    mask = np.zeros((height, width), bool)
    for _ in range(rng.integers(1, 4)):
        x, y, r = rng.integers(0, width), rng.integers(0, height), rng.integers(0, 80)
        disc = (rows - y) ** 2 + (columns - x) ** 2 <= r**2
        mask |= disc if rng.random() < 0.5 else (abs(rows - y) <= r) & (abs(columns - x) <= r // 2)
    return mask


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
@pytest.mark.parametrize("channels", [3, 4])
def test_nothing_outside_a_mask_changes(mode, channels):
    rng = np.random.default_rng(channels)
    for _ in range(50):
        image = random_image(rng, mode)
        mask = random_mask(rng, image.size)
        if mask.all():
            continue
        extend = tuple(int(n) for n in rng.integers(0, 30, 4)) if rng.random() < 0.3 else (0,) * 4
        canvas = make_canvas(Original(image), mask, extend)
        crop = Crop(canvas, crop_box(canvas, 64))
        width, height = base_size(crop.box[2] - crop.box[0], crop.box[3] - crop.box[1], 16, 4)
        made = torch.randint(0, 256, (channels, height * 4, width * 4), dtype=torch.uint8)
        if channels == 4:
            made[:3] = made[:3].minimum(made[3:])
        result = np.asarray(crop.pasted(made, None, keep_alpha=channels == 4 and mode == "RGBA"))
        before = np.asarray(canvas.original.image)
        outside = ~canvas.mask
        assert result.shape[:2] == before.shape[:2]
        assert np.array_equal(result[outside][:, : len(mode)], before[outside])
        inner = before[extend[1] : extend[1] + image.height, extend[0] : extend[0] + image.width]
        assert np.array_equal(inner, image)


def test_an_extension_is_made_anew_and_holds_the_edges():
    image = Image.fromarray(np.arange(48, dtype=np.uint8).reshape(4, 4, 3))
    canvas = make_canvas(Original(image), None, (2, 0, 1, 3))
    assert canvas.size == (7, 7)
    assert canvas.mask.sum() == 49 - 16
    assert not canvas.mask[:4, 2:6].any()
    assert np.asarray(canvas.original.image)[0, 0].tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("extend", "message"),
    [
        ((1, 2, 3), "must be four numbers"),
        ((0, -1, 0, 0), "must be four numbers"),
        ((9000, 0, 9000, 0), "the limit is 1,000,000"),
    ],
)
def test_bad_extensions_are_refused(extend, message):
    with pytest.raises(ConfigError, match=message):
        check_extension(extend, (100, 100), 1_000_000)


def boxed(size, box):
    mask = np.zeros((size[1], size[0]), bool)
    mask[box[1] : box[3], box[0] : box[2]] = True
    return make_canvas(Original(Image.new("RGB", size)), mask)


@pytest.mark.parametrize(
    ("size", "box", "crop"),
    [
        ((256, 256), (10, 10, 50, 50), (0, 0, 256, 256)),
        ((1000, 800), (500, 400, 540, 440), (392, 292, 648, 548)),
        ((1000, 800), (0, 0, 40, 40), (0, 0, 256, 256)),
        ((1000, 800), (960, 760, 1000, 800), (744, 544, 1000, 800)),
        ((1000, 800), (300, 300, 700, 400), (200, 50, 800, 650)),
        ((100, 900), (0, 300, 100, 310), (0, 177, 100, 433)),
    ],
)
def test_a_crop_has_context_and_lies_inside(size, box, crop):
    assert crop_box(boxed(size, box), 256) == crop


def test_without_a_mask_all_of_an_image_is_worked_on():
    canvas = make_canvas(Original(Image.new("RGB", (1000, 30))), None)
    assert crop_box(canvas, 256) == (0, 0, 1000, 30)


@pytest.mark.parametrize(
    ("size", "wanted"),
    [
        ((100, 100), (64, 64)),
        ((200, 100), (88, 48)),
        ((100, 300), (40, 112)),
        ((9000, 9), (256, 8)),
    ],
)
def test_a_base_s_image_has_the_shape_of_the_crop(size, wanted):
    assert base_size(*size, 64, 8) == wanted


def test_mixing_weighs_colours_by_alpha():
    old = np.array([[[200, 0, 0, 255]]], np.uint8)
    clear = np.array([[[0, 255, 0, 0]]], np.uint8)
    half = np.array([[0.5]], np.float32)
    assert mix(old, clear, half)[0, 0].tolist() == [200, 0, 0, 128]
    assert mix(old[..., :3], clear[..., :3], half)[0, 0].tolist() == [100, 128, 0]


def test_a_model_without_alpha_sees_transparency_on_white():
    image = Image.fromarray(np.full((8, 8, 4), (10, 20, 30, 0), np.uint8), "RGBA")
    canvas = make_canvas(Original(image), None)
    crop = Crop(canvas, crop_box(canvas, 8))
    assert (crop.image_at((4, 4), 3) == 255).all()
    assert (crop.image_at((4, 4), 4) == 0).all()
