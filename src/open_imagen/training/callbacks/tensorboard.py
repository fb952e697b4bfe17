"""TensorBoard, where it is installed: scalars every `log_every` images, and the samples."""

import importlib.util
import math
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from open_imagen.training.callbacks.log import scalars
from open_imagen.training.callbacks.samples import sheet_path
from open_imagen.training.loop import Trainer


class TensorBoard:
    """Writes metrics, and sheets that `Samples` has written before, to tensorboard/ in the run
    folder."""

    def __init__(self, folder: Path) -> None:
        self.run, self.folder = folder, folder / "tensorboard"
        self.is_installed = importlib.util.find_spec("tensorboard") is not None
        self._writer: Any = None

    def __call__(self, trainer: Trainer) -> None:
        if not self.is_installed or not trainer.world.is_main_process:
            return
        sheet = sheet_path(self.run, trainer.images_seen)
        has_sheet = trainer.is_due(trainer.config.sample_every) and sheet.is_file()
        if not trainer.is_log_due and not has_sheet:
            return
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            # Hides the scalars of steps that are made again after a kill.
            self._writer = SummaryWriter(str(self.folder), purge_step=trainer.images_seen)
        if trainer.is_log_due:
            for name, value in scalars(trainer.metrics).items():
                if math.isfinite(value):
                    self._writer.add_scalar(name, value, trainer.images_seen)
        if has_sheet:
            with Image.open(sheet) as image:
                pixels = np.asarray(image.convert("RGB"))
            self._writer.add_image("samples", pixels, trainer.images_seen, dataformats="HWC")
        self._writer.flush()
