"""Metrics and images in Weights & Biases or trackio, which share one interface."""

import hashlib
import importlib
import math
from collections.abc import Callable
from typing import Any

from open_imagen.config import plain
from open_imagen.errors import MissingDependency, TrainingError, install_hint
from open_imagen.training.callbacks.base import CALLBACKS, CallbackContext
from open_imagen.training.callbacks.log import scalars
from open_imagen.training.callbacks.samples import newest_sheet
from open_imagen.training.loop import Callback, Trainer
from open_imagen.training.recipe import Recipe

PROJECT = "open-imagen"
LIBRARIES = {"wandb": "wandb", "trackio": "trackio"}
"""Name in `train.callbacks` -> module, which is also the name of our extra."""


class Tracker:
    """Sends the metrics every `log_every` images, and sampled images when they are made.

    A run that is resumed goes on in the same tracked run. Steps are counted in images.
    """

    def __init__(self, recipe: Recipe, module: str) -> None:
        """Import the library.

        Raises:
            MissingDependency: the library is not installed.
        """
        self.recipe, self.name = recipe, module
        try:
            self._library: Any = importlib.import_module(module)
        except ImportError as error:
            raise MissingDependency(
                f"train.callbacks names {module!r}, which is not installed.",
                f"{install_hint(module)}. Or leave it out.",
            ) from error
        self._is_open = False
        self._sheet = ""

    def __call__(self, trainer: Trainer) -> None:
        """Send metrics and samples, if they are due."""
        if not trainer.world.is_main_process:
            return
        values: dict[str, Any] = {}
        if trainer.is_log_due:
            found = scalars(trainer.metrics)
            values = {name: value for name, value in found.items() if math.isfinite(value)}
            for name, value in trainer.metrics.loss_by_logsnr.items():
                values[f"loss_by_logsnr/{name}"] = value
        sheet = newest_sheet(self.recipe.folder, trainer.images_seen)
        is_new_sheet = sheet is not None and sheet.name != self._sheet
        if not values and not is_new_sheet:
            return
        if not self._is_open:
            self._open()
        if sheet is not None and is_new_sheet:
            self._sheet = sheet.name
            values["samples"] = self._library.Image(str(sheet))
        values["images_seen"] = trainer.images_seen
        self._library.log(values, **self._step(trainer.images_seen))

    def _step(self, images_seen: int) -> dict[str, int]:
        # W&B drops steps that go back, as those do that a resumed run makes again: there
        # images_seen is the axis, a metric like any other.
        return {} if self.name == "wandb" else {"step": images_seen}

    def _open(self) -> None:
        settings: dict[str, Any] = {
            "project": PROJECT,
            "name": self.recipe.name,
            "config": plain(self.recipe),
            "resume": "allow",
        }
        if self.name == "wandb":
            settings |= {"id": _run_id(self.recipe), "dir": str(self.recipe.folder)}
        try:
            self._library.init(**settings)
        except Exception as error:  # of a network or an account, whatever the library raises
            raise TrainingError(
                f"{self.name} cannot begin a run: {error}",
                f"Set it up, or take {self.name!r} out of train.callbacks.",
            ) from error
        if self.name == "wandb":
            self._library.define_metric("images_seen")
            self._library.define_metric("*", step_metric="images_seen")
        self._is_open = True

    def close(self, trainer: Trainer, error: BaseException | None) -> None:
        """End the library's run."""
        if self._is_open:
            self._is_open = False
            self._library.finish()


def _run_id(recipe: Recipe) -> str:
    """One for each run folder."""
    return hashlib.sha256(str(recipe.folder.resolve()).encode()).hexdigest()[:16]


def _builder(module: str) -> Callable[[CallbackContext], Callback]:
    return lambda context: Tracker(context.recipe, module)


for _name, _module in LIBRARIES.items():
    CALLBACKS.register(_name)(_builder(_module))
