"""How many images a client may ask for in an hour, and how many pixels are held in memory."""

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable

from open_imagen.server.auth import Client

MAX_ACCOUNTS = 10_000
"""Clients that are remembered, the latest."""


class ImagesPerHour:
    """A token bucket for each client: it holds an hour's images and refills evenly."""

    def __init__(
        self, default: float | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Start with unused limits.

        Args:
            default: images an hour of clients without a limit of their own; None: any number.
        """
        self.default, self._clock = default, clock
        self._spent: OrderedDict[str, tuple[float, float]] = OrderedDict()
        """Images that count against each client, and when that was."""

    def wait(self, client: Client, images: int) -> int:
        """Seconds until a client may have so many more images; 0: now."""
        limit = client.images_per_hour or self.default
        if limit is None:
            return 0
        over = self._now(client, limit) + images - limit
        return math.ceil(over * 3600 / limit) if over > 0 else 0

    def count(self, client: Client, images: int) -> None:
        """Images were accepted."""
        limit = client.images_per_hour or self.default
        if limit is None:
            return
        self._spent[client.account] = self._now(client, limit) + images, self._clock()
        self._spent.move_to_end(client.account)
        while len(self._spent) > MAX_ACCOUNTS:
            self._spent.popitem(last=False)

    def _now(self, client: Client, limit: float) -> float:
        spent, when = self._spent.get(client.account, (0.0, 0.0))
        return max(0.0, spent - (self._clock() - when) * limit / 3600)


class PixelBudget:
    """Pixels of uploads that are held in memory at a time, of all requests together."""

    def __init__(self, size: int) -> None:
        self.size = self.free = size
        self._lock = threading.Lock()

    def take(self, pixels: int) -> bool:
        """Whether there was room for so many; they are then taken."""
        with self._lock:
            if pixels > self.free:
                return False
            self.free -= pixels
            return True

    def give(self, pixels: int) -> None:
        """They are held no longer."""
        with self._lock:
            self.free += pixels
