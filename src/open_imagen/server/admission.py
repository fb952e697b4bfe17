"""Which jobs the worker takes: the queue is bounded, and no client fills it alone."""

import math
from collections.abc import Sequence

from open_imagen.server.jobs import Job, QueueFull, Task

FIRST_ESTIMATE = 2.0
"""Seconds per image that are assumed before any was drawn."""
MAX_RETRY_AFTER = 600
RECENT = 50
"""Images after which what was measured before them counts half."""


class Admission:
    """Places in the queue, and how long they are probably taken."""

    def __init__(self, queue_size: int) -> None:
        """Start empty.

        Args:
            queue_size: images waiting or being drawn at most.
        """
        self.queue_size = queue_size
        self.seconds, self.images = FIRST_ESTIMATE, 1.0
        """Device time that was used, and the images that were finished in it."""

    def finished(self) -> None:
        """An image was finished."""
        self.images += 1
        if self.images > RECENT:
            self.seconds, self.images = self.seconds / 2, self.images / 2

    def check(self, job: Job, tasks: Sequence[Task]) -> None:
        """Refuse a job that would take more than its client's share of the queue.

        A client may hold as many places as it leaves free (dynamic thresholds, Choudhury and Hahne
        1998): one alone half of the queue, two a third each, so that another always gets in. One
        that holds none gets in wherever there is room.

        Args:
            tasks: the images that are waiting or being drawn.

        Raises:
            QueueFull: there is no room for it.
        """
        new, depth = len(job.images), len(tasks)
        accounts = {task.job.account for task in tasks}
        own = sum(task.job.account == job.account for task in tasks)
        if depth + new > self.queue_size:
            raise QueueFull(
                f"{depth} images are waiting already; the server takes {self.queue_size} at once.",
                "queue_full",
                self.seconds_for(depth + new - self.queue_size),
            )
        share = (self.queue_size - depth + own) // 2 if own else self.queue_size
        limit = min(share, job.max_queued or share)
        if own + new > limit:
            raise QueueFull(
                f"{own} images of yours are waiting already; this server takes {limit} of one "
                "client at once, and fewer while others wait.",
                "client_limit",
                self.seconds_for((own + new - limit) * max(1, len(accounts))),
            )

    def seconds_for(self, images: int) -> int:
        """Seconds until so many images are probably done."""
        expected = math.ceil(images * self.seconds / self.images)
        return max(1, min(MAX_RETRY_AFTER, expected))
