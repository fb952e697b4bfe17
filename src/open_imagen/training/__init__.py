"""Training: one stage, one recipe, one loop; resume by running it again."""

from open_imagen.training.loop import Trainer
from open_imagen.training.recipe import Recipe, read_recipe

__all__ = ["Recipe", "Trainer", "read_recipe"]
