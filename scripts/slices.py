"""Training in slices: what the scripts that train several models share."""

import sys
from collections.abc import Iterable
from pathlib import Path

from open_imagen.text import load_encoder
from open_imagen.training import Trainer, read_recipe
from open_imagen.training.reporting import Log, Samples, Validation
from open_imagen.worlds.sources import open_source

RECIPES = Path(__file__).parents[1] / "recipes"


def train(
    recipe_name: str, folder: Path, device: str, minutes: float, settings: Iterable[str] = ()
) -> bool:
    """Train a recipe of ours into a folder, or go on with it; whether it is complete.

    Args:
        minutes: length of this slice; 0: no end.
        settings: what differs from the recipe, as in ``--set``.
    """
    if (folder / "model" / "cascade.json").is_file():
        return True
    trainer = open_trainer(recipe_name, folder, device, (f"train.minutes={minutes}", *settings))
    trainer.callbacks = [Log(folder), Samples(folder)]
    if trainer.recipe.validation:
        trainer.callbacks.append(Validation(folder, open_source(trainer.recipe.validation, device)))
    complete = trainer.fit()
    print(f"{folder.name}: {trainer.seen:,} of {trainer.length:,} images", file=sys.stderr)
    return complete


def open_trainer(
    recipe_name: str, folder: Path, device: str, settings: Iterable[str] = ()
) -> Trainer:
    """A trainer of a recipe of ours, in a folder, that reports to nobody yet."""
    own = (f"out={folder}", f"train.device={device}")
    recipe = read_recipe(RECIPES / f"{recipe_name}.toml", (*own, *settings))
    source, encoder = open_source(recipe.data, device), load_encoder(recipe.encoder, device)
    return Trainer(recipe, source, encoder)
