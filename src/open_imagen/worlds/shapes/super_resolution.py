"""How well super-resolution upscales shapes: are edges as steep as drawn ones, do colours stay?"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from open_imagen.cascade.cascade import Cascade
from open_imagen.errors import ConfigError
from open_imagen.evaluation.metrics.distances import Array, mean_score
from open_imagen.evaluation.progress import Progress
from open_imagen.worlds.shapes.checker import (
    detect,
    ground_of,
    grown,
    on_white,
    patches_of,
    reduced,
)
from open_imagen.worlds.shapes.judge import drawing_of
from open_imagen.worlds.shapes.suite import make_items

LOW, HIGH = 0.1, 0.9
"""An edge is where an object covers more of a pixel than the one, and less than the other."""
BATCH = 8
"""Images generated together."""


@dataclass(frozen=True, kw_only=True)
class SuperResolutionEvaluation:
    """What to evaluate."""

    count: int = 24
    """Prompts of each category."""
    seed: int = 1
    """Of prompts and pictures."""
    categories: tuple[str, ...] = ("single", "two_objects")
    """Of the suite."""
    stages: int | None = None
    """How many stages of the cascade; all if None."""

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ConfigError(f"count = {self.count} must be at least 1.")


def evaluate_super_resolution(
    cascade: Cascade, config: SuperResolutionEvaluation, progress: Progress | None = None
) -> dict[str, Any]:
    """Measure every super-resolution stage of a cascade on pictures that it makes.

    Returns:
        The model, and per stage the means over pictures, with standard errors, of: ``edge``, the
        width of edges, in pixels; ``drawn_edge``, that of an exact drawing of what is seen;
        ``color_shift`` to the stage below, percent; and its largest, ``largest_color_shift``.

    Raises:
        ConfigError: the cascade has no super-resolution stage.
    """
    number = config.stages or len(cascade.stages)
    chosen = cascade.chosen(number)
    if len(chosen) < 2:
        raise ConfigError(
            f"The first {number} stages of {cascade.name!r} have no super-resolution."
        )
    prompts = [
        i.prompt for c in config.categories for i in make_items(c, config.count, config.seed)
    ]
    rows: dict[str, list[tuple[float, float, float]]] = {s.config.name: [] for s in chosen[1:]}
    for start in range(0, len(prompts), BATCH):
        batch = prompts[start : start + BATCH]
        made = cascade.generate(batch, seed=config.seed * 1_000_000 + start, stages=number)
        below, *above = map(on_white, made.stages.values())
        for (_, measured), images in zip(rows.items(), above, strict=True):
            for small, large in zip(below, images, strict=True):
                drawn = drawing_of(detect(large), large.shape[-1])
                measured.append((edge_width(large), edge_width(drawn), color_shift(small, large)))
            below = images
        if progress is not None:
            progress("super-resolution", start + len(batch), len(prompts))
    return {
        **cascade.identity,
        "count": config.count,
        "seed": config.seed,
        "categories": list(config.categories),
        "stages": {name: _summed_up(np.array(measured)) for name, measured in rows.items()},
    }


def _summed_up(measured: Array) -> dict[str, Any]:
    """Of [picture, (edge, drawn edge, colour shift)]; of pictures without edges, the last alone."""
    edges = measured[np.isfinite(measured[:, :2]).all(axis=1)]
    columns = {"color_shift": measured[:, 2]}
    if len(edges):
        columns = {"edge": edges[:, 0], "drawn_edge": edges[:, 1], **columns}
    return {
        "images": len(measured),
        **{name: asdict(mean_score(values)) for name, values in columns.items()},
        "largest_color_shift": float(measured[:, 2].max()),
    }


def edge_width(image: Tensor) -> float:
    """The mean width of edges in a picture uint8 [3, H, W], in pixels; NaN where there is none.

    From a tenth to nine tenths of the way between background and object: the area of all pixels
    on the way, by the length of the edges, which is the sum of what cover rises by (the coarea
    formula). A sharp edge drawn with exact areas has 0.8.
    """
    small = reduced(image)
    ground = ground_of(small)
    pixels = image.float() - ground[:, None, None]
    area = length = 0.0
    for patch in patches_of(small, ground):
        tint = _upscaled(patch, pixels)
        axis = pixels[:, tint].median(dim=1).values
        cover = torch.einsum("chw,c->hw", pixels, axis) / axis.square().sum()
        cover = cover.clamp(LOW, HIGH)
        near = _upscaled(grown(patch, 3), pixels)
        area += float(((cover > LOW) & (cover < HIGH) & near).sum())
        length += float(torch.hypot(*torch.gradient(cover))[near].sum()) / (HIGH - LOW)
    return area / length if length else float("nan")


def color_shift(small: Tensor, large: Tensor) -> float:
    """How far surface colours in an image uint8 [3, H, W] are from those in its input.

    The input is the low-resolution image. In percent of the range: the largest over red, green and
    blue, and over background and objects.
    """
    here, there = reduced(large), reduced(small)
    ground = ground_of(here)
    apart = [ground - ground_of(there)]
    for patch in patches_of(here, ground):
        inner = ~grown(~patch, 2)
        if inner.any():
            apart.append(here[:, inner].median(1).values - there[:, inner].median(1).values)
    return 100 * float(torch.stack(apart).abs().max()) / 255


def _upscaled(patch: Tensor, image: Tensor) -> Tensor:
    """A patch bool [h, w] at the size of a picture [3, H, W]."""
    return F.interpolate(patch.float()[None, None], image.shape[-2:])[0, 0] > 0
