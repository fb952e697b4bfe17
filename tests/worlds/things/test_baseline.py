"""The nearest-sprite baseline."""

import torch

from open_imagen.worlds.things.baseline import NearestSprite
from open_imagen.worlds.things.likeness import Likeness
from standins import WordEncoder
from things_judging import ATLAS


def test_it_draws_a_sprite_of_the_thing_that_the_prompt_is_nearest_to():
    baseline = NearestSprite(ATLAS, WordEncoder(), size=64)
    labels = [thing.label for thing in ATLAS.things]
    assert [labels[k] for k in baseline.things(["banana", "dog"])] == ["banana", "dog"]
    images = baseline.draw(["banana", "dog"], [1, 2])
    assert (images.shape, images.dtype) == ((2, 4, 64, 64), torch.uint8)
    found = Likeness(ATLAS).nearest(images)
    assert [labels[ATLAS.sprites[one.sprite].thing] for one in found] == ["banana", "dog"]
    assert torch.equal(baseline.draw(["dog"], [2])[0], images[1])
    assert baseline.facts["model"] == "nearest-sprite"
