"""Tiles cover an image, and what they say of it is mixed without a seam."""

from itertools import pairwise

import pytest
import torch

from open_imagen.cascade.tiling import predict_in_tiles, starts
from open_imagen.types import LowRes


@pytest.mark.parametrize("length", [8, 64, 72, 128, 200, 1000])
def test_tiles_cover_the_length_and_overlap(length):
    found = starts(length, 64, 8, 8)
    assert found[0] == 0
    assert found[-1] == max(length - 64, 0)
    assert all(0 < b - a <= 64 - 8 + 8 for a, b in pairwise(found))
    assert all(place % 8 == 0 for place in found)


def test_what_needs_no_neighbours_is_the_same_in_tiles():
    z, condition = torch.randn(2, 3, 96, 200), LowRes(torch.randn(2, 3, 96, 200), torch.zeros(2))
    sizes = set()

    def predict(z, lowres):
        sizes.add(tuple(z.shape[2:]))
        return 2 * z - lowres.image

    found = predict_in_tiles(predict, z, condition, 64, 8)
    torch.testing.assert_close(found, 2 * z - condition.image)
    assert sizes == {(64, 64)}


def test_tiles_that_disagree_fade_into_each_other():
    level = iter([0.0, 1.0])
    z = torch.zeros(1, 1, 64, 120)
    found = predict_in_tiles(
        lambda z, lowres: torch.full_like(z, next(level)), z, LowRes(z, torch.zeros(1)), 64, 8
    )
    steps = found[0, 0, 0].diff()
    assert found[0, 0, 0, 0] == 0
    assert found[0, 0, 0, -1] == 1
    assert (steps >= 0).all()
    assert steps.max() <= 0.2
