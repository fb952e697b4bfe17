"""Images of unusual sizes against the memory that is free."""

import pytest
import torch

from open_imagen.cascade.memory import check_memory, estimate
from open_imagen.cascade.sampling import Sampling
from open_imagen.errors import ConfigError, OpenImagenWarning
from standins import make_cascade, make_stages

CPU = torch.device("cpu")


@pytest.fixture
def free(monkeypatch):
    def set_to(size):
        monkeypatch.setattr("open_imagen.cascade.memory.free_memory", lambda _: int(size))

    return set_to


def resolved(stages):
    return {one.config.name: one.config.sampling.resolve() for one in stages}


def test_sizes_that_cannot_fit_are_refused_before_any_work():
    cascade = make_cascade()
    drawn = []
    with pytest.raises(ConfigError, match=r"1048576x1048576 in the stage sr256 take about"):
        cascade.generate("a red circle", size=2**20, progress=lambda *step: drawn.append(step))
    assert not drawn


def test_images_of_the_trained_size_are_let_pass(free):
    free(0)
    stages = make_stages()
    check_memory(stages, (64, 64), 16, resolved(stages), CPU)


def test_what_may_not_fit_is_warned_of(free):
    stages = make_stages()[:1]
    needed = estimate(stages[0], 256**2, resolved(stages)["base"])
    free(needed)
    check_memory(stages, (256, 256), 1, resolved(stages), CPU)
    free(0.7 * needed)
    with pytest.warns(OpenImagenWarning, match="An image of 256x256 in the stage base"):
        check_memory(stages, (256, 256), 1, resolved(stages), CPU)
    with pytest.raises(ConfigError, match="4 images of 256x256") as caught:
        check_memory(stages, (256, 256), 4, resolved(stages), CPU)
    assert "fewer at once" in caught.value.hint


def test_the_estimate_grows_with_pixels_and_guidance_and_tiles_bound_it():
    base, larger = make_stages()
    plain = Sampling(guidance=1.0).resolve()
    guided = Sampling(guidance=2.0).resolve()
    assert estimate(base, 4 * 64**2, plain) == pytest.approx(
        4 * estimate(base, 64**2, plain), rel=0.01
    )
    assert estimate(base, 64**2, plain) < estimate(base, 64**2, guided)
    in_tiles = estimate(larger, 2 * 1024**2, plain) - estimate(larger, 1024**2, plain)
    assert in_tiles == 1024**2 * 3 * 4 * 10  # the image alone: the network sees tiles
