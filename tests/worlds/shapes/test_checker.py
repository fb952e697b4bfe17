"""The checker against rendered truth, where it must be right, and shuffled captions, where not."""

import random

import pytest
import torch

from open_imagen.worlds.shapes.checker import components, detect
from open_imagen.worlds.shapes.render import render
from open_imagen.worlds.shapes.scenes import BACKGROUNDS, Kind, Layout, Placed, Scene, draw_layout
from open_imagen.worlds.shapes.signs import ALPHABET, Sign, half_width
from open_imagen.worlds.shapes.suite import (
    CATEGORIES,
    SAME_IMAGES,
    TEXT_RENDERING,
    is_right,
    make_items,
)

COUNT = 60
CHANCE = {"color": 0.3, "shape": 0.3, "background": 0.6}
"""Generous bounds on what a picture of another caption gets right; elsewhere 15 %."""


def truth(category, size, seed=3):
    items = make_items(category, COUNT, seed)
    rng = random.Random(seed)
    images = render([draw_layout(item.scene, rng) for item in items], size)
    return items, [detect(image, category in TEXT_RENDERING) for image in images]


@pytest.mark.parametrize("size", [64, 256])
def test_rendered_truth_is_recognised_and_shuffled_captions_are_not(size):
    right = wrong = total = 0
    for category in CATEGORIES:
        if category in SAME_IMAGES:
            continue
        items, seen = truth(category, size)
        names = [category, *(c for c, other in SAME_IMAGES.items() if other == category)]
        for name in names:
            right += sum(is_right(name, i.scene, s) for i, s in zip(items, seen, strict=True))
            total += COUNT
            shuffled = items[1:] + items[:1]
            lucky = sum(is_right(name, i.scene, s) for i, s in zip(shuffled, seen, strict=True))
            assert lucky / COUNT <= CHANCE.get(name, 0.15), name
            wrong += lucky
    assert right / total >= 0.99
    assert wrong / total < 0.2


@pytest.mark.parametrize("size", [64, 256])
def test_every_letter_is_read_and_a_wrong_one_is_seen(size):
    for start in range(0, len(ALPHABET), 4):
        word = ALPHABET[start : start + 4]
        sign = Sign(word, 0.5, 0.45, 0.48 / half_width(word))
        for background in BACKGROUNDS:
            [drawn] = render([Layout((), background, sign)], size)
            seen = detect(drawn, read=True)
            assert seen.sign == word
            assert is_right("text_rendering", Scene((), sign=word), seen)
            assert not is_right("text_rendering", Scene((), sign=word[::-1]), seen)


def test_without_a_sign_there_is_nothing_to_read():
    for background in BACKGROUNDS:  # a ring on white has a white patch inside
        ring = image(("red", "ring", 0.5, 0.5, 0.3), background=background)
        assert detect(ring, read=True).sign in ("", "?")
        assert detect(ring).sign == ""


def image(*things, background="gray"):
    placed = [Placed(Kind(color, shape), x, y, r) for color, shape, x, y, r in things]
    return render([Layout(tuple(placed), background)], 256)[0]


def test_places_and_sizes_are_measured():
    seen = detect(image(("red", "crescent", 0.3, 0.7, 0.15), background="white"))
    [thing] = seen.objects
    assert (thing.color, thing.shape, seen.background) == ("red", "crescent", "white")
    assert (thing.x, thing.y, thing.radius) == pytest.approx((0.3, 0.7, 0.15), abs=0.01)
    assert thing.fit > 0.9


def test_a_blob_has_no_shape_and_a_strange_colour_no_name():
    image = torch.full((3, 128, 128), 250, dtype=torch.uint8)
    image[:, 20:40, 20:110] = torch.tensor([0, 255, 255], dtype=torch.uint8)[:, None, None]
    [thing] = detect(image).objects
    assert (thing.color, thing.shape) == ("", "")


def test_dust_is_ignored_and_an_empty_picture_is_empty():
    image = torch.full((3, 128, 128), 15, dtype=torch.uint8)
    image[:, 5:8, 5:8] = 255
    seen = detect(image)
    assert seen.objects == ()
    assert seen.background == "black"


def test_components_are_told_apart():
    mask = torch.zeros(9, 9, dtype=torch.bool)
    mask[0, :] = mask[:, 0] = mask[8, :] = True  # a C
    mask[3:6, 4:7] = True
    labels = components(mask)
    assert len(labels.unique()) == 3
    assert labels[0, 8] == labels[8, 8] != labels[4, 5]
    assert not labels[~mask].any()


def test_judging_by_hand():
    two = detect(image(("red", "circle", 0.3, 0.3, 0.1), ("blue", "square", 0.7, 0.4, 0.1)))
    scene = Scene((Kind("red", "circle"), Kind("blue", "square")), 1, "to the left of")
    assert is_right("position", scene, two)
    assert is_right("two_objects", scene, two)
    mirrored = Scene(scene.kinds, 1, "to the right of")
    assert not is_right("position", mirrored, two)
    swapped = Scene((Kind("blue", "circle"), Kind("red", "square")))
    assert not is_right("two_objects", swapped, two)
    assert not is_right("single", Scene((Kind("red", "circle"),)), two)
    assert not is_right("counting", Scene((Kind("red", "circle"),), 2), two)


def test_what_is_transparent_is_seen_on_white():
    layout = Layout((Placed(Kind("red", "circle"), 0.5, 0.5, 0.3),), "white")
    [opaque] = render([layout], 64)
    inside = (opaque != 255).any(0)
    clear = torch.cat([opaque * inside, inside[None] * torch.tensor(255, dtype=torch.uint8)])
    assert detect(clear) == detect(opaque)
    assert detect(clear).background == "white"
