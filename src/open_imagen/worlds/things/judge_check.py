"""How often the judge is right: on exact scenes that its classifier has not learned from."""

import random
from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from open_imagen.worlds.things.evaluate import look
from open_imagen.worlds.things.judge import FoundObject, Judge, Sure, name_of
from open_imagen.worlds.things.judge_data import Imperfections, JudgeData
from open_imagen.worlds.things.judge_network import Classifier
from open_imagen.worlds.things.layout import Placed, draw_layout
from open_imagen.worlds.things.scenes import SIGN, Item, Scene
from open_imagen.worlds.things.source import Things
from open_imagen.worlds.things.suite import CATEGORIES, Prompt, Suite, Truth

PART = 32
CONFUSED = 40
"""How many pairs of things that are taken for each other are listed."""


def check_objects(eye: Judge, source: Things, count: int, start: int = 0) -> dict[str, Any]:
    """Things, styles and colors of the objects in scenes of a source with a seed of its own.

    An object that is not found where it is, or not known for sure, counts as wrong.
    """
    tally: Counter[str] = Counter()
    confused: Counter[tuple[str, str]] = Counter()
    groups: dict[str, list[bool]] = {}
    for first in range(start, start + count, PART):
        numbers = range(first, min(first + PART, start + count))
        layouts = [source.example(k)[2] for k in numbers]
        for layout, seen in zip(layouts, eye.look(source.compose(layouts)), strict=True):
            pairs = pair_up(layout.objects, seen.objects)
            tally["scenes"] += 1
            tally["scenes_right"] += len(seen.objects) == len(layout.objects) and all(
                found is not None and found.name == name_of(one.item) for one, found in pairs
            )
            for one, found in pairs:
                name = name_of(one.item)
                right = found is not None and found.name == name
                tally["objects"] += 1
                tally["found"] += found is not None
                tally["thing"] += right
                tally["guess"] += found is not None and found.guess == name
                if one.item.thing >= 0:
                    group = source.catalog.things[one.item.thing].group
                    groups.setdefault(group, []).append(right)
                if found is not None and found.guess != name:
                    confused[name, found.guess] += 1
                if right and found is not None and one.item.thing >= 0:
                    tally["styled"] += 1
                    tally["style"] += found.style == source.atlas.sprites[one.sprite].style
                    tally["color"] += _color_right(one, found)
    objects, styled = max(tally["objects"], 1), max(tally["styled"], 1)
    return {
        "objects": tally["objects"],
        "thing": tally["thing"] / objects,
        "found": tally["found"] / objects,
        "top1": tally["guess"] / objects,
        "style": tally["style"] / styled,
        "color": tally["color"] / styled,
        "scenes": tally["scenes_right"] / max(tally["scenes"], 1),
        "groups": {name: sum(some) / len(some) for name, some in sorted(groups.items())},
        "confused": [[a, b, n] for (a, b), n in confused.most_common(CONFUSED)],
    }


def _color_right(one: Placed, found: FoundObject) -> bool:
    """What it was recoloured towards, or, as drawn, no color that it does not have."""
    if one.item.color:
        return found.color == one.item.color or (not found.color and one.item.color in found.also)
    return not found.color or found.color in found.also


def pair_up(
    objects: Sequence[Placed], seen: Sequence[FoundObject]
) -> list[tuple[Placed, FoundObject | None]]:
    """For each drawn object, the one that was found at its place."""
    left = list(seen)
    pairs: list[tuple[Placed, FoundObject | None]] = []
    for one in objects:
        near = [found for found in left if _away(one, found) < one.radius]
        best = min(near, key=lambda found: _away(one, found), default=None)
        if best is not None:
            left.remove(best)
        pairs.append((one, best))
    return pairs


def _away(one: Placed, found: FoundObject) -> float:
    return max(abs(one.x - found.x), abs(one.y - found.y))


def choose_thresholds(
    classifier: Classifier, data: JudgeData, scenes: int = 512, most_wrong: float = 0.02
) -> tuple[Sure, dict[str, float]]:
    """The lowest thresholds of probability and margin with few false acceptances.

    False acceptances are crops of nothing known, or of another thing, that are named with
    confidence; at most ``most_wrong`` of the cases.

    Args:
        data: of a seed that the classifier has not learned from: imperfect crops, with two objects
            in one, fragments and mixtures among them.

    Returns:
        Thresholds, and the shares of known crops named right and of others named at all.
    """
    chunks = [data.chunk(k, 64, Imperfections()) for k in range(max(scenes // 64, 1))]
    crops, things = (torch.cat([chunk[k] for chunk in chunks]) for k in (0, 1))
    scores = classifier(crops).things
    best, places = scores.topk(2, 1)
    none, right = things == data.labels.none, places[:, 0] == things
    named = places[:, 0] != data.labels.none
    for step in range(10, 20):
        sure = Sure(probability=step / 20, margin=(step - 8) / 20)
        known = named & (best[:, 0] >= sure.probability)
        known &= best[:, 0] - best[:, 1] >= sure.margin
        wrong = float((known & none).sum() / none.sum().clamp(min=1))
        if wrong <= most_wrong:
            break
    found = {
        "known_right": float((known & right & ~none).sum() / (~none).sum().clamp(min=1)),
        "known_wrong": float((known & ~right & ~none).sum() / (~none).sum().clamp(min=1)),
        "none_named": wrong,
    }
    return sure, found


def check_suite(
    eye: Judge,
    suite: Suite,
    source: Things,
    count: int = 200,
    seed: int = 99,
    categories: Sequence[str] = tuple(CATEGORIES),
    size: int = 64,
) -> dict[str, Any]:
    """By category: how many exact drawings the judge accepts, and how many of the next prompt.

    The second is the rate of false acceptances.
    """
    found = {}
    for name in categories:
        prompts = suite.prompts(name, count, seed)
        rng = random.Random(f"judge check {name} {seed}")
        images = draw_exactly(prompts, suite, source, size, rng)
        rows = look(eye, images, prompts)
        turned = look(eye, images.roll(1, 0), prompts)
        wrong = [
            row["right"]
            for k, row in enumerate(turned)
            if prompts[k].truth != prompts[k - 1].truth and not prompts[k].truth.clear
        ]
        found[name] = {
            "accepted": sum(row["right"] for row in rows) / len(rows),
            "of": len(rows),
            "wrong_accepted": sum(wrong) / max(len(wrong), 1),
        }
    return found


def draw_exactly(
    prompts: Sequence[Prompt], suite: Suite, source: Things, size: int, rng: random.Random
) -> Tensor:
    """What prompts ask for, uint8 [N, 4, size, size]."""
    layouts = []
    for prompt in prompts:
        scene = scene_of(prompt.truth, suite)
        layouts.append(draw_layout(scene, rng, suite.catalog))
    parts = [source.compose(layouts[k : k + PART], size) for k in range(0, len(layouts), PART)]
    return torch.cat(parts)


def scene_of(truth: Truth, suite: Suite) -> Scene:
    """A scene that is what was asked for."""
    if truth.word:
        return Scene((Item(SIGN, truth.word),))
    items = []
    for one in truth.wanted:
        label = one.names[0]
        thing = next(k for k, t in enumerate(suite.catalog.things) if t.label == label)
        items.append(Item(thing, label, one.style, one.color, one.size))
    count = truth.wanted[0].number if len(items) == 1 else 1
    return Scene(tuple(items), count, truth.relation, truth.ground or "")
