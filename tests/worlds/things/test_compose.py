"""Composition: exact areas, exact crops, exact pairs, premultiplied alpha."""

import numpy as np
import pytest
import torch

from fake_atlas import FakeAtlas
from open_imagen.worlds.shapes import render as shapes_render
from open_imagen.worlds.shapes import scenes as shapes
from open_imagen.worlds.things.colors import NAMES, recolor, to_oklab, to_srgb
from open_imagen.worlds.things.compose import Composer, area_weights, board, sketch, to_uint8
from open_imagen.worlds.things.layout import Ground, Layout, Placed, of_shapes
from open_imagen.worlds.things.scenes import COLORS, SHAPE, SIGN, Item
from open_imagen.worlds.things.scenes import of_shapes as scene_of_shapes
from open_imagen.worlds.things.source import Things, ThingsConfig

ATLAS = FakeAtlas()
CAT = ATLAS.label_of("cat")


def cat(x, y, radius, color="", flip=False):
    return Placed(Item(CAT, "cat", color=color), ATLAS.first_sprite(CAT), x, y, radius, flip)


@pytest.fixture(scope="module")
def composer():
    return Composer(ATLAS, 64, "cpu")


def test_a_sprite_at_its_own_scale_is_copied(composer):
    layout = Layout((cat(0.5, 0.5, 0.25),))
    image = to_uint8(composer.draw(sketch([layout], 64), 128))
    sprite = torch.from_numpy(ATLAS.pixels(64)[ATLAS.first_sprite(CAT)]).permute(2, 0, 1)
    assert torch.equal(image[0, :, 32:96, 32:96], sprite)
    image[0, :, 32:96, 32:96] = 0
    assert not image.any()


def test_a_flipped_sprite_is_its_mirror_image(composer):
    plain, flipped = (Layout((cat(0.5, 0.5, 0.5, flip=flip),)) for flip in (False, True))
    images = composer.draw(sketch([plain, flipped], 64), 64)
    torch.testing.assert_close(images[1], images[0].flip(-1), atol=1e-6, rtol=0)


def test_halving_a_sprite_averages_its_pixels(composer):
    layout = Layout((cat(0.25, 0.75, 0.25),))
    image = composer.draw(sketch([layout], 64), 64)
    sprite = torch.from_numpy(ATLAS.pixels(64)[ATLAS.first_sprite(CAT)]).permute(2, 0, 1) / 255
    average = torch.nn.functional.avg_pool2d(sprite, 2)
    torch.testing.assert_close(image[0, :, 32:, :32], average, atol=1e-6, rtol=0)


def test_compositing_over_agrees_with_its_formula(composer):
    objects = (cat(0.4, 0.45, 0.31), cat(0.55, 0.6, 0.27), cat(0.5, 0.3, 0.22, flip=True))
    ground = Ground(("orange",))
    image = composer.draw(sketch([Layout(objects, ground)], 64), 64)[0].double()
    expected = torch.tensor([*(v / 255 for v in COLORS["orange"]), 1.0], dtype=torch.float64)
    expected = expected[:, None, None].expand(4, 64, 64)
    for one in objects:
        top = composer.draw(sketch([Layout((one,))], 64), 64)[0].double()
        expected = top + (1 - top[3]) * expected
    assert (image - expected).abs().max() < 1e-6


def test_no_color_exceeds_its_alpha():
    images = things(shapes=0.3).batch(0, 64).images
    assert (images[:, :3] <= images[:, 3:]).all()
    assert images[:, 3].float().mean() < 255
    assert images.shape == (64, 4, 64, 64)


def things(**settings):
    return Things(ThingsConfig(**settings), atlas=ATLAS)


def test_the_lowres_image_is_the_average_of_the_whole():
    batch = things(size=256, lowres=64).batch(0, 12)
    average = torch.nn.functional.avg_pool2d(batch.images.float(), 4)
    assert (average - batch.lowres.float()).abs().max() <= 1


def test_a_crop_is_that_part_of_the_whole():
    crops = things(size=64, crop=32, crop_at_edges=0.5)
    whole = things(size=64).batch(0, 12).images
    plan = crops.plan(0, 12)
    for image, full, (x, y) in zip(crops.draw(plan).images, whole, plan.corners, strict=True):
        left, top = round(64 * x), round(64 * y)
        part = full[:, top : top + 32, left : left + 32]
        assert (image.int() - part.int()).abs().max() <= 1


def test_two_tones_meet_in_the_middle(composer):
    layouts = [Layout((), Ground(("red", "blue"), stacked)) for stacked in (False, True)]
    images = to_uint8(composer.draw(sketch(layouts, 64), 64))
    red, blue = (torch.tensor([*COLORS[name], 255]) for name in ("red", "blue"))
    for image, row in zip(images, (False, True), strict=True):
        first, last = (
            (image[:, 31, 0], image[:, 32, 0]) if row else (image[:, 0, 31], image[:, 0, 32])
        )
        assert torch.equal(first.int(), red.int())
        assert torch.equal(last.int(), blue.int())


def test_shapes_are_drawn_as_in_their_own_world():
    rng = __import__("random").Random(3)
    for _ in range(10):
        scene = shapes.draw_scene(rng, shapes.Mixture())
        layout = shapes.draw_layout(scene, rng)
        ours = scene_of_shapes(scene)
        mine = of_shapes(layout, ours)._replace(ground=Ground((layout.background,)))
        image = Composer(ATLAS, 256, "cpu").draw(sketch([mine], 256), 64)[0, :3] * 255
        theirs = shapes_render.render([layout], 64)[0].float()
        assert (image - theirs).abs().mean() < 1.5
        assert (image - theirs).abs().max() < 110  # edges are softened by another filter


def test_a_sign_carries_its_letters(composer):
    layouts = [Layout((Placed(Item(SIGN, word), -1, 0.5, 0.5, 0.45),)) for word in ("STOP", "SHOP")]
    images = composer.draw(sketch(layouts, 64), 64)
    assert images[0, 3].max() > 0.999
    assert images[0, 3, 0].max() == 0
    assert torch.equal(images[0, 0], images[0, 1])
    differ = (images[0, 0] - images[1, 0]).abs().amax(0) > 0.1
    places = differ.nonzero()[:, 0]
    assert (places.min() >= 16, places.max() <= 32) == (True, True), (
        places
    )  # the second of four letters
    assert board("STOP", 64).shape == (2, 64, 64)


def test_area_weights_sum_to_the_share_that_is_covered():
    weights = area_weights(torch.tensor([-0.25]), torch.tensor([0.125]), 12, 64)
    assert torch.equal(weights.sum(2)[0], torch.tensor([0.0] * 2 + [1.0] * 8 + [0.0] * 2))


def test_oklab_and_back():
    colors = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(to_srgb(to_oklab(colors)), colors, atol=1e-3, rtol=0)


@pytest.mark.parametrize("name", NAMES)
def test_recolored_things_have_the_named_color(name):
    sprites = torch.from_numpy(ATLAS.pixels(64)[:3]).permute(0, 3, 1, 2).float() / 255
    images = recolor(sprites, torch.full((3,), NAMES.index(name)))
    assert torch.equal(images[:, 3], sprites[:, 3])
    assert (images[:, :3] <= images[:, 3:] + 1e-6).all()
    solid = sprites[:, 3] == 1
    # Outlines stay dark, and shading stays: no two tones become one.
    dark = solid & (sprites[:, :3].amax(1) < 0.15)
    assert dark.any()
    assert images[:, :3].amax(1)[dark].max() < 0.35
    targets = to_oklab(torch.tensor(list(COLORS.values())).float()[:, :, None, None] / 255)
    for image, mask in zip(images, solid & ~dark, strict=True):
        middle = to_oklab(image[None, :3])[0][:, mask].median(1).values
        nearest = (targets[..., 0, 0] - middle).norm(dim=1).argmin()
        assert NAMES[nearest] == name


def test_shapes_take_colors_too(composer):
    layout = Layout((Placed(Item(SHAPE, "circle", color="green"), -1, 0.5, 0.5, 0.4),))
    image = to_uint8(composer.draw(sketch([layout], 64), 64))[0]
    assert image[:, 32, 32].tolist() == [*COLORS["green"], 255]
    assert np.isclose(image[3].float().mean() / 255, np.pi * 0.16, atol=0.01)
