"""Running an app until it is asked to stop, and then finishing what it has begun."""

import asyncio
import contextlib
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from types import FrameType

import uvicorn
from fastapi import FastAPI

from open_imagen.server.service import Service


class Server(uvicorn.Server):
    """uvicorn's, with an end in two steps.

    At the first signal new work is answered 503 while what is running is finished; then the
    server ends, and the process with status 0. A second signal ends it at once.
    """

    def __init__(self, config: uvicorn.Config, stop: Callable[[], None]) -> None:
        super().__init__(config)
        self._stop, self._asked = stop, False

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
        if self._asked:
            self.should_exit = self.force_exit = True
        else:
            self._asked = True
            self._stop()


def serve(app: FastAPI, service: Service, listener: socket.socket) -> None:
    """Serve until a signal, then finish."""
    config = uvicorn.Config(app, log_config=None, access_log=False, timeout_keep_alive=20)

    async def finish() -> None:
        service.draining.set()
        while not service.worker.idle:
            await asyncio.sleep(0.05)
        await asyncio.sleep(0.3)  # the last answers are on their way
        server.should_exit = True

    tasks = set()

    def stop() -> None:
        with contextlib.suppress(RuntimeError):  # no loop runs before the start and after the end
            tasks.add(asyncio.get_running_loop().create_task(finish()))

    server = Server(config, stop)
    server.run(sockets=[listener])
    service.worker.close(30)
    service.gallery.close()
