"""Endless captioned scenes, rendered on the fly: example k is a function of (seed, k) alone."""

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch.nn.functional as F

from open_imagen.config import plain
from open_imagen.data.registry import SOURCES
from open_imagen.errors import ConfigError
from open_imagen.types import Batch
from open_imagen.worlds.shapes.captions import caption
from open_imagen.worlds.shapes.render import Drawing, paint, sketch
from open_imagen.worlds.shapes.scenes import Layout, Mixture, Scene, draw_layout, draw_scene


@dataclass(frozen=True, kw_only=True)
class ShapesConfig:
    """Scenes of coloured shapes."""

    kind: str = "shapes"
    size: int = 64
    """Side of the pictures in pixels."""
    crop: int = 0
    """Learn from square crops of this side; 0 for whole pictures."""
    crop_at_edges: float = 0.0
    """Share of the crops whose middle lies by an object's border, where a fine stage has most to
    learn; many of the others show a single colour."""
    lowres: int = 0
    """Side of the low-resolution input of the whole picture; 0 for base models."""
    num_captions: int = 40_000
    """Distinct captions. Scenes are laid out anew every time; captions come again, so that each is
    embedded once."""
    seed: int = 0
    """Another seed, another stream of scenes."""
    mixture: Mixture = field(default_factory=Mixture)
    """How often each sort of scene comes."""

    def __post_init__(self) -> None:
        if self.size < 8 or self.num_captions < 1:
            raise ConfigError("data.size must be at least 8 and data.num_captions at least 1.")
        if self.crop and (self.crop > self.size or self.crop % 4):
            raise ConfigError(
                f"data.crop = {self.crop} must be a multiple of 4, at most data.size = {self.size}."
            )
        if not 0 <= self.crop_at_edges <= 1:
            raise ConfigError(
                f"data.crop_at_edges = {self.crop_at_edges} is a share: between 0 and 1."
            )
        if self.lowres and self.size % self.lowres:
            raise ConfigError(f"data.lowres = {self.lowres} must divide data.size = {self.size}.")


class Plan(NamedTuple):
    """A batch that has yet to be painted."""

    start: int
    captions: list[str]
    drawing: Drawing


class Shapes:
    """A Source of rendered scenes."""

    def __init__(self, config: ShapesConfig, device: str = "cpu") -> None:
        self.config = config
        self.device = device
        self._phrases: dict[int, tuple[Scene, str]] = {}

    def __len__(self) -> int:
        return self.config.num_captions

    def example(self, index: int) -> tuple[Scene, str, Layout, tuple[float, float]]:
        """Scene, caption, layout and corner of the crop of example ``index``."""
        rng = random.Random(f"layout {self.config.seed} {index}")
        scene, text = self.phrase(rng.randrange(self.config.num_captions))
        layout = draw_layout(scene, rng)
        return scene, text, layout, self._corner(layout, rng)

    def _corner(self, layout: Layout, rng: random.Random) -> tuple[float, float]:
        """Where a crop begins, on the grid of 4 pixels, in units of the side."""
        size, side = self.config.size, self.config.crop or self.config.size
        places = (size - side) // 4
        at_edge = self.config.crop_at_edges and rng.random() < self.config.crop_at_edges
        if not at_edge or not layout.objects:
            x, y = (rng.randint(0, places) for _ in "xy")
        else:
            one, angle = rng.choice(layout.objects), rng.uniform(0, 2 * math.pi)
            middle = one.x + one.radius * math.cos(angle), one.y + one.radius * math.sin(angle)
            begins = (round((size * at - side / 2) / 4) for at in middle)
            x, y = (min(max(begin, 0), places) for begin in begins)
        return 4 * x / size, 4 * y / size

    def phrase(self, number: int) -> tuple[Scene, str]:
        """The scene and caption with this number."""
        if (known := self._phrases.get(number)) is None:
            rng = random.Random(f"caption {self.config.seed} {number}")
            scene = draw_scene(rng, self.config.mixture)
            known = self._phrases[number] = scene, caption(scene, rng)
        return known

    def captions(self) -> Iterator[str]:
        """Every caption that can come."""
        return (self.phrase(number)[1] for number in range(self.config.num_captions))

    def batch(self, index: int, size: int) -> Batch:
        """Examples index to index + size - 1."""
        return self.draw(self.plan(index, size))

    def plan(self, start: int, size: int) -> Plan:
        """The part of `batch` that other processes can do."""
        _, captions, layouts, corners = zip(
            *(self.example(k) for k in range(start, start + size)), strict=True
        )
        side, extent = self._window
        return Plan(start, list(captions), sketch(layouts, side, corners, extent))

    def draw(self, plan: Plan) -> Batch:
        """The part of `batch` that the device does."""
        side, extent = self._window
        images = paint(plan.drawing, side, self.device, extent)
        lowres = None
        if self.config.lowres:
            factor = self.config.size // self.config.lowres
            lowres = F.avg_pool2d(images.float(), factor).add(0.5).to(images.dtype)
        return Batch(images, plan.captions, plan.start, lowres)

    @property
    def _window(self) -> tuple[int, float]:
        """Side of what is drawn, in pixels and as a share of the picture's."""
        side = self.config.crop or self.config.size
        return side, side / self.config.size

    def describe(self) -> dict[str, Any]:
        """What it is, for model cards and logs."""
        settings: dict[str, Any] = plain(self.config)
        return settings


SOURCES.register("shapes")((ShapesConfig, Shapes))
