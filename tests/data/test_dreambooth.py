"""DreamBooth's prior: the thing and its kind take turns, and count as asked."""

import pytest
import torch
from PIL import Image

from open_imagen.data import open_source
from open_imagen.errors import ConfigError, DataError


@pytest.fixture
def settings(tmp_path):
    for name, blue, count in (("thing", 0, 3), ("kind", 255, 4)):
        (tmp_path / name).mkdir()
        for k in range(count):
            Image.new("RGB", (16, 16), (99, 50 * k, blue)).save(tmp_path / name / f"{k}.png")

    def folder(name, caption):
        return {"kind": "folder", "path": str(tmp_path / name), "size": 8, "caption": caption}

    return {
        "kind": "dreambooth",
        "instance": folder("thing", "a zwx ball"),
        "prior": folder("kind", "a ball"),
        "prior_weight": 0.5,
    }


def test_examples_take_turns_and_count_as_asked(settings):
    batch = open_source(settings).batch(3, 4)
    assert batch.captions == ["a ball", "a zwx ball"] * 2
    assert batch.weights.tolist() == [0.5, 1.0, 0.5, 1.0]
    assert [int(image[2, 0, 0]) for image in batch.images] == [255, 0, 255, 0]
    assert set(open_source(settings).captions()) == {"a zwx ball", "a ball"}


def test_an_example_is_a_function_of_its_position(settings):
    whole = open_source(settings).batch(0, 20)
    part = open_source(settings).batch(7, 5)
    assert part.captions == whole.captions[7:12]
    assert torch.equal(part.images, whole.images[7:12])


def test_each_side_goes_through_all_its_pictures(settings):
    images = open_source(settings).batch(0, 24).images
    greens = images[:, 1, 0, 0].tolist()
    for first, count in ((0, 3), (1, 4)):  # of the thing, of its kind
        own = greens[first::2]
        for epoch in range(0, 12, count):
            assert sorted(own[epoch : epoch + count]) == [50 * k for k in range(count)]


def test_what_is_wrong_is_told(settings):
    with pytest.raises(ConfigError, match="prior_weight"):
        open_source({**settings, "prior_weight": 0.0})
    with pytest.raises(DataError, match="no folder"):
        open_source({**settings, "prior": {"kind": "folder", "path": "nowhere"}})
