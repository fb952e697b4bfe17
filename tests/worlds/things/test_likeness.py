"""The nearest sprite of an image, whatever its place, size and side."""

import torch

from open_imagen.worlds.things.likeness import Likeness, cut_out, diversity, near_copies
from things_judging import ATLAS, picture, placed, thing


def test_a_sprite_is_found_at_any_place_and_size():
    likeness = Likeness(ATLAS)
    _, cat = thing("cat")
    for place in ({"x": 0.4, "radius": 0.3}, {"y": 0.6, "radius": 0.2}):
        [found] = likeness.nearest(picture(placed("cat", **place)))
        assert (found.sprite, found.mirrored) == (cat, False)
        assert found.distance < 0.15
    image = picture(placed("cat"))
    [found] = likeness.nearest(image.flip(3))
    assert (found.sprite, found.mirrored) == (cat, True)
    [other] = likeness.nearest(picture(placed("cat", color="blue")))
    assert other.distance > found.distance


def test_an_image_of_nothing_is_near_to_nothing():
    blank = torch.zeros(1, 4, 64, 64, dtype=torch.uint8)
    assert cut_out(blank)[0] == []
    [found] = Likeness(ATLAS).nearest(blank)
    assert found.sprite == -1
    images = torch.cat([blank, picture(placed("dog"))])
    assert [one.sprite for one in Likeness(ATLAS).nearest(images)] == [-1, thing("dog")[1]]


def test_shares_of_near_copies_leave_out_what_shows_nothing():
    likeness = Likeness(ATLAS)
    images = torch.cat([picture(placed("cat")), torch.zeros(1, 4, 64, 64, dtype=torch.uint8)])
    shares = near_copies(likeness.nearest(images))
    assert shares["0.12"] == 1.0
    assert list(shares) == ["0.04", "0.06", "0.08", "0.12"]


def test_alike_images_have_no_diversity():
    likeness = Likeness(ATLAS)
    same = torch.cat([picture(placed("cat"))] * 3)
    mixed = torch.cat([picture(placed("cat", style=style)) for style in ("drawn", "flat", "3d")])
    assert diversity([same], likeness) == (0.0, 1.0)
    found = diversity([mixed], likeness)
    assert found.distance > 0.1
    assert found.sprites == 3
