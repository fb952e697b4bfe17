"""Logs as lines of JSON, and a limit on how often the same message is repeated."""

import json
import logging
import time
from collections.abc import Callable


class JsonLines(logging.Formatter):
    """A log record as one line of JSON."""

    plain = frozenset(vars(logging.makeLogRecord({}))) | {"message", "taskName", "color_message"}

    def format(self, record: logging.LogRecord) -> str:
        """A record as one line of JSON."""
        extra = {k: v for k, v in vars(record).items() if k not in self.plain and v is not None}
        line = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **extra,
        }
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


class LimitRepeats(logging.Filter):
    """Drops a message that comes too often, and says later how many were dropped.

    A client can cause warnings at will, as by bytes that are not HTTP; it must not fill the disk.
    Lines of requests that were served are not limited.
    """

    def __init__(
        self,
        limit: int = 60,
        seconds: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start with no counts.

        Args:
            limit: lines with the same message within ``seconds``.
        """
        super().__init__()
        self.limit, self.seconds, self._clock = limit, seconds, clock
        self._counts: dict[tuple[str, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a record is written."""
        status = getattr(record, "status", 400)
        if record.levelno < logging.WARNING and 0 < status < 400:
            return True
        key, now = (record.name, str(record.msg)[:200]), self._clock()
        since, count = self._counts.get(key, (now, 0))
        if now - since >= self.seconds:
            if count > self.limit:
                record.dropped = count - self.limit
            since, count = now, 0
        if len(self._counts) > 1000:
            self._counts.clear()
        self._counts[key] = since, count + 1
        return count < self.limit
