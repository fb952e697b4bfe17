"""Captions of scenes, in basic words: several templates each."""

import random

from open_imagen.worlds.shapes.scenes import NUMBERS, Kind, Scene

OPENINGS = ("", "", "", "a picture of ", "a drawing of ", "an image of ")
BACKGROUND_TEMPLATES = (
    "{objects} on a {background} background",
    "{objects} on a {background} background",
    "{objects} on {background}",
    "{objects} against a {background} background",
    "{objects}, {background} background",
)
PAIR_TEMPLATES = ("{a} and {b}", "{a} and {b}", "{a} with {b}", "{a} next to {b}")
SIGN_TEMPLATES = (
    'a sign that says "{word}"',
    'a sign that says "{word}"',
    'a sign that reads "{word}"',
    'a sign with the word "{word}"',
    'the word "{word}" on a sign',
)
IRREGULAR = {"box": "boxes", "cross": "crosses", "plus": "plus signs"}


def caption(scene: Scene, rng: random.Random) -> str:
    """One way of saying what is in a scene."""
    if scene.sign:
        objects = rng.choice(SIGN_TEMPLATES).format(word=scene.sign)
    elif len(scene.kinds) == 1:
        objects = _several(scene) if scene.count > 1 else named(scene.kinds[0])
    elif scene.relation:
        objects = f"{named(scene.kinds[0])} {scene.relation} {named(scene.kinds[1])}"
    else:
        objects = rng.choice(PAIR_TEMPLATES).format(
            a=named(scene.kinds[0]), b=named(scene.kinds[1])
        )
    if scene.background:
        template = rng.choice(BACKGROUND_TEMPLATES)
        objects = template.format(objects=objects, background=scene.background)
    return rng.choice(OPENINGS) + objects


def named(kind: Kind) -> str:
    """An object with its article: "an orange star", "a small red circle"."""
    words = " ".join(word for word in (kind.size, kind.color, kind.shape) if word)
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def _several(scene: Scene) -> str:
    kind = scene.kinds[0]
    shape = IRREGULAR.get(kind.shape, kind.shape + "s")
    words = (NUMBERS[scene.count - 1], kind.size, kind.color, shape)
    return " ".join(word for word in words if word)
