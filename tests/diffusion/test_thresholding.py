"""Thresholding by hand, against torch.quantile and against diffusers."""

import pytest
import torch
from diffusers import DDPMScheduler

from open_imagen.diffusion.thresholding import Threshold, percentile
from open_imagen.errors import ConfigError, UnknownName


@pytest.fixture
def images():
    return 2 * torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def test_none_changes_nothing(images):
    assert Threshold("none")(images) is images


def test_static_clips(images):
    assert torch.equal(Threshold("static")(images), images.clamp(-1, 1))


def test_dynamic_by_hand():
    # |x| = 0.5, 1, 2, 4: the median is 1.5, so 4 -> 1, 2 -> 1, 1 -> 2/3, 0.5 -> 1/3
    x = torch.tensor([[0.5, -1.0, 2.0, -4.0]])
    found = Threshold("dynamic", percentile=50)(x)
    torch.testing.assert_close(found, torch.tensor([[1 / 3, -2 / 3, 1, -1]]))


def test_dynamic_leaves_an_image_within_bounds_alone():
    x = torch.tensor([[0.5, -0.2]])
    assert torch.equal(Threshold()(x), x)


def test_each_image_is_thresholded_by_itself(images):
    alone = torch.cat([Threshold(percentile=90)(image[None]) for image in images])
    torch.testing.assert_close(Threshold(percentile=90)(images), alone)


def test_a_cap_of_one_is_static(images):
    torch.testing.assert_close(Threshold(cap=1.0)(images), images.clamp(-1, 1))


@pytest.mark.parametrize("p", [1, 50, 90, 99.5, 100])
def test_percentile_is_the_quantile(p):
    values = torch.randn(3, 500, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(percentile(values, p), torch.quantile(values, p / 100, dim=1))


@pytest.mark.parametrize("cap", [1.0, 1.5, 50.0])
def test_dynamic_agrees_with_diffusers(images, cap):
    theirs = DDPMScheduler(thresholding=True, dynamic_thresholding_ratio=0.95, sample_max_value=cap)
    ours = Threshold(percentile=95, cap=cap)(images)
    torch.testing.assert_close(ours, theirs._threshold_sample(images))


def test_wrong_settings_are_refused():
    with pytest.raises(UnknownName) as caught:
        Threshold("dynamc")
    assert caught.value.hint == "Did you mean 'dynamic'?"
    with pytest.raises(ConfigError, match="percentile"):
        Threshold(percentile=0)
    with pytest.raises(ConfigError, match="cap"):
        Threshold(cap=0.5)
