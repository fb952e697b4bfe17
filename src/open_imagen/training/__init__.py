"""Training: one stage, one recipe, one loop; resume by running it again."""

from open_imagen.training.run import Recipe, read_recipe
from open_imagen.training.trainer import Trainer

__all__ = ["Recipe", "Trainer", "read_recipe"]
