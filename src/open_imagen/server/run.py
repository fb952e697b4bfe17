"""Running an app until it is asked to stop, and then finishing what it has begun."""

import asyncio
import contextlib
import logging
import signal
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from types import FrameType
from typing import Any

import uvicorn
from fastapi import FastAPI

from open_imagen.server.connections import Acceptor, ConnectionLimits
from open_imagen.server.service import Service

log = logging.getLogger("open_imagen.server")
Finish = Callable[[], Awaitable[None]]
CLOSING_SECONDS = 5
"""How long connections may take to end once the work is done."""


class Server(uvicorn.Server):
    """uvicorn's, with limits on connections and an end in two steps.

    At the first signal ``finish`` is awaited while requests are still answered; then the server
    ends, and the process with status 0. A second signal ends it at once.
    """

    def __init__(
        self,
        app: Any,
        finish: Finish | None = None,
        limits: ConnectionLimits | None = None,
        proxies: Sequence[str] = (),
    ) -> None:
        """Configure uvicorn for an app.

        Args:
            finish: what is still to be done after the first signal.
            proxies: addresses whose X-Forwarded-For and -Proto are believed.
        """
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=20,
            timeout_graceful_shutdown=CLOSING_SECONDS,
            ws="none",
            http="h11",
            lifespan="off",
            proxy_headers=bool(proxies),
            forwarded_allow_ips=list(proxies),
        )
        super().__init__(config)
        self._finish, self._asked = finish, False
        self._limits = (limits or ConnectionLimits()).within_descriptors()
        self._tasks: set[asyncio.Task[None]] = set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept connections by our own rules."""
        await super().startup(sockets=[])
        for listener in sockets or []:
            acceptor = Acceptor(listener, self._limits, self._protocol_arguments)
            self._tasks.add(asyncio.create_task(acceptor.run()))

    def _protocol_arguments(self) -> dict[str, Any]:
        return {
            "config": self.config,
            "server_state": self.server_state,
            "app_state": self.lifespan.state,
        }

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Cancel what still runs, then close the connections."""
        for task in self._tasks:
            task.cancel()
        await super().shutdown(sockets)
        for connection in list(self.server_state.connections):
            connection.transport.abort()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle SIGINT and SIGTERM while serving; outside the main thread there are none."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {s: signal.signal(s, self.handle_exit) for s in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Finish what is begun after the first signal; exit at once after the second."""
        if self._asked:
            self.should_exit = self.force_exit = True
            return
        self._asked = True
        with contextlib.suppress(RuntimeError):  # no loop runs before the start and after the end
            self._tasks.add(asyncio.get_running_loop().create_task(self._end()))

    async def _end(self) -> None:
        try:
            if self._finish is not None:
                await self._finish()
        finally:
            self.should_exit = True


def finish_work(service: Service, grace: float) -> Finish:
    """Refuse new work, and wait until what runs is done, at most some seconds."""

    async def finish() -> None:
        service.draining.set()
        until = time.monotonic() + grace
        while service.busy and time.monotonic() < until:
            await asyncio.sleep(0.05)
        if not service.worker.idle:
            log.warning("work was given up", extra={"images": service.worker.depth})
            await asyncio.to_thread(service.worker.abort)

    return finish


def serve(
    app: FastAPI,
    service: Service,
    listener: socket.socket,
    grace: float = 120.0,
    limits: ConnectionLimits | None = None,
    proxies: Sequence[str] = (),
) -> None:
    """Serve until a signal, then finish what runs within ``grace`` seconds."""
    server = Server(app, finish_work(service, grace), limits, proxies=proxies)
    server.run(sockets=[listener])
    service.worker.close(min(grace, 10.0) if service.worker.idle else 2.0)
    service.gallery.close()
