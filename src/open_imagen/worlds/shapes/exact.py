"""Exact drawings of the shapes world with right and wrong prompts, to measure judges on."""

import random
from collections.abc import Iterator

from open_imagen.evaluation.judges.accuracy import EXACT_SCENES, ExactScene
from open_imagen.worlds.shapes.questions import answers
from open_imagen.worlds.shapes.render import render
from open_imagen.worlds.shapes.scenes import draw_layout
from open_imagen.worlds.shapes.suite import (
    CATEGORIES,
    SAME_IMAGES,
    WORLD,
    make_items,
    metadata_of,
)

SIDE = 256
"""Of the drawings: judges learned from photographs see little in 64 pixels."""


@EXACT_SCENES.register(WORLD)
def exact_scenes(count: int, seed: int) -> Iterator[ExactScene]:
    """Scenes of all categories in turn; every second drawing is that of another prompt.

    The truth is that of the drawing's geometry: a drawing is right if the answer to every question
    about the prompt is yes, which another prompt's drawing may be by chance.
    """
    names = [name for name in CATEGORIES if name not in SAME_IMAGES]
    each = -(-count // len(names)) + 1
    items = {name: make_items(name, each, seed) for name in names}
    for k in range(count):
        name, number = names[k % len(names)], k // len(names)
        item, other = items[name][number], items[name][(number + 1) % each]
        drawn = item if number % 2 == 0 else other
        layout = draw_layout(drawn.scene, random.Random(f"exact {seed} {k}"))
        metadata = metadata_of(item.prompt, item.scene, name)
        true = answers(item.scene, layout)
        yield ExactScene(
            render([layout], SIDE)[0],
            metadata,
            all(true),
            {atom["id"]: one for atom, one in zip(metadata["atoms"], true, strict=True)},
        )
