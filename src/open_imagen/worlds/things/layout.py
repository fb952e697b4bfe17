"""Where each object of a scene lies: inside, apart from the others, as its relation demands."""

import random
from collections.abc import Sequence
from typing import NamedTuple

from open_imagen.worlds.shapes import scenes as shapes
from open_imagen.worlds.shapes.signs import half_width
from open_imagen.worlds.things.catalog import Catalog
from open_imagen.worlds.things.grammar import words
from open_imagen.worlds.things.scenes import SHAPE, SHAPES_RELATIONS, SIGN, Item, Scene

SHAPE_WIDTHS = {
    "triangle": 1.1547,
    "star": 1.0515,
    "heart": 1.0938,
    "diamond": 0.7,
    "hexagon": 1.1547,
}
"""Half the width of a shape, in half heights; 1 for the others."""
SIDED = frozenset({"left", "right", "clock", "watch", "calendar", "keyboard", "newspaper", "stop"})
"""Things whose label holds one of these words are not flipped: it would be another, or misspelt."""
LETTERED = words(
    """
    abcd button map globe sign book memo money banknote ledger chart school bank hospital
    hotel convenience atm post police ambulance taxi yen dollar euro pound card receipt
    laptop computer love identification e-mail bus 1234 input x-ray nazar japan america
    liberty dice mahjong joker die slot pool 8
    """
)
"""As `SIDED`: these hold letters or numbers in one style or another."""
RELATIONS_OF_SHAPES = {ours: theirs for theirs, ours in SHAPES_RELATIONS.items()}
GAP = 0.02
CLOSE_UP = 0.46
"""Half the longer side of a thing that fills the image."""


class Placed(NamedTuple):
    """An object in the picture."""

    item: Item
    sprite: int
    """Of the atlas; -1 for shapes and signs."""
    x: float
    y: float
    """Its centre, in units of the picture's side, y down."""
    radius: float
    """Half its longer side."""
    flip: bool = False


class Ground(NamedTuple):
    """What lies behind: no color (transparent), one, or two."""

    colors: tuple[str, ...] = ()
    stacked: bool = False
    """Two colors lie over each other instead of side by side."""


class Layout(NamedTuple):
    """One picture of a scene."""

    objects: tuple[Placed, ...]
    ground: Ground = Ground()


class Extent(NamedTuple):
    """Half width and half height of an object, as shares of half its longer side."""

    x: float
    y: float


def draw_layout(
    scene: Scene, rng: random.Random, catalog: Catalog, close_up: bool = False
) -> Layout:
    """Choose a sprite, a size and a place for each object of a scene.

    Args:
        close_up: a single object fills the image, at its centre.
    """
    items = scene.items * scene.count if len(scene.items) == 1 else scene.items
    sprites = _sprites(scene, items, rng, catalog)
    extents = [
        extent_of(item, catalog, sprite) for item, sprite in zip(items, sprites, strict=True)
    ]
    ground = place_ground(scene.ground, rng)
    if close_up:
        flip = flippable(items[0]) and rng.random() < 0.5
        return Layout((Placed(items[0], sprites[0], 0.5, 0.5, CLOSE_UP, flip),), ground)
    shrink = 1.0
    while True:
        for _ in range(20):
            places = _scatter(items, extents, shrink, scene.relation, rng)
            if places:
                flips = [flippable(item) and rng.random() < 0.5 for item in items]
                objects = map(
                    Placed._make,
                    zip(items, sprites, *zip(*places, strict=True), flips, strict=True),
                )
                return Layout(tuple(objects), ground)
        shrink *= 0.93


def place_ground(ground: str, rng: random.Random) -> Ground:
    """The colors of a scene's ground, and how two of them lie."""
    colors = tuple(ground.split(" and ")) if ground else ()
    return Ground(colors, len(colors) > 1 and rng.random() < 0.3)


def _sprites(
    scene: Scene, items: Sequence[Item], rng: random.Random, catalog: Catalog
) -> list[int]:
    """One for all objects alike, mostly; of different things mostly of one style."""
    alike = len(scene.items) == 1 and rng.random() < 0.8
    together = rng.random() < 0.7
    chosen: list[int] = []
    for item in items:
        if item.thing < 0:
            chosen.append(-1)
        elif alike and chosen:
            chosen.append(chosen[0])
        else:
            style = item.style
            if not style and together and chosen and chosen[0] >= 0:
                shared = catalog.sprites[chosen[0]].style
                style = shared if shared in catalog.styles(item.thing) else ""
            chosen.append(catalog.sprite(rng, item.thing, style, item.gender, item.tone))
    return chosen


def extent_of(item: Item, catalog: Catalog, sprite: int) -> Extent:
    """The shape of an object's box."""
    if item.thing == SIGN:
        wide = half_width(item.label)
        return Extent(min(wide, 1.0), min(1 / wide, 1.0))
    if item.thing == SHAPE:
        wide = SHAPE_WIDTHS.get(item.label, 1.0)
        return Extent(min(wide, 1.0), min(1 / wide, 1.0))
    return Extent(catalog.sprites[sprite].width, catalog.sprites[sprite].height)


def flippable(item: Item) -> bool:
    """Whether an object may be seen in a mirror: not where that would be another thing."""
    return item.thing != SIGN and not words(item.label.replace("-", " ")) & (SIDED | LETTERED)


def _scatter(
    items: Sequence[Item],
    extents: Sequence[Extent],
    shrink: float,
    relation: str,
    rng: random.Random,
) -> list[tuple[float, float, float]]:
    """Centre and radius of each object; empty where they did not fit."""
    places: list[tuple[float, float, float]] = []
    shared = rng.uniform(*_radii(items[0], len(items))) * shrink
    alike = len(set(items)) == 1
    for item, extent in zip(items, extents, strict=True):
        radius = shared if alike else rng.uniform(*_radii(item, len(items))) * shrink
        for _ in range(12):
            x, y = (_within(rng, radius * share) for share in extent)
            if relation and places and not _holds(relation, places[0], (x, y)):
                continue
            if all(
                _apart((x, y), radius, extent, other, theirs)
                for other, theirs in zip(places, extents, strict=False)
            ):
                places.append((x, y, radius))
                break
        else:
            return []
    return places


def _within(rng: random.Random, reach: float) -> float:
    margin = reach + 0.015
    return 0.5 if margin >= 0.5 else rng.uniform(margin, 1 - margin)


def _radii(item: Item, number: int) -> tuple[float, float]:
    """The range of half the longer side: as named, else what leaves room for the others."""
    if item.thing == SIGN:
        wide = half_width(item.label)
        longest = 0.47 if number == 1 else 0.42
        most = min(longest, max(wide, 1.0) * (0.22 if number == 1 else 0.16))
        return 0.65 * most, most
    if number == 1:
        return {"small": (0.10, 0.17), "large": (0.40, 0.475)}.get(item.size, (0.25, 0.475))
    if item.size:
        return {"small": (0.09, 0.12), "large": (0.20, 0.26)}[item.size]
    return {2: (0.14, 0.23), 3: (0.12, 0.18)}.get(number, (0.10, 0.155))


def _apart(
    at: tuple[float, float],
    radius: float,
    extent: Extent,
    other: tuple[float, float, float],
    theirs: Extent,
) -> bool:
    """Whether two boxes leave a gap between them."""
    x, y, reach = other
    across = abs(at[0] - x) - radius * extent.x - reach * theirs.x
    down = abs(at[1] - y) - radius * extent.y - reach * theirs.y
    return max(across, down) >= GAP


def _holds(relation: str, first: tuple[float, float, float], second: tuple[float, float]) -> bool:
    return relation_holds(relation, first[0] - second[0], first[1] - second[1])


def relation_holds(relation: str, dx: float, dy: float) -> bool:
    """Whether an object offset by (dx, dy) from another stands in this relation to it.

    By centre, and the relation's axis dominates. y grows downwards.
    """
    return shapes.relation_holds(RELATIONS_OF_SHAPES[relation], dx, dy)


def of_shapes(layout: shapes.Layout, scene: Scene) -> Layout:
    """A layout of the shapes world in this one's terms."""
    ground = Ground((scene.ground,) if scene.ground else ())
    if layout.sign is not None:
        word, x, y, height = layout.sign
        placed = Placed(Item(SIGN, word), -1, x, y, height * max(1.0, half_width(word)))
        return Layout((placed,), ground)
    return Layout(
        tuple(
            Placed(
                Item(SHAPE, one.kind.shape, color=one.kind.color, size=one.kind.size),
                -1,
                one.x,
                one.y,
                one.radius * max(1.0, SHAPE_WIDTHS.get(one.kind.shape, 1.0)),
            )
            for one in layout.objects
        ),
        ground,
    )
