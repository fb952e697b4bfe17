"""The data source of the shapes world: example k is a function of k alone; crops fit the whole."""

import pytest
import torch

from open_imagen.worlds.sources import open_source


def same(one, other):
    return torch.equal(one.images, other.images) and one.captions == other.captions


def test_scenes_are_a_function_of_their_position():
    settings = {"kind": "shapes", "size": 32, "num_captions": 20, "seed": 3}
    whole = open_source(settings).batch(0, 8)
    part = open_source(settings).batch(5, 3)
    assert torch.equal(whole.images[5:], part.images)
    assert whole.captions[5:] == part.captions
    assert set(part.captions) <= set(open_source(settings).captions())
    assert not same(open_source({**settings, "seed": 4}).batch(0, 8), whole)


def test_crops_and_their_low_resolution_fit_each_other():
    batch = open_source({"kind": "shapes", "size": 64, "crop": 32, "lowres": 16}).batch(0, 4)
    assert batch.images.shape == (4, 3, 32, 32)
    assert batch.lowres.shape == (4, 3, 8, 8)
    pooled = torch.nn.functional.avg_pool2d(batch.images.float(), 4)
    torch.testing.assert_close(batch.lowres.float(), pooled, rtol=0, atol=0.51)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_crops_are_windows_of_the_whole_picture_and_can_lie_on_edges(share):
    settings = {"kind": "shapes", "size": 256, "num_captions": 50}
    source = open_source({**settings, "crop": 48, "crop_at_edges": share})
    wholes, crops = open_source(settings).batch(0, 40).images, source.batch(0, 40).images
    edges = 0
    for k, (whole, crop) in enumerate(zip(wholes, crops, strict=True)):
        left, top = (round(256 * begin) for begin in source.example(k)[3])
        assert left % 4 == 0
        assert top % 4 == 0
        window = whole[:, top : top + 48, left : left + 48]
        torch.testing.assert_close(crop.int(), window.int(), rtol=0, atol=1)
        edges += bool((crop.flatten(1).amax(1) - crop.flatten(1).amin(1)).max() > 30)
    assert edges > 36 if share else edges < 25, edges
