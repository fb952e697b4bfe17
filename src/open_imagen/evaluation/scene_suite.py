"""Prompts of the scene world by category, and whether a picture does what its prompt asks."""

import random
from typing import NamedTuple

from open_imagen.data.captions import BACKGROUND_TEMPLATES, OPENINGS, caption, named
from open_imagen.data.scenes import (
    BACKGROUNDS,
    COLOR_SYNONYMS,
    COLORS,
    RELATIONS,
    SHAPE_SYNONYMS,
    SHAPES,
    UNSEEN_PAIRS,
    Kind,
    Scene,
    draw_kind,
    relation_holds,
)
from open_imagen.data.words import SHOWN, UNSEEN
from open_imagen.evaluation.checker import Seen

CATEGORIES = {
    "single": "one object of the right colour and shape",
    "color": "the colour of a single object",
    "shape": "the shape of a single object",
    "two_objects": "two objects, each with its own colour and shape",
    "counting": "two to five alike: as many as asked for, all of the right kind",
    "position": "two objects in the right relation",
    "size": "a single object, small or large",
    "background": "the background behind a single object",
    "unseen_pairs": "a colour and a shape never shown together in training",
    "unseen_words": "a word never shown in training",
    "signs": "the word on a sign, letter by letter",
    "unseen_signs": "a word on a sign that training never showed there",
}
SAME_PICTURES = {"color": "single", "shape": "single"}
"""Categories that look at the pictures of another one."""
SIGNS = {"signs": SHOWN, "unseen_signs": UNSEEN}
"""Categories that ask for a sign, and the words of each."""
LARGE = 0.18
"""Half heights above this share of the side are large; a lone object named small is below."""


class Item(NamedTuple):
    """A prompt and the scene it means."""

    prompt: str
    scene: Scene


def make_items(category: str, count: int, seed: int) -> list[Item]:
    """Prompts of a category; prompt k depends on (category, seed, k) alone."""
    category = SAME_PICTURES.get(category, category)
    return [_item(category, random.Random(f"suite {category} {seed} {k}")) for k in range(count)]


def _item(category: str, rng: random.Random) -> Item:
    background = rng.choice(("", *BACKGROUNDS))
    if category in SIGNS:
        scene = Scene((), background=background, sign=rng.choice(SIGNS[category]))
        return Item(caption(scene, rng), scene)
    if category == "unseen_words":
        return _unseen_words(rng, background)
    if category == "unseen_pairs":
        scene = Scene((Kind(*rng.choice(sorted(UNSEEN_PAIRS))),), background=background)
    elif category == "counting":
        scene = Scene((draw_kind(rng),), rng.randint(2, 5), background=background)
    elif category == "size":
        scene = Scene((draw_kind(rng, rng.choice(("small", "large"))),), background=background)
    elif category == "background":
        scene = Scene((draw_kind(rng),), background=rng.choice(sorted(BACKGROUNDS)))
    elif category in ("two_objects", "position"):
        first, second = draw_kind(rng), draw_kind(rng)
        while second == first:
            second = draw_kind(rng)
        relation = rng.choice(RELATIONS) if category == "position" else ""
        scene = Scene((first, second), relation=relation, background=background)
    else:
        scene = Scene((draw_kind(rng),), background=background)
    return Item(caption(scene, rng), scene)


def _unseen_words(rng: random.Random, background: str) -> Item:
    """A single object, its colour or its shape said with a synonym."""
    if rng.random() < 0.5:
        word = rng.choice(sorted(COLOR_SYNONYMS))
        shape = rng.choice([s for s in SHAPES if (COLOR_SYNONYMS[word], s) not in UNSEEN_PAIRS])
        kind, said = Kind(COLOR_SYNONYMS[word], shape), Kind(word, shape)
    else:
        word = rng.choice(sorted(SHAPE_SYNONYMS))
        color = rng.choice(
            [c for c in sorted(COLORS) if (c, SHAPE_SYNONYMS[word]) not in UNSEEN_PAIRS]
        )
        kind, said = Kind(color, SHAPE_SYNONYMS[word]), Kind(color, word)
    text = named(said)
    if background:
        text = rng.choice(BACKGROUND_TEMPLATES).format(objects=text, background=background)
    return Item(rng.choice(OPENINGS) + text, Scene((kind,), background=background))


def judge(category: str, scene: Scene, seen: Seen) -> bool:
    """Whether a picture, as the checker sees it, does what a prompt of this category asks."""
    if category in SIGNS:
        return seen.sign == scene.sign
    found = seen.objects
    kinds = [(thing.color, thing.shape) for thing in found]
    wanted = [(kind.color, kind.shape) for kind in scene.kinds]
    if category == "counting":
        return kinds == wanted * scene.count
    if category in ("two_objects", "position"):
        if sorted(kinds) != sorted(wanted):
            return False
        if not scene.relation:
            return True
        first, second = found if kinds[0] == wanted[0] else found[::-1]
        return relation_holds(scene.relation, first.x - second.x, first.y - second.y)
    if len(found) != 1:
        return False
    if category == "background":
        return seen.background == scene.background
    if category == "color":
        return found[0].color == wanted[0][0]
    if category == "shape":
        return found[0].shape == wanted[0][1]
    right = kinds == wanted
    if category == "size":
        return right and (found[0].radius > LARGE) == (scene.kinds[0].size == "large")
    return right
