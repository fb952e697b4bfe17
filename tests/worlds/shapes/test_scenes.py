"""The shapes world: what is never shown, and what holds in every layout."""

import math
import random

import pytest

from open_imagen.worlds.shapes.captions import IRREGULAR, caption
from open_imagen.worlds.shapes.scenes import (
    COLOR_SYNONYMS,
    COLORS,
    RELATIONS,
    SHAPE_SYNONYMS,
    SHAPES,
    SIZES,
    UNSEEN_PAIRS,
    Kind,
    Mixture,
    Scene,
    draw_layout,
    draw_scene,
    relation_holds,
)
from open_imagen.worlds.shapes.signs import half_width
from open_imagen.worlds.shapes.words import SHOWN, UNSEEN

SCENES = [draw_scene(random.Random(seed), Mixture()) for seed in range(2000)]


def test_pairs_for_evaluation_are_never_drawn():
    shown = {(kind.color, kind.shape) for scene in SCENES for kind in scene.kinds}
    assert not shown & UNSEEN_PAIRS
    assert len(shown) == len(COLORS) * len(SHAPES) - len(UNSEEN_PAIRS)


def test_synonyms_are_never_said():
    words = {
        word
        for k, scene in enumerate(SCENES)
        for word in caption(scene, random.Random(k)).replace(",", "").split()
    }
    forbidden = {*COLOR_SYNONYMS, *SHAPE_SYNONYMS}
    assert not words & (forbidden | {word + "s" for word in forbidden} | {*IRREGULAR} - {"cross"})


def test_every_sort_of_scene_comes():
    assert {scene.count for scene in SCENES} == {1, 2, 3, 4, 5}
    assert {scene.relation for scene in SCENES} == {"", *RELATIONS}
    assert {scene.background for scene in SCENES} == {"", "white", "gray", "black"}


def test_signs_come_only_where_asked_for_and_never_with_a_word_kept_for_evaluation():
    assert not any(scene.sign for scene in SCENES)
    written = [draw_scene(random.Random(k), Mixture(text_rendering=3.0)) for k in range(4000)]
    words = {scene.sign for scene in written if scene.sign}
    assert 700 < sum(bool(scene.sign) for scene in written) < 900  # 3 parts of 15
    assert words <= set(SHOWN)
    assert len(UNSEEN) == len(set(UNSEEN)) == 60
    assert not words & set(UNSEEN)
    assert all(1 <= len(word) <= 4 and word.isupper() for word in (*SHOWN, *UNSEEN))


@pytest.mark.parametrize("word", ["A", "UP", "CAT", "MOON"])
def test_signs_stay_inside(word):
    for seed in range(50):
        layout = draw_layout(Scene((), sign=word), random.Random(seed))
        sign = layout.sign
        assert (layout.objects, sign.word) == ((), word)
        assert min(sign.y, 1 - sign.y) > sign.height
        assert min(sign.x, 1 - sign.x) > sign.height * half_width(word)


@pytest.mark.parametrize("seed", range(0, 2000, 10))
def test_objects_stay_inside_apart_and_as_related(seed):
    scene = SCENES[seed]
    layout = draw_layout(scene, random.Random(seed))
    assert len(layout.objects) == (scene.count if len(scene.kinds) == 1 else 2)
    assert layout.background == (scene.background or layout.background)
    for k, one in enumerate(layout.objects):
        assert min(one.x, one.y, 1 - one.x, 1 - one.y) > one.radius
        for other in layout.objects[:k]:
            assert math.hypot(one.x - other.x, one.y - other.y) > one.radius + other.radius
    if scene.relation:
        first, second = layout.objects
        assert relation_holds(scene.relation, first.x - second.x, first.y - second.y)


def test_named_sizes_are_as_named():
    for size, (low, high) in SIZES.items():
        layout = draw_layout(Scene((Kind("red", "circle", size),)), random.Random(0))
        assert low <= layout.objects[0].radius <= high


@pytest.mark.parametrize(
    "relation, dx, dy, holds",
    [
        ("to the left of", -0.3, 0.1, True),
        ("to the left of", -0.1, 0.3, False),
        ("to the right of", 0.3, -0.2, True),
        ("above", 0.1, -0.3, True),
        ("above", 0.1, 0.3, False),
        ("below", 0.0, 0.2, True),
    ],
)
def test_the_axis_of_a_relation_dominates(relation, dx, dy, holds):
    assert relation_holds(relation, dx, dy) is holds


@pytest.mark.parametrize(
    "scene, requested",
    [
        (Scene((Kind("orange", "star"),)), "an orange star"),
        (Scene((Kind("red", "cross", "small"),), 3), "three small red crosses"),
        (
            Scene((Kind("red", "circle"), Kind("blue", "square")), relation="above"),
            "a red circle above a blue square",
        ),
    ],
)
def test_captions_by_hand(scene, requested):
    assert requested in {caption(scene, random.Random(seed)) for seed in range(40)}
