"""log.jsonl: a line of metrics every `log_every` images."""

from pathlib import Path
from typing import Any

from open_imagen.storage import append_json
from open_imagen.training.loop import Trainer
from open_imagen.training.metrics import StepMetrics


class Log:
    """Appends the metrics to log.jsonl in the run folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, trainer: Trainer) -> None:
        """Append a line to log.jsonl, if it is due."""
        if not trainer.world.is_main_process or not trainer.is_log_due:
            return
        line: dict[str, Any] = {
            "images_seen": trainer.images_seen,
            "seconds": round(trainer.seconds, 1),
            **scalars(trainer.metrics),
        }
        if trainer.metrics.loss_by_logsnr:
            line["loss_by_logsnr"] = trainer.metrics.loss_by_logsnr
        if trainer.metrics.skipped:
            line["skipped"] = trainer.metrics.skipped
        if trainer.nonfinite_steps:
            line["nonfinite_steps"] = trainer.nonfinite_steps
        append_json(self.folder / "log.jsonl", line)


def scalars(metrics: StepMetrics) -> dict[str, float]:
    """The metrics that are numbers, by name."""
    names = ("loss", "grad_norm", "lr", "images_per_second")
    return {name: getattr(metrics, name) for name in names}
