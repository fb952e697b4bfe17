"""Prompts of the shapes world by category, and whether an image shows what its prompt asks for."""

import random
from typing import Any, NamedTuple

from open_imagen.errors import UnknownName
from open_imagen.evaluation.suites.prompts import Prompt, Suite
from open_imagen.evaluation.suites.suite import SUITES
from open_imagen.worlds.shapes import paraphrases
from open_imagen.worlds.shapes.captions import BACKGROUND_TEMPLATES, OPENINGS, caption, named
from open_imagen.worlds.shapes.checker import Detections
from open_imagen.worlds.shapes.questions import LARGE, questions
from open_imagen.worlds.shapes.scenes import (
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
from open_imagen.worlds.shapes.words import SHOWN, UNSEEN

WORLD = "shapes"
"""The world's name, of its suite and its judge."""
COUNT = 100
"""Prompts of each category, unless another number is asked for."""
CATEGORIES = {
    "single": "one object of the right colour and shape",
    "color": "the colour of a single object",
    "shape": "the shape of a single object",
    "two_objects": "two objects, each with its own colour and shape",
    "counting": "two to five of a kind: as many as asked for, all of the right kind",
    "position": "two objects in the right relation",
    "size": "a single object, small or large",
    "background": "the background behind a single object",
    "unseen_pairs": "a colour and a shape never shown together in training",
    "unseen_words": "a word never shown in training",
    "text_rendering": "the word on a sign, letter by letter",
    "unseen_text_rendering": "a word on a sign that training never showed there",
}
SAME_IMAGES = {"color": "single", "shape": "single"}
"""Categories that judge the images of another one."""
TEXT_RENDERING = {"text_rendering": SHOWN, "unseen_text_rendering": UNSEEN}
"""Categories that ask for a sign, and the words of each."""
SEED_NAMES = {"text_rendering": "signs", "unseen_text_rendering": "unseen_signs"}
"""Names that the random generators of some categories are seeded with: another name would draw
other prompts."""


RELATION_NAMES = {
    "to the left of": "left of",
    "to the right of": "right of",
    "above": "above",
    "below": "below",
}
"""Our relations by GenEval's names."""


class Item(NamedTuple):
    """A prompt and the scene it means."""

    prompt: str
    scene: Scene


def make_items(category: str, count: int, seed: int) -> list[Item]:
    """Prompts of a category; prompt k depends on (category, seed, k) alone."""
    category = SAME_IMAGES.get(category, category)
    name = SEED_NAMES.get(category, category)
    return [_item(category, random.Random(f"suite {name} {seed} {k}")) for k in range(count)]


def _item(category: str, rng: random.Random) -> Item:
    background = rng.choice(("", *BACKGROUNDS))
    if category in TEXT_RENDERING:
        scene = Scene((), background=background, sign=rng.choice(TEXT_RENDERING[category]))
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


def is_right(category: str, scene: Scene, seen: Detections) -> bool:
    """Whether an image, as the checker sees it, shows what a prompt of this category asks for."""
    if category in TEXT_RENDERING:
        return seen.sign == scene.sign
    found = seen.objects
    kinds = [(thing.color, thing.shape) for thing in found]
    requested = [(kind.color, kind.shape) for kind in scene.kinds]
    if category == "counting":
        return kinds == requested * scene.count
    if category in ("two_objects", "position"):
        if sorted(kinds) != sorted(requested):
            return False
        if not scene.relation:
            return True
        first, second = found if kinds[0] == requested[0] else found[::-1]
        return relation_holds(scene.relation, first.x - second.x, first.y - second.y)
    if len(found) != 1:
        return False
    if category == "background":
        return seen.background == scene.background
    if category == "color":
        return found[0].color == requested[0][0]
    if category == "shape":
        return found[0].shape == requested[0][1]
    right = kinds == requested
    if category == "size":
        return right and (found[0].radius > LARGE) == (scene.kinds[0].size == "large")
    return right


@SUITES.register(WORLD)
def open_shapes(name: str, count: int | None, seed: int) -> Suite:
    """The suite, or the categories that the name lists, as in "shapes:position,counting".

    "shapes:paraphrases" is the same scenes in other words.
    """
    _, _, listed = name.partition(":")
    if listed == paraphrases.NAME:
        items = [
            (item.scene, metadata_of(item.prompt, item.scene, category))
            for category in paraphrases.CATEGORIES
            for item in make_items(category, count or COUNT, seed)
        ]
        return paraphrases.scenes_suite(name, items, seed)
    chosen = [c.strip() for c in listed.split(",")] if listed else list(CATEGORIES)
    for category in chosen:
        if category not in CATEGORIES:
            raise UnknownName("category", category, (*CATEGORIES, paraphrases.NAME))
    sets = dict.fromkeys(SAME_IMAGES.get(category, category) for category in chosen)
    prompts = [
        Prompt(item.prompt, category, metadata_of(item.prompt, item.scene, category))
        for category in sets
        for item in make_items(category, count or COUNT, seed)
    ]
    return Suite(name, tuple(prompts))


def metadata_of(prompt: str, scene: Scene, category: str) -> dict[str, Any]:
    """A scene in GenEval's schema, and exactly in "scene", which the world's judge reads."""
    include: list[dict[str, Any]] = [
        {"class": kind.shape, "count": scene.count, "color": kind.color} for kind in scene.kinds
    ]
    exclude = []
    if scene.relation:
        # GenEval says where an object is from an earlier one, so the first of ours comes last.
        include = include[::-1]
        include[1]["position"] = [RELATION_NAMES[scene.relation], 0]
    if category == "counting":
        exclude = [{"class": scene.kinds[0].shape, "count": scene.count + 1}]
    truth = {
        "kinds": [list(kind) for kind in scene.kinds],
        "count": scene.count,
        "relation": scene.relation,
        "background": scene.background,
        **({"sign": scene.sign} if scene.sign else {}),
    }
    row = {
        "tag": category,
        "include": include,
        "prompt": prompt,
        "judge": WORLD,
        "scene": truth,
        "atoms": questions(scene),
    }
    return {**row, "exclude": exclude} if exclude else row
