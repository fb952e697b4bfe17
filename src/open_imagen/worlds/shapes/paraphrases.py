"""Scenes of the shapes world for paraphrases: their meaning in plain words."""

import random
from collections.abc import Sequence
from typing import Any

from open_imagen.evaluation.suites.paraphrases import Meaning, paraphrase_suite, plain
from open_imagen.evaluation.suites.prompts import Suite
from open_imagen.worlds.shapes.captions import IRREGULAR, named
from open_imagen.worlds.shapes.scenes import NUMBERS, Scene, draw_kind

NAME = "paraphrases"
CATEGORIES = ("single", "two_objects", "counting", "position", "size", "background")
"""Of the world's suite: whose scenes are paraphrased."""


def meaning_of(scene: Scene, rng: random.Random) -> Meaning:
    """What a scene without a sign says."""
    absent = draw_kind(rng)
    while any(kind.color == absent.color or kind.shape == absent.shape for kind in scene.kinds):
        absent = draw_kind(rng)
    objects = tuple(named(kind) for kind in scene.kinds)
    if scene.count > 1:
        kind = scene.kinds[0]
        shapes = IRREGULAR.get(kind.shape, kind.shape + "s")
        words = (NUMBERS[scene.count - 1], kind.size, kind.color, shapes)
        objects = (" ".join(word for word in words if word),)
    return Meaning(
        objects,
        scene.relation,
        f"on a {scene.background} background" if scene.background else "",
        scene.count > 1,
        f"{absent.color} {absent.shape}",
    )


def scenes_suite(name: str, items: Sequence[tuple[Scene, dict[str, Any]]], seed: int) -> Suite:
    """Scenes with their metadata, in all wordings."""
    scenes = []
    for k, (scene, metadata) in enumerate(items):
        meaning = meaning_of(scene, random.Random(f"meaning {seed} {k}"))
        scenes.append((meaning, {**metadata, "prompt": plain(meaning)}))
    return paraphrase_suite(name, scenes, seed)
