"""How many images a client may ask for in an hour."""

import math
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
