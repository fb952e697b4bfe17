"""Callbacks by name, as `train.callbacks` of a recipe lists them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from open_imagen.registry import Registry
from open_imagen.training.callbacks.alignment import Score
from open_imagen.training.callbacks.held_out import Distance
from open_imagen.training.loop import Callback
from open_imagen.training.recipe import Recipe
from open_imagen.types import Source


@dataclass(frozen=True)
class CallbackContext:
    """What callbacks are built from. Whoever sets up a run injects what needs other packages."""

    recipe: Recipe
    held_out: Source | None = None
    """The examples of `validation`."""
    alignment: Score | None = None
    """The alignment score of the world that the data are of."""
    distance: Distance | None = None
    """The distance between sampled and held-out images."""

    @property
    def folder(self) -> Path:
        return self.recipe.folder


Build = Callable[[CallbackContext], Callback | None]
"""Context -> a callback; None where the recipe gives it nothing to do."""

CALLBACKS: Registry[Build] = Registry("train.callbacks")


def build_callbacks(context: CallbackContext) -> list[Callback]:
    """The callbacks that a recipe lists, in its order.

    Raises:
        UnknownName: it lists one that is not registered.
        MissingDependency: one needs a library that is not installed.
    """
    built = [CALLBACKS[name](context) for name in dict.fromkeys(context.recipe.train.callbacks)]
    return [callback for callback in built if callback is not None]
