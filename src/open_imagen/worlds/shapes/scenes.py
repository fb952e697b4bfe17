"""The shapes world: what can be in a picture, in words and in exact geometry.

A `Scene` is the meaning (what the caption says); a `Layout` is one picture of it (where each
object is). Lengths are in units of the picture's side, y down. Everything random comes from one
`random.Random`, so that scene k is a function of k alone.
"""

import math
import random
from dataclasses import dataclass
from typing import NamedTuple

from open_imagen.worlds.shapes.signs import Sign, half_width
from open_imagen.worlds.shapes.words import SHOWN

SHAPES = (
    "circle",
    "square",
    "triangle",
    "star",
    "ring",
    "cross",
    "heart",
    "diamond",
    "hexagon",
    "crescent",
)
COLORS: dict[str, tuple[int, int, int]] = {
    "red": (220, 30, 30),
    "orange": (245, 140, 20),
    "yellow": (245, 220, 40),
    "green": (40, 160, 60),
    "blue": (40, 80, 220),
    "purple": (140, 50, 180),
    "pink": (250, 140, 190),
    "brown": (130, 80, 40),
}
BACKGROUNDS: dict[str, int] = {"white": 250, "gray": 150, "black": 15}
RELATIONS = ("to the left of", "to the right of", "above", "below")
SIZES: dict[str, tuple[float, float]] = {"small": (0.09, 0.12), "large": (0.24, 0.32)}
"""Half the height of an object, as a share of the picture's side."""

UNSEEN_PAIRS = frozenset(
    {
        ("red", "star"),
        ("blue", "heart"),
        ("green", "triangle"),
        ("yellow", "ring"),
        ("purple", "square"),
        ("orange", "crescent"),
        ("pink", "hexagon"),
        ("brown", "cross"),
    }
)
"""Never shown in training: they ask whether colour and shape are understood apart."""

COLOR_SYNONYMS = {
    "crimson": "red",
    "scarlet": "red",
    "tangerine": "orange",
    "golden": "yellow",
    "emerald": "green",
    "navy": "blue",
    "violet": "purple",
    "rose": "pink",
    "chocolate": "brown",
}
SHAPE_SYNONYMS = {
    "disc": "circle",
    "dot": "circle",
    "box": "square",
    "pyramid": "triangle",
    "asterisk": "star",
    "hoop": "ring",
    "donut": "ring",
    "plus": "cross",
    "rhombus": "diamond",
    "moon": "crescent",
}
"""Words never shown in training: understanding them must come from the frozen language model."""

NUMBERS = ("one", "two", "three", "four", "five")


class Kind(NamedTuple):
    """What an object is, in words."""

    color: str
    shape: str
    size: str = ""


@dataclass(frozen=True)
class Scene:
    """What a caption says: ``count`` objects of one kind, or two different ones, or a sign."""

    kinds: tuple[Kind, ...]
    count: int = 1
    """How many of a single kind."""
    relation: str = ""
    """Where the first of two objects is, seen from the second; empty: anywhere."""
    background: str = ""
    """Empty: any."""
    sign: str = ""
    """The word on a sign, in capitals; there are then no objects."""


class Placed(NamedTuple):
    """An object in the picture: centre and half height in units of the side."""

    kind: Kind
    x: float
    y: float
    radius: float


class Layout(NamedTuple):
    """One picture of a scene."""

    objects: tuple[Placed, ...]
    background: str
    sign: Sign | None = None


@dataclass(frozen=True, kw_only=True)
class Mixture:
    """Relative weights of the sorts of scenes, named as the categories of the suite."""

    single: float = 4.0
    counting: float = 3.0
    two_objects: float = 2.0
    position: float = 3.0
    text_rendering: float = 0.0


def draw_scene(rng: random.Random, mixture: Mixture) -> Scene:
    """A random scene without the pairs that training never shows."""
    sorts = ("single", "counting", "two_objects", "position", "text_rendering")
    [sort] = rng.choices(sorts, [getattr(mixture, sort) for sort in sorts])
    background = rng.choice(("", *BACKGROUNDS))
    if sort == "text_rendering":
        return Scene((), background=background, sign=rng.choice(SHOWN))
    if sort == "single":
        size = rng.choice(("", "", *SIZES))
        return Scene((draw_kind(rng, size),), background=background)
    if sort == "counting":
        size = rng.choice(("", "", "small"))
        return Scene((draw_kind(rng, size),), rng.randint(2, 5), background=background)
    first = draw_kind(rng)
    second = draw_kind(rng)
    while second == first:
        second = draw_kind(rng)
    relation = rng.choice(RELATIONS) if sort == "position" else ""
    if not relation and rng.random() < 0.25:
        sizes = rng.sample(sorted(SIZES), 2)
        first, second = first._replace(size=sizes[0]), second._replace(size=sizes[1])
    return Scene((first, second), relation=relation, background=background)


def draw_kind(rng: random.Random, size: str = "") -> Kind:
    """A random object of a seen pair."""
    while True:
        color, shape = rng.choice(sorted(COLORS)), rng.choice(SHAPES)
        if (color, shape) not in UNSEEN_PAIRS:
            return Kind(color, shape, size)


def draw_layout(scene: Scene, rng: random.Random) -> Layout:
    """Place a scene's objects at random: inside, apart, and as its relation demands."""
    background = scene.background or rng.choice(sorted(BACKGROUNDS))
    if scene.sign:
        return Layout((), background, place_sign(scene.sign, rng))
    kinds = scene.kinds * scene.count if len(scene.kinds) == 1 else scene.kinds
    shrink = 1.0
    while True:
        for _ in range(60):
            objects = _scatter(kinds, shrink, rng)
            if objects and _holds(scene.relation, objects):
                return Layout(objects, background)
        shrink *= 0.95


def place_sign(word: str, rng: random.Random) -> Sign:
    """A sign anywhere inside, as large as its word allows."""
    wide = half_width(word)
    height = rng.uniform(0.8, 1.0) * min(0.22, 0.48 / wide)
    x, y = (rng.uniform(margin, 1 - margin) for margin in (height * wide + 0.01, height + 0.01))
    return Sign(word, x, y, height)


def _scatter(kinds: tuple[Kind, ...], shrink: float, rng: random.Random) -> tuple[Placed, ...]:
    """Objects at free places, or none if they did not fit."""
    shared = rng.uniform(*_sizes(kinds[0], len(kinds))) * shrink
    objects: list[Placed] = []
    for kind in kinds:
        same_kind = len(set(kinds)) == 1
        radius = shared if same_kind else rng.uniform(*_sizes(kind, len(kinds))) * shrink
        margin = radius * _reach(kind.shape) + 0.02
        placed = Placed(
            kind, rng.uniform(margin, 1 - margin), rng.uniform(margin, 1 - margin), radius
        )
        for other in objects:
            gap = math.hypot(placed.x - other.x, placed.y - other.y)
            apart = radius * _reach(kind.shape) + other.radius * _reach(other.kind.shape) + 0.03
            if gap < apart:
                return ()
        objects.append(placed)
    return tuple(objects)


def _sizes(kind: Kind, number: int) -> tuple[float, float]:
    """The range of half heights: as named, else what leaves room for the others."""
    if kind.size == "large" and number > 1:
        return (0.20, 0.24)
    if kind.size:
        return SIZES[kind.size]
    return {1: (0.14, 0.30), 2: (0.12, 0.21), 3: (0.10, 0.17)}.get(number, (0.09, 0.14))


def _reach(shape: str) -> float:
    """Radius of the circle around a shape's centre that holds it, in half heights."""
    wide = {"square": 1.42, "triangle": 1.53, "heart": 1.22, "star": 1.2, "hexagon": 1.16}
    return wide.get(shape, 1.05)


def _holds(relation: str, objects: tuple[Placed, ...]) -> bool:
    return not relation or relation_holds(
        relation, objects[0].x - objects[1].x, objects[0].y - objects[1].y
    )


def relation_holds(relation: str, dx: float, dy: float) -> bool:
    """Whether an object offset by (dx, dy) from another stands in this relation to it.

    By centre, and the relation's axis dominates. y grows downwards.
    """
    along, across = (dx, dy) if "the" in relation.split() else (dy, dx)
    sign = 1 if relation in ("to the right of", "below") else -1
    return sign * along > abs(across)
