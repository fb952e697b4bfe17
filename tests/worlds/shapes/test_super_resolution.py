"""Edges of known width, colours of known shift, and a cascade measured by both."""

import math

import pytest
import torch

from open_imagen.errors import ConfigError
from open_imagen.worlds.shapes.render import render
from open_imagen.worlds.shapes.scenes import Kind, Layout, Placed
from open_imagen.worlds.shapes.super_resolution import (
    SuperResolutionEvaluation,
    color_shift,
    edge_width,
    evaluate_super_resolution,
)
from standins import make_cascade, make_stages


def ramp(width, side=256):
    """A blue disc on white whose edge rises linearly over so many pixels, uint8."""
    y, x = torch.meshgrid(torch.arange(side) + 0.5, torch.arange(side) + 0.5, indexing="ij")
    outside = torch.hypot(x - side / 2, y - side / 2) - side / 4
    cover = (0.5 - outside / width).clamp(0, 1)
    white, blue = torch.tensor([255.0] * 3), torch.tensor([30.0, 60.0, 220.0])
    mixed = white[:, None, None] * (1 - cover) + blue[:, None, None] * cover
    return mixed.round().to(torch.uint8)


@pytest.mark.parametrize("width", [4.0, 8.0, 16.0])
def test_a_linear_ramp_is_eight_tenths_of_its_width(width):
    assert edge_width(ramp(width)) == pytest.approx(0.8 * width, rel=0.06)


@pytest.mark.parametrize("shape", ["circle", "square", "star", "ring", "crescent"])
@pytest.mark.parametrize("side", [256, 1024])
def test_drawn_edges_are_sharp_at_any_size(shape, side):
    layout = Layout((Placed(Kind("red", shape), 0.4, 0.6, 0.2),), "white")
    assert 0 <= edge_width(render([layout], side)[0]) < 1.3


def test_an_upscaled_image_has_edges_as_wide_as_its_scale():
    small = render([Layout((Placed(Kind("red", "square"), 0.5, 0.5, 0.2),), "gray")], 64)
    large = torch.nn.functional.interpolate(small.float(), scale_factor=16, mode="bilinear")
    assert 8 < edge_width(large[0].to(torch.uint8)) < 32


def test_an_empty_picture_has_no_edges():
    assert math.isnan(edge_width(torch.full((3, 64, 64), 200, dtype=torch.uint8)))


def test_the_shift_is_that_of_the_surface_where_it_is_most():
    layout = Layout((Placed(Kind("red", "square"), 0.5, 0.5, 0.25),), "gray")
    [small], [large] = render([layout], 64), render([layout], 256)
    assert color_shift(small, large) == 0
    shifted = large.clone()
    shifted[2, 70:186, 70:186] += 51  # the blue of most of the object, by a fifth of the range
    assert color_shift(small, shifted) == pytest.approx(20.0)
    paler = torch.where(large == large[0, 0, 0], large - 13, large)
    assert color_shift(small, paler) == pytest.approx(100 * 13 / 255)


def test_every_stage_above_the_base_is_measured(cascade):
    report = evaluate_super_resolution(
        cascade, SuperResolutionEvaluation(count=2, categories=("single",))
    )
    assert list(report["stages"]) == ["sr256"]
    row = report["stages"]["sr256"]
    assert row["images"] == 2
    assert row["largest_color_shift"] >= row["color_shift"]["value"]
    with pytest.raises(ConfigError, match="have no super-resolution"):
        evaluate_super_resolution(cascade, SuperResolutionEvaluation(count=1, stages=1))


def test_images_with_alpha_are_measured_on_white():
    rgba = make_cascade(make_stages(image_channels=4))
    config = SuperResolutionEvaluation(count=2, categories=("single",))
    report = evaluate_super_resolution(rgba, config)
    assert list(report["stages"]) == ["sr256"]
