"""The truth of a scene of things: what is there, how many, where, in what color and style."""

import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from open_imagen.worlds.shapes import scenes as shapes
from open_imagen.worlds.shapes.words import SHOWN
from open_imagen.worlds.things.catalog import Catalog
from open_imagen.worlds.things.held_out import color_held_out, pair_held_out, word_held_out

SHAPE, SIGN = -1, -2
"""Instead of a thing's index: an object of the shapes world, a word on a sign."""
COLORS: dict[str, tuple[int, int, int]] = {
    **shapes.COLORS,
    **{name: (shade,) * 3 for name, shade in shapes.BACKGROUNDS.items()},
}
RELATIONS = ("left of", "right of", "above", "below")
SHAPES_RELATIONS = dict(zip(shapes.RELATIONS, RELATIONS, strict=True))
SIZES = ("small", "large")


class Item(NamedTuple):
    """One kind of object, as a caption means it."""

    thing: int
    """Index of a thing in the atlas; `SHAPE` or `SIGN`."""
    label: str
    """The thing's label, the shape's name, or the word on the sign in capitals."""
    style: str = ""
    """Empty: any."""
    color: str = ""
    """What it was recoloured towards; empty: as drawn."""
    size: str = ""
    gender: str = ""
    tone: str = ""


@dataclass(frozen=True)
class Scene:
    """What a caption says: ``count`` equal objects, or up to three different ones."""

    items: tuple[Item, ...]
    count: int = 1
    """How many of a single item."""
    relation: str = ""
    """Where the first of two items is, seen from the second; empty: anywhere."""
    ground: str = ""
    """Empty: transparent; a color; or two of them, as in "red and blue"."""


@dataclass(frozen=True, kw_only=True)
class Mixture:
    """Relative weights of the sorts of scenes."""

    single: float = 6.0
    """One thing."""
    counting: float = 2.0
    """Two to five of one thing."""
    two_things: float = 1.0
    """Two different things."""
    relation: float = 2.5
    """Two different things, one above, below, left or right of the other."""
    three_things: float = 0.4
    """Three different things."""
    sign: float = 0.6
    """A sign with a word."""
    with_sign: float = 0.5
    """A thing and a sign."""
    with_shape: float = 0.6
    """A thing and a shape of the shapes world."""


@dataclass(frozen=True, kw_only=True)
class Shares:
    """Probabilities of what a scene says about its objects."""

    color: float = 0.25
    """An object is recoloured."""
    style: float = 0.6
    """The style is named."""
    ground: float = 0.56
    """There is a ground; otherwise the scene is transparent around its objects."""
    two_tone: float = 0.06
    """Of the grounds, those of two colors."""
    seen_words: float = 0.6
    """Of the signs, those with a word of the list; the others carry random letters."""
    people: float = 0.5
    """Of people whose picture shows a gender or skin tone, those where it is named."""


def draw_scene(rng: random.Random, catalog: Catalog, mixture: Mixture, shares: Shares) -> Scene:
    """A random scene in full words, without anything that is held out; `draw_ground` is apart."""
    sorts = tuple(Mixture.__dataclass_fields__)
    [sort] = rng.choices(sorts, [getattr(mixture, sort) for sort in sorts])
    items = _items(sort, rng, catalog, shares)
    count = 1
    if sort == "counting":
        count = rng.choices((2, 3, 4, 5), (3, 3, 2, 2))[0]
    has_relation = sort == "relation" or (
        sort in ("with_sign", "with_shape") and rng.random() < 0.5
    )
    relation = rng.choice(_relations(items)) if has_relation else ""
    if sort == "single":
        size = rng.choices(("", *SIZES), (76, 12, 12))[0]
        items = (items[0]._replace(size=size),)
    elif sort == "two_things" and rng.random() < 0.3:
        sizes = rng.sample(SIZES, 2)
        items = tuple(item._replace(size=size) for item, size in zip(items, sizes, strict=True))
    if sort == "with_shape" and rng.random() < 0.5:
        items = items[::-1]
    return Scene(items, count, relation)


def _relations(items: Sequence[Item]) -> tuple[str, ...]:
    """Beside a long word there is no room."""
    wide = any(item.thing == SIGN and len(item.label) > 3 for item in items)
    return RELATIONS[2:] if wide else RELATIONS


def _items(sort: str, rng: random.Random, catalog: Catalog, shares: Shares) -> tuple[Item, ...]:
    if sort == "sign":
        return (_sign(rng, shares),)
    number = {"two_things": 2, "relation": 2, "three_things": 3}.get(sort, 1)
    while True:
        things = [catalog.draw(rng, counted=sort == "counting") for _ in range(number)]
        if all_apart(catalog, things):
            break
    styles = _styles(things, rng, catalog, shares)
    items = tuple(
        _item(thing, style, rng, catalog, shares)
        for thing, style in zip(things, styles, strict=True)
    )
    if sort == "with_sign":
        return (*items, _sign(rng, shares))
    if sort == "with_shape":
        kind = shapes.draw_kind(rng)
        return (*items, Item(SHAPE, kind.shape, color=kind.color))
    return items


def all_apart(catalog: Catalog, things: Sequence[int]) -> bool:
    """Whether things differ and no two of them are a held-out pair."""
    if len(set(things)) < len(things):
        return False
    labels = [catalog.label(thing) for thing in things]
    return not any(pair_held_out(a, b) for k, a in enumerate(labels) for b in labels[:k])


def _styles(
    things: Sequence[int], rng: random.Random, catalog: Catalog, shares: Shares
) -> list[str]:
    """The named style of each thing: mostly one for all, sometimes one for each."""
    if rng.random() >= shares.style:
        return [""] * len(things)
    if len(things) > 1 and rng.random() < 0.15:
        return [rng.choice(catalog.styles(thing)) for thing in things]
    common = set.intersection(*(set(catalog.styles(thing)) for thing in things))
    return [rng.choice(sorted(common)) if common else ""] * len(things)


def _item(thing: int, style: str, rng: random.Random, catalog: Catalog, shares: Shares) -> Item:
    label = catalog.label(thing)
    color = ""
    if catalog.recolorable(thing) and rng.random() < shares.color:
        choices = [name for name in catalog.colors if not color_held_out(name, label)]
        color = rng.choice(choices) if choices else ""
    gender, tone = "", ""
    if catalog.is_person(thing) and rng.random() < shares.people:
        gender, tone = catalog.person(thing, style, rng)
    return Item(thing, label, style, color, "", gender, tone)


def _sign(rng: random.Random, shares: Shares) -> Item:
    if rng.random() < shares.seen_words:
        return Item(SIGN, rng.choice(SHOWN))
    while True:
        word = random_word(rng)
        if not word_held_out(word):
            return Item(SIGN, word)


def random_word(rng: random.Random) -> str:
    """Two to seven capitals: pronounceable or, in a third of all, any letters."""
    length = rng.randint(2, 7)
    if rng.random() < 1 / 3:
        return "".join(rng.choices("ABCDEFGHIJKLMNOPQRSTUVWXYZ", k=length))
    turn = rng.random() < 0.5
    vowels, consonants = "AAEEIIOOUUY", "BBCDDFGHJKLLMMNNPPQRRSSTTVWXZ"
    return "".join(
        rng.choice(vowels if (k % 2 == 0) == turn else consonants) for k in range(length)
    )


def draw_ground(rng: random.Random, taken: Collection[str], shares: Shares) -> str:
    """Transparent, a color that is not ``taken``, or two."""
    free = [name for name in COLORS if name not in taken]
    if rng.random() >= shares.ground or len(free) < 2:
        return ""
    if rng.random() < shares.two_tone:
        return " and ".join(rng.sample(free, 2))
    return rng.choice(free)


def shortened(scene: Scene, rng: random.Random, keep: float = 0.15) -> Scene:
    """The same scene in fewer words: most styles, sizes, genders and tones are left unsaid.

    Colors, numbers, relations and grounds are always said: without them a caption would mean
    another picture.
    """
    style, size, person = (rng.random() < keep for _ in range(3))
    items = tuple(
        item._replace(
            style=item.style if style else "",
            size=item.size if size else "",
            gender=item.gender if person else "",
            tone=item.tone if person else "",
        )
        for item in scene.items
    )
    return replace(scene, items=items)


def of_shapes(scene: shapes.Scene) -> Scene:
    """A scene of the shapes world in this one's terms; transparent where no ground is named."""
    named = scene.background
    if scene.sign:
        return Scene((Item(SIGN, scene.sign),), ground=named)
    items = tuple(Item(SHAPE, k.shape, color=k.color, size=k.size) for k in scene.kinds)
    return Scene(items, scene.count, SHAPES_RELATIONS.get(scene.relation, ""), named)
