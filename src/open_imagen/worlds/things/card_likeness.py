"""What a model card says of likeness: samples beside their nearest sprites, and references."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from open_imagen.cascade.alpha import to_image
from open_imagen.errors import ConfigError
from open_imagen.evaluation.progress import Progress
from open_imagen.worlds.things.atlas import Atlas
from open_imagen.worlds.things.catalog import Catalog
from open_imagen.worlds.things.likeness import (
    SIDE,
    Diversity,
    Likeness,
    Nearest,
    diversity,
    near_copies,
    rms,
)
from open_imagen.worlds.things.scenes import COLORS, Mixture, Shares
from open_imagen.worlds.things.source import Things, ThingsConfig
from open_imagen.worlds.things.suite import Prompt, Suite
from open_imagen.worlds.things.systems import System

THUMBNAIL, TEXT, COLUMNS = 96, 30, 6
BATCH = 16


@dataclass(frozen=True, kw_only=True)
class LikenessConfig:
    """How much is drawn."""

    samples: int = 60
    """Prompts of a thing by its label, and so samples beside sprites."""
    seed: int = 20
    """Of these prompts and of the first sample; no figure was chosen by it."""
    diverse_prompts: int = 16
    """How many of the prompts are drawn with several seeds."""
    seeds: int = 8
    """How many."""
    references: int = 256
    """Exact drawings, and sprites, for comparison."""

    def __post_init__(self) -> None:
        for name in ("samples", "diverse_prompts", "seeds", "references"):
            if (value := getattr(self, name)) < 1:
                raise ConfigError(f"{name} = {value} must be at least 1.")


def measure_likeness(
    system: System, atlas: Atlas, config: LikenessConfig, progress: Progress | None = None
) -> tuple[dict[str, Any], Tensor]:
    """Draw samples and compare them with all sprites.

    Returns:
        The record, in plain values; and the samples, uint8 [N, C, S, S].
    """
    likeness = Likeness(atlas)
    catalog = Catalog(atlas.things, atlas.sprites, colors=tuple(COLORS), held_out=True)
    prompts = Suite(catalog).prompts("label", config.samples, config.seed)
    texts = [one.text for one in prompts]
    first = config.seed * 1_000_000
    images = _drawn(system, texts, range(first, first + len(texts)), "samples", progress)
    found = likeness.nearest(images)
    few = texts[: config.diverse_prompts]
    repeated = [text for text in few for _ in range(config.seeds)]
    again = range(first + 500_000, first + 500_000 + len(repeated))
    several = _drawn(system, repeated, again, "diversity", progress)
    spread = diversity(list(torch.split(several, config.seeds)), likeness)
    record = {
        "system": system.facts,
        "config": asdict(config),
        "samples": [
            _row(prompt, first + k, one, atlas)
            for k, (prompt, one) in enumerate(zip(prompts, found, strict=True))
        ],
        "nothing_shown": sum(one.sprite < 0 for one in found),
        "near_copies": near_copies(found),
        "median": _median(found),
        "diversity": spread._asdict(),
        **references(atlas, likeness, prompts[: len(few)], images.shape[-1], config),
    }
    return record, images


def _drawn(
    system: System, texts: Sequence[str], seeds: Sequence[int], what: str, progress: Progress | None
) -> Tensor:
    parts = []
    for start in range(0, len(texts), BATCH):
        rows = slice(start, start + BATCH)
        parts.append(system.draw(texts[rows], list(seeds[rows])).cpu())
        if progress is not None:
            progress(what, min(start + BATCH, len(texts)), len(texts))
    return torch.cat(parts)


def _row(prompt: Prompt, seed: int, one: Nearest, atlas: Atlas) -> dict[str, Any]:
    row: dict[str, Any] = {"prompt": prompt.text, "seed": seed, "sprite": one.sprite}
    if one.sprite >= 0:
        sprite = atlas.sprites[one.sprite]
        row |= {
            "thing": atlas.things[sprite.thing].label,
            "style": sprite.style,
            "distance": round(one.distance, 4),
            "mirrored": one.mirrored,
        }
    return row


def _median(found: Sequence[Nearest]) -> float:
    distances = [one.distance for one in found if one.sprite >= 0]
    return round(float(np.median(distances)), 4) if distances else 1.0


def references(
    atlas: Atlas,
    likeness: Likeness,
    prompts: Sequence[Prompt],
    size: int,
    config: LikenessConfig,
) -> dict[str, Any]:
    """The same figures of exact drawings of the art, of different things, and of one thing.

    Of sprites of different things, and of different sprites of a thing.
    """
    size = min(size, 256)
    alone = Mixture(**{name: float(name == "single") for name in Mixture.__dataclass_fields__})
    settings = ThingsConfig(
        size=size, seed=config.seed, shapes=0, mixture=alone, shares=Shares(color=0, ground=0)
    )
    source = Things(settings, atlas=atlas)
    layouts = [source.example(k)[2] for k in range(config.references)]
    parts = [source.compose(layouts[k : k + 32]) for k in range(0, len(layouts), 32)]
    exact = likeness.nearest(torch.cat(parts))
    others = _other_things(atlas, likeness, config)
    spread = _diversity_of_art(atlas, prompts)
    return {
        "exact": {"near_copies": near_copies(exact), "median": _median(exact)},
        "other_things": {"near_copies": near_copies(others), "median": _median(others)},
        "art_diversity": spread._asdict(),
    }


def _other_things(atlas: Atlas, likeness: Likeness, config: LikenessConfig) -> list[Nearest]:
    """Of some sprites, the nearest sprite of another thing."""
    owners = np.array([sprite.thing for sprite in atlas.sprites])
    rng = np.random.default_rng(config.seed)
    count = min(config.references, len(owners))
    chosen = np.sort(rng.choice(len(owners), count, replace=False))
    found = []
    for number in chosen.tolist():
        others = np.flatnonzero(owners != owners[number])
        found.append(likeness.of_sprite(number, others))
    return found


def _diversity_of_art(atlas: Atlas, prompts: Sequence[Prompt]) -> Diversity:
    """Mean distance between two sprites of a thing, over the things of some prompts.

    People are taken without gender and skin tone.
    """
    distances, numbers = [], []
    pixels = atlas.pixels(64)
    for prompt in prompts:
        [label] = prompt.truth.wanted[0].names
        own = [
            n
            for n, sprite in enumerate(atlas.sprites)
            if atlas.things[sprite.thing].label == label and not (sprite.gender or sprite.tone)
        ]
        if not own:
            continue
        sprites = torch.from_numpy(np.ascontiguousarray(pixels[own])).permute(0, 3, 1, 2) / 255
        small = F.avg_pool2d(sprites, 64 // SIDE)
        numbers.append(len(own))
        pairs = [(a, b) for a in range(len(own)) for b in range(a)]
        distances += [float(rms((small[a] - small[b])[None])) for a, b in pairs]
    return Diversity(float(np.mean(distances or [0.0])), float(np.mean(numbers or [0])))


def draw_sheet(rows: Sequence[dict[str, Any]], images: Tensor, atlas: Atlas) -> Image.Image:
    """Each sample, beside it its nearest sprite, and below them the prompt and the distance."""
    width, height = 2 * THUMBNAIL + 16, THUMBNAIL + TEXT + 8
    lines = -(-len(rows) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * width, lines * height), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(11)
    pixels = atlas.pixels(64)
    for k, row in enumerate(rows):
        left, top = k % COLUMNS * width + 4, k // COLUMNS * height + 4
        sheet.paste(_thumbnail(images[k]), (left, top))
        text = "shows nothing"
        if row["sprite"] >= 0:
            sprite = torch.from_numpy(np.array(pixels[row["sprite"]])).permute(2, 0, 1)
            if row["mirrored"]:
                sprite = sprite.flip(2)
            sheet.paste(_thumbnail(sprite), (left + THUMBNAIL + 4, top))
            text = f"{row['distance']:.3f} {row['thing']}, {row['style']}"
        for line, said in enumerate((row["prompt"], text)):
            place = (left, top + THUMBNAIL + 2 + 13 * line)
            draw.text(place, _fitted(said, 2 * THUMBNAIL, font), "black", font)
    return sheet


def _fitted(text: str, width: int, font: Any) -> str:
    """A text cut to a width in pixels."""
    while font.getlength(text) > width:
        text = f"{text.rstrip('.')[:-1]}..."
    return text


def _thumbnail(pixels: Tensor) -> Image.Image:
    method = Image.Resampling.LANCZOS
    return to_image(pixels).convert("RGB").resize((THUMBNAIL, THUMBNAIL), method)
