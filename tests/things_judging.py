"""An atlas of patterns that a nearest neighbor tells apart, and that classifier."""

import json
from itertools import product
from typing import ClassVar

import numpy as np
import torch
from PIL import Image

from fake_atlas import STYLES, THINGS, FakeAtlas, Sprite
from open_imagen.storage import write_json
from open_imagen.worlds.things import judge_network
from open_imagen.worlds.things.atlas import FORMAT
from open_imagen.worlds.things.compose import Composer, sketch, to_uint8
from open_imagen.worlds.things.judge import Judge
from open_imagen.worlds.things.judge_network import Scores, labels_of
from open_imagen.worlds.things.layout import Ground, Layout, Placed
from open_imagen.worlds.things.scenes import SHAPE, Item
from open_imagen.worlds.things.segment import crops, split

RADII = (0.3, 0.2, 0.15, 0.12)
"""Of the exact drawings that crops are compared with."""
PARTS = {"glasses"}
"""Things of two parts that lie apart."""


class PatternAtlas(FakeAtlas):
    """Every thing is a pattern of light and dark squares, of one hue in each style."""

    def __init__(self):
        self.things = list(THINGS)
        self.sprites = [Sprite(k, style) for k in range(len(THINGS)) for style in STYLES]

    def _draw(self, number, size):
        thing = self.sprites[number].thing
        rng = np.random.default_rng(thing)
        light = rng.permutation(np.linspace(0.35, 1.0, 16)).reshape(4, 4)
        hue = np.array([(1.0, 0.5, 0.3), (0.3, 1.0, 0.5), (0.5, 0.3, 1.0)][number % 3])
        image = np.ones((size, size, 4))
        image[..., :3] = np.kron(light, np.ones((size // 4, size // 4)))[..., None] * hue
        if THINGS[thing].label in PARTS:
            image[:, size * 3 // 8 : size * 5 // 8] = 0
        return (image * 255).round().astype(np.uint8)


ATLAS = PatternAtlas()


def pixels_of(layouts, size=64):
    """Exact drawings, uint8 [N, 4, size, size]."""
    return to_uint8(Composer(ATLAS, 64, "cpu").draw(sketch(layouts, 64), size))


def thing(label, style="drawn", color="", **more):
    """An item and its sprite."""
    index = ATLAS.label_of(label)
    sprite = next(k for k, s in enumerate(ATLAS.sprites) if s.thing == index and s.style == style)
    return Item(index, label, style, color, **more), sprite


def placed(label, x=0.5, y=0.5, radius=0.3, **more):
    """An object of the atlas, or a "shape star"."""
    if label.startswith("shape "):
        item = Item(SHAPE, label.removeprefix("shape "), color=more["color"])
        return Placed(item, -1, x, y, radius)
    item, sprite = thing(label, **more)
    return Placed(item, sprite, x, y, radius)


def picture(*objects, ground=(), size=64):
    """One picture, uint8 [1, 4, size, size]."""
    return pixels_of([Layout(objects, Ground(ground))], size)


class Nearest:
    """Names a crop by the most similar exact one."""

    facts: ClassVar = {"exact": {"label": {"accepted": 0.99, "of": 100, "wrong_accepted": 0.0}}}

    def __init__(self, sharpness=150.0):
        self.labels, self.sharpness = labels_of(ATLAS.things), sharpness
        self.looked = 0
        layouts, targets = [], []
        for sprite in ATLAS.sprites:
            label = THINGS[sprite.thing].label
            for color, radius in product(("", "red", "blue", "black"), RADII):
                one = placed(label, radius=radius, style=sprite.style, color=color)
                layouts.append(Layout((one,)))
                targets.append((sprite.thing, sprite.style, color))
        for shape in self.labels.shapes:
            for color in ("red", "blue", "yellow"):
                layouts.append(Layout((placed(f"shape {shape}", color=color),)))
                targets.append((self.labels.shape(shape), "drawn", color))
        parts = split(pixels_of(layouts))
        whole = []
        for found in parts.patches:
            one = found[0]
            for other in found[1:]:
                one = one.joined(other)
            whole.append(one)
        self.templates = self._features(crops(parts, range(len(layouts)), whole))
        self.targets = targets

    def _features(self, images):
        return torch.nn.functional.avg_pool2d(images, 4).flatten(1)

    def __call__(self, images):
        self.looked += len(images)
        scores = Scores(
            torch.zeros(len(images), self.labels.none + 1),
            torch.zeros(len(images), len(self.labels.styles)),
            torch.zeros(len(images), len(self.labels.colors)),
        )
        if not len(images):
            return scores
        away = torch.cdist(self._features(images), self.templates) / self.templates.shape[1] ** 0.5
        for k, row in enumerate(away):
            near = row.argmin()
            number, style, color = self.targets[int(near)]
            sure = float(torch.exp(-self.sharpness * row[near] ** 2))
            scores.things[k, self.labels.none] = 1 - sure
            scores.things[k, number] = sure
            scores.styles[k, self.labels.styles.index(style)] = 1
            scores.colors[k, self.labels.colors.index(color)] = 1
        return scores


def make_judge():
    return Judge(Nearest())


def write_atlas(folder, sizes=(64,), large=0):
    """The atlas as a folder, as `imagen data things` writes it.

    Args:
        large: how many sprites have a picture of 1024 pixels.
    """
    folder.mkdir(parents=True, exist_ok=True)
    things = [{"label": t.label, "group": t.group, "tags": list(t.tags)} for t in THINGS]
    sprites = [{**s._asdict(), "source": "made by hand"} for s in ATLAS.sprites]
    values = {"format": FORMAT, "sources": [], "things": things, "sprites": sprites}
    write_json(folder / "atlas.json", json.loads(json.dumps(values)))
    for size in sizes:
        np.save(folder / f"sprites-{size}.npy", ATLAS.pixels(size))
    (folder / "sprites-1024").mkdir(exist_ok=True)
    for number in range(large):
        image = Image.fromarray(ATLAS.large(number))
        image.save(folder / "sprites-1024" / f"{number}.webp", lossless=True, quality=0, method=0)
    return folder


def write_judge(path):
    """A classifier with random weights."""
    torch.manual_seed(0)
    labels = labels_of(ATLAS.things)
    network = judge_network.make_network(labels).eval()
    judge_network.save_classifier(path, network, labels, {"training": "none"})
    return path
