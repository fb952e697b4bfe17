"""A run that has to be complete in a given time sees as many images as its pace allows."""

import torch

from open_imagen.distributed import all_reduce_sum, world

PACE_STEPS = 20
"""Steps over which the pace is measured."""


class TimeBudget:
    """The number of images that fit a time budget, from the recent pace of all processes."""

    def __init__(self, minutes: float, max_images: int, batch_size: int) -> None:
        """Start without a known pace.

        Args:
            minutes: of training, over all parts of the run; 0 for no budget.
        """
        self.minutes, self.max_images, self.batch_size = minutes, max_images, batch_size
        self._last: tuple[int, float] | None = None

    def total_images(
        self, images_seen: int, seconds: float, current: int, device: torch.device
    ) -> int:
        """Images that the run will see, after a step; ``current`` where the pace is not due."""
        if not self.minutes or images_seen // self.batch_size % PACE_STEPS:
            return current
        last, self._last = self._last, (images_seen, seconds)
        if last is None:  # the first steps compile, which is no pace
            return current
        images, elapsed = images_seen - last[0], seconds - last[1]
        left = max(0.0, 60 * self.minutes - seconds)
        more = torch.tensor(images / elapsed * left / world().size, device=device)
        batches = int(all_reduce_sum(more)) // self.batch_size
        return min(self.max_images, images_seen + batches * self.batch_size)
