"""What the judge's classifier learns from: objects cut out of exact scenes, made imperfect.

Scenes are composed as training data is, but of all things, styles and colors alike, held out or
not: the judge must know them. Images are then warped, blurred, made noisy and enlarged a little, as
a generator's are, and taken apart by the same code as pictures to be judged. Two objects in one
crop, fragments, halves and mixtures of two objects are "none".
"""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from open_imagen.worlds.shapes import scenes as shapes
from open_imagen.worlds.things.catalog import STYLES, Catalog
from open_imagen.worlds.things.compose import Composer, sketch, to_uint8
from open_imagen.worlds.things.judge_network import Labels, labels_of
from open_imagen.worlds.things.layout import Layout, Placed, draw_layout, extent_of, place_ground
from open_imagen.worlds.things.palette import Palette
from open_imagen.worlds.things.scenes import (
    COLORS,
    SHAPE,
    SIGN,
    Item,
    Scene,
    Shares,
    draw_ground,
    random_word,
)
from open_imagen.worlds.things.segment import CROP, GRAY, Patch, Split, crops, split

INSIDE, WHOLE, PART = 0.85, 0.6, 0.35
"""Share of a patch in its object's box; share of that box which the patches of an object fill at
least; and which a fragment fills at most."""
TOGETHER = 0.12
"""Two objects closer than this are shown as one, for "none"."""


class Examples(NamedTuple):
    """Crops and what they show."""

    crops: Tensor
    """float [N, 4, 64, 64]"""
    things: Tensor
    styles: Tensor
    """-1 where there is none."""
    colors: Tensor


@dataclass(frozen=True, kw_only=True)
class Imperfections:
    """How far images are from exact ones; each up to this much."""

    noise: float = 0.05
    blur: float = 0.8
    """Share of a blur with a kernel of 5 pixels."""
    color: float = 0.07
    """Gain and offset of each channel."""
    warp: float = 0.9
    """Pixels of 64."""
    enlarged: float = 0.15
    """Share of the batches that are enlarged from 64 to 128 pixels."""
    jitter: float = 0.04
    """Of place and size of the crops."""
    mixtures: float = 0.08
    """Share of the crops that become halves or mixtures of two."""
    pairs: float = 0.35
    """Of the scenes with two objects close to each other, those that show them as one."""


class JudgeData:
    """Chunk k of examples is a function of (seed, k)."""

    def __init__(self, atlas: Any, seed: int = 0, device: str = "cpu") -> None:
        self.seed, self.labels = seed, labels_of(atlas.things)
        self.catalog = Catalog(
            atlas.things, atlas.sprites, colors=tuple(COLORS), held_out=True, others=0.0
        )
        self.palette = Palette(atlas, (64,))
        self.composer = Composer(atlas, 64, device)
        self.known = sorted({sprite.thing for sprite in atlas.sprites})

    def chunk(self, k: int, scenes: int, how: Imperfections) -> Examples:
        """The objects of so many scenes."""
        rng = random.Random(f"judge {self.seed} {k}")
        generator = torch.Generator().manual_seed(rng.getrandbits(60))
        layouts = [self.layout(rng) for _ in range(scenes)]
        images = self.composer.draw(sketch(layouts, 64), 64).cpu()
        images = imperfect(images, how, generator)
        if rng.random() < how.enlarged:
            images = F.interpolate(images, scale_factor=2, mode="bicubic").clamp(0, 1)
        parts = split(to_uint8(images))
        return self._examples(parts, layouts, how, rng, generator)

    def layout(self, rng: random.Random) -> Layout:
        """One to five objects of any kind on a ground that they stand out from."""
        number = rng.choices((1, 2, 3, 4, 5), (25, 30, 20, 13, 12))[0]
        while True:
            items = tuple(self._item(rng, number) for _ in range(number))
            if len(set(items)) == number:
                break
        layout = draw_layout(Scene(items), rng, self.catalog)
        near = {one.item.color for one in layout.objects}
        for one in layout.objects:
            if one.sprite >= 0 and not one.item.color:
                near |= self.palette.near(one.sprite)
        return layout._replace(ground=place_ground(draw_ground(rng, near, Shares()), rng))

    def _item(self, rng: random.Random, number: int) -> Item:
        roll = rng.random()
        if roll < 0.06:
            return Item(SHAPE, rng.choice(shapes.SHAPES), color=rng.choice(list(shapes.COLORS)))
        if roll < 0.08:
            return Item(SIGN, random_word(rng))
        thing = rng.choice(self.known)
        is_recolored = self.catalog.recolorable(thing) and rng.random() < 0.4
        color = rng.choice(self.catalog.colors) if is_recolored else ""
        size = rng.choice(("", "", "small", "large")) if number == 1 else ""
        return Item(
            thing, self.catalog.label(thing), rng.choice(self.catalog.styles(thing)), color, size
        )

    def _examples(
        self,
        parts: Split,
        layouts: Sequence[Layout],
        how: Imperfections,
        rng: random.Random,
        generator: torch.Generator,
    ) -> Examples:
        owners, patches, objects = [], [], []
        for row, (found, layout) in enumerate(zip(parts.patches, layouts, strict=True)):
            pairs = rng.random() < how.pairs
            for patch, one in self.assigned(found, layout, pairs):
                owners.append(row)
                patches.append(jittered(patch, how.jitter, rng))
                objects.append(one)
        targets = torch.tensor([self.target(one) for one in objects]).reshape(-1, 3)
        images, targets = _mixtures(
            crops(parts, owners, patches), targets, self.labels, how.mixtures, generator
        )
        return Examples(images, *targets.unbind(1))

    def assigned(
        self, found: Sequence[Patch], layout: Layout, pairs: bool = False
    ) -> list[tuple[Patch, Placed | None]]:
        """Patches of a picture joined to whole objects; with None, fragments and ``pairs``."""
        boxes = [box_of(one, self.catalog) for one in layout.objects]
        whole: list[Patch | None] = [None] * len(boxes)
        chosen: list[tuple[Patch, Placed | None]] = []
        for patch in found:
            inside = [_share(patch, box) for box in boxes]
            place = int(np.argmax(inside))
            if inside[place] < INSIDE:
                if sum(_share(box, patch) > 0.3 for box in boxes) > 1:
                    chosen.append((patch, None))
                continue
            if _area(patch) < PART * _area(boxes[place]):
                chosen.append((patch, None))
            before = whole[place]
            whole[place] = patch if before is None else before.joined(patch)
        for joined, box, one in zip(whole, boxes, layout.objects, strict=True):
            if joined is not None and _area(joined) >= WHOLE * _area(box):
                chosen.append((joined, one))
        sure = [patch for patch in whole if patch is not None] if pairs else []
        close = [(a, b) for k, a in enumerate(sure) for b in sure[:k] if a.gap(b) < TOGETHER]
        return chosen + [(a.joined(b), None) for a, b in close[:1]]

    def target(self, one: Placed | None) -> tuple[int, int, int]:
        """Thing, style and color of an object; -1 where there is none."""
        if one is None:
            return self.labels.none, -1, -1
        if one.item.thing == SIGN:
            return self.labels.sign, -1, -1
        color = self.labels.colors.index(one.item.color)
        if one.item.thing == SHAPE:
            return self.labels.shape(one.item.label), -1, color
        style = STYLES.index(self.catalog.sprites[one.sprite].style)
        return one.item.thing, style, color


def box_of(one: Placed, catalog: Catalog) -> Patch:
    """The box of an object in its picture."""
    extent = extent_of(one.item, catalog, one.sprite)
    x, y = one.radius * extent.x, one.radius * extent.y
    return Patch(one.x - x, one.y - y, one.x + x, one.y + y, 4 * x * y, ())


def _area(patch: Patch) -> float:
    return (patch.right - patch.left) * (patch.bottom - patch.top)


def _share(patch: Patch, box: Patch) -> float:
    """How much of a patch's box lies in another."""
    across = min(patch.right, box.right) - max(patch.left, box.left)
    down = min(patch.bottom, box.bottom) - max(patch.top, box.top)
    return max(across, 0.0) * max(down, 0.0) / max(_area(patch), 1e-9)


def jittered(patch: Patch, by: float, rng: random.Random) -> Patch:
    """A patch whose box is moved, and made larger or smaller, by a share of its longer side."""
    x, y, grow = (rng.uniform(-by, by) * patch.side for _ in range(3))
    return patch._replace(
        left=patch.left + x - grow,
        right=patch.right + x + grow,
        top=patch.top + y - grow,
        bottom=patch.bottom + y + grow,
    )


def imperfect(images: Tensor, how: Imperfections, generator: torch.Generator) -> Tensor:
    """Premultiplied pictures in [0, 1] as a generator might make them."""
    count, _, side, _ = images.shape

    def uniform(*shape: int, low: float = -1.0) -> Tensor:
        return torch.rand(shape, generator=generator) * (1 - low) + low

    coarse = uniform(count, 2, 6, 6) * (how.warp * 2 / 64) * uniform(count, 1, 1, 1, low=0.0)
    shift = F.interpolate(coarse, (side, side), mode="bicubic").movedim(1, -1)
    still = F.affine_grid(torch.eye(2, 3).expand(count, 2, 3), [count, 1, side, side], False)
    moved = F.grid_sample(images, still + shift, padding_mode="border", align_corners=False)
    some = torch.rand(count, 1, 1, 1, generator=generator)
    images = torch.where(some < 0.5, moved, images)
    soft = F.avg_pool2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), 3, 1)
    images = torch.lerp(images, soft, how.blur * uniform(count, 1, 1, 1, low=0.0).square())
    color, alpha = images[:, :3], images[:, 3:]
    gain = 1 + how.color * uniform(count, 3, 1, 1)
    color = color * gain + how.color / 2 * uniform(count, 3, 1, 1) * alpha
    noise = torch.randn(images.shape, generator=generator) * how.noise
    noise = noise * uniform(count, 1, 1, 1, low=0.0).square()
    return (torch.cat([color, alpha], 1) + noise).clamp(0, 1)


def _mixtures(
    images: Tensor, targets: Tensor, labels: Labels, share: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Some crops lose one side, or take it from another crop: these are none."""
    count = len(images)
    if not count:
        return images, targets
    angle = torch.rand(count, 1, 1, generator=generator) * 2 * math.pi
    place = (torch.arange(CROP) + 0.5) / CROP * 2 - 1
    ramp = place * angle.cos() + place[:, None] * angle.sin()
    cut = (ramp > (torch.rand(count, 1, 1, generator=generator) - 0.5) * 0.3)[:, None]
    empty = torch.tensor([GRAY, GRAY, GRAY, 0.0])[:, None, None]
    other = torch.roll(images, 1, 0)
    fill = torch.where(torch.rand(count, 1, 1, 1, generator=generator) < 0.5, other, empty)
    mixed = torch.where(cut, fill, images)
    lost = ((mixed - images).abs().amax(1) > 0.2).float().mean((1, 2))
    size = (images[:, 3] > 0.5).float().mean((1, 2)).clamp(min=0.05)
    chosen = (torch.rand(count, generator=generator) < share) & (lost > 0.3 * size)
    none = torch.tensor([labels.none, -1, -1])
    return (
        torch.where(chosen[:, None, None, None], mixed, images),
        torch.where(chosen[:, None], none, targets),
    )
