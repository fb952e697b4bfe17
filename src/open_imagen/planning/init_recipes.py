"""Recipes fitted to a folder of images and to a machine, with the reason for every choice."""

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

from open_imagen.config import parse
from open_imagen.errors import ConfigError, OutputError
from open_imagen.planning.folder_facts import FolderFacts
from open_imagen.planning.machine import Machine
from open_imagen.planning.plan import memory_of, run_of
from open_imagen.planning.recipe_text import MANY, Choice, Context, write_recipe
from open_imagen.storage import write_text
from open_imagen.text.encoders import ENCODERS
from open_imagen.training.recipe import Recipe

BASE_SIDE = 64
BASES = ("tiny-base-64", "small-base-64", "imagen-base-64-300m", "imagen-base-64-1b")
LARGER = ("tiny-sr-256", "small-sr-256", "imagen-sr-256")
"""Networks, the smallest first."""
LARGER_SIDES = (256, 128)
"""Resolutions of super-resolution, the preferred first."""
MOSTLY = 0.5
"""Share of images that must have a resolution for a stage to be trained at it."""
EPOCHS, FEWEST, MOST = 200, 100_000, 20_000_000
"""How often each image is seen, within these numbers of images."""
ROOM = 0.6
"""Share of free memory that a run may take."""


@dataclass(frozen=True)
class NewRecipe:
    """A recipe's text, and what it will take."""

    name: str
    text: str
    recipe: Recipe
    hours: float
    images_per_second: float

    @property
    def file(self) -> str:
        """The name of its file."""
        return f"{self.name}.toml"


def init_recipes(
    facts: FolderFacts,
    machine: Machine,
    name: str,
    hours: float = 4.0,
    encoder: str = "minilm-l6",
    caption: str = "",
) -> list[NewRecipe]:
    """Recipes for a base and, if the images are large enough, a super-resolution stage.

    Args:
        name: of the model; the recipes are called NAME-base and NAME-sr256.
        hours: that each may take on this machine.
        caption: for images without their own.

    Raises:
        ConfigError: the name or the hours are wrong.
        UnknownName: no such text encoder.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise ConfigError(
            f"--name {name!r} is not the name of a model.",
            "Use letters, digits, dots, hyphens and underscores.",
        )
    if not 0 < hours < float("inf"):
        raise ConfigError(f"--hours {hours} must be above 0.")
    width = ENCODERS[encoder].width
    how = Context(facts, machine, name, hours, encoder, width, caption)
    made = [_make(how, f"{name}-base", BASE_SIDE, 0)]
    side = next((s for s in LARGER_SIDES if facts.share_of_at_least(s) >= MOSTLY), 0)
    if side:
        made.append(_make(how, f"{name}-sr{side}", side, BASE_SIDE))
    return made


def _make(how: Context, name: str, side: int, lowres: int) -> NewRecipe:
    choice = choose(how, name, side, lowres)
    text = write_recipe(how, name, side, lowres, choice)
    recipe = parse(Recipe, tomllib.loads(text))
    return NewRecipe(name, text, recipe, choice.hours, choice.rate)


def choose(how: Context, name: str, side: int, lowres: int) -> Choice:
    """The largest network that sees enough images in time and fits into memory.

    If none does: the smallest network, with as many images as there is time for.
    """
    wanted = min(max(EPOCHS * how.facts.images, FEWEST), MOST)
    presets: tuple[str, ...] = LARGER if lowres else BASES
    if how.facts.images < MANY:
        presets = presets[:2]
    options = [_option(how, name, side, lowres, preset, wanted) for preset in presets]
    fitting = [one for one in options if one.accumulate]
    in_time = [one for one in fitting if one.is_enough]
    return (in_time or fitting[:1] or options[:1])[-1]


def _option(how: Context, name: str, side: int, lowres: int, preset: str, wanted: int) -> Choice:
    batch = 16 if lowres else 32 if how.facts.images < MANY else 64
    draft = Choice(preset, wanted, wanted, 1.0, batch, 1, 0)
    recipe = parse(Recipe, tomllib.loads(write_recipe(how, name, side, lowres, draft)))
    run = run_of(recipe)
    rate = how.machine.flops / (3 * run.survey.flops)
    most = max(batch, int(rate * how.hours * 3600) // batch * batch)
    parts = (2**k for k in range(batch.bit_length()) if batch % 2**k == 0)
    fits = (one for one in parts if sum(memory_of(run, batch // one)) <= ROOM * how.machine.memory)
    images = min(wanted, most)
    return Choice(preset, images, wanted, rate, batch, next(fits, 0), run.survey.parameters)


def write_files(recipes: list[NewRecipe], folder: Path) -> list[Path]:
    """Write recipes to a folder; nothing is written if one of them is there.

    Raises:
        OutputError: a file exists, or the folder cannot be written.
    """
    files = [folder / one.file for one in recipes]
    for file in files:
        if file.exists():
            raise OutputError(
                f"{file} exists already; it may be yours.",
                "Choose another --name or --out, or remove it.",
            )
    for file, one in zip(files, recipes, strict=True):
        write_text(file, one.text)
    return files
