"""Endless captioned scenes of things: example k is a function of (seed, k) alone."""

import math
import random
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch.nn.functional as F

from open_imagen.config import plain
from open_imagen.data.registry import SOURCES
from open_imagen.errors import ConfigError, DataError, OpenImagenWarning, UnknownName
from open_imagen.types import Batch
from open_imagen.worlds.shapes import captions as shapes_captions
from open_imagen.worlds.shapes import scenes as shapes
from open_imagen.worlds.things.atlas import Atlas
from open_imagen.worlds.things.captions import caption, with_ground
from open_imagen.worlds.things.catalog import STYLES, Catalog
from open_imagen.worlds.things.compose import SIZES, Composer, Drawing, sketch, to_uint8
from open_imagen.worlds.things.layout import Layout, draw_layout, place_ground
from open_imagen.worlds.things.layout import of_shapes as layout_of_shapes
from open_imagen.worlds.things.palette import Palette
from open_imagen.worlds.things.scenes import (
    COLORS,
    Mixture,
    Scene,
    Shares,
    draw_ground,
    draw_scene,
    shortened,
)
from open_imagen.worlds.things.scenes import of_shapes as scene_of_shapes

PREVIEW = 2000
"""How many captions stand for the endless ones."""


@dataclass(frozen=True, kw_only=True)
class ThingsConfig:
    """Scenes of real things in emoji art."""

    kind: str = "things"
    atlas: str = "things"
    """Folder that `imagen data things --out` wrote."""
    size: int = 64
    """Side of the pictures in pixels."""
    crop: int = 0
    """Learn from square crops of this side; 0 for whole pictures."""
    crop_at_edges: float = 0.0
    """Share of the crops whose middle lies by an object's border."""
    lowres: int = 0
    """Side that the low-resolution image of the whole picture has; 0 for base models. Batches hold
    the part of it that the crop shows."""
    seed: int = 0
    """Another seed, another stream of scenes."""
    shapes: float = 0.2
    """Share of the examples that are scenes of the shapes world."""
    others: float = 0.2
    """Share of smileys, hearts and people among the things."""
    close_up: float = 0.0
    """Share of the scenes of one unsized thing in which it fills the image, at its centre."""
    rich: float = 0.5
    """Share of the captions that say everything; the others are short."""
    things: tuple[str, ...] = ()
    """Labels to draw from; empty for all."""
    styles: tuple[str, ...] = ()
    """Styles to draw from; empty for all."""
    colors: tuple[str, ...] = ()
    """Colors to recolor towards; empty for all."""
    partial_atlas: bool = False
    """With sides above 256: draw from those sprites of 1024 pixels that have been rendered, though
    others are missing. As more are rendered, the examples change."""
    mixture: Mixture = field(default_factory=Mixture)
    """How often each sort of scene comes."""
    shares: Shares = field(default_factory=Shares)
    """Probabilities of what scenes say."""

    def __post_init__(self) -> None:
        if not 8 <= self.size <= SIZES[-1]:
            raise ConfigError(f"data.size = {self.size} must be 8 to {SIZES[-1]}.")
        if self.crop and (self.crop > self.size or self.crop % 4):
            raise ConfigError(
                f"data.crop = {self.crop} must be a multiple of 4, at most data.size = {self.size}."
            )
        if self.lowres and self.size % self.lowres:
            raise ConfigError(f"data.lowres = {self.lowres} must divide data.size = {self.size}.")
        if self.lowres and self.crop % (self.size // self.lowres):
            raise ConfigError(
                f"data.crop = {self.crop} must be a multiple of data.size / data.lowres = "
                f"{self.size // self.lowres}."
            )
        for name in ("crop_at_edges", "shapes", "others", "rich", "close_up"):
            if not 0 <= (share := getattr(self, name)) <= 1:
                raise ConfigError(f"data.{name} = {share} is a share: between 0 and 1.")
        for style in self.styles:
            if style not in STYLES:
                raise UnknownName("style", style, STYLES)
        for color in self.colors:
            if color not in COLORS:
                raise UnknownName("color", color, COLORS)
        _check_parts("data.mixture", self.mixture, None)
        _check_parts("data.shares", self.shares, 1.0)


def _check_parts(name: str, parts: Mixture | Shares, most: float | None) -> None:
    values = {key: getattr(parts, key) for key in parts.__dataclass_fields__}
    for key, value in values.items():
        if value < 0 or (most is not None and value > most):
            raise ConfigError(
                f"{name}.{key} = {value} must be at least 0"
                + (f", at most {most:g}." if most else ".")
            )
    if most is None and not any(values.values()):
        raise ConfigError(f"{name}: at least one sort of scene must be above 0.")


class Plan(NamedTuple):
    """A batch that has yet to be drawn."""

    start: int
    captions: list[str]
    drawing: Drawing
    corners: np.ndarray
    """Upper left corner of each crop, in units of the side, [B, 2]."""


class Things:
    """A PlannedSource of scenes of things: images are premultiplied RGBA."""

    endless_captions = True
    channels = 4

    def __init__(self, config: ThingsConfig, device: str = "cpu", atlas: Any = None) -> None:
        """Open the atlas and choose from it.

        Args:
            atlas: instead of the one that the settings name.
        """
        self.config, self.device = config, device
        self._given = atlas
        if atlas is None:
            atlas = Atlas.open(Path(config.atlas))
        self.atlas = atlas
        self.sprite_size = next(size for size in SIZES if size >= config.size)
        self.catalog = Catalog(
            self.atlas.things,
            self.atlas.sprites,
            labels=config.things,
            styles=config.styles,
            colors=config.colors or tuple(COLORS),
            others=config.others,
            only=self._large() if self.sprite_size == SIZES[-1] else None,
        )
        self.palette = Palette(self.atlas, SIZES[:-1])
        self._composer: Composer | None = None

    def _large(self) -> frozenset[int]:
        """Numbers of the sprites of 1024 pixels to draw from.

        Raises:
            DataError: some have not been rendered, and the settings do not allow that; or none.
        """
        rendered: frozenset[int] = self.atlas.large_numbers()
        vector = sum(sprite.vector for sprite in self.atlas.sprites)
        if len(rendered) == vector:
            return rendered
        state = f"{len(rendered):,} of the atlas's {vector:,} sprites of {SIZES[-1]} pixels"
        if not rendered or not self.config.partial_atlas:
            way_out = f"Run: imagen data things --out {self.config.atlas} --sizes {SIZES[-1]}"
            if rendered:
                way_out += ", or set data.partial_atlas = true to do without the others"
            raise DataError(
                f"Only {state} are rendered, and data.size = {self.config.size} needs them.",
                f"{way_out}.",
            )
        warnings.warn(
            f"data.partial_atlas: scenes are made of {state}; the others are not rendered.",
            OpenImagenWarning,
            stacklevel=3,
        )
        return rendered

    def __reduce__(self) -> tuple[Any, ...]:
        # Other processes map the atlas themselves: its pixels are not sent.
        return type(self), (self.config, self.device, self._given)

    def __len__(self) -> int:
        """How many captions stand for the endless ones."""
        return PREVIEW

    def example(self, k: int) -> tuple[Scene, str, Layout]:
        """The scene as its caption means it, the caption, and the layout of example ``k``."""
        rng = random.Random(f"things {self.config.seed} {k}")
        if rng.random() < self.config.shapes:
            return self._of_shapes(rng)
        full = draw_scene(rng, self.catalog, self.config.mixture, self.config.shares)
        layout = draw_layout(full, rng, self.catalog, self._is_close_up(full, rng))
        ground = draw_ground(rng, self._near(layout), self.config.shares)
        full = replace(full, ground=ground)
        layout = layout._replace(ground=place_ground(ground, rng))
        rich = rng.random() < self.config.rich
        scene = full if rich else shortened(full, rng)
        return scene, caption(scene, layout, rng, self.catalog, rich), layout

    def _is_close_up(self, scene: Scene, rng: random.Random) -> bool:
        """Whether its one thing fills the image."""
        [first, *others] = scene.items
        if not self.config.close_up or others or scene.count > 1 or first.size or first.thing < 0:
            return False
        return rng.random() < self.config.close_up

    def _near(self, layout: Layout) -> set[str]:
        """The colors that some object would vanish on."""
        near = {one.item.color for one in layout.objects}
        for one in layout.objects:
            if one.sprite >= 0 and not one.item.color:
                near |= self.palette.near(one.sprite)
        return near

    def _of_shapes(self, rng: random.Random) -> tuple[Scene, str, Layout]:
        """A scene of the shapes world; where it names no ground there is none."""
        drawn = shapes.draw_scene(rng, shapes.Mixture(text_rendering=0.5))
        scene = scene_of_shapes(drawn)
        layout = layout_of_shapes(shapes.draw_layout(drawn, rng), scene)
        text = shapes_captions.caption(drawn, rng)
        if not scene.ground:
            text = with_ground("", text, rng, rich=rng.random() < self.config.rich)
        return scene, text, layout

    def captions(self) -> Iterator[str]:
        """The captions of the first examples, as a sample of all."""
        return (self.example(k)[1] for k in range(PREVIEW))

    def batch(self, index: int, size: int) -> Batch:
        """Examples index to index + size - 1."""
        return self.draw(self.plan(index, size))

    def plan(self, start: int, size: int) -> Plan:
        """The part of `batch` that other processes can do."""
        examples = [self.example(k) for k in range(start, start + size)]
        layouts = [layout for _, _, layout in examples]
        corners = [self._corner(start + k, layout) for k, layout in enumerate(layouts)]
        if self.config.crop:  # large sprites take long to read and recolor
            extent = self.config.crop / self.config.size
            layouts = [
                visible(layout, corner, extent)
                for layout, corner in zip(layouts, corners, strict=True)
            ]
        drawing = sketch(layouts, self.sprite_size)
        return Plan(start, [text for _, text, _ in examples], drawing, np.array(corners))

    def _corner(self, k: int, layout: Layout) -> tuple[float, float]:
        """Where the crop of example ``k`` begins, on the grid of 4 pixels."""
        size, side = self.config.size, self.config.crop or self.config.size
        rng = random.Random(f"things crop {self.config.seed} {k}")
        places = (size - side) // 4
        if rng.random() >= self.config.crop_at_edges:
            x, y = (rng.randint(0, places) for _ in "xy")
        else:
            one, angle = rng.choice(layout.objects), rng.uniform(0, 2 * math.pi)
            middle = one.x + one.radius * math.cos(angle), one.y + one.radius * math.sin(angle)
            begins = (round((size * at - side / 2) / 4) for at in middle)
            x, y = (min(max(begin, 0), places) for begin in begins)
        return 4 * x / size, 4 * y / size

    def draw(self, plan: Plan) -> Batch:
        """The part of `batch` that the device does."""
        if self._composer is None:
            self._composer = Composer(self.atlas, self.sprite_size, self.device)
        composer, config = self._composer, self.config
        objects = composer.load(plan.drawing)
        side = config.crop or config.size
        images = composer.draw(plan.drawing, side, plan.corners, side / config.size, objects)
        lowres = None
        if config.lowres:
            lowres = to_uint8(F.avg_pool2d(images, config.size // config.lowres))
        return Batch(to_uint8(images), plan.captions, plan.start, lowres)

    def compose(self, layouts: Sequence[Layout], size: int | None = None) -> Any:
        """Whole pictures of layouts, uint8 [B, 4, size, size]."""
        if self._composer is None:
            self._composer = Composer(self.atlas, self.sprite_size, self.device)
        drawing = sketch(layouts, self.sprite_size)
        return to_uint8(self._composer.draw(drawing, size or self.config.size))

    def describe(self) -> dict[str, Any]:
        """What it is, for model cards and logs."""
        settings: dict[str, Any] = plain(self.config)
        if self.config.partial_atlas and self.sprite_size == SIZES[-1]:
            settings["sprites"] = len(self.atlas.large_numbers())
        return settings


def visible(layout: Layout, corner: tuple[float, float], extent: float) -> Layout:
    """A layout without the objects that a crop does not show."""
    shown = tuple(
        one
        for one in layout.objects
        if all(
            at - one.radius < begin + extent and at + one.radius > begin
            for at, begin in zip((one.x, one.y), corner, strict=True)
        )
    )
    return layout._replace(objects=shown)


SOURCES.register("things")((ThingsConfig, Things))
