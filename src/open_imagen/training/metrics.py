"""What training steps report."""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from open_imagen.distributed import all_gather_object

LOGSNR_EDGES = (-8.0, -6.0, -4.0, -2.0, 0.0, 2.0, 4.0, 6.0, 8.0)
"""Between the buckets of log-SNR over which the training loss is averaged."""
LOGSNR_BUCKETS = (
    f"below {LOGSNR_EDGES[0]:g}",
    *(f"{low:g} to {low + 2:g}" for low in LOGSNR_EDGES[:-1]),
    f"above {LOGSNR_EDGES[-1]:g}",
)
"""Their names, from most to least noise."""


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
    loss_by_logsnr: dict[str, float] = field(default_factory=dict)
    """The mean loss of the examples in each bucket of log-SNR since the last report, in all
    processes; buckets without examples are left out."""


class MetricsRecorder:
    """Collects the figures of steps between two reports."""

    def __init__(self) -> None:
        self.metrics = StepMetrics()
        self._losses: list[Tensor] = []
        self._levels: Tensor | None = None
        """[2, buckets]: sums of losses, and numbers of examples."""
        self._since = (0, 0.0)

    def restart(self, images_seen: int, now: float) -> None:
        """Measure the pace from here."""
        self._since = (images_seen, now)

    def add_step(
        self, loss: Tensor, norm: Tensor, lr: float, by_example: Tensor, logsnr: Tensor
    ) -> None:
        """Add the loss of a step, its gradient norm and learning rate.

        Args:
            loss: the mean of the step.
            by_example: the losses of its examples in this process [B], at log-SNRs ``logsnr`` [B];
                both may be empty.
        """
        self._losses.append(loss)
        if len(logsnr):
            self._add_levels(by_example, logsnr)
        self.metrics.grad_norm, self.metrics.lr = float(norm), lr

    def _add_levels(self, losses: Tensor, logsnr: Tensor) -> None:
        if self._levels is None:
            self._levels = losses.new_zeros(2, len(LOGSNR_BUCKETS), dtype=torch.float32)
        bucket = torch.bucketize(logsnr, logsnr.new_tensor(LOGSNR_EDGES))
        both = torch.stack([losses.float(), torch.ones_like(losses, dtype=torch.float32)])
        self._levels.index_add_(1, bucket, both)

    def report(self, images_seen: int, now: float, skipped: Mapping[str, int]) -> None:
        """Update the metrics with all steps since the last report. Every process must call it.

        Args:
            skipped: examples that the source of this process has skipped, by reason.
        """
        images, then = self._since
        if self._losses:
            self.metrics.loss = float(torch.stack(self._losses).mean())
        self.metrics.images_per_second = (images_seen - images) / max(now - then, 1e-9)
        levels = None if self._levels is None else self._levels.cpu()
        gathered = all_gather_object((dict(skipped), levels))
        self.metrics.skipped = dict(sum((Counter(one) for one, _ in gathered), Counter()))
        self.metrics.loss_by_logsnr = _means([one for _, one in gathered if one is not None])
        self._levels = None
        self._losses.clear()
        self._since = (images_seen, now)


def _means(parts: list[Tensor]) -> dict[str, float]:
    """The mean loss of each bucket that has examples, from the sums of all processes."""
    if not parts:
        return {}
    sums, counts = torch.stack(parts).sum(0).tolist()
    found = zip(LOGSNR_BUCKETS, sums, counts, strict=True)
    return {name: total / count for name, total, count in found if count}
