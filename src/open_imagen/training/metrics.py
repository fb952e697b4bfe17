"""What training steps report."""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from open_imagen.distributed import all_gather_object


@dataclass
class StepMetrics:
    """The figures of a training step."""

    loss: float = math.nan
    """Mean over the steps since the last report."""
    grad_norm: float = math.nan
    lr: float = 0.0
    images_per_second: float = 0.0
    skipped: dict[str, int] = field(default_factory=dict)
    """Examples that the source has skipped, by reason, in all processes."""


class MetricsRecorder:
    """Collects the figures of steps between two reports."""

    def __init__(self) -> None:
        self.metrics = StepMetrics()
        self._losses: list[Tensor] = []
        self._since = (0, 0.0)

    def restart(self, images_seen: int, now: float) -> None:
        """Measure the pace from here."""
        self._since = (images_seen, now)

    def add_step(self, loss: Tensor, norm: Tensor, lr: float) -> None:
        """Add the loss of a step, its gradient norm and learning rate."""
        self._losses.append(loss)
        self.metrics.grad_norm, self.metrics.lr = float(norm), lr

    def report(self, images_seen: int, now: float, skipped: Mapping[str, int]) -> None:
        """Update the metrics with all steps since the last report. Every process must call it.

        Args:
            skipped: examples that the source of this process has skipped, by reason.
        """
        images, then = self._since
        if self._losses:
            self.metrics.loss = float(torch.stack(self._losses).mean())
        self.metrics.images_per_second = (images_seen - images) / max(now - then, 1e-9)
        self.metrics.skipped = dict(sum(map(Counter, all_gather_object(dict(skipped))), Counter()))
        self._losses.clear()
        self._since = (images_seen, now)
