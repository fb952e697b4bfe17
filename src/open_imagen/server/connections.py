"""Connections before they are requests: their number, time limits, and which are closed first."""

import asyncio
import contextlib
import logging
import socket
import time
from dataclasses import dataclass
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

log = logging.getLogger("open_imagen.server")
RESERVED_FILES = 128
"""Descriptors that are left for the gallery, the model's weights and so on."""
RETRY_SECONDS = 0.1
"""Until connections are accepted again after the system had no descriptor or memory for one."""


@dataclass(frozen=True, kw_only=True)
class ConnectionLimits:
    """How many connections there may be, and how slow."""

    total: int = 512
    per_address: int = 256
    header_seconds: float = 10.0
    """From the first byte, or the opening, to the end of a request's headers."""
    write_seconds: float = 60.0
    """How long a client may leave an answer unread."""

    def within_descriptors(self) -> "ConnectionLimits":
        """The same with no more connections than the process can have files open.

        The soft limit is raised first, as far as it is needed and allowed.
        """
        try:
            import resource
        except ImportError:  # Windows has no such limit
            return self
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        needed = self.total + RESERVED_FILES
        if soft != resource.RLIM_INFINITY and soft < needed:
            soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
            with contextlib.suppress(ValueError, OSError):
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft == resource.RLIM_INFINITY:
            return self
        total = max(1, min(self.total, soft - RESERVED_FILES, soft // 2))
        return ConnectionLimits(
            total=total,
            per_address=min(self.per_address, total),
            header_seconds=self.header_seconds,
            write_seconds=self.write_seconds,
        )


class TimedProtocol(H11Protocol):
    """uvicorn's protocol, whose clients may take only so long."""

    def __init__(self, limits: ConnectionLimits, address: str, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._limits, self.address, self.opened = limits, address, time.monotonic()
        self._header_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None

    @property
    def waits(self) -> bool:
        """Whether no request is being worked on."""
        return self.cycle is None or self.cycle.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the timer for the headers."""
        super().connection_made(transport)
        self._expect_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timers."""
        for timer in (self._header_timer, self._write_timer):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Handle bytes, and restart or stop the timer for the headers."""
        super().data_received(data)
        if self.waits:
            self._expect_headers()
        elif self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None

    def _expect_headers(self) -> None:
        if self._header_timer is None and not self.transport.is_closing():
            self._header_timer = self.loop.call_later(self._limits.header_seconds, self._too_slow)

    def _too_slow(self) -> None:
        self._header_timer = None
        if self.waits and not self.transport.is_closing():
            self.transport.write(
                b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
            )
            self.transport.close()

    def pause_writing(self) -> None:
        """Start the timer for a client that does not read."""
        super().pause_writing()
        self._write_timer = self.loop.call_later(self._limits.write_seconds, self.give_way)

    def resume_writing(self) -> None:
        """Stop that timer."""
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None
        super().resume_writing()

    def give_way(self) -> None:
        """End the connection at once."""
        self.transport.abort()


class Acceptor:
    """Accepts connections up to a limit; beyond it, closes the oldest without a request."""

    def __init__(self, listener: socket.socket, limits: ConnectionLimits, arguments: Any) -> None:
        """Listen on a socket.

        Args:
            arguments: returns those of uvicorn's protocols.
        """
        self.listener, self.limits, self._arguments = listener, limits, arguments
        self.open: set[TimedProtocol] = set()
        self._reported = -60.0

    async def run(self) -> None:
        """Accept until it is cancelled."""
        loop = asyncio.get_running_loop()
        self.listener.setblocking(False)
        while True:
            try:
                connection, address = await loop.sock_accept(self.listener)
            except ConnectionError:
                continue
            except OSError as error:  # no descriptors, no memory
                self._report(f"connections cannot be accepted: {error.strerror}")
                self._make_room(list(self.open))
                await asyncio.sleep(RETRY_SECONDS)
                continue
            await self._open(connection, address)

    async def _open(self, connection: socket.socket, address: Any) -> None:
        host = str(address[0]) if isinstance(address, tuple) else "local"
        loop = asyncio.get_running_loop()
        self.open = {one for one in self.open if not one.transport.is_closing()}
        same = [one for one in self.open if one.address == host]
        if len(same) >= self.limits.per_address and not self._make_room(same):
            self._report("a client has too many connections")
            connection.close()
            return
        if len(self.open) >= self.limits.total and not self._make_room(list(self.open)):
            self._report("there are too many connections")
            connection.close()
            return
        protocol = TimedProtocol(self.limits, host, **self._arguments())
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await loop.connect_accepted_socket(lambda: protocol, connection)
        except OSError:  # the client has gone already
            connection.close()
            return
        self.open.add(protocol)

    def _make_room(self, among: list[TimedProtocol]) -> bool:
        """End the oldest connection that waits for a request; False if there is none."""
        waiting = [one for one in among if one.waits and not one.transport.is_closing()]
        if not waiting:
            return False
        oldest = min(waiting, key=lambda one: one.opened)
        oldest.give_way()
        self.open.discard(oldest)
        return True

    def _report(self, message: str) -> None:
        """Log it, at most once a minute."""
        if time.monotonic() - self._reported >= 60:
            self._reported = time.monotonic()
            log.warning(message, extra={"open": len(self.open)})
