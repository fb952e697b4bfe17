"""TensorBoard, where it is installed: metrics and sampled images."""

import importlib.util
import math
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from open_imagen.training.callbacks.log import scalars
from open_imagen.training.callbacks.samples import newest_sheet
from open_imagen.training.loop import Trainer


class TensorBoard:
    """Writes metrics every `log_every` images, and sampled images, to tensorboard/."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "tensorboard"
        self.is_installed = importlib.util.find_spec("tensorboard") is not None
        self._writer: Any = None

    def __call__(self, trainer: Trainer) -> None:
        """Write the metrics, if it is due."""
        if not self.is_installed or not trainer.world.is_main_process:
            return
        sheet = newest_sheet(self.folder.parent, trainer.images_seen)
        is_new_sheet = sheet is not None and trainer.is_due(trainer.config.sample_every)
        if not trainer.is_log_due and not is_new_sheet:
            return
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            # Hides the scalars of steps that are made again after a kill.
            self._writer = SummaryWriter(str(self.folder), purge_step=trainer.images_seen)
        if trainer.is_log_due:
            self._add_scalars(trainer)
        if sheet is not None and is_new_sheet:
            with Image.open(sheet) as image:
                pixels = np.array(image.convert("RGB"))
            self._writer.add_image("samples", pixels, trainer.images_seen, dataformats="HWC")
        self._writer.flush()

    def _add_scalars(self, trainer: Trainer) -> None:
        values = scalars(trainer.metrics)
        for name, value in trainer.metrics.loss_by_logsnr.items():
            values[f"loss_by_logsnr/{name}"] = value
        for name, value in values.items():
            if math.isfinite(value):
                self._writer.add_scalar(name, value, trainer.images_seen)
