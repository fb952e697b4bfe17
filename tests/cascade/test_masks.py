"""Masks: read by transparency or white, scaled without losing a pixel, feathered inside."""

import numpy as np
import pytest
import torch
from PIL import Image

from open_imagen.cascade.masks import (
    at_size,
    bounding_box,
    distance_inside,
    feather,
    own_alpha,
    read_mask,
)
from open_imagen.errors import ConfigError

MASK = np.zeros((20, 30), bool)
MASK[5:12, 8:20] = True


def as_white(mask):
    return Image.fromarray(mask.astype(np.uint8) * 255)


def as_alpha(mask):
    alpha = Image.fromarray(np.where(mask, 0, 255).astype(np.uint8))
    image = Image.new("RGBA", alpha.size, "white")
    image.putalpha(alpha)
    return image


@pytest.mark.parametrize(
    "given",
    [
        as_white(MASK),
        as_white(MASK).convert("RGB"),
        as_white(MASK).convert("1"),
        as_alpha(MASK),
        MASK,
    ],
    ids=["grey", "rgb", "1 bit", "alpha", "bool array"],
)
def test_masks_of_every_kind(given):
    assert np.array_equal(read_mask(given, (30, 20)), MASK)


def test_an_opaque_mask_with_an_alpha_channel_is_black_and_white():
    assert np.array_equal(read_mask(as_white(MASK).convert("RGBA"), (30, 20)), MASK)


def test_an_image_that_is_transparent_where_it_shall_change():
    assert np.array_equal(own_alpha(as_alpha(MASK)), MASK)
    with pytest.raises(ConfigError, match="no transparent pixels"):
        own_alpha(Image.new("RGB", (4, 4)))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.zeros((20, 30), bool), "is empty"),
        (np.ones((20, 30), bool), "covers the whole image"),
        (MASK[:, :-1], "The mask is 29x20, the image 30x20"),
    ],
)
def test_masks_that_mean_nothing_are_refused(given, message):
    with pytest.raises(ConfigError, match=message):
        read_mask(given, (30, 20))


def test_the_box_around_a_mask():
    assert bounding_box(MASK) == (8, 5, 20, 12)


def literal_distance(mask, limit):
    outside = np.argwhere(~mask)
    found = np.zeros(mask.shape)
    for y, x in np.argwhere(mask):
        found[y, x] = min(limit, np.sqrt(((outside - (y, x)) ** 2).sum(1).min()))
    return found


@pytest.mark.parametrize("seed", range(5))
def test_distances_are_euclidean(seed):
    rng = np.random.default_rng(seed)
    mask = rng.random((17, 23)) < (0.5, 0.9, 0.97, 0.99, 0.2)[seed]
    np.testing.assert_allclose(distance_inside(mask, 6), literal_distance(mask, 6), atol=1e-5)


@pytest.mark.parametrize("width", [0, 1, 4, 100])
def test_a_feather_lies_inside_its_mask_and_reaches_one(width):
    weight = feather(MASK, width)
    assert (weight[~MASK] == 0).all()
    assert (weight[MASK] > 0).all()
    assert weight.max() == 1


def test_a_mask_at_the_images_edge_is_not_feathered_there():
    mask = np.zeros((20, 30), bool)
    mask[:, 20:] = True
    weight = feather(mask, 4)
    assert weight[10].tolist() == pytest.approx([0] * 20 + [0.2, 0.4, 0.6, 0.8] + [1] * 6)


@pytest.mark.parametrize("size", [(8, 8), (64, 48), (7, 5), (30, 20)])
def test_no_marked_pixel_is_lost_at_another_size(size):
    for y, x in ((0, 0), (19, 29), (7, 13)):
        mask = np.zeros((20, 30), bool)
        mask[y, x] = True
        found = at_size(mask, size)
        assert found.shape == (1, size[1], size[0])
        assert set(found.unique().tolist()) == {0.0, 1.0}
        center = found[0, int((y + 0.5) * size[1] / 20), int((x + 0.5) * size[0] / 30)]
        assert center == 1
    assert torch.equal(at_size(MASK, (30, 20))[0], torch.from_numpy(MASK).float())
