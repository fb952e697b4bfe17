"""The renderer against areas and corners known by geometry, at any resolution and in windows."""

import math
import random

import pytest
import torch

from open_imagen.worlds.shapes.render import DISTANCES, HEART_HEIGHT, render
from open_imagen.worlds.shapes.scenes import (
    BACKGROUNDS,
    COLORS,
    SHAPES,
    Kind,
    Layout,
    Mixture,
    Placed,
    draw_layout,
    draw_scene,
)
from open_imagen.worlds.shapes.signs import BOARD, FRAME, INK, Sign, half_width, letters
from standins import needs_cuda

SIN60 = math.sin(math.pi / 3)
STAR = 2 / (1 + math.cos(math.pi / 5))  # the outer radius when the height is 2


def lens(r, d):
    """Area common to the unit disc and one of radius r whose centre is d away."""
    a = math.acos((d * d + 1 - r * r) / (2 * d))
    b = math.acos((d * d + r * r - 1) / (2 * d * r))
    kite = math.sqrt((1 + r - d) * (d + r - 1) * (d - r + 1) * (d + r + 1)) / 2
    return a + r * r * b - kite


AREA = {
    "circle": math.pi,
    "square": 4,
    "triangle": 2 * 2 / SIN60 / 2,
    "star": 5 * STAR**2 * 0.42 * math.sin(math.pi / 5),
    "ring": math.pi * 0.75,
    "cross": 2 * 2 * 0.6 - 0.36,
    "heart": (0.5 + math.pi / 8) * (2 / HEART_HEIGHT) ** 2,
    "diamond": 2 * 1.4 / 2,
    "hexagon": 2 * 3**0.5,
    "crescent": math.pi - lens(0.8, 0.45),
}
"""In units of the squared half height, by geometry."""


def one(shape, radius=0.3, background="black", color="red"):
    return Layout((Placed(Kind(color, shape), 0.5, 0.5, radius),), background)


def test_every_shape_has_a_distance():
    assert set(DISTANCES) == set(SHAPES) == set(AREA)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size", [64, 200])
def test_areas_are_exact(shape, size):
    image = render([one(shape)], size)[0, 0].float()
    share = (image - 15) / (COLORS["red"][0] - 15)
    requested = AREA[shape] * (0.3 * size) ** 2
    assert share.sum().item() == pytest.approx(requested, rel=0.01)


@pytest.mark.parametrize("shape", SHAPES)
def test_heights_are_exact(shape):
    inside = (render([one(shape)], 400)[0, 0] > 40).any(dim=1).nonzero().flatten()
    assert inside[0].item() == pytest.approx(0.2 * 400, abs=1.5)
    assert inside[-1].item() == pytest.approx(0.8 * 400, abs=1.5)


@pytest.mark.parametrize("shape", SHAPES)
def test_distances_are_distances(shape):
    # The gradient of a distance has length 1 nearly everywhere.
    x, y = torch.meshgrid(
        torch.linspace(-1.5, 1.5, 61), torch.linspace(-1.5, 1.5, 61), indexing="xy"
    )
    x, y = (t.double().requires_grad_() for t in (x + 0.011, y + 0.007))
    gradients = torch.autograd.grad(DISTANCES[shape](x, y).sum(), (x, y))
    length = torch.hypot(*gradients)
    assert ((length - 1).abs() < 1e-3).double().mean() > 0.99


@pytest.mark.parametrize("background, shade", BACKGROUNDS.items())
def test_colours_are_exact(background, shade):
    image = render([one("square", background=background, color="purple")], 64)[0]
    assert image[:, 32, 32].tolist() == list(COLORS["purple"])
    assert image[:, 1, 1].tolist() == [shade] * 3


def test_a_window_is_a_part_of_the_whole():
    layouts = [one("star"), one("heart")]
    whole = render(layouts, 256)
    part = render(layouts, 128, window=[(0.25, 0.5), (0.0, 0.25)], extent=0.5)
    assert torch.equal(part[0], whole[0, :, 128:256, 64:192])
    assert torch.equal(part[1], whole[1, :, 64:192, 0:128])


@pytest.mark.parametrize("background", ["white", "gray", "black"])
def test_a_sign_has_the_areas_of_its_parts(background):
    """Board, frame and letters, of a sign all of whose edges lie on pixels."""
    height = 32 / 256
    sign = Sign("I", 0.5, 0.5, height)
    [drawn] = render([Layout((), background, sign)], 256).float()
    assert drawn[0].equal(drawn[2])
    outer = 2 * 32 * 2 * 32 * half_width("I")
    frame = outer - (2 * 32 * (1 - FRAME)) * (2 * 32 * (half_width("I") - FRAME))
    ink = letters(sign, 256).sum()
    shade = BACKGROUNDS[background]
    requested = 256**2 * shade + outer * (BOARD - shade) - (frame + ink) * (BOARD - INK)
    assert drawn[0].sum().item() == pytest.approx(requested.item(), rel=1e-3)
    assert 0.02 < ink / outer < 0.05


def test_a_window_on_a_sign_is_a_part_of_the_whole():
    sign = Layout((), "gray", Sign("OK", 0.5, 0.5, 0.2))
    [whole] = render([sign], 256).int()
    [part] = render([sign], 128, window=[(0.25, 0.25)], extent=0.5).int()
    # Letters are placed to a quarter of a pixel, from the corner of what is drawn.
    assert (part - whole[:, 64:192, 64:192]).abs().float().mean() < 0.2


def test_a_picture_does_not_depend_on_its_batch():
    layouts = [one("star"), one("ring", 0.2), one("star", 0.1, "white", "blue")]
    together = render(layouts, 64)
    for k, layout in enumerate(layouts):
        assert torch.equal(render([layout], 64)[0], together[k])


def test_an_empty_picture_is_its_background():
    assert (render([Layout((), "gray")], 8) == 150).all()


@needs_cuda
def test_a_gpu_paints_the_same_pictures():
    rng = random.Random(4)
    scenes = [draw_scene(rng, Mixture(sign=3.0)) for _ in range(64)]
    layouts = [draw_layout(scene, rng) for scene in scenes]
    corners = [(0.25, 0.5)] * 64
    here = render(layouts, 96, window=corners, extent=0.5).int()
    there = render(layouts, 96, "cuda", corners, 0.5).cpu().int()
    assert (here - there).abs().max() <= 1
    assert (here != there).float().mean() < 1e-3
