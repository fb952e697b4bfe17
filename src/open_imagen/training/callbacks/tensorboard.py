"""TensorBoard scalars, where it is installed, every `log_every` images."""

import importlib.util
import math
from pathlib import Path
from typing import Any

from open_imagen.training.callbacks.log import scalars
from open_imagen.training.loop import Trainer


class TensorBoard:
    """Writes the metrics to tensorboard/ in the run folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "tensorboard"
        self.is_installed = importlib.util.find_spec("tensorboard") is not None
        self._writer: Any = None

    def __call__(self, trainer: Trainer) -> None:
        """Write the metrics, if it is due."""
        if not self.is_installed or not trainer.world.is_main_process or not trainer.is_log_due:
            return
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            # Hides the scalars of steps that are made again after a kill.
            self._writer = SummaryWriter(str(self.folder), purge_step=trainer.images_seen)
        for name, value in scalars(trainer.metrics).items():
            if math.isfinite(value):
                self._writer.add_scalar(name, value, trainer.images_seen)
        self._writer.flush()
