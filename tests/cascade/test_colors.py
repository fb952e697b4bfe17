"""Colours brought back: exactly where they are flat, by the Gaussian's share where they are not."""

import math

import pytest
import torch
import torch.nn.functional as F

from open_imagen.cascade.colors import correct_colors
from open_imagen.cascade.sampling import Sampling
from open_imagen.errors import ConfigError
from open_imagen.types import TextEmbedding
from standins import make_stages


def enlarged(small, scale=4):
    return F.interpolate(small, scale_factor=scale, mode="nearest")


def test_a_flat_error_of_colour_goes_and_detail_stays():
    torch.manual_seed(0)
    lowres = torch.rand(2, 3, 1, 1).expand(2, 3, 16, 16)
    detail = torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).repeat(32, 32)  # 0 in every small pixel
    off = torch.rand(2, 3, 1, 1) * 0.3
    found = correct_colors(enlarged(lowres) + off + 0.1 * detail, lowres, 2.0)
    torch.testing.assert_close(found, enlarged(lowres) + 0.1 * detail)


def test_what_has_the_right_colours_stays_as_it_is():
    lowres = torch.rand(1, 3, 8, 8)
    image = enlarged(lowres)
    torch.testing.assert_close(correct_colors(image, lowres, 1.5), image)


def test_surfaces_do_not_share_their_errors():
    """Left of an edge all is 0.1 too dark, right of it 0.2 too bright, up to the edge itself."""
    lowres = torch.full((1, 3, 16, 16), -0.5)
    lowres[..., 8:] = 0.6
    error = torch.where(lowres < 0, -0.1, 0.2)
    found = correct_colors(enlarged(lowres + error), lowres, 3.0)
    torch.testing.assert_close(found, enlarged(lowres), atol=2e-3, rtol=0)


def test_all_of_a_thin_surface_counts():
    """Three small pixels wide, its colour uneven in the small picture, and 0.1 too dark in the
    large one: it gets the mean of all three, though none but the middle one has no edge near."""
    lowres = torch.full((1, 3, 16, 16), -0.8)
    lowres[..., 6:9] = 0.5
    image = enlarged(lowres)
    image[..., 24:36] -= 0.1
    lowres[..., 6:9] += torch.tensor([0.02, -0.04, 0.02])
    found = correct_colors(image, lowres, 5.0)
    torch.testing.assert_close(
        found, enlarged(lowres.clone().index_fill_(3, torch.arange(6, 9), 0.5)), atol=6e-3, rtol=0
    )


@pytest.mark.parametrize("share", [0.25, 0.5, 1.0])
def test_an_edge_elsewhere_is_no_wrong_colour(share):
    """The small picture has it further right, by a share of a pixel."""
    lowres = torch.full((1, 3, 16, 16), -0.5)
    lowres[..., 8:] = 0.6
    image = enlarged(lowres)
    lowres[..., 8] = share * -0.5 + (1 - share) * 0.6
    torch.testing.assert_close(correct_colors(image, lowres, 2.0), image, atol=2e-3, rtol=0)
    plain = correct_colors(image, lowres, 2.0, like=math.inf)
    assert (plain - image).abs().max() > 0.05


@pytest.mark.parametrize(
    "sigma, parts",
    [
        (1.0, [(1.0, 1)]),
        (2.0, [(2.0, 1)]),
        (5.0, [(1.0, 1), (math.sqrt(24.0), 3)]),
        (8.0, [(5 / 3, 1), (math.sqrt(64 - 25 / 9), 5)]),
    ],
)
@pytest.mark.parametrize("period", [8, 16, 32])
def test_waves_are_brought_back_by_the_gaussian_s_share(sigma, parts, period):
    """Whatever the colours, a wave of error loses exp(-(sigma w)^2 / 2) of itself, in the means of
    small pixels, but for what enlarging averages; exactly, what the Gaussian leaves, cut at 2.5
    and, where it is wide, made of two, the second over every third or fifth pixel."""
    w = 2 * math.pi / period
    wave = torch.cos(w * (torch.arange(128) + 0.5))[None, None, None, :].expand(1, 3, 32, 128)
    found = correct_colors(enlarged(wave), torch.zeros_like(wave), sigma, like=math.inf)
    middle = slice(40, 88)  # far from borders
    kept = F.avg_pool2d(found, 4)[..., 16, middle] / wave[..., 16, middle]
    cut = 1.0
    for width, apart in parts:
        reach = math.ceil(2.5 * width / apart)
        places = [apart * d for d in range(-reach, reach + 1)]
        cut *= of_wave({d: math.exp(-((d / width) ** 2) / 2) for d in places}, w)
    assert cut == pytest.approx(math.exp(-((sigma * w) ** 2) / 2), abs=0.02)
    share = cut * mean_of_bells(w)
    torch.testing.assert_close(kept, torch.full_like(kept, 1 - share), rtol=0, atol=1e-4)


def of_wave(weights, w):
    """What is left of a wave in its mean by these weights of places around it."""
    return sum(g * math.cos(w * d) for d, g in weights.items()) / sum(weights.values())


def mean_of_bells(w, scale=4):
    """What is left of a wave in the mean of the points that enlarging puts into a pixel."""
    total = 0.0
    for k in range(scale):
        place = (k + 0.5) / scale - 0.5
        total += of_wave({d: math.exp(-(((d - place) / 0.5) ** 2) / 2) for d in (-1, 0, 1)}, w)
    return total / scale


def test_a_stage_does_it_to_the_picture_that_it_made():
    stage = make_stages()[1]
    for parameter in stage.network.head.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    text = TextEmbedding(torch.randn(2, 3, 384), torch.ones(2, 3, dtype=torch.bool))
    lowres = 0.5 * (torch.rand(2, 3, 16, 16) * 2 - 1)

    def draw(color_correction):
        makers = [torch.Generator().manual_seed(k) for k in range(2)]
        settings = Sampling(
            steps=2, threshold="static", guidance=1.0, color_correction=color_correction
        )
        return stage.sample(text, makers, settings, lowres)

    plain = draw(0.0)
    torch.testing.assert_close(draw(2.0), correct_colors(plain, lowres, 2.0).clamp(-1, 1))
    assert not torch.allclose(draw(2.0), plain)


@pytest.mark.parametrize("width", [-1.0, 9.0, math.nan])
def test_a_width_that_cannot_be_is_refused(width):
    with pytest.raises(ConfigError, match="color_correction"):
        Sampling(color_correction=width)
